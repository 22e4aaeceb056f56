"""Thinking is told from the answer however it is marked and cut; it is stored and shown, and never sent back."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence

import pytest
from command_line import Line, line  # noqa: F401 - a fixture
from hypothesis import given, settings
from hypothesis import strategies as st
from runtimes import RUNTIMES, asked, drained, run

from orchestra import FinishReason, ModelUnsupported, Orchestra, StandIn, StreamTruncated
from orchestra.cli.answers import Rendered
from orchestra.model import thinking, wire
from orchestra.model.messages import Message, Options, Piece, Reply, gathered
from orchestra.model.thinking import Thoughts, opens_thinking, told_apart
from orchestra.standin.script import Scripted


def sorted_out(pieces: Sequence[str], *, opened: bool = False) -> Reply:
    """The reply of an answer that came in these pieces."""
    thoughts = Thoughts(opened=opened)
    said = [part for text in pieces for part in thoughts.push(Piece(text))]
    return gathered([*said, *thoughts.push(Piece("", finish_reason=FinishReason.STOP))])


CASES = {
    "none": ("Paris is the capital.", "", "Paris is the capital."),
    "tags": ("<think>\nhm, France\n</think>\n\nParis.", "hm, France\n", "Paris."),
    "blanks before": ("\n <think>hm</think>Paris.", "hm", "Paris."),
    "the long tag": ("<thinking>hm</thinking>Paris.", "hm", "Paris."),
    "empty": ("<think>\n\n</think>\n\nParis.", "", "Paris."),
    "lone closing tag": ("hm, France\n</think>\n\nParis.", "hm, France\n", "Paris."),
    "never closed": ("<think>hm, France", "hm, France", ""),
    "a beginning of a tag": ("<thin ice", "", "<thin ice"),
    "an end that might be one": ("2 < 3, a <b>, x </thi", "", "2 < 3, a <b>, x </thi"),
    "a tag in the middle": ("Write <think> first.", "", "Write <think> first."),
    "a quoted tag": ('Write "</think>" and `</think>` at the end.', "", 'Write "</think>" and `</think>` at the end.'),
    "a tag in code": ("```\na\n</think>\n```\nThat is all.", "", "```\na\n</think>\n```\nThat is all."),
    "tags in the answer": ("<think>hm</think>It closes with </think>.", "hm", "It closes with </think>."),
    "Chinese": ("<think>想一想</think>\n\n巴黎。", "想一想", "巴黎。"),
    "blank": ("  \n", "", "  \n"),
}


@pytest.mark.parametrize("name", CASES)
def test_thinking_is_told_from_the_answer_cut_anywhere(name: str) -> None:
    text, thought, answer = CASES[name]
    for size in (1, 2, 3, 5, len(text)):
        reply = sorted_out([text[at : at + size] for at in range(0, len(text), size)])
        assert (reply.thinking, reply.text) == (thought, answer), size


def test_a_prompt_may_have_opened_the_thinking() -> None:
    assert opens_thinking("<|assistant|>\n<think>\n")
    assert not opens_thinking("Explain <think> tags.")
    assert not opens_thinking(None)
    reply = sorted_out(["hm", ", France</thi", "nk>\n\nParis."], opened=True)
    assert (reply.thinking, reply.text) == ("hm, France", "Paris.")


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<thinking>", "</thinking>", "a b", "\n", "`", '"', "<", "</th", "，好。", " "]), max_size=8),
    st.lists(st.integers(0, 12), min_size=1, max_size=6),
    st.booleans(),
)
def test_what_is_said_does_not_depend_on_the_pieces(parts: list[str], sizes: list[int], opened: bool) -> None:
    text = "".join(parts)
    whole = sorted_out([text], opened=opened)
    pieces, at, turn = [], 0, 0
    while at < len(text):
        size = max(1, sizes[turn % len(sizes)])
        pieces.append(text[at : at + size])
        at, turn = at + size, turn + 1
    cut = sorted_out(pieces, opened=opened)
    assert (cut.thinking, cut.text) == (whole.thinking, whole.text)
    assert told_apart(Reply(text=text, finish_reason=FinishReason.STOP), opened=opened).text == whole.text


def test_red_without_holding_back_a_cut_tag_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thinking, "_partial", lambda text: 0)
    assert sorted_out(["<think>hm</th", "ink>Paris"]).text != "Paris"


def test_a_field_of_its_own_is_taken_as_it_is() -> None:
    thoughts = Thoughts()
    assert thoughts.push(Piece("hm", "thinking")) == (Piece("hm", "thinking"),)
    assert thoughts.push(Piece("<think>is a tag</think>")) == (Piece("<think>is a tag</think>"),)


def test_what_the_reply_keeps_is_counted_without_the_thinking() -> None:
    thoughts = Thoughts()
    said = [*thoughts.push(Piece("<think>hm</think>\nso so so")), *thoughts.push(Piece("", finish_reason=FinishReason.REPETITION, keep=20))]
    assert gathered(said).text == "so"


# --- through the client


@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.parametrize("text", ["<think>hm, France</think>\n\nParis.", "hm, France</think>\n\nParis."])
def test_an_answer_has_its_thinking_apart(kind: str, text: str) -> None:
    with StandIn(replies=[list(text)]) as daemon:
        reply = run(kind, lambda client: drained(asked(client)), host=daemon.url)
    assert (reply.thinking, reply.text) == ("hm, France", "Paris.")


def test_it_is_stored_and_never_sent_back() -> None:
    with StandIn(replies=["<think>a secret thought</think>Paris.", "another one</think>Berlin.", "Rome."]) as daemon, Orchestra(host=daemon.url) as orchestra:
        session = orchestra.session("capitals")
        for question in ("France?", "Germany?", "Italy?"):
            session.ask(question)
        assert [(turn.thinking, turn.answer) for turn in session.turns()] == [
            ("a secret thought", "Paris."),
            ("another one", "Berlin."),
            ("", "Rome."),
        ]
        sent = str(daemon.asked("/api/chat")[-1]["messages"])
    assert "Berlin." in sent
    assert "thought" not in sent
    assert "another one" not in sent


def test_an_answer_that_breaks_off_in_thought_has_it_apart_too() -> None:
    broken = Scripted("<think>hm, France</think>Par", end="nothing")
    with StandIn(replies=[broken]) as daemon, Orchestra(host=daemon.url) as orchestra, pytest.raises(StreamTruncated) as caught:
        orchestra.generate("Where?")
    assert (caught.value.reply.thinking, caught.value.reply.text) == ("hm, France", "Par")


def test_thinking_that_loops_is_stopped_too() -> None:
    loop = "Wait, let me check that once more, from the beginning. "
    with StandIn(replies=["<think>" + loop * 30]) as daemon, Orchestra(host=daemon.url) as orchestra:
        reply = orchestra.generate("Where?")
    assert reply.finish_reason is FinishReason.REPETITION
    assert reply.text == ""
    assert len(reply.thinking) < 5 * len(loop)


def test_a_loop_in_the_thinking_leaves_the_answer_whole() -> None:
    """The text that was said before is all kept, though the verdict was on the thinking."""
    from orchestra.model.stopping import Watch

    watch = Watch()
    watch.push(Piece("Paris."))
    verdict = next(v for _ in range(40) if (v := watch.push(Piece("Let me check that once more. ", "thinking"))))
    assert verdict == (FinishReason.REPETITION, 6)


@pytest.mark.parametrize("think", [True, False, None])
def test_think_is_sent_only_where_it_was_set(think: bool | None) -> None:
    body = wire.inference_body("llama3", [Message("user", "hi")], Options(think=think), wire.Bounds(num_predict=1))
    assert body.get("think") is think
    assert ("think" in body) is (think is not None)


def test_a_model_that_cannot_think_says_so() -> None:
    with StandIn() as daemon, Orchestra(host=daemon.url) as orchestra:
        with pytest.raises(ModelUnsupported, match="thinking"):
            orchestra.generate("hi", think=True)
        assert orchestra.generate("hi", think=False, max_tokens=3).text


def test_a_model_that_cannot_think_says_so_for_real(real_daemon: str, real_model: str) -> None:
    with Orchestra(host=real_daemon) as orchestra, pytest.raises(ModelUnsupported, match="thinking"):
        orchestra.generate("hi", model=real_model, think=True)


# --- shown


class Screen(io.StringIO):
    """A terminal that remembers what was written."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("text", ["<think>hm, France</think>\n\nParis.", "hm, France</think>\n\nParis."])
