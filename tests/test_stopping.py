"""The criteria that look at the text: every loop is stopped in time, and nothing sound ever is.

The labelled texts stand in data/loops.jsonl and data/sound.jsonl. A loop is written as what comes before it
(`head`) and what comes back (`unit`, `times`); in a unit `{n}` is a growing number and `{w}` goes through `words`.
Those in *_held_out.jsonl were written before they were ever shown to the criteria, and no rule was made for them.
"""

from __future__ import annotations

import json
import pickle
import random
import time
import tracemalloc
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from orchestra.model import outline
from orchestra.model.messages import FinishReason
from orchestra.model.repetition import STEP
from orchestra.model.stopping import Criteria, Verdict, examine

DATA = Path(__file__).parent / "data"
TOKEN = 4
COUNTED = {"list cycle", "number line"}
FIGURES = {"blank"}
"""Kinds of loops that might be a rule or a blank, and are given 240 characters."""
STRUCTURED = {"table row", "log line", "code line", "code block"}
"""Kinds of loops that might be data or a program, and are given more room."""


class Loop(NamedTuple):
    kind: str
    language: str
    text: str
    head: str
    first: int
    """Where the first occurrence ends."""
    second: int
    bound: int
    """The text is to be stopped before it is longer than this."""


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


@cache
def loops() -> list[Loop]:
    return [spelled(**row) for row in rows("loops.jsonl")]


@cache
def sound() -> list[tuple[str, str]]:
    return [(row["kind"], row["text"]) for row in rows("sound.jsonl")]


@cache
def unseen() -> tuple[list[Loop], list[tuple[str, str]]]:
    """The held-out part: loops and sound texts."""
    held = [spelled(**row) for row in rows("loops_held_out.jsonl")]
    return held, [(row["kind"], row["text"]) for row in rows("sound_held_out.jsonl")]


def spelled(kind: str, language: str, head: str, unit: str, times: int, words: list[str] | None = None) -> Loop:
    text, ends, number = head, [], 0
    near = "{n}" in unit or "{w}" in unit
    for _ in range(times):
        for word in words or [""]:
            said = unit.replace("{w}", word)
            while "{n}" in said:
                number += 1
                said = said.replace("{n}", str(number), 1)
            text += said
            ends.append(len(text))
    usual = 3 * len(unit) if len(unit) >= 20 else max(64, 12 * len(unit))
    bound = len(head) + usual
    if near:
        # eight times, and the block of text that the eighth ends in; short items that take turns: 32 of
        # them; lines without a mark that might be records: twelve; a sentence is first taken apart when it is
        # longer than 200 characters
        bound = max(ends[11 if kind in COUNTED else 7], len(head) + 200 if kind == "run-on" else 0) + 32
    elif kind in FIGURES:
        bound = len(head) + 240
    elif kind in STRUCTURED:
        bound = len(head) + max(3000, 10 * len(unit))
    return Loop(kind, language, text, head, ends[0], ends[1], bound)


def pieces(text: str, size: int = TOKEN) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def stopped(text: str, size: int = TOKEN, *, quality: bool = True) -> tuple[Verdict | None, int]:
    """The verdict, and how many characters had been pushed by then."""
    criteria = Criteria(quality=quality)
    pushed = 0
    for piece in pieces(text, size):
        pushed += len(piece)
        verdict = criteria.push(piece)
        if verdict:
            return verdict, pushed
    return None, pushed


def ended(text: str) -> Verdict | None:
    """The verdict on an answer that ends here."""
    criteria = Criteria()
    return criteria.push(text) or criteria.finish()


def alarms(texts: list[tuple[str, str]] | None = None) -> list[str]:
    found = sound() if texts is None else texts
    return [kind for kind, text in found if examine(text + "\n\nThat is all. 就是这样。\n") or ended(text)]


# --- the labelled set


def test_the_set_is_large_mixed_and_without_duplicates() -> None:
    held, quiet = unseen()
    assert len(loops()) + len(held) >= 200
    assert len(sound()) + len(quiet) >= 400
    assert len(held) >= 40
    assert len(quiet) >= 80
    looping = [loop.text for loop in (*loops(), *held)]
    for name, texts in (("loops", looping), ("sound", [text for _, text in (*sound(), *quiet)])):
        all_rows = rows(f"{name}.jsonl") + rows(f"{name}_held_out.jsonl")
        languages = [row["language"] for row in all_rows]
        assert min(languages.count("zh"), languages.count("en")) >= 0.3 * len(languages)
        assert len({text.lower() for text in texts}) == len(texts)
        assert len({row["kind"] for row in all_rows}) >= 15


