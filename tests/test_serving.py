"""`orchestra serve` as processes: addresses, signals, the lesson's three services of which one is killed."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from command_line import PATIENCE, Line, line, started, surrounded  # noqa: F401 - a fixture

from orchestra.cli.greeting import Door, announced, pasted
from orchestra.cli.serving import Served, apps
from orchestra.errors import ExtraMissing, PortTaken
from orchestra.sessions.store import Store
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn

ROOT = Path(__file__).resolve().parent.parent
LESSON = ROOT / "examples" / "lesson"
TASK = "制定人工智能合规标准，避免人工智能伤害人类"
ADDRESS = re.compile(rb"http://127\.0\.0\.1:\d+")


def address(running: subprocess.Popen[bytes]) -> str:
    """Where a service listens, as it says on standard error."""
    assert running.stderr is not None
    for text in running.stderr:
        if found := ADDRESS.search(text):
            return found[0].decode()
    raise AssertionError(f"ended with {running.wait()}")


@contextmanager
def serving(standin: StandIn, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    with started("serve", "--port", "0", *arguments, OLLAMA_HOST=standin.url) as running:
        yield running, address(running)


def asked(url: str, **body: str) -> httpx.Response:
    route = "integrate" if "task" in body else "chat"
    return httpx.post(f"{url}/{route}", json=body, timeout=PATIENCE, trust_env=False)


class Asking(threading.Thread):
    """A question that is asked beside the test."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.answer, self.broke = url, "", False
        self.start()

    def run(self) -> None:
        try:
            self.answer = asked(self.url, intent="说很久").json()["response"]
        except (httpx.HTTPError, ValueError, KeyError):  # no connection any more, or an error that says why
            self.broke = True


def busy(standin: StandIn) -> None:
    until = time.monotonic() + PATIENCE
    while not standin.active and time.monotonic() < until:
        time.sleep(0.01)
    assert standin.active


# --- its end


def test_one_persona_is_served_until_it_is_told_to_end(standin: StandIn) -> None:
    standin.script("依法办理。")
    with serving(standin, "--persona", "lawyer", "--quiet") as (running, url):
        answer = asked(url, intent="数据出境合规吗？").json()
        assert (answer["persona"], answer["response"]) == ("lawyer", "依法办理。")
        running.send_signal(signal.SIGINT)
        assert running.wait(10) == 0
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.read() + running.stderr.read() == b"", "told to be quiet, it says where it listens, and no more"


def test_an_answer_that_is_being_given_is_given_to_its_end(standin: StandIn) -> None:
    standin.script(Scripted("好" * 20, pace=0.05))
    with serving(standin, "--persona", "general") as (running, url):
        asking = Asking(url)
        busy(standin)
        running.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(httpx.ConnectError):
            asked(url, intent="还有人吗？")
        assert running.wait(10) == 0
        asking.join(10)
    assert asking.answer.startswith("好")


def test_told_twice_it_ends_at_once(standin: StandIn) -> None:
    standin.script(Scripted("好" * 400, pace=0.05))
    with serving(standin, "--persona", "general") as (running, url):
        asking = Asking(url)
        busy(standin)
        running.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert running.poll() is None
        before = time.monotonic()
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0
        assert time.monotonic() - before < 5
        asking.join(10)
    assert asking.broke


