"""The clients that people use, real ones, each asked as its own page says; only the address is given.

None of them is imported before it is asked: they are heavy, and a machine may lack them.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import httpx

FOREIGN = ("OPENAI_", "LANGSMITH_", "LANGCHAIN_", "LLM_", "OLLAMA_")
MODEL = "llama3"
NOTED = "Noted."


@dataclass(frozen=True)
class Seen:
    """What a user got: the text; how a program is told that it ended (empty: it is not told); an error where one was shown."""

    text: str
    reason: str = ""
    error: str = ""


Said = Sequence[str]  # what the user says, turn by turn
Ask = Callable[[str, Said], Seen]  # at an address


@contextmanager
def own_setup() -> Iterator[None]:
    """Takes the developer's keys, services and logs away from the clients."""
    before = dict(os.environ)
    for name in [name for name in before if name.startswith(FOREIGN)]:
        del os.environ[name]
    os.environ.update(LANGSMITH_TRACING="false", LLM_USER_PATH=kept(), ORCHESTRA_HOME=kept(), LANG="C.UTF-8")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@cache
def kept() -> str:
    """The folder of what clients keep: one for the process, since llm's plugin asks for its own only once."""
    folder = mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def dialogue(said: Said) -> list[dict[str, str]]:
    """The messages of a dialogue whose answers have been `NOTED` so far."""
    messages = []
    for text in said:
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": NOTED}]
    return messages[:-1]


def installed(distribution: str) -> str:
    """The version of a package; empty where it is not there."""
    with suppress(PackageNotFoundError):
        return version(distribution)
    return ""


# --- packages


def openai_python(url: str, said: Said) -> Seen:
    """A stream of `chat.completions`, with the whole dialogue sent again."""
    openai: Any = import_module("openai")
    text, reason = "", ""
    with openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0) as client:
        try:
            for chunk in client.chat.completions.create(model=MODEL, messages=dialogue(said), stream=True):
                for choice in chunk.choices:
                    text += choice.delta.content or ""
                    reason = choice.finish_reason or reason
        except openai.APIError as error:
            return Seen(text, reason, type(error).__name__)
    return Seen(text, reason)


def langchain_ollama(url: str, said: Said) -> Seen:
    """A stream of `ChatOllama`, with the whole dialogue sent again."""
    chat = import_module("langchain_ollama").ChatOllama(model=MODEL, base_url=url)
    text, reason = "", ""
    try:
        for chunk in chat.stream([(message["role"], message["content"]) for message in dialogue(said)]):
            text += str(chunk.content)
            reason = chunk.response_metadata.get("done_reason") or reason
    except import_module("ollama").ResponseError as error:
        return Seen(text, reason, type(error).__name__)
    finally:
        chat._client.close()
    return Seen(text, reason)


def llm(url: str, said: Said) -> Seen:
    """`llm -m ollama/llama3 "..."`, then `llm -c "..."`, which sends again what its log holds; in this process, as it starts slowly."""
    cli, runner = import_module("llm.cli").cli, import_module("click.testing").CliRunner()
    os.environ["OLLAMA_HOST"] = url
    (Path(os.environ["LLM_USER_PATH"]) / "logs.db").unlink(missing_ok=True)
    printed = ""
    for number, text in enumerate(said):
        done = runner.invoke(cli, [*(["-c"] if number else ["-m", f"ollama/{MODEL}"]), text])
        printed = done.output.removesuffix("\n")
        if done.exit_code:
            return Seen("", error=printed.partition(":")[0])
    return Seen(printed)


# --- the daemon's own command line

_ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x1b\x07]*(?:\x1b\\|\x07))")
_READY = b">>> \x1b[38;5;245mSend"
_WHERE, _HERE = b"\x1b[6n", b"\x1b]11;rgb:0000/0000/0000\x1b\\\x1b[1;1R"  # it asks for colour and cursor, and waits 5 s for an answer
_FRAMES = re.compile(r"[\u2800-\u28ff] ?")  # of what turns while the model loads


def ollama_binary() -> str:
    """Where the daemon's own binary is; empty where it is not there."""
    return shutil.which("ollama") or ""


def ollama_version() -> str:
    """The version of the binary."""
    if not ollama_binary():
        return ""
    with TemporaryDirectory() as home:
        told = subprocess.run(["ollama", "--version"], env=ollama_environment("127.0.0.1:1", home), capture_output=True, text=True)
    return told.stdout.split()[-1]


def ollama_environment(url: str, home: str) -> dict[str, str]:
    """The variables of an `ollama` that asks at `url` and keeps nothing of the developer's."""
    return {"PATH": os.environ["PATH"], "HOME": home, "OLLAMA_HOST": url, "OLLAMA_NOHISTORY": "1", "TERM": "xterm"}


