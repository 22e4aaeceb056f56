"""How often the words of a message alone lead to the right persona, how often they are sure, and what a route takes.

On the bilingual set in tests/data: `routing.jsonl`, beside which the topics were tuned, and `routing_held_out.jsonl`, a
third of all, written with it before the router was; nothing was tuned for it. The same hand wrote the messages and the
topics, so what others say will be routed less well. `routing_dialogues.jsonl` and `routing_dialogues_held_out.jsonl` are
turns within a dialogue: the message before, who answered it, and who should answer next. A request that is nobody's is
right by words where it is left open, since without a model nothing changes. With ORCHESTRA_TEST_OLLAMA and
BENCH_MODEL=MODEL the messages of which the words are not sure are asked of that model too.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import NamedTuple

from bounds import Row, shown

from orchestra.agents.personas import Library, shipped
from orchestra.agents.router import Route, Router
from orchestra.model.client import Client
from orchestra.runtime import Blocking, finish
from orchestra.settings import Settings

TITLE = "which persona answers: by words"
DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
DAEMON, MODEL = os.environ.get("ORCHESTRA_TEST_OLLAMA", ""), os.environ.get("BENCH_MODEL", "")
SETS = {"": "routing", "held out, ": "routing_held_out"}
DIALOGUES = {"turns: ": "routing_dialogues", "turns held out: ": "routing_dialogues_held_out"}
WRONG = 15.0  # per cent, at most
SLOWEST = 5.0  # ms a message


class Case(NamedTuple):
    """A message, who should answer it, and its route."""

    message: str
    persona: str
    lang: str
    route: Route
    current: str = ""
    kind: str = ""

    @property
    def right(self) -> bool:
        """Whether the route leads to whom it should, or leaves to a model what words cannot tell."""
        return not self.route.sure if self.kind == "general" and not self.route.calls else self.route.persona == self.persona


def cases(router: Router, name: str) -> list[Case]:
    """The messages of one set with their lexical routes."""
    rows = [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text("utf-8").splitlines()]
    return [
        Case(row["message"], row["persona"], row["lang"], router.lexical(row["message"], current=row.get("current", "")),
             row.get("current", ""), row.get("kind", ""))
        for row in rows
    ]  # fmt: skip


def wrong(found: list[Case]) -> float:
    """Per cent of the cases."""
    return 100 * sum(not case.right for case in found) / max(1, len(found))


def rows_of(label: str, found: list[Case]) -> list[Row]:
    """Accuracy, how many are sure, and how many of those are wrong."""
    sure = [case for case in found if case.route.sure]
    languages = ", ".join(f"{lang} {100 - wrong([case for case in found if case.lang == lang]):.0f} % right" for lang in ("zh", "en"))
    return [
        Row(f"{label}wrong by words alone", wrong(found), WRONG, unit=" %", detail=f"{len(found)} messages, {languages}"),
        Row(f"{label}of which the words are sure", 100 * len(sure) / len(found), unit=" %"),
        Row(f"{label}wrong among the sure ones", wrong(sure), unit=" %"),
    ]


def turns_of(label: str, found: list[Case]) -> list[Row]:
    """Which turns of a dialogue are led wrongly, and which that merely go on ask a model."""
    kinds = {kind: [case for case in found if case.kind == kind] for kind in ("stays", "turns", "back", "general")}
    shares = ", ".join(f"{kind} {sum(case.right for case in each)}/{len(each)}" for kind, each in kinds.items())
    asked = 100 * sum(not case.route.sure for case in kinds["stays"]) / max(1, len(kinds["stays"]))
    return [
        Row(f"{label}led wrongly by words alone", wrong(found), WRONG, unit=" %", detail=f"{len(found)} turns, {shares}"),
        Row(f"{label}that go on and ask a model", asked, unit=" %"),
    ]


def by_model(router: Router, found: list[Case]) -> list[Row]:
    """The unsure ones, asked of a real model."""
    runtime = Blocking()
    client = Client(runtime, Settings(host=DAEMON))
    try:
        asked = [
            case._replace(route=finish(router.route(case.message, client=client, model=MODEL, current=case.current)))
            for case in found if not case.route.sure
        ]  # fmt: skip
    finally:
        finish(runtime.close())
    return [Row(f"{MODEL}: wrong among those that words leave open", wrong(asked), unit=" %", detail=f"{len(asked)} messages")]


def measured() -> list[Row]:
    """The sets, the time, and where one is named the model."""
    router = Router(Library([shipped()]).all())
    found = {label: cases(router, name) for label, name in SETS.items()}
    messages = [case.message for each in found.values() for case in each]
    started = time.perf_counter()
    for message in messages:
        router.lexical(message)
    took = 1000 * (time.perf_counter() - started) / len(messages)
    rows = [row for label, each in found.items() for row in rows_of(label, each)]
    rows.append(Row("one message", took, SLOWEST, unit=" ms"))
    led = {label: cases(router, name) for label, name in DIALOGUES.items()}
    rows += [row for label, each in led.items() for row in turns_of(label, each)]
    return rows + (by_model(router, [case for each in (*found.values(), *led.values()) for case in each]) if DAEMON and MODEL else [])


if __name__ == "__main__":
    shown(TITLE, measured())
