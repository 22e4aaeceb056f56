"""What a large store costs: appending a turn, opening the end of a session, searching, bytes on the disk.

The large store has a tenth of its turns in one session, the one that is measured. `BENCH_FULL=1` makes it 1,000,000
turns, else it has 100,000; the small one has 1,000.
"""

from __future__ import annotations

import os
import random
import re
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

from bounds import Row, shown
from scripted import tokens

from orchestra.model.messages import FinishReason, Receipt, Usage
from orchestra.sessions import turns
from orchestra.sessions.records import SessionRecord, digest, jsonable
from orchestra.sessions.store import Store

LARGE = 1_000_000 if os.environ.get("BENCH_FULL") else 100_000
SMALL = 1_000
USUAL = 100  # turns in each session but the long one
BATCH = 20_000
ROUNDS = 300
BOUND = 1.5
USAGE = Usage(prompt_tokens=1234, completion_tokens=56, total_duration=1.2, load_duration=0.01, prompt_duration=0.1, eval_duration=1.0)
RECEIPT = Receipt(used=1290, window=8192, first_token=0.123456, seconds=1.234567)

_INSERT = """INSERT INTO turn (seq, id, session, parent, root, depth, question, answer, thinking, status, finish_reason, model,
    usage, receipt, digest, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', 'done', 'stop', 'llama3', ?, ?, ?, ?)"""


def texts() -> Iterator[tuple[str, str]]:
    """Questions and answers of 150 characters together, in words that come as often as words do."""
    words = re.findall(r"[a-z]+", "".join(tokens(2500)).lower())
    chance = random.Random(1)
    while True:
        said = " ".join(chance.choices(words, k=40)) + f" {chance.randrange(10**6)}"
        yield said[:50], said[50:150].ljust(100, "x")


def filled(folder: Path, count: int) -> Store:
    """A store of `count` turns, written as the store writes them, many in one transaction."""
    store = Store(folder)
    store.create("long")
    said, left, seq, number = texts(), count, 1, 0
    length = max(USUAL, count // 10)
    while left:
        sessions: list[tuple[str, int]] = []
        while left and sum(size for _, size in sessions) < BATCH:
            name = "long" if number == 0 else f"session-{number}"
            sessions.append((name, min(left, length if number == 0 else USUAL)))
            left -= sessions[-1][1]
            number += 1
        seq = store.database.write(partial(_written, sessions=sessions, seq=seq, said=said))
    return store


def _written(connection: sqlite3.Connection, *, sessions: list[tuple[str, int]], seq: int, said: Iterator[tuple[str, str]]) -> int:
    usage, receipt = jsonable(USAGE), jsonable(RECEIPT)
    rows, words = [], []
    for name, length in sessions:
        known = turns.session_row(connection, name)
        session = known.seq if known else turns.insert_session(connection, SessionRecord(id=turns.random_id(), name=name))
        root, hashed = seq, None
        for depth in range(1, length + 1):
            question, answer = next(said)
            hashed = digest(hashed, question, answer)
            parent = seq - 1 if depth > 1 else None
            rows.append((seq, turns.random_id(), session, parent, root, depth, question, answer, usage, receipt, hashed, time.time()))
            words += [(2 * seq, question), (2 * seq + 1, answer)]
            seq += 1
        connection.executemany(_INSERT, rows)
        connection.executemany("INSERT INTO words(rowid, text) VALUES (?, ?)", words)
        rows, words = [], []
        connection.execute("UPDATE session SET head = ? WHERE seq = ?", (seq - 1, session))
    return seq


def appended(store: Store, session: str, said: tuple[str, str]) -> None:
    """One turn, as a conversation writes it."""
    with store.begin(session, said[0]) as journal:
        journal.append(said[1])
        journal.finish(finish_reason=FinishReason.STOP, model="llama3", usage=USAGE, receipt=RECEIPT)


def compared(small: Store, large: Store, deed: Callable[[Store], object]) -> tuple[float, float]:
    """Median milliseconds of a deed in the small and in the large store, in turn."""
    times: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        pair = []
        for store in (small, large):
            started = time.perf_counter()
            deed(store)
            pair.append(1000 * (time.perf_counter() - started))
        times.append((pair[0], pair[1]))
    return median(a for a, _ in times), median(b for _, b in times)


def ratio(name: str, times: tuple[float, float], bound: float | None = BOUND) -> Row:
    """The large store's time over the small one's."""
    return Row(name, times[1] / times[0], bound, detail=f"{times[1]:.2f} ms in {LARGE:,} turns, {times[0]:.2f} ms in {SMALL:,}")


def overhead(folder: Path) -> Row:
    """Bytes on the disk for each turn beyond its text, written turn by turn."""
    count, said = 2000, texts()
    with Store(folder) as store:
        for number in range(count // USUAL):
            store.create(f"s{number}")
            for _ in range(USUAL):
                appended(store, f"s{number}", next(said))
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    return Row("bytes a turn beyond its 150 characters", size / count - 150, 1024, unit=" bytes", detail=f"{count:,} turns, {size:,} bytes")


def measured() -> list[Row]:
    """The ratios, and the bytes."""
    said = texts()
    with tempfile.TemporaryDirectory(prefix="orchestra-bench-") as folder:
        rows = [overhead(Path(folder) / "bytes")]
        with filled(Path(folder) / "small", SMALL) as small, filled(Path(folder) / "large", LARGE) as large:
            rows.append(ratio("appending a turn", compared(small, large, lambda store: appended(store, "long", next(said)))))
            rows.append(ratio("opening the last 50 of a session", compared(small, large, lambda store: store.history("long", last=50))))
            rows.append(ratio("finding a session by its name", compared(small, large, lambda store: store.find("session-5")), None))
    return rows


if __name__ == "__main__":
    started = time.perf_counter()
    rows = measured()
    shown(f"a store of {LARGE:,} turns beside one of {SMALL:,}, medians of {ROUNDS} in turn ({time.perf_counter() - started:.0f} s in all)", rows)
