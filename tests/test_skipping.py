"""on_repetition="skip": a loop is cut to its clean text, and the answer goes on once with a stronger penalty."""

from __future__ import annotations

from typing import Any

import pytest
from command_line import Line, line  # noqa: F401 - a fixture
from runtimes import RUNTIMES, asked, drained, run

from orchestra import FinishReason, Orchestra, StandIn, StreamTruncated
from orchestra.model import stages
from orchestra.model.messages import Message, Options, Piece, Receipt, Reply, Usage, gathered
from orchestra.model.stages import added, continued, settled, spent
from orchestra.standin.script import Scripted

UNIT = "这个问题我们下次再讨论吧，谢谢大家的参与。"
LOOP = "好。" + UNIT * 6
CLEAN = "好。" + UNIT
SKIP = Options(on_repetition="skip")


@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.parametrize("way", ["chat", "complete"])
def test_the_answer_goes_on_after_the_clean_text(kind: str, way: str) -> None:
    with StandIn(replies=[LOOP, "现在说别的。"]) as daemon:
        reply = run(kind, lambda client: drained(asked(client, way, "说", options=SKIP)), host=daemon.url)
        last = daemon.asked("/api/chat")[-1]
    assert reply.text == CLEAN + "现在说别的。"
    assert reply.finish_reason is FinishReason.STOP
    assert reply.receipt.calls == 2
    assert reply.receipt.notes == ("repetition_skipped",)
    assert last["messages"][-1] == {"role": "assistant", "content": CLEAN}
    assert last["options"]["repeat_penalty"] > 1.2
    assert last["options"]["repeat_last_n"] >= 256
    assert reply.usage.completion_tokens is not None
    assert reply.usage.completion_tokens > 40, "what the loop took counts as well"


def test_a_base_model_goes_on_from_its_own_text() -> None:
    unit = "She walked along the path and looked at the trees. "
    with StandIn(replies=[unit * 6, " Then she went home."]) as daemon, Orchestra(host=daemon.url) as orchestra:
        reply = orchestra.generate("Alice went out. ", model="llama3:text", on_repetition="skip")
        last = daemon.asked("/api/generate")[-1]
    assert reply.text == unit.rstrip() + " Then she went home."
    assert last["raw"] is True
    assert last["prompt"] == "Alice went out. " + unit.rstrip()


def test_never_more_than_once() -> None:
    with StandIn(replies=[LOOP, "再说。" + UNIT * 6]) as daemon, Orchestra(host=daemon.url) as orchestra:
        reply = orchestra.generate("说", on_repetition="skip")
    assert reply.text == CLEAN + "再说。" + UNIT
    assert reply.finish_reason is FinishReason.REPETITION
    assert reply.receipt.calls == 2


def test_the_bound_on_the_answer_holds_for_both_parts() -> None:
    with StandIn(replies=[LOOP, "现在说别的。" * 3]) as daemon, Orchestra(host=daemon.url) as orchestra:
        orchestra.generate("说", on_repetition="skip", max_tokens=100)
        first, second = daemon.asked("/api/generate")[-1], daemon.asked("/api/chat")[-1]
    assert first["options"]["num_predict"] == 100
    assert 0 < second["options"]["num_predict"] < 60


def test_where_the_bound_leaves_nothing_it_ends() -> None:
    with StandIn(replies=[LOOP]) as daemon, Orchestra(host=daemon.url) as orchestra:
        taken = orchestra.generate("说").usage.completion_tokens
        assert taken
        daemon.script(LOOP)
        reply = orchestra.generate("说", on_repetition="skip", max_tokens=taken)
    assert reply.text == CLEAN
    assert reply.receipt.calls == 1


def test_a_session_keeps_what_was_kept() -> None:
    with StandIn(replies=[LOOP, "现在说别的。", "好。"]) as daemon, Orchestra(host=daemon.url) as orchestra:
        session = orchestra.session("a")
        assert session.ask("说", on_repetition="skip").text == CLEAN + "现在说别的。"
        session.ask("再说")
        assert session.turns()[0].answer == CLEAN + "现在说别的。"
        assert daemon.asked("/api/chat")[-1]["messages"][1]["content"] == CLEAN + "现在说别的。"


def test_what_breaks_off_later_still_has_the_beginning() -> None:
    broken = Scripted("现在说", end="nothing")
    with StandIn(replies=[LOOP, broken]) as daemon, Orchestra(host=daemon.url) as orchestra, pytest.raises(StreamTruncated) as caught:
        orchestra.generate("说", on_repetition="skip")
    assert caught.value.reply.text == CLEAN + "现在说"


