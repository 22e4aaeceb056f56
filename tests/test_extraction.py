"""The text of hostile pages (rows R4 and R9; bad inputs 59, 60): a process that is killed when late, and nothing that was hidden."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from orchestra.errors import ExtractTimeout, PageFault
from orchestra.model.untrusted import visible
from orchestra.retrieval import extraction, hidden
from orchestra.retrieval.extraction import MEMORY, TEXT_LIMIT, extracted
from orchestra.retrieval.extractor import Extracted, Extractor
from orchestra.retrieval.fetching import Fetched
from orchestra.retrieval.kinds import Kind

SEEN = "The lighthouse stands on the northern cape and was built of granite from the island itself. "
BODY = f"<p>{SEEN}It is thirty metres high.</p><p>{SEEN}Its keeper lived below.</p><p>{SEEN}The light turns.</p>"


@pytest.fixture(scope="module")
def extractor() -> Iterator[Extractor]:
    extractor = Extractor()
    yield extractor
    extractor.close()


def fetched(body: str | bytes, kind: Kind = "html") -> Fetched:
    data = body.encode() if isinstance(body, str) else body
    return Fetched(url="http://a.example.org/", final_url="http://a.example.org/", body=data, kind=kind, declared="", truncated=False)


def text_of(extractor: Extractor, body: str | bytes, kind: Kind = "html") -> Extracted:
    return extractor.extract(fetched(body, kind), deadline=time.monotonic() + 15)


# --- what a page says


PAGE = f"""<!doctype html><html lang=en><head><title>Lights &amp; towers</title>
<meta name=description content="not shown"><script>var x = "script text";</script>
<script type="application/ld+json">{{"datePublished": "2023-11-05T09:00:00+01:00"}}</script></head><body>
<nav><ul><li><a href=/>Home of menus</a></li><li><a href=/x>Elsewhere</a></li></ul></nav>
<main><h1>The lighthouse</h1>{BODY}<table><tr><td>Height</td><td>30 m</td></tr></table>
<form><label>Newsletter</label><input value=x></form></main><footer>All rights reserved</footer></body></html>"""


def test_the_main_text_with_title_and_date(extractor: Extractor) -> None:
    found = text_of(extractor, PAGE)
    assert (found.title, found.published, found.cut) == ("Lights & towers", "2023-11-05", False)
    assert [line for line in found.text.splitlines() if line.startswith("The lighthouse stands")] == [
        f"{SEEN}It is thirty metres high.",
        f"{SEEN}Its keeper lived below.",
        f"{SEEN}The light turns.",
    ]
    assert not [word for word in ("script text", "Home of menus", "<", "not shown") if word in found.text]


def test_without_the_extra_the_paragraphs_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    found = extracted(PAGE.encode(), declared="", kind="html")
    assert found["text"].splitlines() == [
        "The lighthouse",
        f"{SEEN}It is thirty metres high.",
        f"{SEEN}Its keeper lived below.",
        f"{SEEN}The light turns.",
        "Height 30 m",
    ]
    assert (found["title"], found["published"]) == ("Lights & towers", "2023-11-05")


@pytest.mark.parametrize(
    ("html", "date"),
    [
        ('<meta property="article:published_time" content="2024-03-05T10:00:00Z">', "2024-03-05"),
        ('<meta name="pubdate" content="2024/3/5">', "2024-03-05"),
        ('<meta itemprop="datePublished" content="2024-12-31">', "2024-12-31"),
        ('<time datetime="2024-03-05 10:00">today</time>', "2024-03-05"),
        ('<meta name="date" content="2024-13-45">', ""),
        ('<meta name="viewport" content="2024-03-05">', ""),
        ("<p>2024-03-05</p>", ""),
    ],
)
def test_the_day_that_a_page_names(html: str, date: str) -> None:
    assert extracted(f"<html><head>{html}</head><body>{BODY}".encode(), declared="", kind="html")["published"] == date


def test_plain_text_and_markdown_stay_as_they_are(extractor: Extractor) -> None:
    found = text_of(extractor, "# Title\r\n\r\n<p>not a tag</p>\r\n  indented  ", "plain")
    assert found.text == "# Title\n<p>not a tag</p>\nindented"


def test_the_page_s_own_word_for_its_encoding_is_not_the_parser_s(extractor: Extractor) -> None:
    body = f'<?xml version="1.0" encoding="gb2312"?><html><head><meta charset="big5"></head><body><p>{"灯塔建于岛上。" * 40}</p></body></html>'
    assert "灯塔建于岛上。" in text_of(extractor, body.encode()).text


def test_a_very_long_text_is_cut(extractor: Extractor) -> None:
    found = text_of(extractor, "\n".join(f"line {n} of many" for n in range(60_000)), "plain")
    assert (len(found.text), found.cut) == (TEXT_LIMIT, True)


def test_a_page_of_very_many_elements_is_read_in_time(extractor: Extractor) -> None:
    found = text_of(extractor, "<article>" + "".join(f"<p>The river {n} flows <b>north</b>.</p>" for n in range(40_000)) + "</article>")
    assert found.text.startswith("The river 0 flows north.\nThe river 1 ")


# --- what it hides (row R9)


def tagged(text: str) -> str:
    """The text in characters of the tag block, which no font shows."""
    return "".join(chr(0xE0000 + ord(c)) for c in text)


STYLES = (
    "display:none", "display : none !important", "color:red;display:none", "DISPLAY:NONE", "visibility:hidden", "visibility: collapse", "opacity:0",
    "opacity: 0.0;", "opacity:0%", "font-size:0", "font-size:0px", "font-size: 1px", "font-size:0.01em", "font:0/0 a", "text-indent:-9999px",
    "position:absolute;left:-9999px", "position:fixed; top: -5000em", "margin-left:-2000px", "height:0;overflow:hidden", "max-height:0px; overflow : hidden",
    "width:1px;height:1px;overflow:hidden", "clip:rect(0,0,0,0)", "clip-path: inset(100%)", "transform:scale(0)", "color:transparent",
    "color:rgba(0,0,0,0)", "color:#fff;background:#fff", "color: white", "color:#FFFFFF", "color:#abc;background-color:#abc", "dis\\70lay:none",
    "display:/* x */none", "color:red;" * 900 + "display:none", "content-visibility:hidden", "-webkit-text-fill-color:transparent",
)  # fmt: skip
SHEETS = (".x{display:none}", "p.x { visibility : hidden }", "#x{font-size:0}", ".a, .x {opacity:0}", "@media screen{.x{display:none}}", "div > .x{display:none!important}", ".b{color:red}" * 5000 + ".x{display:none}", ".y .x{position:absolute;left:-9999px}")
WRAPPED = (
    "<!-- {} -->", "<!--{}", "<![CDATA[{}]]>", "<?php {} ?>", "<script>{}</script>", "<style>/*{}*/</style>", "<noscript>{}</noscript>", "<template>{}</template>",
    "<p hidden>{}</p>", "<div hidden=until-found><p>{}</p></div>", "<p aria-hidden=true>{}</p>", "<textarea>{}</textarea>", "<input type=hidden value='{}'>",
    "<select><option>{}</select>", "<iframe>{}</iframe>", "<object>{}</object>", "<svg><text>{}</text></svg>", "<canvas>{}</canvas>", "<img src=x alt='{}'>",
    "<a href='http://x.example.org/{}'>a</a>", "<p title='{}'>a</p>", "<p data-x='{}'>a</p>", "<meta name=description content='{}'>", "<font color=white>{}</font>",
    "<font size=0>{}</font>", "<button>{}</button>", "<dialog>{}</dialog>", "<math><mtext>{}</mtext></math>", "<audio>{}</audio>", "<datalist><option>{}</datalist>",
)  # fmt: skip
UNSEEN: tuple[Callable[[str], str], ...] = (
    tagged,
    lambda canary: "".join("\u200b" if int(bit) else "\u200c" for c in canary for bit in f"{ord(c):08b}"),
    lambda canary: "\u202e" + "\u2066\u2069\u200b".join(canary) + "\u202c",
    lambda canary: "".join(c + chr(0xE0100 + n % 200) for n, c in enumerate(canary)),
)


def canaries() -> list[tuple[str, str, str]]:
    """Pages that each hide one word: the way, the word, the page."""
    ways = [f"<div style='{style}'>{{}}</div>" for style in STYLES]
    ways += [f"<section style='{style}'><ul><li><b>{{}}</b></li></ul></section>" for style in STYLES]
    ways += [f"<span style=\"{style}\">{{}}</span>" for style in STYLES]
    ways += [f"<style>{sheet}</style><p id=x class='a1 x'>{{}}</p>" for sheet in SHEETS]
    ways += [*WRAPPED, *(f"<div><p>before {way} after</p></div>" for way in WRAPPED), *(f"</p>{way}<p>" for way in WRAPPED)]
    made = []
    for n, (way, place) in enumerate(itertools.chain(((way, "within") for way in ways), ((way, "last") for way in ways[::4]))):
        canary = f"canary{n}x"
        inner = way.replace("{}", canary)
        made.append((way, canary, f"<html><body><article>{BODY}{inner}{BODY if place == 'within' else ''}</article></body></html>"))
    return made


def left(pages: list[tuple[str, str, str]]) -> list[str]:
    """The ways to hide a word that did not hide it from the text, with and without trafilatura's part."""
    found = []
    for way, canary, page in pages:
        text = visible(extracted(page.encode(), declared="", kind="html")["text"])
        assert "thirty metres" in text or way.startswith("<!--{}"), way
        if canary in text:
            found.append(way)
    return found


