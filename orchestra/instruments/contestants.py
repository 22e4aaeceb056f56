"""The two kinds of sides that `bench` measures: a model of an Ollama daemon, and one behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypedDict

from orchestra.errors import EndpointFault, FirstTokenTimeout, PromptTooLong, StreamStalled, StreamTruncated, UsageError
from orchestra.instruments.bench import Contestant, Plan, Run, Side
from orchestra.instruments.endpoint import Endpoint, address, endpoint
from orchestra.model import wire
from orchestra.model.answering import EQUAL_PIECES
from orchestra.model.catalog import chosen, is_base, unload
from orchestra.model.client import Client
from orchestra.model.connection import Patience, shown
from orchestra.model.messages import FinishReason, Message, Options, Usage
from orchestra.model.window import Loaded, context_length, full_name, section, weights_of
from orchestra.request import Broken
from orchestra.runtime import Runtime
from orchestra.texts import Words

# what endpoints know of it by the same names; a `repeat_penalty` of their own they cannot be told to leave off
EVEN = {"temperature": 0, "top_p": 1, "seed": 1, "presence_penalty": 0, "frequency_penalty": 0}
GREEDY = Options(temperature=0.0, top_p=1.0, seed=1, repeat_penalty=1.0, presence_penalty=0.0, frequency_penalty=0.0)


class Named(TypedDict, total=False):
    """Who is measured beside models of the daemon: "NAME=URL#MODEL" of other `daemons` and of `endpoints`; `precisions` by name."""

    daemons: Sequence[str]
    endpoints: Sequence[str]
    precisions: Mapping[str, str]


async def contestants(client: Client, models: Sequence[str], named: Named) -> list[Contestant]:
    """All who are measured; the daemon's default model where nobody is named. Raises `UsageError` for what names nobody."""
    precisions = dict(named.get("precisions", {}))
    daemons, endpoints = named.get("daemons", ()), named.get("endpoints", ())
    found: list[Contestant] = []
    if not (models or daemons or endpoints):
        models = [await chosen(client)]
    for model in models:
        found.append(DaemonSide(client, model, precision=precisions.pop(model, "")))
    for written in daemons:
        name, url, model = address(written, "--daemon")
        other = Client(client.runtime, replace(client.settings, host=url))
        found.append(DaemonSide(other, model or await chosen(other), name=name, precision=precisions.pop(name, "")))
    for written in endpoints:
        one = endpoint(written, client.settings)
        precision = precisions.pop(one.name, "")
        found.append(EndpointSide(one, client.runtime, precision=precision, deadline=client.settings.deadline))
    if precisions:
        name = next(iter(precisions))
        raise UsageError(
            detail=f"the precision of {name} is given, which is not measured", detail_zh=f"给出了 {name} 的精度，但它不在测量之列",
            fix="name it as it is measured", fix_zh="请使用所测一方的名称",
        )  # fmt: skip
    return found


