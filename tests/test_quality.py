"""Garbage is stopped, what stood before it is kept, and sound text that has a little of everything is not."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from orchestra.model.messages import FinishReason, Piece
from orchestra.model.stopping import Criteria, Verdict, Watch, examine

SOUND = [json.loads(line)["text"] for line in (Path(__file__).parent / "data" / "sound.jsonl").read_text(encoding="utf-8").splitlines()]

CHANCE = random.Random(3)
GARBAGE = {
    "replacement": "The answer is \ufffd\ufffd\ufffdx\ufffd\ufffd\ufffdk\ufffd\ufffd\ufffd\ufffdw\ufffd\ufffd\ufffd m\ufffd\ufffd\ufffd\ufffd\ufffd",
    "control": "Sure! " + "".join(CHANCE.choices("\x00\x01\x02\x0e\x1bqz ", k=120)),
    "private": "好的，" + "".join(chr(0xE000 + CHANCE.randrange(900)) for _ in range(64)),
    "punctuation": "Well then" + "".join(CHANCE.choices("!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~", k=400)),
    "chinese punctuation": "答案是" + "".join(CHANCE.choices("，。、；：？！“”‘’（）《》【】…—", k=400)),
    "scripts": "The model " + "".join(CHANCE.choices("atиशгصकتชพдनمอ的를", k=200)),
    "hangul in Chinese": "这个问题" + "".join(CHANCE.choices("的是在了하고는에서를", k=200)),
    "letters": "用户说" + "".join(CHANCE.choices("的qw是ze在xk了ép", k=200)),
    "zalgo": "He c" + "".join("o" + "".join(CHANCE.choices("\u0301\u0321\u0333\u0346", k=6)) for _ in range(40)),
    "endless word": "The key is " + "".join(CHANCE.choices("ABCDEFghijklmnopqrSTUVwxyz0123456789+/", k=4000)),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_stopped_and_what_was_sound_is_kept(kind: str) -> None:
    text = GARBAGE[kind]
    verdict = examine(text)
    assert verdict is not None
    assert verdict.reason is FinishReason.LOW_QUALITY
    assert text[: verdict.keep] == text[: verdict.keep].rstrip()
    assert verdict.keep <= 24
    assert Criteria(quality=False).push(text) is None


def test_garbage_in_a_fence_is_left_alone() -> None:
    assert examine("The dump:\n```\n" + GARBAGE["punctuation"] + "\n```\n") is None


@pytest.mark.parametrize(
    "text",
    [
        "A \ufffd here, a \ufffd there: the file was read with the wrong encoding. " + "The rest of it is fine. 其余正常。",
        "قالت: API هو واجهة برمجة. Она сказала: «API — это интерфейс». เธอบอกว่า API คืออินเทอร์เฟซ",
        "Сначала откройте файл config.json, затем запустите server.py; порт 5002 должен быть свободен.",
        "f(x)=ax²+bx+c, Δ=b²-4ac, x₁,₂=(-b±√Δ)/2a; ∑ᵢ xᵢ ≤ ∫₀¹ g(t)dt ⇒ ∇·E=ρ/ε₀ ∧ ∇×B=μ₀J",
    ],
)
def test_a_little_of_everything_is_sound(text: str) -> None:
    assert examine(text) is None


def salad(seed: int, words: str) -> str:
    """A few words in any order, for ever."""
    return " ".join(random.Random(seed).choices(words.split(), k=2000))


def test_words_in_any_order_for_ever_are_noticed_by_how_little_they_say() -> None:
    text = "The house is old. It stands by the river. " + salad(1, "house river and")
    verdict = examine(text)
    assert verdict is not None
    assert verdict.reason is FinishReason.LOW_QUALITY
    assert verdict.keep < 2500
    rows = "\n".join(f"- {word}" for word in salad(1, "house river and").split())
    found = examine(rows)
    assert found is None or found.reason is FinishReason.REPETITION, "short items are an answer key"


def test_red_without_compression_the_salad_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.model.quality._PACKED_LIMIT", 10**6)
    assert examine("The house is old. " + salad(1, "house river and")) is None


def test_red_a_limit_for_compression_that_is_too_strict_stops_sound_text(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n\n".join(SOUND[:22])
    assert examine(text) is None
    monkeypatch.setattr("orchestra.model.quality._PACKED_LIMIT", 1.2)
    assert examine(text) is not None


def entries(*values: float) -> list[dict[str, float]]:
    return [{"logprob": value} for value in values]


def doubted(value: float, count: int = 200) -> Verdict | None:
    """The verdict on different words, each held to be so likely."""
    watch = Watch()
    for n in range(count):
        verdict = watch.push(Piece(f"word{n * n} ", logprobs=entries(value)))
        if verdict:
            return verdict
    return None


def test_what_the_model_itself_holds_for_unlikely_is_garbage() -> None:
    verdict = doubted(-6.5)
    assert verdict is not None
    assert verdict.reason is FinishReason.LOW_QUALITY
    assert doubted(-3.0) is None
    assert doubted(-6.5, count=63) is None, "not before there are enough of them"


def test_red_without_its_limit_nothing_is_unlikely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.model.quality._DOUBT_LIMIT", -100.0)
    assert doubted(-6.5) is None


@pytest.mark.parametrize("odd", [None, "x", [None], [{"token": "a"}], [{"logprob": "x"}]])
def test_odd_logprobs_say_nothing(odd: Any) -> None:
    assert Watch().push(Piece("a", logprobs=odd)) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_ODD_LIMIT", 10**6),
        ("_JOINT_LIMIT", 10**6),
        ("_SWITCH_LIMIT", 10**6),
        ("_BARE_BLOCKS", 10**6),
        ("_SOLID_BLOCKS", 10**6),
    ],
)
def test_red_without_one_of_the_measures_some_garbage_passes(name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"orchestra.model.quality.{name}", value)
    assert not all(examine(text) for text in GARBAGE.values())


@pytest.mark.parametrize(
    ("name", "value"),
    [("_ODD_LIMIT", 1.0), ("_JOINT_LIMIT", 1.0), ("_absurd", lambda text: True), ("_SOLID_BLOCKS", 4), ("_SWITCH_LIMIT", 5.0)],
)
def test_red_a_measure_that_is_too_strict_stops_sound_text(name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"orchestra.model.quality.{name}", value)
    assert any(examine(text) for text in SOUND)
