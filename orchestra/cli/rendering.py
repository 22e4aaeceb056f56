"""What `render` does: the exact text that a model would read, and what of it takes how many tokens."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from orchestra.cli.answering import at_work
from orchestra.cli.outcome import Wish
from orchestra.cli.running import complete
from orchestra.cli.sources import noticed
from orchestra.cli.tables import aligned
from orchestra.cli.terminal import as_line, colourful, harmless, plain, tell, write
from orchestra.cli.words import say
from orchestra.model.messages import Options
from orchestra.model.rendition import Part, Rendition
from orchestra.retrieval.places import LookupFields

_TINTS = {"template": "2", "begin": "2", "model": "35", "system": "35", "question": "1;36", "user": "36", "assistant": "32"}
_OTHER = "33"
SHORT = 40  # characters of a part, or around a difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be rendered: a prompt, or with a session or a persona the next turn; `lookup` where it is looked up first."""

    model: str = ""
    base: bool | None = None
    session: str = ""
    persona: str = ""
    lookup: LookupFields = field(default_factory=LookupFields)
    options: Options = field(default_factory=Options)


def show_rendition(text: str, asked: Asked, wish: Wish) -> None:
    """The text alone on stdout, as it is where a program reads it; its parts beside it. With --json one object."""

    async def main() -> Rendition:
        async with at_work() as (orchestra, patience):
            lookup = asked.lookup
            if lookup:
                lookup = {**lookup, "tell": partial(noticed, patience)}
            if not asked.session and not asked.persona:
                found = await orchestra.render(text, model=asked.model, base=asked.base, options=asked.options, **lookup)
            else:
                if asked.session and orchestra.store.find(asked.session) is None:
                    tell(say(f"there is no session {asked.session} yet: its first turn", f"会话 {asked.session} 尚不存在：以下为其第一轮"))
                session = orchestra.session(
                    asked.session or None, persona=asked.persona or None, model=asked.model, base=asked.base, **lookup
                )
                found = await session.render(text, options=asked.options)
            patience.observe("writing")
            return found

    shown = complete(main())
    if wish.json:
        write(as_line(as_object(shown)) + "\n")
        return
    write("".join(map(_tinted, shown.parts)) + "\n" if sys.stdout.isatty() else shown.text)
    for line in _lines(shown):
        tell(line)


def as_object(shown: Rendition) -> dict[str, Any]:
    """What `--json` prints."""
    whole: dict[str, Any] = plain(shown)
    return {**whole, "fits": shown.fits}


def _tinted(part: Part) -> str:
    text = harmless(part.text)
    if not colourful(sys.stdout) or not text:
        return text
    return f"\x1b[{_TINTS.get(part.kind, _OTHER)}m{text}\x1b[0m"


def _lines(shown: Rendition) -> list[str]:
    rows = [(str(part.tokens), named(part), _short(part.text)) for part in shown.parts]
    counted = "" if shown.exact else say(" (an estimate, rather too high)", "（偏高的估计值）")
    lines = ["", *aligned(rows)]
    lines.append(say(
        f"{shown.tokens} of {shown.window} tokens{counted} · {shown.model} · {_by(shown)}",
        f"{shown.tokens}/{shown.window} token{counted} · {shown.model} · {_by(shown)}",
    ))  # fmt: skip
    for part in shown.dropped:
        lines.append(say(f"the template leaves out: {named(part)} ({_short(part.text)})", f"模板丢弃了：{named(part)}（{_short(part.text)}）"))
    if shown.left_out:
        lines.append(
            say(f"{shown.left_out} older turns do not fit: they are summarised first", f"较早的 {shown.left_out} 轮对话放不下：会先作总结")
        )
    if not shown.fits:
        lines.append(say(
            "this does not fit: the daemon would refuse it; shorten it, or give a larger --window",
            "放不下：Ollama 会拒绝该请求；请缩短内容，或用 --window 加大窗口",
        ))  # fmt: skip
    if shown.differs is not None:
        lines.append(_difference(shown.text, shown.differs))
    return lines


def named(part: Part) -> str:
    """What a part is, in words."""
    return {
        "whole": say("all of it", "全文"),
        "begin": say("begin of text", "起始标记"),
        "template": say("template", "模板"),
        "model": say("the model's own", "模型自带"),
        "system": say("system", "系统提示"),
        "before": say("said before", "此前内容"),
        "user": say("user", "用户"),
        "assistant": say("assistant", "助手"),
        "question": say("question", "问题"),
        "beside": say("beside it", "附加资料"),
        "language": say("language line", "语言要求"),
    }[part.kind]


def _by(shown: Rendition) -> str:
    if shown.by == "raw":
        return say("sent as it is", "原样发送")
    if shown.by == "orchestra":
        return say("rendered here: the daemon is too old to show it", "由 Orchestra 渲染：Ollama 版本过旧，无法显示")
    return say("as the daemon renders it", "由 Ollama 渲染")


def _short(text: str) -> str:
    """The beginning and the end of a part on one line."""
    line = " ".join(text.split())
    return line if len(line) <= SHORT else f"{line[: SHORT // 2]} … {line[-SHORT // 2 :]}"


def _difference(theirs: str, ours: str) -> str:
    """Where Orchestra's own rendering first goes another way, by which it counts."""
    same = next((place for place, (one, other) in enumerate(zip(theirs, ours, strict=False)) if one != other), min(len(theirs), len(ours)))
    there, here = (repr(text[same : same + SHORT]) for text in (theirs, ours))
    return say(
        f"Orchestra's own rendering differs from character {same}: {there} is {here}", f"与 Orchestra 自己的渲染从第 {same} 个字符起不同：{there} 为 {here}"
    )
