"""The exact text that a model reads: what is asked, put into the model's template, part by part with its tokens.

The daemon shows it since 0.11.5 (`_debug_render_only`) and generates nothing; an older one is rendered for here. The parts
are found by having the same thing rendered once more with a mark around each: whatever a template does to them - drops a
role, joins messages, writes something of its own between - is seen as it is. Only what the model brings itself is looked for
by its words.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from orchestra.errors import DaemonTooOld, UsageError
from orchestra.model import wire
from orchestra.model.catalog import is_base
from orchestra.model.client import Client
from orchestra.model.language import wanted, with_language, without_line
from orchestra.model.messages import Message, Options, Role
from orchestra.model.rendering import rendered
from orchestra.model.template import Unknown
from orchestra.model.tokens import Counter, Tokens
from orchestra.model.window import Loaded

SHOWS_SINCE = "0.11.5"
_FIRST_MARK, _LAST_MARK = 0xE000, 0xF8FF  # Unicode's private use: no text has a meaning for them

By = Literal["daemon", "orchestra", "raw"]
Kind = Literal["whole", "begin", "template", "model", "system", "before", "user", "assistant", "question", "beside", "language"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """What a model is about to be asked with: messages or a text, `raw` where no template stands around it.

    `question` is what was asked, as its asker put it. `dropped` counts the older turns that do not fit word for word.
    """

    model: str
    subject: tuple[Message, ...] | str
    question: str
    options: Options = field(default_factory=Options)
    raw: bool = False
    dropped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stretch of the prompt. A token that lies over two parts is counted with the one in which it begins.

    `kind`: "begin" are tokens without a text that the daemon puts before every prompt; "template" is what stands around
    messages, "model" the model's own system text and messages, "system" what was sent as such; "before" and "beside" stand
    before and after the "question" in its message, "language" is the line that asks for one; "user" and "assistant" were
    said before. "whole" is a prompt whose template does not let its parts be told.
    """

    kind: Kind
    text: str
    tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendition:
    """A prompt as the model reads it. `exact`: its `tokens` were counted by the model's vocabulary; else they are rather too many.

    `by`: the daemon showed it; Orchestra rendered it; or it is "raw", sent as it is. `differs` is the text that Orchestra's own
    rendering would be, where that is another. `dropped` are the parts that the template leaves out; `left_out` counts the
    older turns that do not fit word for word. `window` is the loaded model's, in tokens.
    """

    model: str
    text: str
    parts: tuple[Part, ...]
    tokens: int
    exact: bool
    window: int
    by: By
    differs: str | None = None
    dropped: tuple[Part, ...] = ()
    left_out: int = 0

    @property
    def fits(self) -> bool:
        """Whether the daemon would take it: an answer needs a token as well."""
        return self.tokens < self.window


async def completion(client: Client, prompt: str, *, model: str, base: bool | None, options: Options) -> Composed:
    """What `generate` asks: a base model goes on from the prompt as it is, an instruct model is told the language too."""
    raw = base if base is not None else is_base(model, await client.facts(model))
    plain = raw or options.format is not None or not prompt.strip()
    text = prompt if plain else with_language(prompt, wanted(prompt, options.language))
    return Composed(model=model, subject=text, question=prompt, options=options, raw=raw)


class _Piece(NamedTuple):
    kind: Kind
    text: str


class _Said(NamedTuple):
    """A message, or the text, in its pieces; together they are what is sent."""

    role: Role
    pieces: tuple[_Piece, ...]


Render = Callable[[list[Message]], Awaitable[str]]


