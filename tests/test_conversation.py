"""Dialogues: what the model is shown of them, what is left out and where, and that nothing said is lost."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from runtimes import within

import orchestra.errors as e
from orchestra import AsyncOrchestra, Message, Orchestra, Persona, Session
from orchestra.model.messages import FinishReason, Options, Piece, gathered
from orchestra.sessions import conversation, database
from orchestra.sessions.conversation import labelled
from orchestra.sessions.journal import Journal
from orchestra.standin import Scripted, StandIn

EN, ZH = "\n\nAnswer in English.", "\n\n请用中文回答。"
SLOW = Scripted([f"{number} " for number in range(600)], pace=0.01)
POLITE = Persona(name="polite", seed_memory={"en": "You are very polite.", "zh": "你非常有礼貌。"}, options=Options(temperature=0.2))


@pytest.fixture
def talk(standin: StandIn) -> Iterator[Orchestra]:
    with Orchestra(host=standin.url) as orchestra:
        yield orchestra


def prompts(daemon: StandIn) -> list[list[dict[str, str]]]:
    """The messages of each answer that was asked for; what was only measured is left out."""
    return [body["messages"] for body in daemon.asked("/api/chat") if body["stream"]]


def said(prompt: Sequence[dict[str, str]]) -> list[str]:
    return [message["content"] for message in prompt]


# --- what the model is shown


def test_the_second_turn_has_the_first_in_its_prompt(standin: StandIn, talk: Orchestra) -> None:
    standin.script("On Monday.", "Sorry.")
    session = talk.session("order-12345")
    assert session.ask("When will it come?").text == "On Monday."
    assert session.ask("Can you expedite it?").text == "Sorry."
    assert said(prompts(standin)[1]) == ["When will it come?" + EN, "On Monday.", "Can you expedite it?" + EN]
    assert [message["role"] for message in prompts(standin)[1]] == ["user", "assistant", "user"]


def test_a_session_goes_on_in_another_process(standin: StandIn) -> None:
    standin.script("On Monday.", "Sorry.")
    for question in ("When will it come?", "Can you expedite it?"):
        with Orchestra(host=standin.url) as orchestra:
            orchestra.session("order").ask(question)
    assert said(prompts(standin)[1])[:2] == ["When will it come?" + EN, "On Monday."]


def test_a_session_without_a_name_gets_one(standin: StandIn, talk: Orchestra) -> None:
    session = talk.session()
    assert (session.name, session.turns()) == (None, [])
    session.ask("Hello?", max_tokens=3)
    assert session.name
    assert [turn.question for turn in talk.session(session.name).history] == ["Hello?"]


def test_the_question_is_stored_as_it_was_asked(standin: StandIn, talk: Orchestra) -> None:
    standin.script("  Yes.\n")
    talk.session("s").ask("  Is it <|eot_id|> so?  ")
    (turn,) = talk.session("s").history
    assert (turn.question, turn.answer, turn.status, turn.finish_reason) == ("  Is it <|eot_id|> so?  ", "  Yes.\n", "done", "stop")
    assert turn.usage is not None
    assert turn.usage["completion_tokens"] > 0


def test_the_persona_stands_first_in_each_request(standin: StandIn, talk: Orchestra) -> None:
    standin.script("Good day.", "Gladly.")
    session = talk.session("s", persona=POLITE)
    session.ask("Hello?")
    session.ask("Help me.")
    for prompt in prompts(standin):
        assert prompt[0] == {"role": "system", "content": "You are very polite."}
        assert [message["role"] for message in prompt].count("system") == 1
    assert standin.asked("/api/chat")[0]["options"]["temperature"] == 0.2


def test_a_session_keeps_the_persona_it_was_begun_with(standin: StandIn, talk: Orchestra) -> None:
    standin.script("Good day.", "Gladly.")
    talk.session("s", persona="lawyer").ask("Hello?")
    talk.session("s").ask("Help me.")
    first, second = (prompt[0]["content"] for prompt in prompts(standin))
    assert first.startswith("You are a lawyer")
    assert second == first


def test_the_personas_model_answers(standin: StandIn, talk: Orchestra) -> None:
    standin.script("Yes.")
    mine = Persona(name="mine", seed_memory={"en": "You are mine."}, model="llama3:latest")
    talk.session("s", persona=mine).ask("Hello?")
    assert standin.asked("/api/chat")[0]["model"] == "llama3:latest"


def test_options_of_a_turn_win_over_the_sessions_and_these_over_the_personas(standin: StandIn, talk: Orchestra) -> None:
    standin.script("One.", "Two.")
    session = talk.session("s", persona=POLITE, options=Options(temperature=0.5, seed=5))
    session.ask("Hello?")
    session.ask("Hello?", temperature=0.9)
    assert [body["options"]["temperature"] for body in standin.asked("/api/chat")] == [0.5, 0.9]
    assert standin.asked("/api/chat")[1]["options"]["seed"] == 5


def test_the_language_is_that_of_each_question(standin: StandIn, talk: Orchestra) -> None:
    standin.script("好。", "Yes.", "好。")
    session = talk.session("s", persona=POLITE)
    for question in ("你好吗？", "Are you well?", "123"):
        session.ask(question)
    assert said(prompts(standin)[2]) == [
        "你非常有礼貌。", "你好吗？" + ZH, "好。", "Are you well?" + EN, "Yes.", "123" + ZH
    ]  # fmt: skip


# --- transcripts for base models

LESSON = ["Customer: Where is my order 12345?", "Support: It left our warehouse yesterday."]


def test_a_base_model_gets_a_transcript(standin: StandIn, talk: Orchestra) -> None:
    standin.script(" We will try.\nCustomer: Thanks.", " You are welcome.")
    session = talk.session("order", model="llama3:text", history=LESSON)
    assert session.ask("Can you please expedite the delivery?").text == "We will try."
    assert session.ask("Thank you.").text == "You are welcome."
    first, second = (body for body in standin.asked("/api/generate") if body.get("prompt"))
    assert first["prompt"] == (
        "Customer: Where is my order 12345?\nSupport: It left our warehouse yesterday.\n"
        "Customer: Can you please expedite the delivery?\nSupport:"
    )
    assert second["prompt"] == first["prompt"] + " We will try.\nCustomer: Thank you.\nSupport:"
    assert first["raw"] is True
    assert first["options"]["stop"][:2] == ["\nCustomer:", "\nSupport:"]


def test_a_transcript_keeps_its_labels_when_the_session_goes_on(standin: StandIn, talk: Orchestra) -> None:
    standin.script(" Yes.", " Yes.")
    talk.session("order", model="llama3:text", history=LESSON).ask("Is it late?")
    talk.session("order").ask("Really?")
    assert standin.asked("/api/generate")[-1]["prompt"].endswith("Support: Yes.\nCustomer: Really?\nSupport:")


def test_a_base_persona_stands_first_in_a_transcript(standin: StandIn, talk: Orchestra) -> None:
    standin.script(" 好。")
    talk.session("s", model="llama3:text", persona=POLITE).ask("你好吗？")
    assert standin.asked("/api/generate")[-1]["prompt"] == "你非常有礼貌。\n\n用户: 你好吗？\n助手:"


def test_history_may_be_strings_or_messages() -> None:
    both = [Message("user", "a: b"), Message("assistant", "c")]
    assert labelled(both) == (tuple(both), ())
    assert labelled(["客户：在哪里？", "客服：在路上。"]) == (
        (Message("user", "在哪里？"), Message("assistant", "在路上。")), ("客户", "客服")
    )  # fmt: skip
    assert labelled([]) == ((), ())


@pytest.mark.parametrize("line", ["no label", ": nothing", "Third: person"])
def test_a_history_of_more_than_two_is_refused(line: str) -> None:
    with pytest.raises(e.UsageError) as caught:
        labelled([*LESSON, line])
    assert line[:10] in caught.value.message()


# --- what outgrows the window


def dialogue(daemon: StandIn, turns: int = 24, **about: Any) -> tuple[list[list[str]], list[int]]:
    """The prompts and the numbers of dropped turns of a dialogue whose questions are of very different length."""
    rng = random.Random(4)
    dropped = []
    with Orchestra(host=daemon.url) as orchestra:
        session = orchestra.session("long", **about)
        for number in range(turns):
            question = f"Question {number}: " + "why? " * rng.choice([1, 2, 12, 20])
            reply = session.ask(question, max_tokens=120)
            dropped.append(reply.receipt.dropped)
            assert reply.receipt.used is not None
            assert reply.receipt.used <= daemon.window
    return [said(prompt) for prompt in prompts(daemon)], dropped


def keeps_its_prefix(shown: list[list[str]], dropped: list[int]) -> None:
    """Each prompt begins with the whole prompt before it, but where turns were dropped, which happens in few large steps."""
    steps = 0
    for (before, after), (less, more) in zip(pairwise(shown), pairwise(dropped), strict=True):
        if less == more:
            assert after[: len(before)] == before
        else:
            steps += 1
            assert more - less >= 2
            assert after[0] == before[0]
    assert 1 <= steps <= len(dropped) // 4


def test_the_prompt_keeps_its_prefix_until_turns_are_dropped_in_one_step() -> None:
    with StandIn(window=2048) as daemon:
        shown, dropped = dialogue(daemon, persona=POLITE, options=Options(seed=1))
    assert dropped[-1] > 0
    assert sorted(dropped) == dropped
    keeps_its_prefix(shown, dropped)
    assert all(prompt[0] == "You are very polite." for prompt in shown)


def test_a_sliding_window_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def sliding(costs: Sequence[int], share: int) -> int:
        return next((start for start in range(len(costs)) if sum(costs[start:]) <= share), len(costs))

    monkeypatch.setattr(conversation, "first_kept", sliding)
    with StandIn(window=2048) as daemon:
        shown, dropped = dialogue(daemon, persona=POLITE, options=Options(seed=1))
    with pytest.raises(AssertionError):
        keeps_its_prefix(shown, dropped)


def test_a_long_first_turn_counts_as_the_daemon_counted_it() -> None:
    long = "What does this mean: " + "the the the the the " * 60
    with StandIn(["A text.", "The first one."], window=2048) as daemon, Orchestra(host=daemon.url) as orchestra:
        session = orchestra.session("s")
        assert session.ask(long, max_tokens=300).usage.prompt_tokens is not None
        assert session.ask("Which text?", max_tokens=300).receipt.dropped == 0


def test_a_question_too_long_for_its_share_leaves_out_more_for_once() -> None:
    with StandIn(window=1024) as daemon, Orchestra(host=daemon.url) as orchestra:
        session = orchestra.session("s")
        for number in range(4):
            session.ask(f"Question {number}: " + "why? " * 10, max_tokens=20)
        long = session.ask("And now: " + "why? " * 120, max_tokens=60)
        assert long.receipt.dropped > 0
        with pytest.raises(e.PromptTooLong):
            session.ask("why? " * 2000)
        assert session.turns()[-1].status == "interrupted"


def test_a_very_long_label_is_counted() -> None:
    label = "The Person Who Is Responsible For Each And Every Delivery Of This House " * 3
    with StandIn(window=1024) as daemon, Orchestra(host=daemon.url) as orchestra:
        session = orchestra.session("s", model="llama3:text", history=["A: hi", f"{label}: hello"])
        for number in range(6):
            reply = session.ask(f"Why {number}?", max_tokens=30)
            assert reply.usage.prompt_tokens is not None
            body = daemon.asked("/api/generate")[-1]
            assert body["options"]["num_predict"] + reply.usage.prompt_tokens <= 1024


# --- turns that did not end well


def test_a_turn_that_was_left_is_kept_and_shown_again(standin: StandIn, talk: Orchestra) -> None:
    standin.script(Scripted("One two three four five six seven", pace=0.01), "Fine.")
    session = talk.session("s")
    with closing(session.stream("Count.")) as stream:
        heard = next(stream).text + next(stream).text
    (turn,) = session.turns()
    assert (turn.status, turn.finish_reason, turn.answer) == ("interrupted", "cancelled", heard)
    session.ask("Go on.")
    assert said(prompts(standin)[-1]) == ["Count." + EN, heard, "Go on." + EN]


def test_a_cancelled_task_keeps_what_was_said(standin: StandIn) -> None:
    async def main() -> None:
        async with AsyncOrchestra(host=standin.url) as orchestra:
            session = orchestra.session("s")
            task = asyncio.create_task(session.ask("Count."))
            assert await asyncio.to_thread(within, 2, lambda: standin.active == 1)
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            (turn,) = await session.turns()
            assert (turn.status, turn.question) == ("interrupted", "Count.")
            assert turn.answer.startswith("0 1 2")

    standin.script(SLOW)
    asyncio.run(main())


@pytest.mark.parametrize(
    ("fault", "error", "answer", "reason"),
    [
        ("cut_mid", e.StreamTruncated, "The sky is", "incomplete"),
        ("error_line", e.DaemonError, "The sky is", "incomplete"),
        ("busy_503", e.DaemonBusy, "", "incomplete"),
        ("empty_200", e.EmptyReply, "", "incomplete"),
    ],
)
def test_a_turn_that_failed_is_kept(
    standin: StandIn, talk: Orchestra, fault: str, error: type[e.OrchestraError], answer: str, reason: str
) -> None:
    standin.script("Blue.")
    standin.fail(fault, times=3 if fault == "busy_503" else 1)
    session = talk.session("s")
    with pytest.raises(error):
        session.ask("Why?")
    (turn,) = session.turns()
    assert (turn.status, turn.finish_reason, turn.answer, turn.question) == ("interrupted", reason, answer, "Why?")
    session.ask("And?")
    # a question that was never answered is not shown again: the model would answer it in place of the new one
    assert said(prompts(standin)[-1]) == [*(["Why?" + EN, answer] if answer else []), "And?" + EN]


def test_a_loop_is_stored_without_its_repetitions(standin: StandIn, talk: Orchestra) -> None:
    loop = "Yes, that is exactly what I meant to say. "
    standin.script(Scripted(loop * 40))
    reply = talk.session("s").ask("Why?", max_tokens=1500)
    (turn,) = talk.session("s").history
    assert (turn.answer, turn.finish_reason) == (reply.text, "repetition")
    assert turn.answer.count(loop) <= 3


def test_without_a_daemon_the_question_is_kept(talk: Orchestra, standin: StandIn) -> None:
    standin.stop()
    with pytest.raises(e.DaemonUnreachable):
        talk.session("s").ask("Are you there?")
    (turn,) = talk.session("s").history
    assert (turn.question, turn.status) == ("Are you there?", "interrupted")


# --- asked twice


def test_a_turn_id_given_twice_gives_the_stored_answer(standin: StandIn, talk: Orchestra) -> None:
    standin.script("Paid.")
    session = talk.session("s")
    first = session.ask("Pay it.", turn_id="t-1")
    calls = len(standin.requests)
    second = session.ask("Pay it.", turn_id="t-1")
    assert (first.text, second.text, second.finish_reason) == ("Paid.", "Paid.", FinishReason.STOP)
    assert (second.receipt.calls, second.receipt.notes) == (0, ("already_answered",))
    assert len(standin.requests) == calls
    assert len(session.turns()) == 1


def test_a_branch_begins_beside_the_open_turn(standin: StandIn, talk: Orchestra) -> None:
    standin.script(["Slowly"] * 3, "Beside.")
    session = talk.session("s")
    with closing(session.stream("First?")) as stream:
        next(stream)
        assert session.ask("Second?", branch=True).text == "Beside."
    assert [turn.question for turn in session.turns()] == ["Second?"]


# --- a full disk


@pytest.fixture
def full(talk: Orchestra, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Leaves the store no more room than its file has; called again, all that it wants."""
    sound = database.PRAGMAS

    def switch() -> None:
        full = sound == database.PRAGMAS
        pages = talk.store.database.read(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
        talk.store.close()
        monkeypatch.setattr(database, "PRAGMAS", (*sound, f"PRAGMA max_page_count = {pages + 2}") if full else sound)
        for size in (2000, 20) if full else ():
            with suppress(e.StorageFull):
                for number in range(50):
                    talk.store.create(f"fill-{size}-{number}", history=[Message("user", "x" * size), Message("assistant", "y")])

    talk.session("s").ask("Hello?", max_tokens=2)
    return switch


MANY = " ".join(f"word{number}" for number in range(3000))


def _noted(stream: Iterator[Piece], pieces: list[Piece]) -> Iterator[Piece]:
    """Puts each piece into the list itself: `extend` forgets them when the stream ends with an error."""
    for piece in stream:
        pieces.append(piece)
    yield from ()


@pytest.mark.parametrize(("when", "question", "answer"), [("begin", MANY[:3000], "Because."), ("finish", "Why?", MANY)])
def test_a_full_disk_does_not_take_the_answer(
    standin: StandIn, talk: Orchestra, full: Callable[[], None], when: str, question: str, answer: str
) -> None:
    full()
    standin.script(answer)
    session = talk.session("s")
    pieces: list[Piece] = []
    stream = session.stream(question, num_ctx=8192, max_tokens=6000 if when == "finish" else 50)
    with pytest.raises(e.StorageFull) as caught:
        list(_noted(stream, pieces))
    assert gathered(pieces).text == answer
    assert caught.value.reply is not None
    assert caught.value.reply.text == answer
    assert pieces[-1].receipt is not None
    assert "not_stored" in pieces[-1].receipt.notes
    full()
    standin.script("Stored again.")
    assert session.ask("And now?").text == "Stored again."
    assert session.turns()[-1].answer == "Stored again."
    assert [turn.question for turn in session.turns()][:1] == ["Hello?"]


def test_a_new_session_on_a_full_disk_is_answered_too(standin: StandIn, talk: Orchestra, full: Callable[[], None]) -> None:
    full()
    standin.script("Because.", "Stored.")
    session = talk.session("new", persona=POLITE, history=[Message("user", MANY[:2000]), Message("assistant", "Yes.")])
    with pytest.raises(e.StorageFull) as caught:
        session.ask("Why?")
    assert caught.value.reply is not None
    assert caught.value.reply.text == "Because."
    assert said(prompts(standin)[-1]) == ["You are very polite.", MANY[:2000] + EN, "Yes.", "Why?" + EN]
    full()
    assert session.ask("Why?").text == "Stored."
    assert [turn.question for turn in talk.session("new").history] == [MANY[:2000], "Why?"]


# --- kill -9


def killed(daemon: StandIn, home: Path, after: float) -> tuple[str, str]:
    """What a `chat` had printed a second before it was killed, and all that it had printed."""
    environment = {**os.environ, "OLLAMA_HOST": daemon.url, "ORCHESTRA_HOME": str(home)}
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestra", "chat", "Count for me.", "--session", "s", "--model", "llama3"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    heard: list[tuple[float, str]] = []

    def read() -> None:
        assert process.stdout is not None
        while part := os.read(process.stdout.fileno(), 4096):
            heard.append((time.monotonic(), part.decode()))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert within(10, lambda: bool(heard))
        time.sleep(after)
    finally:
        process.send_signal(signal.SIGKILL)
        end = time.monotonic()
        process.wait()
        reader.join()
        assert process.stdout is not None
        process.stdout.close()
    return "".join(text for moment, text in heard if moment < end - 1.0), "".join(text for _, text in heard)


def survives(home: Path, after: float) -> None:
    with StandIn([SLOW, "I was interrupted."]) as daemon:
        before, printed = killed(daemon, home, after)
        assert within(2, lambda: daemon.active == 0)
        with Orchestra(host=daemon.url, home=str(home)) as orchestra:
            session = orchestra.session("s")
            assert session.ask("Go on.").text == "I was interrupted."
            first, second = session.turns()
        assert (first.question, first.status, second.status) == ("Count for me.", "interrupted", "done")
        assert first.answer.startswith(before.strip())
        assert len(first.answer) <= len(printed) + 200
        shown = said(prompts(daemon)[-1])
    expected = ["Count for me." + EN, first.answer, "Go on." + EN] if first.answer else ["Go on." + EN]
    assert shown == expected


@pytest.mark.parametrize("after", [0.05, 0.7, 1.4])
def test_a_killed_chat_goes_on(home: Path, after: float) -> None:
    survives(home, after)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_a_killed_chat_goes_on_twenty_times(home: Path, number: int) -> None:
    survives(home, random.Random(number).uniform(0, 3))


def test_what_was_never_written_is_noticed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a journal that forgets its pieces fails the same comparison."""
    monkeypatch.setattr(Journal, "append", lambda self, text, *, kind="text": None)
    with StandIn([SLOW]) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        session: Session = orchestra.session("s")
        with closing(session.stream("Count for me.")) as stream:
            heard = "".join(next(stream).text for _ in range(40))
        with pytest.raises(AssertionError):
            assert session.turns()[0].answer.startswith(heard)

