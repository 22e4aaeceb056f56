"""A daemon in trouble, and what users of five clients see of it, plain and through Orchestra.

It loops, meets a dialogue longer than its window, and cuts an answer, each as a real one does it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import clients
import httpx
from clients import NOTED, Ask, Seen
from served import running

from orchestra.gateway import create_app
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn

WINDOW = 256
ROUND = ["It", " is", " so", " because", " it", " is", " so", ". "]
LOOP = Scripted(ROUND * (WINDOW * 2))  # longer than any bound
CUT = Scripted(["The", " sky", " is", " blue", " because", " the", " air"], end="nothing")
ANSWER = "It was the first one."
QUESTION = "Why is the sky blue?"
TURNS = [f"Parcel {n} left the house on Monday and is in the harbour." for n in range(1, 7)]
LAST = "Which parcel was the first?"
_OURS = re.compile(r"^(?:\[The \d+ oldest messages|> ).*$", re.MULTILINE)


@dataclass(frozen=True)
class Cell:
    """What is worth telling: `tokens` of the loop; `left_out` messages; whether the text itself is `told` in; reason and error."""

    tokens: int = 0
    left_out: int = 0
    told: bool = False
    reason: str = ""
    error: str = ""


class Client(NamedTuple):
    """A client: its name, its version (empty: it is not here), and how it is asked; `typed` where each turn is asked by itself."""

    name: str
    version: Callable[[], str]
    ask: Ask
    typed: bool = False


CLIENTS = (
    Client("ollama run", clients.ollama_version, clients.ollama_run, typed=True),
    Client("llm", partial(clients.installed, "llm"), clients.llm, typed=True),
    Client("langchain-ollama", partial(clients.installed, "langchain-ollama"), clients.langchain_ollama),
    Client("openai-python", partial(clients.installed, "openai"), clients.openai_python),
    Client("Open WebUI", clients.open_webui_version, clients.open_webui),
)


def looping(client: Client, url: str, daemon: StandIn) -> Cell:
    """The model says one sentence without end."""
    daemon.script(LOOP)
    seen = client.ask(url, [QUESTION])
    text, told = parted(seen)
    assert "".join(LOOP.pieces).startswith(text), text[:200]
    return Cell(tokens=tokens(text), told=told, reason=seen.reason, error=seen.error)


def overflowing(client: Client, url: str, daemon: StandIn) -> Cell:
    """The dialogue has grown longer than the window."""
    daemon.script(*[NOTED] * (len(TURNS) if client.typed else 0), ANSWER)
    seen = client.ask(url, [*TURNS, LAST])
    text, told = parted(seen)
    assert text == ("" if seen.error else ANSWER), text
    return Cell(left_out=left_out(daemon), told=told, reason=seen.reason, error=seen.error)


def cutting(client: Client, url: str, daemon: StandIn) -> Cell:
    """The answer stops in the middle; the daemon says neither that it has ended nor that it failed."""
    daemon.script(CUT)
    seen = client.ask(url, [QUESTION])
    text, told = parted(seen)
    assert text == "".join(CUT.pieces), text
    return Cell(told=told, reason=seen.reason, error=seen.error)


TROUBLES = {"loop": looping, "overflow": overflowing, "cut": cutting}


@contextmanager
def ways(guard: str = "on") -> Iterator[tuple[StandIn, dict[str, str]]]:
    """The daemon, and its address plain and through Orchestra."""
    with StandIn(window=WINDOW) as daemon:
        settings = Settings.read(host=daemon.url, language="en", guard=guard)
        with running(create_app(settings=settings), settings) as url:
            yield daemon, {"plain": daemon.url, "through": url}


def row(client: Client, way: str, troubles: Iterable[str] = TROUBLES, guard: str = "on") -> dict[str, dict[str, Any]]:
    """A client's cells, measured: `plain` or `through` Orchestra."""
    with ways(guard) as (daemon, addresses):
        return {trouble: asdict(TROUBLES[trouble](client, addresses[way], daemon)) for trouble in troubles}


def parted(seen: Seen) -> tuple[str, bool]:
    """An answer without the lines that are Orchestra's, and whether there were any."""
    rest = _OURS.sub("", seen.text)
    return rest.strip("\n") if rest != seen.text else rest, rest != seen.text


def tokens(text: str) -> int:
    """How many tokens of the loop a text is; some clients strip its last blank."""
    rounds, rest = divmod(len(text), len("".join(ROUND)))
    return rounds * len(ROUND) + next(n for n in range(len(ROUND) + 1) if len("".join(ROUND[:n]).rstrip()) >= rest)


def left_out(daemon: StandIn) -> int:
    """How many messages of the dialogue were not in the prompt of the last request."""
    asked = [one.body for one in daemon.requests if one.body and one.body.get("messages")][-1]
    shown = {"model": asked["model"], "messages": asked["messages"], "_debug_render_only": True, "stream": False}
    told = httpx.post(daemon.url + "/api/chat", json={**shown, "options": asked.get("options", {})}, trust_env=False).json()
    prompt = told["_debug_info"]["rendered_template"]
    return 2 * len([text for text in TURNS if text[:8] not in prompt])
