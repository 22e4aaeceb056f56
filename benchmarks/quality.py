"""`make eval`: how good the installed model is at what Orchestra asks of it, in at most a quarter of an hour.

The first few items of each part show how long they take here, and the numbers of items are cut to what fits. What was
measured goes to docs/quality.md and, as figures, beside it to docs/quality.json: parts that a run leaves out (`--parts`)
or does not come to (Ctrl-C) keep what an earlier run of the same model measured.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from probes import Outcomes, Part, failed, parts
from quality_page import DONE, INTERRUPTED, OUT_OF_TIME, UNREACHABLE, page, said
from shares import Left, Share, planned

from orchestra import Orchestra, __version__
from orchestra.cli.outcome import Wish, report
from orchestra.cli.words import say
from orchestra.errors import OrchestraError, UsageError
from orchestra.instruments.machine import look
from orchestra.model.client import Client
from orchestra.runtime import Blocking, finish
from orchestra.settings import Settings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "quality.md"
MINUTES = 15.0
ENOUGH = 16  # tokens to tell a speed by
REFUSED, INCOMPLETE, CANCELLED = 2, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the page; the exit code."""
    wish = _wish(arguments)
    try:
        with at_work() as (house, client):
            return _evaluated(house, client, wish)
    except OrchestraError as error:
        return report(error, Wish())
    except KeyboardInterrupt:  # before anything was measured
        return CANCELLED


def _wish(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make eval", description=__doc__)
    parser.add_argument("--model", default="", help="the model; by default the one that answers anyway")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="the most that it takes")
    parser.add_argument("--parts", default="", help="only these, with commas between")
    parser.add_argument("--out", type=Path, default=PAGE, metavar="FILE", help="the page; figures go beside it as .json")
    parser.add_argument("--most", type=int, default=0, help="the most items of a part")
    parser.add_argument("--allow-standin", action="store_true", help="try the program: the figures mean nothing, so --out is needed")
    return parser.parse_args(arguments)


@contextmanager
def at_work() -> Iterator[tuple[Orchestra, Client]]:
    """Orchestra with a data folder of its own: what is asked here is nobody's dialogue."""
    with tempfile.TemporaryDirectory() as folder:
        runtime, settings = Blocking(), Settings.read(home=folder, personas="", search="none", embedding="", rerank="")
        try:
            with Orchestra(settings=settings) as house:
                yield house, Client(runtime, settings)
        finally:
            finish(runtime.close())


def _evaluated(house: Orchestra, client: Client, wish: argparse.Namespace) -> int:
    started = time.monotonic()
    model = house.model_for("chat", wish.model)
    version = finish(client.version())
    stand_in = client.connection.stand_in
    if stand_in and not (wish.allow_standin and wish.out != PAGE):
        print(said("refused"), file=sys.stderr)
        return REFUSED
    wanted = _chosen(parts(house, client, model), wish.parts)
    holds = conditions(house, model, version, stand_in=stand_in)
    run = Evaluation(wanted, client, most=wish.most)
    ended = run.run(until=started + 60 * wish.minutes)
    measured = {one.part.name: one.figures(holds["date"]) for one in run.progress if one.done}
    if measured:
        _write(wish.out, {"conditions": holds, "parts": measured})
        print(say(f"written: {wish.out}", f"已写入：{wish.out}"), file=sys.stderr)
    else:
        print(said("nothing"), file=sys.stderr)
    return {OUT_OF_TIME: 0 if measured else INCOMPLETE, INTERRUPTED: CANCELLED}.get(ended, INCOMPLETE)


def _chosen(every: Sequence[Part], names: str) -> list[Part]:
    """The parts of these names, with commas between; without names all. Raises `UsageError` for a name that no part has."""
    named = [name.strip() for name in names.split(",") if name.strip()]
    there = ", ".join(part.name for part in every)
    if unknown := ", ".join(name for name in named if name not in there.split(", ")):
        raise UsageError(
            detail=f"there is no part {unknown}", detail_zh=f"没有名为 {unknown} 的部分", fix=f"there is: {there}", fix_zh=f"可选：{there}"
        )
    return [part for part in every if not named or part.name in named]


def _write(out: Path, whole: dict[str, Any]) -> None:
    """The page and its figures; those that were measured earlier, of the same model, stay where this run asked less."""
    file = out.with_suffix(".json")
    before = json.loads(file.read_text("utf-8")) if file.exists() else {}
    if _same(before.get("conditions", {}), whole["conditions"]):
        fewer = {name for name, part in whole["parts"].items() if part["done"] < before["parts"].get(name, part)["done"]}
        whole["parts"] = {**before["parts"], **{name: part for name, part in whole["parts"].items() if name not in fewer}}
    file.write_text(json.dumps(whole, ensure_ascii=False, indent=1) + "\n", "utf-8")
    out.write_text(page(whole), "utf-8")


