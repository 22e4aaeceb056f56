"""Files of many kinds as text with headings; what cannot be read says why."""

from __future__ import annotations

import io
import json
import sys
import time
import zipfile
from collections.abc import Callable, Iterator

import pytest
from docx import Document as new_document
from docx.document import Document as Word
from pypdf import PdfReader, PdfWriter

from orchestra.errors import ExtraMissing
from orchestra.retrieval.knowledge import documents, office
from orchestra.retrieval.knowledge.chunks import Content
from orchestra.retrieval.knowledge.cutting import chunks
from orchestra.retrieval.knowledge.documents import kind_of
from orchestra.retrieval.knowledge.hypertext import html
from orchestra.retrieval.knowledge.office import Office, Unreadable


@pytest.fixture(scope="module")
def shared() -> Iterator[Office]:
    with Office() as shared:
        yield shared


Read = Callable[[str, bytes], Content]


@pytest.fixture
def read(shared: Office) -> Read:
    return lambda name, data: documents.read(name, kind_of(name, data[: documents.HEAD]), data, shared)


def text_of(content: Content) -> str:
    return "\n".join(section.text for section in content.sections)


def why(read: Read, name: str, data: bytes) -> str:
    with pytest.raises(Unreadable) as refused:
        read(name, data)
    assert refused.value.why.zh
    return refused.value.why.en


# --- text


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "gb18030", "utf-16", "big5"])
def test_text_in_any_encoding(read: Read, codec: str) -> None:
    text = "上下文窗口決定模型一次能讀多少文字。\n第二行，這是一個關於歷史的網頁。\n" if codec == "big5" else "上下文窗口决定模型一次能读多少文字。\n第二行。\n"
    content = read("说 明.txt", text.encode(codec))
    assert text_of(content) == text
    assert content.title == "说 明.txt"


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_wide_text_without_a_mark(read: Read, codec: str) -> None:
    assert text_of(read("a.csv", "name;amount\nvalve;12\n".encode(codec))) == "name;amount\nvalve;12\n"


def test_line_ends_are_all_one(read: Read) -> None:
    assert text_of(read("a.txt", b"one\r\ntwo\rthree\n")) == "one\ntwo\nthree\n"


@pytest.mark.parametrize("name", ["a.py", "a.csv", "a.json", "a.yaml", "a.log", "Makefile", "a.unknown", ".env"])
def test_whatever_reads_like_text_is_text(read: Read, name: str) -> None:
    assert text_of(read(name, b"key: value\n")) == "key: value\n"


def test_a_log_with_colours_is_text(read: Read) -> None:
    assert "31m" in text_of(read("a.log", b"\x1b[31mred\x1b[0m\n" * 50))


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", bytes(range(256)) * 40, b"\x7fELF\x02\x01\x01\0", b"\x1f\x8b\x08\0\0\0", b"GIF89a\x01\0"]
)
def test_what_is_no_text_is_refused(read: Read, data: bytes) -> None:
    assert why(read, "a.txt", data) == "it is no text"