def test_on_a_terminal_thinking_is_dim(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    page = Rendered()
    thoughts = Thoughts()
    for piece in [*thoughts.push(Piece(text[:8])), *thoughts.push(Piece(text[8:])), *thoughts.push(Piece("", finish_reason=FinishReason.STOP))]:
        page.push(piece)
    page.close()
    shown = screen.getvalue()
    assert "\x1b[2m" in shown
    assert re.search("France\x1b\\[0m", shown)
    plain = re.sub("\x1b\\[[0-9;?]*[a-zA-Z]|\r", "", shown)
    assert re.search(r"^Paris\.", plain, re.MULTILINE), "the answer begins on a line of its own"


def test_a_stream_of_objects_says_what_is_cut_off(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    with StandIn(replies=["hm, France</think>Paris."]) as daemon:
        monkeypatch.setenv("OLLAMA_HOST", daemon.url)
        *parts, whole = [json.loads(each) for each in line("generate", "Where?", "--json", "--stream").out.splitlines()]
    assert {"keep": 0, "kind": "thinking"} in parts
    assert (whole["thinking"], whole["text"]) == ("hm, France", "Paris.")


def test_a_pipe_gets_the_answer_alone(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    with StandIn(replies=["<think>hm, France</think>Paris."]) as daemon:
        monkeypatch.setenv("OLLAMA_HOST", daemon.url)
        assert line("generate", "Where?").out == "Paris.\n"
