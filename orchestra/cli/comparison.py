"""A comparison in words: the figures of an answer, the rows of the summary, what became of a vote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestra.cli import words
from orchestra.cli.terminal import harmless
from orchestra.cli.words import say
from orchestra.errors import every_error
from orchestra.instruments.compare import Compared, Summary, Vote, summaries, tally
from orchestra.model.messages import FinishReason


@dataclass(slots=True, kw_only=True)
class Shown:
    """What there is of a comparison so far; `finish_reason` where it was left in the middle, `kept` the keys of what a file had."""

    names: Sequence[str]
    answers: list[Compared] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    kept: frozenset[tuple[str, ...]] = frozenset()

    def tally(self) -> dict[str, int]:
        """How often each was the best."""
        return tally(self.votes, self.names)

    def exit_code(self) -> int:
        """That of the first error; 0 where nothing failed."""
        codes = {error.code(): error.exit_code for error in every_error()}
        return next((codes[each.error["code"]] for each in self.answers if each.error is not None), 0)

    def figures(self, each: Compared) -> str:
        """What one answer took, and whether that was measured before."""
        return answer_line(each) + (say(" · kept from before", " · 此前保存") if each.key in self.kept else "")

    def remarks(self) -> list[str]:
        """What the times do not say."""
        said = say(
            "a prompt may be in the daemon's cache, and its first token then comes sooner: for speed use orchestra bench",
            "提示词可能已在缓存中，首个 token 会因此提前：测速请用 orchestra bench",
        )
        return [said] if any(each.first_token is not None for each in self.answers) else []


def answer_line(each: Compared) -> str:
    """The figures of one answer."""
    if each.error is not None:
        return each.error["code"]
    plural = "" if each.tokens == 1 else "s"
    parts = [say(f"{each.tokens} token{plural}", f"{each.tokens} 个 token") if each.tokens is not None else ""]
    parts.append(say(f"{each.speed:.1f} tokens/s", f"{each.speed:.1f} token/秒") if each.speed else "")
    parts.append(say(f"first after {each.first_token:.2f} s", f"首个 {each.first_token:.2f} 秒") if each.first_token is not None else "")
    return " · ".join([*filter(None, parts), str(each.finish_reason)])


def failure(each: Compared) -> str:
    """Why there is no answer, and what to do."""
    if each.error is None:
        return say("(empty)", "（空）")
    suffix = "_zh" if words.LANGUAGE == "zh" else ""
    return "\n".join(harmless(each.error.get(name + suffix, "")) for name in ("message", "hint")).strip()


def summary_rows(shown: Shown) -> tuple[list[str], list[list[str]]]:
    """Headers and rows, one for each contender; with the votes where there are any."""
    headers = [
        say("model", "模型"), say("quantization", "量化"), say("tokens", "token 数"), say("tokens/s", "token/秒"),
        say("first token", "首个 token"), say("ends", "结束原因"),
    ]  # fmt: skip
    counts = shown.tally() if shown.votes else {}
    rows = [_row(each) for each in summaries(shown.answers)]
    if counts:
        headers.append(say("votes", "票数"))
        rows = [[*row, str(counts.get(row[0], 0))] for row in rows]
    return headers, rows


def _row(each: Summary) -> list[str]:
    ends = {**each.ends, **({say("failed", "失败"): each.failed} if each.failed else {})}
    return [
        each.contender,
        each.quantization or "?",
        "" if each.tokens is None else f"{each.tokens:g}",
        "" if each.speed is None else f"{each.speed:.1f}",
        "" if each.first_token is None else f"{each.first_token:.2f} s",
        ", ".join(f"{name} {count}" for name, count in ends.items()),
    ]
