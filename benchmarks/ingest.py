"""What taking documents in costs: read, cut and indexed by words; and looked at again where nothing has changed.

A thousand Markdown files, half Chinese and half English, in the made-up words of knowledge.py, with headings and sentences.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from bounds import Row, shown
from knowledge import chinese, english

from orchestra.retrieval.knowledge.index import Index
from orchestra.retrieval.knowledge.ingest import Report, add
from orchestra.runtime import Blocking, finish

FILES = 1_000
TITLE = f"taking {FILES:,} documents in"
TEXTS = 8  # of a file; each is about a chunk long


_AND_SAY = """
from pathlib import Path
from orchestra.cli import main
try:
    main()
finally:
    print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


def written(folder: Path) -> None:
    """The files: a heading every other text, a full stop every dozen words."""
    chance = random.Random(3)
    for number in range(0, FILES, 2):
        for own, texts, blank, stop in ((number, english, " ", ". "), (number + 1, chinese, "，", "。")):
            lines = [f"# File {own}\n"]
            for place, text in enumerate(islice(_TEXTS[texts], TEXTS)):
                words = text.split(blank)
                for end in range(chance.randint(6, 14), len(words), 12):
                    words[end] += stop
                lines.append((f"## Part {place}\n\n" if place % 2 == 0 else "") + blank.join(words) + "\n")
            (folder / f"{own:05}.md").write_text("\n".join(lines), "utf-8")


_TEXTS = {english: english(), chinese: chinese()}


def taken(folder: Path, home: Path) -> tuple[Report, float]:
    """One ingest; its report and its seconds."""

    async def last() -> Report:
        *_, report = [step async for step in add([folder], name="bench", index=index, runtime=Blocking())]
        assert isinstance(report, Report)
        return report

    with Index(home) as index:
        started = time.perf_counter()
        report = finish(last())
        return report, time.perf_counter() - started


def measured() -> list[Row]:
    """A first ingest, the better of two, and one that finds nothing new."""
    with tempfile.TemporaryDirectory(prefix="orchestra-bench-") as made:
        folder, home = Path(made, "docs"), Path(made, "home")
        folder.mkdir()
        written(folder)
        report, first = min((taken(folder, place) for place in (Path(made, "before"), home)), key=lambda run: run[1])
        again, second = taken(folder, home)
        assert (report.added, again.unchanged) == (FILES, FILES)
        peak = peaked(folder, Path(made, "other"))
    rate = f"{report.chunks / first:,.0f} chunks/s, {report.bytes / first / 1e6:.1f} MB/s; {report.chunks:,} chunks of {FILES:,} files"
    return [
        Row("reading, cutting and taking in a chunk, full text alone", 1000 * first / report.chunks, 0.5, unit=" ms", detail=rate),
        Row("looking at a file that has not changed", 1000 * second / FILES, 0.2, unit=" ms"),
        Row("the process that takes them in, memory at most", peak, 200, unit=" MiB", detail="orchestra knowledge add, Python included"),
    ]


def peaked(folder: Path, home: Path) -> float:
    """The most memory of `orchestra knowledge add`, in MiB."""
    # said by the process itself: what its parent is told of a child begins with the parent's own size
    command = [sys.executable, "-c", _AND_SAY, "knowledge", "add", str(folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "ORCHESTRA_HOME": str(home)})
    return float(done.stdout.split()[-1]) / 1024


if __name__ == "__main__":
    shown(TITLE, measured())
