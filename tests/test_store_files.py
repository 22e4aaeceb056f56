"""The file of the sessions: who may read it, what is done to one that is none, and how its schema moves on."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from orchestra.errors import OrchestraError, StorageFull, StoreCorrupt, StoreTooNew, StoreUnwritable
from orchestra.model.messages import Message
from orchestra.sessions import migrations
from orchestra.sessions.migrations import MIGRATIONS, Migration
from orchestra.sessions.store import Store

HISTORY = [Message("user", "Where is it?"), Message("assistant", "On its way.")]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A store with one session, closed."""
    with Store(tmp_path / "home") as store:
        store.create("s", history=HISTORY)
        return store.path


def mark(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_only_the_owner_may_read_anything(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with Store(tmp_path / "deep" / "home") as store:
            store.create("s", history=HISTORY)
            store.database.backup(tmp_path / "backup.db")
            folder = store.path.parent
            files = [file for file in folder.rglob("*") if file.is_file()]
            assert {file.name.partition("-")[2] for file in files if file.name.startswith("sessions")} == {"", "wal", "shm"}
            assert {mode(file) for file in files} == {0o600}
            assert {mode(folder), mode(folder / "running")} == {0o700}
            assert mode(tmp_path / "backup.db") == 0o600
    finally:
        os.umask(before)


def test_a_file_that_others_may_read_is_closed_to_them(file: Path) -> None:
    file.chmod(0o644)
    with Store(file.parent) as store:
        store.sessions()
        assert mode(file) == 0o600


# --- files that are no store


def text(file: Path) -> None:
    file.write_text("dear diary\n" * 200)


def short_text(file: Path) -> None:
    file.write_text("hello")


def foreign(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")


def branded(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA application_id = 7")


def newer(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("INSERT INTO migration VALUES ('sessions_in_the_year_2100', 0)")
        connection.commit()


def emptied(file: Path) -> None:
    file.write_bytes(b"")
    file.with_name("sessions.db-wal").write_bytes(b"x" * 5000)


def headless(file: Path) -> None:
    file.write_bytes(b"\0" * 100 + file.read_bytes()[100:])


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (text, StoreCorrupt), (short_text, StoreCorrupt), (foreign, StoreCorrupt), (branded, StoreCorrupt),
        (emptied, StoreCorrupt), (headless, StoreCorrupt), (newer, StoreTooNew),
    ],
)  # fmt: skip
def test_what_is_no_store_of_ours_is_left_as_it_is(file: Path, damage: object, fault: type[OrchestraError]) -> None:
    assert callable(damage)
    damage(file)
    before = {each: mark(each) for each in file.parent.iterdir() if each.is_file()}
    with Store(file.parent) as store:
        for attempt in (store.sessions, lambda: store.create("new"), lambda: store.begin("s", "?"), lambda: store.search("s")):
            with pytest.raises(fault) as caught:
                attempt()
            assert str(file) in caught.value.message()
    after = {each: mark(each) for each in file.parent.iterdir() if each.is_file()}
    assert {each: after.get(each) for each in before} == before


def test_an_empty_file_is_a_new_store(file: Path) -> None:
    file.write_bytes(b"")
    with Store(file.parent) as store:
        assert store.sessions() == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with Store(tmp_path_factory.mktemp("whole")) as store:
        for number in range(3):
            store.create(f"s{number}", history=HISTORY * 10)
        return store.path


def use(store: Store) -> Iterator[object]:
    """Everything that a face does with a store."""
    for record in store.sessions():
        yield store.history(record.name)
    yield store.search("way")
    with store.begin("s0", "more", wait=0) as journal:
        journal.append("text")
        yield journal.finish()
    yield store.fork("s0")
    store.delete("s1")


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_file_gives_an_error_of_ours_or_an_answer(whole: Path, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    content = bytearray(whole.read_bytes())
    if seed % 4:
        for _ in range(1 + seed % 40):
            content[chance.randrange(len(content))] = chance.randrange(256)
    else:
        del content[chance.randrange(1, len(content)) :]
    (tmp_path / "sessions.db").write_bytes(content)
    # any other error is what this test is there to find
    with Store(tmp_path, timeout=0.2) as store, contextlib.suppress(OrchestraError):
        assert list(use(store))


# --- folders that cannot be written


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Store(tmp_path / "file" / "home") as store, pytest.raises(StoreUnwritable) as caught:
        store.sessions()
    assert str(tmp_path / "file" / "home") in caught.value.message()
    assert "ORCHESTRA_HOME" in caught.value.hint()


@pytest.mark.parametrize("there", [True, False])
def test_a_read_only_folder_is_named(file: Path, there: bool) -> None:
    # in a process of its own, which gives up being root where it is
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        home = folder / "home"
        home.mkdir()
        if there:
            shutil.copy(file, home / "sessions.db")
            (home / "sessions.db").chmod(0o444)
        home.chmod(0o555)
        code = """
            import os, pathlib, sys
            from orchestra.errors import StoreUnwritable
            from orchestra.sessions.store import Store
            if os.getuid() == 0:
                os.setuid(65534)
            with Store(pathlib.Path(sys.argv[1])) as store:
                try:
                    store.create("s")
                except StoreUnwritable as fault:
                    print(fault.exit_code)
            """
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        command = [sys.executable, "-c", textwrap.dedent(code), str(home)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)
        assert (result.stdout, result.stderr) == (f"{StoreUnwritable.exit_code}\n", "")
    finally:
        shutil.rmtree(folder)


# --- backup and migrations


def test_a_backup_is_a_store_while_others_go_on(file: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    with Store(file.parent) as store:
        running = store.begin("s", "meanwhile")
        store.database.backup(tmp_path / "copy" / "sessions.db")
        running.append("done")
        running.finish()
        with Store(tmp_path / "copy") as copy:
            assert [turn.question for turn in copy.history("s")] == ["Where is it?", "meanwhile"]
            assert copy.search("way")[0].session == "s"
        with pytest.raises(StoreUnwritable):
            store.database.backup(tmp_path / "copy" / "sessions.db")
        with pytest.raises(StoreUnwritable):
            store.database.backup(tmp_path / "nowhere" / "sessions.db")


def session_colour(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE session ADD COLUMN colour TEXT DEFAULT 'blue'")


def session_taste(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE session ADD COLUMN taste TEXT DEFAULT 'sweet'")


def broken(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE session SET name = 'gone'")
    connection.execute("ALTER TABLE session ADD COLUMN colour TEXT")


def full(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA max_page_count = 1")
    connection.execute("CREATE TABLE big (x)")


def copies(file: Path) -> list[Path]:
    return list(file.parent.glob("sessions-before-*.db"))


def with_steps(monkeypatch: pytest.MonkeyPatch, *steps: Migration) -> None:
    monkeypatch.setattr(migrations, "MIGRATIONS", [*MIGRATIONS, *steps])


def columns(store: Store) -> set[str]:
    return store.database.read(lambda c: {row[1] for row in c.execute("PRAGMA table_info(session)")})


def test_a_new_file_needs_no_copy(file: Path) -> None:
    with Store(file.parent) as store:
        store.sessions()
    assert copies(file) == []


def test_a_migration_keeps_a_copy_of_what_was_there(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_steps(monkeypatch, session_colour, session_taste)
    with Store(file.parent) as store:
        assert {"colour", "taste"} <= columns(store)
        assert store.history("s")[0].answer == "On its way."
    (copy,) = copies(file)
    assert "before-session_colour" in copy.name
    assert mode(copy) == 0o600
    # the copy is whole and of the old schema; an Orchestra that does not know the new one leaves the file alone
    monkeypatch.setattr(migrations, "MIGRATIONS", MIGRATIONS)
    (file.parent / "old").mkdir()
    copy.rename(file.parent / "old" / "sessions.db")
    with Store(file.parent / "old") as store:
        assert store.history("s")[0].answer == "On its way."
        assert "colour" not in columns(store)
    with Store(file.parent) as store, pytest.raises(StoreTooNew) as caught:
        store.sessions()
    assert "session_colour, session_taste" in caught.value.message()


def test_dialogues_of_before_segments_are_carried_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, before = tmp_path / "sessions.db", [step for step in MIGRATIONS if step.__name__ != "segments"]
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", before)
        with closing(sqlite3.connect(path, isolation_level=None)) as old:
            migrations.migrate(old, path)
            old.execute("INSERT INTO session VALUES (1, 'x', 'old', NULL, 'lawyer', NULL, 'en', 'chat', '[]', NULL, 1, 1.0, 1.0)")
            columns = "seq, id, session, root, depth, question, answer, thinking, status, model, created"
            old.execute(f"INSERT INTO turn ({columns}) VALUES (1, 'y', 1, 1, 1, 'May I sue?', 'Yes.', '', 'done', 'llama3', 1.0)")
            old.execute("UPDATE session SET head = 1")
    with Store(tmp_path) as store:
        found = store.session("old")
        assert (found.persona, found.auto, found.turns) == ("lawyer", False, 1)
        assert [(turn.question, turn.answer, turn.persona) for turn in store.history("old")] == [("May I sue?", "Yes.", None)]
    (copy,) = copies(path)
    assert "before-segments" in copy.name
    monkeypatch.setattr(migrations, "MIGRATIONS", before)
    with Store(tmp_path) as store, pytest.raises(StoreTooNew):
        store.sessions()


@pytest.mark.parametrize(("step", "fault"), [(broken, OrchestraError), (full, StorageFull)])
def test_a_migration_that_fails_changes_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch, step: Migration, fault: type[OrchestraError]
) -> None:
    with_steps(monkeypatch, session_colour, step)
    with Store(file.parent) as store, pytest.raises(fault):
        store.sessions()
    with_steps(monkeypatch, session_colour)
    with Store(file.parent) as store:
        assert [record.name for record in store.sessions()] == ["s"]
        assert "colour" in columns(store)


def test_a_step_that_another_process_makes_meanwhile_is_not_made_twice(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_steps(monkeypatch, session_colour)
    copy = migrations.copy

    def copied_while_another_migrates(connection: sqlite3.Connection, target: Path) -> None:
        copy(connection, target)
        monkeypatch.setattr(migrations, "copy", copy)
        with Store(file.parent) as quicker:
            assert "colour" in columns(quicker)

    monkeypatch.setattr(migrations, "copy", copied_while_another_migrates)
    with Store(file.parent) as store:
        assert "colour" in columns(store)
        steps = store.database.read(lambda c: [name for (name,) in c.execute("SELECT name FROM migration")])
    assert sorted(steps) == sorted(step.__name__ for step in (*MIGRATIONS, session_colour))


def test_the_names_of_steps_never_change() -> None:
    # released steps are only followed by others: whoever changes this list locks people out of their sessions
    assert [step.__name__ for step in MIGRATIONS] == ["sessions", "turns", "words", "compactions", "grounds", "segments"]
