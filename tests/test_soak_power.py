"""A loss of power takes nothing back that was confirmed, whatever of the rest reached the disk.

`ORCHESTRA_TEST_IMAGES` sets how many states of the disk are looked at in the long run.
"""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import power_loss
import pytest

from orchestra.errors import OrchestraError
from orchestra.sessions import database
from orchestra.sessions.store import Store

IMAGES = int(os.environ.get("ORCHESTRA_TEST_IMAGES", "10000"))
SEEDS = 10
TURNS = 40


def recorded(folder: Path, seed: int, patch: pytest.MonkeyPatch, *, synchronous: str = "FULL") -> power_loss.Disk:
    """What a store does to its disk while sessions grow, are changed, copied and deleted."""
    disk = power_loss.Disk()
    files = power_loss.Recording(disk)
    pragmas = [pragma for pragma in database.PRAGMAS if "synchronous" not in pragma]
    pragmas += [f"PRAGMA synchronous = {synchronous}", "PRAGMA wal_autocheckpoint = 40"]

    def connected(path: Path, *, timeout: float, create: bool = False) -> power_loss.Connection:
        connection = power_loss.Connection(path, files)
        for pragma in pragmas:
            connection.execute(pragma)
        return connection

    chance = random.Random(seed)
    with patch.context() as patched:
        patched.setattr(database, "connected", connected)
        with Store(folder) as store:
            store.create("s")
            disk.promise("session", "s")
            for number in range(TURNS):
                _turn(store, disk, number, chance)
    return disk


def _turn(store: Store, disk: power_loss.Disk, number: int, chance: random.Random) -> None:
    with store.begin("s", f"question {number}") as journal:
        disk.promise("question", str(number))
        for _ in range(chance.randrange(4)):
            journal.append(f"answer {number} " * chance.randrange(1, 60))
        journal.finish()
        disk.promise("turn", str(number))
    if number % 5 == 0:
        store.fork("s", f"fork-{number}")
        disk.promise("session", f"fork-{number}")
    if number % 5 == 2:
        store.rename(f"fork-{number - 2}", f"renamed-{number}")
        disk.promise("gone", f"fork-{number - 2}")
        disk.promise("session", f"renamed-{number}")
    if number % 5 == 4:
        disk.promise("doomed", f"renamed-{number - 2}")
        store.delete(f"renamed-{number - 2}")
        disk.promise("gone", f"renamed-{number - 2}")


def found(folder: Path, image: dict[str, bytes]) -> tuple[set[str], list[str], list[str]] | None:
    """The sessions, questions and finished turns of `s` in that state of the disk; None where it is damaged."""
    for file in folder.iterdir():
        if file.is_file():
            file.unlink()
    for name, content in image.items():
        (folder / name).write_bytes(content)
    try:
        with Store(folder) as store:
            (check,) = store.database.read(lambda c: c.execute("PRAGMA integrity_check(1)").fetchone())
            names = {record.name for record in store.sessions()}
            said = store.history("s") if "s" in names else []
    except (OrchestraError, sqlite3.Error):
        return None
    numbers = [turn.question.removeprefix("question ") for turn in said]
    if check != "ok" or numbers != [str(number) for number in range(len(numbers))]:
        return None
    return names, numbers, [number for number, turn in zip(numbers, said, strict=True) if turn.status == "done"]


def broken(disk: power_loss.Disk, at: int, state: tuple[set[str], list[str], list[str]]) -> Iterator[str]:
    """The promises made by then that this state does not keep."""
    names, asked, done = state
    made = [(kind, value) for moment, kind, value in disk.promises if moment <= at]
    doomed = {value for kind, value in made if kind in ("doomed", "gone")}
    renaming = {value for moment, kind, value in disk.promises if kind == "gone" and moment > at and value.startswith("fork")}
    for kind, value in made:
        kept = {
            "session": value in names or value in doomed or value in renaming,
            "question": value in asked,
            "turn": value in done,
            "gone": value not in names,
            "doomed": True,
        }[kind]
        if not kept:
            yield f"{kind} {value}"


def looked_at(tmp_path: Path, patch: pytest.MonkeyPatch, *, images: int, seeds: int, synchronous: str = "FULL") -> tuple[int, int, int]:
    """How many states were looked at, in how many a promise was broken, how many were damaged."""
    looked = lost = damaged = 0
    for seed in range(seeds):
        disk = recorded(tmp_path / f"disk-{synchronous}-{seed}", seed, patch, synchronous=synchronous)
        (tmp_path / "image").mkdir(exist_ok=True)
        chance = random.Random(seed)
        for _ in range(images // seeds):
            at = chance.randrange(len(disk.events) + 1)
            state = found(tmp_path / "image", disk.crash(at, chance))
            looked += 1
            damaged += state is None
            lost += state is not None and any(broken(disk, at, state))
    return looked, lost, damaged


def test_a_loss_of_power_takes_nothing_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked, lost, damaged = looked_at(tmp_path, monkeypatch, images=60, seeds=1)
    assert (looked, lost, damaged) == (60, 0, 0)


def test_red_control_without_waiting_for_the_disk_turns_are_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, lost, damaged = looked_at(tmp_path, monkeypatch, images=60, seeds=1, synchronous="NORMAL")
    assert lost > 0
    assert damaged == 0


def test_red_control_without_any_sync_the_file_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, damaged = looked_at(tmp_path, monkeypatch, images=60, seeds=1, synchronous="OFF")
    assert damaged > 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_state_of_the_disk_keeps_every_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked, lost, damaged = looked_at(tmp_path, monkeypatch, images=IMAGES, seeds=SEEDS)
    print(f"\npower loss: {looked} states of the disk, {lost} with a promise broken, {damaged} damaged")
    assert (lost, damaged) == (0, 0)
