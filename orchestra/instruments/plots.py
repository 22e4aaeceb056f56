"""Plots as SVG that stands in a page: every run a point, the median a line.

matplotlib draws (extra `plot`), without a window; words stay words, set by the browser's fonts, so that Chinese is shown.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from io import StringIO
from statistics import median

from orchestra.errors import ExtraMissing
from orchestra.instruments.pages import Markup

LONGEST = 28  # characters of a name beside its points
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "orchestra", "text.parse_math": False, "font.family": "sans-serif"}


def drawable() -> None:
    """Raises `ExtraMissing` where nothing can be drawn, before the work that would be drawn is done."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ExtraMissing(feature="--html", extra="plot") from None


def points(panels: Sequence[tuple[str, Sequence[tuple[str, Sequence[float]]]]]) -> Markup:
    """One panel beside the other: its title, and for each name the figures of its runs. Raises `ExtraMissing`."""
    drawable()
    import matplotlib
    from matplotlib.figure import Figure

    most = max((len(rows) for _, rows in panels), default=1)
    written = StringIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
        # the measuring font knows no Chinese: a label is then a little wider or narrower than was thought
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(4 * len(panels), 1.2 + 0.5 * most), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axis, (title, rows) in zip(axes, panels, strict=True):
            for place, (_, values) in enumerate(rows):
                axis.plot(values, [place] * len(values), "o", alpha=0.5)
                axis.plot([median(values)] * 2, [place - 0.3, place + 0.3], color="black")
            axis.set_title(title)
            axis.set_yticks(range(len(rows)), [_short(name) for name, _ in rows])
            axis.set_ylim(len(rows) - 0.5, -0.5)
            axis.set_xlim(left=0)
            axis.grid(axis="x", alpha=0.3)
        figure.savefig(written, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    drawn = written.getvalue()
    return Markup(drawn[drawn.index("<svg") :])


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
