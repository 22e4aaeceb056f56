"""What an answer stands on, below it: its sources, and which of its sentences are not in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestra.cli.running import Patience
from orchestra.cli.terminal import tell, write
from orchestra.cli.tracing import one_line
from orchestra.cli.words import LANGUAGE, say
from orchestra.retrieval.passages import Attempt, Citation, Source
from orchestra.texts import Words

LONGEST_QUOTE = 100  # characters of a sentence that is named; the whole one stands above


def noticed(patience: Patience, words: Words) -> None:
    """Which service will see the question, before it does."""
    patience.clear()
    tell(words.text(LANGUAGE))


def sources_below(sources: Sequence[Source], citations: Sequence[Citation]) -> None:
    """The sources, those not cited as such, and what was not found in the source that it names."""
    if sources:
        write("\n" + say("Sources:", "来源：") + "\n")
    for source in sources:
        uncited = "" if source.cited else say("  (not cited)", "（未引用）")
        write(f"[{source.n}] {one_line(source.title)}  {one_line(source.url)}{uncited}\n")
    doubts = {"no": say("not found in", "未见于"), "weak": say("only partly found in", "仅部分见于")}
    for citation in citations:
        if citation.found in doubts:
            write(f"! {doubts[citation.found]} [{citation.n}]: {_short(citation.sentence)}\n")


def _short(sentence: str) -> str:
    text = one_line(sentence)
    return text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 1].rstrip() + "…"


def unreached(attempts: Sequence[Attempt]) -> None:
    """Says that the web was asked in vain, where the texts of this machine answered in its place."""
    failed = dict.fromkeys(one.name for one in attempts if one.outcome in ("rate_limited", "unreachable", "key_refused", "failed"))
    found = {one.name for one in attempts if one.outcome == "found"}
    if failed and found == {"offline"}:
        names = ", ".join(failed)
        tell(say(f"no web search answered ({names}): the sources are texts of this machine", f"没有搜索服务应答（{names}）：来源是本机的文本"))


def ground_below(ground: Mapping[str, Any]) -> None:
    """The same of a stored turn, whose sources are plain JSON values."""
    sources_below(
        [Source(**source) for source in ground.get("sources", ())],
        [Citation(**citation) for citation in ground.get("citations", ())],
    )
