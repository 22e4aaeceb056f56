"""What `show` and `ps` say of a model: its window, its names, its own stops. Pure functions over the daemon's answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from orchestra.model.messages import Options
from orchestra.model.tokens import Counted
from orchestra.settings import Settings

WINDOW_OF_OLD_DAEMONS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model in memory: its window in tokens, whether it may be sent back as `num_ctx`, what it took to get there."""

    window: int
    told: bool = True
    loads: int = 0
    reloads: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What a caller already knows: the loaded model, and the most tokens that the rendered prompt can have.

    `counted` "exact" says that it has just so many, by the model's own counter.
    """

    loaded: Loaded
    most: int
    counted: Counted = "bound"


def answer_share(window: int, options: Options, settings: Settings) -> int:
    """The most tokens an answer may have: as asked for, else a quarter of the window."""
    return options.max_tokens or settings.max_tokens or max(1, window // 4)


def full_name(model: str) -> str:
    """A model's name as the daemon completes it: lower case, with its tag."""
    model = model.lower()
    return model if ":" in model.rpartition("/")[2] else model + ":latest"


def section(facts: dict[str, Any], name: str) -> dict[str, Any]:
    """One object of the daemon's answer; empty where there is none."""
    value = facts.get(name)
    return value if isinstance(value, dict) else {}


def context_length(facts: dict[str, Any]) -> int:
    """The longest context the model was made for, from `show`; 0 = not said."""
    info = section(facts, "model_info")
    value = info.get(f"{info.get('general.architecture', '')}.context_length")
    return value if isinstance(value, int) else 0


def own_stops(facts: dict[str, Any]) -> list[str]:
    """The model's own stop strings, from the text of `show`'s parameters."""
    found = re.findall(r'^stop\s+"(.*)"\s*$', str(facts.get("parameters") or ""), re.MULTILINE)
    return [stop.replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\") for stop in found]


def weights_of(facts: dict[str, Any]) -> str:
    """The digest of the weights, from `show`'s Modelfile: models made FROM one another share it."""
    match = re.search(r"^FROM .*?(sha256[-:][0-9a-f]{64})\s*$", str(facts.get("modelfile") or ""), re.MULTILINE)
    return match.group(1) if match else ""


def window_of(row: dict[str, Any]) -> int:
    """The loaded window in tokens, from a row of `ps`; 0 = not said."""
    value = row.get("context_length")
    return value if isinstance(value, int) and value > 0 else 0


def loaded_of(row: dict[str, Any], facts: dict[str, Any]) -> Loaded:
    """What a row of `ps` (empty where there is none) and `show` say of a loaded model."""
    if window := window_of(row):
        return Loaded(window=window)
    # before 0.10 the daemon does not say: the smallest window it may have, and none is sent
    own = re.search(r"^num_ctx\s+(\d+)", str(facts.get("parameters") or ""), re.MULTILINE)
    return Loaded(window=int(own.group(1)) if own else WINDOW_OF_OLD_DAEMONS, told=False)
