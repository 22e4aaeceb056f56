"""What reaches a terminal: text, and nothing of a model's, a page's or a store's that acts on it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable

import pytest
from command_line import COMMAND, Terminal, bare, process, started, surrounded
from hypothesis import given
from hypothesis import strategies as st

from orchestra.cli import terminal
from orchestra.cli.answers import block_end
from orchestra.cli.tables import aligned, size, width
from orchestra.cli.terminal import Cleaner, as_line, harmless, unseen
from orchestra.sessions.store import Store
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn

ACTING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
SEQUENCES = {
    "CSI": "\x1b[2J\x1b[31;1m",
    "CSI, one character": "\x9b31m",
    "title": "\x1b]0;owned\x07",
    "link": "\x1b]8;;http://evil.example\x1b\\",
    "clipboard": "\x1b]52;c;ZWNobyBvd25lZA==\x07",
    "OSC, one character": "\x9d0;owned\x9c",
    "DCS": "\x1bP1$r0m\x1b\\",
    "APC": "\x1b_Gf=100;AAAA\x1b\\",
    "PM and SOS": "\x1b^secret\x1b\\\x1bXsecret\x1b\\",
    "charset": "\x1b(0",
    "reset": "\x1bc",
    "C1": "\x84\x85\x88\x8d\x8e\x8f\x90q\x9c",
    "BEL, BS, CR": "\x07\x08\r",
    "DEL and NUL": "\x7f\x00",
    "bidi": "\u202e\u2066\u2069\u202c",
}


@pytest.mark.parametrize("sequence", SEQUENCES.values(), ids=SEQUENCES)
def test_no_sequence_comes_through_wherever_it_is_cut(sequence: str) -> None:
    text = f"before{sequence}after"
    assert harmless(text) == "beforeafter"
    for cut in range(len(text)):
        cleaner = Cleaner()
        assert cleaner.push(text[:cut]) + cleaner.push(text[cut:]) == "beforeafter"
    cleaner = Cleaner()
    assert "".join(cleaner.push(c) for c in text) == "beforeafter"


def test_the_control_is_red_without_the_cleaner() -> None:
    assert all(ACTING.search(sequence) for sequence in SEQUENCES.values())


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=8), st.sampled_from(list(SEQUENCES.values())))
def test_nothing_that_acts_is_ever_shown(parts: list[str], sequence: str) -> None:
    cleaner = Cleaner()
    shown = "".join(cleaner.push(part) for part in [*parts, sequence[:2], *parts, sequence[2:]])
    assert not ACTING.search(shown)


def test_text_stays_as_it_is() -> None:
    text = "人工智能\tAlice's café — 👩‍👩‍👧 ✓\n"
    assert harmless(text) == text


def test_a_sequence_that_does_not_end_takes_no_more_than_its_line() -> None:
    assert harmless("a\x1b]0;title without an end\nb") == "a\nb"
    assert harmless("a\x1b[" + "1" * 10_000 + "mb").endswith("mb")


def test_json_hides_what_acts_and_stays_the_same_value() -> None:
    value = {"text": "".join(SEQUENCES.values()) + "\u2028\u2029 人工智能 é"}
    line = as_line(value)
    assert not ACTING.search(line)
    assert len(line.splitlines()) == 1
    assert "人工智能 é" in line
    assert json.loads(line) == value
    assert unseen("a\n") == "a\n"


def test_blocks_of_markdown_end_at_blank_lines_outside_of_code() -> None:
    assert block_end("one\ntwo") is None
    text = "para\n\nnext"
    assert text[: block_end(text)] == "para\n\n"
    fenced = "```\na\n\nb\n```\n\nnext"
    assert fenced[: block_end(fenced)] == "```\na\n\nb\n```\n\n"


def test_columns_stand_below_each_other_in_any_script() -> None:
    assert aligned([("NAME", "X"), ("会话", "y"), ("a", "z")]) == ["NAME  X", "会话  y", "a     z"]
    assert width("会话ab") == 6
    assert [size(n) for n in (0, 999, 4_661_224_676, 5 * 10**12)] == ["0 B", "999 B", "4.7 GB", "5.0 TB"]


def test_a_stream_that_knows_only_ascii_is_told_utf_8(standin: StandIn) -> None:
    standin.script("巴黎是法国的首都。")
    done = process(
        "generate", "法国的首都是", "--model", "llama3", OLLAMA_HOST=standin.url,
        LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0",
    )  # fmt: skip
    assert (done.code, done.out) == (0, "巴黎是法国的首都。\n")
    assert standin.asked("/api/generate")[-1]["prompt"].startswith("法国的首都是")


# --- a process, with pipes


def test_a_pipe_gets_plain_text(standin: StandIn) -> None:
    some = ("CSI", "CSI, one character", "title", "link", "clipboard", "DCS", "bidi")  # more would be stopped as garbage
    evil = [part for name in some for part in (f" and there is {name} here", *SEQUENCES[name])]
    standin.script(Scripted(["**Par", "is**", *evil, " [x](http://a.example)"]))
    done = process("chat", "What is the capital of France?", OLLAMA_HOST=standin.url, FORCE_COLOR="1")
    words = "".join(f" and there is {name} here" for name in some)
    assert (done.code, done.out) == (0, f"**Paris**{words} [x](http://a.example)\n")
    assert "stand-in" in done.err
    assert not ACTING.search(done.out + done.err)


def test_a_reader_that_leaves_ends_the_command_and_the_turn_is_kept(standin: StandIn) -> None:
    standin.script(Scripted([f"line {n}\n" for n in range(2000)], pace=0.002))
    with started("chat", "count", "--session", "counted", "--max-tokens", "3000", OLLAMA_HOST=standin.url) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == b"line 0\n"
        running.stdout.close()
        assert running.wait(20) in (0, 141)
        assert b"Traceback" not in running.stderr.read()
    assert waited(lambda: standin.active == 0)
    with Store(Settings.read().folder()) as store:
        (turn,) = store.history("counted")
    assert turn.answer.startswith("line 0\nline 1")
    assert turn.status == "interrupted"


def test_head_in_a_shell(standin: StandIn) -> None:
    command = " ".join([*COMMAND, "models", "|", "head", "-1", ";", "echo", "${PIPESTATUS[0]}"])
    environment = surrounded({"OLLAMA_HOST": standin.url})
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=20, env=environment, check=True)
    first, code = done.stdout.splitlines()
    assert first.startswith("NAME")
    assert code in ("0", "141")
    assert done.stderr == ""


# --- a process, on a terminal


def test_markdown_is_drawn_on_a_terminal(standin: StandIn) -> None:
    standin.script(Scripted(["# Paris\n\n", "The **capital** of", " France.\n\n", "- one\n", "- two\n", "\x1b]0;owned\x07"]))
    with Terminal("chat", "What is the capital?", OLLAMA_HOST=standin.url) as screen:
        assert screen.code() == 0
    shown = bare(screen.shown)
    assert "The capital of France." in shown
    assert " • one" in shown
    assert "**" not in shown.rsplit("The capital", 1)[1]
    assert "owned" not in screen.shown
    assert "\x1b]" not in screen.shown


def test_no_color_is_plain_on_a_terminal_too(standin: StandIn) -> None:
    standin.script("The **capital**.")
    with Terminal("chat", "What?", OLLAMA_HOST=standin.url, NO_COLOR="1") as screen:
        assert screen.code() == 0
    assert "\x1b" not in screen.shown
    assert "The **capital**." in screen.shown


def test_ctrl_c_in_mid_answer_keeps_what_was_said(standin: StandIn) -> None:
    standin.script(Scripted([f"word{n} " for n in range(500)], pace=0.02))
    with Terminal("chat", "speak", "--session", "cut", OLLAMA_HOST=standin.url) as screen:
        screen.until("word5")
        before = time.monotonic()
        screen.interrupt()
        assert screen.code() == 130
        assert time.monotonic() - before < 2
    assert "what was said is kept" in bare(screen.shown)
    assert waited(lambda: standin.cancelled == 1)
    with Store(Settings.read().folder()) as store:
        (turn,) = store.history("cut")
    assert (turn.question, turn.status, turn.finish_reason) == ("speak", "interrupted", "cancelled")
    assert turn.answer.startswith("word0 word1 word2 word3 word4")
    assert len(turn.answer) < 2000


def test_sigterm_ends_in_order_too(standin: StandIn) -> None:
    standin.script(Scripted([f"word{n} " for n in range(500)], pace=0.02))
    with started("chat", "speak", "--session", "ended", "--json", "--stream", OLLAMA_HOST=standin.url) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=20)
    assert running.returncode == 128 + signal.SIGTERM, err
    assert json.loads(out.splitlines()[-1])["finish_reason"] == "cancelled"
    with Store(Settings.read().folder()) as store:
        assert store.history("ended")[0].status == "interrupted"


def test_an_interactive_dialogue(standin: StandIn) -> None:
    standin.script("First answer.", "Second answer.")
    with Terminal("chat", OLLAMA_HOST=standin.url) as screen:
        screen.until(">>> ")
        screen.type("Hello\n")
        screen.until("First answer.")
        screen.type("/nothing\n")
        screen.until("there is no /nothing")
        screen.type('"""two\nlines"""\n')
        screen.until("Second answer.")
        screen.type("/bye\n")
        assert screen.code() == 0
    assert standin.asked("/api/chat")[-1]["messages"][-1]["content"].startswith("two\nlines")
    assert bare(screen.shown).count("mechanical") == 1, "the stand-in is named once"


def test_ctrl_c_in_an_interactive_dialogue_ends_the_answer_and_not_the_dialogue(standin: StandIn) -> None:
    standin.script(Scripted([f"word{n} " for n in range(500)], pace=0.02), "Still here.")
    with Terminal("chat", OLLAMA_HOST=standin.url) as screen:
        screen.until(">>> ")
        screen.type("speak\n")
        screen.until("word3")
        screen.interrupt()
        screen.until("what was said is kept")
        screen.type("again\n")
        screen.until("Still here.")
        screen.type("/bye\n")
        assert screen.code() == 0
    said = standin.asked("/api/chat")[-1]["messages"]
    assert [message["role"] for message in said] == ["user", "assistant", "user"], "in the same dialogue"
    assert said[1]["content"].startswith("word0 word1")


def test_output_that_takes_no_more_is_an_error_of_its_own(standin: StandIn) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "models"], stdout=full, stderr=subprocess.PIPE, env=surrounded({"OLLAMA_HOST": standin.url}), check=False
        )
    assert done.returncode == 63
    assert len(done.stderr.decode().splitlines()) == 2


def waited(fact: Callable[[], bool], patience: float = 5.0) -> bool:
    """Whether something becomes true in time."""
    end = time.monotonic() + patience
    while not fact():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_colour_follows_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen:
        def isatty(self) -> bool:
            return True

    screen = Screen()
    monkeypatch.setenv("TERM", "xterm")
    assert terminal.colourful(screen)  # type: ignore[arg-type]
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert not terminal.colourful(screen)  # type: ignore[arg-type]
    with open(os.devnull) as nobody:
        assert not terminal.colourful(nobody)
