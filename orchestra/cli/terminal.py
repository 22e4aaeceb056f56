"""Printing: answers on stdout, everything else on stderr; no control sequence of a model ever reaches the terminal."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import asdict, is_dataclass
from enum import Enum
from typing import IO, Any

from orchestra.errors import OutputLost
from orchestra.errors.system import why

# A terminal acts on these: C0 but tab and newline, DEL, C1, and the bidirectional overrides that reorder
# what stands beside them.
_ACTING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# What JSON leaves as it is and a terminal, or a reader of lines, acts on.
_UNSEEN = re.compile(r"[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# Sequences that carry a text of their own (OSC, DCS, SOS, PM, APC) end with BEL, ST, or - here - with the line.
_STRINGS = frozenset("]PX^_")
_C1 = {"\x9b": "csi", "\x9d": "string", "\x90": "string", "\x98": "string", "\x9e": "string", "\x9f": "string"}
_LONGEST_SEQUENCE = 4096


class Cleaner:
    """Text without terminal control (promise 9), also where a sequence is cut in two between pieces.

    A small machine after ECMA-48: in text, after ESC, in a control sequence, in a string, after ESC in a string.
    """

    def __init__(self) -> None:
        self._state = "text"
        self._length = 0

    def push(self, text: str) -> str:
        """What may be shown of the next piece."""
        if self._state == "text" and not _ACTING.search(text):
            return text
        return "".join([c for c in text if self._shown(c)])

    def _shown(self, c: str) -> bool:
        if self._state == "text":
            if c == "\x1b":
                self._enter("escape")
            elif c in _C1:
                self._enter(_C1[c])
            else:
                return not _ACTING.match(c)
            return False
        self._length += 1
        if c == "\n" or self._length > _LONGEST_SEQUENCE:
            self._state = "text"
            return c == "\n"
        self._advance(c)
        return False

    def _enter(self, state: str) -> None:
        self._state, self._length = state, 0

    def _advance(self, c: str) -> None:
        match self._state:
            case "escape" if c == "[":
                self._state = "csi"
            case "escape" if c in _STRINGS:
                self._state = "string"
            case "escape" if " " <= c <= "/":  # an intermediate: one more character follows
                pass
            case "csi" if not "@" <= c <= "~":
                pass
            case "string" if c == "\x1b":
                self._state = "string escape"
            case "string" if c not in "\x07\x9c":
                pass
            case "string escape" if c != "\\":
                self._state = "string"
            case _:
                self._state = "text"


def harmless(text: str) -> str:
    """`text` without terminal control: escape sequences, control characters, bidirectional overrides."""
    return Cleaner().push(text)


def plain(value: Any) -> Any:
    """A value of ours as JSON has it: dataclasses as objects, enums as their text."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value


def as_line(value: Any) -> str:
    """One JSON object on one line, UTF-8; escaped is only what a terminal or a reader of lines would act on."""
    return unseen(json.dumps(plain(value), ensure_ascii=False))


def unseen(text: str) -> str:
    """JSON with the same meaning and nothing in it that acts on a terminal."""
    return _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def ready_streams() -> None:
    """UTF-8 where the stream can be told so, and never an error for a character that it cannot show."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is None:
            continue
        if (stream.encoding or "").lower().replace("-", "") in ("ascii", "usascii", "ansi_x3.41968"):
            reconfigure(encoding="utf-8", errors="replace")
        else:
            reconfigure(errors="replace")


def typed(argument: str) -> str:
    """An argument as it was typed, also where the locale made Python take its UTF-8 for something else."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return os.fsencode(argument).decode("utf-8", "replace")
    return argument


class ReaderGone(Exception):
    """Whoever read the output has left. No `BrokenPipeError`, which typer would turn into an exit of its own."""


def write(text: str) -> None:
    """A part of an answer, at once. Raises `ReaderGone`."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGone from None
    except OSError as error:
        # what is left in the buffer would fail once more when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputLost(detail=why(error).en, detail_zh=why(error).zh) from None


def tell(text: str, stream: IO[str] | None = None) -> None:
    """A line beside the answer (stderr), dim on a terminal."""
    stream = stream or sys.stderr
    text = harmless(text)
    stream.write(f"\x1b[2m{text}\x1b[0m\n" if colourful(stream) else f"{text}\n")
    stream.flush()


def colourful(stream: IO[str]) -> bool:
    """Whether a person looks at the stream and has not asked for plain text (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") != "dumb"