def test_what_has_not_ended_in_time_says_so_and_is_stored(home: Path) -> None:
    """SIGTERM with answers on their way in each protocol: each has its end, what was said is kept, and the exit code is 0."""
    text = "".join(chr(0x4E00 + 7 * place) for place in range(400))
    own = {"model": "orchestra/general", "stream": True, "messages": [{"role": "user", "content": "请讲一个很长的故事"}]}
    ways: list[tuple[str, dict[str, Any], str]] = [
        ("/api/chat", {**own, "model": "llama3"}, '"done_reason":"incomplete"'),
        ("/api/chat", own, '"done_reason":"incomplete"'),
        ("/v1/chat/completions", {**own, "model": "llama3"}, '"error"'),
        ("/v1/chat/completions", own, '"error"'),
        ("/chat", {"intent": "请讲一个很长的故事", "session": "{}"}, '"code"'),
    ]
    with StandIn([Scripted(text, pace=0.02)] * 50, slots=64) as standin, ThreadPoolExecutor(50) as asking:
        more = {"OLLAMA_HOST": standin.url, "ORCHESTRA_GRACE": "1", "ORCHESTRA_PARALLEL": "64"}
        with started("serve", "--port", "0", **more) as running:
            url = address(running)

            def ended(place: int) -> str:
                path, body, _ = ways[place % len(ways)]
                body = {**body, "session": f"s{place}"} if "session" in body else body
                return httpx.post(url + path, json=body, timeout=PATIENCE, trust_env=False).text

            answers = [asking.submit(ended, place) for place in range(50)]
            until = time.monotonic() + PATIENCE
            while standin.active < 50 and time.monotonic() < until:
                time.sleep(0.02)
            assert standin.active == 50
            running.send_signal(signal.SIGTERM)
            assert running.wait(10) == 0
        for place, answer in enumerate(answers):
            assert ways[place % len(ways)][2] in answer.result().replace(": ", ":"), answer.result()[-300:]
    with Store(home) as store:
        for place in range(4, 50, 5):
            [turn] = store.history(f"s{place}")
            assert turn.answer
            assert text.startswith(turn.answer)


# --- what it says


def test_who_is_served_and_how_to_ask_him() -> None:
    lesson = [app.state.roster for app, _ in apps(Served(lesson=True), Settings.read())]
    said = [announced(roster, "http://127.0.0.1:1") for roster in lesson]
    assert said == [
        ["serving computer_scientist at http://127.0.0.1:1 (Ctrl-C ends it)"],
        ["serving lawyer at http://127.0.0.1:1 (Ctrl-C ends it)"],
        [
            "serving everybody at http://127.0.0.1:1 (Ctrl-C ends it)",
            "  tasks go to standardization_expert, who asks computer_scientist, lawyer",
        ],
    ]
    ((app, _),) = apps(Served(experts=("http://localhost:5000", "a=http://localhost:5001")), Settings.read())
    assert announced(app.state.roster, "x")[1].endswith("who asks http://localhost:5000, a=http://localhost:5001")


def test_what_to_paste_names_the_key_and_never_shows_it() -> None:
    settings = Settings(token="s3cret", tokens="alice=t0ps3cret")
    roster = apps(Served(), settings)[0][0].state.roster
    shown = "\n".join(pasted(Door.of(roster, "http://0.0.0.0:5002", settings)))
    assert "s3cret" not in shown
    assert "http://127.0.0.1:5002/v1, key $ORCHESTRA_TOKEN" in shown, "nobody can connect to 0.0.0.0"
    assert 'Authorization: Bearer $ORCHESTRA_TOKEN"' in shown
    assert "OLLAMA_API_KEY=$ORCHESTRA_TOKEN" in shown
    named = "\n".join(pasted(Door.of(roster, "http://127.0.0.1:1", Settings(tokens="alice=t0ps3cret"))))
    assert "each caller sets ORCHESTRA_TOKEN to a key of ORCHESTRA_TOKENS" in named
    assert "each caller" not in shown
    assert 'api_key=os.environ["ORCHESTRA_TOKEN"]' in shown
    open_ = "\n".join(pasted(Door.of(roster, "http://127.0.0.1:1", Settings())))
    assert "OLLAMA_HOST=http://127.0.0.1:1 ollama run orchestra/auto" in open_
    assert "Authorization" not in open_


def test_the_line_to_try_it_with_is_what_a_shell_understands(standin: StandIn) -> None:
    environment = {"OLLAMA_HOST": standin.url, "ORCHESTRA_LANG": "en", "ORCHESTRA_TOKEN": "s3cret"}
    with started("serve", "--port", "0", "--persona", "lawyer", **environment) as running:
        assert running.stderr is not None
        told = next(text.decode() for text in running.stderr if text.startswith(b"  curl"))
        done = subprocess.run(
            ["bash", "-c", told.removeprefix("  curl")], capture_output=True, check=True, timeout=PATIENCE, env=surrounded(environment)
        )
        rest = [running.stderr.readline().decode() for _ in range(3)]
    assert json.loads(done.stdout)["persona"] == "lawyer"
    assert [each.split()[0] for each in rest] == ["more", "behind", time.strftime("%Y-%m-%d")]
    assert f"a stand-in at {standin.url}, llama3, 1 at once" in rest[1]
    assert "  200  POST /chat  lawyer  -  " in rest[2]


