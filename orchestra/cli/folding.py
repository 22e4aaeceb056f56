"""Help in Chinese: typer's own words as well, and whole, for a column cuts a word that is longer than it is wide.

Chinese writes no spaces between words, so what a column may break is any place between two characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.columns import Columns
from rich.text import Text
from typer import rich_utils

_WORDS = {
    "DEFAULT_STRING": "[默认：{}]",
    "ENVVAR_STRING": "[环境变量：{}]",
    "REQUIRED_LONG_STRING": "[必填]",
    "ARGUMENTS_PANEL_TITLE": "参数",
    "OPTIONS_PANEL_TITLE": "选项",
    "COMMANDS_PANEL_TITLE": "命令",
}
_HELP = {
    "Show this message and exit.": "显示帮助并退出。",
    "Install completion for the current shell.": "为当前 shell 安装自动补全。",
    "Show completion for the current shell, to copy it or customize the installation.": "显示当前 shell 的补全脚本，可复制或自行定制。",
}
_USAGE = {"Usage: ": "用法：", "[OPTIONS]": "[选项]", "COMMAND [ARGS]...": "命令 [参数]..."}


def fold_help() -> None:
    """From here on help speaks Chinese, and what does not fit on a line of it goes on in the next one."""
    vars(rich_utils).update(_WORDS, Columns=folded, highlighter=_Highlighter())


class _Highlighter(rich_utils.OptionHighlighter):
    """Draws the line of usage, which typer writes in English, in Chinese."""

    def __call__(self, text: Any) -> Text:
        if isinstance(text, str) and text.startswith("Usage: "):
            for english, chinese in _USAGE.items():
                text = text.replace(english, chinese, 1)
        return super().__call__(text)


def folded(items: Sequence[Text]) -> Columns:
    """Texts beside each other, of which none is cut."""
    whole = [Text(_HELP[item.plain]) if isinstance(item, Text) and item.plain in _HELP else item for item in items]
    for item in whole:
        if isinstance(item, Text):
            item.overflow = "fold"
    return Columns(whole)
