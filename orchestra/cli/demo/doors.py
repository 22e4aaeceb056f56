"""The gateway on a free port: one question, asked through each of its faces as a curl line asks it."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import httpx

from orchestra.agents.remote import MAX_TOKENS
from orchestra.cli import words
from orchestra.cli.demo.stage import QUIET, Card, Stage
from orchestra.cli.demo.thread import origin, whole
from orchestra.cli.demo.world import Record, World
from orchestra.cli.words import say
from orchestra.errors import ExtraMissing, OrchestraError
from orchestra.settings import Settings

PACE = 0.01
LONGEST = 80  # tokens: a laptop's model writes a few a second, and is asked three times
PATIENCE = 60.0
MODEL = "orchestra/lawyer"
READ_PAUSE = 1.5


def lacking() -> ExtraMissing | None:
    """What is missing for the scene, which says how to get it."""
    from orchestra.gateway import require

    try:
        require()
    except ExtraMissing as error:
        return error
    return None


def doors(stage: Stage, world: World, record: Record) -> None:
    """The lesson's route, the OpenAI protocol and Ollama's own: each gives an answer, and says why it ended."""
    with world.daemon(PACE if world.paced else 0.0) as (url, _):
        settings = replace(world.settings(record.name, url), grace=1.0, token="", tokens="", jwt_secret="")
        with noted() as lines:
            with gateway(settings) as address:
                for title, path, body, read in _faces():
                    _asked(stage, world, record, Question(title, address, path, body, read))
            _told(stage, record, lines)  # a request is reported when its answer has gone out, and not before


def _faces() -> list[tuple[str, str, dict[str, Any], Callable[[Any], tuple[str, str]]]]:
    """Each face: its name, its route, the question in its words, where its answer and its end are."""
    question = say("Is consent enough to process health data?", "违约金过高可以调整吗？")
    asked = {"model": MODEL, "messages": [{"role": "user", "content": question}]}
    return [
        (say("The lesson's route", "课程的接口"), "/chat", {"intent": question, "persona": "lawyer"},
         lambda said: (said["response"], said["finish_reason"])),
        (say("The OpenAI protocol", "OpenAI 协议"), "/v1/chat/completions", {**asked, "max_tokens": LONGEST},
         lambda said: (said["choices"][0]["message"]["content"], said["choices"][0]["finish_reason"])),
        (say("Ollama's own protocol", "Ollama 协议"), "/api/chat",
         {**asked, "stream": False, "options": {"num_predict": LONGEST}},
         lambda said: (said["message"]["content"], said["done_reason"])),
    ]  # fmt: skip


class Question:
    """A question to one face, as a curl line and as a request."""

    def __init__(self, title: str, address: str, path: str, body: dict[str, Any], read: Callable[[Any], tuple[str, str]]) -> None:
        self.title, self.path, self._url, self._body, self._read = title, path, address + path, body, read
        bound = {MAX_TOKENS: str(LONGEST)} if path == "/chat" else {}  # the others have a field for it
        self._headers = {"Content-Type": "application/json", **bound}

    @property
    def line(self) -> str:
        """The curl line."""
        body = json.dumps(self._body, ensure_ascii=False)
        headers = " ".join(f"-H '{name}: {value}'" for name, value in self._headers.items())
        return f"curl -X POST {self._url} {headers} -d '{body}'"

    def answered(self) -> tuple[str, str]:
        """The answer and why it ended. Raises what `httpx` raises, and `ValueError` for an answer of another shape."""
        answer = httpx.post(self._url, json=self._body, headers=self._headers, timeout=PATIENCE, trust_env=False)
        try:
            return self._read(answer.raise_for_status().json())
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"no answer of this protocol: {error!r}") from None


def _asked(stage: Stage, world: World, record: Record, question: Question) -> None:
    card = Card(question.title, origin(world), live=True)
    with stage.shown(card) as redraw:
        card.say(question.line, QUIET)
        redraw()
        try:
            text, reason = question.answered()
        except (httpx.HTTPError, ValueError) as error:
            record.promise(False, f"{question.path}: {error}")
            return
        card.quote(whole(text), dim=world.stand_in, lines=3)
        card.fact(say("ended", "结束原因"), reason)
        record.facts[question.path] = {"text": text, "finish_reason": reason}
        record.promise(bool(text.strip()) and bool(reason), f"{question.path} answers, and says why it ended")
    stage.pause(READ_PAUSE)


def _told(stage: Stage, record: Record, lines: list[str]) -> None:
    """What whoever runs the gateway sees of it."""
    card = Card(say("What orchestra serve shows", "orchestra serve 显示的内容"), say("a line for each request", "每个请求一行"), live=True)
    with stage.shown(card):
        for line in lines:
            card.say(line)
        held = record.promise(len(lines) == len(_faces()), "each request is a line")
        card.verdict(held and record.ok, say("three protocols, one expert, every end said", "三种协议，同一位专家，每次结束都有说明"))
    record.facts["lines"] = list(lines)


@contextmanager
def gateway(settings: Settings) -> Iterator[str]:
    """The address of a gateway that runs in a thread for as long as the block does."""
    from orchestra.gateway import create_app
    from orchestra.gateway.serving import Service, serve

    app = create_app(settings=settings)
    up = threading.Event()
    addresses: list[str] = []
    ends: list[Callable[[], object]] = []

    def ready(found: list[str]) -> None:
        addresses.extend(found)
        up.set()

    async def main() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        ends.append(lambda: loop.call_soon_threadsafe(task.cancel) if task else None)
        with suppress(asyncio.CancelledError, OrchestraError):  # without an address the scene says so
            await serve([Service(app, "127.0.0.1", 0)], settings, ready)
        up.set()

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="demo-gateway", daemon=True)
    thread.start()
    up.wait()
    try:
        yield addresses[0] if addresses else "http://127.0.0.1:0"
    finally:
        with suppress(RuntimeError):  # its loop has ended already
            ends[0]()
        thread.join(5.0)


@contextmanager
def noted() -> Iterator[list[str]]:
    """The reports of requests, as lines, for as long as the block runs."""
    from orchestra.gateway.reporting import REQUESTS

    lines: list[str] = []

    class Noting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append("  ".join(filter(None, vars(record)["report"].cells(words.LANGUAGE))))

    handler, before = Noting(), REQUESTS.level
    REQUESTS.addHandler(handler)
    REQUESTS.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        REQUESTS.removeHandler(handler)
        REQUESTS.setLevel(before)
