"""A task for several experts: what the loop costs beside its model calls, and how little the daemon waits and reads twice.

The peer of the loop is the same requests sent with raw httpx, the answers read as they come; both are answered by the
stand-in in a process of its own. A panel is measured against its slowest expert, a second question to an expert
against the first.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from statistics import median
from typing import Any, cast
from unittest import mock

import httpx
from bounds import Row, shown

from orchestra import AsyncOrchestra, Orchestra, StandIn
from orchestra.agents import reasoning
from orchestra.agents.budget import Budget, Limits
from orchestra.agents.coordinator import Plan, solve
from orchestra.agents.dialects import Dialect, Lines, Native, Schema
from orchestra.agents.expert import Expert
from orchestra.agents.personas import Library, shipped
from orchestra.agents.reasoning import Team, Thought
from orchestra.model.client import Client
from orchestra.model.messages import FinishReason, Piece, Receipt, ToolCall, Usage
from orchestra.model.window import Loaded
from orchestra.runtime import Blocking, finish
from orchestra.settings import Settings
from orchestra.standin import Scripted, inference

TITLE = "a task for several experts"
TASK = "制定人工智能合规标准，避免人工智能伤害人类"
STEPS, RUNS = 20, 7
STEP_CPU = 2.0  # ms, the bound of a step outside the model
SLOTS = 4
SLOWEST = 1.25  # a panel beside its slowest expert
READING = 5e-4  # seconds a token on the stand-in, so that reading is what is measured
AGAIN = 0.75  # what a second question to an expert takes to read, beside the first
TOGETHER = 100


def _call(expert: str, question: str) -> str:
    return json.dumps({"thought": "", "actions": [{"expert": expert, "question": question}]}, ensure_ascii=False)


# --- 1. the loop


def _wrote(dialect: Dialect, number: int) -> list[Piece]:
    last: dict[str, Any] = {"finish_reason": FinishReason.STOP, "usage": Usage(completion_tokens=9), "receipt": Receipt()}
    question = f"第{number}个问题？"
    if isinstance(dialect, Native):
        return [Piece("", tool_calls=(ToolCall("lawyer", {"question": question}),)), Piece("", **last)]
    text = _call("lawyer", question) if isinstance(dialect, Schema) else f"Thought: x\nAction: lawyer\nAction Input: {question}"
    return [Piece(text, **last)]


@contextmanager
def _mute(dialect: Dialect) -> Iterator[None]:
    """A client that answers at once, without a daemon: what is left is the loop."""
    count = 0

    async def chat(self: Client, messages: Any, **other: Any) -> AsyncGenerator[Piece]:
        nonlocal count
        if "决定下一步" not in messages[-1].content:
            yield Piece("开发者。", finish_reason=FinishReason.STOP, usage=Usage(completion_tokens=9), receipt=Receipt())
            return
        count += 1
        for piece in _wrote(dialect, count):
            yield piece

    async def version(self: Client) -> str:
        return "0.32.15"

    async def ready(self: Client, model: str, options: Any = None) -> Loaded:
        return Loaded(window=8192)

    async def facts(self: Client, model: str) -> dict[str, Any]:
        return {}

    silent = mock.patch.multiple(Client, chat=chat, version=version, ready=ready, facts=facts)
    with silent, mock.patch.object(reasoning, "dialect_for", return_value=dialect):
        yield


def _team() -> Team:
    library, client = Library([shipped()]), Client(Blocking(), Settings())
    coordinator = replace(library.persona("standardization_expert"), experts=())
    experts = [Expert(persona=library.persona(name), client=client, model="llama3") for name in ("computer_scientist", "lawyer")]
    return Team(client=client, model="llama3", coordinator=coordinator, experts=experts)


async def _solved(team: Team, limits: Limits) -> list[Any]:
    return [part async for part in solve(TASK, team=team, budget=Budget(limits))]


def step_rows() -> list[Row]:
    """CPU of a step with its question and answer, the model's own calls taken out."""
    rows, team = [], _team()
    for dialect in (Native(), Schema(), Lines()):
        took = []
        with _mute(dialect):
            for _ in range(RUNS):
                began = time.process_time()
                parts = finish(_solved(team, Limits(steps=STEPS)))
                took.append(1000 * (time.process_time() - began) / STEPS)
                if sum(isinstance(part, Thought) for part in parts) != STEPS:
                    raise SystemExit("the loop ended early")
        name = {"Native": "tool calls", "Schema": "a JSON schema", "Lines": "lines of text"}[type(dialect).__name__]
        rows.append(Row(f"CPU of a step outside the model, {name}", median(took), STEP_CPU, "ms", (min(took), max(took))))
    return rows


# --- 2. the daemon


