"""What `bench` does: finds out who is measured, measures, and keeps what was measured whatever happens."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from orchestra.cli.answering import at_work, named_model
from orchestra.cli.outcome import Wish
from orchestra.cli.running import complete
from orchestra.cli.speeds import Result, as_object, as_page, controlled, finding, remarks, rows
from orchestra.cli.tables import table
from orchestra.cli.terminal import as_line, colourful, harmless, tell, write
from orchestra.cli.words import say
from orchestra.errors import UsageError
from orchestra.instruments import pages, plots
from orchestra.instruments.bench import Plan, Side
from orchestra.instruments.contestants import Named


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked of `bench`, as it stood on the line."""

    plan: Plan
    models: Sequence[str] = ()
    daemons: Sequence[str] = ()
    endpoints: Sequence[str] = ()
    precisions: Sequence[str] = ()
    html: str = ""


def show_bench(asked: Asked, wish: Wish) -> None:
    """The table and what can be said of it; with --json one object. Ctrl-C shows, and writes, what was measured."""
    who = Named(daemons=asked.daemons, endpoints=asked.endpoints, precisions=dict(map(_precision, asked.precisions)))
    path = None
    if asked.html:
        plots.drawable()
        path = pages.writable(asked.html)
    result = Result(asked.plan)

    async def main() -> None:
        try:
            async with at_work() as (orchestra, _):
                models = asked.models
                if not (models or asked.daemons or asked.endpoints):
                    models = [await named_model(orchestra, "chat", "", wish)]
                async with aclosing(orchestra.bench_stream(models, who=who, **asdict(asked.plan))) as states:
                    async for side in states:
                        result.sides[side.name] = side
                        _progress(side, asked.plan)
        except asyncio.CancelledError:
            if wish.json or result.sides:
                _shown(result, path, wish)
            if not wish.json:
                tell(say("stopped; what was measured is shown", "已停止；已显示测得的部分"))
            raise
        _shown(result, path, wish)

    complete(main())
    if failed := [side.error for side in result.sides.values() if side.error is not None]:
        raise typer.Exit(failed[0].exit_code)


def _precision(written: str) -> tuple[str, str]:
    name, equals, text = written.rpartition("=")
    if not equals or not name.strip() or not text.strip():
        raise UsageError(
            detail=f"--precision {written} is no NAME=TEXT", detail_zh=f"--precision {written} 不是 名称=文本",
            fix="write it as NAME=TEXT, for example hf=bf16", fix_zh="请写成 名称=文本，例如 hf=bf16",
        )  # fmt: skip
    return name.strip(), text.strip()


def _progress(side: Side, plan: Plan) -> None:
    """How far a side is; only where a person looks, and taken away at the end."""
    if colourful(sys.stderr):
        line = f"{harmless(side.name)}: {len(side.runs)}/{plan.runs}"
        sys.stderr.write(f"\r\x1b[K\x1b[2m{line}\x1b[0m")
        sys.stderr.flush()


def _shown(result: Result, path: Path | None, wish: Wish) -> None:
    if colourful(sys.stderr):
        sys.stderr.write("\r\x1b[K")
    if wish.json:
        write(as_line(as_object(result)) + "\n")
    else:
        sides = list(result.sides.values())
        table(["", *(side.name for side in sides)], rows(sides))
        write("\n")
        for line in [*(finding(found) for found in result.findings()), *remarks(sides)]:
            write(harmless(line) + "\n")
        for line in controlled(result.plan):
            tell(line)
    if path is not None:
        pages.save(path, as_page(result))
        if not wish.json:
            tell(say(f"written: {path}", f"已写入：{path}"))
