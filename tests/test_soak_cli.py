"""The command line for a long time: a hundred Ctrl-C at random moments, fifty readers that leave.

Twenty kills of a streamed `orchestra chat` are in test_nothing_lost.py; the shorter forms of these in test_terminal.py.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from command_line import Terminal, started

from orchestra.sessions.store import Store
from orchestra.standin import Scripted, StandIn

pytestmark = pytest.mark.slow

PROMPT = ">>> "
WORDS = [f"word{number} " for number in range(2000)]


def ended(daemon: StandIn, since: float) -> float:
    """Seconds from `since` until the daemon has nobody left that it answers; at most 5."""
    while daemon.active and time.monotonic() - since < 5:
        time.sleep(0.002)
    return time.monotonic() - since


@pytest.mark.timeout(600)
def test_a_hundred_interrupts(home: Path) -> None:
    chance = random.Random(5)
    took, kept = [], 0
    with StandIn() as daemon:
        for run in range(10):
            with Terminal("chat", "--session", f"s{run}", OLLAMA_HOST=daemon.url) as screen:
                screen.until(PROMPT)
                for number in range(10):
                    daemon.script(Scripted(WORDS, pace=0.005))
                    marked = f"question {run}-{number}"
                    screen.shown = ""
                    screen.type(f"{marked}\n")
                    screen.until(f"word{chance.randrange(60)}")
                    screen.shown = ""
                    screen.interrupt()
                    took.append(ended(daemon, time.monotonic()))
                    screen.until(PROMPT)
                daemon.script("Still here.")
                screen.type("Are you there?\n")
                screen.until("Still here.")
                screen.type("/bye\n")
                assert screen.code() == 0
            with Store(home) as store:
                turns = store.history(f"s{run}")
            assert [turn.question for turn in turns] == [*(f"question {run}-{number}" for number in range(10)), "Are you there?"]
            for turn in turns[:-1]:
                assert (turn.status, turn.finish_reason) == ("interrupted", "cancelled")
                assert turn.answer.startswith("word0 ")
                kept += 1
            assert turns[-1].answer == "Still here."
    took.sort()
    print(f"\nCtrl-C: {len(took)} interrupts, {kept} partial answers kept; the daemon's socket closed after "
          f"{1000 * took[len(took) // 2]:.0f} ms (median), {1000 * took[-1]:.0f} ms (longest)")  # fmt: skip
    assert took[-1] <= 0.5


def test_red_control_an_answer_that_nobody_interrupts_goes_on() -> None:
    with StandIn([Scripted(WORDS, pace=0.005)]) as daemon, Terminal("chat", "speak", OLLAMA_HOST=daemon.url) as screen:
        screen.until("word5")
        assert ended(daemon, time.monotonic()) >= 5


@pytest.mark.timeout(300)
def test_fifty_readers_that_leave(home: Path) -> None:
    chance = random.Random(6)
    codes = []
    for number in range(50):
        lines = [f"line {count}\n" for count in range(2000)]
        with StandIn([Scripted(lines, pace=0.002)]) as daemon, started(
            "chat", "count", "--session", f"s{number}", "--max-tokens", "3000", OLLAMA_HOST=daemon.url
        ) as running:
            assert running.stdout is not None
            assert running.stderr is not None
            for _ in range(chance.randrange(1, 30)):
                running.stdout.readline()
            running.stdout.close()
            codes.append(running.wait(20))
            assert b"Traceback" not in running.stderr.read()
            assert ended(daemon, time.monotonic()) < 1
        with Store(home) as store:
            (turn,) = store.history(f"s{number}")
        assert turn.answer.startswith("line 0\n")
    print(f"\nbroken pipes: {len(codes)}, exit codes {sorted(set(codes))}, every turn kept")
    assert set(codes) <= {0, 141}