async def rendition(client: Client, asked: Composed) -> Rendition:
    """What the model would read. Raises `DaemonTooOld` where neither the daemon nor Orchestra can say."""
    if not asked.question.strip():
        raise UsageError(detail="the prompt is empty", detail_zh="提示词为空", fix="say what would be asked", fix_zh="请给出要提问的内容")
    facts, loaded = await client.facts(asked.model), await client.ready(asked.model, asked.options)
    counter = await client.counter(asked.model)
    said = _said(asked)
    text, by = await _text(client, asked, loaded, said)
    render = _ours(facts, asked) if by == "orchestra" else _theirs(client, asked, loaded)
    pieces = _pieces(said) if by == "raw" else await _marked(render, said, text)
    shown = list(_with_own(pieces, facts, asked))
    read = counter.read(text, model=asked.model)
    around = counter.vocabulary.around if counter.vocabulary else 0
    begin = [Part(kind="begin", text="", tokens=around)] if around else []
    return Rendition(
        model=asked.model,
        text=text,
        parts=(*begin, *_counted(shown, read, counter)),
        tokens=read.count + around,
        exact=read.exact,
        window=loaded.window,
        by=by,
        differs=await _other(_ours(facts, asked), said, text) if by == "daemon" else None,
        dropped=tuple(_dropped(said, shown)),
        left_out=asked.dropped,
    )


# --- who renders


async def _text(client: Client, asked: Composed, loaded: Loaded, said: Sequence[_Said]) -> tuple[str, By]:
    if asked.raw:
        return "".join(message.content for message in _messages(said)), "raw"
    try:
        return await _theirs(client, asked, loaded)(_messages(said)), "daemon"
    except DaemonTooOld as old:
        try:
            return await _ours(await client.facts(asked.model), asked)(_messages(said)), "orchestra"
        except Unknown:
            raise old from None


async def shown_by_daemon(client: Client, model: str, subject: str | list[Message], options: Options, loaded: Loaded) -> str:
    """The prompt as the daemon renders it; nothing is generated. Raises `DaemonTooOld`: such a one writes one token instead."""
    bounds = wire.Bounds(num_predict=1, num_ctx=loaded.window if loaded.told else None)
    body = wire.inference_body(model, subject, options, bounds) | {"stream": False, "_debug_render_only": True}
    path = "/api/generate" if isinstance(subject, str) else "/api/chat"
    told = (await client.connection.ask("POST", path, body, model=model)).get("_debug_info")
    text = told.get("rendered_template") if isinstance(told, dict) else None
    if not isinstance(text, str):
        raise DaemonTooOld(version=await client.version(), feature="_debug_render_only", needed=SHOWS_SINCE)
    return text


def _theirs(client: Client, asked: Composed, loaded: Loaded) -> Render:
    async def render(messages: list[Message]) -> str:
        subject = messages[0].content if isinstance(asked.subject, str) else messages
        return await shown_by_daemon(client, asked.model, subject, asked.options, loaded)

    return render


def _ours(facts: dict[str, Any], asked: Composed) -> Render:
    """Orchestra's rendering of the model's template. Raises `Unknown`."""

    async def render(messages: list[Message]) -> str:
        if isinstance(asked.subject, str):
            return rendered(facts, messages[0].content)
        return rendered(facts, [{"role": each.role, "content": each.content} for each in messages])

    return render


async def _other(render: Render, said: Sequence[_Said], text: str) -> str | None:
    """What the rendering makes of it where that is another text."""
    try:
        own = await render(_messages(said))
    except Unknown:
        return None
    return None if own == text else own


# --- the parts


def _said(asked: Composed) -> list[_Said]:
    """What is sent, as it is sent, in pieces; the question is in the last message."""
    if isinstance(asked.subject, str):
        said = [_Said("user", tuple(_split(asked.subject, asked.question, raw=asked.raw)))]
    else:
        *before, last = asked.subject
        said = [_Said(each.role, (_Piece(each.role, each.content),)) for each in before]
        said.append(_Said(last.role, tuple(_split(last.content, asked.question, raw=False))))
    return [_Said(role, tuple(_Piece(kind, _sent(text)) for kind, text in pieces)) for role, pieces in said]


def _split(content: str, question: str, *, raw: bool) -> Iterator[_Piece]:
    """A message in pieces: what stands before the question and after it, and the language line; in a raw text the answer's label."""
    question, body = question.strip(), content if raw else without_line(content)
    if not content.startswith(body) or not content[len(body) :].strip():
        body = content
    place = body.rfind(question) if raw else body.find(question)
    if place < 0:
        yield _Piece("question", content)
        return
    end = place + len(question)
    pieces = (_Piece("before", body[:place]), _Piece("question", body[place:end]), _Piece("template" if raw else "beside", body[end:]))
    yield from (piece for piece in (*pieces, _Piece("language", content[len(body) :])) if piece.text)