def test_archives_and_old_files_say_what_they_are(read: Read) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.txt", "text")
    assert why(read, "a.zip", packed.getvalue()) == "it is an archive, no text"
    assert why(read, "a.docx", packed.getvalue()) == "it is an archive, no text"
    assert "docx" in why(read, "a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100))


@pytest.mark.parametrize("data", [b"", b" \n\t\n", b"\xef\xbb\xbf"])
def test_an_empty_file_says_so(read: Read, data: bytes) -> None:
    assert why(read, "a.md", data) == "there is no text in it"


def test_a_text_beyond_the_limit_is_refused(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LONGEST", 1000)
    assert why(read, "a.txt", b"x" * 1001) == "it has 1,001 characters; at most 1,000 are read"
    assert read("a.txt", b"x" * 1000)


def test_a_python_file_that_names_pdf_is_no_pdf(read: Read) -> None:
    assert "MAGIC" in text_of(read("a.py", b"MAGIC = b'%PDF-'\n"))


def test_of_a_notebook_the_cells_are_read(read: Read) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Boilers\n", "They need water."]},
        {"cell_type": "code", "source": "# count\nx = 7", "outputs": [{"data": {"image/png": "iVBORw0KGgo" * 1000}}]},
        {"cell_type": "code", "source": [], "outputs": []},
    ]
    content = read("a.ipynb", json.dumps({"cells": cells}).encode())
    (section,) = content.sections
    assert (content.title, section.heading, section.line) == ("Boilers", "Boilers", 0)
    assert section.text == "# Boilers\nThey need water.\n\n```\n# count\nx = 7\n```"


@pytest.mark.parametrize("data", ["[]", '{"cells": 7}', '{"cells": [{}]}', "no json", "[" * 100_000])
def test_what_only_calls_itself_a_notebook_is_text(read: Read, data: str) -> None:
    assert text_of(read("a.ipynb", data.encode())) == data


# --- HTML

PAGE = """<!DOCTYPE html><html><head><title> The
Guide </title><style>p {}</style><script>alert(1)</script></head><body><nav>Home | About</nav>
<h1>Guide <em>one</em></h1>Loose words<p>First <b>bold</b>line<br>second<!-- comment -->line</p>
<p hidden>secret1</p><p style="display : none">secret2</p><span aria-hidden="true">secret3</span>
<h2>Install</h2><ul><li>one<li>two <a href="x">link</a></ul><pre>  code
    more</pre><table><tr><th>k<th>v<tr><td>1<td>2</table>after</body></html>"""


def test_html_is_read_along_its_headings(read: Read) -> None:
    content = read("a.html", PAGE.encode())
    assert content.title == "The Guide"
    assert [(section.heading, section.text) for section in content.sections] == [
        ("Guide one", "Guide one\n\nLoose words\n\nFirst boldline\nsecondline\n\n"),
        ("Guide one > Install", "Install\n\n- one\n\n- two link\n\n  code\n    more\n\n| k | v |\n| 1 | 2 |\n\nafter\n\n"),
    ]


def test_html_in_gbk_without_an_ending(read: Read) -> None:
    page = '<html><meta charset="gb2312"><title>标题</title><h1>上下文</h1><p>窗口决定模型一次能读多少文字</p></html>'
    content = read("saved", page.encode("gbk"))
    assert (content.title, content.sections[0].heading) == ("标题", "上下文")


def test_tables_that_lay_out_a_page_are_no_tables() -> None:
    nested = "<table><tr><td><h2>Left</h2><p>a</p></td><td><table><tr><td>1</td></tr></table></td></tr></table>"
    assert text_of(html(nested)).split() == ["Left", "a", "|", "1", "|"]


@pytest.mark.parametrize("unit", ["<div>", "<b>", "<table><tr><td>", "<p a=1 ", "<!--", "&lt;", "</p>", "<li>x"])
def test_hostile_html_ends_soon(unit: str) -> None:
    begun = time.process_time()
    html("<p>first</p>" + unit * (400_000 // len(unit)))
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("text", ["", "   ", "<?xml version='1.0' encoding='utf-16'?><p>x</p>", "\x00<p>x", "\ud800<p>x</p>"])
def test_odd_html_is_no_error(text: str) -> None:
    html(text)


# --- PDF

FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


def pdf(*pages: str) -> bytes:
    """A PDF file written by hand: each page one line of text, the last of its objects a table of where they are."""
    kids = b" ".join(b"%d 0 R" % (4 + 2 * n) for n in range(len(pages)))
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(pages)), FONT]
    for number, page in enumerate(pages):
        drawn = b"BT /F1 12 Tf 72 700 Td " + b" 0 -14 Td ".join(b"(%s) Tj" % line.encode() for line in page.split("\n")) + b" ET"
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R /Resources << /Font << /F1 3 0 R >> >> >>" % (5 + 2 * number)
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn))
    out = b"%PDF-1.4\n"
    places = []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    return out + b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (size, table, size, len(out))


def test_a_pdf_is_read_page_by_page(read: Read) -> None:
    content = read("a.pdf", pdf("The boiler needs wa-\nter every day.", "On Mondays it rests."))
    assert [(chunk.page, chunk.text) for chunk in chunks(content.sections)] == [
        (1, "The boiler needs water every day."), (2, "On Mondays it rests."),
    ]  # fmt: skip
    assert content.title == "a.pdf"


