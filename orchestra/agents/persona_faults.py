"""What is wrong with a value in a persona file, in both languages: what it must be, not how it was checked."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from orchestra.texts import Words

_FAULTS = {
    "missing": Words("is missing", "缺少这一项"),
    "extra_forbidden": Words("is not known; there is: {known}", "未知的项；可用的有：{known}"),
    "string_type": Words("must be a text (in quotes where it looks like something else)", "应为文字（必要时加引号）"),
    "string_too_short": Words("must not be empty", "不能为空"),
    "string_too_long": Words("is longer than {max_length} characters", "超过 {max_length} 个字符"),
    "int_type": Words("must be a whole number", "应为整数"),
    "int_from_float": Words("must be a whole number", "应为整数"),
    "float_type": Words("must be a number", "应为数字"),
    "finite_number": Words("must be a number that is not endless", "应为有限的数字"),
    "bool_type": Words("must be true or false", "应为 true 或 false"),
    "list_type": Words("must be a list: [...], or lines that begin with -", "应为列表：[...]，或以 - 开头的各行"),
    "dict_type": Words("must be by language, zh and en", "应按语言分别给出（zh、en）"),
    "model_type": Words("must be lines of `key: value`", "应由 `键: 值` 组成"),
    "too_long": Words("has more than {max_length} items", "超过 {max_length} 项"),
    "too_short": Words("must not be empty", "不能为空"),
    "literal_error": Words("must be {expected}", "应为以下之一：{expected}"),
    "greater_than_equal": Words("must be at least {ge}", "不能小于 {ge}"),
    "greater_than": Words("must be more than {gt}", "应大于 {gt}"),
    "less_than_equal": Words("must be at most {le}", "不能大于 {le}"),
}
_NAMES = Words("lower-case letters, digits, _ and - alone, at most 64", "只能包含小写字母、数字、_ 和 -，最多 64 个字符")
_PATTERNS = {
    "tools": Words("a tool is search, knowledge: NAME, a persona's name or an address", "工具应为 search、knowledge: 名称、角色名称或地址"),
    "experts": Words("an expert is a persona's name or an address", "专家应为角色名称或地址"),
}
_OTHER = Words("{msg}", "值不可用（{msg}）")


def said(error: Any, known: Sequence[str]) -> Words:
    """A fault of pydantic's in our two languages, with the field first; `known` are the fields that could stand there."""
    place = error["loc"]
    field = ".".join(str(part) for part in place if part != "[key]")
    near = get_close_matches(str(place[-1]), known, n=2)
    facts = {**error.get("ctx", {}), "known": ", ".join(near or known), "msg": str(error["msg"])}
    if place[-1] == "[key]":
        what = Words("a text is by language, zh or en", "语言只能是 zh 或 en")
    elif error["type"] == "string_pattern_mismatch":
        what = _PATTERNS.get(str(place[0]), _NAMES)
    else:
        what = _FAULTS.get(error["type"], _OTHER)
    return Words(f"{field}: {what.text('en', facts)}", f"{field}：{what.text('zh', facts)}")
