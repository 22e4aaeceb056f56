"""What is asked of the daemon's own models, bounded: in tokens, within the loaded window, and with nothing cut in silence.

A body is taken as it was sent but for four things: `truncate:false`, a bound on tokens, the window that the model is
loaded with - so that nothing here loads a model again that the client alone would have left - and a history that has
outgrown the window, which loses whole oldest turns at the same places each time, so that the daemon's cache holds.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from orchestra.errors import FieldInvalid, PromptTooLong, UsageError
from orchestra.gateway.asides import without_aside
from orchestra.gateway.waiting import CLOCK, unwaited
from orchestra.model import wire
from orchestra.model.budget import first_kept
from orchestra.model.client import Client
from orchestra.model.connection import Patience
from orchestra.model.language import language_of
from orchestra.model.messages import Message, Options
from orchestra.model.notice import left_out, without_notice
from orchestra.model.tokens import PER_MESSAGE, Count, Counter, most_tokens, most_tokens_of, most_tokens_of_tools
from orchestra.model.window import Loaded, answer_share, context_length
from orchestra.texts import Words

RUNNER = ("num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict")  # others load the model again
PER_IMAGE = 768  # tokens, as the daemon itself counts one
SHAPED = ("format", "tools", "suffix", "images")  # an answer to these is read by a program: no word of ours may stand in it
_UNCOUNTED = ("system", "template", "suffix", "context")  # of /api/generate: what the prompt's own count does not hold
# what a daemon knows of a body and of a message: it takes these names in any case, and the last of them counts
_FIELDS = frozenset({
    "model", "messages", "prompt", "suffix", "system", "template", "context", "raw", "images", "stream", "format", "tools", "think",
    "options", "keep_alive", "truncate", "shift", "logprobs", "top_logprobs", "_debug_render_only",
})  # fmt: skip
_OF_A_MESSAGE = frozenset({"role", "content", "thinking", "images", "tool_calls", "tool_name", "tool_call_id"})

SHORT = 20_000  # bytes of a prompt that are counted in a few milliseconds; a longer one is counted where it holds nobody up
MOST_MESSAGES = 10_000  # of a dialogue, as of those in the other protocol
_COUNTING = ThreadPoolExecutor(1, thread_name_prefix="orchestra-counting")  # one: several would only take time from each other

T = TypeVar("T")
Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A request as the daemon gets it; `bound` is the most tokens of the answer, `first` what the answer begins with.

    `shaped` says that the answer may hold nothing but what the model says.
    """

    path: str
    body: dict[str, Any]
    bound: int
    asked: wire.Asked
    patience: Patience
    language: str
    first: str = ""
    shaped: bool = False


async def bounded(client: Client, path: str, body: Body, *, strict: bool = False) -> Sent:
    """The request with its bounds. Raises `PromptTooLong`, with the numbers, for what does not fit and is not shortened."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise FieldInvalid(field="model", detail="a model's name", detail_zh="应为模型名称")
    options = body.get("options") or {}
    if not isinstance(options, Mapping):
        raise FieldInvalid(field="options", detail="an object", detail_zh="应为对象")
    body = {**body, "options": dict(options), "truncate": False}
    said = _said(path, body)
    if not isinstance(said, str):
        body["messages"] = said
    prompt = await _Prompt.of(client, path, body, said)
    return await prompt.sent(strict)


def spelt(body: Body) -> Body:
    """A body with its fields, and those of its messages, by the names that the daemon will take them for."""
    body = _renamed(body, _FIELDS)
    messages = body.get("messages")
    if isinstance(messages, list) and any(isinstance(m, dict) and not m.keys() <= _OF_A_MESSAGE for m in messages):
        body = {**body, "messages": [_renamed(m, _OF_A_MESSAGE) if isinstance(m, dict) else m for m in messages]}
    return body


def _renamed(given: Body, fields: frozenset[str]) -> Body:
    if given.keys() <= fields:
        return given
    # as Go's encoding/json compares names: the long s is an s, and the sign for kelvin is a k to `lower` as well
    folded = {name: name.replace("\u017f", "s").lower() for name in given}
    return {folded[name] if folded[name] in fields else name: value for name, value in given.items()}


def _said(path: str, body: Body) -> str | list[dict[str, Any]]:
    """The prompt, or the messages without the lines that were ours."""
    if path == "/api/generate":
        prompt = body.get("prompt")
        if not isinstance(prompt, str):
            raise FieldInvalid(field="prompt", detail="a text", detail_zh="应为文本")
        return prompt
    messages = body.get("messages")
    if isinstance(messages, list) and len(messages) > MOST_MESSAGES:
        raise FieldInvalid(field="messages", detail=f"more than {MOST_MESSAGES:,}", detail_zh=f"超过 {MOST_MESSAGES:,} 条")
    if not isinstance(messages, list) or not all(isinstance(m, dict) and _is_said(m) for m in messages):
        raise FieldInvalid(field="messages", detail="objects with a role and a content that is a text", detail_zh="应为含角色与文本内容的对象")
    return [_as_the_model_said(m) if m["role"] == "assistant" else m for m in messages]


def _as_the_model_said(message: dict[str, Any]) -> dict[str, Any]:
    """What an assistant said, without the lines that were ours."""
    content, thinking = message.get("content") or "", message.get("thinking")
    if (bare := own_words(content)) != content:
        message = {**message, "content": bare}
    if isinstance(thinking, str) and thinking.startswith(CLOCK):
        message = {**message, "thinking": unwaited(thinking)}
    return message


def own_words(answer: str) -> str:
    """An answer of one of the daemon's own models, without ours before and after it."""
    return without_aside(without_notice(answer))


