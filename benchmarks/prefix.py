"""Of a long dialogue's prompt only what is new is read: turn 100 beside the same history sent by hand.

On the daemon that `ORCHESTRA_TEST_OLLAMA` names, with its model `mid` (a load of this benchmark's own window), and
on the stand-in, which says how long it read what was not in its cache.
"""

from __future__ import annotations

import os
import tempfile
from statistics import median
from typing import Any

import httpx
from bounds import Row, shown

from orchestra import Orchestra, StandIn
from orchestra.model.hosts import daemon_url
from orchestra.model.language import language_of, with_language
from orchestra.sessions.records import Turn
from orchestra.standin import inference

MODEL = "mid"
TURNS = 100
WINDOW = 8192
LAST = 10  # the figure is the median of so many last turns: one alone is a matter of luck
BOUND = 1.1
STAND_IN_READING = 5e-4  # seconds a token, fifty times its own: so that they are what is measured
OPTIONS: dict[str, Any] = {"max_tokens": 8, "temperature": 0.0, "seed": 7}


def question(number: int) -> str:
    """A question of about the same length each time."""
    return f"Why {number}?"


def ours(url: str, model: str) -> tuple[list[Turn], list[float]]:
    """The turns of a session, and the seconds that the daemon read for each."""
    with tempfile.TemporaryDirectory(prefix="orchestra-bench-") as home, Orchestra(host=url, home=home, window=WINDOW) as orchestra:
        dialogue = orchestra.session("long", model=model)
        replies = [dialogue.ask(question(number), **OPTIONS) for number in range(TURNS)]
        said = dialogue.turns()
    if any(reply.receipt.dropped for reply in replies):
        raise SystemExit(f"{TURNS} turns do not fit into {WINDOW} tokens")
    return said, [reply.usage.prompt_duration or 0.0 for reply in replies]


def by_hand(url: str, model: str, turns: list[Turn]) -> list[float]:
    """The same history sent with nothing in between: seconds of reading for all of it at once, then for each last turn."""
    options = {"num_predict": OPTIONS["max_tokens"], "temperature": 0.0, "seed": 7, "num_ctx": WINDOW, "repeat_penalty": 1.1}
    said: list[dict[str, str]] = []
    seconds = []
    with httpx.Client(trust_env=False, timeout=300) as client:
        for number, turn in enumerate(turns, start=1):
            said.append({"role": "user", "content": with_language(turn.question, language_of(turn.question))})
            if number >= TURNS - LAST:
                answer = client.post(url + "/api/chat", json={"model": model, "messages": said, "options": options, "stream": False}).json()
                seconds.append(answer["prompt_eval_duration"] / 1e9)
            said.append({"role": "assistant", "content": turn.answer})
    return seconds


def unloaded(url: str, model: str) -> None:
    """Forgets what the daemon has in its cache."""
    with httpx.Client(trust_env=False, timeout=300) as client:
        client.post(url + "/api/generate", json={"model": model, "keep_alive": 0})


def row(where: str, url: str, model: str) -> Row:
    """Turn 100 of a session over turn 100 by hand."""
    unloaded(url, model)
    turns, session = ours(url, model)
    unloaded(url, model)
    whole, *plain = by_hand(url, model, turns)
    late, hand = median(session[-LAST:]), median(plain)
    detail = f"{1000 * late:.1f} ms of reading against {1000 * hand:.1f} ms by hand; {1000 * whole:.0f} ms where all of it is new"
    return Row(f"turn {TURNS} of a session / the same history by hand, {where}", late / hand, BOUND, detail=detail)


def measured() -> list[Row]:
    """One row for each daemon that is there."""
    inference.READING = STAND_IN_READING
    with StandIn() as daemon:
        rows = [row("stand-in", daemon.url, "llama3")]
    named = os.environ.get("ORCHESTRA_TEST_OLLAMA")
    if named is None:
        print("a real daemon was not asked: ORCHESTRA_TEST_OLLAMA is not set")
        return rows
    url = daemon_url(named)
    installed = httpx.Client(trust_env=False).get(url + "/api/tags").json()["models"]
    if not any(model["name"].partition(":")[0] == MODEL for model in installed):
        print(f"a real daemon was not asked: {url} has no model {MODEL!r}")
        return rows
    return [*rows, row("a real daemon", url, MODEL)]


if __name__ == "__main__":
    shown(f"what the daemon reads for turn {TURNS}, median of the last {LAST}", measured())