def _sent(text: str) -> str:
    return wire.neutral(wire.storable(text))


def _messages(said: Sequence[_Said]) -> list[Message]:
    return [Message(role, "".join(piece.text for piece in pieces)) for role, pieces in said]


def _pieces(said: Sequence[_Said]) -> list[_Piece]:
    return [piece for message in said for piece in message.pieces]


async def _marked(render: Render, said: Sequence[_Said], text: str) -> list[_Piece]:
    """The text cut at marks that were put around each piece; the whole text as one where the marks have changed it."""
    pieces = _pieces(said)
    if len(pieces) > _LAST_MARK - _FIRST_MARK or any(chr(_FIRST_MARK) <= sign <= chr(_LAST_MARK) for sign in text):
        return [_Piece("whole", text)]
    marks = iter(range(_FIRST_MARK, _LAST_MARK))
    marked = [_Said(role, tuple(_Piece(kind, _between(chr(next(marks)), each)) for kind, each in parts)) for role, parts in said]
    try:
        found = list(_cut(await render(_messages(marked)), pieces))
    except Unknown:
        found = []
    return found if "".join(piece.text for piece in found) == text else [_Piece("whole", text)]


def _between(mark: str, text: str) -> str:
    return f"{mark}{text}{mark}"


def _cut(marked: str, pieces: Sequence[_Piece]) -> Iterator[_Piece]:
    """The marked text in its parts: those between two equal marks, and the template's."""
    rest = marked
    while rest:
        start = next((place for place, sign in enumerate(rest) if chr(_FIRST_MARK) <= sign <= chr(_LAST_MARK)), len(rest))
        if start:
            yield _Piece("template", rest[:start])
        if start == len(rest):
            return
        mark = rest[start]
        inside, _, rest = rest[start + 1 :].partition(mark)
        yield _Piece(pieces[ord(mark) - _FIRST_MARK].kind, inside)


def _with_own(pieces: Sequence[_Piece], facts: dict[str, Any], asked: Composed) -> Iterator[_Piece]:
    """The pieces, the model's own system text and messages told apart from what the template writes around them."""
    replaced = not isinstance(asked.subject, str) and asked.subject[0].role == "system"
    own = ["" if replaced else str(facts.get("system") or ""), *(str(each.get("content") or "") for each in facts.get("messages") or ())]
    wanted = [] if asked.raw else [text for text in own if text]
    for piece in pieces:
        rest = piece.text
        while piece.kind == "template" and wanted and wanted[0] in rest:
            before, _, rest = rest.partition(wanted[0])
            if before:
                yield _Piece("template", before)
            yield _Piece("model", wanted.pop(0))
        if rest:
            yield _Piece(piece.kind, rest)


def _dropped(said: Sequence[_Said], shown: Sequence[_Piece]) -> Iterator[Part]:
    """What was sent and stands nowhere."""
    left = [*shown]
    for piece in _pieces(said):
        if piece in left:
            left.remove(piece)
        elif piece.text and not any(piece.text in each.text for each in left):
            yield Part(kind=piece.kind, text=piece.text)


def _counted(pieces: Sequence[_Piece], read: Tokens, counter: Counter) -> Iterator[Part]:
    """Each piece with its tokens: those that begin in it."""
    if not read.tokens or sum(len(token.data) for token in read.tokens) != sum(len(piece.text.encode()) for piece in pieces):
        yield from (Part(kind=kind, text=text, tokens=counter.count(text)) for kind, text in pieces)
        return
    starts, place = [], 0
    for token in read.tokens:
        starts.append(place)
        place += len(token.data)
    end, number = 0, 0
    for kind, text in pieces:
        end, first = end + len(text.encode()), number
        while number < len(starts) and starts[number] < end:
            number += 1
        yield Part(kind=kind, text=text, tokens=number - first)
