"""The language of an answer: that of the question, said in one short line where the model reads it last.

llama3 answers Chinese in English unless it is told. The line stands at the end of the last user message, so
that everything before it stays the same prefix from turn to turn.
"""

from __future__ import annotations

import re
from typing import Literal

Language = Literal["zh", "en"]

LINES: dict[Language, str] = {"zh": "请用中文回答。", "en": "Answer in English."}
HAN_SHARE = 0.2
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]")
# Code and addresses are written in Latin letters whatever language the people around them speak.
_NO_PROSE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`|(?:https?|ftp)://[!-~]+|[\w.+-]+@[\w-]+\.[\w.-]+", re.DOTALL | re.ASCII)


def language_of(text: str, default: Language = "en") -> Language:
    """"zh" where more than a fifth of the letters of the prose are Han characters; without letters, `default`."""
    prose = _NO_PROSE.sub(" ", text)
    return _of_letters(prose) or _of_letters(text) or default


def _of_letters(text: str) -> Language | None:
    letters = sum(map(str.isalpha, text))
    if not letters:
        return None
    return "zh" if len(_HAN.findall(text)) > HAN_SHARE * letters else "en"


def line_for(language: str) -> str:
    """The line that asks for an answer in `language` ("zh", else English)."""
    return LINES["zh" if language == "zh" else "en"]


def with_language(text: str, language: str) -> str:
    """The user message `text` with the language line at its end, once."""
    line = line_for(language)
    text = text.rstrip()
    if text == line or text.endswith("\n" + line):
        return text
    return f"{text}\n\n{line}" if text else line
