"""A dialogue led by whoever fits has segments: each prompt has its own turns, and of every other segment one line."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from command_line import Line, Terminal, bare, chinese, line  # noqa: F401 - fixtures
from dialogues import ZH, prompts
from dialogues import said as texts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runtimes import RUNTIMES, run

from orchestra import Message, Orchestra, Persona, Reply, StandIn
from orchestra.agents.personas import Library, shipped
from orchestra.errors import PersonaMissing, StorageFull
from orchestra.model.client import Client
from orchestra.sessions import fitting
from orchestra.sessions.conversation import AsyncSession, Leader, Memory, Opening
from orchestra.sessions.grounding import Ground, Inquiry, Material
from orchestra.sessions.records import SessionRecord, Turn
from orchestra.sessions.segments import SAID, TITLE, Segment, cut, leaders, numbers, view
from orchestra.sessions.segments import line as line_of
from orchestra.sessions.store import Store

PERSONAS = {persona.name: persona for persona in Library([shipped()]).all()}
TOPICS = {
    "support": ("我的订单 {} 能加急吗？", "我的快递 {} 到哪里了？"),
    "lawyer": ("房东 {} 不退押金，我可以起诉吗？", "租房合同 {} 没写违约金怎么办？"),
    "computer_scientist": ("怎么用 Python 给数据库 {} 加密？", "这段代码 {} 为什么报错？"),
}
ORDER, RENT = TOPICS["support"][0].format(12345), TOPICS["lawyer"][0].format("")


class Said(NamedTuple):
    topic: str
    question: str
    answer: str


def expected(told: Sequence[Said], now: Said) -> list[str]:
    """The prompt as it is promised."""
    own = [each for each in told if each.topic == now.topic]
    others = [topic for topic in dict.fromkeys(each.topic for each in reversed(told)) if topic != now.topic][::-1]
    lines = []
    for topic in others:
        part = [each for each in told if each.topic == topic]
        title = PERSONAS[topic].titled("zh")
        lines.append(f"此前由{title}回答“{cut(part[0].question, SAID)}”，最后说：“{cut(part[-1].answer, SAID)}”")
    found = [text for each in own for text in (each.question + ZH, each.answer)] + [now.question]
    if lines:
        found[0] = "\n".join(lines) + "\n\n" + found[0]
    return [PERSONAS[now.topic].speaks("zh"), *found]


def talked(orchestra: Orchestra, topics: Sequence[str]) -> list[Said]:
    """A dialogue that is led by whoever fits; that it is need only be said once."""
    told = []
    for number, topic in enumerate(topics):
        question = TOPICS[topic][number % 2].format(1000 + number)
        answer = orchestra.session("s", persona=None if number else "auto").ask(question).text
        told.append(Said(topic, question, answer))
    return told


def kept(daemon: StandIn, told: Sequence[Said]) -> bool:
    """Whether each prompt is as promised; after the question something recalled may stand."""
    found = [texts(prompt) for prompt in prompts(daemon)]
    wanted = [expected(told[:number], now) for number, now in enumerate(told)]
    alike = (
        prompt[:-1] == want[:-1] and prompt[-1].startswith(want[-1]) and len(prompt) == len(want)
        for prompt, want in zip(found, wanted, strict=True)
    )  # fmt: skip
    return all(alike)


# --- the promise


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(topics=st.lists(st.sampled_from(sorted(TOPICS)), min_size=1, max_size=8))
def test_a_prompt_has_its_own_turns_and_a_line_for_each_other_segment(tmp_path_factory: pytest.TempPathFactory, topics: list[str]) -> None:
    answers = [f"这是第{number}个回答。" for number in range(len(topics))]
    with StandIn(replies=answers) as daemon, Orchestra(host=daemon.url, home=str(tmp_path_factory.mktemp("home"))) as orchestra:
        told = talked(orchestra, topics)
        assert kept(daemon, told)
        for prompt in prompts(daemon):
            assert [message["role"] for message in prompt] == ["system", *["user", "assistant"] * (len(prompt) // 2 - 1), "user"]
        turns = orchestra.store.history("s")
    assert [Said(str(turn.persona), turn.question, turn.answer) for turn in turns] == told, "no turn is lost"
    assert [turn.created for turn in turns] == sorted(turn.created for turn in turns)
    assert numbers(SessionRecord(id="", name="", auto=True), turns) == [list(dict.fromkeys(topics)).index(topic) + 1 for topic in topics]


def test_a_dialogue_that_is_one_segment_for_all_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "view", lambda said, persona: view([replace(turn, persona=persona) for turn in said], persona))
    with StandIn(replies=["好的。"] * 2) as daemon, Orchestra(host=daemon.url, home=str(tmp_path)) as orchestra:
        assert not kept(daemon, talked(orchestra, ["support", "lawyer"]))


def test_a_dialogue_with_one_fixed_persona_is_as_it_was(tmp_path: Path) -> None:
    asked = [topic[0] for topic in TOPICS.values()]
    with StandIn(replies=["好的。"] * 3) as daemon, Orchestra(host=daemon.url, home=str(tmp_path)) as orchestra:
        for number, question in enumerate(asked):
            orchestra.session("s", persona=None if number else "lawyer").ask(question)
        last, turns, record = prompts(daemon)[-1], orchestra.store.history("s"), orchestra.store.session("s")
    assert texts(last) == [PERSONAS["lawyer"].speaks("zh"), asked[0] + ZH, "好的。", asked[1] + ZH, "好的。", asked[2] + ZH]
    assert (record.auto, numbers(record, turns), {turn.persona for turn in turns}) == (False, [1, 1, 1], {"lawyer"})


def test_within_a_segment_the_prompt_keeps_its_beginning(tmp_path: Path) -> None:
    topics = ["support", "lawyer", "lawyer", "lawyer", "support", "support"]
    with StandIn(replies=["好的。"] * 6) as daemon, Orchestra(host=daemon.url, home=str(tmp_path)) as orchestra:
        talked(orchestra, topics)
        found = prompts(daemon)
    for (topic, before), (next_topic, after) in pairwise(zip(topics, found, strict=True)):
        assert (after[: len(before) - 1] == before[:-1]) == (topic == next_topic)


# --- with a router that does as it is told

ANIMALS = {name: Persona(name=name, title={"en": name.title()}, seed_memory={"en": f"You are a {name}."}) for name in ("cat", "dog", "owl")}
known = ANIMALS.__getitem__


def told_to(message: str) -> Persona:
    return next(persona for name, persona in ANIMALS.items() if name in message)


def session_of(client: Client, store: Store, ground: Ground | None = None, **about: Any) -> AsyncSession:
    async def routed(message: str, current: str, memory: Memory) -> Leader:
        return Leader(told_to(message), ground=ground)

    opening = Opening(**{"routed": routed, "auto": True, "known": known, **about})
    return AsyncSession(store=store, client=client, name="s", opening=opening)


def asked(
    daemon: StandIn, home: Path, *messages: str, kind: str = "blocking", ground: Ground | None = None, **about: Any
) -> tuple[list[Reply], AsyncSession]:
    async def work(client: Client) -> tuple[list[Reply], AsyncSession]:
        with Store(home) as store:
            session = session_of(client, store, ground, **about)
            return [await session.ask(message, max_tokens=24) for message in messages], session

    return run(kind, work, host=daemon.url)


@pytest.mark.parametrize("kind", RUNTIMES)
def test_a_topic_that_turns_is_told_from_one_that_comes_back(kind: str, tmp_path: Path) -> None:
    for message, turned in (("my cat", ""), ("the cat", ""), ("my dog", "to"), ("that cat", "back"), ("a dog", "back")):
        with StandIn(replies=["Yes."]) as daemon:
            _, session = asked(daemon, tmp_path, message, kind=kind)
            assert session.leader is not None
            assert session.leader.turned == turned


def test_who_leads_is_on_disk_before_the_first_word(tmp_path: Path) -> None:
    async def work(client: Client) -> list[str | None]:
        found = []
        with Store(tmp_path) as store:
            session = session_of(client, store)
            for message in ("my cat", "my dog"):
                async for piece in session.stream(message):
                    if piece.text:
                        found.append((await session.turns())[-1].persona)
                        break
        return found

    with StandIn(replies=[["Yes", ", of course."]] * 2) as daemon:
        assert run("blocking", work, host=daemon.url) == ["cat", "dog"]


def for_summary(prompt: Sequence[dict[str, str]]) -> bool:
    return prompt[-1]["content"].startswith("Summarise")


def test_a_summary_is_of_its_segment_alone(tmp_path: Path) -> None:
    with StandIn(window=512) as daemon:
        asked(daemon, tmp_path, "my dog is called Rex", *[f"cat {number}: " + "why? " * 12 for number in range(12)])
        requests = [prompt for prompt in prompts(daemon) if for_summary(prompt)]
        replies, _ = asked(daemon, tmp_path, "my dog again", "and the cat")
        dog, cat = [prompt for prompt in prompts(daemon) if not for_summary(prompt)][-2:]
    assert requests
    assert all("Rex" not in message["content"] for prompt in requests for message in prompt[2:])
    assert all(prompt[0]["content"] == "You are a cat." for prompt in requests)
    assert texts(dog)[1].startswith("Before, Cat on “cat 0: why?")
    assert "What was said before" not in texts(dog)[1]
    assert replies[0].receipt.compacted == 0
    lines, summary = texts(cat)[1].split("\n\n", 2)[:2]
    assert lines.startswith("Before, Dog on “my dog is called Rex”")
    assert summary.startswith("What was said before: ")
    assert 0 < replies[1].receipt.compacted < 12


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 22))])
def test_whatever_has_to_go_goes_within_its_segment(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    names = [rng.choice(["cat", "cat", "dog", "owl"]) for _ in range(18)]
    with StandIn(window=512) as daemon:
        replies, _ = asked(daemon, tmp_path, *(f"{name} {number}: " + "why? " * (number * 7 % 23) for number, name in enumerate(names)))
        found = [prompt for prompt in prompts(daemon) if not for_summary(prompt)]
    assert any(reply.receipt.compacted for reply in replies)
    for place, (prompt, reply) in enumerate(zip(found, replies, strict=True)):
        receipt, own = reply.receipt, [each for each in range(place) if names[each] == names[place]]
        assert prompt[0]["content"] == f"You are a {names[place]}."
        assert (receipt.used or 0) <= 512
        stands = [int(number) for text in texts(prompt)[1::2] for number in re.findall(r"(?m)^[a-z]+ (\d+):", text)[:1]]
        assert stands == [*own[receipt.compacted + receipt.dropped :], place], "the last of its own turns, word for word"
        lines = [text.split()[1].lower() for text in texts(prompt)[1].split("\n") if text.startswith("Before, ")]
        others = {*names[:place]} - {names[place]}
        assert sorted(lines) == ([] if "segments_left_out" in receipt.notes else sorted(others))


def test_what_was_said_elsewhere_is_recalled(tmp_path: Path) -> None:
    long = "dog food: " + "we talked of this and that. " * 8
    with StandIn(replies=["Yes."] * 4) as daemon:
        replies, _ = asked(
            daemon, tmp_path, long, "the dog's vet is Doctor Steinberg, phone 555-0199", "my cat sneezes", "Which vet, Doctor who, for the cat?"
        )
        last = texts(prompts(daemon)[-1])
    assert replies[-1].receipt.recalled == (2,)
    assert "555-0199" in last[-1]
    assert "555-0199" not in "".join(last[:-1])
    assert replies[-2].receipt.recalled == ()


def test_what_stands_is_not_recalled(tmp_path: Path) -> None:
    with StandIn(replies=["Yes."] * 3) as daemon:
        replies, _ = asked(daemon, tmp_path, "my cat is called Mimi", "my dog is called Rex", "what is my cat called?")
        assert all(reply.receipt.recalled != (1,) for reply in replies)


def test_a_history_of_nobodys_belongs_to_whoever_answers_first(tmp_path: Path) -> None:
    history = (Message("user", "My pet is ill."), Message("assistant", "Which one?"))
    with StandIn(replies=["Oh."] * 3) as daemon:
        asked(daemon, tmp_path, "the cat", "and the dog", "the cat again", history=history)
        cat, dog, again = (texts(prompt) for prompt in prompts(daemon))
    assert cat[1:3] == ["My pet is ill.\n\nAnswer in English.", "Which one?"]
    assert dog[1].startswith("Before, Cat on “My pet is ill.”, at last: “Oh.”")
    assert again[2:4] == ["Which one?", "the cat\n\nAnswer in English."]


def test_a_persona_that_is_named_in_between_has_a_segment_as_well(tmp_path: Path) -> None:
    with StandIn(replies=["Yes."] * 3) as daemon:
        asked(daemon, tmp_path, "my cat")
        asked(daemon, tmp_path, "my cat as well", persona=ANIMALS["dog"], auto=False)
        asked(daemon, tmp_path, "the cat", auto=False)
        dog, cat = (texts(prompt) for prompt in prompts(daemon)[1:])
    assert (len(dog), len(cat)) == (2, 4)
    assert dog[1].startswith("Before, Cat on “my cat”")
    assert cat[1].startswith("Before, Dog on “my cat as well”")


def test_a_copy_goes_on_where_it_was_made(tmp_path: Path) -> None:
    with StandIn(replies=["Yes."] * 4) as daemon:
        asked(daemon, tmp_path, "my cat", "my dog", "my owl")
        with Store(tmp_path) as store:
            assert store.fork("s", "copy", at=2).persona == "dog"
            store.rename("s", "whole")
            store.rename("copy", "s")
        asked(daemon, tmp_path, "this cat", auto=False)
        last = texts(prompts(daemon)[-1])
    assert last[1].startswith("Before, Dog on “my dog”")
    assert last[1].endswith("\n\nmy cat\n\nAnswer in English.")
    assert "owl" not in "".join(last)


@pytest.mark.parametrize("kind", RUNTIMES)
def test_a_store_without_room_leaves_segments_what_they_are(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StorageFull(path="x")

    with StandIn(replies=["Yes."] * 3) as daemon:
        asked(daemon, tmp_path, "my cat", "my dog", kind=kind)
        monkeypatch.setattr(Store, "begin", full)
        with pytest.raises(StorageFull):
            asked(daemon, tmp_path, "the cat", kind=kind)
        last = texts(prompts(daemon)[-1])
    assert last[1].endswith("\n\nmy cat\n\nAnswer in English.")
    assert len(last) == 4


def test_a_persona_that_is_gone_has_its_name_left(tmp_path: Path) -> None:
    def gone(name: str) -> Persona:
        raise PersonaMissing(name=name, nearest="", nearest_zh="")

    with StandIn(replies=["Yes."] * 2) as daemon:
        asked(daemon, tmp_path, "my cat", "my dog", known=gone)
        assert texts(prompts(daemon)[-1])[1].startswith("Before, cat on “my cat”")


def test_lines_that_do_not_fit_beside_a_question_are_left_out(tmp_path: Path) -> None:
    with StandIn(["Yes."] * 3, window=512) as daemon:
        replies, _ = asked(daemon, tmp_path, "my cat", "my dog", "dog? " * 90)
        last = texts([prompt for prompt in prompts(daemon) if not for_summary(prompt)][-1])
    assert len(last) == 2
    assert last[1].startswith("dog? ")
    assert replies[-1].receipt.dropped == 1
    assert "segments_left_out" in replies[-1].receipt.notes


def test_a_base_model_reads_the_lines_before_the_transcript(tmp_path: Path) -> None:
    with StandIn(replies=["Yes.\nUser: no"] * 2) as daemon:
        asked(daemon, tmp_path, "my cat\nAssistant: sits", "my dog", model="llama3:text")
        (body,) = daemon.asked("/api/generate")[-1:]
    seed, _, before, _, question, _ = body["prompt"].split("\n")
    assert (seed, question) == ("You are a dog.", "User: my dog")
    assert before == "Before, Cat on “my cat Assistant: sits”, at last: “Yes.”"


# --- what a leader brings


def test_a_leader_may_bring_a_ground(tmp_path: Path) -> None:
    inquiries: list[Inquiry] = []

    async def ground(inquiry: Inquiry) -> Material:
        inquiries.append(inquiry)
        return Material(text="The experts said: 42.", calls=2, kept=lambda answer: {"trace": ["step"]})

    with StandIn(replies=["So it is 42."]) as daemon:
        (reply,), session = asked(daemon, tmp_path, "how old is the cat?", ground=ground)
        assert texts(prompts(daemon)[-1])[-1] == "how old is the cat?\n\nThe experts said: 42.\n\nAnswer in English."
        assert (reply.receipt.calls, reply.ground) == (3, {"trace": ["step"]})
        assert [each.question for each in inquiries] == ["how old is the cat?"]
        with Store(tmp_path) as store:
            assert store.history("s")[-1].ground == {"trace": ["step"]}
        assert session.leader is not None


# --- the parts


@given(st.lists(st.tuples(st.sampled_from([None, "a", "b", "c"]), st.booleans()), max_size=8), st.sampled_from(["a", "b"]))
def test_each_turn_belongs_to_one_segment(led: list[tuple[str | None, bool]], now: str) -> None:
    said = [Turn(id=str(n), session="", question="?", answer="!" * answered, persona=who) for n, (who, answered) in enumerate(led)]
    who, seen = leaders(said, now=now), view(said, now)
    assert all(turn.persona in (None, by) for turn, by in zip(said, who, strict=True))
    assert [turn for turn, by in zip(said, who, strict=True) if by == now] == seen.own
    assert [turn for turn in said if any(turn in part.turns for part in seen.others)] == [turn for turn in said if turn not in seen.own]
    ends = [said.index(part.turns[-1]) for part in seen.others]
    assert ends == sorted(ends)
    assert seen.turned == ("" if who[-1:] in ([], [now]) else "back" if seen.own else "to")
    answered = [place for place, (turn, by) in enumerate(zip(said, who, strict=True)) if by == now and turn.answer]
    for before, after in pairwise([-1, *answered]):
        assert (said[after].id in seen.reopened) == (set(who[before + 1 : after]) - {now} != set())


@given(st.text(), st.text(), st.text(), st.sampled_from(["en", "zh"]))
def test_a_line_is_one_and_bounded(question: str, answer: str, title: str, language: Any) -> None:
    part = Segment("cat", [Turn(id="", session="", question=question, answer=answer)])
    made = line_of(part, title * 20, language)
    assert len(made.splitlines()) == 1
    assert len(made.encode()) <= 180
    for text, most in ((question, SAID), (title * 9, TITLE)):
        assert len(cut(text, most).encode()) <= most
    assert cut("law", 3) == "law"
    assert cut("lawyer", 5) == "la…"


# --- the faces


@pytest.fixture
def led(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: Line) -> Callable[[str], Any]:  # noqa: F811
    """Says something in a dialogue that is led by whoever fits."""
    monkeypatch.setenv("ORCHESTRA_HOME", str(tmp_path))

    def say(message: str, *more: str, replies: int = 1) -> Any:
        with StandIn(replies=["好的。"] * replies) as daemon:
            monkeypatch.setenv("OLLAMA_HOST", daemon.url)
            return line("chat", message, *more)

    return say


def test_chat_says_where_the_topic_turns(led: Callable[..., Any]) -> None:
    assert "persona: support (" in led(ORDER, "--persona", "auto").err
    assert "-> lawyer (" in led(RENT, "-c").err
    assert "persona: lawyer (" in led("那要多久？", "-c").err
    back = led("我的快递到哪里了？", "-c")
    assert "<- back to support (" in back.err
    assert back.err.count("support") == 1


def test_show_draws_the_segments(led: Callable[..., Any], line: Line) -> None:  # noqa: F811
    for number, message in enumerate((ORDER, RENT, "那要多久？", "我的快递到哪里了？")):
        led(message, *(("-c",) if number else ("--persona", "auto", "--session", "x")))
    drawn = line("sessions", "show", "x").out
    headings = [row.split(" · ")[0] for row in drawn.splitlines() if row.startswith("===")]
    assert headings == ["=== segment 1: support", "=== segment 2: lawyer", "=== back to segment 1: support"]
    whole = line("sessions", "show", "x", "--json").json
    assert whole["auto"] is True
    assert [message["segment"] for message in whole["messages"]] == [1, 1, 2, 2, 2, 2, 1, 1]
    assert [message.get("persona") for message in whole["messages"][1::2]] == ["support", "lawyer", "lawyer", "support"]


@pytest.mark.usefixtures("chinese")
def test_segments_have_chinese_words(led: Callable[..., Any], line: Line) -> None:  # noqa: F811
    led(ORDER, "--persona", "auto")
    assert "-> lawyer（" in led(RENT, "-c").err
    assert "<- 回到 support（" in led(ORDER, "-c").err
    assert "=== 第 2 段：lawyer" in line("sessions", "show").out
    assert "=== 回到第 1 段：support" in line("sessions", "show").out


SEVERAL = "我的订单 12345 能加急吗？合同违约怎么办？"


def test_chat_shows_whom_a_message_with_several_questions_asks(led: Callable[..., Any], line: Line) -> None:  # noqa: F811
    led(RENT, "--persona", "auto")
    told = led(SEVERAL, "-c", replies=3)
    begins = [row.partition(" (")[0] for row in told.err.splitlines()]
    assert [row for row in begins if row.startswith(("persona ->", "support", "lawyer"))] == [
        "persona -> standardization_expert", "support is asked ...", "support answered", "lawyer is asked ...", "lawyer answered",
    ]  # fmt: skip
    assert told.out == "好的。\n"
    drawn = line("sessions", "show", "--trace").out
    assert "✓ support: 我的订单 12345 能加急吗？" in drawn
    assert "✓ lawyer: 合同违约怎么办？" in drawn
    assert "<- back to lawyer" in led(RENT, "-c").err


def test_steps_in_chat_are_objects_with_json_and_stream(led: Callable[..., Any]) -> None:
    rows = [json.loads(row) for row in led(SEVERAL, "--persona", "auto", "--json", "--stream").out.splitlines()]
    assert [(row["step"]["expert"], row["step"]["ok"]) for row in rows if "step" in row] == [
        ("support", None), ("support", True), ("lawyer", None), ("lawyer", True),
    ]  # fmt: skip
    assert rows[-1]["persona"] == "standardization_expert"
    assert [step["expert"] for step in rows[-1]["ground"]["trace"]] == ["support", "lawyer"]
    assert list(led(SEVERAL, "--persona", "auto", "--json").json["ground"]["missing"]) == []


def test_the_tree_of_a_message_is_drawn_where_a_person_looks(tmp_path: Path) -> None:
    with StandIn(replies=["好的。"] * 3) as daemon:
        arguments = ("chat", SEVERAL, "--persona", "auto")
        with Terminal(*arguments, OLLAMA_HOST=daemon.url, ORCHESTRA_HOME=str(tmp_path), ORCHESTRA_LANG="en") as terminal:
            assert terminal.code() == 0
    shown = bare(terminal.shown)
    places = [shown.index(text) for text in ("persona: standardization_expert", "✓ support:", "✓ lawyer:")]
    assert places == sorted(places)


def test_a_fixed_persona_has_one_segment_and_no_heading(led: Callable[..., Any], line: Line) -> None:  # noqa: F811
    led(ORDER, "--persona", "lawyer", "--session", "x")
    assert "->" not in led(RENT, "-c").err
    assert "===" not in line("sessions", "show", "x").out
    whole = line("sessions", "show", "x", "--json").json
    assert [message["segment"] for message in whole["messages"]] == [1] * 4
    assert json.dumps(whole["auto"]) == "false"
