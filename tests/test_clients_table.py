"""The table of clients in the READMEs: made from what was measured, and what was measured is still so."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import troubled
from clients import own_setup
from test_reference import tool

TABLE = tool("clients_table")
MEASURED: dict[str, Any] = TABLE.measured()
BY_NAME = {client.name: client for client in troubled.CLIENTS}


PINNED = ("llm", "langchain-ollama", "openai-python")  # of the others a machine may have any version


def quick(name: str, way: str, trouble: str) -> bool:
    """Whether a cell is measured in every run: plain, a loop goes on to the daemon's limit; llm asks slowly, and a dialogue often."""
    return (way, trouble) != ("plain", "loop") and (name, trouble) != ("llm", "overflow") and name != "Open WebUI"


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    with own_setup():
        yield


@pytest.mark.parametrize(("path", "text"), TABLE.pages(), ids=lambda value: value.name if isinstance(value, Path) else "")
def test_the_readmes_hold_the_table(path: Path, text: str) -> None:
    assert path.read_text("utf-8") == text, "run: make clients-table"


def fresh(name: str, way: str, troubles: Sequence[str], guard: str = "on") -> dict[str, Any]:
    client, measured = BY_NAME[name], MEASURED["clients"][name]["version"]
    here = client.version()
    if not here or (here != measured and name not in PINNED):
        pytest.skip(f"{name} is {here or 'not here'}; its row is of version {measured}")
    cells = troubled.row(client, way, troubles, guard)
    gc.collect()  # some clients leave their connections to the collector
    return cells


unclosed = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@unclosed
@pytest.mark.parametrize("way", TABLE.WAYS)
@pytest.mark.parametrize("name", MEASURED["clients"])
def test_a_fresh_run_sees_the_same(name: str, way: str) -> None:
    troubles = [trouble for trouble in TABLE.TROUBLES if quick(name, way, trouble)]
    measured = MEASURED["clients"][name][way]
    assert fresh(name, way, troubles) == {trouble: measured[trouble] for trouble in troubles}


@unclosed
@pytest.mark.slow
@pytest.mark.parametrize("way", TABLE.WAYS)
@pytest.mark.parametrize("name", MEASURED["clients"])
def test_a_whole_fresh_run_sees_the_same(name: str, way: str) -> None:
    assert fresh(name, way, TABLE.TROUBLES) == MEASURED["clients"][name][way]


@unclosed
def test_without_the_guard_it_is_noticed() -> None:
    name = "langchain-ollama"
    assert fresh(name, "through", ["cut"], guard="off")["cut"] != MEASURED["clients"][name]["through"]["cut"]


def test_what_is_told_and_what_is_not() -> None:
    nothing = {"tokens": 0, "left_out": 0, "told": False, "reason": "", "error": ""}
    assert TABLE.shown("cut", nothing, "en") == "half an answer: nothing says so"
    assert TABLE.shown("cut", {**nothing, "error": "APIError"}, "en") == "half an answer: `APIError`"
    assert TABLE.shown("overflow", {**nothing, "left_out": 6, "reason": "stop"}, "zh") == "丢掉 6 条消息：毫无提示"
    assert TABLE.shown("loop", {**nothing, "tokens": 24, "told": True, "reason": "repetition"}, "en").startswith("stopped after 24 tokens")
