"""What `compare` does: the same prompts on several models, side by side, and a vote that does not know whose answer is whose."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestra.cli.answering import at_work
from orchestra.cli.comparing_page import comparison_page
from orchestra.cli.comparison import Shown, failure, summary_rows
from orchestra.cli.outcome import Wish
from orchestra.cli.running import complete
from orchestra.cli.tables import table, width
from orchestra.cli.terminal import as_line, colourful, harmless, plain, tell, write
from orchestra.cli.voting import needs_somebody, vote
from orchestra.cli.words import say
from orchestra.errors import OrchestraError, UsageError
from orchestra.errors.system import why
from orchestra.instruments import pages
from orchestra.instruments.compare import Compared, Contender, by_prompt, contenders, standing, summaries
from orchestra.instruments.compare_file import Kept
from orchestra.model.messages import FinishReason, Options

NARROWEST = 24  # places of a column in which an answer can be read


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is compared, and where it goes; `save` is the file in which it is kept and from which it goes on."""

    models: Sequence[str]
    base: bool | None = None
    options: Options = field(default_factory=Options)
    save: str = ""
    html: str = ""
    blind: bool = False


def show_comparison(prompts: Sequence[str], asked: Asked, wish: Wish) -> int:
    """The answers side by side as they are whole; with --json one object. Ctrl-C shows what was measured. Gives the exit code."""
    found = contenders(asked.models, asked.options, asked.base)
    if asked.blind:
        needs_somebody()
    page = pages.writable(asked.html) if asked.html else None
    kept = Kept(asked.save) if asked.save else None
    shown = Shown(names=[each.name for each in found])
    try:
        _measure(prompts, found, shown, asked, kept, wish)
        shown.votes = standing(kept.votes, shown.answers) if kept else []
        if asked.blind:
            vote(shown, keep=kept.add if kept else None)
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C, SIGTERM
        shown.finish_reason = FinishReason.CANCELLED
        _out(shown, asked, page, wish)
        if not wish.json:
            tell(_stopped(asked.save))
        raise
    except OrchestraError as error:
        if shown.answers:
            error.reply = error.reply or as_object(shown)
            if not wish.json:
                _out(shown, asked, page, wish)
        raise
    _out(shown, asked, page, wish)
    return shown.exit_code()


def prompts_in(path: str) -> list[str]:
    """The prompts in a file, one a line. Raises `UsageError`."""
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = why(error) if isinstance(error, OSError) else None
        raise UsageError(
            detail=f"cannot read {path}: {reason.en if reason else 'it is not UTF-8'}",
            detail_zh=f"无法读取 {path}：{reason.zh if reason else '不是 UTF-8'}",
            fix="give a text file with one prompt a line", fix_zh="请给出每行一个提示词的文本文件",
        ) from None  # fmt: skip
    return [line.strip() for line in text.splitlines() if line.strip()]


def _measure(
    prompts: Sequence[str], found: Sequence[Contender], shown: Shown, asked: Asked, kept: Kept | None, wish: Wish
) -> None:
    async def main() -> None:
        async with at_work() as (orchestra, patience):
            patience.silent = True  # the bar says what is being waited for
            done = kept.answers if kept else ()
            total = len(found) * len({prompt for prompt in prompts if prompt.strip()})
            known = {each.key for each in done if each.error is None}
            shown.kept = frozenset(known)
            with _progress(total, found, wish) as step:
                async with aclosing(orchestra.compare_stream(prompts, models=found, done=done)) as answers:
                    async for answer in answers:
                        shown.answers.append(answer)
                        if kept and answer.key not in known:
                            kept.add(answer)
                        step(shown.answers)

    complete(main())


@contextmanager
def _progress(total: int, found: Sequence[Contender], wish: Wish) -> Iterator[Callable[[Sequence[Compared]], None]]:
    """A bar of the answers that there are, where a person looks."""
    if wish.json or not colourful(sys.stderr) or not total:
        yield lambda answers: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    each = total // len(found)
    with Progress(*columns, console=Console(stderr=True, highlight=False), transient=True) as bar:
        task = bar.add_task(harmless(found[0].name), total=total)

        def step(answers: Sequence[Compared]) -> None:
            at = min(len(answers) // each, len(found) - 1)
            bar.update(task, completed=len(answers), description=harmless(found[at].name))

        yield step


def _stopped(save: str) -> str:
    if save:
        return say(f"stopped; the same command goes on from {save}", f"已停止；再次运行同一命令会从 {save} 继续")
    return say("stopped; what was measured is shown (--save FILE keeps it and goes on)", "已停止；已显示完成的部分（--save 文件 可保存并继续）")


# --- what is shown


def as_object(shown: Shown) -> dict[str, Any]:
    """What `--json` prints."""
    whole: dict[str, Any] = {"results": plain(list(shown.answers)), "summary": plain(summaries(shown.answers))}
    if shown.votes:
        whole |= {"votes": plain(shown.votes), "tally": shown.tally()}
    return whole if shown.finish_reason is None else {**whole, "finish_reason": shown.finish_reason}


def _out(shown: Shown, asked: Asked, page: Path | None, wish: Wish) -> None:
    if page is not None and shown.answers:
        pages.save(page, comparison_page(shown))
    if wish.json:
        write(as_line(as_object(shown)) + "\n")
        return
    if not shown.answers:
        return
    if not asked.blind:  # a vote has shown them already
        for prompt, row in by_prompt(shown.answers).items():
            _side_by_side(prompt, row, shown)
    headers, rows = summary_rows(shown)
    table(headers, rows)
    for remark in shown.remarks():
        tell(remark)
    if page is not None:
        tell(say(f"page: {page}", f"网页：{page}"))


def _side_by_side(prompt: str, row: Sequence[Compared], shown: Shown) -> None:
    write(f"# {' '.join(harmless(prompt).split())}\n\n")
    if colourful(sys.stdout) and _room() // len(row) >= NARROWEST:
        _columns(row, shown)
        return
    for each in row:
        write(f"== {harmless(each.contender)} · {shown.figures(each)}\n{harmless(each.text).strip() or failure(each)}\n\n")


def _room() -> int:
    import shutil

    return shutil.get_terminal_size().columns


def _columns(row: Sequence[Compared], shown: Shown) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold", expand=True)
    for each in row:
        drawn.add_column(Text(harmless(each.contender)), ratio=1, overflow="fold", min_width=min(width(each.contender), NARROWEST))
    drawn.add_row(*(Text(harmless(each.text).strip() or failure(each)) for each in row))
    drawn.add_row(*(Text(shown.figures(each), style="dim") for each in row))
    Console(highlight=False).print(drawn)
    write("\n")
