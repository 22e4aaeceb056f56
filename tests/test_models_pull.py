"""Bringing a model in: from three sources and from a file, with a registry that is silent, and with Ctrl-C.

The daemon here has a registry whose pace the test sets, and takes blobs as the real one does.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import ollama  # noqa: F401 - takes a second, which would count as silence
import pytest
from command_line import Line, Terminal, bare, line, process, started  # noqa: F401 - fixtures

from orchestra.cli import pulling
from orchestra.errors import DaemonError, DaemonUnreachable, ModelMissing, PullFailed, UsageError
from orchestra.model import transfer
from orchestra.model.catalog import Progress, bring, delete, models, pull, unload
from orchestra.model.client import Client
from orchestra.request import Call
from orchestra.runtime import Blocking, finish
from orchestra.settings import Settings
from orchestra.standin import StandIn

LAYER = "sha256:" + "1" * 64


class Registry:
    """What the daemon's library sends: lines, and what happens before each."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.blobs: dict[str, bytes] = {}
        self.lines: list[tuple[float, dict[str, Any]]] = [(0, {"status": "pulling manifest"}), (0, {"status": "success"})]
        self.refuses = 0
        self.stalls = False
        self.ended = threading.Event()
        self.url = ""

    def paths(self, method: str = "POST") -> list[str]:
        return [path for verb, path, _ in self.asked if verb == method]


