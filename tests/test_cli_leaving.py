"""Whoever leaves in the middle is told the truth: what is kept, and where; what is not, he has on the screen."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
from command_line import Terminal, bare, process, started
from runtimes import within

from orchestra.cli import archive
from orchestra.model.messages import Message
from orchestra.sessions.records import Turn
from orchestra.sessions.store import Store
from orchestra.standin import Scripted, StandIn

TASK = "制定人工智能合规标准"
SLOW = Scripted([f"词{n} " for n in range(400)], pace=0.02)
KEPT, LOST = "what was said is kept (session: s)", "nothing of it is stored"
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


def left(standin: StandIn, *arguments: str, at: str, by: signal.Signals = signal.SIGINT) -> str:
    """What a command had shown on a terminal when it was ended by a signal, after `at`."""
    with Terminal(*arguments, OLLAMA_HOST=standin.url, ORCHESTRA_LANG="en") as screen:
        screen.until(at)
        screen.read_a_moment()
        screen.process.send_signal(by)
        assert screen.code() == CODES[by]
        return bare(screen.shown)


def only_turn(home: Path) -> Turn:
    with Store(home) as store:
        (turn,) = store.history("s")
    return turn


# --- a task


@pytest.mark.parametrize("by", CODES)
def test_a_task_of_a_session_that_is_left_before_its_answer(standin: StandIn, home: Path, by: signal.Signals) -> None:
    standin.script("技术上要可控。", SLOW)
    assert KEPT in left(standin, "integrate", "--panel", TASK, "-s", "s", at="lawyer", by=by)
    turn = only_turn(home)
    assert (turn.question, turn.answer, turn.status) == (TASK, "", "interrupted")
    assert turn.ground is not None
    assert [(step["expert"], step["answer"]) for step in turn.ground["trace"]] == [("computer_scientist", "技术上要可控。")]


@pytest.mark.parametrize("by", CODES)
def test_a_task_of_a_session_that_is_left_in_its_answer(standin: StandIn, home: Path, by: signal.Signals) -> None:
    standin.script("技术上要可控。", "要问责。", SLOW)
    assert KEPT in left(standin, "integrate", "--panel", TASK, "-s", "s", at="词3", by=by)
    turn = only_turn(home)
    assert turn.answer.startswith("词0 词1 词2")
    assert turn.ground is not None
    assert len(turn.ground["trace"]) == 2


def test_a_task_without_a_session_leaves_what_the_experts_said(standin: StandIn) -> None:
    words = "，".join(f"第{n}项要可控" for n in range(40))
    standin.script(words, SLOW)
    shown = left(standin, "integrate", "--panel", TASK, at="lawyer")
    assert "this is what the experts said so far" in shown
    assert f"computer_scientist:\n{words}\n" in shown, "whole, and not as the tree has it"
    assert shown.rstrip().endswith("stopped; nothing of it is stored")
    assert KEPT not in shown


def test_in_its_answer_there_is_the_answer(standin: StandIn) -> None:
    standin.script("技术上要可控。", "要问责。", SLOW)
    shown = left(standin, "integrate", "--panel", TASK, at="词3")
    assert "said so far" not in shown
    assert LOST in shown


def test_a_program_reads_it_in_the_object(standin: StandIn) -> None:
    standin.script("技术上要可控。", SLOW)
    with started("integrate", "--panel", TASK, "--json", "--stream", OLLAMA_HOST=standin.url) as running:
        assert running.stdout is not None
        for text in running.stdout:
            if b"lawyer" in text and within(20, lambda: standin.active == 1):
                break
        running.send_signal(signal.SIGTERM)
        whole = json.loads(running.communicate(timeout=20)[0].splitlines()[-1])
    assert (whole["finish_reason"], whole["text"], whole["missing"]) == ("cancelled", "", ["lawyer"])
    assert [(step["expert"], step["answer"]) for step in whole["steps"]] == [("computer_scientist", "技术上要可控。")]
    assert whole["trace"] == whole["steps"]


def test_the_stand_in_is_named_above_the_first_step(standin: StandIn) -> None:
    told = process("integrate", "--panel", TASK, OLLAMA_HOST=standin.url, ORCHESTRA_LANG="en").err.splitlines()[:3]
    assert [re.findall("^model|stand-in|is asked", line) for line in told] == [["model"], ["stand-in"], ["is asked"]]


# --- what else can be left


@pytest.mark.parametrize("arguments", [("generate", "说"), ("ask", "法国的首都是哪里？", "--search", "offline")])
def test_what_is_stored_nowhere_is_not_said_to_be_kept(standin: StandIn, arguments: tuple[str, ...]) -> None:
    standin.script(SLOW)
    shown = left(standin, *arguments, at="词3")
    assert LOST in shown
    assert "kept" not in shown


def test_a_question_in_a_session_is_kept(standin: StandIn, home: Path) -> None:
    standin.script(SLOW)
    assert KEPT in left(standin, "ask", "法国的首都是哪里？", "--search", "offline", "--session", "s", at="词3")
    assert only_turn(home).answer.startswith("词0")


def test_a_turn_that_was_never_begun_is_not_kept(home: Path) -> None:
    with Store(home) as store:
        assert archive.stored_in(store, "s", TASK) == ""
        store.create("s", history=[Message("user", TASK), Message("assistant", "好")])
        assert archive.stored_in(store, "s", TASK) == "s"
        assert archive.stored_in(store, "s", "another") == archive.stored_in(store, None, TASK) == ""


# --- the interactive dialogue

SEVERAL = "我的订单 12345 能加急吗？合同违约怎么办？"


def test_a_message_for_several_experts_shows_them_and_can_be_left(standin: StandIn, home: Path) -> None:
    standin.script("订单可以加急。", SLOW, "好的。")
    with Terminal("chat", "--persona", "auto", "--session", "s", OLLAMA_HOST=standin.url, ORCHESTRA_LANG="en") as screen:
        screen.until(">>> ")
        screen.type(f"{SEVERAL}\n")
        screen.until("✓ support")
        assert within(20, lambda: standin.active == 1)
        screen.interrupt()
        screen.until(KEPT)
        screen.type("房东不退押金怎么办？\n")
        screen.until("好的。")
        screen.until(">>> ")
        screen.type("/history\n")
        screen.until("=== segment 2: lawyer")
        screen.type("/bye\n")
        assert screen.code() == 0
        shown = bare(screen.shown)
    assert "=== segment 1: standardization_expert" in shown
    with Store(home) as store:
        turn, _ = store.history("s")
    assert (turn.question, turn.status) == (SEVERAL, "interrupted")
    assert turn.ground is not None
    assert [(step["expert"], step["answer"]) for step in turn.ground["trace"]] == [("support", "订单可以加急。")]