@pytest.mark.parametrize(("password", "readable"), [("secret", False), ("", True)])
def test_a_pdf_with_a_password_says_so(read: Read, password: str, readable: bool) -> None:
    writer = PdfWriter(PdfReader(io.BytesIO(pdf("The boiler."))))
    writer.encrypt(user_password=password, owner_password="owner", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    if readable:
        assert "boiler" in text_of(read("a.pdf", out.getvalue()))
    else:
        assert why(read, "a.pdf", out.getvalue()) == "it is protected with a password"


def test_a_pdf_of_pictures_says_so(read: Read) -> None:
    assert "OCR" in why(read, "a.pdf", pdf("", ""))


@pytest.mark.parametrize("data", [b"%PDF-1.4\n", pdf("x" * 500)[:300], pdf("text").replace(b"/Kids", b"/Kidz")])
def test_a_damaged_pdf_says_so_and_the_next_is_read(read: Read, data: bytes) -> None:
    assert why(read, "a.pdf", data)
    assert read("b.pdf", pdf("whole")).sections[0].page == 1


# --- Word


def word(build: Callable[[Word], object]) -> bytes:
    document = new_document()
    build(document)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def guide(document: Word) -> None:
    document.add_heading("操作手册", 0)
    document.add_heading("Boilers", 1)
    document.add_paragraph("They need water.\tOften.")
    document.add_heading("Numbers", 2)
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip([cell for row in table.rows for cell in row.cells], "part amount valve 12".split(), strict=True):
        cell.text = text
    document.add_paragraph("first", style="List Bullet")
    hidden = document.add_paragraph("seen").add_run("unseen")
    hidden.font.hidden = True
    document.core_properties.title = "The Boiler Guide"


def test_a_word_file_is_read_with_headings_and_tables(read: Read) -> None:
    content = read("a.docx", word(guide))
    assert content.title == "The Boiler Guide"
    assert [(section.heading, section.text) for section in content.sections] == [
        ("操作手册 > Boilers", "操作手册\n\nBoilers\n\nThey need water.\tOften.\n\n"),
        ("操作手册 > Boilers > Numbers", "Numbers\n\n| part | amount |\n| valve | 12 |\n\n- first\n\nseen\n\n"),
    ]


def test_a_word_file_that_unpacks_to_too_much_is_refused(read: Read) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"<w>" * (2**26 // 3), compresslevel=1)
    assert len(packed.getvalue()) < 2**20
    assert why(read, "a.docx", packed.getvalue()) == "it unpacks to 63 MB"


def test_a_word_file_with_entities_is_no_bomb(read: Read) -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "x" * 100}">' for n in range(12))
    body = f'<?xml version="1.0"?><!DOCTYPE d [{entities}]><w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r><w:t>&e11;</w:t></w:r></w:p></w:body></w:document>'
    source, out = io.BytesIO(word(guide)), io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(out, "w") as new:
        for part in old.namelist():
            new.writestr(part, body if part == "word/document.xml" else old.read(part))
    assert why(read, "a.docx", out.getvalue())


@pytest.mark.parametrize("cut", [100, 5000])
def test_a_damaged_word_file_says_so(read: Read, cut: int) -> None:
    assert why(read, "a.docx", word(guide)[:cut]).startswith("it is damaged")


# --- the process that reads them


def test_a_file_that_takes_too_long_is_left_and_the_next_is_read() -> None:
    with Office(patience=0.01) as late:
        with pytest.raises(Unreadable, match="longer than 0 s"):
            late.read("pdf", pdf("its reader has to be loaded first"))
        late._patience = 20.0
        assert late.read("pdf", pdf("whole")).sections[0].text == "whole"


def test_a_file_that_ends_its_reader_is_left_and_the_next_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with Office() as own:
        with monkeypatch.context() as patch:
            patch.setattr(own.worker, "_longest", 10)
            with pytest.raises(Unreadable, match="ended the process"):
                own.read("pdf", pdf("first"))
        assert own.read("pdf", pdf("second")).sections[0].text == "second"


def test_the_process_ends_with_the_block_and_has_its_limit() -> None:
    with Office() as own:
        own.read("pdf", pdf("text"))
        with open(f"/proc/{own.worker.pid}/limits") as limits:
            bound = next(line for line in limits if line.startswith("Max address space"))
    assert str(office.MEMORY) in bound
    assert own.worker.pid is None


@pytest.mark.parametrize("kind", ["pdf", "docx"])
def test_without_the_extra_it_says_how_to_get_it(shared: Office, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setitem(sys.modules, office.LIBRARIES[kind], None)
    with pytest.raises(ExtraMissing, match="not installed") as missing:
        shared.read(kind, b"")
    assert "orchestra-ollama[knowledge]" in missing.value.hint()
