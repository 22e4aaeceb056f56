"""Words of ours below an answer of somebody else's model, and how they are known again where a client sends them back.

Command lines and chats show no field that says how an answer ended: so it is said in the text. The model is not to read it
as its own words in the next turn, and it is no part of what is kept of the dialogue.
"""

from __future__ import annotations

import re
from functools import cache

from orchestra.errors import DaemonFault, ModelFault, ReplyFault, every_error
from orchestra.texts import Words

LOOPED = Words("the answer began to loop and was stopped", "回答开始重复，已停止")
_MARK = "\n\n> "
_FACT = re.compile(r"\{[^{}]*\}")
_TELLING = 4  # characters of a text that stay whatever its facts are; with fewer it could be anybody's


def aside(words: str) -> str:
    """The words, as they stand below an answer."""
    return _MARK + words


def without_aside(answer: str) -> str:
    """An answer without such words at its end."""
    said, mark, words = answer.rpartition(_MARK)
    ours = mark and any(words.startswith(begins) and words.endswith(ends) for begins, ends in _ours())
    return said if ours else answer


@cache
def _ours() -> list[tuple[str, str]]:
    """How the words begin and how they end, beside their facts."""
    errors = [error.says for error in every_error() if issubclass(error, DaemonFault | ModelFault | ReplyFault)]
    texts = [_FACT.split(text) for words in (LOOPED, *errors) for text in words]
    return [(parts[0], parts[-1]) for parts in texts if len(parts[0]) + len(parts[-1]) >= _TELLING]
