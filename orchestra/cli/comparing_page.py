"""The page that `compare --html` writes: the summary, the votes, the answers to each prompt side by side."""

from __future__ import annotations

from orchestra.cli import words
from orchestra.cli.comparison import Shown, failure, summary_rows
from orchestra.cli.words import say
from orchestra.instruments import pages
from orchestra.instruments.compare import Compared, by_prompt


def comparison_page(shown: Shown) -> str:
    """One document that needs nothing else."""
    headers, rows = summary_rows(shown)
    best = {vote.prompt: vote.best for vote in shown.votes}
    asked = {each.contender: each.asked or say("the model's own options", "模型默认选项") for each in shown.answers}
    return pages.page(
        say("The same prompts on several models", "相同的提示词，不同的模型"),
        pages.facts(asked.items()),
        pages.section(
            say("Summary, medians of all answers", "汇总（各项为中位数）"),
            pages.table(headers, rows, numbers=(2, 3, 4, 6)),
            *(pages.element("p", remark) for remark in shown.remarks()),
        ),
        *(
            pages.section(prompt, pages.columns((_name(each, best.get(prompt, "")), _answer(each, shown)) for each in row))
            for prompt, row in by_prompt(shown.answers).items()
        ),
        language=words.LANGUAGE,
    )


def _name(each: Compared, best: str) -> str:
    return each.contender + (say(" (voted best)", "（票选最佳）") if each.contender == best else "")


def _answer(each: Compared, shown: Shown) -> pages.Markup:
    return pages.element("div", pages.prose(each.text.strip() or failure(each)), pages.element("p", shown.figures(each)))
