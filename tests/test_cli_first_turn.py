"""The first turn of a dialogue: stored before anybody asks the daemon, and the model that answers stays with it."""

from __future__ import annotations

import pytest
from command_line import Line, line

from orchestra.standin import StandIn

__all__ = ["line"]


def test_what_was_said_to_a_daemon_that_is_not_there_is_in_the_session(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    assert line("chat", "is anybody there?", "--session", "x").code == 3
    messages = line("sessions", "show", "x", "--json").json["messages"]
    first = messages[0]
    assert (first["role"], first["content"], first["status"]) == ("user", "is anybody there?", "done")
    assert messages[-1]["status"] == "interrupted"


def test_the_model_is_named_once_and_stays_with_the_session(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    with StandIn(["one", "two"]) as daemon:
        monkeypatch.setenv("OLLAMA_HOST", daemon.url)
        first = line("chat", "hello", "--session", "x")
        second = line("chat", "again", "--session", "x")
    assert "model: llama3\n" in first.err
    assert "model:" not in second.err
    assert line("sessions", "show", "x", "--json").json["model"] == "llama3"