class Terminal:
    """`ollama run MODEL` in a terminal: what is typed, and what is read."""

    def __init__(self, model: str, environment: dict[str, str]) -> None:
        self.pid, self._end = pty.fork()
        if not self.pid:
            os.execve(ollama_binary(), ["ollama", "run", "--nowordwrap", model], environment)
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 4000, 0, 0))  # wide enough that nothing is folded
        self.begins = self._read()

    def say(self, text: str) -> str:
        """What is shown as the answer to it."""
        os.write(self._end, text.encode() + b"\r")
        return self._read().replace(text, "", 1).strip()

    def close(self) -> None:
        """Leaves."""
        with suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._end)

    def _read(self, seconds: float = 30.0) -> str:
        """All until it waits for the user, or is no more."""
        read, until = b"", time.monotonic() + seconds
        while _READY not in read[-200:]:
            assert time.monotonic() < until, read[-500:]
            if select.select([self._end], [], [], 0.2)[0]:
                try:
                    more = os.read(self._end, 65536)
                except OSError:  # it has ended
                    break
                if not more:
                    break
                read += more
                if _WHERE in more:
                    os.write(self._end, _HERE)
        return _FRAMES.sub("", _ESCAPE.sub("", read.rpartition(_READY)[0].decode(errors="replace") or read.decode(errors="replace"))).replace("\r", "")


def ollama_run(url: str, said: Said) -> Seen:
    """`ollama run llama3`, and the turns typed one after another."""
    with TemporaryDirectory() as home:
        terminal = Terminal(MODEL, ollama_environment(url, home))
        try:
            for text in said:
                printed = terminal.say(text)
        finally:
            terminal.close()
    return Seen("", error="Error") if printed.startswith("Error:") else Seen(printed)


# --- Open WebUI

_OFF = ("ENABLE_OPENAI_API", "ENABLE_VERSION_UPDATE_CHECK", "ENABLE_PERSISTENT_CONFIG", "WEBUI_AUTH")
_READY_WITHIN = 300.0  # seconds: two minutes on two idle cores


def open_webui_command() -> str:
    """The command that `OPEN_WEBUI` names; it has an environment of its own, 3 GB."""
    return os.environ.get("OPEN_WEBUI", "")


def open_webui_version() -> str:
    """The version of it."""
    if not open_webui_command():
        return ""
    script = "from importlib.metadata import version; print(version('open-webui'))"
    return subprocess.run([str(Path(open_webui_command()).with_name("python")), "-c", script], capture_output=True, text=True).stdout.strip()


@cache
def _open_webui() -> httpx.Client:
    """The one that runs for this process, its administrator signed in."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    folder = Path(kept()) / "open-webui"
    folder.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "DATA_DIR": str(folder), "WEBUI_SECRET_KEY": "for a test"}
    environment |= dict.fromkeys(("OFFLINE_MODE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"), "1") | dict.fromkeys(_OFF, "false")
    environment |= {"RAG_EMBEDDING_ENGINE": "ollama"}  # else it loads a model of its own
    with (folder / "log").open("wb") as log:
        command = [open_webui_command(), "serve", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
    atexit.register(process.wait)
    atexit.register(process.terminate)
    client, until = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=120), time.monotonic() + _READY_WITHIN
    while not _is_ready(client):
        assert time.monotonic() < until, (folder / "log").read_text("utf-8", "replace")[-1000:]
        time.sleep(1)
    signed_in = client.post("/api/v1/auths/signin", json={"email": "", "password": ""}).raise_for_status().json()
    client.headers["Authorization"] = f"Bearer {signed_in['token']}"
    return client


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/ready").status_code == 200
    except httpx.HTTPError:
        return False


def open_webui(url: str, said: Said) -> Seen:
    """A chat over an Ollama connection to `url`; what is streamed to the page, which shows the text and an error, and no reason."""
    client = _open_webui()
    connection = {"ENABLE_OLLAMA_API": True, "OLLAMA_BASE_URLS": [url], "OLLAMA_API_CONFIGS": {}}
    client.post("/ollama/config/update", json=connection).raise_for_status()
    models = [model["id"] for model in client.get("/api/models?refresh=true").raise_for_status().json()["data"]]
    assert f"{MODEL}:latest" in models, models
    text, body = "", {"model": f"{MODEL}:latest", "stream": True, "messages": dialogue(said)}
    with client.stream("POST", "/api/chat/completions", json=body) as answer:
        if answer.status_code != 200:
            return Seen("", error=f"status {answer.status_code}")
        for line in answer.iter_lines():
            event = json.loads(line[6:]) if line.startswith("data: {") else {}
            if "error" in event:
                return Seen(text, error="an error is shown")
            text += "".join(choice["delta"].get("content") or "" for choice in event.get("choices") or ())
    return Seen(text)
