"""What outlives a search, on a disk that may be broken, full, read-only or shared."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from orchestra.retrieval import cache as module
from orchestra.retrieval.cache import Cache, Standing, asked_key
from orchestra.retrieval.passages import Passage

HIT = Passage(text="长文本 text", title="T", url="https://a.example", score=0.5, origin="x", published="2026-01-02", place="p. 3")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "search.db"


def works(cache: Cache) -> None:
    cache.keep("k", [HIT])
    kept = cache.found("k")
    assert kept is not None
    assert kept.passages == (HIT,)
    assert cache.stands("a", lambda old: Standing(failures=old.failures + 1)).failures == 1
    assert cache.standing("a").failures == 1
    assert cache.untold("A")
    cache.told("A")
    assert not cache.untold("A")


def test_what_was_kept_is_there_for_the_next_process(path: Path) -> None:
    works(Cache(path))
    again = Cache(path).found("k")
    assert again is not None
    assert again.passages == (HIT,)
    assert not Cache(path).untold("A")
    assert path.stat().st_mode & 0o777 == 0o600, "questions are private"


def test_without_a_file_it_works_in_memory() -> None:
    works(Cache(None))


BROKEN = {
    "no database": b"this is no database, and long enough to be read as one" * 100,
    "cut": b"SQLite format 3\x00" + b"\x10\x00" * 20,
    "nothing": b"",
    "garbage below a head": None,
    "other tables": None,
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_is_thrown_away_and_made_anew(path: Path, how: str) -> None:
    works(Cache(path))
    content = BROKEN[how]
    if how == "other tables":
        path.unlink()
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE kept (something TEXT)")
        connection.close()
    elif content is None:
        whole = path.read_bytes()
        path.write_bytes(whole[:100] + os.urandom(len(whole) - 100))
    else:
        path.write_bytes(content)
    works(Cache(path))
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_folder_in_its_place_means_memory_alone(path: Path) -> None:
    path.mkdir(parents=True)
    works(Cache(path))


def test_a_home_that_is_a_file_means_memory_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    works(Cache(tmp_path / "file" / "search.db"))


def test_a_full_disk_means_memory_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(path)
    cache.keep("before", [HIT])
    opened = cache._opened

    def full(path: Path) -> sqlite3.Connection:
        connection = opened(path)
        connection.execute("PRAGMA max_page_count = 1")
        return connection

    monkeypatch.setattr(cache, "_opened", full)
    cache.keep("k", [HIT] * 200)
    kept, before = cache.found("k"), cache.found("before")
    assert kept is not None
    assert len(kept.passages) == 200
    assert before is not None, "what is in is still read"
    assert path.exists()


def test_a_locked_file_means_memory_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    cache = Cache(path)
    cache.told("before")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    works(cache)
    holder.close()
    assert not Cache(path).untold("before"), "and the file is as it was"


def test_rows_of_another_kind_are_as_good_as_none(path: Path) -> None:
    cache = Cache(path)
    works(cache)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE kept SET value = '{\"no\": 1}'")
    connection.commit()
    assert cache.found("k") is None
    assert cache.standing("a") == Standing()
    connection.execute("UPDATE kept SET value = x'ff'")
    connection.commit()
    connection.close()
    assert cache.found("k") is None


def test_old_searches_go_and_so_do_too_many(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1e6]
    cache = Cache(path, clock=lambda: now[0])
    monkeypatch.setattr(module, "MOST", 5)
    cache.told("A")
    for n in range(9):
        now[0] += 1
        cache.keep(str(n), [HIT])
    assert [n for n in range(9) if cache.found(str(n))] == [4, 5, 6, 7, 8]
    now[0] += module.STALE_AGE
    cache.keep("new", [])
    assert [n for n in range(9) if cache.found(str(n))] == [8], "one second short of a week"
    assert not cache.untold("A"), "who was told stays told"


def test_a_clock_that_was_set_back_makes_nothing_fresh_and_nobody_wait(path: Path) -> None:
    now = [1e6]
    cache = Cache(path, clock=lambda: now[0])
    cache.keep("k", [HIT])
    cache.turn("a", 2.0)
    now[0] = 1000.0
    kept = cache.found("k")
    assert kept is not None
    assert not kept.fresh(86400)
    assert kept.stale() == ()
    assert cache.turn("a", 2.0) == 1000.0


def test_turns_are_taken_one_after_the_other_by_many(path: Path) -> None:
    now = 1e6
    taken: list[float] = []
    threads = [threading.Thread(target=lambda: taken.append(Cache(path, clock=lambda: now).turn("a", 2.0))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [now + 2 * n for n in range(8)]


def test_a_key_is_the_same_for_the_same_question() -> None:
    same = {asked_key("x", query, 3, "en") for query in ("What is  A?", "what is a?", "ＷＨＡＴ is A?")}
    others = {asked_key("y", "what is a?", 3, "en"), asked_key("x", "what is a?", 4, "en"), asked_key("x", "what is a?", 3, "zh"), asked_key("x", "b", 3, "en")}
    assert len(same) == 1
    assert len(others | same) == 5


WRITER = """
import sys
from pathlib import Path
from orchestra.retrieval.cache import Cache
from orchestra.retrieval.passages import Passage
cache = Cache(Path(sys.argv[1]))
print("ready", flush=True)
for n in range(10**6):
    cache.keep(str(n % 50), [Passage(text="x" * 2000, title="t", url="https://a.example")])
"""


def test_kill_9_in_the_middle_leaves_a_sound_file(path: Path) -> None:
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        threading.Event().wait(0.15)
        process.kill()
        process.wait()
        process.stdout.close()
        Cache(path).told("A")
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
