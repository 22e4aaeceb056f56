"""Errors on the command line: each is one line and one hint in two languages, or one object, with an exit code of its own."""

from __future__ import annotations

import json
import socket
import sqlite3
import string
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Line, chinese, line, process  # noqa: F401 - fixtures

from orchestra.cli import words
from orchestra.cli.outcome import Wish, report, unforeseen
from orchestra.errors import ConfigError, OrchestraError, UsageError, every_error
from orchestra.sessions.store import Store
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn

# what the errors are filled with
FACTS = {
    "name": "x", "value": "y", "detail": "why", "detail_zh": "原因", "fix": "do this", "fix_zh": "这样做", "example": "z", "url": "http://h",
    "model": "m", "window": 1, "needed": 2, "needed_window": 2, "over": 1, "path": "/p", "line": 3, "place": ":3", "more": "", "more_zh": "", "seconds": 4, "limit": 5, "free": 6,
    "status": 500, "kind": "chat", "kind_zh": "对话", "suggestion": "llama3", "nearest": "", "nearest_zh": "", "version": "0.1",
    "feature": "this", "extra": "serve", "target": "http://t", "port": 1, "most": 9,
    "provider": "duckduckgo", "variable": "ORCHESTRA_X_KEY", "address": "127.0.0.1", "offset": 7, "field": "intent", "host": "h", "origin": "http://o", "method": "GET", "depth": 3, "allowed": "POST",
    "command": "cp",
}  # fmt: skip


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("error", every_error(), ids=lambda error: error.__name__)
def test_every_error_is_one_line_and_one_hint(
    error: type[OrchestraError], language: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "LANGUAGE", language)
    raised = error(**FACTS)
    assert report(raised, Wish()) == error.exit_code
    out, err = capsys.readouterr()
    label, advice = ("error: ", "hint:  ") if language == "en" else ("错误： ", "提示： ")
    assert out == ""
    said, hint = err.splitlines()
    assert said.startswith(label)
    assert len(said) > len(label) + 1
    assert hint.startswith(advice)
    assert len(hint) > len(advice) + 1
    assert "{" not in said + hint
    assert report(raised, Wish(json=True)) == error.exit_code
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == {"error": {"code": error.code(), "message": said[len(label) :], "hint": hint[len(advice) :]}}


def test_exit_codes_are_their_own() -> None:
    codes = [error.exit_code for error in every_error()]
    assert len(codes) == len(set(codes))
    assert not {0, 126, 127, 130, 141} & set(codes)
    assert all(1 <= code < 126 for code in codes)


def test_the_two_languages_have_the_same_facts() -> None:
    for error in every_error():
        for text in (error.says, error.advice):
            assert {name.removesuffix("_zh") for name in facts(text.zh)} == facts(text.en), error
            assert facts(text.zh) | facts(text.en) <= set(FACTS), error


def facts(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_words_of_many_lines_become_one(capsys: pytest.CaptureFixture[str]) -> None:
    report(UsageError(detail="one\n\ntwo\x1b[31m\r\nthree", detail_zh="", fix="a\nb", fix_zh=""), Wish())
    assert capsys.readouterr().err == "error: one two three\nhint:  a b\n"


# --- each one from the command line

FAULTS = {
    "reset_before_headers": "daemon_disconnected",
    "html_200": "not_ollama",
    "missing_model": "model_missing",
    "error_500_json": "daemon_error",
    "busy_503": "daemon_busy",
    "unauthorized_401": "auth_failed",
    "redirect_307": "redirect_refused",
    "stall_before_headers": "first_token_timeout",
    "cut_mid": "stream_truncated",
    "empty_200": "empty_reply",
    "bad_json_line": "stream_corrupt",
    "stall_mid": "stream_stalled",
    "huge_line": "line_too_long",
}
CODES = {error.code(): error.exit_code for error in every_error()}
KEPT = {"stream_truncated", "stream_corrupt", "stream_stalled", "line_too_long"}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, standin: StandIn) -> None:
    """This process talks to the stand-in, and waits for nothing."""
    for name, value in {"FIRST_TOKEN_TIMEOUT": "0.3", "PROMPT_TOKEN_TIME": "0", "PIECE_TIMEOUT": "0.3", "STORE_TIMEOUT": "0.2"}.items():
        monkeypatch.setenv(f"ORCHESTRA_{name}", value)
    monkeypatch.setenv("OLLAMA_HOST", standin.url)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("fault", "code"), FAULTS.items())
