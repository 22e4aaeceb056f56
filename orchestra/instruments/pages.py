"""The pages that `next`, `compare` and `bench` write: one file each, with one look, that needs nothing else to be read.

A page is made of the parts below, from texts that a model or a stranger wrote. Whatever enters a part is escaped there,
unless it is `Markup`, which only these parts make; beside that the page itself forbids scripts, frames, forms and all that
would be fetched from elsewhere (Content Security Policy, W3C), so that it can be sent on and opened anywhere.

    whole = page("Next token", section("Prompt", prose(prompt)), section("Step 1", table(headers, rows)), language="zh")
    path = writable("next.html")  # before the work, which may take minutes
    save(path, whole)             # after it
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from html import escape
from pathlib import Path

from orchestra.errors import UsageError
from orchestra.errors.system import why
from orchestra.model.wire import storable
from orchestra.texts import Words

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_MADE = Words("made with Orchestra, {date}", "由 Orchestra 生成，{date}")
_LEVELS = 8
# What HTML cannot hold, and what would turn the order of the text that follows.
_ACTING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_LOOK = """
:root { color-scheme: light dark; --line: #8885; --soft: #8882; --bar: #3b76c4 }
body { font: 16px/1.5 system-ui, "Noto Sans CJK SC", "Microsoft YaHei", "PingFang SC", sans-serif; max-width: 75rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem } h3 { font-size: 1rem; margin: 0 0 .5rem }
.wide { overflow-x: auto } table { border-collapse: collapse }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line) }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem } dt { opacity: .7 } dd { margin: 0 }
.prose { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--soft); padding: .6rem .8rem; border-radius: .3rem }
.columns { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(18rem, 1fr); gap: 1rem; overflow-x: auto }
.bar { width: 12rem; height: .8rem; background: var(--soft) } .bar rect { fill: var(--bar) }
.pieces { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 2 }
.pieces span { color: #111; padding: .15rem 0; border-right: 1px solid #fff8 } .pieces .untold { color: inherit; background: var(--soft) }
.heat0 { background: #ff7f6e } .heat1 { background: #ff9d75 } .heat2 { background: #ffb97f } .heat3 { background: #ffd58b }
.heat4 { background: #fbe89a } .heat5 { background: #dceba0 } .heat6 { background: #b5e3a0 } .heat7 { background: #86d99b }
figure { margin: 1rem 0 } figure svg { max-width: 100%; height: auto; background: #fff; border-radius: .3rem } figcaption { opacity: .7 }
footer { margin-top: 3rem; opacity: .6; font-size: .85rem }
"""


class Markup(str):
    """HTML of ours; every other text is escaped where it enters a page."""

    __slots__ = ()


def element(name: str, *inside: str, **attributes: str | float) -> Markup:
    """`<name ...>inside</name>`; `class_` is the attribute `class`."""
    given = "".join(f' {key.rstrip("_")}="{_escaped(str(value))}"' for key, value in attributes.items())
    return Markup(f"<{name}{given}>{_joined(inside)}</{name}>")


def page(title: str, *body: str, language: str) -> str:
    """A whole document with these parts; `language` ("zh", else English) is the interface's."""
    made = _MADE.text(language, {"date": datetime.now().strftime("%Y-%m-%d %H:%M")})
    head = (
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        element("title", title),
        element("style", Markup(_LOOK)),
    )
    whole = element("body", element("h1", title), *body, element("footer", made))
    return "<!DOCTYPE html>\n" + element("html", element("head", *head), whole, lang="zh-CN" if language == "zh" else "en") + "\n"


def section(title: str, *inside: str) -> Markup:
    """A part of the page under its heading."""
    return element("section", element("h2", title), *inside)


def facts(rows: Iterable[tuple[str, str]]) -> Markup:
    """Names and what they are: the settings of a run."""
    return element("dl", *(part for name, value in rows for part in (element("dt", name), element("dd", value, dir="auto"))))


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Collection[int] = ()) -> Markup:
    """Rows under their headers; the columns of `numbers`, from 0, stand at the right."""

    def cell(kind: str, place: int, inside: str) -> Markup:
        return element(kind, inside, class_="number") if place in numbers else element(kind, inside, dir="auto")

    head = element("tr", *(cell("th", place, header) for place, header in enumerate(headers)))
    body = [element("tr", *(cell("td", place, inside) for place, inside in enumerate(row))) for row in rows]
    return element("div", element("table", element("thead", head), element("tbody", *body)), class_="wide")


def columns(panels: Iterable[tuple[str, str]]) -> Markup:
    """Parts side by side, each under its name: the answers of several models."""
    return element("div", *(element("div", element("h3", name), inside) for name, inside in panels), class_="columns")


def prose(text: str) -> Markup:
    """A text as it was written, with its blanks and lines."""
    return element("div", text, class_="prose", dir="auto")


def bar(share: float) -> Markup:
    """A bar for a probability from 0 to 1."""
    filled = round(100 * max(0.0, min(1.0, share)), 2)
    drawn = element("rect", width=filled, height=10)
    return element("svg", drawn, class_="bar", viewBox="0 0 100 10", preserveAspectRatio="none", role="img")


def pieces(tokens: Iterable[tuple[str, float | None]]) -> Markup:
    """A text in its tokens, each coloured by its probability from 0 to 1, red to green; None is one of which nothing is told."""

    def piece(token: str, share: float | None) -> Markup:
        if share is None:
            return element("span", token, class_="untold", title="?")
        level = min(_LEVELS - 1, int(max(0.0, share) * _LEVELS))
        return element("span", token, class_=f"heat{level}", title=f"{share:.1%}")

    return element("div", *(piece(token, share) for token, share in tokens), class_="pieces", dir="auto")


def figure(drawing: Markup, caption: str) -> Markup:
    """A drawing (SVG) with what it shows."""
    return element("figure", drawing, element("figcaption", caption))


def writable(path: str | Path) -> Path:
    """The path, where a page can be written to it; what is there stays as it is. Raises `UsageError`."""
    path = Path(path)
    new = not os.path.lexists(path)
    try:
        path.open("ab").close()
        if new:
            path.unlink()
    except OSError as error:
        raise _refused(path, error) from None
    return path


def save(path: Path, document: str) -> None:
    """Write the page over what was there. Raises `UsageError`."""
    try:
        path.write_text(document, "utf-8")
    except OSError as error:
        raise _refused(path, error) from None


def _refused(path: Path, error: OSError) -> UsageError:
    reason = why(error)
    return UsageError(
        detail=f"cannot write {path}: {reason.en}", detail_zh=f"无法写入 {path}：{reason.zh}",
        fix="name another file with --html", fix_zh="请用 --html 指定其他文件",
    )  # fmt: skip


def _joined(inside: Iterable[str]) -> str:
    return "".join(part if isinstance(part, Markup) else _escaped(part) for part in inside)


def _escaped(text: str) -> str:
    return escape(_ACTING.sub("\ufffd", storable(text)))
