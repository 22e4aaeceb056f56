"""Writes the map of the files into both READMEs, from docs/map.tsv (path, English, Chinese). A test compares them."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "map.tsv"
PAGES = {"README.md": 1, "README.zh-CN.md": 2}
OPEN, CLOSE = "<!-- map -->\n", "<!-- /map -->\n"


def rows() -> list[list[str]]:
    """Path, English, Chinese of each line of the map, in its order."""
    return [line.split("\t") for line in TABLE.read_text("utf-8").splitlines() if line.strip()]


def tree(column: int) -> str:
    """The map in one language: two columns, folders with a slash."""
    lines = []
    for row in rows():
        path = row[0].rstrip("/")
        name = "  " * path.count("/") + path.rpartition("/")[2] + ("/" if row[0].endswith("/") else "")
        lines.append(f"{name:34}{row[column]}".rstrip())
    return "```text\n" + "\n".join(lines) + "\n```\n"


def pages() -> list[tuple[Path, str]]:
    """Both READMEs with their maps filled in."""
    filled = []
    for name, column in PAGES.items():
        path = ROOT / name
        before, _, rest = path.read_text("utf-8").partition(OPEN)
        _, _, after = rest.partition(CLOSE)
        filled.append((path, before + OPEN + tree(column) + CLOSE + after))
    return filled


if __name__ == "__main__":
    for path, text in pages():
        path.write_text(text, encoding="utf-8")
