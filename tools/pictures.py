"""Renders the demo into docs/pictures, in both languages: what the READMEs show is what the demo says.

The pictures are made over the stand-in, whatever answers on the machine where they are made.
"""

from __future__ import annotations

import html
import io
import re
import sys
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console

from orchestra.cli import words
from orchestra.cli.demo.show import perform
from orchestra.cli.demo.stage import Stage
from orchestra.cli.demo.world import Found
from orchestra.settings import Settings

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "pictures"
WIDTH = 110
# The export would have the reader's machine fetch a font from somewhere; its own monospaced one will do.
FONT = re.compile(r"@font-face\s*\{.*?\}\s*", re.DOTALL)
# The export gives a text as much room as it has characters; a Chinese one needs two columns.
TEXT = re.compile(r'(<text [^>]*textLength=")([\d.]+)("[^>]*>)([^<]*)(?=</text>)')


def _roomy(match: re.Match[str]) -> str:
    before, length, after, content = match.groups()
    text = html.unescape(content)
    return f"{before}{float(length) / max(1, len(text)) * cell_len(text):.1f}{after}{content}"


def picture(language: str) -> str:
    """The demo in one language as SVG; raises `SystemExit` where a scene fails."""
    words.LANGUAGE = language
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor",
        highlight=False, emoji=False, markup=False,
    )  # fmt: skip
    performance = perform(
        Stage(console, boxed=True), Settings.read({}), found=Found("http://127.0.0.1:11434"), command="orchestra"
    )
    if not performance.ok:
        sys.exit(f"a scene failed: {[record.broken for record in performance.records]}")
    svg = FONT.sub("", console.export_svg(title="make demo", unique_id=f"demo-{language}"))
    return TEXT.sub(_roomy, svg).replace("Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, Noto Sans Mono CJK SC")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for language in ("en", "zh"):
        path = FOLDER / f"demo-{language}.svg"
        path.write_text(picture(language), encoding="utf-8")
        print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path.name)
