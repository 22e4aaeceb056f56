"""`knowledge ...`: documents taken in, listed, found and taken out, from the command line and from Python."""

from __future__ import annotations

import asyncio
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import COMMAND, Line, Terminal, bare, chinese, line, started, surrounded  # noqa: F401 - fixtures

from orchestra import AsyncOrchestra, Orchestra
from orchestra.cli import library
from orchestra.errors import KnowledgeMissing, ModelMissing, UsageError
from orchestra.retrieval.knowledge.ingest import Report
from orchestra.standin import StandIn

ROOT = Path(__file__).resolve().parent.parent
NOBODY = "http://127.0.0.1:9"  # a daemon that nobody runs


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No daemon is there unless a test starts one."""
    monkeypatch.setenv("OLLAMA_HOST", NOBODY)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two documents below the folder that the command stands in."""
    folder = tmp_path / "my docs 文档"
    folder.mkdir()
    (folder / "guide.md").write_text("# Guide\n\nThe boiler rests.\n\n## Valves\n\nThere are seven valves.\n", "utf-8")
    (folder / "说明.txt").write_text("上下文窗口决定模型一次能读多少文字。\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    return folder


# --- the project's own documents


def test_the_projects_documents_are_found(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    for name in ("README.md", "README.zh-CN.md", "docs"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    taken = line("knowledge", "add", "README.md", "docs/", "--name", "project", "--json")
    assert (taken.code, taken.json["name"], taken.json["base"]["documents"]) == (0, "project", taken.json["added"])
    found = line("knowledge", "search", "上下文", "--name", "project", "--json").json
    assert found["mode"] == "full_text"
    first = found["hits"][0]
    assert set(first) >= {"source", "heading", "lines", "text", "score"}
    assert (first["source"], "上下文窗口" in first["heading"]) == ("docs/glossary.md", True), "what tells what it is comes first"
    begin, end = first["lines"]
    lines = (tmp_path / first["source"]).read_text("utf-8").split("\n")
    assert first["text"] in "\n".join(lines[begin - 1 : end])  # it may begin within a line
    assert [hit["score"] for hit in found["hits"]] == sorted((hit["score"] for hit in found["hits"]), reverse=True)


# --- add


def test_add_says_in_one_line_what_it_did(line: Line, folder: Path) -> None:  # noqa: F811
    taken = line("knowledge", "add", str(folder))
    assert taken.code == 0
    assert taken.out.startswith("default: 2 documents, 3 chunks (2 new; ")
    assert "found by words alone" in taken.err
    (folder / "guide.md").unlink()
    (folder / "new.txt").write_text("pistons")
    assert line("knowledge", "add", str(folder)).out.startswith("default: 2 documents, 2 chunks (1 new, 1 unchanged, 1 gone; ")


def test_in_chinese(line: Line, folder: Path, chinese: None) -> None:  # noqa: F811
    (folder / "a.bin").write_bytes(bytes(99))
    taken = line("knowledge", "add", str(folder))
    assert taken.out.startswith("default：2 个文档，3 个文本块（新增 2，跳过 1；")
    assert "跳过 my docs 文档/a.bin：不是文本文件" in taken.err
    assert "仅按词检索" in taken.err


def test_what_was_skipped_is_named_and_counted(line: Line, folder: Path) -> None:  # noqa: F811
    for number in range(12):
        (folder / f"{number:02}.bin").write_bytes(bytes(99))
    taken = line("knowledge", "add", str(folder))
    assert taken.code == 0
    assert "skipped my docs 文档/09.bin: it is no text" in taken.err
    assert "skipped 2 more" in taken.err
    listed = line("knowledge", "add", str(folder), "--json").json["skipped"]
    assert (len(listed), listed[11]) == (12, {"path": "my docs 文档/11.bin", "why": "it is no text"})


def test_where_nothing_can_be_read_it_is_an_error(line: Line, folder: Path) -> None:  # noqa: F811
    (folder / "locked.pdf").write_bytes(b"%PDF-1.7")
    refused = line("knowledge", "add", str(folder / "locked.pdf"), "--json")
    assert refused.code == 92
    assert refused.error["message"].startswith("my docs 文档/locked.pdf: it is damaged")


@pytest.mark.parametrize("arguments", [(), ("nothing.md",), ("guide.md", "nothing.md")])
def test_what_is_not_there_is_said_before_anything_is_read(line: Line, folder: Path, arguments: tuple[str, ...]) -> None:  # noqa: F811
    assert line("knowledge", "add", *(str(folder / name) for name in arguments), "--json").error["code"] == "usage_error"
    assert line("knowledge", "list", "--json").json == {"bases": []}


def test_progress_is_told_now_and_then(line: Line, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(library, "BETWEEN", 0.0)
    monkeypatch.setattr("orchestra.retrieval.knowledge.ingest.STEP_SECONDS", 0.0)
    assert "1 of 2 files, 2 chunks, 63 B" in line("knowledge", "add", str(folder)).err


def test_a_bar_on_a_terminal(folder: Path) -> None:
    with Terminal("knowledge", "add", str(folder)) as screen:
        assert screen.code() == 0
    assert "default: 2 documents, 3 chunks (2 new; " in bare(screen.shown)
    assert "\x1b[?25h" in screen.shown, "the cursor is back"


def test_ctrl_c_leaves_a_sound_base(line: Line, folder: Path) -> None:  # noqa: F811
    many = folder / "many"
    many.mkdir()
    for number in range(4000):
        (many / f"{number:05}.txt").write_text(f"boiler number{number}\n")
    with Terminal("knowledge", "add", str(folder)) as screen:
        screen.until("/4002")
        screen.interrupt()
        assert screen.code() == 130
    assert "Traceback" not in screen.shown
    done = line("knowledge", "add", str(folder), "--json")
    assert (done.code, done.json["base"]["documents"]) == (0, 4002)
    assert line("knowledge", "search", "number3999", "--json").json["hits"][0]["source"].endswith("03999.txt")


def test_two_processes_at_once(line: Line, folder: Path) -> None:  # noqa: F811
    for number in range(300):
        (folder / f"{number:05}.txt").write_text(f"boiler number{number}\n")
    with started("knowledge", "add", str(folder), "--json") as one, started("knowledge", "add", str(folder), "--json") as other:
        assert (one.wait(20), other.wait(20)) == (0, 0)
    assert line("knowledge", "list", "--json").json["bases"][0]["documents"] == 302


def test_a_full_disk_keeps_what_is_in(line: Line, folder: Path, home: Path) -> None:  # noqa: F811
    assert line("knowledge", "add", str(folder / "guide.md")).code == 0
    for number in range(100):
        (folder / f"{number:05}.txt").write_text(f"boiler number{number} " + "pistons and valves of number " * 40)
    used = max(path.stat().st_size for path in home.rglob("knowledge.db*"))

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (used + 50_000, resource.RLIM_INFINITY))

    done = subprocess.run(
        [*COMMAND, "knowledge", "add", str(folder)], capture_output=True, env=surrounded({}), preexec_fn=small, timeout=30, check=False
    )
    assert done.returncode == 44, done.stderr
    assert b"no room left" in done.stderr
    assert line("knowledge", "search", "valves", "--json").json["hits"][0]["heading"] == "Guide > Valves"
    assert line("knowledge", "add", str(folder), "--json").json["base"]["documents"] == 102


# --- list, search, remove


def test_list(line: Line, folder: Path) -> None:  # noqa: F811
    assert "knowledge add PATH" in line("knowledge", "list").err
    line("knowledge", "add", str(folder), "--name", "文档")
    (base,) = line("knowledge", "list", "--json").json["bases"]
    assert (base["name"], base["documents"], base["chunks"], base["embedding"], base["vectors"]) == ("文档", 2, 3, "", 0)
    head, row = line("knowledge", "list").out.splitlines()
    assert head.split() == ["NAME", "DOCUMENTS", "CHUNKS", "VECTORS", "CHANGED"]
    assert row.split()[:4] == ["文档", "2", "3", "-"]


def test_search_for_people(line: Line, folder: Path) -> None:  # noqa: F811
    line("knowledge", "add", str(folder))
    head, row = line("knowledge", "search", "how", "many", "valves").out.splitlines()
    assert head.split() == ["SOURCE", "PLACE", "TEXT"]
    assert row.split("  ")[:2] == ["my docs 文档/guide.md", "Guide > Valves, lines 5-7"]
    none = line("knowledge", "search", "zeppelin")
    assert (none.code, none.out) == (0, "")
    assert "nothing was found for 'zeppelin'" in none.err
    assert line("knowledge", "search", "zeppelin", "--json").json == {"hits": [], "mode": "full_text", "why": ""}


def test_a_hit_as_json(line: Line, folder: Path) -> None:  # noqa: F811
    line("knowledge", "add", str(folder))
    (hit,) = line("knowledge", "search", "窗口", "--json").json["hits"]
    assert hit.pop("score") > 0
    assert hit == {
        "source": "my docs 文档/说明.txt", "title": "说明.txt", "heading": "", "lines": [1, 1], "page": None,
        "text": "上下文窗口决定模型一次能读多少文字。",
    }  # fmt: skip


def test_terminal_control_in_documents_stays_out(line: Line, folder: Path) -> None:  # noqa: F811
    (folder / "bad\x1b[31m.txt").write_text("zeppelin \x1b]0;owned\x07 \x1b[2J")
    line("knowledge", "add", str(folder))
    assert "\x1b" not in line("knowledge", "search", "zeppelin").out
    assert "\x1b" not in line("knowledge", "search", "zeppelin", "--json").out


def test_a_base_that_is_not_there(line: Line, folder: Path) -> None:  # noqa: F811
    line("knowledge", "add", str(folder), "--name", "project")
    for command in (("search", "x", "--name", "projekt"), ("remove", "projekt", "--yes")):
        refused = line("knowledge", *command, "--json")
        assert (refused.code, refused.error["code"]) == (91, "knowledge_missing")
        assert "'project'" in refused.error["message"]


def test_remove(line: Line, folder: Path) -> None:  # noqa: F811
    line("knowledge", "add", str(folder))
    assert line("knowledge", "remove", "default", "--json").error["hint"] == "add --yes"
    assert line("knowledge", "remove", "default", str(folder / "guide.md"), "--yes", "--json").json == {"name": "default", "removed": 1}
    assert line("knowledge", "search", "valves", "--json").json["hits"] == []
    assert line("knowledge", "remove", "default", "elsewhere", "--yes").out == "default: 0 documents removed\n"
    assert line("knowledge", "remove", "default", "--yes").out == "default: 1 documents removed\n"
    assert (folder / "guide.md").exists()
    assert line("knowledge", "list", "--json").json == {"bases": []}


@pytest.mark.parametrize(("typed", "code", "left"), [("n\n", 1, 1), ("y\n", 0, 0)])
def test_remove_asks(line: Line, folder: Path, typed: str, code: int, left: int) -> None:  # noqa: F811
    line("knowledge", "add", str(folder))
    with Terminal("knowledge", "remove", "default") as screen:
        screen.until("[y/N]")
        screen.type(typed)
        assert screen.code() == code
    assert len(line("knowledge", "list", "--json").json["bases"]) == left


# --- vectors


EMBEDDER = "tiny-embed"


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A daemon with an embedding model."""
    with StandIn(models=["llama3", EMBEDDER]) as daemon:
        monkeypatch.setenv("OLLAMA_HOST", daemon.url)
        yield daemon.url


def test_vectors_are_made_where_a_model_is_named(line: Line, folder: Path, daemon: str) -> None:  # noqa: F811
    taken = line("knowledge", "add", str(folder), "--embed", EMBEDDER, "--json").json
    assert (taken["base"]["embedding"], taken["base"]["vectors"]) == (EMBEDDER, 3)
    assert line("knowledge", "search", "valves", "--json").json["mode"] == "hybrid"
    (folder / "new.txt").write_text("pistons")
    assert line("knowledge", "add", str(folder), "--json").json["base"]["vectors"] == 4, "the base goes on with its model"
    assert f"4 ({EMBEDDER})" in line("knowledge", "list").out


def test_a_base_with_vectors_works_without_its_daemon(line: Line, folder: Path, daemon: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    line("knowledge", "add", str(folder), "--embed", EMBEDDER)
    monkeypatch.setenv("OLLAMA_HOST", NOBODY)
    (folder / "new.txt").write_text("pistons")
    taken = line("knowledge", "add", str(folder))
    assert (taken.code, "no vectors for what is new: cannot reach Ollama" in taken.err) == (0, True)
    found = line("knowledge", "search", "pistons")
    assert "new.txt" in found.out
    assert "by words alone: cannot reach Ollama" in found.err
    told = line("knowledge", "search", "pistons", "--json").json
    assert (told["mode"], told["why"].startswith("cannot reach Ollama")) == ("full_text", True)


def test_a_model_that_is_not_there_is_said_first(line: Line, folder: Path, daemon: str) -> None:  # noqa: F811
    refused = line("knowledge", "add", str(folder), "--embed", "nothing", "--json")
    assert refused.error["code"] == ModelMissing.code()
    assert line("knowledge", "list", "--json").json == {"bases": []}
    missing = line("knowledge", "add", "--embed", EMBEDDER, "--name", "nothing", "--json")
    assert missing.error["code"] == KnowledgeMissing.code()


def test_the_setting_names_the_model_of_new_bases(line: Line, folder: Path, daemon: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    line("knowledge", "add", str(folder), "--name", "old")
    monkeypatch.setenv("ORCHESTRA_EMBED_MODEL", EMBEDDER)
    assert line("knowledge", "add", str(folder), "--name", "new", "--json").json["base"]["embedding"] == EMBEDDER
    assert line("knowledge", "add", str(folder), "--name", "old", "--json").json["base"]["embedding"] == ""
    assert line("knowledge", "add", "--name", "old", "--embed", EMBEDDER, "--json").json["base"]["vectors"] == 3


# --- Python


def test_from_python(folder: Path) -> None:
    with Orchestra() as orchestra:
        report = orchestra.knowledge.add(folder)
        assert (report.added, report.base and report.base.chunks) == (2, 3)
        *steps, last = orchestra.knowledge.add_stream([folder / "guide.md"], name="guide")
        assert isinstance(last, Report)
        assert len(steps) == 1
        assert [base.name for base in orchestra.knowledge.list()] == ["default", "guide"]
        found = orchestra.knowledge.search("seven valves", name="guide", limit=1)
        assert (found.mode, found.hits[0].chunk.place) == ("full_text", "Guide > Valves, lines 5-7")
        assert orchestra.knowledge.remove("default", folder / "guide.md") == 1
        assert orchestra.knowledge.remove("guide") == 1
        with pytest.raises(UsageError):
            orchestra.knowledge.add([])
        with pytest.raises(KnowledgeMissing):
            orchestra.knowledge.search("x", name="guide")


def test_from_python_on_an_event_loop(folder: Path) -> None:
    async def main() -> None:
        async with AsyncOrchestra() as orchestra:
            report = await orchestra.knowledge.add([folder])
            assert report.added == 2
            found = await orchestra.knowledge.search("valves")
            assert found.hits[0].title == "Guide"
            assert [base.documents for base in await orchestra.knowledge.list()] == [2]
            assert await orchestra.knowledge.remove("default") == 2

    asyncio.run(main())


def test_naming_a_base_asks_no_daemon(folder: Path, standin: StandIn) -> None:
    with Orchestra(host=standin.url) as orchestra:
        orchestra.knowledge.add(folder)
        orchestra.knowledge.search("valves")
        orchestra.knowledge.list()
    assert standin.requests == []


def test_listing_and_searching_load_no_readers() -> None:
    """`search` must not pay for what only reading documents needs."""
    code = "import sys, orchestra.cli.library; print(*({'lxml', 'pypdf', 'docx', 'numpy', 'trafilatura'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == []


def test_a_model_puts_the_best_in_order_where_one_is_named(
    line: Line, folder: Path, standin: StandIn, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", standin.url)
    assert line("knowledge", "add", str(folder)).code == 0
    assert line("knowledge", "search", "boiler").code == 0
    assert standin.asked("/api/chat") == standin.asked("/api/generate") == []
    monkeypatch.setenv("ORCHESTRA_RERANK", "llama3")
    hits = line("knowledge", "search", "boiler", "--json").json["hits"]
    assert len(standin.asked("/api/chat")) == len(hits) > 0
