"""Sessions as files: JSON lines that come back exactly as they were, and Markdown to read.

The JSON lines are a header and then one message a line, a turn's question before its answer. Behind the last turn that
stands in a summary stands that summary, as a line of its own.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestra.errors import ImportInvalid, UsageError
from orchestra.model.messages import FinishReason
from orchestra.sessions.records import (
    MODES,
    STATUSES,
    Compaction,
    SessionRecord,
    Turn,
    named,
    seconds_of,
    timestamp,
)
from orchestra.sessions.segments import leaders, numbers
from orchestra.sessions.store import Store, restored
from orchestra.sessions.summaries import compactions, insert

VERSION = 3
VERSIONS = (1, 2, VERSION)  # the first had no summaries, the second did not say who led a turn
LONGEST_LINE = 64 * 2**20

# characters that some programs take for the end of a line, and JSON does not escape
_LINE_ENDS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def export_jsonl(store: Store, name: str) -> Iterator[str]:
    """The session as JSON lines, each with its line feed. A turn that is being answered counts as interrupted."""
    record = store.session(name)
    header = {"orchestra": "session", "version": VERSION, "name": record.name}
    header |= {key: getattr(record, key) for key in ("title", "persona", "auto", "model", "language", "mode")}
    yield _line(header | {"speakers": list(record.speakers), "created": timestamp(record.created)})
    made = {each.turn: each for each in compactions(store, record.id) if each.fault is None}
    for turn in store.history(record.id):
        yield _line({"role": "user", "content": turn.question, "created": timestamp(turn.created)})
        yield _line(_answer(turn))
        if turn.id in made:
            yield _line(_summary(made[turn.id]))


def export_markdown(store: Store, name: str) -> str:
    """The session as a page to read."""
    record = store.session(name)
    asks, answers = record.speakers if len(record.speakers) == 2 else ("user", "assistant")
    facts = (("persona", record.persona), ("model", record.model), ("language", record.language))
    parts = [f"# {_one_line(record.title or record.name)}"]
    parts.append("\n".join(f"- {label}: {_one_line(value)}" for label, value in facts if value))
    said, last = store.history(record.id), ""
    for turn, who in zip(said, leaders(said), strict=True):
        if record.auto and who != last:
            parts.append(f"## {_one_line(who)}")
        last = who
        ended = "" if turn.status == "done" else f" ({turn.status})"
        parts += [f"**{asks}:**", turn.question, f"**{answers}:**{ended}", turn.answer]
    return "\n\n".join(part for part in parts if part) + "\n"


def export_json(store: Store, name: str) -> dict[str, Any]:
    """The session as one JSON object to read: what is known of it, its messages, what stands as a summary by now."""
    record = store.session(name)
    said = store.history(record.id)
    made = {each.turn: each for each in compactions(store, record.id) if each.fault is None}
    told = [message for turn, number in zip(said, numbers(record, said), strict=True) for message in _messages(turn, number)]
    stands = [_compacted(made[turn.id]) for turn in said if turn.id in made]
    return {"session": record.name, **about(record), "language": record.language, "messages": told, "compactions": stands}


def about(record: SessionRecord) -> dict[str, Any]:
    """What is known of a session, as JSON has it."""
    return {
        "name": record.name,
        "title": record.title,
        "persona": record.persona,
        "auto": record.auto,
        "model": record.model,
        "turns": record.turns,
        "first": record.first,
        "created": timestamp(record.created),
        "changed": timestamp(record.changed),
    }


def _messages(turn: Turn, segment: int) -> Iterator[dict[str, Any]]:
    """The two sides of a turn; an answer that never began is there all the same, its status says why."""
    of = {"turn": turn.id, "segment": segment, "created": timestamp(turn.created)}
    if turn.question:
        yield {"role": "user", "content": turn.question, "status": "done", **of}
    yield {
        "role": "assistant",
        "content": turn.answer,
        "status": turn.status,
        "finish_reason": turn.finish_reason,
        "model": turn.model,
        "usage": turn.usage,
        "receipt": turn.receipt,
        "persona": turn.persona,
        "ground": turn.ground,
        **of,
    }


def _compacted(made: Compaction) -> dict[str, Any]:
    return {
        "turns": made.turns,
        "turn": made.turn,
        "text": made.text,
        "model": made.model,
        "tokens": made.tokens,
        "created": timestamp(made.created),
    }


def import_jsonl(store: Store, lines: Iterable[str], *, name: str | None = None, source: str = "-") -> SessionRecord:
    """A new session from what `export_jsonl` wrote, all or nothing; plain `{"role", "content"}` lines will do too.

    `source` is what errors call the file. Raises `ImportInvalid` with the line, and `SessionExists`.
    """
    reader = _Reader(source)
    for line in lines:
        reader.read(line)
    record, said, made = reader.result()

    def then(connection: sqlite3.Connection, written: Sequence[int]) -> None:
        for each in made:
            insert(connection, each, written[each.turns - 1])

    return restored(store, record if name is None else replace(record, name=named(name)), said, then=then)


def _answer(turn: Turn) -> dict[str, Any]:
    ended = turn.status if turn.status != "open" else "interrupted"
    return {
        "role": "assistant",
        "content": turn.answer,
        "status": ended,
        "finish_reason": turn.finish_reason,
        "model": turn.model,
        "thinking": turn.thinking,
        "usage": turn.usage,
        "receipt": turn.receipt,
        "ground": turn.ground,
        "persona": turn.persona,
        "created": timestamp(turn.created),
    }


def _summary(made: Compaction) -> dict[str, Any]:
    return {"role": "summary", "content": made.text, "model": made.model, "tokens": made.tokens, "created": timestamp(made.created)}


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False).translate(_LINE_ENDS) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


class _Reader:
    """The lines of one file, checked as they come."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._number = 0
        self._record: SessionRecord | None = None
        self._turns: list[Turn] = []
        self._summaries: list[Compaction] = []
        self._asked: dict[str, Any] | None = None

    def read(self, line: str) -> None:
        """Takes one line; empty ones are skipped."""
        self._number += 1
        if not line.strip():
            return
        value = self._parsed(line)
        try:
            if self._record is None:
                self._record = _header(value)
                if "orchestra" in value:
                    return
            self._message(value)
        except UsageError as error:
            raise self._invalid(error.message()) from error
        except (ValueError, TypeError, OverflowError) as error:
            raise self._invalid(str(error)) from error

    def result(self) -> tuple[SessionRecord, list[Turn], list[Compaction]]:
        """The session, its turns and the summaries of them, when all lines were read."""
        if self._record is None:
            self._number += 1
            raise self._invalid("there is no session in it")
        self._close_question()
        return self._record, self._turns, self._summaries

    def _parsed(self, line: str) -> dict[str, Any]:
        if len(line) > LONGEST_LINE:
            raise self._invalid(f"the line is longer than {LONGEST_LINE} characters")
        try:
            value = json.loads(line.removeprefix("\ufeff"))
        except (ValueError, RecursionError) as error:
            raise self._invalid(f"not JSON: {error}") from error
        if not isinstance(value, dict):
            raise self._invalid("not a JSON object")
        return value

    def _message(self, value: dict[str, Any]) -> None:
        role = _text(value, "role")
        if role == "user":
            self._close_question()
            _turn(value, {"content": ""})  # an error belongs to this line, not to that of the answer
            self._asked = value
        elif role == "assistant":
            self._turns.append(_turn(self._asked or {"content": ""}, value))
            self._asked = None
        elif role == "summary":
            self._close_question()
            self._summaries.append(_compaction(value, len(self._turns)))
        else:
            raise ValueError(f"role is {role!r}, not user, assistant or summary")

    def _close_question(self) -> None:
        if self._asked is not None:
            self._turns.append(_turn(self._asked, {"content": ""}))
            self._asked = None

    def _invalid(self, detail: str) -> ImportInvalid:
        return ImportInvalid(path=self._source, line=self._number, detail=detail)


