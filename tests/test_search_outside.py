"""Looking things up as the command's user meets it, when the world outside is not as it should be: as processes, at the socket.

What would leave this machine goes to a proxy of this process, which says nothing or refuses.
"""

from __future__ import annotations

import json
import signal
import socket
import socketserver
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import COMMAND, Line, Result, line, process, started, surrounded  # noqa: F401 - fixtures
from services import CANARY, Seen, Service, Told, running_service  # noqa: F401 - fixtures
from small_web import request, serving

from orchestra.retrieval.providers import bocha, google, tavily
from orchestra.settings import Settings
from orchestra.standin import StandIn

QUESTION = "What is the capital of France?"
ANSWER = "The capital of France is Paris. [1]"
UNKNOWN = "Who built the seven bridges of Zzyzx?"


@contextmanager
def proxy(answer: bytes = b"") -> Iterator[tuple[str, list[str]]]:
    """The address of a proxy that answers with so much, or nothing and never; whom it was asked for."""
    asked: list[str] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                asked.append(request(self.request).line.split()[1])
                if answer:
                    self.request.sendall(answer)
                else:
                    self.request.recv(1)  # until the other side leaves
            except OSError:
                pass

    with serving(Handler) as (host, port):
        yield f"http://{host}:{port}", asked


def outside(standin: StandIn, through: str, **more: str) -> dict[str, str]:
    """The environment of a command whose searches go through a proxy."""
    return {"OLLAMA_HOST": standin.url, "ORCHESTRA_SEARCH": "", "https_proxy": through, "http_proxy": through, **more}


# --- the cable is out, or nobody answers


def test_without_an_answer_from_outside_it_ends_within_its_patience(standin: StandIn) -> None:
    standin.script("I do not know.", json.dumps({"keywords": ["Zzyzx", "bridges"]}))
    with proxy() as (silent, asked):
        done = process("ask", UNKNOWN, "--json", stdin=b"", **outside(standin, silent, ORCHESTRA_SEARCH_TIMEOUT="3"))
    assert done.code == 0
    assert 2.9 < done.json["ledger"]["times"]["retrieve"] < 5, "one patience for all services and both rounds"
    assert done.json["text"].startswith("(No sources were found")
    assert (done.json["sources"], done.json["ledger"]["rounds"]) == ([], 2)
    assert "no sources" in done.json["receipt"]["notes"]
    outcomes = {(attempt["name"], attempt["outcome"]) for attempt in done.json["ledger"]["attempts"]}
    assert {("duckduckgo", "unreachable"), ("duckduckgo", "skipped"), ("offline", "nothing")} <= outcomes
    assert asked[0] == "html.duckduckgo.com:443"
    assert len(asked) == len(set(asked)), "nobody is waited for twice"


def test_with_the_cable_out_the_texts_of_this_machine_answer(standin: StandIn) -> None:
    standin.script(ANSWER)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
    began = time.monotonic()
    done = process("ask", QUESTION, stdin=b"", **outside(standin, nowhere))
    assert time.monotonic() - began < 8
    assert done.code == 0
    assert "[1] France  orchestra:texts/france.md" in done.out
    assert "does not answer" not in done.out


# --- Ctrl-C


def interrupted(running: subprocess.Popen[bytes]) -> tuple[Result, float]:
    """How it ends after Ctrl-C, and in how many seconds."""
    began = time.monotonic()
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    return Result(running.returncode, out.decode(), err.decode()), time.monotonic() - began


def waited_for(happened: Callable[[], object]) -> None:
    until = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("search", ["duckduckgo", "wikipedia"])
def test_ctrl_c_while_a_search_hangs(standin: StandIn, search: str) -> None:
    with proxy() as (silent, asked), started("ask", QUESTION, "--search", search, "--json", **outside(standin, silent)) as running:
        waited_for(lambda: asked)
        done, seconds = interrupted(running)
    assert done.code == 130
    assert seconds < 2, "on a machine with nothing else to do a third of a second"
    assert (done.json["text"], done.json["finish_reason"]) == ("", "cancelled")
    assert "Traceback" not in done.err
    assert not standin.asked("/api/chat")