@contextmanager
def _working(daemon: StandIn, parallel: int = 1) -> Iterator[Orchestra]:
    with tempfile.TemporaryDirectory(prefix="orchestra-bench-") as home, Orchestra(host=daemon.url, parallel=parallel, home=home) as orchestra:
        yield orchestra


def panel_row() -> Row:
    """A panel with a slot for each expert, beside the slowest of them."""
    slow = [Scripted("好 " * length, pace=0.04) for length in (20, 30, 40, 50)]
    experts = ["computer_scientist", "lawyer", "researcher", "translator"]
    asked, plan = 0.0, cast(Any, None)
    with StandIn(["好。", *slow, "方案。"], slots=SLOTS) as daemon, _working(daemon, parallel=SLOTS) as orchestra:
        orchestra.generate("x")  # the model is loaded before the clock runs
        began = time.monotonic()
        for plan in orchestra.integrate_stream(TASK, experts=experts, panel=True):
            if isinstance(plan, Piece) and not asked:
                asked = time.monotonic() - began
    each = [step.duration for step in plan.steps]
    detail = f"{asked:.2f} s for answers of {', '.join(f'{one:.2f}' for one in sorted(each))} s; one after the other {sum(each):.2f} s"
    return Row(f"a panel of {SLOTS} with {SLOTS} slots / its slowest expert", asked / max(each), SLOWEST, detail=detail)


def prefix_row() -> Row:
    """With one slot: what the daemon reads for a second question to an expert, beside the first."""
    twice = json.dumps({"thought": "", "actions": [
        {"expert": name, "question": question} for question in ("甲问题是什么？", "乙问题是什么？") for name in ("computer_scientist", "lawyer")
    ]}, ensure_ascii=False)  # fmt: skip
    done = '{"thought": "", "actions": []}'
    with mock.patch.object(inference, "READING", READING), StandIn([twice, *["好。"] * 4, done, "方案。"], slots=1) as daemon:
        with _working(daemon) as orchestra:
            plan = orchestra.integrate(TASK)
        reloads = daemon.reloads
    seen = [(step.expert, step.duration) for step in plan.steps]
    first = dict(reversed(seen))
    again = [took / first[name] for index, (name, took) in enumerate(seen) if name in [one for one, _ in seen[:index]]]
    return Row("one slot: a second question to an expert / the first", max(again), AGAIN, detail=f"{len(plan.steps)} questions, {reloads} reloads")


# --- 3. many at once


def together_rows() -> list[Row]:
    """So many tasks on one event loop: CPU of this process beside the same requests sent with raw httpx."""
    with _served() as url, tempfile.TemporaryDirectory(prefix="orchestra-bench-") as home:

        async def ours() -> list[Plan]:
            async with AsyncOrchestra(host=url, home=home, parallel=8) as orchestra:
                await orchestra.integrate(TASK, max_tokens=16)
                began = time.process_time()
                plans = await asyncio.gather(*(orchestra.integrate(f"{TASK}（{n}）", panel=True, max_tokens=16) for n in range(TOGETHER)))
                spent.append(time.process_time() - began)
                return plans

        async def plain() -> None:
            body = {"model": "llama3", "messages": [{"role": "system", "content": "x" * 600}, {"role": "user", "content": TASK}],
                    "options": {"num_predict": 16}}  # fmt: skip
            gate = asyncio.Semaphore(8)

            async def one(client: httpx.AsyncClient) -> None:
                async with gate, client.stream("POST", url + "/api/chat", json=body) as answer:
                    async for line in answer.aiter_lines():
                        json.loads(line)

            async with httpx.AsyncClient(trust_env=False, timeout=300) as client:
                began = time.process_time()
                await asyncio.gather(*(one(client) for _ in range(3 * TOGETHER)))
                spent.append(time.process_time() - began)

        spent: list[float] = []
        plans = asyncio.run(ours())
        asyncio.run(plain())
    if any(plan.missing for plan in plans):
        raise SystemExit("an expert did not answer")
    detail = f"{1000 * spent[0] / TOGETHER:.1f} ms a task of three answers"
    return [Row(f"{TOGETHER} panels at once, CPU / the same requests with raw httpx", spent[0] / spent[1], detail=detail)]


@contextmanager
def _served() -> Iterator[str]:
    """The stand-in in a process of its own."""
    code = "import sys; from orchestra import StandIn\nwith StandIn(slots=8) as d: print(d.url, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


PARTS: list[Callable[[], list[Row]]] = [step_rows, lambda: [panel_row(), prefix_row()], together_rows]


def measured() -> list[Row]:
    """All rows."""
    return [row for part in PARTS for row in part()]


if __name__ == "__main__":
    shown(TITLE, measured())
