"""What is wrong with a value in a persona file, where a file has more words for it than pydantic's errors have anyway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestra.errors.validation import in_words
from orchestra.texts import Words

_OWN = {
    "string_type": Words("must be a text (in quotes where it looks like something else)", "应为文字（必要时加引号）"),
    "list_type": Words("must be a list: [...], or lines that begin with -", "应为列表：[...]，或以 - 开头的各行"),
    "dict_type": Words("must be by language, zh and en", "应按语言分别给出（zh、en）"),
    "model_type": Words("must be lines of `key: value`", "应由 `键: 值` 组成"),
}
_NAMES = Words("lower-case letters, digits, _ and - alone, at most 64", "只能包含小写字母、数字、_ 和 -，最多 64 个字符")
_PATTERNS = {
    "tools": Words("a tool is search, knowledge: NAME, a persona's name or an address", "工具应为 search、knowledge: 名称、角色名称或地址"),
    "experts": Words("an expert is a persona's name or an address", "专家应为角色名称或地址"),
}
_LANGUAGE = Words("a text is by language, zh or en", "语言只能是 zh 或 en")


def said(error: Mapping[str, Any], known: Sequence[str]) -> Words:
    """A fault of pydantic's in our two languages, with the field first; `known` are the fields that could stand there."""
    place = error["loc"]
    field = ".".join(str(part) for part in place if part != "[key]")
    pattern = _LANGUAGE if place[-1] == "[key]" else _PATTERNS.get(str(place[0]), _NAMES)
    what = in_words(error, known, {**_OWN, "string_pattern_mismatch": pattern})
    return Words(f"{field}: {what.en}", f"{field}：{what.zh}")
