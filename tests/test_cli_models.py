"""`models`, `show`, `pull` and `standin`, as their users meet them."""

from __future__ import annotations

import json
import signal
import socket
import urllib.request

import pytest
from command_line import Line, Terminal, bare, chinese, line, process, started  # noqa: F401 - fixtures

from orchestra.model.client import Client
from orchestra.runtime import Blocking, finish
from orchestra.settings import Settings
from orchestra.standin import StandIn

pytestmark = pytest.mark.usefixtures("named")


@pytest.fixture
def named(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of this process talk to the stand-in."""
    monkeypatch.setenv("OLLAMA_HOST", standin.url)


def test_models_as_json(line: Line, standin: StandIn) -> None:  # noqa: F811
    finish(Client(Blocking(), Settings.read()).ready("llama3"))
    models = {model["name"]: model for model in line("models", "--json").json["models"]}
    assert set(models) == {"llama3", "llama3:text"}
    assert [models[name]["kind"] for name in ("llama3", "llama3:text")] == ["instruct", "base"]
    assert (models["llama3"]["loaded"], models["llama3"]["window"], models["llama3"]["context"]) == (True, 4096, 8192)
    assert not models["llama3:text"]["loaded"]
    assert len(standin.asked("/api/show")) == 3  # one for each model, and one to load


def test_models_in_columns(line: Line) -> None:  # noqa: F811
    done = line("models")
    head, *rows = done.out.splitlines()
    assert head.split() == ["NAME", "SIZE", "PARAMS", "QUANT", "CONTEXT", "KIND", "MEMORY", "LOADED"]
    assert sorted(row.split()[0] for row in rows) == ["llama3", "llama3:text"]
    assert {row.index("F16") for row in rows} == {head.index("QUANT")}
    assert done.err == ""


@pytest.mark.usefixtures("chinese")
def test_models_in_chinese(line: Line) -> None:  # noqa: F811
    done = line("models")
    assert done.out.startswith("名称")
    assert "基础" in done.out


def test_no_models(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    with StandIn(models=[]) as daemon:
        monkeypatch.setenv("OLLAMA_HOST", daemon.url)
        done = line("models")
        assert (done.code, done.out) == (0, "")
        assert "orchestra pull" in done.err
        assert line("models", "--json").json["models"] == []


def test_show(line: Line) -> None:  # noqa: F811
    whole = line("show", "llama3", "--json").json
    assert (whole["kind"], whole["context"], whole["quantization"]) == ("instruct", 8192, "F16")
    assert "{{ .Prompt }}" in whole["template"]
    shown = line("show", "llama3:text").out
    assert "kind: base" in shown
    assert "context: 8192 token" in shown
    done = line("show", "lama3", "--json")
    assert (done.code, done.error["code"]) == (4, "model_missing")
    assert "llama3" in done.error["message"]


def test_text_of_a_model_is_harmless(line: Line, standin: StandIn) -> None:  # noqa: F811
    body = {"model": "evil", "from": "llama3", "system": "be\x1b]52;c;eA==\x07 good \x9b31m", "stream": False}
    urllib.request.urlopen(urllib.request.Request(standin.url + "/api/create", json.dumps(body).encode())).read()
    shown = line("show", "evil").out
    assert "system: be good" in shown
    assert "\x1b" not in shown
    assert "\x9b" not in shown


# --- pull


def test_a_pull_in_a_pipe_is_a_line_for_each_status(line: Line) -> None:  # noqa: F811
    done = line("pull", "llama3")
    assert (done.code, done.out) == (0, "")
    lines = done.err.splitlines()
    assert (lines[0], lines[-1]) == ("pulling manifest", "success")
    assert len(lines) == len(set(lines)) == 7
    assert any(said.endswith(" MB)") for said in lines)


def test_a_pull_as_json(line: Line) -> None:  # noqa: F811
    done = line("pull", "llama3", "--json")
    assert (done.code, done.json, done.err) == (0, {"model": "llama3", "status": "success"}, "")
    failed = line("pull", "nothing", "--json")
    assert (failed.code, failed.error["code"]) == (24, "pull_failed")
    assert "goes on where it stopped" in failed.error["hint"]


def test_a_pull_on_a_terminal_has_a_bar(standin: StandIn) -> None:
    with Terminal("pull", "llama3", OLLAMA_HOST=standin.url) as screen:
        assert screen.code() == 0
    shown = bare(screen.shown)
    last = [each for each in shown.replace("\r", "\n").splitlines() if "━" in each][-1]
    assert "2.8/2.8 MB" in last, "the bar is that of the largest layer"
    assert "success" in shown
    assert "\x1b[?25h" in screen.shown, "the cursor is back"


def test_ctrl_c_in_a_pull_says_that_it_goes_on(standin: StandIn) -> None:
    standin.fail("stall_before_headers", path="/api/pull")
    with Terminal("pull", "llama3", OLLAMA_HOST=standin.url, ORCHESTRA_LANG="zh") as screen:
        while not standin.asked("/api/pull"):
            screen.read_a_moment()
        screen.interrupt()
        assert screen.code() == 130
    assert "会从此处继续" in bare(screen.shown)
    assert "Traceback" not in screen.shown


# --- standin


def test_the_stand_in_runs_until_ctrl_c(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    with started("standin", "--port", "0", "--window", "2048", "--model", "llama3") as running:
        assert running.stdout is not None
        url, host = (running.stdout.readline().decode().strip() for _ in range(2))
        assert host == f"OLLAMA_HOST={url.removeprefix('http://')}"
        monkeypatch.setenv("OLLAMA_HOST", host.partition("=")[2])
        done = line("chat", "Hello", "--json")
        assert done.json["receipt"]["window"] == 2048
        assert "stand-in" in done.err
        assert [model["name"] for model in line("models", "--json").json["models"]] == ["llama3"]
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=10)
    assert running.returncode == 0
    assert "no model" in err.decode()
    assert "has ended" in err.decode()
    assert "Traceback" not in err.decode()


def test_the_stand_in_needs_a_free_port_and_a_known_model(line: Line) -> None:  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        done = line("standin", "--port", port, "--json")
    assert (done.code, done.error["code"]) == (62, "port_taken")
    assert port in done.error["message"]
    done = line("standin", "--port", "0", "--model", "nothing", "--json")
    assert (done.code, done.error["code"]) == (2, "usage_error")


def test_generate_says_once_whose_words_these_are(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script("One.", "Two.")
    plain, as_json = line("generate", "Hello", "--model", "llama3"), line("generate", "Hello", "--model", "llama3", "--json")
    assert plain.out == "One.\n"
    assert as_json.json["text"] == "Two."
    assert (plain.err + as_json.err).count(standin.url) == 1, "once in a process, for one daemon"


def test_no_process_here_draws_without_a_terminal(standin: StandIn) -> None:
    done = process("pull", "llama3", OLLAMA_HOST=standin.url, FORCE_COLOR="1", TERM="xterm-256color")
    assert done.code == 0
    assert "\x1b" not in done.out + done.err