class Handler(BaseHTTPRequestHandler):
    registry: Registry

    def do_GET(self) -> None:
        self.registry.asked.append(("GET", self.path, None))
        self.answer(200, [{"version": "0.32.15"}])

    def do_HEAD(self) -> None:
        self.registry.asked.append(("HEAD", self.path, None))
        self.answer(200 if self.path.rpartition("/")[2] in self.registry.blobs else 404, [])

    def do_POST(self) -> None:
        if self.registry.stalls:
            self.registry.ended.wait(30)
            return
        raw = self.rfile.read(int(self.headers["content-length"]))
        if self.path.startswith("/api/blobs/"):
            self.registry.asked.append(("POST", "/api/blobs", len(raw)))
            self.blob(raw)
            return
        body = json.loads(raw)
        self.registry.asked.append(("POST", self.path, body))
        if self.path == "/api/pull":
            self.pull()
        elif self.path == "/api/create":
            known = all(digest in self.registry.blobs for digest in body.get("files", {}).values())
            self.answer(200, [{"status": "parsing GGUF"}, {"status": "success"} if known else {"error": "no such blob"}])
        else:
            self.answer(200, [])

    def blob(self, raw: bytes) -> None:
        wanted, found = self.path.rpartition("/")[2], f"sha256:{hashlib.sha256(raw).hexdigest()}"
        if self.registry.refuses or wanted != found:
            self.answer(self.registry.refuses or 400, [{"error": f"digest mismatch, expected {wanted!r}, got {found!r}"}])
        else:
            self.registry.blobs[found] = raw
            self.answer(201, [])

    def pull(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/x-ndjson")
        self.end_headers()
        try:
            for wait, each in self.registry.lines:
                if self.registry.ended.wait(wait):
                    return
                self.wfile.write(json.dumps(each).encode() + b"\n")
        except OSError:
            self.registry.ended.set()

    def answer(self, status: int, lines: list[dict[str, Any]]) -> None:
        raw = b"".join(json.dumps(each).encode() + b"\n" for each in lines)
        self.send_response(status)
        self.send_header("content-type", "application/x-ndjson")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A daemon with a registry behind it, at which the commands of this process are aimed."""
    registry = Registry()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"registry": registry}))
    server.daemon_threads = True
    registry.url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("OLLAMA_HOST", registry.url)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield registry
    registry.ended.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    """A file that begins as a GGUF file does, of a few chunks."""
    file = tmp_path / "mine.gguf"
    file.write_bytes(b"GGUF" + b"\x07" * (2 * transfer.CHUNK))
    return file


def layer(completed: int, total: int = 100) -> dict[str, Any]:
    return {"status": "pulling 1", "digest": LAYER, "total": total, "completed": completed}


def stepped(source: Any) -> list[Progress]:
    """All steps of a pull, in the sync runtime."""

    async def drained() -> list[Progress]:
        return [step async for step in source]

    return finish(drained())


def client(url: str) -> Client:
    return Client(Blocking(), Settings.read(host=url))


# --- a registry that is silent


def test_silence_is_said_once_and_the_pull_goes_on(registry: Registry) -> None:
    registry.lines = [(0, {"status": "pulling manifest"}), (0.5, layer(1)), (0, layer(100)), (0, {"status": "success"})]
    steps = stepped(pull(client(registry.url), "x", quiet=0.2))
    silent = [step for step in steps if step.silent]
    assert len(silent) == 1
    assert 0.2 <= silent[0].silent < 0.5
    assert [step.status for step in steps if not step.silent] == ["pulling manifest", "pulling 1", "pulling 1", "success"]


def test_lines_that_say_the_same_are_silence_too(registry: Registry) -> None:
    registry.lines = [(0, layer(50)), *[(0.02, layer(50))] * 20, (0, {"status": "success"})]
    steps = stepped(pull(client(registry.url), "x", quiet=0.15))
    assert [step.silent > 0 for step in steps].count(True) == 1


def test_red_who_counts_lines_hears_no_silence(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a watch that takes every line for movement misses a daemon that says the same again and again."""
    seen = transfer._Watch.seen

    def every_line(self: Any, step: Progress) -> None:
        seen(self, Progress(status="anything else"))
        seen(self, step)

    monkeypatch.setattr(transfer._Watch, "seen", every_line)
    registry.lines = [(0, layer(50)), *[(0.02, layer(50))] * 20, (0, {"status": "success"})]
    assert not any(step.silent for step in stepped(pull(client(registry.url), "x", quiet=0.15)))


def test_a_slow_registry_is_not_silent_and_neither_is_the_daemons_own_work(registry: Registry) -> None:
    registry.lines = [
        *[(0.06, layer(number)) for number in range(6)],
        (0, {"status": "verifying sha256 digest"}), (0.4, {"status": "writing manifest"}), (0, {"status": "success"}),
    ]  # fmt: skip
    assert not any(step.silent for step in stepped(pull(client(registry.url), "x", quiet=0.25)))


def test_silence_has_an_end(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "GIVEN_UP", 0.4)
    registry.lines = [(0, {"status": "pulling manifest"}), (30, {"status": "success"})]
    before = time.monotonic()
    with pytest.raises(PullFailed, match="nothing has come"):
        stepped(pull(client(registry.url), "x", quiet=0.1))
    assert time.monotonic() - before < 2


def test_the_note_names_the_other_sources(registry: Registry, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(transfer, "QUIET", 0.1)
    registry.lines = [(0, {"status": "pulling manifest"}), (0.25, {"status": "success"})]
    done = line("pull", "llama3")
    assert (done.code, done.out) == (0, "")
    assert "nothing has come from ollama.com" in done.err
    assert "orchestra pull llama3 --from modelscope; orchestra pull llama3 --from hf" in done.err
    assert "nothing has come" in line("pull", "llama3", "--json").err, "beside the object, on the other stream"


# --- from where


def test_a_short_name_comes_from_elsewhere_by_its_full_name(line: Line, registry: Registry) -> None:  # noqa: F811
    done = line("pull", "llama3", "--from", "modelscope", "--json")
    full = "modelscope.cn/LLM-Research/Meta-Llama-3-8B-Instruct-GGUF"
    assert done.json == {"model": "llama3", "status": "success", "from": full}
    bodies = {path: body for _, path, body in registry.asked}
    assert bodies["/api/pull"]["model"] == full
    assert bodies["/api/copy"] == {"source": full, "destination": "llama3"}


def test_a_base_model_gets_the_template_of_one(line: Line, registry: Registry) -> None:  # noqa: F811
    assert line("pull", "llama3:text", "--from", "hf").code == 0
    made = next(body for _, path, body in registry.asked if path == "/api/create")
    assert made == {"model": "llama3:text", "from": "hf.co/QuantFactory/Meta-Llama-3-8B-GGUF", "template": "{{ .Prompt }}"}
    assert "/api/copy" not in registry.paths()


def test_a_name_of_ones_own(line: Line, registry: Registry) -> None:  # noqa: F811
    assert line("pull", "someone/Thing-GGUF", "--from", "hf", "--as", "thing").code == 0
    assert registry.asked[-1][1:] == ("/api/copy", {"source": "hf.co/someone/Thing-GGUF", "destination": "thing"})
    assert line("pull", "someone/Thing-GGUF", "--from", "hf").code == 0
    assert registry.paths()[-1] == "/api/pull", "without one it keeps its full name"


def test_on_the_stand_in_the_copy_is_really_there(standin: StandIn, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("OLLAMA_HOST", standin.url)
    assert line("pull", "mid", "--as", "mine").code == 0
    assert line("pull", "mid", "--as", "mine:text").code == 0
    kinds = {model["name"]: model["kind"] for model in line("models", "--json").json["models"]}
    assert (kinds["mine"], kinds["mine:text"]) == ("instruct", "base")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("llama3", "--from", "elsewhere"), "library, modelscope, hf"),
        (("mistral", "--from", "hf"), "OWNER/REPOSITORY-GGUF"),
        ((), "orchestra pull --help"),
        (("--gguf", "x.gguf"), "--as NAME"),
        (("--gguf", "no-such.gguf", "--as", "x"), "GGUF"),
    ],
)
def test_what_cannot_be_asked_for(line: Line, registry: Registry, arguments: tuple[str, ...], said: str) -> None:  # noqa: F811
    done = line("pull", *arguments, "--json")
    assert (done.code, done.error["code"]) == (2, "usage_error")
    assert said.lower() in done.error["hint"].lower()
    assert set(registry.paths()) == set(), "nothing was begun"


