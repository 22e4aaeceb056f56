"""Nothing said is lost: turns that were left, that failed, that a full disk or a kill met."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from command_line import started
from dialogues import EN, POLITE, prompts, said
from runtimes import within

import orchestra.errors as e
from orchestra import AsyncOrchestra, Message, Orchestra, Session
from orchestra.model.messages import FinishReason, Piece, gathered
from orchestra.sessions import database, turns
from orchestra.sessions.journal import Journal
from orchestra.sessions.store import Store
from orchestra.standin import Scripted, StandIn

SLOW = Scripted([f"{number} " for number in range(600)], pace=0.01)


@pytest.fixture
def talk(standin: StandIn) -> Iterator[Orchestra]:
    with Orchestra(host=standin.url) as orchestra:
        yield orchestra


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
        ("unauthorized_401", e.AuthFailed, "", "incomplete"),
        ("empty_200", e.EmptyReply, "", "incomplete"),
    ],
)
def test_a_turn_that_failed_is_kept(
    standin: StandIn, talk: Orchestra, fault: str, error: type[e.OrchestraError], answer: str, reason: str
) -> None:
    standin.script("Blue.")
    standin.fail(fault)
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


@pytest.mark.parametrize("after", [0.05, 0.5, 1.2])
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



def stood_on(home: Path) -> object:
    """What a turn that is being answered stands on, as others find it within two seconds."""
    with Store(home) as store, Store(home) as other:
        store.create("s")
        journal = store.begin("s", "Why?")
        journal.ground = {"trace": [1]}
        journal.ground = {"trace": [1, 2]}
        within(2, lambda: other.history("s")[0].ground is not None)
        (turn,) = other.history("s")
        assert turn.status == "open"
        journal.finish(status="interrupted")
        (after,) = other.history("s")
        assert after.ground == {"trace": [1, 2]}
    return turn.ground


def test_what_an_answer_stands_on_is_on_disk_as_it_grows(home: Path) -> None:
    assert stood_on(home) == {"trace": [1, 2]}


def test_red_control_without_it_a_kill_would_lose_what_was_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "stand", lambda *_: None)
    assert stood_on(home) is None


def test_a_killed_task_keeps_the_steps_that_ended(home: Path) -> None:
    with StandIn(["Test it.", SLOW]) as daemon:
        own = {"OLLAMA_HOST": daemon.url, "ORCHESTRA_HOME": str(home), "ORCHESTRA_LANG": "en"}
        with started("integrate", "--panel", "Is it safe?", "-s", "s", **own) as running:
            assert running.stderr is not None
            assert any(b"lawyer is asked" in line for line in running.stderr)
            time.sleep(1)
            running.kill()
            running.wait()
    with Store(home) as store:
        store.begin("s", "Go on.").finish()  # whoever goes on closes what nobody is answering any more
        turn, _ = store.history("s")
    assert (turn.status, turn.answer) == ("interrupted", "")
    assert turn.question == "Is it safe?"
    assert turn.ground is not None
    assert [(step["expert"], step["answer"]) for step in turn.ground["trace"]] == [("computer_scientist", "Test it.")]