class DaemonSide:
    """A model of an Ollama daemon."""

    def __init__(self, client: Client, model: str, *, name: str = "", precision: str = "") -> None:
        self.name = name or model
        self._client, self._model, self._precision = client, model, precision
        self._raw = False
        self._loaded: Loaded | None = None

    async def look(self, plan: Plan) -> Side:
        """What the daemon says of the model. Raises `ModelMissing`, and what says that there is no daemon."""
        client = self._client
        facts = await client.facts(self._model)
        details = section(facts, "details")
        self._raw = is_base(self._model, facts) if plan.base is None else plan.base
        return Side(
            name=self.name, kind="ollama", url=client.connection.url, model=self._model, raw=self._raw,
            precision=self._precision or str(details.get("quantization_level", "")),
            parameters=str(details.get("parameter_size", "")), weights=weights_of(facts), version=await client.version(),
            stand_in=client.connection.stand_in,
        )  # fmt: skip

    async def load(self, *, anew: bool) -> float | None:
        """The time of a load through the daemon; what the file system has kept of the file is not read again."""
        if anew:
            await unload(self._client, self._model)
        started = time.perf_counter()
        self._loaded = await self._client.ready(self._model)
        return time.perf_counter() - started if self._loaded.loads or self._loaded.reloads else None

    async def memory(self, side: Side) -> Side:
        """The model's row of `ps`; other names of the same weights share it."""
        rows = [row for row in await self._client.ps() if full_name(str(row.get("name", ""))) == full_name(self._model)]
        row = rows[0] if rows else {}
        size, vram = row.get("size"), row.get("size_vram")
        return replace(
            side, window=self._loaded.window if self._loaded and self._loaded.told else None,
            memory=size if isinstance(size, int) else None, vram=vram if isinstance(vram, int) else None,
        )  # fmt: skip

    async def run(self, prompt: str, plan: Plan) -> Run:
        """One answer over the daemon's own interface. Raises `PromptTooLong` where prompt and answer do not fit the window."""
        client = self._client
        loaded = self._loaded or await client.ready(self._model)
        asked = wire.Asked(url=client.connection.url, model=self._model, window=loaded.window)
        subject: str | list[Message] = prompt if self._raw else [Message("user", prompt)]
        count = (await client.counter(self._model)).measure(subject, raw=self._raw)
        if count.tokens + plan.tokens > loaded.window:
            raise await self._too_long(count.tokens + plan.tokens, asked)
        bounds = wire.Bounds(num_predict=plan.tokens, num_ctx=loaded.window if loaded.told else None)
        body = wire.inference_body(self._model, subject, GREEDY, bounds, raw=self._raw)
        if client.settings.keep_alive:
            body["keep_alive"] = wire.keep_alive(client.settings.keep_alive)
        patience = client.connection.patience(prompt_tokens=count.tokens, deadline=time.monotonic() + client.settings.deadline)
        watch = Stopwatch()
        try:
            last = await self._answered(body, asked, patience, watch)
        except Broken:
            if watch.first is None:
                raise FirstTokenTimeout(model=self._model, seconds=shown(patience.first)) from None
            raise StreamStalled(seconds=shown(patience.between)) from None
        if watch.ended:
            usage = wire.usage_of(last)
            reason = str(last.get("done_reason") or "")
            return watch.run(prompt_tokens=usage.prompt_tokens, tokens=usage.completion_tokens, finish_reason=reason, usage=usage)
        if watch.equal <= EQUAL_PIECES:
            raise StreamTruncated()
        # greedy and without penalties a model may well loop: the daemon ends it and counts nothing, but it was timed
        read = count.tokens if count.counted == "exact" else None
        return watch.run(prompt_tokens=read, tokens=watch.pieces, counted=False, finish_reason=FinishReason.REPETITION.value)

    async def _answered(self, body: dict[str, Any], asked: wire.Asked, patience: Patience, watch: Stopwatch) -> dict[str, Any]:
        """The last event of the daemon's answer, all of which `watch` sees."""
        connection, path, event = self._client.connection, "/api/generate" if self._raw else "/api/chat", {}
        async with self._client.runtime.slot(patience.deadline):
            watch.start()
            async with (
                connection.opened("POST", path, body, asked=asked, patience=patience) as answer,
                aclosing(connection.events(answer)) as events,
            ):
                async for event in events:
                    if event.get("error"):
                        raise wire.said(200, wire.error_words(event["error"]), asked)
                    watch.see("".join(wire.text_of(event)), ended=bool(event.get("done")))
                    if watch.ended:
                        break
        return event

    async def _too_long(self, needed: int, asked: wire.Asked) -> PromptTooLong:
        most = context_length(await self._client.facts(self._model))
        return wire.too_long(needed, asked.window, replace(asked, most=most))