def _header(value: dict[str, Any]) -> SessionRecord:
    if "orchestra" not in value:
        return SessionRecord(id="", name="")
    if value["orchestra"] != "session" or value.get("version") not in VERSIONS:
        raise ValueError(f"not a session of version {VERSION} or older")
    mode = value.get("mode", "chat")
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}")
    speakers = value.get("speakers", [])
    if not (isinstance(speakers, list) and all(isinstance(speaker, str) for speaker in speakers)):
        raise ValueError("speakers is not a list of texts")
    return SessionRecord(
        id="",
        name=named(_text(value, "name")),
        title=_optional(value, "title"),
        persona=_optional(value, "persona"),
        auto=value.get("auto") is True,
        model=_optional(value, "model"),
        language=_optional(value, "language"),
        mode=mode,
        speakers=tuple(speakers),
        created=seconds_of(_text(value, "created")),
    )


def _turn(asked: Mapping[str, Any], answered: Mapping[str, Any]) -> Turn:
    status = answered.get("status", "done")
    if status not in STATUSES:
        raise ValueError(f"unknown status {status!r}")
    reason = _optional(answered, "finish_reason")
    created = _optional(asked, "created") or _optional(answered, "created")
    return Turn(
        id="",
        session="",
        question=_text(asked, "content"),
        answer=_text(answered, "content"),
        thinking=_optional(answered, "thinking") or "",
        status=status,
        finish_reason=None if reason is None else FinishReason(reason),
        model=_optional(answered, "model") or "",
        usage=_object(answered, "usage"),
        receipt=_object(answered, "receipt"),
        ground=_object(answered, "ground"),
        persona=_optional(answered, "persona"),
        created=0.0 if created is None else seconds_of(created),
    )


def _compaction(value: Mapping[str, Any], turns: int) -> Compaction:
    """The summary of the first `turns` turns."""
    tokens, created = value.get("tokens"), _optional(value, "created")
    if not turns or not _text(value, "content"):
        raise ValueError("a summary of nothing")
    if tokens is not None and not (isinstance(tokens, int) and 0 <= tokens < 2**31):
        raise ValueError("tokens is no number of tokens")
    return Compaction(
        turn="",
        text=_text(value, "content"),
        model=_optional(value, "model") or "",
        tokens=tokens,
        turns=turns,
        created=0.0 if created is None else seconds_of(created),
    )


def _text(value: Mapping[str, Any], key: str) -> str:
    text = value.get(key)
    if not isinstance(text, str):
        raise ValueError(f"{key} is missing or no text")
    return text


def _optional(value: Mapping[str, Any], key: str) -> str | None:
    return None if value.get(key) is None else _text(value, key)


def _object(value: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    found = value.get(key)
    if found is not None and not isinstance(found, dict):
        raise ValueError(f"{key} is no object")
    return found