def test_nothing_sound_is_stopped_and_loops_are() -> None:
    false = alarms()
    caught = [loop for loop in loops() if stopped(loop.text)[0]]
    print(f"\nsound texts stopped: {len(false)} of {len(sound())}; loops stopped: {len(caught)} of {len(loops())}")
    assert false == []
    assert len(caught) >= 0.95 * len(loops())


def test_what_no_rule_was_made_for_is_told_apart_too() -> None:
    held, quiet = unseen()
    false = alarms(quiet)
    found = [(stopped(loop.text), loop.bound) for loop in held]
    caught = [pushed <= bound + TOKEN - 1 for (verdict, pushed), bound in found if verdict]
    print(
        f"\nheld out: sound texts stopped: {len(false)} of {len(quiet)}; "
        f"loops stopped: {len(caught)} of {len(held)}, {sum(caught)} of them within the bound of their kind"
    )
    assert false == []
    assert len(caught) >= 0.95 * len(held)


@pytest.mark.parametrize("loop", loops(), ids=lambda loop: f"{loop.kind}-{loop.text[:12]!r}")
def test_a_loop_is_stopped_within_its_bound_and_its_first_occurrence_is_kept(loop: Loop) -> None:
    verdict, pushed = stopped(loop.text)
    assert verdict is not None
    assert verdict.reason is FinishReason.REPETITION
    assert pushed <= loop.bound + TOKEN - 1
    kept = loop.text[: verdict.keep]
    assert kept == kept.rstrip()
    assert len(loop.head.rstrip()) <= verdict.keep <= loop.second
    if loop.text[len(loop.head) : loop.first].strip():
        # the seam may lie elsewhere in the unit than where the set draws it, where both begin alike
        assert verdict.keep >= len(loop.text[: loop.first].rstrip()) - 12


@pytest.mark.parametrize(
    ("head", "unit", "kept"),
    [
        ("So. ", "The cat sat on the mat. ", "So. The cat sat on the mat."),
        ("I like the red car. He", " likes the red car. He", "I like the red car. He likes the red car."),
        ("好。", "这个问题我们下次再讨论吧，谢谢大家的参与。", "好。这个问题我们下次再讨论吧，谢谢大家的参与。"),
        ("Tips:\n", "- Drink more water every day\n", "Tips:\n- Drink more water every day"),
        ("It was very", " very", "It was very"),
        ("他说：", "哈", "他说：哈"),
        ("Done.", "\n", "Done."),
    ],
)
def test_what_is_kept_reads_as_a_finished_text(head: str, unit: str, kept: str) -> None:
    text = head + unit * 100
    verdict = examine(text)
    assert verdict is not None
    assert text[: verdict.keep] == kept


@pytest.mark.parametrize(
    ("head", "unit", "times"),
    [("", "x" * 19 + "y", 3), ("好的。", "这个问题我们下次再讨论吧，谢谢大家的参与。", 3), ("So", " so", 22), ("", "啊", 64)],
)
def test_the_last_characters_of_an_answer_are_judged_too(head: str, unit: str, times: int) -> None:
    verdict = ended(head + unit * times)
    assert verdict is not None
    assert ended(head + unit * (times - max(1, 10 // len(unit)))) is None
    assert all(_cut(head + unit * times, size) == verdict for size in (1, 3, 7))


def _cut(text: str, size: int) -> Verdict | None:
    criteria = Criteria()
    for piece in pieces(text, size):
        criteria.push(piece)
    return criteria.finish()


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"Shelf {n * n} has been counted and everything is in its place\n" for n in range(1, 30)),
        "".join(f"Shelf {n} has been counted and there were {n * 37 % 41} books in it\n" for n in range(1, 30)),
        "".join(f"## Part {n}\n\nNothing to say.\n\n" for n in range(1, 30)),
    ],
)
def test_records_and_empty_parts_are_no_loop(text: str) -> None:
    assert examine(text) is None


# --- any period, any pieces

LETTERS = "abcdefghijklmnopqrstuvwxyz 的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经"


@st.composite
def units(draw: st.DrawFn, shortest: int, longest: int) -> str:
    """A unit of letters with no shorter period of its own."""
    size = draw(st.integers(shortest, longest))
    letters = draw(st.sampled_from([LETTERS, "ab", "的了是", "etaoin shrdlu", "ha "]))
    chance = random.Random(draw(st.integers(0, 2**32)))
    unit = "".join(chance.choices(letters, k=size))
    assume(unit.strip() and (unit + unit).find(unit, 1) == size)
    return unit


