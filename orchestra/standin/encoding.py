"""JSON and times as the daemon writes them.

The daemon is a Go program, and Go's encoder has habits that a client meets on the wire: `<`, `>` and `&` are
escaped, U+2028 and U+2029 too, U+0085 is not; times have up to nine digits with the trailing zeros cut off.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

_ESCAPES = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})
FOREVER = timedelta(days=292 * 365 + 100)


def compact(value: Any) -> str:
    """`value` as one line of the daemon's JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPES)


def in_order(value: Any) -> Any:
    """`value` with the names of its objects sorted, as Go's maps come out."""
    if isinstance(value, dict):
        return {name: in_order(value[name]) for name in sorted(value)}
    return [in_order(each) for each in value] if isinstance(value, list) else value


def encoded(value: Any) -> bytes:
    """`value` as the bytes of one JSON document. A lone surrogate, which has no UTF-8, becomes U+FFFD."""
    return sound(compact(value)).encode()


def sound(text: str) -> str:
    """`text` with U+FFFD in place of each lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def stamp(nanoseconds: int | None = None) -> str:
    """A moment (nanoseconds since 1970, else now) in UTC, as the daemon writes `created_at`."""
    seconds, rest = divmod(time.time_ns() if nanoseconds is None else nanoseconds, 10**9)
    digits = f".{rest:09d}".rstrip("0").rstrip(".")
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + digits + "Z"


def stamp_in(seconds: float) -> str:
    """The moment in `seconds` from now; a negative number is the end of Go's time, about 292 years away."""
    if seconds < 0:
        return (datetime.now(UTC) + FOREVER).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return stamp(time.time_ns() + int(seconds * 1e9))


def quoted(text: str) -> str:
    """`text` in double quotes, as Go's `%q` prints it."""
    return json.dumps(text, ensure_ascii=False)
