"""What the READMEs say is run: every block, against the stand-in, in a folder of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestra.standin import StandIn

ROOT = Path(__file__).resolve().parent.parent
READMES = {"en": ROOT / "README.md", "zh": ROOT / "README.zh-CN.md"}
_BLOCK = re.compile(r"^(<!-- not run: (?P<why>[^\n]+) -->\n)?```(?P<kind>sh|python)\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(text: str, kind: str) -> list[str]:
    """The blocks of a kind that are to be run; one that is not says why in the line before it."""
    return [m["code"] for m in _BLOCK.finditer(text) if m["kind"] == kind and not m["why"]]


ENGLISH = READMES["en"].read_text("utf-8")
PYTHON = blocks(ENGLISH, "python")
SHELL = blocks(ENGLISH, "sh")


def environment(tmp_path: Path, url: str) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "OLLAMA_HOST": url, "ORCHESTRA_HOME": str(tmp_path / "home"), "PATH": path}


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_blocks_run(code: str, tmp_path: Path) -> None:
    with StandIn() as daemon:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment(tmp_path, daemon.url), capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(240)
def test_shell_blocks_run_in_order(tmp_path: Path) -> None:
    shutil.copy(READMES["en"], tmp_path)  # a reader stands in a checkout
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    with StandIn() as daemon:
        for line in "".join(SHELL).splitlines():
            done = subprocess.run(
                line, shell=True, cwd=tmp_path, env=environment(tmp_path, daemon.url), capture_output=True, text=True
            )
            assert done.returncode == 0, f"{line}\n{done.stderr}"
            assert (done.stdout + done.stderr).strip(), f"{line} says nothing"  # a pull speaks on stderr alone


def test_a_block_that_fails_is_noticed(tmp_path: Path) -> None:
    with StandIn() as daemon:
        line = "orchestra generate hello --model not-there"
        done = subprocess.run(line, shell=True, cwd=tmp_path, env=environment(tmp_path, daemon.url), capture_output=True)
    assert done.returncode == 4


def test_both_languages_show_the_same_code() -> None:
    chinese = READMES["zh"].read_text("utf-8")
    assert blocks(chinese, "python") == PYTHON
    assert blocks(chinese, "sh") == SHELL
    headings = [len(re.findall(r"^## ", text, re.MULTILINE)) for text in (ENGLISH, chinese)]
    assert headings[0] == headings[1]
    rows = [len(re.findall(r"^\|", text, re.MULTILINE)) for text in (ENGLISH, chinese)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("language", READMES)
def test_links_and_anchors_lead_somewhere(language: str) -> None:
    text = READMES[language].read_text("utf-8")
    anchors = {re.sub(r"[^\w\- ]", "", h.strip()).lower().replace(" ", "-") for h in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        if path:
            assert (ROOT / path).exists(), target
        elif anchor:
            assert anchor in anchors, target
