"""What is wrong with a value that pydantic refused, in both languages: what it must be, not how it was checked.

Persona files, bodies over HTTP and options on the command line are checked by pydantic, whose messages are English and
speak of classes and patterns (docs.pydantic.dev, "Validation Errors"); these are the words for all three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from orchestra.texts import Words

_WHOLE = Words("must be a whole number", "应为整数")
_NUMBER = Words("must be a number", "应为数字")
_TRUTH = Words("must be true or false", "应为 true 或 false")
_EMPTY = Words("must not be empty", "不能为空")
_FAULTS = {
    "missing": Words("is missing", "缺少这一项"),
    "extra_forbidden": Words("is not known; there is: {known}", "未知的项；可用的有：{known}"),
    "string_type": Words("must be a text", "应为文字"),
    "string_too_short": _EMPTY,
    "string_too_long": Words("is longer than {max_length} characters", "超过 {max_length} 个字符"),
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": Words("is too large a number", "数字过大"),
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": Words("must be a number that is not endless", "应为有限的数字"),
    "bool_type": _TRUTH,
    "bool_parsing": _TRUTH,
    "list_type": Words("must be a list", "应为列表"),
    "dict_type": Words("must be an object", "应为对象"),
    "model_type": Words('must be an object: {{"field": value}}', '应为对象：{{"字段": 值}}'),
    "too_long": Words("has more than {max_length} items", "超过 {max_length} 项"),
    "too_short": _EMPTY,
    "literal_error": Words("must be {expected}", "应为以下之一：{listed}"),
    "greater_than_equal": Words("must be at least {ge}", "不能小于 {ge}"),
    "greater_than": Words("must be more than {gt}", "应大于 {gt}"),
    "less_than_equal": Words("must be at most {le}", "不能大于 {le}"),
    "less_than": Words("must be less than {lt}", "应小于 {lt}"),
}
_OTHER = Words("cannot be used", "值不可用")
_CHOICE = " is not one of "  # how typer words a value that is none of an option's


def in_words(error: Mapping[str, Any], known: Sequence[str] = (), own: Mapping[str, Words] | None = None) -> Words:
    """What one of `ValidationError.errors()` means; `known` are the fields that could stand there, `own` the caller's words by its type."""
    place, context = error["loc"], error.get("ctx", {})
    kind = str(error["type"])
    expected = str(context.get("expected", ""))
    if kind == "value_error" and _CHOICE in error["msg"]:
        kind, expected = "literal_error", _with_or(error["msg"].partition(_CHOICE)[2].rstrip("."))
    near = get_close_matches(str(place[-1]), known, n=2) if place and kind == "extra_forbidden" else ()
    listed = expected.replace(" or ", "、").replace(", ", "、")
    numbers = {name: f"{value:g}" for name, value in context.items() if isinstance(value, float)}
    facts = {**context, **numbers, "known": ", ".join(near or known), "expected": expected, "listed": listed}
    what = {**_FAULTS, **(own or {})}.get(kind, _OTHER)
    return Words(what.text("en", facts), what.text("zh", facts))


def _with_or(listed: str) -> str:
    """'a', 'b' or 'c'."""
    first, comma, last = listed.rpartition(", ")
    return f"{first} or {last}" if comma else last