def test_an_english_answer_is_asked_for_again_before_anything_is_skipped() -> None:
    with StandIn(replies=["I would rather say this in English.", LOOP, "现在说别的。"]) as daemon, Orchestra(host=daemon.url) as orchestra:
        reply = orchestra.generate("说", on_repetition="skip")
    assert reply.text == CLEAN + "现在说别的。"
    assert reply.receipt.calls == 3
    assert reply.receipt.notes == ("asked_again", "repetition_skipped")


def test_without_it_the_loop_is_stopped_and_ignored_it_goes_on() -> None:
    with StandIn(replies=[LOOP, LOOP]) as daemon, Orchestra(host=daemon.url) as orchestra:
        assert orchestra.generate("说").finish_reason is FinishReason.REPETITION
        assert orchestra.generate("说", on_repetition="ignore").text == LOOP


def test_red_a_stage_that_does_not_cut_keeps_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.model.messages.cut_back", lambda text, keep: (list(text), ""))
    with StandIn(replies=[LOOP, "现在说别的。"]) as daemon, Orchestra(host=daemon.url) as orchestra:
        assert orchestra.generate("说", on_repetition="skip").text != CLEAN + "现在说别的。"


def test_red_without_the_stronger_penalty_the_same_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "MORE_PENALTY", 0.0)
    with StandIn(replies=[LOOP, "现在说别的。"]) as daemon, Orchestra(host=daemon.url) as orchestra:
        orchestra.generate("说", on_repetition="skip")
        assert daemon.asked("/api/chat")[-1]["options"]["repeat_penalty"] < 1.2


# --- pure parts


def test_what_is_continued() -> None:
    one = [Message("user", "a")]
    assert continued("a", "", raw=True) == "a"
    assert continued("a", "b", raw=True) == "ab"
    assert continued("a", "b", raw=False) == [*one, Message("assistant", "b")]
    assert continued(one, "b", raw=False) == [*one, Message("assistant", "b")]


def test_what_two_requests_took() -> None:
    first, then = Usage(prompt_tokens=5, completion_tokens=2, eval_duration=1.0), Usage(prompt_tokens=9, completion_tokens=3)
    assert added(first, then) == Usage(prompt_tokens=5, completion_tokens=5, eval_duration=1.0)
    piece = spent(Piece("", receipt=Receipt(calls=1, seconds=1.0, notes=("b",))), before=Receipt(calls=2, loads=1, seconds=2.0, notes=("a",)))
    assert piece.receipt == Receipt(calls=3, loads=1, seconds=3.0, notes=("a", "b"))
    assert spent(Piece("x"), before=None) == Piece("x")


CUT: list[tuple[list[Piece], tuple[str, str]]] = [
    ([Piece("abc"), Piece("", keep=1), Piece("d")], ("ad", "")),
    ([Piece("abc"), Piece("", "thinking", keep=0), Piece("d")], ("d", "abc")),
    ([Piece("x", "thinking"), Piece("abc"), Piece("", keep=2), Piece("d"), Piece("", keep=0), Piece("e")], ("e", "x")),
]


@pytest.mark.parametrize(("pieces", "said"), CUT)
def test_a_piece_may_cut_back_what_was_streamed(pieces: list[Piece], said: tuple[str, str]) -> None:
    reply = gathered([*pieces, Piece("", finish_reason=FinishReason.STOP)])
    assert (reply.text, reply.thinking) == said


@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.parametrize(("pieces", "said"), CUT)
def test_readers_of_the_whole_get_it_in_one_piece(kind: str, pieces: list[Piece], said: tuple[str, str]) -> None:
    async def source() -> Any:
        for piece in pieces:
            yield piece
        yield Piece("f", finish_reason=FinishReason.STOP)

    async def work(_: Any) -> Reply:
        found = [piece async for piece in settled(source())]
        assert [piece.text for piece in found if piece.kind == "text"] == [said[0] + "f"]
        return gathered(found)

    reply = run(kind, work)
    assert (reply.text, reply.thinking) == (said[0] + "f", said[1])


def test_a_pipe_gets_only_what_is_kept(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    with StandIn(replies=[LOOP, "现在说别的。", LOOP]) as daemon:
        monkeypatch.setenv("OLLAMA_HOST", daemon.url)
        done = line("generate", "说", "--on-repetition", "skip")
        assert done.out == CLEAN + "现在说别的。\n"
        assert "a loop was cut out" in done.err
        assert line("generate", "说", "--on-repetition", "ignore").out == LOOP + "\n"


def test_a_real_daemon_goes_on_after_a_loop(real_daemon: str, real_model: str) -> None:
    loop = "The cat sat on the mat and looked at me. "
    with Orchestra(host=real_daemon) as orchestra:
        first = orchestra.generate("Say it.", model=real_model, on_repetition="skip", max_tokens=80, seed=2)
        more = orchestra.generate("Say it." + loop, model=real_model, base=True, on_repetition="skip", max_tokens=80, seed=2)
    assert first.receipt.calls in (1, 2)
    assert more.receipt.calls in (1, 2)
