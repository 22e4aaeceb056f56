"""The arithmetic of vectors, on the bytes in which they are stored: with numpy where it is installed, else without.

Both ways give the same; numpy is an extra, and faster.
"""

from __future__ import annotations

import importlib
import math
from array import array
from collections.abc import Sequence
from heapq import nsmallest
from operator import add, gt, mul
from typing import Any

_DIGITS = bytes.maketrans(b"\0\1", b"01")


def packed(vector: Sequence[float]) -> bytes:
    """A vector of length 1 and of the same direction, in 32-bit floats."""
    length = math.sqrt(math.fsum(value * value for value in vector)) or 1.0
    return array("f", (value / length for value in vector)).tobytes()


def cosines(vectors: Sequence[bytes], vector: bytes) -> list[float]:
    """The cosine of the angle between each of the vectors and one; all are of length 1."""
    if numpy := _numpy():
        # not by a matrix product: its threads cost more than they bring for so little, most of all on a busy machine
        found = numpy.einsum("ij,j->i", _matrix(numpy, vectors), numpy.frombuffer(vector, numpy.float32))
        return [float(cosine) for cosine in found]
    wanted = array("f", vector)
    return [sum(map(mul, wanted, memoryview(value).cast("f"))) for value in vectors]


class Mean:
    """The mean of vectors, of which some are taken in at a time."""

    def __init__(self) -> None:
        self._sum: Any = None
        self.count = 0

    def push(self, vectors: Sequence[bytes]) -> None:
        """Takes vectors in."""
        self.count += len(vectors)
        if numpy := _numpy():
            more = _matrix(numpy, vectors).sum(axis=0, dtype=numpy.float64)
            self._sum = more if self._sum is None else self._sum + more
            return
        for vector in vectors:
            values = memoryview(vector).cast("f")
            self._sum = list(values if self._sum is None else map(add, self._sum, values))

    def packed(self) -> bytes:
        """The mean in 32-bit floats, as long as it is."""
        return array("f", (float(value) / self.count for value in self._sum)).tobytes()


def signs(vectors: Sequence[bytes], mean: bytes) -> list[bytes]:
    """For each vector one bit a dimension: whether it lies above the mean. Filled up to whole words of 64 bits."""
    width = _width(mean)
    if numpy := _numpy():
        above = numpy.packbits(_matrix(numpy, vectors) > numpy.frombuffer(mean, numpy.float32), axis=1)
        return [row.tobytes().ljust(width, b"\0") for row in above]
    centre = array("f", mean)
    fill = 8 * width - len(centre)
    return [
        (int(bytes(map(gt, memoryview(vector).cast("f"), centre)).translate(_DIGITS), 2) << fill).to_bytes(width, "big")
        for vector in vectors
    ]


class Signs:
    """The signs of many vectors, one after the other in `rows`, held so that they are compared fast."""

    def __init__(self, rows: bytes | bytearray, mean: bytes) -> None:
        width = _width(mean)
        self._mean = mean
        self._numpy = _numpy() if rows else None
        if self._numpy:
            # by columns, so that each step runs over memory that lies side by side
            self._rows: Any = self._numpy.frombuffer(rows, self._numpy.uint64).reshape(-1, width // 8).T.copy()
        else:
            self._rows = [int.from_bytes(rows[at : at + width], "big") for at in range(0, len(rows), width)]

    def nearest(self, vector: bytes, count: int) -> list[int]:
        """The positions of the vectors whose signs differ from those of one in the fewest bits, in no order."""
        (sign,) = signs([vector], self._mean)
        if not self._numpy:
            wanted = int.from_bytes(sign, "big")
            differing = [(row ^ wanted).bit_count() for row in self._rows]
            return nsmallest(count, range(len(differing)), key=differing.__getitem__)
        bits = self._numpy.zeros(self._rows.shape[1], self._numpy.uint16)
        for column, word in zip(self._rows, self._numpy.frombuffer(sign, self._numpy.uint64), strict=True):
            bits += self._numpy.bitwise_count(column ^ word)
        if count >= len(bits):
            return list(range(len(bits)))
        return [int(position) for position in self._numpy.argpartition(bits, count)[:count]]


def _width(mean: bytes) -> int:
    """The bytes of a row of signs: of 4 bytes a dimension comes a bit, filled up to whole words of 64."""
    return -(-len(mean) // 256) * 8


def _matrix(numpy: Any, vectors: Sequence[bytes]) -> Any:
    return numpy.frombuffer(b"".join(vectors), numpy.float32).reshape(len(vectors), -1)


def _numpy() -> Any:
    """The package, or None where the extra is not installed."""
    try:
        return importlib.import_module("numpy")
    except ImportError:
        return None