def _same(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether figures of then stand beside those of now: of the same weights, and of a model if these are."""
    return all(before.get(key) == now[key] for key in ("model", "digest", "stand_in", "orchestra"))


def conditions(house: Orchestra, model: str, version: str, *, stand_in: bool) -> dict[str, Any]:
    """What the figures hold for."""
    card = next((card for card in house.models() if model in (card.name, card.name.removesuffix(":latest"))), None)
    machine = look()
    told = house.generate("Tell a long story about a river.", model=model, max_tokens=64, temperature=0.0).usage
    cards = ", ".join(f"{gpu.name} ({gpu.total / 2**30:.0f} GiB)" if gpu.total else gpu.name for gpu in machine.gpus)
    return {
        "model": model,
        "digest": card.digest.removeprefix("sha256:")[:12] if card else "",
        "parameters": card.parameters if card else "",
        "quantization": card.quantization if card else "",
        "speed": f"{told.tokens_per_second:.1f}" if told.tokens_per_second and (told.completion_tokens or 0) >= ENOUGH else "",
        "window": card.window or card.context if card else None,
        "daemon": version,
        "orchestra": __version__,
        "machine": f"{platform.system()} {platform.machine()}, {machine.total / 2**30:.0f} GiB" + (f", {cards}" if cards else ""),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "stand_in": stand_in,
    }


class Evaluation:
    """One run over all parts: the first items of each, which show how long they take, then as many as fit."""

    def __init__(self, parts: Sequence[Part], client: Client, *, most: int = 0) -> None:
        self.progress = [Progress(part, min(len(part.items), most or len(part.items))) for part in parts]
        self._client = client

    def run(self, *, until: float) -> str:
        """How it ended: what was measured until then stands in the progress of each part."""
        try:
            for one in self.progress:
                self._take(one, one.part.first, until)
            more = self._planned(until)
            if any(one.done + more[one.part.name] < one.full for one in self.progress):
                print(said("shrunk"), file=sys.stderr)
            while any(more.values()) and time.monotonic() < until:
                for one in self.progress:
                    self._take(one, one.done + more[one.part.name], until)
                more = self._planned(until)  # what was thought to take longer has left time for others
        except KeyboardInterrupt:
            return self._ended(INTERRUPTED)
        except Gone:
            return self._ended(UNREACHABLE)
        return self._ended(OUT_OF_TIME)  # of parts that are not whole

    def _planned(self, until: float) -> dict[str, int]:
        """How many more items of each part fit, as long as they took so far."""
        each = {one.part.name: one.seconds / one.done for one in self.progress if one.done}
        for one in self.progress:
            other, times = one.part.like
            each.setdefault(one.part.name, each.get(other, 0.0) * times)
        return planned({one.part.name: Left(one.full - one.done, each[one.part.name]) for one in self.progress}, until - time.monotonic())

    def _ended(self, how: str) -> str:
        for one in self.progress:
            one.ended = DONE if one.done == one.full else how
        return how

    def _take(self, one: Progress, number: int, until: float) -> None:
        """Items of a part until there are so many, while there is time for one more."""
        number, before = min(number, one.full), one.done
        try:
            while one.done < number and time.monotonic() + one.seconds / max(1, one.done) <= until:
                started, item = time.monotonic(), one.part.items[one.done]
                try:
                    outcomes, name = item.ask(), ""
                except OrchestraError as error:
                    self._check()
                    outcomes, name = failed(item, error)
                one.take(outcomes, time.monotonic() - started, name)
                print(f"\r{one.part.name}: {one.done} / {number} ", end="", file=sys.stderr, flush=True)
        finally:
            print("\n" * (one.done > before), end="", file=sys.stderr)

    def _check(self) -> None:
        try:
            finish(self._client.version())
        except OrchestraError:
            raise Gone from None


class Gone(Exception):
    """The daemon does not answer any more."""


class Progress:
    """What was found of one part so far."""

    def __init__(self, part: Part, full: int) -> None:
        self.part, self.full = part, full
        self.done, self.seconds, self.ended = 0, 0.0, ""
        self._found: dict[str, Share] = {}
        self._errors: Counter[str] = Counter()
        for outcomes in part.known:
            self._count(outcomes)

    def take(self, outcomes: Outcomes, seconds: float, error: str = "") -> None:
        """One item more."""
        self._count(outcomes)
        self._errors.update([error] if error else [])
        self.done += 1
        self.seconds += seconds

    def _count(self, outcomes: Outcomes) -> None:
        for name, hit in outcomes.items():
            self._found[name] = self._found.get(name, Share()).plus(hit)

    def figures(self, date: str) -> dict[str, Any]:
        """The part as the file has it."""
        return {
            "measures": {name: list(share) for name, share in self._found.items()}, "done": self.done, "full": len(self.part.items),
            "ended": self.ended, "errors": dict(self._errors), "seconds": round(self.seconds, 1), "date": date,
        }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
