"""Documents cut into chunks: nothing is lost, every place is true, and a chunk ends where a reader would pause."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.retrieval.knowledge import cutting
from orchestra.retrieval.knowledge.chunks import Chunk, Section
from orchestra.retrieval.knowledge.cutting import LIMIT, OVERLAP, chunks, weight
from orchestra.retrieval.knowledge.outline import markdown

ENGLISH = "Boilers need water every day. "
CHINESE = "锅炉每天都需要加水。"

# what documents are made of, so that the interesting borders meet often
PARTS = st.sampled_from(
    ["\n", "\n\n", "  \n", " ", "\t", "。", "！", ". ", "? ", "，", "- item\n", "1. one\n", "# Top\n", "## Sub\n\n", "Title\n===\n", "---\n",
     "```\ncode\n\ncode\n```\n", "~~~\n", "| a | b |\n", "    indented\n", "word", "词语", "é", "\u0301", "😀", "x" * 900, "长" * 500,
     ENGLISH * 20, CHINESE * 30, "#", "...", "\x0c", "\u2028", "\xa0", "\x1f", ENGLISH, CHINESE]
)  # fmt: skip
TEXTS = st.lists(PARTS, max_size=40).map("".join)


def cut(text: str, **section: object) -> list[Chunk]:
    return list(chunks([Section(text=text, line=1, **section)]))  # type: ignore[arg-type]


def check_places(text: str, cut: list[Chunk]) -> None:
    """Every visible character is in a chunk, and the chunk stands in the lines that it names."""
    lines = text.split("\n")
    held = visible(text, 0)
    for chunk in cut:
        assert chunk.text.strip()
        assert weight(chunk.text) <= LIMIT
        assert 1 <= chunk.start <= chunk.end <= len(lines)
        begin = sum(len(line) + 1 for line in lines[: chunk.start - 1])
        end = sum(len(line) + 1 for line in lines[: chunk.end])
        at = text.rfind(chunk.text, begin, min(end, held + len(chunk.text)))
        assert at >= 0, "it stands elsewhere, or something before it is missing"
        assert chunk.text.count("\n") == chunk.end - chunk.start
        held = max(held, visible(text, at + len(chunk.text)))
    assert held == len(text)


def visible(text: str, at: int) -> int:
    """The place of the next visible character."""
    return len(text) - len(text[at:].lstrip())


@given(TEXTS)
@example("a" * 5000)
@example("  indented\n\n\n")
@example((ENGLISH * 40 + "\n\n") * 5)
def test_plain_text_is_held_whole(text: str) -> None:
    check_places(text, cut(text))


@given(TEXTS)
@example("# A\n## B\n### C\n")
@example("text\n# A")
@example("```\n# no heading\n")
def test_markdown_is_held_whole(text: str) -> None:
    content = markdown(text)
    if not text.startswith("---"):
        check_places(text, list(chunks(content.sections)))
    assert all(section.heading == section.heading.strip() for section in content.sections)


def test_a_text_that_is_cut_apart_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Red control of the two above: without its last chunk, with a line too few."""
    text = (ENGLISH * 5 + "\n") * 10
    whole = cut(text)
    with pytest.raises(AssertionError):
        check_places(text, whole[:-1])
    with pytest.raises(AssertionError):
        check_places("\n" + text, whole)


def test_chinese_counts_twice() -> None:
    assert (weight("abc"), weight("中文 abc"), weight("かな한글")) == (3, 8, 8)
    lengths = [len(chunk.text) for chunk in cut(CHINESE * 200)]
    assert all(300 <= length <= 400 for length in lengths[:-1])
    assert all(600 <= len(chunk.text) <= 800 for chunk in cut(ENGLISH * 200)[:-1])


@pytest.mark.parametrize("sentence", [ENGLISH, CHINESE])
def test_chunks_are_whole_sentences_and_share_some(sentence: str) -> None:
    found = cut("".join(f"{number} {sentence}" for number in range(200)))
    assert all(chunk.text.endswith(sentence.strip()[-1]) for chunk in found)
    for one, next_ in pairwise(found):
        shared = next_.text.split(" ", 1)[0]
        repeated = one.text[one.text.rindex(f"{shared} ") :]
        assert next_.text.startswith(repeated)
        assert 0 < weight(repeated) <= OVERLAP + 1


def test_without_overlap_sentences_are_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "OVERLAP", 0)
    found = cut("".join(f"{number} {ENGLISH}" for number in range(200)))
    assert sum(len(chunk.text) for chunk in found) < 200 * len(ENGLISH) + 1000
    assert sum(chunk.text.count("Boilers") for chunk in found) == 200


def test_a_chunk_ends_with_its_paragraph_where_it_can() -> None:
    found = cut("\n\n".join([ENGLISH * 18, ENGLISH * 22, ENGLISH * 18]))
    assert [chunk.start for chunk in found] == [1, 1, 3]
    assert [chunk.end for chunk in found] == [1, 3, 5]


def test_abbreviations_and_decimals_do_not_end_a_sentence() -> None:
    found = cut("It costs 3.5 million, e.g. for a boiler of approx. size. " * 40)
    assert {chunk.text.split()[0] for chunk in found} == {"It"}


def test_code_is_cut_at_its_blank_lines() -> None:
    code = "".join(f"def f{n}(x):\n    y = x + {n}\n\n    return y * 2  # about that\n\n\n" for n in range(60))
    assert {chunk.text.split("\n")[0][:5] for chunk in cut(code)} == {"def f"}


