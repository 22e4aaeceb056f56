"""An OpenAI-compatible endpoint (transformers serve, vLLM, llama-server, Ollama's own /v1): its model, and one answer as it comes.

What is sent is in that interface: messages or a prompt, `max_tokens`, how to choose, a stream with its usage at the end
(platform.openai.com/docs/api-reference/chat/streaming; server-sent events, WHATWG HTML 9.2). A key is sent to its endpoint's
own origin alone, and a redirect is not followed.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from orchestra.agents.bearer import origin, tokens
from orchestra.errors import EndpointFault, OrchestraError, UsageError
from orchestra.model import wire
from orchestra.request import Breakage, Broken, Request
from orchestra.runtime import Runtime
from orchestra.settings import Settings
from orchestra.texts import Words

KEYS = "ORCHESTRA_ENDPOINT_KEYS"
LARGEST = 2**20  # bytes of a list of models, of a refusal, of one event
BRIEF = 10.0
_NAMED = re.compile(r"([\w.-]{1,40})=(\S+)")
_ADDRESS = Words(
    "check the address: it is what an OpenAI client takes as base_url, and mostly ends in /v1",
    "请检查地址：即 OpenAI 客户端的 base_url，通常以 /v1 结尾",
)
_KEY = Words(f"give its key in {KEYS}, as ADDRESS=KEY", f"请在 {KEYS} 中以 地址=密钥 的形式给出密钥")
_MODEL = Words("name the model after the address: NAME=URL#MODEL", "请在地址后指定模型：名称=URL#模型")
_LOG = Words("see its log, then try again", "请查看其日志，然后重试")


class Delta(NamedTuple):
    """One event of an answer: its text; at the end why it ended and the tokens, as far as the endpoint says so."""

    text: str = ""
    finish_reason: str = ""
    prompt_tokens: int | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where it is (`url` as an OpenAI client's base_url), the model that is asked for ("" = its only one), and its key."""

    name: str
    url: str
    model: str = ""
    key: str = field(default="", repr=False)

    async def models(self, runtime: Runtime) -> list[str]:
        """The models that it offers. Raises `EndpointFault`."""
        request = self._request("GET", "/models", None, seconds=BRIEF, deadline=time.monotonic() + 2 * BRIEF)
        body = b""
        async with aclosing(self._answered(runtime, request)) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > LARGEST:
                    raise self.fault(_unlike("/models"), _ADDRESS)
        try:
            rows = wire.parsed(body).get("data")
        except wire.Corrupt:
            rows = None
        if not isinstance(rows, list):
            raise self.fault(_unlike("/models"), _ADDRESS)
        return [str(row["id"]) for row in rows if isinstance(row, dict) and row.get("id")]

    async def answer(self, runtime: Runtime, body: dict[str, Any], *, seconds: float, deadline: float) -> AsyncGenerator[Delta]:
        """The answer to `body` (with "messages" or a "prompt"), event by event; `seconds` is the patience between two."""
        path = "/chat/completions" if "messages" in body else "/completions"
        sent = {**body, "stream": True, "stream_options": {"include_usage": True}}
        request = self._request("POST", path, sent, seconds=seconds, deadline=deadline)
        ended = streamed = False
        async with aclosing(self._answered(runtime, request)) as chunks, aclosing(_lines(chunks)) as lines:
            async for line in lines:
                name, _, data = line.partition(b":")
                if name != b"data":
                    continue
                streamed = True
                if data.strip() == b"[DONE]":
                    return
                delta = self._delta(data, path)
                ended = ended or bool(delta.finish_reason)
                yield delta
        if not streamed:
            raise self.fault(_unlike(path), _ADDRESS)
        if not ended:
            raise self.fault(Words("the answer broke off", "回答中断"), _LOG)

    def fault(self, what: Words, fix: Words) -> EndpointFault:
        """The error about this endpoint."""
        return EndpointFault(name=self.name, url=self.url, detail=what.en, detail_zh=what.zh, fix=fix.en, fix_zh=fix.zh)

    def _request(self, method: str, path: str, body: dict[str, Any] | None, *, seconds: float, deadline: float) -> Request:
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        return Request(
            method=method, url=self.url + path, body=content, headers=headers, first=seconds, between=seconds, deadline=deadline
        )

    async def _answered(self, runtime: Runtime, request: Request) -> AsyncGenerator[bytes]:
        """The body of an answer with status 200, as it comes. Raises `EndpointFault`."""
        try:
            async with runtime.send(request) as answer, aclosing(answer.chunks()) as chunks:
                if answer.status != 200:
                    raise await self._refusal(answer.status, chunks)
                if "html" in answer.headers.get("content-type", ""):
                    raise self.fault(_unlike(request.url.removeprefix(self.url)), _ADDRESS)
                async for chunk in chunks:
                    yield chunk
        except Broken as broken:
            match broken.how:
                case Breakage.CONNECT:
                    raise self.fault(Words("nothing answers there", "该地址没有应答"), _ADDRESS) from None
                case Breakage.TIMEOUT | Breakage.DEADLINE:
                    raise self.fault(Words("it does not answer in time", "应答超时"), _LOG) from None
                case Breakage.PROTOCOL:
                    raise self.fault(Words("it does not speak HTTP", "它不使用 HTTP 协议"), _ADDRESS) from None
                case _:
                    raise self.fault(Words("the connection broke", "连接中断"), _LOG) from None

    async def _refusal(self, status: int, chunks: AsyncGenerator[bytes]) -> OrchestraError:
        body = b""
        async for chunk in chunks:
            body += chunk
            if len(body) > LARGEST:
                break
        detail = self._said(body)
        if 300 <= status < 400:
            return self.fault(Words("it redirects elsewhere, which is not followed", "它要求重定向，未跟随"), _ADDRESS)
        fix = _KEY if status in (401, 403) else _ADDRESS if status in (404, 405) and not detail else _LOG
        if detail and "model" in detail.lower() and status in (400, 404):
            fix = _MODEL
        told = f"HTTP {status}" + (f": {detail}" if detail else "")
        return self.fault(Words(told, told), fix)

    def _said(self, body: bytes) -> str:
        """What a refusal says of itself, where it is in the protocol's form; never the key."""
        try:
            detail = wire.readable(wire.error_words(wire.parsed(body).get("error")))
        except wire.Corrupt:
            return ""
        return detail.replace(self.key, "***") if self.key else detail

    def _delta(self, data: bytes, path: str) -> Delta:
        try:
            event = wire.parsed(data)
        except wire.Corrupt:
            raise self.fault(_unlike(path), _ADDRESS) from None
        if event.get("error"):
            detail = self._said(data)
            raise self.fault(Words(detail, detail), _LOG)
        choices, usage = event.get("choices"), event.get("usage")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        delta = choice.get("delta")
        said = delta if isinstance(delta, dict) else choice
        texts = [said.get(name) for name in ("content", "reasoning", "reasoning_content", "text")]
        counted = usage if isinstance(usage, dict) else {}
        return Delta(
            text="".join(text for text in texts if isinstance(text, str)),
            finish_reason=str(choice.get("finish_reason") or ""),
            prompt_tokens=_count(counted.get("prompt_tokens")),
            tokens=_count(counted.get("completion_tokens")),
        )


