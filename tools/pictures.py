"""Renders the demo, a task with its steps, and the next token into docs/pictures, in both languages: what the READMEs show is what is said.

The pictures are made over the stand-in, whatever answers on the machine where they are made.
"""

from __future__ import annotations

import html
import io
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from orchestra import Orchestra
from orchestra.agents.coordinator import trace_as_json
from orchestra.cli import words
from orchestra.cli.demo.show import perform
from orchestra.cli.demo.stage import Stage
from orchestra.cli.demo.world import Found
from orchestra.cli.prediction import drawn as step_drawn
from orchestra.cli.prediction import heat
from orchestra.cli.tokens import strip
from orchestra.cli.tree import branches, drawn
from orchestra.settings import Settings
from orchestra.standin import StandIn

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "pictures"
WIDTH = 110
TASKS = {"en": "Draft a compliance standard for AI", "zh": "制定人工智能合规标准，避免人工智能伤害人类"}
# What the models of the second picture say: a stand-in's own words are mechanical, and as long as they come.
SCRIPTS = {
    "en": (
        '{"thought": "Two things are open: how to test, and who answers for harm.", "actions": ['
        '{"expert": "computer_scientist", "question": "How is an AI system tested before it is used?"}, '
        '{"expert": "lawyer", "question": "Who is liable for harm that an AI system does?"}]}',
        "Each requirement gets a test that can be repeated, and its results are kept.",
        "Whoever operates the system answers to those harmed, and has recourse to its maker.",
        '{"thought": "That is enough.", "actions": []}',
        "1. **Tests**: each requirement has a test that can be repeated.\n2. **Liability**: the operator answers, with recourse.",
    ),
    "zh": (
        '{"thought": "有两点未定：如何测试，谁来负责。", "actions": ['
        '{"expert": "computer_scientist", "question": "人工智能系统在使用前如何测试？"}, '
        '{"expert": "lawyer", "question": "人工智能系统造成损害由谁负责？"}]}',
        "每项要求都要有可重复的测试，并保存结果。",
        "运营者对受害人负责，并可向开发者追偿。",
        '{"thought": "已经足够。", "actions": []}',
        "1. **测试**：每项要求都有可重复的测试。\n2. **责任**：由运营者负责，并可追偿。",
    ),
}
PROMPTS = {"en": "The dog", "zh": "天空"}
# The export would have the reader's machine fetch a font from somewhere; its own monospaced one will do.
FONT = re.compile(r"@font-face\s*\{.*?\}\s*", re.DOTALL)
# The export gives a text as much room as it has characters; a Chinese one needs two columns.
TEXT = re.compile(r'(<text [^>]*textLength=")([\d.]+)("[^>]*>)([^<]*)(?=</text>)')


def _roomy(match: re.Match[str]) -> str:
    before, length, after, content = match.groups()
    text = html.unescape(content)
    return f"{before}{float(length) / max(1, len(text)) * cell_len(text):.1f}{after}{content}"


def demo(console: Console, language: str) -> str:
    """Plays the demo; its command. Raises `SystemExit` where a scene fails."""
    performance = perform(
        Stage(console, boxed=True), Settings.read({}), found=Found("http://127.0.0.1:11434"), command="orchestra"
    )
    if not performance.ok:
        sys.exit(f"a scene failed: {[record.broken for record in performance.records]}")
    return "make demo"


def steps(console: Console, language: str) -> str:
    """Has a task solved and shown, the tree of its steps above its plan; its command."""
    task = TASKS[language]
    with StandIn(SCRIPTS[language], pace=0.05) as daemon, tempfile.TemporaryDirectory() as home, Orchestra(host=daemon.url, home=home) as orchestra:
        plan = orchestra.integrate(task)
    for branch in branches(trace_as_json(plan.trace), task=task):
        console.print(drawn(branch))
    console.print(Markdown(plan.text))
    return f'orchestra integrate "{task}"'


def prediction(console: Console, language: str) -> str:
    """Shows the next tokens after a prompt, and how sure the model was of each; its command."""
    with StandIn() as daemon, tempfile.TemporaryDirectory() as home, Orchestra(host=daemon.url, home=home) as orchestra:
        whole = orchestra.next(PROMPTS[language], model="llama3:text", top=4, steps=3)
    console.print(Text.from_ansi(strip(whole.prompt.tokens, tinted=True)))
    for number, step in enumerate(whole.steps, 1):
        console.print(Text.from_ansi("\n".join(["", *step_drawn(step, number, tinted=True)])))
    console.print("\n", Text.from_ansi(heat(whole.steps, tinted=True)), sep="")
    return f'orchestra next "{PROMPTS[language]}" --model llama3:text --top 4 --steps 3'


def picture(draw: Callable[[Console, str], str], language: str) -> str:
    """What `draw` prints in one language, as SVG."""
    words.LANGUAGE = language
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor",
        highlight=False, emoji=False, markup=False,
    )  # fmt: skip
    command = draw(console, language)
    svg = FONT.sub("", console.export_svg(title=command, unique_id=f"{draw.__name__}-{language}"))
    return TEXT.sub(_roomy, svg).replace("Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, Noto Sans Mono CJK SC")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for draw in (demo, steps, prediction):
        for language in ("en", "zh"):
            path = FOLDER / f"{draw.__name__}-{language}.svg"
            path.write_text(picture(draw, language), encoding="utf-8")
            print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path.name)
