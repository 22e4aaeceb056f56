"""What `doctor` does: each check in a line, and below a failing one what changes it."""

from __future__ import annotations

import os
import sys

from orchestra.cli import words
from orchestra.cli.outcome import Wish
from orchestra.cli.running import complete
from orchestra.cli.tables import width
from orchestra.cli.terminal import as_line, colourful, harmless, write
from orchestra.cli.words import say
from orchestra.instruments.check import Check, sound
from orchestra.instruments.doctor import examined, readable
from orchestra.runtime import Looped

BOLD, RED, YELLOW, GREEN = "1", "1;31", "33", "32"


def check(wish: Wish, *, search: bool = False) -> int:
    """Examine everything, with `search` the search services too; 0 where the main job can run, else 1."""
    settings, faults = readable(os.environ)
    checks = [*faults, *complete(examined(settings, Looped(), ask_services=search))]
    ok = sound(checks)
    if wish.json:
        write(as_line({"ok": ok, "checks": [each.shown(words.LANGUAGE) for each in checks]}) + "\n")
    else:
        _tell(checks, ok=ok)
    return 0 if ok else 1


def _tell(checks: list[Check], *, ok: bool) -> None:
    longest = max(width(each.name) for each in checks)
    last = ""
    for each in checks:
        shown = {name: " ".join(harmless(str(value)).split()) for name, value in each.shown(words.LANGUAGE).items()}
        mark = _mark(each)
        write(f"{mark} {each.name.ljust(longest)}  {shown['detail']}\n")
        if shown["fix"] and shown["fix"] != last:  # without a daemon many have the same one
            last = shown["fix"]
            write(f"{'':{longest + 7}}{_in(BOLD, '-> ' + shown['fix'])}\n")
    good = say("The main job can run.", "主要功能可以使用。")
    bad = say("The main job cannot run: see FAIL above.", "主要功能无法使用：请看上面的 FAIL。")
    write(good + "\n" if ok else bad + "\n")


def _mark(each: Check) -> str:
    if each.ok:
        return _in(GREEN, "ok  ")
    return _in(RED, "FAIL") if each.required else _in(YELLOW, "note")


def _in(style: str, text: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if colourful(sys.stdout) else text