# --- what cannot be served


def test_a_port_that_is_taken(line: Line) -> None:  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = line("serve", "--persona", "lawyer", "--port", str(other.getsockname()[1]))
    assert done.code == PortTaken.exit_code
    assert "--port" in done.err


def test_a_public_address_without_a_token(line: Line) -> None:  # noqa: F811
    done = line("serve", "--host", "0.0.0.0", "--port", "0")
    assert done.code == 2
    assert "ORCHESTRA_TOKEN" in done.err


def test_one_expert_has_no_experts(line: Line) -> None:  # noqa: F811
    assert line("serve", "--persona", "lawyer", "--coordinator").code == 2


@pytest.mark.parametrize(
    ("expert", "said"), [("my expert=http://localhost:1", "'my expert' is no name"), ("a=b", "is no address"), ("lawyre", "lawyer")]
)
def test_an_expert_that_nobody_could_ask_is_said_at_the_start(line: Line, expert: str, said: str) -> None:  # noqa: F811
    done = line("serve", "--port", "0", "--expert", expert)
    assert done.code != 0
    assert said in done.err


def test_without_its_parts_it_says_how_to_get_them(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setitem(sys.modules, "fastapi", None)
    done = line("serve", "--persona", "lawyer")
    assert done.code == ExtraMissing.exit_code
    assert "orchestra-ollama[serve]" in done.err


# --- the lesson


def test_the_lesson_is_three_services() -> None:
    served = apps(Served(lesson=True), Settings.read())
    assert [port for _, port in served] == [5000, 5001, 5002]
    paths: list[set[str]] = [set(app.openapi()["paths"]) for app, _ in served]
    assert [("/chat" in found, "/integrate" in found) for found in paths] == [(True, False), (True, False), (True, True)]


@pytest.fixture
def lesson(standin: StandIn, tmp_path: Path) -> Iterator[dict[str, tuple[subprocess.Popen[bytes], str]]]:
    """The three programs as they stand in examples/lesson, in processes of their own, on free ports."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = {str(5000 + i): str(probe.getsockname()[1]) for i, probe in enumerate(probes)}
    for probe in probes:
        probe.close()
    running: dict[str, Any] = {}
    with ExitStack() as ends:
        for name in ("agent_a", "agent_b", "agent_c"):
            text = (LESSON / f"{name}.py").read_text("utf-8")
            program = tmp_path / f"{name}.py"
            program.write_text(re.sub(r"\b500[012]\b", lambda found: ports[found[0]], text), "utf-8")
            environment = surrounded({"OLLAMA_HOST": standin.url, "PYTHONPATH": str(ROOT)})
            process = subprocess.Popen([sys.executable, str(program)], env=environment, stderr=subprocess.PIPE)
            ends.enter_context(process)
            ends.callback(process.kill)
            running[name] = process
        yield {name: (process, address(process)) for name, process in running.items()}


def test_the_lessons_three_programs(lesson: dict[str, tuple[subprocess.Popen[bytes], str]], standin: StandIn) -> None:
    url = lesson["agent_c"][1]
    body = f'{{"task": "{TASK}"}}'
    command = ["curl", "-s", "-X", "POST", f"{url.replace('127.0.0.1', 'localhost')}/integrate", "-H", "Content-Type: application/json", "-d", body]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE).stdout)
    assert answer["response"].strip()
    assert {step["expert"] for step in answer["steps"]} == {"computer_scientist", "lawyer"}
    assert answer["missing"] == []
    lesson["agent_b"][0].kill()
    lesson["agent_b"][0].wait(10)
    answer = asked(url, task=TASK).json()
    assert answer["response"].strip()
    assert answer["missing"] == ["lawyer"]
    assert standin.reloads == 0
