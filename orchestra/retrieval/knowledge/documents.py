"""A file as text with headings: what kind it is, and what can be read of it.

The name's ending says the kind where it is one of those below, else the bytes do; what remains is text in whatever
encoding, unless it reads like none.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import PurePath
from typing import Literal

from orchestra.retrieval.charset import decode
from orchestra.retrieval.knowledge.chunks import Content, Section
from orchestra.retrieval.knowledge.hypertext import html
from orchestra.retrieval.knowledge.office import Office, Unreadable
from orchestra.retrieval.knowledge.outline import markdown

LARGEST = 50 * 2**20  # bytes
LONGEST = 5_000_000  # characters
HEAD = 8192  # bytes that tell what a file is

Kind = Literal["pdf", "docx", "html", "markdown", "notebook", "text"]

UNPRINTABLE = 0.02  # a text has no more control characters than that
_ENDINGS: dict[str, Kind] = {
    **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd", ".mdx", ".qmd", ".rmd"), "markdown"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    ".ipynb": "notebook",
}
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1b") | {127})
_WIDE = (b"\xff\xfe", b"\xfe\xff")
_ARCHIVE = b"PK\x03\x04"
_OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def kind_of(name: str, head: bytes) -> Kind:
    """What a file called `name` is that begins with `head`. Raises `Unreadable` for what is no text."""
    ending = PurePath(name).suffix.lower()
    if head.lstrip().startswith(b"%PDF-") or (ending == ".pdf" and b"%PDF-" in head[:1024]):
        return "pdf"
    if head.startswith(_ARCHIVE):
        if ending in ("", ".docx", ".docm", ".dotx"):
            return "docx"
        raise Unreadable("it is an archive, no text", "这是压缩包，不是文本")
    if head.startswith(_OLD_OFFICE):
        raise Unreadable("it is of an old Office; save it as .docx or .pdf", "这是旧版 Office 文件，请另存为 .docx 或 .pdf")
    if ending == ".svg" or _unprintable(head):
        raise Unreadable("it is no text", "不是文本文件")
    opening = head.lstrip()[:200].lower()
    if not ending and opening.startswith((b"<!doctype html", b"<html")):
        return "html"
    return _ENDINGS.get(ending, "text")


def _unprintable(head: bytes) -> bool:
    """Whether it reads like no text. Only in the wide encodings are control characters a part of others."""
    if b"\0" in head or head.startswith(_WIDE):
        head = decode(head).encode()
    return b"\0" in head or len(head) - len(head.translate(None, _CONTROLS)) > UNPRINTABLE * len(head)


def read(name: str, kind: Kind, data: bytes, office: Office) -> Content:
    """The content of a file. Raises `Unreadable` with the reason, `ExtraMissing` for a PDF or DOCX."""
    content = office.read(kind, data) if kind in ("pdf", "docx") else _written(kind, data)
    if not any(section.text.strip() for section in content.sections):
        raise Unreadable("there is no text in it", "其中没有文字")
    return Content(title=content.title or PurePath(name).name, sections=content.sections)


def too_large(size: int) -> Unreadable:
    """Why a file of `size` bytes is left out."""
    has, most = f"{size / 2**20:.0f} MB", f"{LARGEST >> 20} MB"
    return Unreadable(f"it has {has}; at most {most} are read", f"文件有 {has}，上限为 {most}")


def _written(kind: Kind, data: bytes) -> Content:
    text = decode(data).replace("\r\n", "\n").replace("\r", "\n")
    if len(text) > LONGEST:
        raise Unreadable(
            f"it has {len(text):,} characters; at most {LONGEST:,} are read", f"文件有 {len(text):,} 个字符，上限为 {LONGEST:,}"
        )
    if kind == "html":
        return html(text)
    if kind == "markdown":
        return markdown(text)
    cells = _cells(text) if kind == "notebook" else ""
    if cells:
        found = markdown(cells)  # the lines of a notebook's file are nobody's place
        return Content(title=found.title, sections=tuple(replace(section, line=0) for section in found.sections))
    return Content(title="", sections=(Section(text=text, line=1),))


def _cells(text: str) -> str:
    """What was written into the cells of a Jupyter notebook, as Markdown, without what they gave; empty for another file."""
    try:
        cells = json.loads(text)["cells"]
        written = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return "\n\n".join(source if kind == "markdown" else f"```\n{source}\n```" for kind, source in written if source.strip())
