"""An answer that the daemon is about to cut without a word is ended here, with its reason."""

from __future__ import annotations

import pytest

from orchestra import FinishReason, Orchestra, StandIn, StreamTruncated
from orchestra.model import answering


@pytest.mark.parametrize("unit", ["的", " blue", "哈"])
def test_equal_words_end_before_the_daemon_cuts_them(unit: str) -> None:
    with StandIn(replies=[["好。", *[unit] * 60]]) as daemon, Orchestra(host=daemon.url) as orchestra:
        reply = orchestra.generate("说")
    assert reply.finish_reason is FinishReason.REPETITION
    assert reply.text == "好。" + unit


def test_a_rule_of_equal_signs_is_no_loop_of_words() -> None:
    with StandIn(replies=[["a\n", *["-"] * 29, "\nb"]]) as daemon, Orchestra(host=daemon.url) as orchestra:
        assert orchestra.generate("draw").text == "a\n" + "-" * 29 + "\nb"


def test_without_the_rule_the_daemon_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "SOON_CUT", 1000)
    with (
        StandIn(replies=[["好。", *["的"] * 60]]) as daemon,
        Orchestra(host=daemon.url) as orchestra,
        pytest.raises(StreamTruncated) as caught,
    ):
        orchestra.generate("说")
    assert caught.value.reply.finish_reason is FinishReason.REPETITION
