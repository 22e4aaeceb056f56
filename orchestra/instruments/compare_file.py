"""A comparison on disk, a line for each answer and vote as it comes: whoever stops in the middle goes on where that was."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestra.errors import UsageError
from orchestra.errors.system import why
from orchestra.instruments.compare import Compared, Vote, restored
from orchestra.texts import Words

_BEGINS = '{"prompt": '  # each line of ours
_ANOTHER = Words("it is no file of a comparison", "不是比较记录文件")


class Kept:
    """The answers and votes in a file, and those that come. Raises `UsageError` where it cannot be read, written, or is another's."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.answers: list[Compared] = []
        self.votes: list[Vote] = []
        try:
            self.path.open("a").close()
            text = self.path.read_text("utf-8")
        except OSError as error:
            raise self._refused(why(error)) from None
        except UnicodeDecodeError:
            raise self._refused(_ANOTHER) from None
        *whole, self._torn = text.split("\n")  # what a sudden end cut off is measured again
        for line in filter(str.strip, whole):
            try:
                self._take(json.loads(line))
            except ValueError:
                if not self.answers and not line.startswith(_BEGINS):
                    raise self._refused(_ANOTHER) from None
        if self._torn and not self._torn.startswith(_BEGINS[: len(self._torn)]):
            raise self._refused(_ANOTHER)

    def _take(self, row: Any) -> None:
        if not isinstance(row, dict):
            raise ValueError("no object")
        if "best" in row:
            self.votes.append(Vote(prompt=str(row["prompt"]), best=str(row["best"]), among=tuple(map(str, row.get("among", ())))))
        else:
            self.answers.append(restored(row))

    def add(self, row: Compared | Vote) -> None:
        """Write a line, for good."""
        line = json.dumps(asdict(row), ensure_ascii=False) + "\n"
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}" if self._torn else line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._refused(why(error)) from None
        self._torn = ""

    def _refused(self, reason: Words) -> UsageError:
        return UsageError(
            detail=f"cannot keep the comparison in {self.path}: {reason.en}", detail_zh=f"无法将比较保存到 {self.path}：{reason.zh}",
            fix="name another file with --save", fix_zh="请用 --save 指定其他文件",
        )  # fmt: skip
