"""Taking documents in: only what changed, nothing that is gone, and whatever ends the work leaves a sound base."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from orchestra.errors import StorageFull, UsageError
from orchestra.retrieval.knowledge import bases, documents, folders, ingest
from orchestra.retrieval.knowledge.index import Index
from orchestra.retrieval.knowledge.ingest import Progress, Report, add
from orchestra.runtime import Blocking, Looped, finish

NAME = "test"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index(tmp_path / "home") as index:
        yield index


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    return folder


def added(index: Index, *paths: Path | str, name: str = NAME) -> Report:
    return steps(index, *paths, name=name)[1]


def steps(index: Index, *paths: Path | str, name: str = NAME) -> tuple[list[Progress], Report]:
    """All that an ingest says, and its report."""

    async def drained() -> list[Progress | Report]:
        return [step async for step in add(paths, name=name, index=index, runtime=Blocking())]

    *said, report = finish(drained())
    assert isinstance(report, Report)
    return [step for step in said if isinstance(step, Progress)], report


def counts(report: Report) -> tuple[int, int, int, int]:
    return report.added, report.changed, report.unchanged, report.removed


def found(index: Index, words: str) -> list[tuple[str, int]]:
    """File name and first line of the chunks with these words, the best first."""
    numbers = [match.chunk for match in index.text_search(NAME, words)]
    chunks = index.chunks(numbers)
    return [(Path(chunks[n].document.uri).name, chunks[n].chunk.start) for n in numbers]


def later(path: Path, text: str) -> None:
    """Writes a file whose time differs, however coarse the file system's clock is."""
    path.write_text(text, "utf-8")
    stamp = time.time_ns() + 5_000_000_000
    os.utime(path, ns=(stamp, stamp))


# --- what changed


def test_files_and_folders_are_taken_in(index: Index, folder: Path) -> None:
    (folder / "guide.md").write_text("# Guide\n\nThe boiler.\n\n## Numbers\n\nSeven valves.\n", "utf-8")
    (folder / "sub dir 目录").mkdir()
    (folder / "sub dir 目录" / "说 明.txt").write_bytes("上下文窗口决定模型一次能读多少文字。".encode("gb18030"))
    said, report = steps(index, folder)
    assert counts(report) == (2, 0, 0, 0)
    assert (report.chunks, report.skipped, report.name) == (3, (), NAME)
    assert (said[-1].number, said[-1].total, said[-1].chunks) == (2, 2, 3)
    assert said[-1].bytes == report.bytes == sum(path.stat().st_size for path in folder.rglob("*.*"))
    assert found(index, "valves") == [("guide.md", 5)]
    assert found(index, "窗口") == [("说 明.txt", 1)]
    documents = index.documents(NAME)
    assert {(document.title, document.language) for document in documents.values()} == {("Guide", "en"), ("说 明.txt", "zh")}


