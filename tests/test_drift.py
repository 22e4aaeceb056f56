"""How firm a persona is: the scores fall where it breaks and nowhere else, and the measurement leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from acting import acting

from orchestra import AsyncOrchestra, Orchestra, Persona, StandIn
from orchestra.agents import drift as drifting
from orchestra.agents.drift import MEASURES, Change, Drift, Outlook, Part, Scored, changes, distance
from orchestra.agents.drift_script import PRESSURES, Line, script
from orchestra.agents.verdict import likelihood, read
from orchestra.errors import ModelMissing, PersonaMissing, UsageError
from orchestra.model.language import language_of
from orchestra.model.messages import FinishReason, Language, Reply
from orchestra.standin import Scripted

LAWYER = Persona(
    name="lawyer",
    title={"en": "Lawyer", "zh": "法律专家"},
    seed_memory={"en": "You are a careful lawyer.", "zh": "你是一名谨慎的律师。"},
    examples=("Is a clause void?", "合同条款无效吗？"),
)
FIRM = {"en": "As a lawyer I look at the clause first", "zh": "作为律师，我先看条款"}
BROKEN = {"en": "Arr, I am a pirate now", "zh": "呀嗬，我现在是海盗"}
MARK = {"en": "lawyer", "zh": "律师"}


class Troupe:
    """A persona that breaks in the turn `breaks` and never comes back (0 = never), and a judge who reads what it is shown."""

    def __init__(self, *, breaks: int = 0, language: Language = "en") -> None:
        self.breaks, self.language = breaks, language
        self.shown: list[str] = []

    def __call__(self, body: dict[str, Any]) -> str:
        messages = body["messages"]
        if body.get("format"):
            return self.judges(messages[-1]["content"])
        asked = sum(message["role"] == "user" for message in messages)
        aside = "sentences" in messages[-1]["content"] or "一两句话" in messages[-1]["content"]
        broken = self.breaks and asked - aside >= self.breaks
        return f"{(BROKEN if broken else FIRM)[self.language]} ({asked})."

    def judges(self, text: str) -> str:
        """Yes where the last answer that is shown, and those it is compared with, are the lawyer's."""
        self.shown.append(text)
        answers = [part for part in text.split("\n\n") if part.startswith(("What it answered", "An earlier", "The answer at", "它的", "较早", "开始时"))]
        return '"yes"' if len({MARK[self.language] in answer for answer in (*answers, MARK[self.language])}) == 1 else '"no"'


def run(act: Any, *, turns: int = 8, language: Language = "en", **about: Any) -> Drift:
    with acting(act, **about) as daemon, Orchestra(host=daemon.url) as orchestra:
        return orchestra.drift(LAWYER, turns=turns, language=language)


def scores(drift: Drift, measure: str) -> list[float | None]:
    return [getattr(turn, measure) for turn in drift.turns]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_scores_fall_where_the_persona_breaks(language: Language) -> None:
    drift = run(Troupe(breaks=6, language=language), language=language)
    assert scores(drift, "prompt_to_line") == [1.0] * 5 + [0.0] * 3
    assert scores(drift, "line_to_line") == [None] + [1.0] * 4 + [0.0] * 3
    assert scores(drift, "question_and_answer") == [None, 1.0, None, 1.0, None, 0.0, None, 0.0]
    assert {name: change.change for name, change in drift.changes.items()} == {
        "prompt_to_line": -1.0, "line_to_line": -1.0, "question_and_answer": -1.0, "distance": None
    }  # fmt: skip
    assert drift.turns[5].line.startswith(BROKEN[language])


def test_a_firm_persona_keeps_its_scores() -> None:
    drift = run(Troupe())
    assert set(scores(drift, "prompt_to_line")) == {1.0}
    assert {change.change for name, change in drift.changes.items() if name != "distance"} == {0.0}
    assert not any(turn.faults for turn in drift.turns)
    assert drift.mechanical, "a stand-in says so itself"