@settings(max_examples=150, deadline=None, derandomize=True)
@given(units(20, 1300), st.text(LETTERS, max_size=40))
@example("x" * 19 + "y", "")
@example("哈哈哈哈哈哈哈哈哈哈哈哈哈哈，太好笑了啊", "")
@example("I am sorry. I am sorry, but I cannot help with that. ", "")
def test_a_unit_of_twenty_characters_or_more_is_stopped_within_three(unit: str, head: str) -> None:
    verdict, _ = stopped(head + unit * 3, size=1, quality=False)
    assert verdict is not None


@settings(max_examples=150, deadline=None, derandomize=True)
@given(units(1, 19), st.text(LETTERS, max_size=40))
def test_a_shorter_unit_is_stopped_within_64_characters_or_twelve_times(unit: str, head: str) -> None:
    length = max(64, 12 * len(unit))
    verdict, _ = stopped(head + (unit * 64)[:length], size=1, quality=False)
    assert verdict is not None
    assert stopped((unit * 64)[: length - 20], size=1, quality=False)[0] is None


@pytest.mark.parametrize("period", [2000, 4000])
def test_a_period_of_pages_is_noticed(period: int) -> None:
    unit = "".join(random.Random(period).choices(LETTERS, k=period - 1)) + "。"
    verdict, pushed = stopped(unit * 4, quality=False)
    assert verdict is not None
    assert verdict.keep == period
    assert pushed <= 3 * period


@st.composite
def answers(draw: st.DrawFn) -> str:
    """Texts with something to find in them, and texts with nothing."""
    head = draw(st.sampled_from([text for _, text in sound()]))[: draw(st.integers(0, 500))]
    kind = draw(st.sampled_from(["loop", "unit", "text", "garbage"]))
    if kind == "loop":
        return head + draw(st.sampled_from(loops())).text[:1200]
    if kind == "unit":
        return head + draw(units(1, 200)) * 8
    if kind == "garbage":
        return head + draw(st.text("\ufffd\x01的한गب!?;%", min_size=1, max_size=40)) * 6
    return head + draw(st.text(max_size=200))


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(answers(), st.lists(st.integers(0, 40), min_size=1, max_size=12))
def test_the_verdict_does_not_depend_on_the_pieces(text: str, sizes: list[int]) -> None:
    whole = Criteria().push(text)
    assert [examine(text, size=size) for size in (1, 3, 7)] == [whole] * 3
    criteria, at, turn, verdict = Criteria(), 0, 0, None
    while at < len(text) and not verdict:
        size = max(sizes[turn % len(sizes)], turn % 2)
        verdict = criteria.push(text[at : at + size])
        at, turn = at + size, turn + 1
    assert verdict == whole


def test_a_verdict_stays_and_an_empty_answer_has_none() -> None:
    assert examine("") is None
    assert Criteria().push("") is None
    criteria = Criteria()
    verdict = criteria.push("的" * 80)
    assert verdict == (FinishReason.REPETITION, 1)
    assert criteria.push("") == verdict
    assert criteria.push("Something else entirely, and quite sound. " * 3) == verdict


def test_each_criterion_can_be_switched_off() -> None:
    assert Criteria(repetition=False).push("The cat sat on the mat. " * 9) is None
    assert Criteria(quality=False).push("The answer is " + "\ufffd?" * 20) is None


# --- fences


def test_in_a_fence_an_endless_line_ends_at_a_generous_bound() -> None:
    head = "Here you are:\n\n```python\n"
    line = "print('Hello, world!')\n"
    assert examine(head + line * 100 + "```\nThat prints a hundred lines.\n") is None
    verdict, pushed = stopped(head + line * 1000)
    assert verdict is not None
    assert 2500 < pushed < 3100
    assert head + line.rstrip() == (head + line)[: verdict.keep]
    assert stopped("Here you are:\n\n" + line * 1000)[1] < 1000


def test_a_fence_is_closed_by_its_own_marks_alone() -> None:
    loop = "The cat sat on the mat. " * 9
    assert examine("~~~\n```\n" + loop) is None
    assert examine("````\n```\n" + loop) is None
    assert examine("````\n```\n````\n" + loop) is not None
    assert examine("Use ```x``` for code.\n" + loop) is not None
    assert examine("1. ```\n   code\n   ```\n" + loop) is not None


# --- red controls: with one of its parts broken, the set above must notice