def test_a_fault_of_the_daemon(standin: StandIn, line: Line, fault: str, code: str) -> None:  # noqa: F811
    standin.fail(fault, times=3)
    done = line("generate", "Hello", "--model", "llama3", "--json")
    error = done.json["error"]
    assert (error["code"], done.code) == (code, CODES[code])
    assert all(error.values())
    assert ("text" in done.json) == (code in KEPT), "the text so far is in it"


@pytest.mark.usefixtures("impatient")
def test_the_text_so_far_is_shown_and_stored(standin: StandIn, line: Line) -> None:  # noqa: F811
    standin.script(Scripted("The sky is", end="nothing"))
    done = line("chat", "Go on", "--session", "s")
    assert done.code == CODES["stream_truncated"]
    assert done.out == "The sky is\n"
    assert len([each for each in done.err.splitlines() if each.startswith(("error:", "hint:"))]) == 2
    assert "Traceback" not in done.err
    with Store(Settings.read().folder()) as store:
        assert store.history("s")[0].answer == "The sky is"


def taken_port() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def locked(folder: Path) -> sqlite3.Connection:
    with Store(folder) as store:
        store.create("s")
    held = sqlite3.connect(folder / "sessions.db", isolation_level=None, check_same_thread=False)
    held.execute("BEGIN IMMEDIATE")
    return held


def written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def newer(folder: Path) -> None:
    with Store(folder) as store:
        store.create("s")
    connection = sqlite3.connect(folder / "sessions.db", isolation_level=None)
    connection.execute("UPDATE migration SET name = 'from_the_future' WHERE name = 'words'")
    connection.close()