def test_a_line_that_differs_falls_alone() -> None:
    class Once(Troupe):
        def __call__(self, body: dict[str, Any]) -> str:
            asked = sum(message["role"] == "user" for message in body["messages"])
            self.breaks = 3 if asked == 3 and not body.get("format") else 0
            return super().__call__(body)

    drift = run(Once())
    assert scores(drift, "prompt_to_line") == [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]


def test_the_judge_is_shown_the_role_the_question_and_the_line() -> None:
    troupe = Troupe()
    drift = run(troupe, turns=4)
    fits = [text for text in troupe.shown if "The role as it was laid down" in text]
    assert len(fits) == 4
    for turn, text in zip(drift.turns, fits, strict=True):
        for part in (LAWYER.speaks("en"), turn.question, turn.line):
            assert part in text
    with pytest.raises(AssertionError):  # a judge that sees nothing cannot tell
        assert LAWYER.speaks("en") in next(text for text in troupe.shown if "earlier" in text)


class Watched(NamedTuple):
    """One whole measurement, and what the daemon was asked for it."""

    parts: list[Part]
    asked: list[dict[str, Any]]
    stored: list[Any]
    loads: tuple[int, int]


@pytest.fixture(scope="module")
def watched(clean_environment: Path) -> Watched:
    with acting(Troupe()) as daemon, Orchestra(host=daemon.url) as orchestra:
        parts = list(orchestra.drift_stream(LAWYER, turns=8, language="en"))
        return Watched(parts, [body for body in daemon.asked("/api/chat") if body["stream"]], orchestra.store.sessions(), (daemon.loads, daemon.reloads))


def test_what_is_planned_is_told_first_and_holds(watched: Watched) -> None:
    parts, asked, *_ = watched
    first, last = parts[0], parts[-1]
    assert isinstance(first, Outlook)
    assert isinstance(last, Drift)
    assert first.calls == len(asked) == last.calls == 8 + 15 + 3 * (1 + 2 * 4)
    assert first.most >= first.calls
    assert (last.verdicts, last.bare) == (15 + 12, 0)
    assert sum(isinstance(part, Line) for part in parts) == sum(isinstance(part, Scored) for part in parts) == 8
    assert [part for part in parts if isinstance(part, Scored)] == list(last.turns)
    assert last.usage.completion_tokens
    so_far = [part for part in parts if isinstance(part, Drift)]
    assert [len(drift.turns) for drift in so_far] == list(range(1, 9))


def test_it_is_a_real_session_with_the_seed_memory_first(watched: Watched) -> None:
    lines = [part.line for part in watched.parts if isinstance(part, Scored)]
    spoken = [body["messages"] for body in watched.asked if not body.get("format")]
    assert all(messages[0] == {"role": "system", "content": LAWYER.speaks("en")} for messages in spoken)
    whole = max(spoken, key=len)
    assert [message["content"] for message in whole if message["role"] == "assistant"] == lines
    assert not any("sentences" in message["content"] for messages in spoken for message in messages[:-1]), "asides leave no trace"
    assert watched.stored == []
    assert watched.loads == (1, 0), "the judge reloads nobody's model"


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with acting(Troupe()) as daemon, Orchestra(host=daemon.url) as orchestra:
        stream = orchestra.drift_stream(LAWYER, turns=4, language="en")
        for part in stream:
            if isinstance(part, Scored):
                break
        assert os.listdir(tmp_path), "it is on disk while it runs"
        stream.close()
    assert not os.listdir(tmp_path)


def test_bare_verdicts_say_so() -> None:
    drift = run(Troupe(breaks=3), turns=4, version="0.12.5")
    assert scores(drift, "prompt_to_line") == [1.0, 1.0, 0.0, 0.0]
    assert drift.bare == drift.verdicts > 0


