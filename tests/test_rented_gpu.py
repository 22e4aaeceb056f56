"""The page on a rented GPU server: its commands are Orchestra's own, its settings exist, and its curl lines are answered."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from served import serving
from test_readme import blocks
from typer import TyperException
from typer.main import get_command

from orchestra.cli.app import app, register
from orchestra.gateway.serving import MAKE_TOKEN
from orchestra.standin import StandIn

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = [DOCS / "rented-gpu.md", DOCS / "rented-gpu.zh-CN.md"]
_SHELL = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
_OURS = re.compile(r"(?:^|nohup )orchestra ([^|&>\n]*)", re.MULTILINE)


def shell(page: Path) -> list[str]:
    """All shell blocks, also those that are not run."""
    return _SHELL.findall(page.read_text("utf-8"))


def commands() -> Iterator[list[str]]:
    for block in shell(PAGES[0]):
        yield from (shlex.split(found) for found in _OURS.findall(block))


@cache
def built() -> Any:
    register()
    return get_command(app)


def understood(arguments: list[str]) -> bool:
    """Whether the command line understands a line, which is not run."""
    command = built()
    while hasattr(command, "commands"):
        name, *arguments = arguments
        command = command.commands.get(name)
    try:
        return command is not None and command.make_context("", arguments) is not None
    except TyperException:
        return False


def test_the_page_is_the_same_in_both_languages() -> None:
    english, chinese = (shell(page) for page in PAGES)
    assert english == chinese
    headings = [len(re.findall(r"^#+ ", page.read_text("utf-8"), re.MULTILINE)) for page in PAGES]
    assert headings[0] == headings[1]
    assert re.search("[\u4e00-\u9fff]", PAGES[0].read_text("utf-8").replace("[中文]", "")) is None


def test_each_command_is_one_that_there_is() -> None:
    given = list(commands())
    assert len(given) >= 5
    assert all(map(understood, given))
    assert not any(map(understood, [["serve", "--no-such-option"], ["no-such-command"], ["sessions", "backup"]]))


def test_each_setting_is_one_that_there_is() -> None:
    known = (DOCS / "reference.md").read_text("utf-8")
    for name in set(re.findall(r"ORCHESTRA_[A-Z_]+", PAGES[0].read_text("utf-8"))):
        assert f"`{name}`" in known, name


def test_the_key_is_made_as_serve_says() -> None:
    assert any(MAKE_TOKEN in block for block in shell(PAGES[0]))


def test_the_curl_lines_are_answered(standin: StandIn) -> None:
    (block,) = [each for each in blocks(PAGES[0].read_text("utf-8"), "sh") if "curl" in each]
    with serving(standin.url) as run:
        address = str(run(token="the-key-of-the-server").base_url).rstrip("/")
        script = block.replace("http://127.0.0.1:5002", address).replace("curl ", "curl -s --fail-with-body --noproxy '*' ")
        done = subprocess.run(["bash", "-ec", script], env=dict(os.environ), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout
    assert '"status":"ready"' in done.stdout
    assert '"steps"' in done.stdout
