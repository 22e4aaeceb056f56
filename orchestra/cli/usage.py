"""What is wrong with a line that typer cannot take, and the help that typer writes, in the words of this house.

Typer speaks English, and of values as pydantic does (typer/_click/exceptions.py, typer/rich_utils.py of
github.com/fastapi/typer); a Chinese interface says all of it in Chinese.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import typer
from pydantic import ValidationError

from orchestra.cli.words import say
from orchestra.errors.validation import in_words

_EXTRA = re.compile(r"Got unexpected extra argument\(s\) \((.*)\)", re.DOTALL)
_COMMAND = re.compile(r"No such command (.+?)\.(?: Did you mean (.+)\?)?", re.DOTALL)
_NEEDS = re.compile(r"Option (.+?) requires .+")
_TAKES_NONE = re.compile(r"Option (.+?) does not take a value\.")


def said(error: typer.TyperException) -> str:
    """What is wrong with the line, in the language of this process."""
    told = {"MissingParameter": _missing, "BadParameter": _bad, "NoSuchOption": _no_option}.get(type(error).__name__)
    if told:
        return told(error)
    message = error.format_message()
    for pattern, chinese in _LINES:
        if found := pattern.fullmatch(message):
            return say(message, chinese(found))
    return say(message, f"无法理解：{message}") if message else ""


def _no_command(found: re.Match[str]) -> str:
    near = f"；相近的有：{found[2]}" if found[2] else ""
    return f"没有命令 {found[1]}{near}"


_LINES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (_EXTRA, lambda found: f"多余的参数：{found[1]}（含空格的文字请加引号）"),
    (_COMMAND, _no_command),
    (_NEEDS, lambda found: f"选项 {found[1]} 需要一个值"),
    (_TAKES_NONE, lambda found: f"选项 {found[1]} 不带值"),
)


def _named(error: Any) -> str:
    """The option or argument, as it is written on the line."""
    hint = error.param_hint if error.param_hint is not None else error.param.get_error_hint() if error.param is not None else ""
    return hint if isinstance(hint, str) else " / ".join(map(repr, hint or ()))


def _missing(error: Any) -> str:
    kind = str(error.param_type or getattr(error.param, "param_type_name", ""))
    named = _named(error)
    return say(f"Missing {kind} {named}.", f"缺少{'选项' if kind == 'option' else '参数'} {named}")


def _bad(error: Any) -> str:
    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return say(error.format_message(), f"{_named(error)} 的值不可用：{error.message}")
    what = in_words(cause.errors(include_url=False, include_input=False)[0])
    return say(f"{_named(error)} {what.en}", f"{_named(error)} {what.zh}")


def _no_option(error: Any) -> str:
    near = ", ".join(sorted(error.possibilities or ()))
    en, zh = (f"; there is: {near}", f"；相近的有：{near}") if near else ("", "")
    return say(f"No such option: {error.option_name}{en}", f"没有选项 {error.option_name}{zh}")