def test_the_indentation_of_the_first_line_stays() -> None:
    assert cut("\n\n    one\n    two\n")[0] == Chunk(text="    one\n    two", start=3, end=4)


def test_code_and_tables_stay_whole_where_they_fit() -> None:
    fence = "```python\n" + "x = 1  # a line. Of code\n" * 20 + "```\n"
    table = "| a | b |\n|---|---|\n" + "| one | two. Three |\n" * 20
    text = f"# Guide\n\n{ENGLISH * 12}\n\n{fence}\n{ENGLISH * 12}\n\n{table}\n{ENGLISH * 12}\n"
    found = list(chunks(markdown(text).sections))
    for block in (fence, table):
        assert sum(block.strip() in chunk.text for chunk in found) == 1
        first = block.split("\n")[0]
        assert [chunk.text.count(first) for chunk in found if first in chunk.text] == [1]


def test_a_block_that_does_not_fit_is_cut_at_its_lines() -> None:
    lines = [f"value_{number} = {number}" for number in range(200)]
    found = list(chunks(markdown("```\n" + "\n".join(lines) + "\n```\n").sections))
    assert len(found) > 2
    assert all(line in lines or line == "```" for chunk in found for line in chunk.text.split("\n"))


def test_a_line_without_any_pause_is_cut_all_the_same() -> None:
    assert [len(chunk.text) for chunk in cut("x" * 2000)] == [800, 800, 400]
    assert sum(len(chunk.text) for chunk in cut("长" * 2000)) == 2000
    assert all(chunk.text.endswith("，") for chunk in cut("一二三四五六七八九，" * 300)[:-1])


def test_pages_and_headings_go_with_each_chunk() -> None:
    found = list(chunks([Section(text=ENGLISH * 40, heading="A > B", page=7)]))
    assert {(chunk.heading, chunk.page, chunk.start, chunk.end) for chunk in found} == {("A > B", 7, 0, 0)}
    assert [chunk.place for chunk in found[:1]] == ["A > B, page 7"]
    assert Chunk(text="x", start=3, end=3).place == "line 3"
    assert Chunk(text="x", heading="H", start=3, end=5).place == "H, lines 3-5"


# --- Markdown


def headings(text: str) -> list[tuple[str, int]]:
    return [(section.heading, section.line) for section in markdown(text).sections]


@pytest.mark.parametrize(
    ("text", "heading", "body"),
    [
        ("# Lamp\n\nIt shines.", "Lamp", "It shines."),
        ("# Lamp\n\n## Care ##\n\nDust it.", "Lamp > Care", "Dust it."),
        ("Lamp\n====\n\nIt shines.", "Lamp", "It shines."),
        ("# 灯\n它会亮。", "灯", "它会亮。"),
        ("## Another\n\nIt shines.", "Lamp", "## Another\n\nIt shines."),
        ("It shines.\n# Lamp", "Lamp", "It shines.\n# Lamp"),
        ("# Lamp", "Lamp", "# Lamp"),
        ("It shines.", "", "It shines."),
    ],
)
def test_the_body_of_a_chunk_is_without_its_headings(text: str, heading: str, body: str) -> None:
    assert Chunk(text=text, heading=heading).body == body


def test_a_chunk_is_titled_by_its_document_and_its_headings() -> None:
    titles = [Chunk(text="", heading=heading).titled("Lamp") for heading in ("", "Lamp", "Lamp > Care", "Lampshade", "Care")]
    assert titles == ["Lamp", "Lamp", "Lamp > Care", "Lamp > Lampshade", "Lamp > Care"]


def test_headings_make_a_path() -> None:
    text = "before\n# Guide\none\n## Install ##\ntwo\n### Linux\nthree\n## Use\nfour\n# Other\nfive\n"
    assert headings(text) == [
        ("", 1), ("Guide", 2), ("Guide > Install", 4), ("Guide > Install > Linux", 6), ("Guide > Use", 8), ("Other", 10),
    ]  # fmt: skip
    assert markdown(text).title == "Guide"


def test_a_heading_alone_goes_with_the_next() -> None:
    assert headings("# Guide\n\n## Install\n\ntext\n") == [("Guide > Install", 1)]
    assert headings("text\n\n# Last\n") == [("", 1), ("Last", 3)]


def test_underlined_headings() -> None:
    assert headings("Guide\n=====\n\none\n\nInstall\n---\n\ntwo\n") == [("Guide", 1), ("Guide > Install", 6)]
    assert headings("one\n\n---\n\ntwo\n\n- a\n---\n") == [("", 1)]


def test_what_stands_in_code_is_no_heading() -> None:
    assert headings("# A\n```sh\n# install\n~~~\n```\n## B\ntext") == [("A", 1), ("A > B", 6)]
    assert headings("#hashtag\n#!/bin/sh\n    # indented\n") == [("", 1)]


def test_front_matter_is_dropped_but_for_its_title() -> None:
    text = "---\ntitle: 'The Guide'\ntags: [a]\n---\n# Install\ntext\n"
    content = markdown(text)
    assert (content.title, content.sections[0].line) == ("The Guide", 5)
    assert "tags" not in content.sections[0].text
    assert headings("---\njust a rule, no end\n") == [("", 1)]
    assert markdown("+++\ntitle = \"T\"\n+++\ntext").title == "T"


def test_a_long_heading_is_cut_to_a_readable_length() -> None:
    assert len(headings(f"# {'x' * 1000}\ntext")[0][0]) == 120
