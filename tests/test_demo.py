"""The demo does what it says, and says so when it does not: each scene has a broken setting that it must notice."""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from command_line import Line, Terminal, bare, line, process
from rich.cells import cell_len
from rich.console import Console

from orchestra.api import Orchestra
from orchestra.cli import words
from orchestra.cli.demo import interruption, show, together
from orchestra.cli.demo.recorded import Replay, plain_client, recording
from orchestra.cli.demo.stage import BAR, Card, Stage
from orchestra.cli.demo.world import Found, Record, World, looked_for
from orchestra.errors import DaemonUnreachable
from orchestra.model.client import Client
from orchestra.model.messages import Message
from orchestra.model.prediction import NextStep
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn

__all__ = ["line"]

NOBODY = "127.0.0.1:1"  # nothing listens there
NAMES = ["loop", "overflow", "kill", "next", "thread", "together", "doors"]
WIRE = Path(__file__).parent / "wire"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(folder=tmp_path / "world")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, also of processes that are started here."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("OLLAMA_HOST", NOBODY)
    return folder


def silent() -> Stage:
    return Stage(Console(quiet=True))


def page(width: int, *, boxed: bool) -> tuple[Stage, io.StringIO]:
    text = io.StringIO()
    console = Console(file=text, width=width, highlight=False, markup=False, emoji=False, force_terminal=boxed, color_system=None)
    return Stage(console, boxed=boxed), text