@pytest.mark.usefixtures("impatient")
def test_faults_of_the_store(line: Line, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def code(*arguments: str) -> str:
        done = line(*arguments, "--json")
        assert done.code == CODES[done.error["code"]]
        return done.error["code"]

    held = locked(home)
    assert code("sessions", "fork", "s") == "store_busy"
    held.close()
    assert code("sessions", "show", "t") == "session_missing"
    line("sessions", "fork", "s", "t")
    assert code("sessions", "rename", "s", "t") == "session_exists"
    assert code("sessions", "show", "s", "--nothing") == "usage_error"
    bad = written(home / "bad.jsonl", '{"role": "nobody", "content": "x"}\n')
    assert code("sessions", "import", str(bad)) == "import_invalid"
    with Store(home) as store:
        journal = store.begin("s", "a question that is being answered")
        assert code("chat", "another", "--session", "s", "--model", "llama3") == "session_busy"
        journal.finish()
    for name, prepare, expected in (
        ("corrupt", lambda folder: written(folder / "sessions.db", b"no database" * 100), "store_corrupt"),
        ("newer", newer, "store_too_new"),
    ):
        prepare(home / name)
        before = (home / name / "sessions.db").read_bytes()
        monkeypatch.setenv("ORCHESTRA_HOME", str(home / name))
        assert code("sessions", "list") == expected
        assert (home / name / "sessions.db").read_bytes() == before, "it is left untouched"
    monkeypatch.setenv("ORCHESTRA_HOME", str(written(home / "file", "x") / "below"))
    assert code("sessions", "list") == "store_unwritable"


@pytest.mark.usefixtures("impatient")
def test_faults_of_names_and_settings(line: Line, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def code(*arguments: str) -> str:
        done = line(*arguments, "--json")
        assert done.code == CODES[done.error["code"]]
        return done.error["code"]

    assert code("chat", "hello", "--persona", "nobody") == "persona_missing"
    written(home / "personas" / "broken.md", "no front matter")
    assert code("personas", "show", "broken") == "persona_invalid"
    assert code("show", "nothing") == "model_missing"
    assert code("pull", "nothing") == "pull_failed"
    assert code("generate", "hello " * 20_000, "--model", "llama3") == "prompt_too_long"
    with taken_port() as listening:
        assert code("standin", "--port", str(listening.getsockname()[1])) == "port_taken"
    with StandIn(models=[]) as bare:
        monkeypatch.setenv("OLLAMA_HOST", bare.url)
        assert code("generate", "hello") == "no_model"
    monkeypatch.setenv("OLLAMA_HOST", "ftp://nowhere")
    assert code("models") == "config_error"
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    assert code("models") == "daemon_unreachable"


def test_without_a_daemon_one_line_one_hint_and_a_code_of_its_own() -> None:
    done = process("generate", "hello", OLLAMA_HOST="127.0.0.1:9", LC_ALL="zh_CN.UTF-8")
    assert (done.code, done.out) == (3, "")
    said, hint = done.err.splitlines()
    assert said.startswith("错误： 无法连接 Ollama")
    assert hint.startswith("提示： 请用 `ollama serve`")


# --- lines that cannot be understood

MISUSED: list[tuple[str, ...]] = [
    ("generate", "x", "--nothing"),
    ("nothing",),
    ("generate",),
    ("generate", "x", "--temperature", "hot"),
    ("generate", "x", "--max-tokens", "0"),
    ("sessions", "nothing"),
    ("ask", "x", "--results", "0"),
    ("ask", "x", "--search", "nowhere", "--model", "llama3"),
    ("chat", " ", "--model", "llama3"),
    ("sessions", "delete", "x", "y", "--nothing"),
]


@pytest.mark.parametrize("arguments", MISUSED, ids=" ".join)
def test_a_line_that_cannot_be_understood(line: Line, arguments: tuple[str, ...]) -> None:  # noqa: F811
    done = line(*arguments, "--json")
    assert done.code == 2
    assert done.error["code"] == "usage_error"
    said = line(*arguments)
    assert (said.code, said.out) == (2, "")
    assert len(said.err.splitlines()) == 2


def test_an_unknown_option_in_a_process() -> None:
    done = process("generate", "x", "--nothing", "--json")
    assert (done.code, done.error["code"]) == (2, "usage_error")


def test_standard_input_that_is_no_utf_8_names_the_byte(standin: StandIn) -> None:
    done = process("generate", "-", "--json", stdin="中文".encode("gb18030"), OLLAMA_HOST=standin.url)
    assert (done.code, done.error["message"]) == (2, "standard input is not UTF-8 (byte 0)")
    assert "iconv" in done.error["hint"]


def test_what_nobody_thought_of_is_two_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    error = ZeroDivisionError("division\nby zero")
    unforeseen(Wish())(type(error), error, None)
    assert capsys.readouterr().err.splitlines()[0] == "error: something went wrong: ZeroDivisionError: division by zero"
    unforeseen(Wish(json=True))(type(error), error, None)
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "orchestra_error"
    unforeseen(Wish(debug=True))(type(error), error, None)
    assert "ZeroDivisionError: division\nby zero" in capsys.readouterr().err


BROKEN = """
import sys
from orchestra.cli import installed, main
installed.list_models = lambda *given, **named: 1 / 0
sys.argv = ["orchestra", "models", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("debug", [False, True])
def test_what_nobody_thought_of_in_a_process(debug: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, *["--debug"] * debug], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 1
    assert ("Traceback" in done.stderr) == debug
    if not debug:
        assert done.stderr.splitlines()[0] == "error: something went wrong: ZeroDivisionError: division by zero"


def test_a_traceback_only_with_debug(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("OLLAMA_HOST", "ftp://nowhere")
    assert line("models").code == ConfigError.exit_code
    with pytest.raises(ConfigError):
        line("models", "--debug")


@pytest.mark.usefixtures("chinese")
def test_usage_in_chinese(line: Line) -> None:  # noqa: F811
    done = line("sessions", "nothing")
    assert done.err.splitlines()[1].startswith("提示： 请查看")