class EndpointSide:
    """A model behind an OpenAI-compatible endpoint. What it runs on, and in which precision, such an interface does not say."""

    def __init__(self, endpoint: Endpoint, runtime: Runtime, *, precision: str = "", deadline: float = 1800.0) -> None:
        self.name = endpoint.name
        self._endpoint, self._runtime, self._precision, self._deadline = endpoint, runtime, precision, deadline

    async def look(self, plan: Plan) -> Side:
        """The model that is asked for, which it must offer. Raises `EndpointFault`."""
        offered = await self._endpoint.models(self._runtime)
        if not self._endpoint.model:
            if len(offered) != 1:
                raise self._which(offered)
            self._endpoint = replace(self._endpoint, model=offered[0])
        return Side(
            name=self.name, kind="openai", url=self._endpoint.url, model=self._endpoint.model, precision=self._precision,
            raw=bool(plan.base),
        )  # fmt: skip

    def _which(self, offered: Sequence[str]) -> EndpointFault:
        listed = ", ".join(wire.readable(name) for name in offered[:5]) + (", ..." if len(offered) > 5 else "")
        name, url = self.name, self._endpoint.url
        what = Words(f"it offers several models ({listed})", f"它提供多个模型（{listed}）") if offered else Words("it offers no model", "它没有提供模型")
        return self._endpoint.fault(what, Words(f"say which: {name}={url}#MODEL", f"请指定一个：{name}={url}#模型"))

    async def load(self, *, anew: bool) -> float | None:
        """Nothing: such an interface can neither load nor unload."""
        return None

    async def memory(self, side: Side) -> Side:
        """What was known: such an interface does not say."""
        return side

    async def run(self, prompt: str, plan: Plan) -> Run:
        """One answer. Raises `EndpointFault`."""
        asked: dict[str, Any] = {"prompt": prompt} if plan.base else {"messages": [{"role": "user", "content": prompt}]}
        body = {"model": self._endpoint.model, **asked, "max_tokens": plan.tokens, **EVEN}
        watch, read, written, reason = Stopwatch(), None, None, ""
        watch.start()
        until = time.monotonic() + self._deadline
        async with aclosing(self._endpoint.answer(self._runtime, body, seconds=self._deadline, deadline=until)) as deltas:
            async for delta in deltas:
                watch.see(delta.text, ended=bool(delta.finish_reason))
                read, written = delta.prompt_tokens or read, delta.tokens or written
                reason = delta.finish_reason or reason
        if watch.first is None:
            raise self._endpoint.fault(
                Words("its answer is empty", "它的回答为空"), Words("try it with another prompt, or see its log", "请换一个提示词，或查看其日志")
            )
        return watch.run(prompt_tokens=read, tokens=written or watch.pieces, finish_reason=reason, counted=written is not None)


class Stopwatch:
    """When an answer began and ended, by this machine's clock."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._last = 0.0
        self._text = ""
        self.first: float | None = None
        self.ended = False
        self.pieces = self.equal = 0  # parts of the text, and how many of the last ones were the same

    def start(self) -> None:
        """The request is sent now."""
        self._started = time.perf_counter()

    def see(self, text: str, *, ended: bool) -> None:
        """Something came: a part of the text, or the word that it has ended."""
        if text or ended:
            self._last = time.perf_counter() - self._started
        if text:
            self.first = self._last if self.first is None else self.first
            self.pieces += 1
            self.equal, self._text = (self.equal + 1 if text == self._text else 1), text
        self.ended = self.ended or ended

    def run(
        self, *, prompt_tokens: int | None, tokens: int | None, finish_reason: str, counted: bool = True, usage: Usage | None = None
    ) -> Run:
        """The answer, timed; one without a word ended when its first token would have come."""
        usage = usage or Usage()
        read = prompt_tokens / usage.prompt_duration if prompt_tokens and usage.prompt_duration else None
        return Run(
            first_token=self._last if self.first is None else self.first, seconds=self._last, prompt_tokens=prompt_tokens,
            tokens=tokens, counted=counted, finish_reason=finish_reason, daemon_prompt_speed=read, daemon_speed=usage.tokens_per_second,
        )  # fmt: skip
