"""What happened on the way to an answer, as a tree: a branch for each step of a coordinator, a leaf for each question.

It is drawn from the plain JSON values that are kept with a turn. They may come from a file of anybody's: what is not as
it should be is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from orchestra.cli.terminal import colourful, write
from orchestra.cli.tracing import one_line
from orchestra.cli.words import say

LONGEST = 160  # characters of what somebody thought, asked or answered; all of it is in the JSON
DEEPEST = 8  # branches below branches
MOST = 1e9  # seconds, or tokens: what is beyond is no measurement
WAITS = "·"
STYLES = {"✓": "green", "✗": "red"}


class Branch(NamedTuple):
    """One line of the tree, and what stands below it; `mark` says how it ended."""

    text: str
    mark: str = ""
    under: tuple[Branch, ...] = ()


def branches(trace: Any, *, task: str = "", running: str = WAITS) -> list[Branch]:
    """The branches of a trace. A question that is the `task` itself is not repeated; `running` marks one that is being answered."""
    grower = _Grower(task, running)
    grown: list[Branch] = []
    for thought, steps in _grouped(_mappings(trace)):
        calls = _mappings(thought.get("calls"))
        asked, called = {key(step): step for step in steps}, set(map(key, calls))
        if thought:
            grown.append(grower.thought(thought, [asked.get(key(call), call) for call in calls]))
        grown += [grower.leaf(step) for step in steps if key(step) not in called]
    return grown


def lines(grown: Sequence[Branch]) -> Iterator[str]:
    """The tree as plain text."""
    for branch in grown:
        yield _line(branch)
        yield from _lines_under(branch, "")


def drawn(branch: Branch) -> Any:
    """The same branch as rich draws it, broken into lines where the terminal is narrow."""
    from rich.tree import Tree

    tree = Tree(_styled(branch, ""), guide_style="dim")
    todo = [(tree, branch)]
    while todo:
        above, one = todo.pop()
        todo += [(above.add(_styled(each, "dim")), each) for each in one.under]
    return tree


def tree_below(trace: Any, *, task: str = "") -> None:
    """Prints the tree of a turn."""
    grown = branches(trace, task=task)
    if colourful(sys.stdout):
        from rich.console import Console

        console = Console(highlight=False)
        for branch in grown:
            console.print(drawn(branch))
    else:
        write("".join(f"{line}\n" for line in lines(grown)))


def took(seconds: Any, tokens: Any) -> str:
    """Seconds and tokens in brackets, as far as they are known."""
    known = [say(f"{seconds:.1f} s", f"{seconds:.1f} 秒")] if isinstance(seconds, int | float) and 0 < seconds < MOST else []
    known += [say(f"{tokens} tokens", f"{tokens} token")] if isinstance(tokens, int) and 0 <= tokens < MOST else []
    return say(f" ({', '.join(known)})", f"（{'，'.join(known)}）") if known else ""


def short(text: Any) -> str:
    """Somebody's text in one line of bounded length."""
    line = one_line(text[: 8 * LONGEST]) if isinstance(text, str) else ""
    return line if len(line) <= LONGEST else line[: LONGEST - 1].rstrip() + "…"


def key(part: Mapping[str, Any]) -> tuple[str, str]:
    """What tells a question to an expert from the others of the same thought."""
    return str(part.get("expert")), str(part.get("question"))


# --- the parts of a trace


class _Grower(NamedTuple):
    """Makes branches of the parts of a trace."""

    task: str
    running: str

    def thought(self, part: Mapping[str, Any], calls: Sequence[Mapping[str, Any]]) -> Branch:
        """A step of the coordinator; below it whom it asked what, and what it got wrong."""
        text = f"{short(str(part.get('number', '')))}. {short(part.get('by'))}: {short(part.get('text')) or '-'}"
        under = [self.leaf(call) for call in calls]
        if fault := short(part.get("fault")):
            under.append(Branch(fault, "!"))
        return Branch(text + took(part.get("duration"), part.get("tokens")), under=tuple(under))

    def leaf(self, step: Mapping[str, Any], depth: int = 0) -> Branch:
        """A question to an expert; below it those that the expert asked, and how its answer begins, or why there is none."""
        ok, asked = step.get("ok"), "" if step.get("question") == self.task else short(step.get("question"))
        text = short(step.get("expert")) + (f": {asked}" if asked else "")
        under = [self.leaf(one, depth + 1) for one in _mappings(step.get("steps"))] if depth < DEEPEST else []
        if said := short(step.get("answer") if ok else step.get("error")):
            under.append(Branch(said))
        mark = ("✓" if ok else "✗") if isinstance(ok, bool) else self.running if "ok" in step else WAITS
        return Branch(text + took(step.get("duration"), step.get("tokens")), mark, tuple(under))


def _grouped(parts: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], list[Mapping[str, Any]]]]:
    """Each thought with the steps after it; an empty one before steps that nobody thought of."""
    groups: list[tuple[Mapping[str, Any], list[Mapping[str, Any]]]] = [({}, [])]
    for part in parts:
        if "by" in part:
            groups.append((part, []))
        elif "expert" in part:
            groups[-1][1].append(part)
    return groups


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list | tuple) else []


# --- drawing


def _line(branch: Branch) -> str:
    return f"{branch.mark} {branch.text}" if branch.mark else branch.text


def _lines_under(branch: Branch, indent: str) -> Iterator[str]:
    for place, one in enumerate(branch.under, 1):
        last = place == len(branch.under)
        yield f"{indent}{'└── ' if last else '├── '}{_line(one)}"
        yield from _lines_under(one, indent + ("    " if last else "│   "))


def _styled(branch: Branch, unmarked: str) -> Any:
    from rich.text import Text

    text = Text()
    if branch.mark:
        text.append(f"{branch.mark} ", style=STYLES.get(branch.mark, "cyan"))
    return text.append(branch.text, style="" if branch.mark else unmarked)
