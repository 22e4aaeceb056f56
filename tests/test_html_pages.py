"""Pages of HTML: what strangers wrote stays text, nothing is fetched or run, and a real browser shows them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import dumped

from orchestra.errors import UsageError
from orchestra.instruments import pages

HOSTILE = '<script>document.title="taken"</script><img src="http://192.0.2.1/x"> " onload="x" & \x00\u202egnp\ud800 <|eot_id|>'
VOID = {"meta"}


class Reader(HTMLParser):
    """The elements, attributes and text of a page; an element that is closed in the wrong place fails."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.said = ""
        self._open: list[str] = []
        self.feed(document)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said += data


def everything(language: str = "en", text: str = HOSTILE) -> str:
    """A page with each of the parts, every one of which is given the same text."""
    return pages.page(
        text,
        pages.section(text, pages.facts([(text, text)]), pages.prose(text)),
        pages.table([text, "p"], [[text, pages.bar(0.5)]], numbers=[1]),
        pages.columns([(text, pages.prose(text)), ("b", text)]),
        pages.pieces([(text, 0.93), (text, None), (text, 0.0), (text, 1.0)]),
        pages.figure(pages.bar(0.1), text),
        language=language,
    )


def test_what_strangers_wrote_stays_text() -> None:
    read = Reader(everything())
    assert {"script", "img", "link", "iframe", "object", "a", "form"}.isdisjoint(read.names)
    assert not [name for name, _ in read.attributes if name.startswith("on") or name in ("src", "href", "style")]
    assert read.said.count('<script>document.title="taken"</script>') == 16  # whole, in each part
    assert "\x00" not in read.said
    assert "\u202e" not in read.said
    everything().encode()  # also what was half a character
    # the control: what is no text of a stranger's is not escaped
    assert "script" in Reader(pages.page("t", pages.Markup("<script></script>"), language="en")).names


def test_a_page_fetches_and_runs_nothing() -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', everything())
    assert policy
    rules = dict(rule.split(" ", 1) for rule in policy[1].split("; "))
    assert rules == {"default-src": "'none'", "style-src": "'unsafe-inline'", "base-uri": "'none'", "form-action": "'none'"}
    assert "url(" not in everything(text="")
    assert "//" not in everything(text="").replace("<!DOCTYPE", "")


def test_the_language_of_a_page() -> None:
    assert '<html lang="zh-CN">' in everything("zh")
    assert "由 Orchestra" in everything("zh")
    assert '<html lang="en">' in everything("en")


@pytest.mark.parametrize(("share", "level"), [(0.0, 0), (0.124, 0), (0.126, 1), (0.999, 7), (1.0, 7), (1.0000001, 7), (-0.1, 0)])
def test_a_token_is_coloured_by_its_probability(share: float, level: int) -> None:
    assert f'class="heat{level}"' in pages.pieces([("a", share)])
    assert f".heat{level} " in pages.page("", language="en")


def test_a_path_is_looked_at_before_the_work_and_left_as_it_was(tmp_path: Path) -> None:
    new, old = tmp_path / "new.html", tmp_path / "old.html"
    old.write_text("before")
    assert pages.writable(str(new)) == new
    assert not new.exists()
    pages.writable(old)
    assert old.read_text() == "before"
    pages.save(old, everything("zh"))
    assert old.read_text("utf-8") == everything("zh")


@pytest.mark.parametrize("place", [".", "nowhere/x.html", "file/x.html", "x" * 300])
def test_a_path_that_cannot_be_written_is_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    for attempt in (lambda path: pages.writable(path), lambda path: pages.save(path, "")):
        with pytest.raises(UsageError) as caught:
            attempt(tmp_path / place)
        assert "cannot write" in caught.value.message("en")
        assert "--html" in caught.value.hint("zh")


def test_a_full_disk_is_one_line() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(UsageError, match=r"/dev/full"):
        pages.save(pages.writable("/dev/full"), everything())


@pytest.mark.parametrize(("language", "policy"), [("zh", pages.POLICY), ("en", "")], ids=["zh", "en, the control"])
def test_a_browser_runs_nothing_of_a_page(tmp_path: Path, language: str, policy: str) -> None:
    path = tmp_path / "page.html"
    # what would tell on itself, had it got past the escaping
    loud = pages.Markup('<script>document.title="taken"</script>')
    whole = pages.page("标题 <b>", pages.pieces([("巴黎", 0.9)]), loud, language=language)
    pages.save(path, whole.replace(pages.POLICY, policy))
    shown = dumped(path, tmp_path / "profile")
    assert f'<html lang="{"zh-CN" if language == "zh" else "en"}">' in shown
    assert '<span class="heat7" title="90.0%">巴黎</span>' in shown
    assert ("<title>标题 &lt;b&gt;</title>" if policy else "<title>taken</title>") in shown