def endpoint(written: str, settings: Settings) -> Endpoint:
    """The endpoint that is written as `NAME=URL` or `NAME=URL#MODEL`. Raises `UsageError`."""
    name, url, model = address(written, "--endpoint")
    return Endpoint(name=name, url=url, model=model, key=tokens(settings.endpoint_keys, KEYS).get(origin(url), ""))


def address(written: str, option: str) -> tuple[str, str, str]:
    """Name, address and model ("" = not given) of `NAME=URL#MODEL`. Raises `UsageError`."""
    found = _NAMED.fullmatch(written)
    url, _, model = found[2].partition("#") if found else ("", "", "")
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        usable = bool(url and parts.hostname) and parts.scheme in ("http", "https") and parts.username is None and parts.port != 0
    except ValueError:
        usable = False
    if not found or not usable:
        shown = re.sub("//[^/@]*@", "//...@", written)
        raise UsageError(
            detail=f"{option} {shown} names no address", detail_zh=f"{option} {shown} 没有给出地址",
            fix=f"write it as NAME=URL or NAME=URL#MODEL, for example: {option} vllm=http://localhost:8000/v1",
            fix_zh=f"请写成 名称=URL 或 名称=URL#模型，例如：{option} vllm=http://localhost:8000/v1",
        )  # fmt: skip
    return found[1], (url if "://" in url else f"http://{url}").rstrip("/"), model


def _unlike(path: str) -> Words:
    return Words(f"{path} does not answer as the OpenAI API does", f"{path} 的应答不符合 OpenAI API")


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 < value < 2**31 else None


async def _lines(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The lines of an event stream, without their ends; one that never ends is cut off."""
    pending = b""
    async for chunk in chunks:
        *whole, pending = (pending + chunk).split(b"\n")
        for line in whole:
            yield line.rstrip(b"\r")
        if len(pending) > LARGEST:
            return
    if pending:
        yield pending
