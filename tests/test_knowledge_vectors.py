"""The vectors of a base: the nearest are found, with numpy and without, and vectors of two kinds never meet."""

from __future__ import annotations

import importlib
import math
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.errors import EmbeddingChanged, KnowledgeMissing
from orchestra.retrieval.knowledge import arithmetic, vectors
from orchestra.retrieval.knowledge.arithmetic import Mean, Signs, cosines, packed, signs
from orchestra.retrieval.knowledge.chunks import Chunk, Document
from orchestra.retrieval.knowledge.index import Index
from orchestra.retrieval.knowledge.vectors import Embedded, Space

SPACE = Space(model="m", digest="1", prefixes="1")
WAYS = ("numpy", "plain")
Vector = list[float]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test runs with numpy and as if it were not installed."""
    if request.param == "plain":
        without_numpy(monkeypatch)
    return str(request.param)


def without_numpy(patch: pytest.MonkeyPatch) -> None:
    original = importlib.import_module

    def refusing(name: str, package: str | None = None) -> object:
        if name == "numpy":
            raise ImportError(name)
        return original(name, package)

    patch.setattr(importlib, "import_module", refusing)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index(tmp_path) as index:
        yield index


def document(uri: str = "/a") -> Document:
    return Document(uri=uri, title=uri, language="en", digest="0", mtime_ns=1, size=1)


def leaning(count: int, dimensions: int, seed: int = 1) -> list[Vector]:
    """Vectors as embedding models make them: in groups, and all on one side of the origin."""
    chance = random.Random(seed)
    side = [chance.gauss(0, 6) for _ in range(dimensions)]
    topics = [[chance.gauss(0, 1) for _ in range(dimensions)] for _ in range(20)]
    return [
        [s + t + chance.gauss(0, 0.7) for s, t in zip(side, topics[chance.randrange(20)], strict=True)] for _ in range(count)
    ]


def filled(index: Index, made: list[Vector], name: str = "k") -> list[int]:
    """A base of so many chunks with these vectors; the numbers of the chunks."""
    index.put(name, [(document(), [Chunk(text=f"chunk {n}") for n in range(len(made))])])
    index.vectors.adopt(name, SPACE)
    numbers = [chunk.chunk for chunk in index.vectors.pending(name, len(made))]
    index.vectors.put(name, SPACE, [Embedded(n, "whole", v) for n, v in zip(numbers, made, strict=True)])
    return numbers


# --- arithmetic


def cosine(one: Vector, other: Vector) -> float:
    return math.fsum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


@settings(max_examples=40)
@given(st.integers(1, 130), st.integers(1, 5), st.integers(0, 99))
def test_both_ways_say_what_the_definition_says(dimensions: int, count: int, seed: int) -> None:
    made = leaning(count, dimensions, seed)
    stored = [packed(vector) for vector in made]
    taken = Mean()
    taken.push(stored)
    mean = taken.packed()
    with pytest.MonkeyPatch.context() as patch:
        fast = cosines(stored, stored[0]), signs(stored, mean), mean
        without_numpy(patch)
        slow_mean = Mean()
        slow_mean.push(stored)
        slow = cosines(stored, stored[0]), signs(stored, mean), slow_mean.packed()
    assert fast[0] == pytest.approx(slow[0], abs=1e-5)
    assert fast[0] == pytest.approx([cosine(made[0], vector) for vector in made], abs=1e-5)
    assert fast[1] == slow[1]
    assert list(memoryview(fast[2]).cast("f")) == pytest.approx(list(memoryview(slow[2]).cast("f")), abs=1e-6)


def test_signs_lead_to_the_nearest(way: str) -> None:
    made = [packed(vector) for vector in leaning(300, 130)]
    taken = Mean()
    taken.push(made)
    mean = taken.packed()
    held = Signs(b"".join(signs(made, mean)), mean)
    for wanted in made[:10]:
        exact = sorted(range(300), key=lambda place: -cosines([made[place]], wanted)[0])
        near = held.nearest(wanted, 20)
        assert len(near) == len(set(near)) == 20
        assert len(set(near) & set(exact[:5])) >= 4
    assert sorted(held.nearest(made[0], 400)) == list(range(300))
    assert Signs(b"", mean).nearest(made[0], 20) == []


# --- the nearest


def test_the_nearest_come_first_with_their_cosine(index: Index, way: str) -> None:
    numbers = filled(index, [[1.0, 0.0], [1.0, 1.0], [0.0, 2.0], [-1.0, 0.0]])
    near = index.vectors.nearest("k", [3.0, 0.0], 3)
    assert [match.chunk for match in near] == numbers[:3]
    assert [match.score for match in near] == pytest.approx([1.0, math.sqrt(0.5), 0.0], abs=1e-6)


def test_signs_find_what_comparing_all_finds(index: Index, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "SIGNED_FROM", 200)
    monkeypatch.setattr(vectors, "RESCORED", 60)
    made = leaning(600, 96)
    filled(index, made)
    found = total = 0
    for query in leaning(620, 96)[600:]:
        exact = {match.chunk for match in index.vectors.nearest("k", query, 10, exact=True)}
        found += len(exact & {match.chunk for match in index.vectors.nearest("k", query, 10)})
        total += len(exact)
    assert found / total >= 0.95


def test_red_control_without_the_mean_signs_find_less(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "SIGNED_FROM", 200)
    monkeypatch.setattr(vectors, "RESCORED", 60)
    monkeypatch.setattr(Mean, "packed", lambda self: bytes(4 * 96))
    filled(index, leaning(600, 96))
    found = 0
    for query in leaning(620, 96)[600:]:
        exact = {match.chunk for match in index.vectors.nearest("k", query, 10, exact=True)}
        found += len(exact & {match.chunk for match in index.vectors.nearest("k", query, 10)})
    assert found / 200 < 0.95


def test_what_is_new_or_gone_counts_at_once(index: Index, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "SIGNED_FROM", 20)
    filled(index, leaning(40, 16))
    query = leaning(41, 16)[40]
    before = index.vectors.nearest("k", query, 1)
    with Index(index.path.parent) as other:  # another process
        other.put("k", [(document("/b"), [Chunk(text="new")])])
        (new,) = other.vectors.pending("k", 10)
        other.vectors.put("k", SPACE, [Embedded(new.chunk, "whole", query)])
        assert index.vectors.nearest("k", query, 1)[0].chunk == new.chunk
        other.remove("k", ["/b"])
    assert index.vectors.nearest("k", query, 1) == before
    index.remove("k", ["/a"])
    assert index.vectors.nearest("k", query, 1) == []
    rest = "SELECT (SELECT count(*) FROM vector) + (SELECT count(*) FROM sign) + (SELECT count(*) FROM chunk)"
    assert index.database.read(lambda c: c.execute(rest).fetchone()) == (0,)


def test_signs_are_taken_anew_as_the_base_grows(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "SIGNED_FROM", 20)

    def state() -> tuple[int, int]:
        row = "SELECT centred, (SELECT count(*) FROM sign) FROM base"
        return tuple(index.database.read(lambda c: c.execute(row).fetchone()))

    index.put("k", [(document(), [Chunk(text=f"{n}") for n in range(60)])])
    index.vectors.adopt("k", SPACE)
    made, states = leaning(60, 16), []
    for lot in range(6):
        waiting = index.vectors.pending("k", 10)
        rows = [Embedded(chunk.chunk, "whole", made[10 * lot + n]) for n, chunk in enumerate(waiting)]
        index.vectors.put("k", SPACE, rows)
        states.append(state())
    assert states == [(0, 0), (20, 20), (20, 30), (40, 40), (40, 50), (40, 60)]


# --- what belongs together


def test_chunks_without_a_vector_wait_in_order(index: Index) -> None:
    index.put("k", [(document(), [Chunk(text="a", heading="H"), Chunk(text="b"), Chunk(text="c")])])
    index.vectors.adopt("k", SPACE)
    first, second, third = index.vectors.pending("k", 10)
    assert (first.heading, first.text) == ("H", "a")
    index.vectors.put("k", SPACE, [Embedded(first.chunk, "shortened", [1.0, 0.0]), Embedded(second.chunk, "failed", None)])
    assert index.vectors.pending("k", 10) == [third]
    assert index.vectors.pending("k", 10, after=third.chunk) == []
    base = index.base("k")
    assert (base.embedding, base.dimensions, base.vectors, base.shortened, base.failed) == ("m", 2, 1, 1, 1)
    index.vectors.retry("k")
    assert index.vectors.pending("k", 10) == [second, third]


def test_chunks_that_are_as_before_keep_their_vectors(index: Index, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "SIGNED_FROM", 20)
    filled(index, leaning(40, 16))
    index.put("k", [(document(), [Chunk(text=f"chunk {n}", start=n + 7) for n in range(39)] + [Chunk(text="new")])])
    assert [chunk.text for chunk in index.vectors.pending("k", 10)] == ["new"]
    (near,) = index.vectors.nearest("k", leaning(40, 16)[5], 1)
    assert index.chunks([near.chunk])[near.chunk].chunk == Chunk(text="chunk 5", start=12)


def test_vectors_of_another_model_take_the_place_of_all(index: Index) -> None:
    filled(index, leaning(5, 16))
    index.vectors.adopt("k", SPACE)
    assert index.base("k").vectors == 5
    other = Space(model="m", digest="2", prefixes="1")
    index.vectors.adopt("k", other)
    assert (index.base("k").vectors, index.base("k").dimensions, len(index.vectors.pending("k", 10))) == (0, 0, 5)
    with pytest.raises(EmbeddingChanged):  # one that still works with the old ones
        index.vectors.put("k", SPACE, [Embedded(1, "whole", [1.0, 0.0])])
    index.vectors.put("k", other, [Embedded(1, "whole", [1.0, 0.0])])
    with pytest.raises(EmbeddingChanged):
        index.vectors.put("k", other, [Embedded(2, "whole", [1.0, 0.0, 0.0])])
    assert index.vectors.nearest("k", [1.0, 0.0, 0.0], 5) == []


def test_a_vector_for_a_chunk_that_is_gone_is_left_out(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "SIGNED_FROM", 2)
    numbers = filled(index, leaning(3, 16))
    index.put("other", [(document(), [Chunk(text="x")])])
    index.vectors.put("k", SPACE, [Embedded(number, "whole", [1.0] * 16) for number in (numbers[-1] + 1, 999)])
    assert (index.base("k").vectors, index.base("other").vectors) == (3, 0)
    assert index.database.read(lambda c: c.execute("SELECT chunk FROM sign").fetchall()) == [(number,) for number in numbers]


def test_a_base_that_is_not_there_is_an_error(index: Index) -> None:
    for attempt in (
        lambda: index.vectors.space("k"),
        lambda: index.vectors.adopt("k", SPACE),
        lambda: index.vectors.pending("k", 1),
        lambda: index.vectors.nearest("k", [1.0], 1),
    ):
        with pytest.raises(KnowledgeMissing):
            attempt()


def test_numpy_is_imported_on_use_alone() -> None:
    assert "numpy" not in vars(arithmetic)
