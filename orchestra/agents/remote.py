"""An expert at a URL: whatever speaks the lesson's `POST /chat {"intent": ...} -> {"response": ...}`.

Who it is it says itself at `GET /persona`; a service that does not is known by what the operator says. Its address
was named by the operator, so it may be a private one; a redirect would leave it, and is not followed. Its answer is
read within a limit of bytes and time.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import httpx

from orchestra.agents.budget import least
from orchestra.agents.tool import DOWN, QUESTION, CallContext, Contribution, Fault, bounded
from orchestra.errors import UsageError
from orchestra.model.connection import shown
from orchestra.model.language import language_of
from orchestra.model.messages import Usage
from orchestra.model.persona import in_or_any
from orchestra.model.untrusted import visible
from orchestra.request import Breakage, Broken, Request
from orchestra.runtime import Runtime
from orchestra.texts import Words

SECONDS = 120.0  # what one of several services on a machine with one model may need; waited for once, then it counts as down
MAX_TOKENS = "Orchestra-Max-Tokens"  # the header with the most that an answer may take of the asker's budget
INTRODUCTION = 2.0  # seconds for `GET /persona`: it is known without a model
LARGEST = 2**20
MOST_TOKENS = 10_000_000  # that anybody can have read or written for one answer
LONGEST_DESCRIPTION = 500
SHORTEST_TOKEN = 8
_NAMED = re.compile(r"[\w-]{1,64}=")
_PLACE = re.compile(r"(?:https?://\S+|[\w.-]+:\d{1,5}(?:/\S*)?)", re.IGNORECASE)
_GONE = Words("nothing answers at {url}", "{url} 没有应答")
_BROKE = Words("the connection to {url} broke", "与 {url} 的连接中断")
_LATE = Words("no whole answer within {seconds} s", "{seconds} 秒内没有完整应答")
_REDIRECT = Words("it redirects elsewhere, which is not followed", "它要求重定向，未跟随")
_STATUS = Words("HTTP {status}{detail}", "HTTP {status}{detail}")
_TOKEN_MISSING = Words("it wants a token: set ORCHESTRA_EXPERT_TOKENS", "它要求令牌：请设置 ORCHESTRA_EXPERT_TOKENS")
_TOKEN_WRONG = Words("it refuses its token of ORCHESTRA_EXPERT_TOKENS", "它拒绝 ORCHESTRA_EXPERT_TOKENS 中的令牌")
_LARGE = Words("its answer is larger than {limit} bytes", "回答超过 {limit} 字节")
_GARBAGE = Words('its answer is no JSON object with a "response"', "它的应答不是带有 response 的 JSON 对象")
_EMPTY = Words("its answer is empty", "它的回答为空")
_LOOP = Words("it was asked before on this way, or is too far down", "问题此前已经过它，或层级过深")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """An expert at `url` (without `/chat`); `seconds` is the longest that it may take for an answer, `token` is for it alone.

    `title` and `description` are by language, as a persona's.
    """

    name: str
    url: str
    title: Mapping[str, str] = field(default_factory=dict)
    description: Mapping[str, str] = field(default_factory=dict)
    seconds: float = SECONDS
    token: str = field(default="", repr=False)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """It takes a text."""
        return QUESTION

    def titled(self, language: str) -> str:
        """The title in `language`, else in the language there is, else the name."""
        return in_or_any(self.title, language) or self.name

    def described(self, language: str) -> str:
        """The description in `language`, else in the language there is."""
        return in_or_any(self.description, language)

    async def ask(self, question: str, context: CallContext) -> Contribution:
        """What the service answers. All that it does wrong is in the contribution."""
        started = time.monotonic()
        language = context.options.language or language_of(question)
        answer, error, usage, failures = "", "", Usage(), 0
        try:
            if not context.lineage.leads_to(self.name):
                raise Fault(_LOOP)
            answer, usage = await self._answer(question, context, started)
        except Fault as fault:
            error, failures = fault.words.text(language, fault.facts), fault.failures
        duration = round(time.monotonic() - started, 6)
        return Contribution(answer=bounded(answer, language), error=error, duration=duration, usage=usage, failures=failures)

    async def _answer(self, question: str, context: CallContext, started: float) -> tuple[str, Usage]:
        seconds, most = least(self.seconds, context.options.deadline), context.options.max_tokens
        allotted = {MAX_TOKENS: str(most)} if most else {}
        request = Request(
            method="POST",
            url=self.url + "/chat",
            body=json.dumps({"intent": question}, ensure_ascii=False).encode("utf-8", "replace"),
            headers={**context.lineage.headers(), **allotted, **_bearing(self.token)},
            first=seconds,
            between=seconds,
            deadline=started + seconds,
        )
        said = _read(await _exchanged(context.runtime, request, seconds, self))
        response = said.get("response") if isinstance(said, dict) else None
        if not isinstance(response, str):
            raise Fault(_GARBAGE)
        if not response.strip():
            raise Fault(_EMPTY)
        return _without(self.token, response.strip()), _usage(said.get("usage"), most)


def address(named: str) -> tuple[str, str] | None:
    """Name ("" = not given) and address of an expert written as `NAME=URL`, `URL` or `host:port`, with or without `/chat`.

    None for what is no address, such as a persona's name. Raises `UsageError` for one that cannot be asked.
    """
    found = _NAMED.match(named)
    name, place = (named[: found.end() - 1], named[found.end() :]) if found else ("", named)
    if not _PLACE.fullmatch(place):
        if found:
            raise _unusable(named)
        before, equals, after = named.partition("=")
        if equals and _PLACE.fullmatch(after):
            raise UsageError(
                detail=f"{before!r} is no name of an expert", detail_zh=f"{before!r} 不能作为专家名称",
                fix="write it in letters, digits, _ and -, at most 64", fix_zh="名称请用文字、数字、_ 和 -，最多 64 个字符",
            )  # fmt: skip
        return None
    place = place if "://" in place else f"http://{place}"
    try:
        httpx.URL(place)
        parts = urlsplit(place)
        usable = bool(parts.hostname) and parts.username is None and not parts.query and not parts.fragment and parts.port != 0
    except (ValueError, httpx.InvalidURL):
        usable = False
    if not usable:
        raise _unusable(named)
    return name, place.rstrip("/").removesuffix("/chat").rstrip("/")


def _unusable(named: str) -> UsageError:
    # an address may hold a password
    shown = re.sub("//[^/@]*@", "//...@", named)
    return UsageError(
        detail=f"{shown} is no address of an expert", detail_zh=f"{shown} 不是专家的地址",
        fix="write it as NAME=URL, for example lawyer=http://localhost:5001", fix_zh="请写成 名称=URL，例如 lawyer=http://localhost:5001",
    )  # fmt: skip


async def introduced(runtime: Runtime, stranger: Remote, *, seconds: float = INTRODUCTION) -> Remote | None:
    """The expert at an address as it says itself at `GET /persona`; None where nobody says anything usable in so many seconds."""
    seconds = min(seconds, INTRODUCTION)
    request = Request(
        method="GET", url=stranger.url + "/persona", headers=_bearing(stranger.token), connect=seconds, first=seconds,
        between=seconds, deadline=time.monotonic() + seconds,
    )  # fmt: skip
    try:
        said = _read(await _exchanged(runtime, request, seconds, stranger))
    except Fault:
        return None
    if not isinstance(said, dict):
        return None
    name = said.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[\w-]{1,64}", name):
        return None
    return replace(stranger, name=name, title=_texts(said.get("title")), description=_texts(said.get("description")))


def _bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _without(token: str, text: str) -> str:
    """The text; a service that repeats its token does not have it read or shown. A short one could be any word."""
    return text.replace(token, "***") if len(token) >= SHORTEST_TOKEN else text


async def _exchanged(runtime: Runtime, request: Request, seconds: float, expert: Remote) -> bytes:
    """The body of an answer with the status 200. Raises `Fault`."""
    try:
        async with runtime.send(request) as answer:
            body = b""
            async for chunk in answer.chunks():
                body += chunk
                if len(body) > LARGEST:
                    raise Fault(_LARGE, limit=LARGEST)
            if 300 <= answer.status < 400:
                raise Fault(_REDIRECT)
            if answer.status == 401:
                raise Fault(_TOKEN_WRONG if expert.token else _TOKEN_MISSING)
            if answer.status != 200:
                detail = _without(expert.token, _message(body))
                raise Fault(_STATUS, failures=int(answer.status >= 500), status=answer.status, detail=detail)
            return body
    except Broken as broken:
        match broken.how:
            case Breakage.TIMEOUT | Breakage.DEADLINE:
                raise Fault(_LATE, failures=DOWN, seconds=shown(max(0.1, seconds))) from None
            case Breakage.CONNECT:
                raise Fault(_GONE, failures=DOWN, url=expert.url) from None
            case _:
                raise Fault(_BROKE, failures=1, url=expert.url) from None


def _read(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _usage(said: Any, most: int | None) -> Usage:
    """What the answer took, as the service says; never more than it was allotted, so that a wrong one ends no task."""
    given = said if isinstance(said, dict) else {}
    counts = {name: given.get(name) for name in ("prompt_tokens", "completion_tokens")}
    known = {name: count for name, count in counts.items() if type(count) is int and 0 <= count <= MOST_TOKENS}
    if "completion_tokens" in known:
        known["completion_tokens"] = least(known["completion_tokens"], most)
    return Usage(**known)


def _message(body: bytes) -> str:
    """What a refusal says of itself, where it is one of ours."""
    said = _read(body)
    error = said.get("error") if isinstance(said, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return f": {' '.join(visible(message).split())[:200]}" if isinstance(message, str) and message.strip() else ""


def _texts(said: Any) -> dict[str, str]:
    """A text by language, as a service gives it: one for each, or one for all."""
    given = dict.fromkeys(("zh", "en"), said) if isinstance(said, str) else said if isinstance(said, dict) else {}
    texts = {language: given.get(language) for language in ("zh", "en")}
    cleaned = {language: " ".join(visible(text).split())[:LONGEST_DESCRIPTION] for language, text in texts.items() if isinstance(text, str)}
    return {language: text for language, text in cleaned.items() if text}