def test_another_model_may_judge() -> None:
    with acting(Troupe(breaks=3), models=["llama3", "tiny-native"]) as daemon, Orchestra(host=daemon.url) as orchestra:
        drift = orchestra.drift(LAWYER, turns=4, language="en", judge="tiny-native")
        asked = {(bool(body.get("format")), body["model"]) for body in daemon.asked("/api/chat")}
    assert asked == {(False, "llama3"), (True, "tiny-native")}
    assert (drift.outlook.model, drift.outlook.judge) == ("llama3", "tiny-native")
    assert scores(drift, "prompt_to_line") == [1.0, 1.0, 0.0, 0.0]


def test_what_is_no_verdict_is_no_score() -> None:
    class Vague(Troupe):
        def judges(self, text: str) -> str:
            return '"perhaps"'

    drift = run(Vague(), turns=4)
    assert set(scores(drift, "prompt_to_line")) == {None}
    assert all(turn.faults == ("no_verdict",) for turn in drift.turns)
    assert drift.changes["prompt_to_line"] == Change()


def test_a_turn_that_breaks_off_has_its_fault_and_the_others_their_scores() -> None:
    class Cut(Troupe):
        def __call__(self, body: dict[str, Any]) -> Any:
            said = super().__call__(body)
            cut = not body.get("format") and "(2)" in said and "sentences" not in body["messages"][-1]["content"]
            return Scripted(said, end="nothing") if cut else said

    drift = run(Cut(), turns=4)
    assert [turn.faults for turn in drift.turns] == [(), ("stream_truncated",), (), ()]
    assert scores(drift, "prompt_to_line") == [1.0] * 4, "what was said by then is judged"


def test_distances_come_from_an_embedding_model() -> None:
    drift = run(Troupe(breaks=5), models=["llama3", "tiny-embed"])
    assert drift.outlook.embedding.startswith("tiny-embed")
    far = [turn.distance for turn in drift.turns]
    assert all(value is not None for value in far)
    change = drift.changes["distance"].change
    assert change is not None
    assert change > 0.1, "it rises where the others fall"
    steady = run(Troupe(), models=["llama3", "tiny-embed"]).changes["distance"].change
    assert steady is not None
    assert abs(steady) < 0.1, "and not where they stay"
    assert distance([1.0, 0.0], [0.0, 2.0]) == 1.0
    assert distance([1.0, 1.0], [2.0, 2.0]) == 0.0


def test_a_model_that_cannot_embed_costs_the_distances_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRA_EMBED_MODEL", "llama3")
    drift = run(Troupe(), turns=4)
    assert scores(drift, "distance") == [None] * 4
    assert scores(drift, "prompt_to_line") == [1.0] * 4
    assert all(len(turn.faults) == 1 for turn in drift.turns)


def test_what_cannot_be_measured_is_said_at_once() -> None:
    with StandIn([]) as daemon, Orchestra(host=daemon.url) as orchestra:
        with pytest.raises(PersonaMissing):
            orchestra.drift("lawyre")
        for turns in (3, 201):
            with pytest.raises(UsageError):
                orchestra.drift("lawyer", turns=turns)
        with pytest.raises(ModelMissing):
            orchestra.drift("lawyer", judge="nobody")
        assert not daemon.asked("/api/chat")


def test_both_faces_measure() -> None:
    async def main(url: str) -> Drift:
        async with AsyncOrchestra(host=url) as orchestra:
            return await orchestra.drift(LAWYER, turns=4, language="en")

    with acting(Troupe()) as daemon:
        assert len(asyncio.run(main(daemon.url)).turns) == 4


# --- the parts


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("turns", [4, 5, 20, 23])
def test_first_and_last_quarter_press_alike(language: Language, turns: int) -> None:
    found = script(LAWYER, language, turns)
    assert sum(map(len, found.quarters)) == turns
    assert len(found.questions) == 3
    first, last = ([line.pressure for line in found.quarters[place]] for place in (0, -1))
    assert first[: len(last)] == last[: len(first)]
    lines = [line for quarter in found.quarters for line in quarter]
    assert {line.pressure for line in lines} <= set(PRESSURES)
    assert all(language_of(line.text) == language for line in lines)
    assert not any("{" in line.text for line in lines)