def test_the_second_time_nothing_is_read(index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.txt").write_text("boiler")
    added(index, folder)
    monkeypatch.setattr(ingest, "kind_of", None)
    assert counts(added(index, folder)) == (0, 0, 1, 0)


def test_a_file_that_was_only_touched_stays(index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.txt").write_text("boiler")
    added(index, folder)
    later(folder / "a.txt", "boiler")
    monkeypatch.setattr(ingest, "read", None)
    assert counts(added(index, folder)) == (0, 0, 1, 0)


def test_a_changed_file_replaces_its_chunks(index: Index, folder: Path) -> None:
    (folder / "a.txt").write_text("the boiler has seven valves")
    added(index, folder)
    later(folder / "a.txt", "the boiler has eight pistons")
    assert counts(added(index, folder)) == (0, 1, 0, 0)
    assert (found(index, "valves"), found(index, "pistons")) == ([], [("a.txt", 1)])
    assert index.base(NAME).chunks == 1


def test_what_is_gone_is_taken_out(index: Index, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "docs-other"  # begins with the folder's name and is not in it
    other.mkdir()
    for path in (folder / "a.txt", folder / "b.txt", other / "c.txt"):
        path.write_text("boiler")
    added(index, folder, other)
    (folder / "a.txt").unlink()
    (other / "c.txt").unlink()
    assert counts(added(index, folder)) == (0, 0, 1, 1)
    assert sorted(name for name, _ in found(index, "boiler")) == ["b.txt", "c.txt"]


def test_a_renamed_file_is_found_under_its_new_name_alone(index: Index, folder: Path) -> None:
    (folder / "a.txt").write_text("boiler")
    added(index, folder)
    (folder / "a.txt").rename(folder / "b.txt")
    assert counts(added(index, folder)) == (1, 0, 0, 1)
    assert found(index, "boiler") == [("b.txt", 1)]


def test_a_folder_that_cannot_be_looked_into_keeps_its_own(index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "a.txt").write_text("boiler")
    added(index, folder)
    listdir = os.listdir

    def refused(path: str) -> list[str]:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refused)
    report = added(index, folder)
    assert counts(report) == (0, 0, 0, 0)
    assert [skipped.why.en for skipped in report.skipped] == ["Permission denied"]
    assert found(index, "boiler")


# --- what a folder holds


def listed(*paths: Path | str) -> tuple[list[str], int]:
    listing = folders.listed(paths)
    return [Path(file.path).name for file in listing.files], listing.hidden


def test_hidden_files_and_the_tools_own_are_passed_over(folder: Path) -> None:
    for name in (".git", "node_modules", "__pycache__", ".venv", "my env", "kept"):
        (folder / name).mkdir()
        (folder / name / "a.txt").write_text("x")
    (folder / "my env" / "pyvenv.cfg").write_text("home = /usr")
    (folder / ".hidden").write_text("x")
    assert listed(folder) == (["a.txt"], 6)
    # what is named is meant
    assert listed(folder / ".hidden", folder / ".git") == ([".hidden", "a.txt"], 0)


def test_no_link_is_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.txt").write_text("x")
    (folder / "a").mkdir()
    (folder / "a" / "one.txt").write_text("x")
    links = {"a/up": folder, "again": folder / "a", "self": folder / "self", "out": tmp_path / "secret", "key": tmp_path / "secret" / "key.txt"}
    for name, target in links.items():
        (folder / name).symlink_to(target)
    listing = folders.listed([folder])
    assert [Path(file.path).name for file in listing.files] == ["one.txt"]
    assert (sorted(Path(path).name for path, _ in listing.refused), listing.hidden) == (["key", "out"], 3)
    # what is named is meant, and each file is taken once
    assert listed(folder / "out", folder / "key")[0] == ["key.txt", "key"]
    assert listed(folder, folder / "a", folder / "a" / "one.txt")[0] == ["one.txt"]


def test_a_pipe_is_not_waited_for(index: Index, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert [why.en for _, why in added(index, folder).skipped] == ["it is no regular file"]


def test_names_that_are_no_unicode(index: Index, folder: Path) -> None:
    path = os.fsencode(folder) + b"/caf\xe9.txt"
    with open(path, "w") as file:
        file.write("boiler")
    added(index, folder)
    assert found(index, "boiler") == [("caf\ufffd.txt", 1)]
    assert counts(added(index, folder)) == (0, 0, 1, 0)


def test_a_path_that_is_not_there_is_an_error_before_anything(index: Index, folder: Path) -> None:
    (folder / "a.txt").write_text("boiler")
    with pytest.raises(UsageError, match=r"nothing\.md: No such file"):
        added(index, folder, folder / "nothing.md")
    assert index.bases() == []


# --- what cannot be read


def test_one_file_that_cannot_be_read_stops_nothing(index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.txt").write_text("boiler")
    (folder / "b.pdf").write_bytes(b"%PDF-1.7 broken")
    (folder / "c.bin").write_bytes(bytes(range(256)))
    (folder / "d.txt").write_text("x" * 2000)
    (folder / "e.txt").write_text("boiler")
    monkeypatch.setattr(ingest, "LARGEST", 1999)
    report = added(index, folder)
    assert counts(report) == (2, 0, 0, 0)
    assert [Path(path).name for path, _ in report.skipped] == ["b.pdf", "c.bin", "d.txt"]
    assert all(why.en and why.zh for _, why in report.skipped)
    assert "damaged" in report.skipped[0].why.en


def test_a_file_without_permission_is_named(index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.txt").write_text("boiler")
    (folder / "b.txt").write_text("boiler")

    def refused(path: str, *mode: Any) -> Any:
        if path.endswith("a.txt"):
            raise PermissionError(13, "Permission denied")
        return open(path, *mode)

    monkeypatch.setattr(ingest, "open", refused, raising=False)
    report = added(index, folder)
    assert (report.added, report.skipped[0].why.en) == (1, "Permission denied")


def test_without_the_extra_the_other_files_go_in(index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.txt").write_text("boiler")
    (folder / "b.pdf").write_bytes(b"%PDF-1.7")
    monkeypatch.setitem(sys.modules, "pypdf", None)
    report = added(index, folder)
    assert report.added == 1
    assert "orchestra-ollama[knowledge]" in report.skipped[0].why.en


def test_a_file_that_turned_unreadable_keeps_what_was_in(index: Index, folder: Path) -> None:
    (folder / "a.txt").write_text("boiler")
    added(index, folder)
    (folder / "a.txt").write_bytes(bytes(range(256)))
    report = added(index, folder)
    assert (counts(report), len(report.skipped)) == ((0, 0, 0, 0), 1)
    assert found(index, "boiler")


def test_only_the_beginning_of_what_is_no_text_is_read(index: Index, folder: Path) -> None:
    with open(folder / "film.bin", "wb") as film:
        film.write(bytes(16))
        film.truncate(documents.LARGEST)
    report = added(index, folder)
    assert (report.bytes, report.skipped[0].why.en) == (0, "it is no text")


# --- many


def many(folder: Path, number: int) -> None:
    for place in range(number):
        (folder / f"{place:05}.txt").write_text(f"boiler number{place} with valves\n")


def test_it_says_how_far_it_is(index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many(folder, 20)
    monkeypatch.setattr(ingest, "STEP_SECONDS", 0.0)
    said, report = steps(index, folder)
    assert [step.number for step in said] == list(range(1, 21))
    assert {step.total for step in said} == {20}
    assert said[9].file.endswith("00009.txt")
    assert report.seconds > 0


def test_lots_are_written_as_they_fill(index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many(folder, 25)
    sizes = recorded(index, monkeypatch)
    monkeypatch.setattr(ingest, "LOT", 10)
    added(index, folder)
    assert sizes == [10, 10, 5]


def test_a_slow_lot_is_written_before_it_is_full(index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many(folder, 3)
    sizes = recorded(index, monkeypatch)
    monkeypatch.setattr(ingest, "LOT_SECONDS", 0.0)
    added(index, folder)
    assert sizes == [1, 1, 1]


def recorded(index: Index, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many documents each transaction takes in."""
    sizes: list[int] = []
    putting = index.putting

    def counted(name: str, items: Any) -> Future[None]:
        sizes.append(len(items))
        return putting(name, items)

    monkeypatch.setattr(index, "putting", counted)
    return sizes


def test_leaving_early_keeps_what_was_written(index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many(folder, 30)
    monkeypatch.setattr(ingest, "LOT", 10)
    monkeypatch.setattr(ingest, "STEP_SECONDS", 0.0)

    async def left() -> None:
        stream = add([folder], name=NAME, index=index, runtime=Blocking())
        async for step in stream:
            if isinstance(step, Progress) and step.number == 15:
                break
        await stream.aclose()

    finish(left())
    index.database.write(lambda connection: None)  # the lot that was being written is done first
    assert index.base(NAME).documents == 10
    assert counts(added(index, folder)) == (20, 0, 10, 0)


def test_a_full_disk_keeps_what_is_in(index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many(folder, 30)
    monkeypatch.setattr(ingest, "LOT", 10)
    lots, replace = iter(range(9)), bases.replace

    def full(*lot: Any) -> list[tuple[int, str]]:
        if next(lots) == 2:
            raise StorageFull(path="knowledge.db", free=0)
        return replace(*lot)

    monkeypatch.setattr(bases, "replace", full)
    with pytest.raises(StorageFull):
        added(index, folder)
    assert len(index.documents(NAME)) == 20
    assert found(index, "number7") == [("00007.txt", 1)]
    assert counts(added(index, folder)) == (10, 0, 20, 0)


def test_a_killed_process_is_gone_on_from(index: Index, folder: Path, tmp_path: Path) -> None:
    many(folder, 400)
    code = f"""
import sys
from orchestra.retrieval.knowledge import ingest
from orchestra.retrieval.knowledge.index import Index
from orchestra.runtime import Blocking, finish
from pathlib import Path
ingest.LOT, ingest.STEP_SECONDS = 50, 0.0
async def run():
    async for step in ingest.add([sys.argv[1]], name={NAME!r}, index=Index(Path(sys.argv[2])), runtime=Blocking()):
        print(step.number, flush=True)
finish(run())
"""
    with subprocess.Popen([sys.executable, "-c", code, str(folder), str(tmp_path / "home")], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.strip() == "170":
                running.send_signal(signal.SIGKILL)
                break
    kept = len(index.documents(NAME))
    assert kept % 50 == 0
    assert 100 <= kept < 400
    assert counts(added(index, folder)) == (400 - kept, 0, kept, 0)
    assert index.base(NAME).chunks == 400


def test_two_at_once_are_both_fine(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many(folder, 60)
    monkeypatch.setattr(ingest, "LOT", 7)
    reports: list[Report] = []

    def work() -> None:
        with Index(tmp_path / "home") as own:
            reports.append(added(own, folder))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Index(tmp_path / "home") as index:
        assert (len(reports), index.base(NAME).documents, index.base(NAME).chunks) == (2, 60, 60)
        assert found(index, "number59") == [("00059.txt", 1)]


def test_on_an_event_loop_others_go_on(index: Index, folder: Path) -> None:
    many(folder, 300)

    async def beside(stream: AsyncGenerator[Progress | Report]) -> tuple[Report, int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        ticking = asyncio.ensure_future(tick())
        *_, report = [step async for step in stream]
        ticking.cancel()
        assert isinstance(report, Report)
        return report, ticks

    report, ticks = asyncio.run(beside(add([folder], name=NAME, index=index, runtime=Looped())))
    assert report.added == 300
    assert ticks >= 5


@pytest.mark.slow
def test_ten_thousand_files_with_one_that_cannot_be_read(index: Index, folder: Path) -> None:
    many(folder, 10_000)
    (folder / "05000.txt").write_bytes(bytes(range(256)))
    report = added(index, folder)
    assert (counts(report), len(report.skipped)) == ((9_999, 0, 0, 0), 1)
    assert counts(added(index, folder)) == (0, 0, 9_999, 0)


def test_a_thousand_files_with_one_that_cannot_be_read(index: Index, folder: Path) -> None:
    many(folder, 1_000)
    (folder / "00500.txt").write_bytes(bytes(range(256)))
    report = added(index, folder)
    assert (counts(report), len(report.skipped)) == ((999, 0, 0, 0), 1)
