"""The typed client: one streaming path to the daemon's inference, and what has to be known before it.

Before each request the loaded window is asked for (`/api/ps`, below a millisecond) and sent back as `num_ctx`,
so that a model which others loaded is never loaded again; a model that is not loaded is loaded first, in a
request of its own that is never given up and retried. An answer is a stream of `Piece`; whoever wants it whole
drains it.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from orchestra.errors import (
    EmptyReply,
    FirstTokenTimeout,
    ModelMissing,
    OrchestraError,
    StreamStalled,
    StreamTruncated,
    UsageError,
)
from orchestra.model import wire
from orchestra.model.connection import Connection, Patience
from orchestra.model.messages import FinishReason, Message, Options, Piece, Receipt, Reply, Usage
from orchestra.model.stopping import Criteria
from orchestra.model.tokens import most_tokens_of
from orchestra.runtime import Breakage, Broken, Runtime
from orchestra.settings import Settings

Observe = Callable[[str], None]
Subject = Sequence[Message] | str

# The daemon ends an answer without a word after more than 30 equal pieces in a row.
EQUAL_PIECES = 30
FACTS_AGE = 30.0
WINDOW_OF_OLD_DAEMONS = 2048
_NAME = re.compile(r"[A-Za-z0-9][\w.\-]*(?:[/:@][\w.\-]+)*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model in memory: its window in tokens, whether it may be sent back as `num_ctx`, what it took to get there."""

    window: int
    told: bool = True
    loads: int = 0
    reloads: int = 0


@dataclass(slots=True, kw_only=True)
class _Run:
    """One answer on its way."""

    model: str
    asked: wire.Asked
    bound: int
    receipt: Receipt
    clamped: bool = False
    started: float = 0.0
    first: float | None = None

    def usage(self, pieces: int) -> Usage:
        return Usage(completion_tokens=pieces)

    def closing(self, reason: FinishReason, usage: Usage) -> Piece:
        used = None if usage.prompt_tokens is None else usage.prompt_tokens + (usage.completion_tokens or 0)
        if reason is FinishReason.LENGTH and (self.clamped or (used or 0) >= (self.receipt.window or 1 << 62)):
            reason = FinishReason.CONTEXT_FULL
        receipt = replace(
            self.receipt,
            used=used,
            first_token=self.first and round(self.first - self.started, 6),
            seconds=round(time.monotonic() - self.started, 6),
        )
        return Piece("", finish_reason=reason, usage=usage, receipt=receipt, model=self.model)

    def reply(self, parts: list[str]) -> Reply:
        """The answer so far, for the error that ends it."""
        last = [part.strip() for part in parts[-EQUAL_PIECES:]]
        looped = len(last) == EQUAL_PIECES and len(set(last)) == 1
        reason = FinishReason.REPETITION if looped else FinishReason.INCOMPLETE
        piece = self.closing(reason, self.usage(len(parts)))
        receipt = piece.receipt or self.receipt
        return Reply(text="".join(parts), finish_reason=reason, model=self.model, usage=piece.usage or Usage(), receipt=receipt)


