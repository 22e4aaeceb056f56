"""A process that writes to a store and says what it was promised, so that a test can kill it and look.

    store_writer.py FOLDER SESSION MODE COUNT

`turns` acknowledges each turn when it is on disk; `early` does so before, `branches` does not wait for its
neighbours, `stream` says each piece of one long answer with the time, `lazy` the same without writing it on the way.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from orchestra.sessions import database, journal
from orchestra.sessions.store import Store


def turns(store: Store, session: str, count: int, *, early: bool = False, branch: bool = False) -> None:
    for number in range(count):
        running = store.begin(session, f"{session} {number}", branch=branch)
        running.append(f"answer {number}")
        if early:
            print(number, flush=True)
        running.finish()
        if not early:
            print(number, flush=True)


def same(store: Store, session: str, count: int, *, branch: bool = False) -> None:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(count):
        with store.begin(session, f"{number}", branch=branch) as running:
            running.append("x")
            time.sleep(0.002)
            running.finish()
    print("end", flush=True)


def stream(store: Store, session: str, count: int) -> None:
    running = store.begin(session, "tell me everything")
    for number in range(count):
        running.append(f"{number} ")
        print(number, time.monotonic(), flush=True)
        time.sleep(0.004)


def main(folder: str, session: str, mode: str, count: str) -> None:
    if mode == "lazy":
        database.FLUSH_EVERY = 3600.0
        journal.PIECES = 10**9
    with Store(Path(folder), timeout=30) as store:
        match mode:
            case "turns" | "early":
                turns(store, session, int(count), early=mode == "early")
            case "same" | "branches":
                same(store, session, int(count), branch=mode == "branches")
            case _:
                stream(store, session, int(count))


if __name__ == "__main__":
    main(*sys.argv[1:])