def test_a_pull_that_fails_names_the_other_sources(line: Line, registry: Registry) -> None:  # noqa: F811
    registry.lines = [(0, {"status": "pulling manifest"}), (0, {"error": "pull model manifest: file does not exist"})]
    done = line("pull", "llama3", "--from", "hf")
    assert done.code == 24
    assert "from elsewhere: orchestra pull llama3 --from modelscope" in done.err
    assert "/api/copy" not in registry.paths()


# --- a file of one's own


def test_a_file_becomes_a_model_and_is_not_sent_twice(line: Line, registry: Registry, gguf: Path) -> None:  # noqa: F811
    done = line("pull", "--gguf", str(gguf), "--as", "mine", "--json")
    assert done.json == {"model": "mine", "status": "success"}
    digest = f"sha256:{hashlib.sha256(gguf.read_bytes()).hexdigest()}"
    assert registry.blobs[digest] == gguf.read_bytes()
    assert registry.asked[-1] == ("POST", "/api/create", {"model": "mine", "files": {"mine.gguf": digest}}), "the template is left to the daemon"
    shown = line("pull", "--gguf", str(gguf), "mine", "--base")
    assert shown.code == 0
    assert registry.paths().count("/api/blobs") == 1
    assert registry.asked[-1][2]["template"] == "{{ .Prompt }}"
    assert "sending" not in shown.err


def test_the_steps_of_a_file(registry: Registry, gguf: Path) -> None:
    steps = stepped(bring(client(registry.url), gguf, "mine"))
    size = gguf.stat().st_size
    assert [step.status for step in steps] == ["reading"] * 3 + ["sending"] * 3 + ["uploaded", "parsing GGUF", "success"]
    sent = [step.completed for step in steps if step.status == "sending"]
    assert (sent, {step.total for step in steps if step.status == "sending"}) == ([transfer.CHUNK, 2 * transfer.CHUNK, size], {size})


def test_a_daemon_that_refuses_a_file(registry: Registry, gguf: Path) -> None:
    registry.refuses = 507
    with pytest.raises(DaemonError, match="507"):
        stepped(bring(client(registry.url), gguf, "mine"))
    assert "/api/create" not in registry.paths()


def test_a_file_that_changes_while_it_is_sent(registry: Registry, gguf: Path) -> None:
    source = transfer.uploaded(registry.url, gguf, gguf.stat().st_size)(Call())
    while next(source).completed < gguf.stat().st_size:
        pass
    gguf.write_bytes(b"GGUF" + b"\x08" * (2 * transfer.CHUNK))
    with pytest.raises(DaemonError, match="digest mismatch"):
        list(source)
    assert registry.blobs == {}


@pytest.mark.parametrize("make", [lambda file: file.write_bytes(b"PK\x03\x04"), lambda file: file.unlink(), lambda file: file.write_bytes(b"")])
def test_a_file_that_is_none(registry: Registry, gguf: Path, make: Callable[[Path], object]) -> None:
    make(gguf)
    with pytest.raises(UsageError):
        stepped(bring(client(registry.url), gguf, "mine"))
    assert registry.asked == []