class Client:
    """The daemon, typed. `observe` is told the phase: "waiting", "loading", "reading", "writing"."""

    def __init__(self, runtime: Runtime, settings: Settings, *, observe: Observe | None = None) -> None:
        self.runtime = runtime
        self.settings = settings
        self.connection = Connection(runtime, settings)
        self._observe: Observe = observe or (lambda phase: None)
        self._facts: dict[str, tuple[float, dict[str, Any]]] = {}

    # --- what the daemon knows

    async def version(self) -> str:
        """The daemon's version, e.g. "0.32.15"."""
        return str((await self.connection.ask("GET", "/api/version")).get("version", ""))

    async def tags(self) -> list[dict[str, Any]]:
        """The installed models as the daemon lists them."""
        return _rows(await self.connection.ask("GET", "/api/tags"))

    async def ps(self) -> list[dict[str, Any]]:
        """The loaded models as the daemon lists them."""
        return _rows(await self.connection.ask("GET", "/api/ps"))

    async def show(self, model: str, *, verbose: bool = False) -> dict[str, Any]:
        """All that the daemon says of a model; `verbose` with its vocabulary. Raises `ModelMissing`."""
        _checked(model)
        body = {"model": model, "verbose": True} if verbose else {"model": model}
        try:
            return await self.connection.ask("POST", "/api/show", body, model=model)
        except ModelMissing:
            raise await self._missing(model) from None

    async def facts(self, model: str) -> dict[str, Any]:
        """`show`, remembered for half a minute."""
        kept = self._facts.get(model)
        if kept is None or time.monotonic() - kept[0] > FACTS_AGE:
            kept = self._facts[model] = (time.monotonic(), await self.show(model))
        return kept[1]

    async def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text, in order. A text that is too long is an error, never cut."""
        _checked(model)
        body = {"model": model, "input": list(texts), "truncate": False}
        answer = await self.connection.ask("POST", "/api/embed", body, model=model, patience=self.connection.loading())
        vectors = answer.get("embeddings")
        if not isinstance(vectors, list) or len(vectors) != len(texts):
            raise EmptyReply()
        return vectors

    # --- inference

    def chat(self, messages: Sequence[Message], *, model: str, options: Options | None = None) -> AsyncGenerator[Piece]:
        """The answer of an instruct model to a dialogue, as it comes."""
        return self._guarded(list(messages), model, options or Options(), raw=False)

    def complete(self, prompt: str, *, model: str, options: Options | None = None, raw: bool = False) -> AsyncGenerator[Piece]:
        """The continuation of `prompt`; `raw` leaves the model's template out (base models)."""
        if not prompt.strip():
            raise UsageError(
                detail="the prompt is empty", detail_zh="提示词为空", fix="give it some text to start from", fix_zh="请输入一些文字"
            )
        return self._guarded(prompt, model, options or Options(), raw=raw)

    async def _guarded(self, subject: Subject, model: str, options: Options, *, raw: bool) -> AsyncGenerator[Piece]:
        """The stage of the stopping criteria: it may end an answer that loops or has turned to garbage."""
        criteria = None if options.on_repetition == "ignore" or options.format is not None else Criteria()
        run, body, patience = await self._prepared(subject, model, options, raw=raw)
        count = 0
        async with aclosing(self._pieces(run, body, patience)) as pieces:
            async for piece in pieces:
                count += 1
                verdict = criteria.push(piece.text) if criteria and piece.text and piece.kind == "text" else None
                if verdict is None or piece.finish_reason is not None:
                    yield piece
                    continue
                yield piece
                yield run.closing(verdict.reason, run.usage(count))._replace(keep=verdict.keep)
                return

    async def _prepared(
        self, subject: Subject, model: str, options: Options, *, raw: bool
    ) -> tuple[_Run, dict[str, Any], Patience]:
        """The request, with its bounds taken from the loaded window."""
        _checked(model)
        if options.deadline is None:
            options = replace(options, deadline=self.settings.deadline)
        deadline = time.monotonic() + (options.deadline or self.settings.deadline)
        self._observe("waiting")
        facts = await self.facts(model)
        if options.stop:
            # a request's stops replace the model's own: both are wanted
            options = replace(options, stop=tuple(dict.fromkeys((*options.stop, *own_stops(facts)))))
        if options.repeat_penalty is None:
            options = replace(options, repeat_penalty=self.settings.repeat_penalty)
        loaded = await self._ready(model, options.num_ctx or self.settings.window, facts)
        wanted = options.max_tokens or self.settings.max_tokens or max(1, loaded.window // 4)
        prompt = most_tokens_of(subject, "" if raw else str(facts.get("template", "")) + str(facts.get("system", "")))
        asked = wire.Asked(url=self.connection.url, model=model, window=loaded.window, most=context_length(facts))
        calls = 1
        bounds = wire.Bounds(num_predict=1, num_ctx=loaded.window if loaded.told else None)
        if prompt + wanted > loaded.window:
            calls = 2
            prompt = await self._measured(wire.inference_body(model, subject, options, bounds, raw=raw), asked, prompt)
        room = max(1, loaded.window - prompt)
        bounds = replace(bounds, num_predict=min(wanted, room))
        receipt = Receipt(window=loaded.window, calls=calls, loads=loaded.loads, reloads=loaded.reloads)
        run = _Run(model=model, asked=asked, bound=bounds.num_predict, receipt=receipt, clamped=wanted > room)
        body = wire.inference_body(model, subject, options, bounds, raw=raw)
        if self.settings.keep_alive:
            body["keep_alive"] = self.settings.keep_alive
        return run, body, self.connection.patience(prompt_tokens=prompt, deadline=deadline)

    async def _measured(self, body: dict[str, Any], asked: wire.Asked, most: int) -> int:
        """The prompt's tokens, counted by the daemon itself where the bound in bytes (`most`) does not fit.

        One token is asked for; the daemon keeps the prompt in its cache, so that it is not read twice.
        Raises `PromptTooLong` with the daemon's own numbers.
        """
        patience = self.connection.patience(prompt_tokens=most, deadline=None)
        body = {**body, "stream": False}
        body.pop("format", None)
        async with (
            self.runtime.slot(),
            self.connection.opened("POST", _path(body), body, asked=asked, patience=patience) as answer,
            aclosing(self.connection.events(answer)) as events,
        ):
            self._observe("reading")
            async for event in events:
                return wire.usage_of(event).prompt_tokens or most
        return most

    async def _pieces(self, run: _Run, body: dict[str, Any], patience: Patience) -> AsyncGenerator[Piece]:
        """The daemon's lines as pieces; whatever goes wrong leaves with the answer so far."""
        parts: list[str] = []
        run.started = time.monotonic()
        try:
            async with aclosing(self._events(run, body, patience)) as events:
                async for event in events:
                    if event.get("error"):
                        raise wire.said(200, wire.error_words(event["error"]), run.asked)
                    text, thinking = _text_of(event)
                    if thinking:
                        yield Piece(thinking, "thinking")
                    if run.first is None:
                        run.first = time.monotonic()
                        self._observe("writing")
                    parts.append(text)
                    if event.get("done") is True:
                        yield _last(run, event, text)
                        return
                    if len(parts) > run.bound + EQUAL_PIECES:  # a daemon that knows no bound
                        yield run.closing(FinishReason.LENGTH, run.usage(len(parts)))
                        return
                    if text:
                        yield Piece(text, logprobs=event.get("logprobs"))
        except Broken as broken:
            if broken.how is not Breakage.DEADLINE:
                raise self._broken(broken, run, parts, patience) from broken
            yield run.closing(FinishReason.DEADLINE, run.usage(len(parts)))
            return
        except OrchestraError as error:
            error.reply = error.reply or (run.reply(parts) if parts else None)
            raise
        if not parts:
            raise EmptyReply()
        raise StreamTruncated(reply=run.reply(parts))

    async def _events(self, run: _Run, body: dict[str, Any], patience: Patience) -> AsyncGenerator[dict[str, Any]]:
        async with self.runtime.slot():
            self._observe("reading")
            async with (
                self.connection.opened("POST", _path(body), body, asked=run.asked, patience=patience) as answer,
                aclosing(self.connection.events(answer)) as events,
            ):
                async for event in events:
                    yield event

    def _broken(self, broken: Broken, run: _Run, parts: list[str], patience: Patience) -> OrchestraError:
        reply = run.reply(parts)
        if broken.how is Breakage.TIMEOUT and not parts:
            return FirstTokenTimeout(model=run.model, seconds=round(patience.first), reply=reply)
        if broken.how is Breakage.TIMEOUT:
            return StreamStalled(seconds=round(patience.between), reply=reply)
        return StreamTruncated(reply=reply)

    # --- the loaded window

    async def _ready(self, model: str, wanted: int, facts: dict[str, Any]) -> Loaded:
        """The model in memory, loaded if it was not; `wanted` is a window asked for explicitly, or 0."""
        wanted = min(wanted, context_length(facts) or wanted)
        row = await self._row(model)
        if row is not None and (not wanted or _window(row) in (wanted, 0)):
            return _loaded(row, facts)
        self._observe("loading")
        body: dict[str, Any] = {"model": model, "stream": False}
        if wanted:
            body["options"] = {"num_ctx": wanted}
        if self.settings.keep_alive:
            body["keep_alive"] = self.settings.keep_alive
        await self.connection.ask("POST", "/api/generate", body, model=model, patience=self.connection.loading())
        fresh = _loaded(await self._row(model) or {}, facts)
        return replace(fresh, loads=1) if row is None else replace(fresh, reloads=1)

    async def _row(self, model: str) -> dict[str, Any] | None:
        """The loaded model's row, also where another name of the same weights loaded it."""
        rows = await self.ps()
        for row in rows:
            if full_name(str(row.get("name", ""))) == full_name(model):
                return row
        weights = weights_of(await self.facts(model)) if rows else ""
        for row in rows:
            if weights and weights == weights_of(await self._facts_or_none(str(row.get("name", "")))):
                return row
        return None

    async def _facts_or_none(self, model: str) -> dict[str, Any]:
        try:
            return await self.facts(model)
        except OrchestraError:  # deleted since it was loaded
            return {}

    async def _missing(self, model: str) -> ModelMissing:
        from difflib import get_close_matches

        try:
            names = [str(row.get("name", "")).removesuffix(":latest") for row in await self.tags()]
        except OrchestraError:
            names = []
        near = get_close_matches(model, names, n=2, cutoff=0.5) or [n for n in names if n.startswith(model.partition(":")[0])][:2]
        listed = ", ".join(near)
        en, zh = (f"; there is: {listed}", f"；已安装：{listed}") if near else ("", "")
        return ModelMissing(model=model, nearest=en, nearest_zh=zh)


def full_name(model: str) -> str:
    """A model's name as the daemon completes it: lower case, with its tag."""
    model = model.lower()
    return model if ":" in model.rpartition("/")[2] else model + ":latest"


def context_length(facts: dict[str, Any]) -> int:
    """The longest context the model was made for, from `show`; 0 = not said."""
    info = facts.get("model_info") or {}
    value = info.get(f"{info.get('general.architecture', '')}.context_length")
    return value if isinstance(value, int) else 0


def own_stops(facts: dict[str, Any]) -> list[str]:
    """The model's own stop strings, from the text of `show`'s parameters."""
    found = re.findall(r'^stop\s+"(.*)"\s*$', str(facts.get("parameters") or ""), re.MULTILINE)
    return [stop.replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\") for stop in found]


def weights_of(facts: dict[str, Any]) -> str:
    """The digest of the weights, from `show`'s Modelfile: models made FROM one another share it."""
    match = re.search(r"^FROM .*?(sha256[-:][0-9a-f]{64})\s*$", str(facts.get("modelfile") or ""), re.MULTILINE)
    return match.group(1) if match else ""


def _window(row: dict[str, Any]) -> int:
    value = row.get("context_length")
    return value if isinstance(value, int) and value > 0 else 0


def _loaded(row: dict[str, Any], facts: dict[str, Any]) -> Loaded:
    if window := _window(row):
        return Loaded(window=window)
    # before 0.10 the daemon does not say: the smallest window it may have, and none is sent
    own = re.search(r"^num_ctx\s+(\d+)", str(facts.get("parameters") or ""), re.MULTILINE)
    return Loaded(window=int(own.group(1)) if own else WINDOW_OF_OLD_DAEMONS, told=False)


def _rows(answer: dict[str, Any]) -> list[dict[str, Any]]:
    rows = answer.get("models")
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _checked(model: str) -> None:
    if not _NAME.match(model) or len(model) > 350:
        raise UsageError(
            detail=f"{model[:80]!r} is no model name",
            detail_zh=f"{model[:80]!r} 不是模型名称",
            fix="`orchestra models` lists the installed ones",
            fix_zh="`orchestra models` 会列出已安装的模型",
        )


def _path(body: dict[str, Any]) -> str:
    return "/api/generate" if "prompt" in body else "/api/chat"


def _text_of(event: dict[str, Any]) -> tuple[str, str]:
    message = event.get("message")
    source = message if isinstance(message, dict) else event
    text = source.get("content") if source is message else event.get("response")
    thinking = source.get("thinking")
    return (text if isinstance(text, str) else ""), (thinking if isinstance(thinking, str) else "")


def _last(run: _Run, event: dict[str, Any], text: str) -> Piece:
    reason = FinishReason.LENGTH if event.get("done_reason") == "length" else FinishReason.STOP
    piece = run.closing(reason, wire.usage_of(event))
    return piece._replace(text=text, logprobs=event.get("logprobs"))