def read_by_people(body: Body) -> bool:
    """Whether a word that is not the model's may stand in the answer's thinking."""
    messages = body.get("messages")
    said = [m for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []
    return body.get("think") is not False and not _shaped(body, said)


def question_language(body: Body) -> str:
    """The language of the question: of the last text that its user has said."""
    messages = body.get("messages")
    latest = reversed(messages) if isinstance(messages, list) else ()
    said = (m.get("content") for m in latest if isinstance(m, dict) and m.get("role") == "user")
    text = next((text for text in chain(said, [body.get("prompt")]) if isinstance(text, str) and text), "")
    return language_of(text) if text else "en"


def _shaped(body: Body, messages: Sequence[Body]) -> bool:
    return any(each.get(name) for each in (body, *messages) for name in SHAPED)


def _is_said(message: Mapping[str, Any]) -> bool:
    return isinstance(message.get("role"), str) and isinstance(message.get("content") or "", str)


def _wanted(options: Mapping[str, Any], name: str) -> int:
    value = options.get(name)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 2**31 else 0


def _as_messages(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    return [Message(m["role"].lower(), m.get("content") or "") for m in messages]


def _beside(body: Body, messages: Sequence[Body]) -> int:
    """A bound for what a prompt holds beside the texts that are counted: images, calls, thinking, overrides."""
    texts = [body[name] for name in _UNCOUNTED if body.get(name)] if "prompt" in body else []
    texts += [m[name] for m in messages for name in ("thinking", "tool_calls", "tool_name") if m.get(name)]
    images = sum(len(each["images"]) for each in (body, *messages) if isinstance(each.get("images"), list))
    return PER_IMAGE * images + sum(most_tokens(text if isinstance(text, str) else json.dumps(text)) for text in texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prompt:
    """A prompt beside the window that it has to fit into."""

    client: Client
    path: str
    body: dict[str, Any]
    said: str | list[dict[str, Any]]
    facts: dict[str, Any]
    loaded: Loaded
    asked: wire.Asked

    @classmethod
    async def of(cls, client: Client, path: str, body: dict[str, Any], said: str | list[dict[str, Any]]) -> _Prompt:
        model, options = body["model"], body["options"]
        facts = await client.facts(model)
        window = _wanted(options, "num_ctx")
        loading = {name: options[name] for name in (*RUNNER, "num_ctx") if name in options}
        if set(loading) - {"num_ctx"} or body.get("shift") is not None:
            asks = {"model": model, "stream": False, "options": loading}
            if body.get("shift") is not None:
                asks["shift"] = body["shift"]
            await client.connection.ask("POST", "/api/generate", asks, model=model, patience=client.connection.loading())
        loaded = await client.ready(model, Options(num_ctx=window or None))
        asked = wire.Asked(url=client.connection.url, model=model, window=loaded.window, most=context_length(facts))
        return cls(client=client, path=path, body=body, said=said, facts=facts, loaded=loaded, asked=asked)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [] if isinstance(self.said, str) else self.said

    @property
    def shaped(self) -> bool:
        return _shaped(self.body, self.messages)

    @property
    def answer(self) -> int:
        """The tokens asked for, else as many as there are."""
        return _wanted(self.body["options"], "num_predict") or self.loaded.window

    @property
    def least(self) -> int:
        """The room that an answer is to have, in tokens."""
        return min(self.answer, answer_share(self.loaded.window, Options(), self.client.settings))

    async def sent(self, strict: bool) -> Sent:
        window, counter = self.loaded.window, None
        count = most = self._most()
        if count.tokens + self.answer > window:
            counter = await self.client.counter(self.body["model"])
            count = await _worked_out(partial(self._measured, counter, self.said), most.tokens)
        over = None
        if count.tokens + self.least > window and count.counted != "exact":
            try:
                count = Count(await self._asked_for(), "measured")
            except PromptTooLong as error:
                over = error
        if counter is None or (over is None and count.tokens + self.least <= window):
            return self._bound(self.body, count)
        if not isinstance(self.said, str) and not (strict or self.shaped):
            kept, fewer = await _worked_out(partial(self._shortened, counter), most.tokens)
            if len(kept) < len(self.said) and fewer.tokens < window:
                notice = left_out(len(self.said) - len(kept), window, question_language(self.body))
                return self._bound({**self.body, "messages": kept}, fewer, notice)
        if over is not None or count.tokens >= window:
            raise over or wire.too_long(count.tokens, window, self.asked)
        return self._bound(self.body, count)

    def _bound(self, body: dict[str, Any], count: Count, first: str = "") -> Sent:
        bound = max(1, min(self.answer, self.loaded.window - count.tokens))
        options = {**body["options"], "num_predict": bound}
        if self.loaded.told:
            options["num_ctx"] = self.loaded.window
        patience = self.client.connection.patience(prompt_tokens=count.tokens, deadline=self._deadline())
        return Sent(
            path=self.path, body={**body, "stream": True, "options": options}, bound=bound, asked=self.asked, patience=patience,
            language=question_language(self.body), first=first, shaped=self.shaped,
        )  # fmt: skip

    def _deadline(self) -> float:
        return time.monotonic() + self.client.settings.deadline

    # --- counting

    def _most(self) -> Count:
        own = "" if self.body.get("raw") else str(self.facts.get("template") or "") + str(self.facts.get("system") or "")
        subject = self.said if isinstance(self.said, str) else _as_messages(self.said)
        return Count(most_tokens_of(subject, own) + most_tokens_of_tools(self._tools()) + _beside(self.body, self.messages), "bound")

    def _measured(self, counter: Counter, said: str | Sequence[Body]) -> Count:
        subject = said if isinstance(said, str) else _as_messages(said)
        count = counter.measure(subject, raw=bool(self.body.get("raw")), tools=self._tools())
        beside = _beside(self.body, [] if isinstance(said, str) else said)
        return Count(count.tokens + beside, "calibrated") if beside else count

    def _tools(self) -> Sequence[Mapping[str, Any]]:
        tools = self.body.get("tools")
        return tools if isinstance(tools, list) else ()

    async def _asked_for(self) -> int:
        """The prompt's tokens by the daemon's own count, which keeps what it has read. Raises `PromptTooLong`."""
        options = {**self.body["options"], "num_predict": 1}
        if self.loaded.told:
            options["num_ctx"] = self.loaded.window
        patience = self.client.connection.patience(prompt_tokens=self.loaded.window, deadline=self._deadline())
        counted = await self.client.measured({**self.body, "options": options}, self.asked, patience)
        if not counted:
            what = Words("the daemon does not count the prompt", "Ollama 未返回提示词的 token 数")
            raise UsageError(detail=what.en, detail_zh=what.zh, fix="send less", fix_zh="请减少内容")
        return counted

    # --- a history that has outgrown the window

    def _shortened(self, counter: Counter) -> tuple[list[dict[str, Any]], Count]:
        """The messages without whole oldest turns, and their tokens; what the system says and the last turn stay."""
        assert not isinstance(self.said, str)
        head = [m for m in self.said if m["role"].lower() == "system"]
        turns = _turns([m for m in self.said if m["role"].lower() != "system"])
        if len(turns) < 2:
            return self.said, self._measured(counter, self.said)
        fixed = self._measured(counter, [*head, *turns[-1]]).tokens
        costs = [sum(counter.count(m.get("content") or "") + PER_MESSAGE + _beside({}, [m]) for m in turn) for turn in turns[:-1]]
        start = first_kept(costs, max(0, self.loaded.window - self.least - fixed))
        kept = [*head, *(m for turn in turns[start:] for m in turn)]
        return kept, self._measured(counter, kept)


async def _worked_out(fn: Callable[[], T], size: int) -> T:
    """What the function gives for a prompt of at most so many tokens; it is pure, and other requests go on meanwhile."""
    return fn() if size <= SHORT else await asyncio.get_running_loop().run_in_executor(_COUNTING, fn)


def _turns(messages: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The messages by turns, each of which begins with what the user says."""
    turns: list[list[dict[str, Any]]] = []
    for message in messages:
        if not turns or (message["role"].lower() == "user" and turns[-1][-1]["role"].lower() != "user"):
            turns.append([])
        turns[-1].append(message)
    return turns
