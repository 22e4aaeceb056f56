"""PDF and Word files, read by a process of its own.

Such files come from anywhere, and their readers are large: one may need minutes, gigabytes, or end the process that
reads it (`python -m orchestra.retrieval.knowledge.office`, see worker.py).
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from io import BytesIO
from types import TracebackType
from typing import Any

from orchestra.errors import ExtraMissing
from orchestra.retrieval.knowledge.chunks import Content, Section
from orchestra.retrieval.knowledge.outline import Composer
from orchestra.retrieval.worker import Worker, limited, serve
from orchestra.texts import Words

MEMORY = 2 * 2**30  # bytes of address space
PATIENCE = 60.0  # seconds for a file
PATIENCE_PER_MEGABYTE = 10.0
LONGEST_ANSWER = 2**28  # bytes of what is read of a file, as JSON
UNPACKED = 200 * 2**20  # bytes, all parts of a Word file together
UNPACKED_TEXT = 60 * 2**20  # bytes of its text alone
LIBRARIES = {"pdf": "pypdf", "docx": "docx"}

_HAN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\u3000-\u303f"
_BROKEN_HAN = re.compile(f"(?<=[{_HAN}])[ \t]?\n[ \t]?(?=[{_HAN}])")
_BROKEN_WORD = re.compile(r"(?<=[a-z])-\n(?=[a-z])")
_HEADING = re.compile(r"heading (\d)", re.IGNORECASE)
_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_SHOWN = {_WORD + "t": "", _WORD + "tab": "\t", _WORD + "br": "\n", _WORD + "p": "\n"}


class Unreadable(Exception):
    """Why a file cannot be read."""

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.why = Words(en, zh)


class Office:
    """Reads PDF and Word files; the process that does it begins with the first and ends with the block."""

    def __init__(self, *, patience: float = PATIENCE) -> None:
        self._patience = patience
        self.worker = Worker("orchestra.retrieval.knowledge.office", longest=LONGEST_ANSWER)

    def __enter__(self) -> Office:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.worker.close()

    def read(self, kind: str, data: bytes) -> Content:
        """The content of a file of `kind` "pdf" or "docx". Raises `Unreadable`, `ExtraMissing`."""
        require(kind)
        seconds = self._patience + PATIENCE_PER_MEGABYTE * len(data) / 2**20
        try:
            return _content(self.worker.ask(data, seconds=seconds, kind=kind))
        except TimeoutError:
            raise Unreadable(f"reading it took longer than {seconds:.0f} s", f"读取超过 {seconds:.0f} 秒") from None
        except ChildProcessError:
            raise Unreadable("it cannot be read: it ended the process that tried", "无法读取：读取进程异常结束") from None


def require(kind: str) -> None:
    """Raises `ExtraMissing` where files of this kind cannot be read for want of a library."""
    try:
        there = find_spec(LIBRARIES[kind])
    except (ImportError, ValueError):
        there = None
    if there is None:
        raise ExtraMissing(feature=kind.upper(), extra="knowledge")


def _content(answer: dict[str, Any]) -> Content:
    if why := answer.get("why"):
        raise Unreadable(*why)
    sections = [Section(**{**each, "whole": tuple(map(tuple, each["whole"]))}) for each in answer["sections"]]
    return Content(title=answer["title"], sections=tuple(sections))


# --- in the process


def _work(data: bytes, *, kind: str) -> dict[str, Any]:
    try:
        return asdict(READERS[kind](data))
    except Unreadable as error:
        return {"why": error.why}


def pdf(data: bytes) -> Content:
    """A PDF file page by page."""
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, PyPdfError

    try:
        reader = PdfReader(BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("it is protected with a password", "文件有密码保护")
        title = str((reader.metadata and reader.metadata.title) or "")
        sections = tuple(
            Section(text=_unbroken(page.extract_text()), page=number) for number, page in enumerate(reader.pages, start=1)
        )
    except DependencyError:
        raise Unreadable("it is protected with a password", "文件有密码保护") from None
    except MemoryError:
        raise Unreadable("reading it takes too much memory", "读取所需内存过大") from None
    except (*_MALFORMED, PyPdfError) as error:
        raise Unreadable(f"it is damaged: {error}", f"文件已损坏：{error}") from None
    if not any(section.text.strip() for section in sections):
        raise Unreadable("it holds pictures of pages, no text; text recognition (OCR) makes one", "只有页面图像，没有文字；请先做文字识别（OCR）")
    return Content(title=title.strip(), sections=sections)


def docx(data: bytes) -> Content:
    """A Word file along its headings, with its tables."""
    from docx import Document
    from docx.opc.exceptions import OpcError
    from lxml.etree import LxmlError  # type: ignore[import-untyped]

    try:
        _bounded(data)
        document = Document(BytesIO(data))
        names = {style.style_id: style.name or "" for style in document.styles}
        composer = Composer()
        _compose(document.element.body, names, composer)
        return composer.content(document.core_properties.title or "")
    except MemoryError:
        raise Unreadable("reading it takes too much memory", "读取所需内存过大") from None
    except (*_MALFORMED, OpcError, LxmlError) as error:
        raise Unreadable(f"it is damaged: {error}", f"文件已损坏：{error}") from None


READERS = {"pdf": pdf, "docx": docx}
# what a reader may stumble into when a file is not what it says
_MALFORMED = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, OSError, RecursionError, TypeError,
    ValueError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def _unbroken(text: str) -> str:
    """Lines of a page put together where they were broken within a word; Chinese has no blank between lines."""
    text = text.replace("\r\n", "\n").replace("\x00", "")
    return _BROKEN_WORD.sub("", _BROKEN_HAN.sub("", text))


def _bounded(data: bytes) -> None:
    """Refuses a file that unpacks to more than one writes; what a file says of its size is held to when it is read."""
    with zipfile.ZipFile(BytesIO(data)) as parts:
        sizes = {part.filename: part.file_size for part in parts.infolist()}
    if "word/document.xml" not in sizes:
        raise Unreadable("it is an archive, no text", "这是压缩包，不是文本")
    if sum(sizes.values()) > UNPACKED or sizes["word/document.xml"] > UNPACKED_TEXT:
        megabytes = sum(sizes.values()) // 2**20
        raise Unreadable(f"it unpacks to {megabytes} MB", f"解压后有 {megabytes} MB")


def _compose(body: Any, names: dict[str, str], composer: Composer) -> None:
    """The paragraphs and tables of a part in their order, also those in content controls."""
    for element in body:
        if element.tag == _WORD + "p":
            _paragraph(element, names, composer)
        elif element.tag == _WORD + "tbl":
            rows = [[" ".join(_text(cell).split()) for cell in row.iter(_WORD + "tc")] for row in element.iter(_WORD + "tr")]
            composer.block("\n".join(f"| {' | '.join(row)} |" for row in rows if any(row)), whole=True)
        elif element.tag == _WORD + "sdt":
            content = element.find(_WORD + "sdtContent")
            _compose([] if content is None else content, names, composer)


def _paragraph(element: Any, names: dict[str, str], composer: Composer) -> None:
    style = element.find(f"{_WORD}pPr/{_WORD}pStyle")
    name = "" if style is None else names.get(style.get(_WORD + "val"), "")
    text = _text(element)
    if name.casefold() == "title":
        composer.heading(0, text)
    elif found := _HEADING.match(name):
        composer.heading(int(found[1]), text)
    else:
        listed = name.casefold().startswith("list") or element.find(f"{_WORD}pPr/{_WORD}numPr") is not None
        composer.block("- " + text if listed and text.strip() else text)


def _text(element: Any) -> str:
    return "".join(_runs(element))


def _runs(element: Any) -> Iterator[str]:
    """What a reader of the page sees: what was struck out is in other elements, hidden text is left out."""
    for each in element.iter(*_SHOWN):
        run = each.getparent()
        if each.tag == _WORD + "p":
            yield "\n" if each is not element else ""
        elif run.tag == _WORD + "r" and run.find(f"{_WORD}rPr/{_WORD}vanish") is None:
            yield _SHOWN[each.tag] or each.text or ""


if __name__ == "__main__":
    limited(MEMORY)
    serve(_work)
