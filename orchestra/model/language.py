"""The language of an answer: that of the question, said in one short line where the model reads it last.

llama3 answers Chinese in English unless it is told, and sometimes even then. The line stands at the end of the
last user message, so that everything before it stays the same prefix from turn to turn; whether an answer that
shall be Chinese begins so is heard from its first letters. A question that names a language, or asks for a
translation, is left to speak for itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestra.model.messages import Language, Message

LINES: dict[Language, str] = {"zh": "请用中文回答。", "en": "Answer in English."}
FIRMER: dict[Language, str] = {
    "zh": "请务必全部用简体中文回答，不要用英文。",
    "en": "Answer in English only, in no other language.",
}
FOREIGN_LETTERS = 24
"""So many letters that are not Han, and no Han character before them, are an answer in another language."""
HAN_SHARE = 0.2
_NO_LETTERS = 120  # a text of figures has no language
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]")
# Code and addresses are written in Latin letters whatever language the people around them speak.
_NO_PROSE = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]+`|(?:https?|ftp)://[!-~]+|(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}\.[\w.-]{1,255}",
    re.DOTALL | re.ASCII,
)

_CHINESE_NAMED = re.compile(
    r"用(?:简体|繁体)?(?:中文|汉语|普通话|華語)(?:来)?(?:回答|回复|答复|写|说|解释|总结)|"
    r"\b(?:answer|reply|respond|write|explain|speak)\b[^.?!\n]{0,40}\bin (?:Chinese|Mandarin)\b",
    re.IGNORECASE,
)
_ENGLISH_NAMED = re.compile(
    r"(?:用|以)(?:英文|英语|English)(?:来)?(?:回答|回复|答复|写|说|解释|总结|介绍|描述|表达)|"
    r"\b(?:answer|reply|respond|write|explain|speak)\b[^.?!\n]{0,40}\bin English\b",
    re.IGNORECASE,
)
_TRANSLATION = re.compile(
    r"(?:翻译|译)(?:成|为|作|到)|翻译(?:一下|以下|下面|这|下列|如下)|(?:请|帮我|帮忙)(?:把.{0,80})?翻译|(?:^|\n)[ \t]{0,20}翻译[ \t]{0,20}[:：]|"
    r"(?:用|以)(?:英|法|德|日|俄|韩|西班牙|葡萄牙|意大利|阿拉伯|拉丁)(?:文|语)|(?:英|法|德|日|俄|韩)(?:文|语)(?:怎么|如何|该怎么)(?:说|写|讲|表达)|"
    r"写一?(?:封|篇|段|首)英(?:文|语)|"
    r"(?:^|[.?!\n]\s{0,20})(?:please |can you |could you |now )*translate\b|\binto (?:Chinese|French|German|Japanese|Spanish)\b|"
    r"\bin (?:French|German|Japanese|Spanish|Italian|Russian|Korean)\b",
    re.IGNORECASE,
)
_CODE_WANTED = re.compile(
    r"代码|脚本|(?:写|实现|编写|给出|生成|定义).{0,24}(?:函数|程序|算法|类|接口|命令|查询|语句|正则|配置)|正则表达式|"
    r"\b(?:JSON|YAML|XML|CSV|SQL|HTML|CSS|regex|LaTeX|Dockerfile|Makefile)\b",
    re.IGNORECASE | re.ASCII,
)
_READ = 20_000  # characters at either end of a text that tell its language; the whole of a long one would take seconds
_QUESTION = 600  # characters, in which the question itself is taken to stand
_CODE_BEGINS = re.compile(r"\s*(?:```|~~~|[{\[<$#]|\w+\()")


def wanted(question: str, told: Language | None = None, default: Language = "en") -> Language | None:
    """The language of the answer to `question`: as `told`, else as the question names it, else its own.

    None where it asks for a translation or for a third language: no line could say it better.
    """
    if told is not None:
        return told
    question = _read(question)
    if _CHINESE_NAMED.search(question):
        return "zh"
    if _ENGLISH_NAMED.search(question):
        return "en"
    return None if _TRANSLATION.search(question) else language_of(question, default)


class Heard:
    """Whether an answer that shall be Chinese begins so; told its text as it comes, it is `decided` soon."""

    def __init__(self) -> None:
        self.decided = False
        self.foreign = False
        self._text = ""

    def push(self, text: str) -> bool:
        """Takes a part of the answer; whether it has shown to be in another language."""
        if self.decided:
            return self.foreign
        self._text += text
        letters = 0
        for letter in self._text:
            letters += letter.isalpha()
            if _HAN.match(letter) or letters >= FOREIGN_LETTERS:
                self.decided, self.foreign = True, not _HAN.match(letter)
                return self.foreign
        self.decided = len(self._text) > _NO_LETTERS or bool(_CODE_BEGINS.match(self._text))
        return False


def language_of(text: str, default: Language = "en") -> Language:
    """"zh" where more than a fifth of the letters of the prose are Han characters; without letters, `default`."""
    text = _read(text)
    prose = _NO_PROSE.sub(" ", text)
    return _of_letters(prose) or _of_letters(text) or default


def _read(text: str) -> str:
    return text if len(text) <= 2 * _READ else f"{text[:_READ]}\n{text[-_READ:]}"


def _of_letters(text: str) -> Language | None:
    letters = sum(map(str.isalpha, text))
    if not letters:
        return None
    return "zh" if len(_HAN.findall(text)) > HAN_SHARE * letters else "en"


def line_for(language: str) -> str:
    """The line that asks for an answer in `language` ("zh", else English)."""
    return LINES["zh" if language == "zh" else "en"]


def with_language(text: str, language: str | None) -> str:
    """The user message `text` with the language line at its end, once; None = no line."""
    if language is None:
        return text
    return _with_line(text, line_for(language))


def without_line(text: str) -> str:
    """The user message without the language line at its end."""
    text = text.rstrip()
    for line in LINES.values():
        if text == line or text.endswith("\n" + line):
            return text.removesuffix(line).rstrip()
    return text


def reworded(subject: Sequence[Message] | str, change: Callable[[str], str]) -> Sequence[Message] | str:
    """The subject with its last user message, or the text that it is, changed."""
    if isinstance(subject, str):
        return change(subject)
    messages = list(subject)
    for place in reversed(range(len(messages))):
        if messages[place].role == "user":
            messages[place] = replace(messages[place], content=change(messages[place].content))
            break
    return messages


def held_to(subject: Sequence[Message] | str) -> Language | None:
    """The language that the answer is held to: "zh" where the last thing asked ends with the line for it.

    Not where code or data is asked for. The question stands before what belongs to it.
    """
    said = [subject] if isinstance(subject, str) else [message.content for message in subject if message.role == "user"]
    text = said[-1].rstrip() if said else ""
    if not text.endswith("\n" + LINES["zh"]):
        return None
    return None if _CODE_WANTED.search(text[:_QUESTION]) else "zh"


def insisting(subject: Sequence[Message] | str, language: Language) -> Sequence[Message] | str:
    """The subject with a firmer line in place of its language line."""
    return reworded(subject, lambda text: _with_line(without_line(text), FIRMER[language]))


def _with_line(text: str, line: str) -> str:
    text = text.rstrip()
    if text == line or text.endswith("\n" + line):
        return text
    return f"{text}\n\n{line}" if text else line