def test_ctrl_c_while_documents_are_embedded(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Valves\n\nThere are seven valves.\n", "utf-8")
    with StandIn(models=["tiny-embed"]) as standin:
        standin.fail("stall_before_headers", path="/api/embed", times=9)
        with started("knowledge", "add", str(tmp_path), "--name", "k", "--embed", "tiny-embed", OLLAMA_HOST=standin.url) as running:
            waited_for(lambda: [seen for seen in standin.requests if seen.path == "/api/embed"])
            done, seconds = interrupted(running)
    assert done.code == 130
    assert seconds < 2
    assert "Traceback" not in done.err
    found = process("knowledge", "search", "valves", "--name", "k", "--json", OLLAMA_HOST="127.0.0.1:9").json
    assert found["hits"][0]["heading"] == "Valves", "what is in is found"


def pages_of(operators: int) -> bytes:
    """A PDF of one page with so many operators, which takes its reader a second for some ten thousand."""
    content = b"BT /F 9 Tf 1 0 0 1 9 9 Tm " + b"(valve) Tj " * operators + b"ET"
    parts = [
        b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] /Contents 4 0 R /Resources << /Font << /F 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content), b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]  # fmt: skip
    body, places = b"%PDF-1.7\n", []
    for number, part in enumerate(parts, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    table = b"xref\n0 6\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    return body + table + b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(body)


def test_ctrl_c_while_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "b.pdf").write_bytes(pages_of(1_000_000))
    with started("knowledge", "add", str(tmp_path)) as running:
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
        waited_for(children.read_text)
        (reader, *_) = children.read_text().split()
        time.sleep(0.5)
        done, seconds = interrupted(running)
    assert done.code == 130, done
    assert seconds < 2
    assert "Traceback" not in done.err
    waited_for(lambda: not Path(f"/proc/{reader}").exists())


# --- keys


def keys() -> dict[str, str]:
    return {row: f"{CANARY}-{row[10:15]}" for row in ("ORCHESTRA_BOCHA_KEY", "ORCHESTRA_TAVILY_KEY", "ORCHESTRA_GOOGLE_KEY")}


REFUSALS: dict[str, Callable[[str], Told]] = {
    "refused": lambda key: Told(401, key.encode()),
    "failed": lambda key: Told(500, f'{{"error": "{key}"}}'.encode()),
    "limited": lambda key: Told(429, key.encode(), {"retry-after": "60"}),
    "moved": lambda key: Told(302, b"", {"location": f"http://other.example/?key={key}"}),
    "a page": lambda key: Told(200, f"<html>{key}</html>".encode()),
    "said in a hit": lambda key: Told(200, json.dumps({"results": [], "error": key, "code": key}).encode()),
}
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("ask", QUESTION, "--trace"), ("ask", QUESTION, "--json"), ("ask", QUESTION, "--trace", "--json", "--stream", "-v", "--debug"),
    ("ask", QUESTION, "--session", "s", "-v"), ("doctor", "--search"), ("doctor", "--search", "--json", "--debug"),
)  # fmt: skip


@pytest.mark.parametrize("told", REFUSALS)
def test_no_key_is_printed_or_stored(
    line: Line, standin: StandIn, service: Service, home: Path, monkeypatch: pytest.MonkeyPatch, told: str  # noqa: F811
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", standin.url)
    for variable, key in keys().items():
        monkeypatch.setenv(variable, key)
    monkeypatch.setenv("ORCHESTRA_GOOGLE_ENGINE", "engine")
    monkeypatch.setenv("ORCHESTRA_SEARCH", "bocha+tavily+google")
    for module in (bocha, tavily, google):
        monkeypatch.setattr(module, "URL", service.url)
    service.told = REFUSALS[told](CANARY)
    said = [line(*command) for command in COMMANDS]
    assert {seen.path[:1] for seen in service.seen} == {"/"}, "they were asked"
    assert any(CANARY in json.dumps(seen.headers) for seen in service.seen), "with their keys"
    assert [each for each in said if CANARY in each.out + each.err] == []
    assert [path.name for path in home.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()] == []
    assert CANARY not in repr(Settings.read())


# --- who will see the question


def test_a_service_is_named_before_it_sees_the_first_question_and_once(standin: StandIn, service: Service) -> None:
    standin.script(ANSWER, ANSWER)
    told_by_then: list[str] = []
    found = json.dumps({"results": [{"title": "France", "url": "https://a.example/", "content": "The capital of France is Paris."}]})
    service.told = Told(200, found.encode(), hang=False)
    about = {"OLLAMA_HOST": standin.url, "ORCHESTRA_SEARCH": "", "ORCHESTRA_SEARXNG": service.url}

    def answer(seen: Seen) -> Told:
        told_by_then.append(reading.recv(65536).decode())
        return Told(200, found.encode())

    reading, writing = socket.socketpair()
    reading.setblocking(False)
    service.told = answer
    with reading, writing:
        one = subprocess.run(
            [*COMMAND, "ask", QUESTION], env=surrounded(about), stdout=subprocess.PIPE, stderr=writing.fileno(), timeout=20, check=True
        )
        reading.recv(65536)
        two = subprocess.run(
            [*COMMAND, "ask", UNKNOWN], env=surrounded(about), stdout=subprocess.PIPE, stderr=writing.fileno(), timeout=20, check=True
        )
        after = reading.recv(65536).decode()
    assert b"[1] France" in one.stdout
    assert b"[1] France" in two.stdout
    assert "your question is sent to " in told_by_then[0]
    assert service.url.removeprefix("http://") in told_by_then[0]
    assert "your question is sent to " not in told_by_then[1] + after