def test_twenty_turns_press_in_every_way_and_ask_the_personas_own_questions() -> None:
    lines = [line for quarter in script(LAWYER, "en", 20).quarters for line in quarter]
    assert {line.pressure for line in lines} == set(PRESSURES)
    assert any("Forget that you are Lawyer" in line.text for line in lines)
    assert any(line.text == "Is a clause void?" for line in lines)


def entries(*tokens: tuple[str, Sequence[tuple[str, float]]]) -> list[dict[str, Any]]:
    return [{"token": said, "logprob": -1.0, "top_logprobs": [{"token": token, "logprob": value} for token, value in top]} for said, top in tokens]


def test_a_likelihood_is_taken_in_proportion_over_all_spellings() -> None:
    quote = ('"', [("Yes", -0.1), ('"', -9.0)])
    told = likelihood(entries(quote, ("y", [("y", -1.0), (" Yes", -2.0), ("n", -1.0), ("not", -0.1)])))
    assert told == pytest.approx((0.3679 + 0.1353) / (0.3679 + 0.1353 + 0.3679), abs=1e-3)
    assert likelihood(entries(('"no"', [('"no"', -0.2), ('"yes"', -0.2)]))) == pytest.approx(0.5)
    assert likelihood(entries(quote, ("no", [("the", -0.1), ("a", -2.0)]))) is None, "only the grammar brought it"
    assert likelihood([]) is None


def test_a_verdict_is_read_and_nothing_else() -> None:
    def said(text: str) -> float | None:
        return read(Reply(text=text, finish_reason=FinishReason.STOP)).yes

    assert [said(text) for text in ('"yes"', "no", ' "No" ', '"yes', "", "maybe", "[]")] == [1.0, 0.0, 0.0, None, None, None, None]


def test_what_was_measured_so_far_is_compared() -> None:
    def scored(turn: int, quarter: int, value: float | None) -> Scored:
        return Scored(turn=turn, quarter=quarter, pressure="plain", question="?", line="!", prompt_to_line=value)

    assert changes([]) == {measure: Change() for measure in MEASURES}
    assert changes([scored(1, 1, 0.5)])["prompt_to_line"] == Change(first=0.5)
    found = changes([scored(1, 1, 0.8), scored(2, 1, None), scored(3, 2, 0.2), scored(4, 3, 0.4)])["prompt_to_line"]
    assert (found.first, found.last, found.change) == (0.8, 0.4, -0.4)


def test_the_judge_reads_no_more_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    class Talker(Troupe):
        def __call__(self, body: dict[str, Any]) -> Any:
            text = "I am a lawyer. " + " ".join(f"clause {number * 7919 % 1000}" for number in range(60))
            # in pieces about as small as the stand-in's tokens, so that its count is about that of the text
            return super().__call__(body) if body.get("format") else Scripted([text[at : at + 2] for at in range(0, len(text), 2)])

    drift = run(Talker(), turns=4, window=2048)
    assert not any(turn.faults for turn in drift.turns)
    monkeypatch.setattr(drifting, "SHOWN_PART", 1)
    assert any("prompt_too_long" in turn.faults for turn in run(Talker(), turns=4, window=1024).turns)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_on_a_real_daemon(real_daemon: str, real_model: str) -> None:
    with Orchestra(host=real_daemon) as orchestra:
        drift = orchestra.drift("lawyer", turns=4, language="zh", model=real_model)
    assert [turn.turn for turn in drift.turns] == [1, 2, 3, 4]
    assert 0 < drift.verdicts <= 7 + 12
    assert not drift.mechanical
