"""A vocabulary kept on disk: 128,000 tokens are fetched from the daemon and made once, then read in a moment.

The file belongs to this machine and can be made again at any time: one that is damaged, or of another make, is as good
as none.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from array import array
from contextlib import suppress
from itertools import accumulate, pairwise
from pathlib import Path

from orchestra.model.pretokenizers import TABLE
from orchestra.model.vocabulary import Parts

MAKE = f"orchestra vocabulary 1 {sys.byteorder}\n".encode()
DIGEST = 32


def written(parts: Parts) -> bytes:
    """The file: its make, a digest of the rest, what is short as JSON, what is long as it stands in memory."""
    short = {
        "family": parts.family,
        "specials": parts.specials,
        "unmade": parts.unmade,
        "begin": parts.begin,
        "end": parts.end,
        "size": len(parts.data),
    }
    lengths = array("q", map(len, parts.data))
    rest = b"".join([json.dumps(short).encode(), b"\n", lengths.tobytes(), parts.ranks.tobytes(), *parts.data])
    return MAKE + hashlib.sha256(rest).digest() + rest


def read(raw: bytes) -> Parts:
    """The parts in such a file. Raises `ValueError`."""
    rest = raw[len(MAKE) + DIGEST :]
    if not raw.startswith(MAKE) or hashlib.sha256(rest).digest() != raw[len(MAKE) : len(MAKE) + DIGEST]:
        raise ValueError("not such a file, or a damaged one")
    line, _, long = rest.partition(b"\n")
    short = json.loads(line)
    if short["family"] not in TABLE:
        raise ValueError("of a family that is not known any more")
    lengths, ranks = array("q"), array("q")
    step = short.pop("size") * lengths.itemsize
    lengths.frombytes(long[:step])
    ranks.frombytes(long[step : 2 * step])
    data = long[2 * step :]
    places = accumulate(lengths, initial=0)
    return Parts(data=[data[start:end] for start, end in pairwise(places)], ranks=ranks, **short)


def load(path: Path) -> Parts | None:
    """The vocabulary in that file; None where there is none that can be used."""
    try:
        return read(path.read_bytes())
    except (OSError, ValueError):
        return None


def save(path: Path, content: bytes) -> None:
    """Write a file in one step; a disk that takes none is no reason to fail, what it would keep is made again."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
