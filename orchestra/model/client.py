"""The typed client: one streaming path to the daemon's inference, and what has to be known before it.

Before each request the loaded window is asked for (`/api/ps`, below a millisecond) and sent back as `num_ctx`,
so that a model which others loaded is never loaded again; a model that is not loaded is loaded first, in a
request of its own that is never given up and retried. An answer is a stream of `Piece`; whoever wants it whole
drains it.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import fields, replace
from functools import partial
from typing import Any, TypeVar, cast

from orchestra.errors import EmptyReply, FirstTokenTimeout, ModelMissing, OrchestraError, StreamTruncated, UsageError
from orchestra.model import wire
from orchestra.model.answering import Answering
from orchestra.model.connection import Connection, Patience, shown
from orchestra.model.counting import Counting
from orchestra.model.language import held_to
from orchestra.model.messages import FinishReason, Message, Options, Piece, Receipt
from orchestra.model.stages import Ask, Question, in_language, skipping
from orchestra.model.stopping import Watch
from orchestra.model.thinking import Thoughts, opens_thinking, told_apart
from orchestra.model.tokens import Count, Counter, most_tokens_of, most_tokens_of_tools
from orchestra.model.typed import typed
from orchestra.model.window import (
    Fit,
    Loaded,
    answer_share,
    context_length,
    full_name,
    loaded_of,
    own_stops,
    weights_of,
    window_of,
)
from orchestra.request import Breakage, Broken
from orchestra.runtime import Runtime
from orchestra.settings import Settings
from orchestra.slots import loading

Observe = Callable[[str], None]
T = TypeVar("T")

FACTS_AGE = 30.0
_NAME = re.compile(r"[A-Za-z0-9][\w.\-]*(?:[/:@][\w.\-]+)*\Z")


class Client:
    """The daemon, typed. `observe` is told the phase: "waiting", "loading", "reading", "writing"."""

    def __init__(self, runtime: Runtime, settings: Settings, *, observe: Observe | None = None) -> None:
        self.runtime = runtime
        self.settings = settings
        self.connection = Connection(runtime, settings)
        self._observe: Observe = observe or (lambda phase: None)
        self._kept: dict[str, tuple[float, Any]] = {}
        self._counting = Counting(runtime, settings.folder())

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
        return await self.remembered(f"show {model}", partial(self.show, model))

    async def remembered(self, what: str, find: Callable[[], Awaitable[T]]) -> T:
        """What was found under that name within half a minute, else what is found now."""
        kept = self._kept.get(what)
        if kept is None or time.monotonic() - kept[0] > FACTS_AGE:
            kept = self._kept[what] = (time.monotonic(), await find())
        return cast(T, kept[1])

    async def counter(self, model: str) -> Counter:
        """What counts the tokens of texts and dialogues for this model, as the daemon will."""
        return await self._counting.counter(model, await self.facts(model), verbose=lambda: self.show(model, verbose=True))

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

    def chat(
        self,
        messages: Sequence[Message],
        *,
        model: str,
        options: Options | None = None,
        fit: Fit | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> AsyncGenerator[Piece]:
        """The answer of an instruct model to a dialogue, as it comes; `tools`, in the daemon's form, are what it may call instead."""
        if not messages:
            raise UsageError(detail="there is no message", detail_zh="没有消息", fix="say something", fix_zh="请输入内容")
        return self._asked(Question(subject=list(messages), options=options or Options(), fit=fit, tools=tools), model)

    def complete(
        self, prompt: str, *, model: str, options: Options | None = None, raw: bool = False, fit: Fit | None = None
    ) -> AsyncGenerator[Piece]:
        """The continuation of `prompt`; `raw` leaves the model's template out (base models)."""
        if not prompt.strip():
            raise UsageError(
                detail="the prompt is empty", detail_zh="提示词为空", fix="give it some text to start from", fix_zh="请输入一些文字"
            )
        return self._asked(Question(subject=prompt, options=options or Options(), raw=raw, fit=fit), model)

    def _asked(self, question: Question, model: str) -> AsyncGenerator[Piece]:
        """The answer, through the stages that its options ask for."""
        options, until = question.options, 0.0

        def once(question: Question) -> AsyncGenerator[Piece]:
            nonlocal until
            if until:  # what is asked in addition has the rest of the time
                left = max(0.001, until - time.monotonic())
                question = replace(question, options=replace(question.options, deadline=left))
            else:
                until = time.monotonic() + (options.deadline or self.settings.deadline)
            return self._once(question, model)

        ask: Ask = once
        language = None if options.format is not None or question.raw or question.tools else held_to(question.subject)
        if language is not None and options.schema is None:
            ask = partial(in_language, ask, language=language)
        if options.on_repetition == "skip":
            ask = partial(skipping, once, first=ask, settings=self.settings)
        if options.schema is not None:
            ask = partial(typed, ask)
        return ask(question)

    async def _once(self, question: Question, model: str) -> AsyncGenerator[Piece]:
        """One answer of the daemon, its thinking told apart; it is ended where it loops or has turned to garbage."""
        options = question.options
        watch = None if options.on_repetition == "ignore" or options.format is not None else Watch()
        run, body, patience = await self._prepared(question, model)
        if question.begun is not None:
            question.begun(run.receipt)
        opened = opens_thinking(question.subject if question.raw else (await self.facts(model)).get("template"))
        thoughts = Thoughts(opened=opened)
        try:
            async with aclosing(self._pieces(run, body, patience)) as pieces:
                async for raw in pieces:
                    for piece in (raw,) if raw.tool_calls else thoughts.push(raw):
                        verdict = watch.push(piece) if watch else None
                        if verdict is None:
                            yield piece
                        elif piece.finish_reason is None:
                            yield piece
                            yield run.closing(verdict.reason)._replace(keep=verdict.keep)
                            return
                        else:
                            yield piece._replace(finish_reason=verdict.reason, keep=verdict.keep)
        except OrchestraError as error:
            if error.reply is not None:
                error.reply = told_apart(error.reply, opened=opened)
            raise

    async def _prepared(self, question: Question, model: str) -> tuple[Answering, dict[str, Any], Patience]:
        """The request, with its bounds taken from the loaded window."""
        subject, options, raw, tools = question.subject, question.options, question.raw, question.tools
        _checked(model)
        _sound(options)
        deadline = time.monotonic() + (options.deadline or self.settings.deadline)
        self._observe("waiting")
        facts = await self.facts(model)
        if options.stop:
            # a request's stops replace the model's own: both are wanted
            options = replace(options, stop=tuple(dict.fromkeys((*options.stop, *own_stops(facts)))))
        if options.repeat_penalty is None:
            options = replace(options, repeat_penalty=self.settings.repeat_penalty)
        fit = question.fit or Fit(
            loaded=await self.ready(model, options),
            most=most_tokens_of(subject, "" if raw else str(facts.get("template", "")) + str(facts.get("system", ""))),
        )
        loaded, count = fit.loaded, Count(fit.most + most_tokens_of_tools(tools), "bound" if tools else fit.counted)
        wanted = answer_share(loaded.window, options, self.settings)
        asked = wire.Asked(url=self.connection.url, model=model, window=loaded.window, most=context_length(facts))
        calls = 1
        bounds = wire.Bounds(num_predict=1, num_ctx=loaded.window if loaded.told else None)
        if count.tokens + wanted > loaded.window and count.counted != "exact":
            count = await self.runtime.call(partial((await self.counter(model)).measure, subject, raw=raw, tools=tools))
            sure = count.counted == "exact" or (tools and count.tokens + wanted <= loaded.window)
            if not (sure and loaded.told):
                calls = 2
                patience = self.connection.patience(prompt_tokens=count.tokens, deadline=deadline)
                body = wire.inference_body(model, subject, options, bounds, raw=raw, tools=tools)
                said = await self.measured(body, asked, patience)
                if said and not tools:
                    await self._counting.heard(model, facts, subject, said, raw=raw)
                if count.counted == "exact" and 0 < said < count.tokens and await self._counts_all():
                    raise wire.too_long(count.tokens, loaded.window, asked)  # an old daemon, which has cut it
                count = Count(said, "measured") if said and count.counted != "exact" else count
        if count.counted == "exact" and count.tokens >= loaded.window and loaded.told:
            raise wire.too_long(count.tokens, loaded.window, asked)
        room = max(1, loaded.window - count.tokens)
        bounds = replace(bounds, num_predict=min(wanted, room))
        receipt = Receipt(window=loaded.window, calls=calls, loads=loaded.loads, reloads=loaded.reloads, counted=count.counted)
        run = Answering(
            model=model, asked=asked, bound=bounds.num_predict, receipt=receipt, observe=self._observe, clamped=wanted > room,
            watched=options.on_repetition != "ignore", expected=count.tokens if count.counted == "exact" else 0,
            heard=None if tools else partial(self._counting.heard, model, facts, subject, raw=raw), counts_all=self._counts_all,
            offered=bool(tools),
        )  # fmt: skip
        body = wire.inference_body(model, subject, options, bounds, raw=raw, tools=tools)
        if self.settings.keep_alive:
            body["keep_alive"] = wire.keep_alive(self.settings.keep_alive)
        return run, body, self.connection.patience(prompt_tokens=count.tokens, deadline=deadline)

    async def measured(self, body: dict[str, Any], asked: wire.Asked, patience: Patience) -> int:
        """The prompt's tokens, counted by the daemon itself where the bound in bytes does not fit; 0 = not said.

        One token is asked for; the daemon keeps the prompt in its cache, so that it is not read twice.
        Raises `PromptTooLong` with the daemon's own numbers.
        """
        body = {**body, "stream": False}
        body.pop("format", None)
        try:
            async with self.runtime.slot(patience.deadline):
                self._observe("reading")
                event = await self.connection.whole("POST", _path(body), body, asked=asked, patience=patience)
        except Broken as broken:
            raise FirstTokenTimeout(model=asked.model, seconds=shown(patience.first)) from broken
        except ModelMissing:
            raise await self._missing(asked.model) from None
        return wire.usage_of(event).prompt_tokens or 0

    async def _counts_all(self) -> bool:
        """Whether the daemon's count of a prompt holds what it had in its cache: not before 0.4, and not in 0.30.0."""
        try:
            number = tuple(map(int, re.findall(r"\d+", await self.version())[:3]))
        except OrchestraError:
            return False
        return number >= (0, 4, 0) and number != (0, 30, 0)

    async def _pieces(self, run: Answering, body: dict[str, Any], patience: Patience) -> AsyncGenerator[Piece]:
        """The daemon's lines as pieces; whatever goes wrong leaves with the answer so far."""
        try:
            async with aclosing(self._events(run, body, patience)) as events:
                async for event in events:
                    for piece in run.pieces(event):
                        yield await run.audited(piece)
                    if run.ended:
                        return
        except Broken as broken:
            if broken.how is not Breakage.DEADLINE:
                raise run.fault(broken, first=patience.first, between=patience.between) from broken
            yield run.closing(FinishReason.DEADLINE)
            return
        except ModelMissing:
            raise await self._missing(run.model) from None
        except OrchestraError as error:
            raise run.fault(error, first=patience.first, between=patience.between) from error.__cause__
        if not run.parts:
            raise EmptyReply()
        raise StreamTruncated(reply=run.reply())

    async def _events(self, run: Answering, body: dict[str, Any], patience: Patience) -> AsyncGenerator[dict[str, Any]]:
        async with self.runtime.slot(patience.deadline):
            self._observe("reading")
            async with (
                self.connection.opened(
                    "POST", _path(body), body, asked=run.asked, patience=patience, retried=run.retried
                ) as answer,
                aclosing(self.connection.events(answer)) as events,
            ):
                async for event in events:
                    yield event

    # --- the loaded window

    async def ready(self, model: str, options: Options | None = None) -> Loaded:
        """The model in memory with its real window; loaded in a request of its own if it was not."""
        facts = await self.facts(model)
        wanted = (options and options.num_ctx) or self.settings.window
        wanted = min(wanted, context_length(facts) or wanted)
        row = await self._row(model)
        if row is not None and (not wanted or window_of(row) in (wanted, 0)):
            return loaded_of(row, facts)
        self._observe("loading")
        body: dict[str, Any] = {"model": model, "stream": False}
        if wanted:
            body["options"] = {"num_ctx": wanted}
        if self.settings.keep_alive:
            body["keep_alive"] = wire.keep_alive(self.settings.keep_alive)
        with loading(model):
            await self.connection.ask("POST", "/api/generate", body, model=model, patience=self.connection.loading())
        fresh = loaded_of(await self._row(model) or {}, facts)
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


def _sound(options: Options) -> None:
    """Refuses bounds that bound nothing, and numbers that JSON cannot carry."""
    for name, value in ((f.name, getattr(options, f.name)) for f in fields(options)):
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        if not math.isfinite(value) or (name in ("max_tokens", "num_ctx", "deadline") and value <= 0):
            raise UsageError(
                detail=f"{name} cannot be {value}",
                detail_zh=f"{name} 不能为 {value}",
                fix="leave it out, or give a number above 0",
                fix_zh="请省略该参数，或使用大于 0 的数字",
            )


def _path(body: dict[str, Any]) -> str:
    return "/api/generate" if "prompt" in body else "/api/chat"