def test_no_hidden_word_is_left() -> None:
    assert len(canaries()) >= 200
    assert left(canaries()) == []


def test_no_hidden_word_is_left_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    assert left(canaries()) == []


def test_leaving_hidden_elements_in_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "bare", lambda tree: None)
    assert len(left(canaries()[: 3 * len(STYLES)])) > 2 * len(STYLES)


@pytest.mark.parametrize("hide", UNSEEN)
def test_no_character_that_nobody_sees_is_left(hide: Callable[[str], str]) -> None:
    text = visible(extracted(f"<p>{SEEN}{hide('canary')}</p>{BODY}".encode(), declared="", kind="html")["text"])
    assert not set(text) & {*map(chr, range(0x200B, 0x2070)), *map(chr, range(0xE0000, 0xE0200))}


@pytest.mark.parametrize(
    "style",
    [
        "", "color:red", "display:block", "visibility:visible", "opacity:0.5", "opacity:.9", "opacity:1", "font-size:0.9em", "font-size:12px", "font:bold 14px x",
        "font-size:100%", "left:-10px", "margin:-20px", "text-indent:2em", "height:100px;overflow:hidden", "height:0", "overflow:hidden", "color:#000;background:#fff",
        "color:white;background:navy", "color:rgba(0,0,0,0.9)", "transform:scale(0.9)", "clip-path:none", "font-size:large", "line-height:0.8",
    ],
)  # fmt: skip
def test_what_can_be_seen_stays(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trafilatura", None)  # it has its own opinion of some
    assert not hidden.hides(style)
    text = extracted(f"<article>{BODY}<p style='{style}'>{SEEN}Visible.</p></article>".encode(), declared="", kind="html")["text"]
    assert "Visible." in text


def test_the_text_after_a_hidden_element_stays() -> None:
    text = extracted(f"<p>{SEEN}One <b style='display:none'>two</b>three <i hidden>four</i>five.</p>{BODY}".encode(), declared="", kind="html")["text"]
    assert "One three five." in text


# --- hostile pages (row R4)


HOSTILE: dict[str, Callable[[], str]] = {
    "nested": lambda: "<div>" * 400_000,
    "closed": lambda: "<div>" * 180_000 + "x" + "</div>" * 180_000,
    "tables": lambda: "<table><tr><td>" * 100_000,
    "lists": lambda: "<ul><li>" * 200_000,
    "misnested": lambda: "<p><b><i></p></b><table><tr><p>" * 50_000,
    "quotes": lambda: "<a href='" * 200_000,
    "brackets": lambda: "<" * 2_000_000,
    "entities": lambda: "&amp;&lt;&#x4e2d;&nbsp;&bogus;" * 60_000,
    "laughs": lambda: '<!DOCTYPE h [<!ENTITY a "' + "ha" * 999 + '"><!ENTITY b "' + "&a;" * 999 + '">]><html><body>' + "&b;" * 9999 + "</body></html>",
    "outside": lambda: '<!DOCTYPE h [<!ENTITY a SYSTEM "file:///etc/passwd">]><html><body><p>&a;</p></body></html>',
    "comments": lambda: "<!-- x -->y" * 150_000,
    "sheet": lambda: "<style>" + ".a{" * 600_000 + "</style>x",
    "classes": lambda: "<style>.x{display:none}</style><p class='" + "a " * 900_000 + "'>x",
    "controls": lambda: "<p>" + "".join(map(chr, range(1, 32))) * 50_000,
}


@pytest.mark.parametrize("page", HOSTILE)
def test_a_hostile_page_is_soon_done(extractor: Extractor, page: str) -> None:
    begun = time.monotonic()
    with suppress(PageFault):
        found = text_of(extractor, HOSTILE[page]())
        assert len(found.text) <= TEXT_LIMIT
        assert "root:" not in found.text
        assert "haha" not in found.text
    assert time.monotonic() - begun < 12
    assert SEEN.strip() in text_of(extractor, BODY).text


def attributes() -> str:
    """One element with a hundred thousand attributes: each is compared with all before it."""
    return "<p " + " ".join(f"a{n}=1" for n in range(100_000)) + f">{SEEN}</p>{BODY}"


def test_a_page_that_takes_too_long_is_given_up() -> None:
    extractor = Extractor(seconds=0.3)
    try:
        text_of(extractor, BODY)
        begun = time.monotonic()
        with pytest.raises(ExtractTimeout, match=r"within 0\.3 s"):
            text_of(extractor, attributes())
        assert time.monotonic() - begun < 10
        assert "thirty metres" in text_of(extractor, BODY).text  # by a new process
    finally:
        extractor.close()


def test_without_the_limit_it_goes_on(extractor: Extractor) -> None:
    text_of(extractor, BODY)
    begun = time.monotonic()
    with pytest.raises(ExtractTimeout):
        extractor.extract(fetched(attributes()), deadline=begun + 0.8)
    assert time.monotonic() - begun > 0.7


def test_a_page_that_breaks_the_process_is_a_fault(extractor: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extractor.worker, "_longest", 10)
    with pytest.raises(PageFault, match="could not be taken out"):
        text_of(extractor, BODY)


def test_the_process_has_its_limits(extractor: Extractor) -> None:
    text_of(extractor, BODY)
    limits = Path(f"/proc/{extractor.worker.pid}/limits").read_text()
    assert [line.split()[-3:-1] for line in limits.splitlines() if line.startswith(("Max address space", "Max file size"))] == [["0", "0"], [str(MEMORY)] * 2]
