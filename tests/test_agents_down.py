"""Experts that fail on the way: HTTP 500, a socket on which nothing ever comes, a process killed with -9. The task lands and names them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from obedient import act, decides, obeying
from services import Seen, Told, serving

from orchestra import Orchestra
from orchestra.agents.coordinator import Plan

TASK = "Draft a compliance standard for AI."
BUDGET, OVER = 1.5, 0.25  # seconds

# answers who it is; whoever asks it anything is told where it can be killed, and nothing more
PROGRAM = """
import http.server, json, os, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"name": "counsel", "description": "knows the law"}'
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def do_POST(self):
        self.send_response(200); self.send_header("content-length", "100"); self.end_headers()
        self.wfile.write(b'{"response": "The first'); self.wfile.flush()
        os.kill(os.getpid(), 9)
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def killed_on_the_way() -> Iterator[str]:
    """A service in a process of its own, killed with -9 in the middle of its answer."""
    with subprocess.Popen([sys.executable, "-S", "-c", PROGRAM], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
            assert process.wait(5) == -signal.SIGKILL
        finally:
            process.kill()


@contextmanager
def broken() -> Iterator[str]:
    with serving() as service:
        service.told = lambda seen: introduced(seen) or Told(status=500, body=b"Traceback")
        yield service.url


@contextmanager
def silent() -> Iterator[str]:
    with serving() as service:
        service.told = lambda seen: introduced(seen) or Told(hang=True)
        yield service.url


def introduced(seen: Seen) -> Told | None:
    return Told(body=b'{"name": "counsel", "description": "knows the law"}') if seen.path == "/persona" else None


WAYS = {"500": broken, "stall": silent, "kill -9": killed_on_the_way}


def landed(ways: list[str], runs: int, **how: Any) -> list[tuple[Plan, float]]:
    """What comes of a task whose one expert fails so, and in which time."""

    def said(messages: list[dict[str, Any]]) -> str:
        if decides(messages):
            return act(("counsel", "Is it legal?"), ("clock", "now"))
        return "The plan."

    def clock(text: str) -> str:
        """What time it is."""
        return "noon"

    found = []
    with obeying(said) as daemon, Orchestra(host=daemon.url, parallel=2) as orchestra:
        for number in range(runs):
            with WAYS[ways[number % len(ways)]]() as url:
                started = time.monotonic()
                plan = orchestra.integrate(TASK, experts=[f"counsel={url}", clock], deadline=BUDGET, **how)
                found.append((plan, time.monotonic() - started))
    return found


def check(found: list[tuple[Plan, float]]) -> None:
    for plan, seconds in found:
        assert plan.missing == ("counsel",)
        assert "No answer came from counsel" in plan.text
        assert plan.text.endswith("The plan.")
        assert [step.answer for step in plan.steps if step.ok] == ["noon"] * sum(bool(step.ok) for step in plan.steps)
        assert seconds <= BUDGET + OVER


@pytest.mark.parametrize("way", WAYS)
def test_a_task_lands_and_names_who_failed(way: str) -> None:
    check(landed([way], 2 if way != "stall" else 1))


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_hundred_of_a_hundred(way: str) -> None:
    check(landed([way], 100))


def test_red_control_without_the_time_that_is_left_it_would_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.agents.budget.Budget._left", lambda self, kept: (None, None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORCHESTRA_EXPERT_TIMEOUT", str(BUDGET + 0.5))
        [(plan, seconds)] = landed(["stall"], 1, panel=True)
    assert plan.missing == ("counsel",)
    assert seconds > BUDGET + OVER


def test_one_that_only_listens_costs_no_more_than_the_budget() -> None:
    """Nobody even says who it is: the introduction is part of the time."""
    with serving() as service, obeying(lambda messages: "The plan.") as daemon, Orchestra(host=daemon.url) as orchestra:
        service.told = Told(hang=True)
        started = time.monotonic()
        plan = orchestra.integrate(TASK, experts=[service.url], panel=True, deadline=1.0)
        assert time.monotonic() - started <= 1.0 + OVER
        assert plan.missing == (f"127-0-0-1-{service.server_port}",), "a name that a model can call"
        assert f"No answer came from 127.0.0.1:{service.server_port};" in plan.text, "people read an address"
