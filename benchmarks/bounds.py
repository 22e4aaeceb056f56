"""What is printed of a measurement: the figure, the bound that the project promises, and whether it holds."""

from __future__ import annotations

import json
import sys
from typing import NamedTuple


class Row(NamedTuple):
    """One figure. Without a bound it is only there to be compared with."""

    name: str
    value: float
    bound: float | None = None
    unit: str = "x"
    spread: tuple[float, float] | None = None
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Whether the figure is within its bound."""
        return self.bound is None or self.value <= self.bound

    def __str__(self) -> str:
        low_high = f" ({self.spread[0]:.2f} - {self.spread[1]:.2f})" if self.spread else ""
        verdict = "" if self.bound is None else f"; bound {self.bound:.2f}{self.unit}: {'holds' if self.holds else 'DOES NOT HOLD'}"
        return f"{self.name}: {self.value:.2f}{self.unit}{low_high}{'; ' if self.detail else ''}{self.detail}{verdict}"


def shown(title: str, rows: list[Row]) -> None:
    """Prints the rows under a title; with --json on the command line one object a line."""
    if "--json" in sys.argv:
        for row in rows:
            print(json.dumps({"part": title, **row._asdict(), "holds": row.holds}, ensure_ascii=False))
        return
    print(title)
    for row in rows:
        print(f"  {row}", flush=True)
