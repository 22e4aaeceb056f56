"""What `ask` and `integrate` do: an answer with its sources below it, a task with its experts above it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from orchestra.agents.contributions import Step
from orchestra.agents.coordinator import Plan, trace_as_json
from orchestra.agents.reasoning import Thought
from orchestra.api import DEFAULT_EXPERTS, TaskFields
from orchestra.cli.answering import at_work, named_model
from orchestra.cli.answers import show
from orchestra.cli.archive import last_name, opened, stored_in
from orchestra.cli.outcome import Wish
from orchestra.cli.running import Patience, complete
from orchestra.cli.sources import noticed, sources_below, unreached
from orchestra.cli.steps import Steps, stepped, steps_shown
from orchestra.cli.tracing import traced
from orchestra.cli.words import say
from orchestra.model.messages import Options, Piece
from orchestra.retrieval.ledger import Strategy
from orchestra.retrieval.pipeline import Answer

Whole = TypeVar("Whole", Answer, Plan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """How a question is to be looked up, as the command line has it."""

    search: str = ""
    knowledge: tuple[str, ...] = ()
    strategy: Strategy = "auto"
    results: int = 3
    pages: bool = False
    trace: bool = False
    session: str = ""


def ask_once(question: str, inquiry: Inquiry, *, model: str, options: Options, wish: Wish) -> None:
    """An answer from what was looked up, its sources after it."""

    async def main() -> None:
        async with at_work() as (orchestra, patience):
            # a stored dialogue has its own model
            chosen = model if inquiry.session else await named_model(orchestra, "chat", model, wish)
            kept: list[Answer] = []
            parts = orchestra.ask_stream(
                question, model=chosen, search=inquiry.search, knowledge=inquiry.knowledge, strategy=inquiry.strategy,
                results=inquiry.results, pages=inquiry.pages, session=inquiry.session, options=options,
                trace=partial(traced, patience=patience, shown=inquiry.trace, wish=wish), tell=partial(noticed, patience),
            )  # fmt: skip
            await show(
                _pieces(parts, kept),
                wish,
                patience,
                stored=lambda: stored_in(orchestra.store, inquiry.session, question),
                sources=lambda: [source for answer in kept for source in answer.sources],
                citations=lambda: [citation for answer in kept for citation in answer.citations],
                ledger=lambda: kept[0].ledger if kept else {},
            )
            if kept and not wish.json:
                sources_below(kept[0].sources, kept[0].citations)
                unreached(kept[0].ledger.attempts)

    complete(main())


def integrate_once(
    task: str, how: TaskFields, *, experts: Sequence[str] | None, model: str, options: Options, wish: Wish
) -> None:
    """A task for several experts: the coordinator's thoughts and each one's step as it ends, then one answer."""

    async def main() -> None:
        async with at_work() as (orchestra, patience):
            begun = how.get("session", "")
            session = begun if isinstance(begun, str) else begun.record.name
            # a stored dialogue has its own model
            chosen = model if session else await named_model(orchestra, "chat", model, wish)
            kept: list[Plan] = []
            happened = Happened(steps_shown(task, wish, patience), patience)
            watched: TaskFields = {**how, "trace": happened.push}
            parts = orchestra.integrate_stream(
                task, experts=experts or DEFAULT_EXPERTS, model=chosen, options=options, **watched
            )
            await show(
                stepped(_pieces(parts, kept), happened.steps),
                wish,
                patience,
                stored=lambda: stored_in(orchestra.store, session, task),
                instead=lambda: "" if stored_in(orchestra.store, session, task) else happened.said(),
                steps=lambda: kept[0].steps if kept else happened.ended,
                missing=lambda: kept[0].missing if kept else happened.missing,
                trace=lambda: trace_as_json(kept[0].trace if kept else happened.parts),
                **_totals(kept),
                **({"session": session} if session else {}),
            )

    complete(main())


class Happened:
    """What happened before an answer, for whoever leaves before it is there; `steps` shows it as it happens."""

    def __init__(self, steps: Steps, patience: Patience) -> None:
        self.steps = steps
        self.parts: list[Thought | Step] = []
        self._asked: dict[str, bool] = {}  # who was, and whether there is an answer
        self._patience = patience
        steps.begin()

    def push(self, part: Thought | Step) -> None:
        """Keep and show one step; whoever answers for the daemon is named above the first."""
        self._patience.begun()
        if isinstance(part, Thought) or part.ok is not None:
            self.parts.append(part)
        if isinstance(part, Step):
            self._asked[part.expert] = bool(part.ok) or self._asked.get(part.expert, False)
        self.steps.push(part)

    @property
    def ended(self) -> list[Step]:
        """The questions that were answered, or in vain."""
        return [part for part in self.parts if isinstance(part, Step)]

    @property
    def missing(self) -> list[str]:
        """The experts who were asked and have not answered so far."""
        return [name for name, answered in self._asked.items() if not answered]

    def said(self) -> str:
        """The words of the experts, as they said them; empty where nobody has answered yet."""
        words = [f"{step.expert}:\n{step.answer}" for step in self.ended if step.ok]
        about = say("(Not integrated; this is what the experts said so far.)", "（尚未整合，以下是各位专家目前的原话。）")
        return "\n\n".join([about, *words]) if words else ""


def dialogue(name: str, *, last: bool) -> TaskFields:
    """The stored dialogue in which a task is a turn, as the command line names it; empty where it names none."""
    if last and not name:
        with opened() as store:
            name = last_name(store)
    return TaskFields(session=name) if name else TaskFields()


def _totals(kept: list[Plan]) -> dict[str, Any]:
    """Usage and receipt of all steps together stand in place of the last answer's own."""
    return {
        "usage": lambda: kept[0].usage if kept else None,
        "receipt": lambda: kept[0].receipt if kept else None,
    }


async def _pieces(
    parts: AsyncGenerator[Thought | Step | Piece | Plan] | AsyncGenerator[Piece | Answer], kept: list[Whole]
) -> AsyncGenerator[Piece]:
    """The pieces among the parts, and the whole kept; whoever shows the steps was told them as they happened."""
    async with aclosing(parts):
        async for part in parts:
            if isinstance(part, Piece):
                yield part
            elif not isinstance(part, Thought | Step):
                kept.append(part)  # type: ignore[arg-type]