def test_nobody_there_for_a_file(gguf: Path) -> None:
    with pytest.raises(DaemonUnreachable):
        stepped(bring(client("127.0.0.1:9"), gguf, "mine"))


def test_on_a_real_daemon(real_daemon: str, tmp_path: Path) -> None:
    """What is no model is refused in the daemon's words; the upload itself is taken."""
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF" + os.urandom(64))
    with pytest.raises(PullFailed):
        stepped(bring(client(real_daemon), file, "orchestra-test-broken"))


# --- Ctrl-C, and how far it is


def test_ctrl_c_says_how_to_go_on(registry: Registry) -> None:
    registry.lines = [(0, layer(10)), (30, layer(20))]
    with started("pull", "qwen3:8b", "--from", "hf", OLLAMA_HOST=registry.url) as running:
        while "/api/pull" not in registry.paths():
            assert running.poll() is None
            time.sleep(0.01)
        time.sleep(0.1)
        before = time.monotonic()
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=10)
        assert time.monotonic() - before < 2
    assert running.returncode == 130
    assert "`orchestra pull qwen3:8b --from hf` goes on from here" in err.decode()
    assert "Traceback" not in err.decode()


def test_ctrl_c_while_a_file_is_sent(registry: Registry, gguf: Path) -> None:
    registry.stalls = True
    with started("pull", "--gguf", str(gguf), "--as", "mine", OLLAMA_HOST=registry.url) as running:
        while not registry.paths("HEAD"):
            assert running.poll() is None
            time.sleep(0.01)
        time.sleep(0.2)
        before = time.monotonic()
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=10)
        assert time.monotonic() - before < 3
    assert running.returncode == 130
    assert f"orchestra pull --gguf {gguf} --as mine (a file that has arrived whole is not sent twice)" in err.decode()
    assert "Traceback" not in err.decode()


def test_how_far_fast_and_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    pace = pulling.Pace(lambda: now)

    def at(seconds: float, completed: int) -> str:
        nonlocal now
        now = 100.0 + seconds
        return pace.line(Progress(status="pulling", digest="a", completed=completed, total=4_000_000_000))

    assert at(0, 1_000_000_000) == "", "what was there before counts as no speed"
    assert at(5, 1_100_000_000) == ""
    assert at(10, 1_200_000_000) == "30 % (1.2 GB / 4.0 GB), 20.0 MB/s, 2:20 min left"
    assert at(12, 1_240_000_000) == ""
    assert at(20, 1_200_000_000) == "30 % (1.2 GB / 4.0 GB), 10.0 MB/s, 4:40 min left"
    assert pace.line(Progress(status="pulling manifest")) == ""
    still = pulling.Pace(lambda: now)
    still.line(Progress(status="pulling", digest="b", completed=5, total=10))
    now += 11
    assert still.line(Progress(status="pulling", digest="b", completed=5, total=10)) == "50 % (5 B / 10 B)"
    monkeypatch.setattr("orchestra.cli.words.LANGUAGE", "zh")
    pace = pulling.Pace(lambda: now)
    at(0, 0)
    assert at(4000, 3_999_000_000) == "99 %（4.0 GB / 4.0 GB），999.8 KB/秒，剩余 1 s"


def test_a_bar_for_a_file(registry: Registry, gguf: Path) -> None:
    with Terminal("pull", "--gguf", str(gguf), "--as", "mine", OLLAMA_HOST=registry.url) as screen:
        assert screen.code() == 0
    shown = bare(screen.shown)
    assert "2.1/2.1 MB" in shown
    assert "success" in shown


# --- out of memory again