BREAKS: list[tuple[str, str, Any]] = [
    ("sound", "orchestra.model.outline.fence", lambda line, opened: ""),
    ("sound", "orchestra.model.outline.kind", lambda line: outline.Line.PROSE),
    ("sound", "orchestra.model.repetition._needed", lambda unit, fenced: max(64, 3 * len(unit))),
    ("sound", "orchestra.model.repetition._COVERAGE", 0.0),
    ("sound", "orchestra.model.repetition._TIMES", 3),
    ("sound", "orchestra.model.repetition._weight", lambda text: 100),
    ("loops", "orchestra.model.repetition._counting", lambda figures: False),
    ("loops", "orchestra.model.repetition.Recurrence._returned", lambda self: False),
    ("loops", "orchestra.model.repetition._LABEL", outline._LOG),
    ("loops", "orchestra.model.repetition._CANDIDATES", 0),
    ("loops", "orchestra.model.repetition.REACH", 40),
    ("loops", "orchestra.model.repetition._TIMES", 10**6),
    ("loops", "orchestra.model.repetition._FIRST_WORD", outline._LOG),
    ("loops", "orchestra.model.repetition._NUMBER", outline._LOG),
    ("loops", "orchestra.model.stopping.STRIDE", 64),
]


@pytest.mark.parametrize(("which", "name", "value"), BREAKS, ids=lambda value: value if isinstance(value, str) else "")
def test_red_a_broken_part_is_noticed(which: str, name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name, value)
    if which == "sound":
        assert alarms()
    else:
        found = [(stopped(loop.text), loop.bound) for loop in loops()]
        assert any(verdict is None or pushed > bound + TOKEN - 1 for (verdict, pushed), bound in found)


def equal_pieces(text: str) -> bool:
    """The rule of 100 equal pieces."""
    came = pieces(text)
    return any(len(set(came[at : at + 100])) == 1 for at in range(len(came) - 99))


def longer_pieces(text: str) -> bool:
    """A rule that skips pieces of two characters or fewer, as a list separator might be one."""
    run, last = 0, ""
    for piece in pieces(text, 1):
        run = run + 1 if piece == last and len(piece) > 2 else 0
        last = piece
        if run >= 100:
            return True
    return False


@pytest.mark.parametrize(
    ("rule", "text"),
    [(equal_pieces, "The cat sat on the mat again. " * 200), (longer_pieces, "的" * 600)],
)
def test_red_simple_rules_miss_what_is_stopped_here(rule: Callable[[str], bool], text: str) -> None:
    assert not rule(text)
    assert examine(text) is not None


def test_red_simple_rules_miss_most_of_the_set() -> None:
    assert sum(equal_pieces(loop.text) for loop in loops()) < 0.4 * len(loops())


def test_steps_are_small_enough_for_the_bound() -> None:
    assert STEP <= TOKEN


# --- cost


def stream(size: int) -> str:
    """Sound text of `size` characters; what it repeats lies farther back than the criteria reach."""
    texts = "\n\n".join(text for _, text in sound()) + "\n\n"
    return (texts * (size // len(texts) + 1))[:size]


def test_the_cost_of_a_token_is_small_and_does_not_grow() -> None:
    came = pieces(stream(2_000_000))
    criteria, seconds = Criteria(), []
    part = len(came) // 5
    for at in range(0, part * 5, part):
        started = time.process_time()
        for piece in came[at : at + part]:
            assert criteria.push(piece) is None
        seconds.append(time.process_time() - started)
    token = min(seconds) / part * 1e6
    print(f"\n{token:.2f} us a token of {TOKEN} characters, {len(pickle.dumps(criteria))} bytes kept")
    # measured 2.5 to 2.6 us on a 2 GHz core with other work beside it; the limit leaves room for a busier one
    assert token < 8
    assert max(seconds) < 4 * min(seconds)
    assert len(pickle.dumps(criteria)) < 100_000


def test_memory_does_not_grow_with_the_answer() -> None:
    def peak(size: int) -> int:
        came = pieces(stream(size), 64)
        tracemalloc.start()
        try:
            criteria = Criteria()
            for piece in came:
                criteria.push(piece)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = peak(100_000), peak(500_000)
    assert large < 300_000
    assert large < small * 1.5


def test_an_answer_in_one_piece_costs_no_more() -> None:
    text = stream(500_000)
    started = time.process_time()
    assert Criteria().push(text) is None
    assert time.process_time() - started < 5


@pytest.mark.slow
def test_every_prefix_of_sound_text_is_sound_after_every_other() -> None:
    chance = random.Random(11)
    for _ in range(3000):
        parts = [chance.choice(sound())[1] for _ in range(3)]
        parts[-1] = parts[-1][: chance.randrange(1, len(parts[-1]) + 1)]
        text = "\n\n".join(parts)
        if len(set(parts)) == 3:
            assert examine(text, size=64) is None, text[-300:]
