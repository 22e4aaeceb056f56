"""Typed output: an answer that fits a schema, as the value that it says.

The daemon is sent the schema as `format`, and the model reads it in the prompt: a grammar alone lets it write
well-formed nonsense. What comes is checked; what does not fit is asked for once more with the reason. An answer
that its bound cut off is not asked for again: it would be cut again.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, NamedTuple

from orchestra.errors import PromptTooLong, SchemaMismatch, UsageError
from orchestra.model.language import language_of, reworded, with_language, without_line
from orchestra.model.messages import FinishReason, Message, Piece, Reply, gathered
from orchestra.model.schema import checkable, mismatch
from orchestra.model.stages import Ask, Question, added, spent

REPAIRED = "repaired"
_ASKS = {
    "zh": "请只用一个符合以下 JSON Schema 的 JSON 值回答，不要加任何说明：\n{schema}",
    "en": "Answer with one JSON value that fits this JSON Schema, and nothing else:\n{schema}",
}
_REPAIR = {
    "zh": "上面的 JSON 不符合要求：{why}\n请给出修正后的完整 JSON，不要加任何说明。",
    "en": "The JSON above does not fit: {why}\nGive the whole JSON again, corrected, and nothing else.",
}
_CUT = (FinishReason.LENGTH, FinishReason.CONTEXT_FULL)
_FENCED = re.compile(r"\s*```[a-zA-Z]*\n(.*?)\n?```\s*\Z", re.DOTALL)


class Form(NamedTuple):
    """A schema in use: what the daemon is sent, and what makes a value of a text. `value` raises ValueError."""

    schema: dict[str, Any]
    value: Callable[[str], Any]


def form_of(schema: Any) -> Form:
    """The form for a JSON Schema or a type that pydantic knows. Raises `UsageError` for what is neither."""
    if isinstance(schema, dict):
        checkable(schema)
        return Form(schema, lambda text: _checked(text, schema))
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(schema)
        return Form(adapter.json_schema(), adapter.validate_json)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        said = str(error).partition("\n")[0][:120]
        raise UsageError(
            detail=f"{schema!r:.60} is no schema: {said}",
            detail_zh=f"{schema!r:.60} 不能作为 schema：{said}",
            fix="give a pydantic model, another type that pydantic knows, or a JSON Schema",
            fix_zh="请使用 pydantic 模型、pydantic 支持的其他类型，或 JSON Schema",
        ) from None


def _checked(text: str, schema: Any) -> Any:
    value = json.loads(text, parse_constant=_no_number)
    if why := mismatch(value, schema):
        raise ValueError(why)
    return value


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


async def typed(ask: Ask, question: Question) -> AsyncGenerator[Piece]:
    """The answer as it comes; its last piece has the value. Raises `SchemaMismatch` with the text."""
    form = form_of(question.options.schema)
    language = question.options.language or language_of(_text_of(question))
    asked = _described(question, form, language)
    said: list[Piece] = []
    async with aclosing(ask(asked)) as pieces:
        async for piece in pieces:
            said.append(piece)
            if piece.finish_reason is None:
                yield piece
    first = gathered(said)
    last = said[-1]
    value, why = _valued(form, first)
    if not why:
        yield last._replace(value=value)
        return
    if last.text:
        yield Piece(last.text)
    if last.finish_reason in (*_CUT, FinishReason.DEADLINE) or question.raw:
        raise _mismatch(why, first)
    yield Piece("", keep=0)
    async with aclosing(_repaired(ask, form, asked, first, _REPAIR[language].format(why=why))) as pieces:
        async for piece in pieces:
            yield piece


async def _repaired(ask: Ask, form: Form, asked: Question, first: Reply, words: str) -> AsyncGenerator[Piece]:
    """The second and last attempt, which reads the first and, in `words`, what is wrong with it."""
    before = [Message("user", asked.subject)] if isinstance(asked.subject, str) else list(asked.subject)
    turns = [*before, Message("assistant", first.text), Message("user", words)]
    said: list[Piece] = []
    try:
        async with aclosing(ask(replace(asked, subject=turns, fit=None))) as pieces:
            async for piece in pieces:
                if piece.usage is not None:
                    piece = piece._replace(usage=added(first.usage, piece.usage))
                piece = spent(piece, before=first.receipt, notes=(REPAIRED,))
                said.append(piece)
                if piece.finish_reason is None:
                    yield piece
    except PromptTooLong:
        raise _mismatch(words.partition("\n")[0], first) from None
    reply = gathered(said)
    value, why = _valued(form, reply)
    if not why:
        yield said[-1]._replace(value=value)
        return
    if said[-1].text:
        yield Piece(said[-1].text)
    raise _mismatch(why, reply)


def _valued(form: Form, reply: Reply) -> tuple[Any, str]:
    """What a reply says, or why it says nothing that fits."""
    fenced = _FENCED.match(reply.text)
    try:
        return form.value(fenced.group(1) if fenced else reply.text), ""
    except RecursionError:
        return None, "it is nested too deeply"
    except ValueError as error:
        return None, _reason(error)


def _reason(error: ValueError) -> str:
    """A validation error in one line, with its places and without its links."""
    listed = getattr(error, "errors", None)
    if not callable(listed):
        return str(error)[:300]
    faults = [(".".join(map(str, fault["loc"])), str(fault["msg"])) for fault in listed(include_url=False)]
    return "; ".join(f"{place}: {said}" if place else said for place, said in faults)[:300]


def _mismatch(why: str, reply: Reply) -> SchemaMismatch:
    if reply.finish_reason in _CUT:
        used = reply.usage.completion_tokens
        return SchemaMismatch(
            reply=reply,
            detail=f"it was cut off after {used} tokens ({reply.finish_reason})",
            detail_zh=f"在 {used} 个 token 处被截断（{reply.finish_reason}）",
            fix="raise --max-tokens (max_tokens), or ask for less",
            fix_zh="请调大 --max-tokens（max_tokens），或减少要求的内容",
        )
    return SchemaMismatch(
        reply=reply,
        detail=why,
        detail_zh=why,
        fix="its text is kept; ask again, make the schema simpler, or take a larger model",
        fix_zh="文本已保留；请重新提问、简化 schema，或换用更大的模型",
    )


def _described(question: Question, form: Form, language: str) -> Question:
    """The question with the schema at its end, before the language line, and as `format`; a raw text stays as it is."""
    options = replace(question.options, format=form.schema, schema=None)
    if question.raw:
        return replace(question, options=options)
    asks = _ASKS[language].format(schema=json.dumps(form.schema, ensure_ascii=False, separators=(",", ":")))

    def described(text: str) -> str:
        plain = without_line(text)
        line = None if plain == text.rstrip() else language
        return with_language(f"{plain}\n\n{asks}", line)

    return replace(question, subject=reworded(question.subject, described), options=options, fit=None)


def _text_of(question: Question) -> str:
    """What was asked, for its language: the last user message without what was added to it."""
    subject = question.subject
    if isinstance(subject, str):
        return without_line(subject)
    said = [message.content for message in subject if message.role == "user"]
    return without_line(said[-1]) if said else ""