def test_unloading(standin: StandIn, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("OLLAMA_HOST", standin.url)
    ours = client(standin.url)
    finish(ours.ready("llama3"))
    assert line("models", "--unload", "llama3", "--json").json == {"model": "llama3", "was_loaded": True}
    assert finish(ours.ps()) == []
    assert finish(unload(ours, "llama3")) is False
    assert [card.loaded for card in finish(models(ours))] == [False, False]
    assert "was not loaded" in line("models", "--unload", "llama3").err
    assert line("models", "--unload", "nobody", "--json").error["code"] == "model_missing"
    with pytest.raises(ModelMissing):
        finish(unload(ours, "nobody"))


def made_of(url: str, name: str, origin: str) -> None:
    """A persona on the weights of another model."""
    body = {"model": name, "from": origin, "system": "Be brief.", "stream": False}
    finish(client(url).connection.ask("POST", "/api/create", body))


def test_models_that_share_their_weights_go_together(standin: StandIn) -> None:
    ours = client(standin.url)
    made_of(standin.url, "brief", "llama3")
    finish(ours.ready("llama3"))
    assert finish(unload(ours, "llama3:text")) is False
    assert [row["name"] for row in finish(ours.ps())] == ["llama3:latest"]
    assert finish(unload(ours, "brief")) is True, "it was loaded under the other name"
    assert finish(ours.ps()) == []


def test_unloading_on_a_real_daemon(real_daemon: str, real_model: str) -> None:
    ours = client(real_daemon)
    name = "orchestra-test-brief"
    made_of(real_daemon, name, real_model)
    try:
        finish(ours.ready(real_model))
        assert finish(unload(ours, name)) is True
    finally:
        finish(delete(ours, name))


# --- on the command line


def test_recommended_as_json(standin: StandIn) -> None:
    before = time.monotonic()
    done = process("models", "--recommend", "--json", OLLAMA_HOST=standin.url, LANG="C.UTF-8")
    assert time.monotonic() - before < 3
    whole = done.json
    assert (whole["for"], whole["lang"], whole["context"]) == ("chat", "en", 8192)
    first = whole["recommended"][0]
    assert (first["name"], first["installed"]) == ("llama3", True)
    for each in whole["recommended"]:
        assert {"name", "installed", "fits", "reasons", "command"} <= set(each)
        assert set(each["reasons"]) == {"data", "input", "efficiency", "quantization"}


@pytest.mark.parametrize(("work", "first"), [("chat", "llama3"), ("complete", "llama3:text"), ("search", "llama3"), ("agents", "llama3")])
def test_recommended_for_each_work(standin: StandIn, line: Line, monkeypatch: pytest.MonkeyPatch, work: str, first: str) -> None:  # noqa: F811
    monkeypatch.setenv("OLLAMA_HOST", standin.url)
    assert line("models", "--recommend", "--for", work, "--lang", "zh", "--json").json["recommended"][0]["name"] == first
    shown = line("models", "--recommend", "--for", work, "--lang", "zh")
    assert shown.out.startswith(f"1. {first} (installed)\n   data: ")
    assert "weak in Chinese" in shown.out


def test_recommending_without_a_daemon_or_sense(line: Line, standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    before = time.monotonic()
    done = line("models", "--recommend", "--json")
    assert (done.code, done.error["code"]) == (3, "daemon_unreachable")
    assert time.monotonic() - before < 3
    monkeypatch.setenv("OLLAMA_HOST", standin.url)
    for wrong in (("--for", "poetry"), ("--lang", "fr")):
        assert line("models", "--recommend", *wrong, "--json").error["code"] == "usage_error"


def test_memory_at_a_context(standin: StandIn, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("OLLAMA_HOST", standin.url)
    taken = {size: line("models", "--context", size, "--json").json["models"][0]["memory"] for size in ("1024", "8192", "99999")}
    assert [taken[size]["context"] for size in taken] == [1024, 8192, 8192], "up to the model's own"
    assert taken["8192"]["kv_cache"] == 8 * taken["1024"]["kv_cache"] == 2 * 2 * 2 * 32 * 2 * 8192
    assert taken["8192"]["needed"] == sum(taken["8192"][name] for name in ("weights", "kv_cache", "overhead"))
    model = line("models", "--json").json["models"][0]
    assert (model["fits"], model["verdict"]) == (True, "fits")


def test_a_daemon_elsewhere_is_not_judged_by_this_machine(standin: StandIn, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("OLLAMA_HOST", standin.url)
    monkeypatch.setattr("orchestra.cli.installed.is_here", lambda url: False)
    whole = line("models", "--json").json
    assert (whole["machine"], {model["fits"] for model in whole["models"]}) == (None, {None})
    assert "on another machine" in line("models").err
    assert {each["fits"] for each in line("models", "--recommend", "--json").json["recommended"]} == {None}
