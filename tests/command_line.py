"""The command line as its users meet it: in this process, as a process with pipes, and as a process on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, NamedTuple

import pytest

PATIENCE = 45.0
COMMAND = (sys.executable, "-m", "orchestra")


class Result(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on standard output."""
        lines = self.out.splitlines()
        assert len(lines) == 1, self
        value = json.loads(lines[0])
        assert isinstance(value, dict)
        return value

    @property
    def error(self) -> dict[str, str]:
        """The error in the one object."""
        error: dict[str, str] = self.json["error"]
        assert set(error) == {"code", "message", "hint"}
        assert all(error.values()), error
        return error


Line = Callable[..., Result]


@pytest.fixture
def line(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Line:
    """Runs a command line in this process."""
    ready = _built()
    monkeypatch.setattr("orchestra.cli.app.built", lambda: ready)

    def run(*arguments: str) -> Result:
        from orchestra.cli.app import execute

        capfd.readouterr()
        try:
            code = execute(list(arguments))
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    """The words of this process are Chinese."""
    monkeypatch.setattr("orchestra.cli.words.LANGUAGE", "zh")


@cache
def _built() -> Any:
    """The commands as typer makes them of their definitions, which takes longer than most of them."""
    from orchestra.cli.app import built, register

    register()
    return built()


def process(*arguments: str, stdin: bytes = b"", **environment: str) -> Result:
    """Runs a command line in a process of its own, with pipes; what it wrote must be UTF-8."""
    done = subprocess.run(
        [*COMMAND, *arguments], input=stdin, capture_output=True, timeout=PATIENCE, env=surrounded(environment), check=False
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


@contextmanager
def started(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command line that is still running; killed at the end of the block if it has not ended."""
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=surrounded(environment),
    ) as running:
        try:
            yield running
        finally:
            if running.poll() is None:
                running.kill()


def surrounded(given: dict[str, str]) -> dict[str, str]:
    """The environment of a process: this one's, in the language of its locale, with what is given."""
    return {**{name: value for name, value in os.environ.items() if name != "ORCHESTRA_LANG"}, **given}


class Terminal:
    """A command line whose three streams are a terminal of 80 x 24."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        master, slave = pty.openpty()
        self._master = master
        self.shown = ""
        own = surrounded({"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", **environment})
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], stdin=slave, stdout=slave, stderr=slave, env=own, start_new_session=True
        )
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)

    def type(self, text: str) -> None:
        """Types a text."""
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C, as the terminal driver sends it."""
        self.process.send_signal(signal.SIGINT)

    def until(self, wanted: str, patience: float = PATIENCE) -> str:
        """Reads until a text is shown; what was shown so far, without what only draws."""
        end = time.monotonic() + patience
        while wanted not in bare(self.shown):
            left = end - time.monotonic()
            assert left > 0, f"{wanted!r} was not shown: {self.shown!r}"
            if not self._read(left):
                assert wanted in bare(self.shown), f"{wanted!r} was not shown: {self.shown!r}"
        return bare(self.shown)

    def read_a_moment(self) -> None:
        """Reads what comes within a twentieth of a second; the process must still be running."""
        assert self._read(0.05), self.shown

    def code(self, patience: float = PATIENCE) -> int:
        """Reads to the end; the exit code."""
        end = time.monotonic() + patience
        while self._read(max(0.0, end - time.monotonic())):
            assert time.monotonic() < end, self.shown
        return self.process.wait(patience)

    def _read(self, patience: float) -> bool:
        if not select.select([self._master], [], [], patience)[0]:
            return self.process.poll() is None
        with suppress(OSError):  # the other side has been closed: on Linux an error, elsewhere the end of the file
            if data := os.read(self._master, 65536):
                self.shown += data.decode("utf-8", "replace")
                return True
        return False


def bare(text: str) -> str:
    """What a terminal was sent, without the sequences that draw."""
    return re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", text).replace("\r\n", "\n")