def children(folder: Path) -> list[str]:
    """The processes that were told of a folder in their environment."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(folder).encode() in file.read_bytes() and b"ORCHESTRA_HOME=" + str(folder).encode() in file.read_bytes():
                found.append(file.parent.name)
        except OSError:
            continue
    return found


# --- the whole


def test_the_demo_runs_without_a_daemon(temporary: Path, home: Path) -> None:
    result = process("demo", "--json", LANG="C", LC_ALL="C", http_proxy="http://127.0.0.1:9", ORCHESTRA_MODEL="no-such-model")
    assert result.code == 0, result
    said = result.json
    assert said["ok"] is True
    assert said["daemon"] == "stand-in"
    assert [scene["name"] for scene in said["scenes"]] == NAMES
    assert all(scene["ok"] for scene in said["scenes"])
    assert said["seconds"] < 60
    loop, overflow, kill, choice, house, team, ways = said["scenes"]
    assert (loop["finish_reason"], loop["kept"], loop["recorded"]["done"]) == ("repetition", "The lake is blue", False)
    assert overflow["summarised"][-1] > 0
    assert (kill["status"], kill["kept"] > 0, kill["exit_code"]) == ("interrupted", True, -9)
    assert choice["candidates"][0][1] > 0.9 > choice["candidates"][1][1] > 0
    assert choice["calls"] == 30
    assert house["ask"]["citations"] == ["yes"]
    assert {step["expert"] for step in team["integrate"]["steps"] if step["ok"]} == {"computer_scientist", "lawyer"}
    assert (team["mended"]["missing"], [step["ok"] for step in team["mended"]["steps"]]) == (["lawyer"], [True, False])
    assert all(ways[path]["text"] and ways[path]["finish_reason"] for path in ("/chat", "/v1/chat/completions", "/api/chat"))
    assert [line.split()[2] for line in ways["lines"]] == ["/chat", "/v1/chat/completions", "/api/chat"]
    assert result.err == ""
    assert list(temporary.iterdir()) == []
    assert not home.exists()


def test_the_demo_on_a_terminal(temporary: Path) -> None:
    with Terminal("demo", "--fast", COLUMNS="120", LINES="40", ORCHESTRA_LANG="zh") as terminal:
        assert terminal.code() == 0
        shown = bare(terminal.shown)
    assert "7 幕中有 7 幕如其所述" in shown
    assert "替身服务" in shown
    assert "ollama pull llama3" in shown
    both = [row for row in shown.splitlines() if row.startswith("╭") and row.count("╭") == 2]
    assert len(both) >= 3, "the first three scenes stand side by side"
    assert cursor_is_back(terminal)
    assert list(temporary.iterdir()) == []


def cursor_is_back(terminal: Terminal) -> bool:
    return terminal.shown.rfind("\x1b[?25h") > terminal.shown.rfind("\x1b[?25l") > 0


def test_ctrl_c_leaves_nothing_behind(temporary: Path) -> None:
    with Terminal("demo", "--fast", COLUMNS="70", ORCHESTRA_LANG="en") as terminal:
        terminal.until("Behind the old house there was")
        assert children(temporary / next(temporary.iterdir()).name / "kill"), "a process of its own speaks"
        terminal.interrupt()
        assert terminal.code() == 130
    assert "Traceback" not in terminal.shown
    assert cursor_is_back(terminal)
    assert list(temporary.iterdir()) == []
    assert children(temporary) == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_demo_in_a_pipe_and_narrow(language: str, monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    monkeypatch.setattr(words, "LANGUAGE", language)
    monkeypatch.setattr(show, "scenes", quick(show.scenes, without="kill"))
    stage, text = page(60, boxed=False)
    performance = show.perform(stage, Settings.read())
    assert performance.ok, [record.broken for record in performance.records]
    lines = text.getvalue().splitlines()
    assert "\x1b" not in text.getvalue()
    assert [row for row in lines if cell_len(row) > 60] == []
    assert [row for row in lines if row != row.rstrip()] == []
    spoken = [row for row in lines if "blue blue" in row or "很蓝，很蓝" in row]
    assert spoken
    assert all(row.strip().startswith(BAR) for row in spoken), "generated words stand behind the bar"
    assert any(words.say("stand-in", "替身服务") in row for row in lines[:8])
    assert any("https://ollama.com/download" in row for row in lines)


def quick(scenes: Callable[[], list[Any]], *, without: str = "", only: str = "") -> Callable[[], list[Any]]:
    chosen = [scene for scene in scenes() if scene[0] != without and only in ("", scene[0])]
    return lambda: chosen


# --- on a real daemon


def test_the_live_scenes_run_on_the_daemon_that_answers(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # it plays a daemon whose words are a model's, and tells the demo none of what it was asked
    with StandIn([Scripted(interruption.story(), pace=interruption.PACE)]) as daemon:
        url = daemon.url
        found = Found(daemon.url, model="llama3", version="0.32.15")
        monkeypatch.setenv("OLLAMA_HOST", daemon.url)
        monkeypatch.setattr(show, "missing", lambda found, folder: [])
        stage, text = page(100, boxed=True)
        performance = show.perform(stage, Settings.read(), found=found)
        asked = daemon.asked("/api/chat")
    said = performance.shown()
    assert said["daemon"] == url
    assert said["ok"], [record.broken for record in performance.records]
    assert f"Ollama 0.32.15 answers at {url}" in text.getvalue()
    assert len(asked) >= 6, "the question, its next turn, the search, two experts and the coordinator"
    assert all(body["options"]["num_predict"] <= 1024 for body in asked)
    assert all(body["options"]["num_predict"] <= 160 for body in asked[-4:] if not body.get("format"))


def test_the_demo_on_a_real_model(real_daemon: str, real_model: str, temporary: Path) -> None:
    said = process("demo", "--json", OLLAMA_HOST=real_daemon).json
    assert said["daemon"] == real_daemon
    assert [scene["ok"] for scene in said["scenes"][:2]] == [True, True]
    assert said["scenes"][4]["ask"]["sources"] == 3


def test_a_stand_in_that_answers_is_named_and_not_used() -> None:
    with StandIn() as daemon:
        found = looked_for(Settings.read(host=daemon.url))
        assert (found.stand_in, found.answers) == (True, True)
        stage, text = page(100, boxed=True)
        show.opening(stage, found)
        assert "a stand-in answers, no real daemon" in text.getvalue()


def test_a_daemon_without_a_model_is_told_from_none() -> None:
    with StandIn(models=[]) as daemon:
        found = looked_for(Settings.read(host=daemon.url))
    assert (found.model, found.answers) == ("", True)
    gone = looked_for(Settings.read(host=NOBODY))
    assert (gone.model, gone.answers) == ("", False)
    assert isinstance(gone.fault, DaemonUnreachable)


# --- the recordings


@pytest.mark.parametrize("scene", ["loop", "overflow", "disconnect"])
def test_the_recordings_are_those_of_the_conformance_tests(scene: str) -> None:
    compared = 0
    for exchange in recording(scene).exchanges:
        file = WIRE / f"{exchange.case}.json"
        if file.exists():
            whole = json.loads(file.read_text("utf-8"))
            response = whole["response"]
            lines = response["lines"] if "lines" in response else response["body"].splitlines()
            assert (exchange.lines, exchange.status) == (lines, response["status"])
            assert exchange.request == json.loads(whole["request"]["body"])
            compared += 1
    assert compared or scene == "disconnect"


def test_the_recorded_bytes_come_out_of_the_socket() -> None:
    import httpx

    (exchange,) = recording("loop").exchanges
    with Replay([exchange]) as url, httpx.Client(trust_env=False) as client:
        answer = client.post(url + exchange.path, json=exchange.request)
    assert answer.status_code == exchange.status
    assert answer.text == "".join(exchange.chunks)
    assert answer.headers["content-type"] == "application/x-ndjson"


def test_a_plain_client_that_complains_is_heard() -> None:
    (refused,) = recording("overflow").cases("overflow-truncate-false")
    (heard,) = plain_client([refused])
    assert "278 tokens" in heard.complaint


# --- red controls: a promise that does not hold


def failed(line: Line, monkeypatch: pytest.MonkeyPatch, scene: str) -> list[str]:
    """Runs one scene as the command does; what it says is broken."""
    monkeypatch.setenv("OLLAMA_HOST", NOBODY)
    monkeypatch.setattr(show, "scenes", quick(show.scenes, only=scene))
    result = line("demo", "--json")
    assert result.code == 1, result
    assert result.json["ok"] is False
    (record,) = result.json["scenes"]
    assert (record["name"], record["ok"]) == (scene, False)
    broken: list[str] = record["broken"]
    return broken


def test_red_without_stopping_criteria(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.model.stopping.Criteria.push", lambda self, text: None)
    assert any(what.startswith("stopped before the daemon") for what in failed(line, monkeypatch, "loop"))


def test_red_where_history_is_cut_in_silence(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = Client.chat

    def cutting(self: Client, messages: Sequence[Message], **rest: Any) -> Any:
        return chat(self, messages[-1:], **rest)

    monkeypatch.setattr(Client, "chat", cutting)
    assert "the receipt counts what became of older turns" in failed(line, monkeypatch, "overflow")


def test_red_where_the_first_message_is_not_found(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.sessions.store.Store.search", lambda self, text, limit=20: [])
    assert failed(line, monkeypatch, "overflow") == ["the first message is found by a search"]


def test_red_where_nothing_is_stored(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "UNPACED_SECONDS", 0.1)
    talks = "import time\nfor _ in range(40): print('word', flush=True); time.sleep(0.02)"
    monkeypatch.setattr(interruption, "COMMAND", (sys.executable, "-c", talks))
    broken = failed(line, monkeypatch, "kill")
    assert "the question is in the session" in broken
    assert "the turn is marked interrupted" in broken


def test_red_where_what_was_on_screen_is_lost(world: World, tmp_path: Path) -> None:
    now = time.monotonic()
    screen = interruption.Screen([(now - 3, "The beginning. "), (now - 0.2, "The end.")], code=-9, killed=now)
    settings = world.settings("kill", NOBODY)
    for kept, lost in (("The beginning. ", False), ("The be", True)):
        record = Record("kill")
        with Orchestra(settings=settings) as orchestra:
            name = orchestra.store.create("demo").name
            with orchestra.store.begin(name, "?") as journal:
                journal.append(kept)
        interruption.kept(Card("", ""), record, settings, screen)
        assert ("what was on screen a second before is in the session" in record.broken) is lost, record.broken
        with Orchestra(settings=settings) as orchestra:
            orchestra.store.delete("demo")


def test_red_where_a_choice_is_not_taken(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ignoring(*_: Any) -> NextStep:
        return NextStep(token="x", logprob=None)

    monkeypatch.setattr("orchestra.model.decoding._forced", ignoring)
    assert failed(line, monkeypatch, "next") == ["what was chosen is said"]


def test_a_daemon_that_tells_no_probabilities_breaks_no_promise(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "scenes", quick(show.scenes, only="next"))
    monkeypatch.setattr(show, "missing", lambda found, folder: [])
    with StandIn(version="0.12.10") as daemon:
        stage, text = page(100, boxed=True)
        performance = show.perform(stage, Settings.read(host=daemon.url), found=Found(daemon.url, model="llama3", version="0.12.10"))
    assert performance.ok
    assert "0.12.11" in text.getvalue()


def test_red_where_nothing_is_looked_up(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.retrieval.offline.Offline.search", lambda self, query, results: [])
    assert "the sources are listed" in failed(line, monkeypatch, "thread")


def test_red_where_an_expert_is_missing(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "DEFAULT_EXPERTS", ("lawyer", "nobody"))
    (why,) = failed(line, monkeypatch, "together")
    assert "nobody" in why


def test_red_where_a_message_goes_astray(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "MESSAGES", ("x", *together.MESSAGES[1:]))
    assert failed(line, monkeypatch, "together") == ["each message finds its persona"]


def test_red_where_the_lawyer_answers_after_all(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def somebody() -> Iterator[str]:
        with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = b'{"response": "The law is settled."}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    monkeypatch.setattr(together, "nobody", somebody)
    assert failed(line, monkeypatch, "together") == ["the expert that is gone is named"]


def test_red_where_a_face_answers_in_another_shape(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.gateway.openai_wire.Told.whole", lambda self, *given: {"choices": []})
    (why,) = failed(line, monkeypatch, "doors")
    assert "/v1/chat/completions" in why


def test_red_where_requests_are_not_reported(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.gateway.reporting.WATCHING", ("/chat",))
    assert failed(line, monkeypatch, "doors") == ["each request is a line"]


def test_without_its_parts_the_last_scene_is_a_line_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert [name for name, _, _ in show.scenes()] == NAMES[:-1]
    monkeypatch.setattr(show, "scenes", quick(show.scenes, only="loop"))
    stage, text = page(100, boxed=False)
    assert show.perform(stage, Settings.read()).ok
    assert "pip install 'orchestra-ollama[serve]'" in text.getvalue()
    assert "orchestra serve" not in text.getvalue()


def test_a_scene_that_fails_is_named_to_people(monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    monkeypatch.setattr("orchestra.model.stopping.Criteria.push", lambda self, text: None)
    monkeypatch.setattr(show, "scenes", quick(show.scenes, only="loop"))
    stage, text = page(80, boxed=False)
    assert not show.perform(stage, Settings.read()).ok
    assert "does not hold: stopped before the daemon" in text.getvalue()
    assert "failed: loop" in text.getvalue()
    assert "✗ stopped, kept, named" in text.getvalue()


# --- the stage


def test_two_panels_are_of_one_height_and_fill_the_width() -> None:
    stage, text = page(110, boxed=True)
    left, right = Card("left", "recorded"), Card("right", "live", live=True)
    left.fact("name", "value")
    for number in range(5):
        right.say(f"line {number}")
    with stage.shown(left, right):
        right.verdict(True, "good")
    rows = [row.rstrip() for row in text.getvalue().splitlines()]
    assert {cell_len(row) for row in rows if row} == {109}
    assert rows[0].count("╭") == rows[-1].count("╰") == 2


def test_generated_words_cannot_reach_the_terminal() -> None:
    stage, text = page(60, boxed=True)
    card = Card("title", "live")
    card.quote("a\x1b[2Jb\x1b]0;title\x07c", dim=True)
    card.fact("label", "x\x1b[31my")
    with stage.shown(card):
        pass
    assert "abc" in text.getvalue()
    assert "xy" in text.getvalue()
    assert "\x1b[2J" not in text.getvalue()


def test_words_that_grow_show_their_end_and_finished_ones_their_beginning() -> None:
    story = " ".join(f"word{number}" for number in range(40))
    shown = {}
    for tail in (True, False):
        stage, text = page(40, boxed=False)
        card = Card("t", "o")
        card.quote(story, dim=True, lines=2, tail=tail)
        with stage.shown(card):
            pass
        shown[tail] = text.getvalue()
    assert "word39" in shown[True]
    assert "word0" not in shown[True].split()
    assert "word0 " in shown[False]
    assert shown[False].rstrip().endswith("…")


def test_the_demo_waits_only_for_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("orchestra.cli.demo.stage.time.sleep", waited.append)
    for pace in (0.0, 1.0):
        Stage(Console(quiet=True), pace=pace).pause(2.5)
    assert waited == [2.5]


def test_every_scene_keeps_its_promises_silently(world: World) -> None:
    for name, _, scene in quick(show.scenes, without="kill")():
        record = show.played(silent(), world, name, scene)
        assert record.ok, record.broken
