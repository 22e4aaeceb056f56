"""Whatever a model or a page writes is read in linear time: an attacker writes that text (row D9 of the reliability rows)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from orchestra.cli.answers import block_end
from orchestra.cli.terminal import harmless
from orchestra.model.language import language_of, wanted
from orchestra.model.stopping import examine
from orchestra.model.wire import neutral, readable
from orchestra.retrieval.charset import decode
from orchestra.retrieval.citations import citations, uncited
from orchestra.retrieval.evidence import lacking
from orchestra.retrieval.hidden import hides
from orchestra.retrieval.knowledge.chunks import Section
from orchestra.retrieval.knowledge.cutting import chunks
from orchestra.retrieval.knowledge.hypertext import html
from orchestra.retrieval.knowledge.outline import markdown
from orchestra.retrieval.links import without_links
from orchestra.retrieval.need import hangs_on_today, leans_on_dialogue, needs_search
from orchestra.retrieval.passages import Passage
from orchestra.retrieval.prompt import grounded
from orchestra.retrieval.providers.hits import plain
from orchestra.retrieval.queries import kept_words
from orchestra.retrieval.ranking import canonical, chosen, fitted, merged

SHORT, LONG = 2_000, 20_000
GROWTH = 25.0  # ten times the text may take this much longer; a square takes 100 times as long
NEGLIGIBLE = 0.03  # seconds for LONG: below that growth is the clock's noise

UNITS = [
    "a", " ", "\n", "1", "。", "的", "-", "`", "<", "[", "|", "<|", "<|a", "[1", "[1] ", "[ ", "<think", "</think>", "\x1b[", "\x1b]",
    "\x9b3", "a.", "a,", "a b ", "a\n", "- a\n", "1. a\n", "# \n", "**a", "```\n", "http://a", "a@a", "\u0301", "а", "\ufffd",
    "（1", '"', "\\", " \t", "|a|\n", "翻译", "translate ", "answer in ", "<<SYS", "sha256:", "\r", "a\u2028",
]  # fmt: skip


def source(text: str) -> Passage:
    return Passage(title=text[:200], url="a:b", text=text)


WORK: dict[str, Callable[[str], object]] = {
    "neutral": neutral,
    "readable": readable,
    "harmless": harmless,
    "language_of": language_of,
    "wanted": wanted,
    "block_end": block_end,
    "grounded": lambda text: grounded("What?", [source(text)], "en", line=None),
    "citations": lambda text: citations(text, [source("Paris is a city.")]),
    "citations of it": lambda text: citations("Paris has 2 million people, not 3 [1].", [source(text)]),
    "uncited": uncited,
    "without_links": lambda text: without_links(text, ["https://a.example/"]),
    "examine": examine,
    "needs_search": needs_search,
    "leans_on_dialogue": leans_on_dialogue,
    "hangs_on_today": hangs_on_today,
    "lacking": lacking,
    "kept_words": lambda text: kept_words([text, *text.split()]),
    "canonical": lambda text: canonical("https://example.org/?" + text),
    "chosen": lambda text: chosen(merged([[source(text)], [source(text + "!")]]), most=3),
    "fitted": lambda text: fitted([source(text)], "What?", budget=200, count=len),
    "plain": lambda text: plain(text, LONG),
    "decode": lambda text: decode(text.encode("utf-16-le") + b"\xff"),
    "decode_gbk": lambda text: decode(text.encode("gb18030", "replace") + b"\xff\xff"),
    "hides": hides,
    "chunks": lambda text: list(chunks([Section(text=text, line=1)])),
    "markdown": lambda text: list(chunks(markdown(text).sections)),
    "html": html,
}


def seconds(work: Callable[[str], object], text: str) -> float:
    """CPU of one call."""
    begun = time.process_time()
    work(text)
    return time.process_time() - begun


def grows(work: Callable[[str], object], unit: str) -> bool:
    """Whether ten times the text takes much more than ten times as long, each time of three."""
    short, long = (unit * (size // len(unit)) + "!" for size in (SHORT, LONG))
    for _ in range(3):
        took = seconds(work, long)
        if took <= NEGLIGIBLE or took <= GROWTH * seconds(work, short):
            return False
    return True


@pytest.mark.parametrize("name", WORK)
def test_what_is_done_with_a_text_is_linear(name: str) -> None:
    assert [unit for unit in UNITS if grows(WORK[name], unit)] == []


def test_a_pattern_that_explodes_is_noticed() -> None:
    assert grows(re.compile(r"a(?: b a)*x").findall, "a b ")
