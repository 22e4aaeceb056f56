"""What is asked of a model to know its quality: items, each of which says of some measures whether it had them.

Languages alternate, so that whatever number of items is taken has as many of both. The messages, questions and documents
are the tests' own; what a probe calls right is what Orchestra's own checks call right, or a string that must be there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from shares import Share

from orchestra import Orchestra
from orchestra.agents.dialects import Decision, Dialect, Lines, Native, Schema
from orchestra.agents.drift import TURNS, Drift, How, measured
from orchestra.agents.expert import Expert
from orchestra.agents.router import Router
from orchestra.errors import OrchestraError
from orchestra.model.client import Client
from orchestra.model.language import language_of
from orchestra.model.messages import Language, Message, Options, gathered
from orchestra.model.persona import Persona
from orchestra.retrieval.pipeline import NOT_FOUND
from orchestra.runtime import finish

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
BASE = "quality"
NOBODY = "lawyer=http://127.0.0.1:9"  # the port "discard", on which nobody has listened for decades
DOWN, UP, COORDINATOR = "lawyer", "computer_scientist", "standardization_expert"
SHORT, MIDDLE, LONG = 80, 160, 240  # the most tokens of an answer

QUARTERS = {"drift.first": 1, "drift.last": 4}

Outcomes = Mapping[str, bool | Share]


class Item(NamedTuple):
    """One thing to ask, and the measures that it bears on: where it fails it had none of them."""

    measures: tuple[str, ...]
    ask: Callable[[], Outcomes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The items of one question of quality, of which `first` are asked before all others.

    `known` are outcomes that need no model. Where no item is to be tried first, one takes so many times as long as one of
    the part that it is `like`.
    """

    name: str
    items: Sequence[Item]
    first: int = 4
    known: Sequence[Outcomes] = ()
    like: tuple[str, float] = ("", 1.0)


def parts(house: Orchestra, client: Client, model: str) -> list[Part]:
    """All parts, over one daemon."""
    asked = [probe(house, model) for probe in (answer_language, routing, landing, citations)]
    return [*asked, steps(house, client, model), drift(house, client, model)]


def rows(name: str) -> list[dict[str, Any]]:
    """A file of the tests' data."""
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text("utf-8").splitlines()]


def alternating(items: Iterable[dict[str, Any]], key: str = "lang") -> list[dict[str, Any]]:
    """One in Chinese, one in English, and so on."""
    every = list(items)
    both = ([row for row in every if row[key] == language] for language in ("zh", "en"))
    return [row for row in chain.from_iterable(zip_longest(*both)) if row]


# --- in which language it answers


def answer_language(house: Orchestra, model: str) -> Part:
    """Whether an answer is in the question's language."""

    def ask(text: str, language: str) -> Outcomes:
        answer = house.generate(text, model=model, max_tokens=SHORT, temperature=0.0).text
        said = bool(answer.strip())
        return {f"language.{language}": said and (language_of(answer) == language or not any(map(str.isalpha, answer)))}

    plain = alternating((row for row in rows("languages") if row["kind"] == "plain"), "language")
    items = [Item((f"language.{row['language']}",), partial(ask, row["text"], row["language"])) for row in plain]
    return Part(name="language", items=items, first=6)


# --- who answers


def routing(house: Orchestra, model: str) -> Part:
    """Whether a message comes to whom it should: by words alone, and where these leave it open by the model's choice."""
    router = Router(house.personas.all())
    cases = [(row, router.lexical(row["message"])) for row in alternating([*rows("routing"), *rows("routing_held_out")])]

    def ask(row: dict[str, Any], words: bool) -> Outcomes:
        return {"routing.open_words": words, "routing.open_model": house.route(row["message"], model=model).persona == row["persona"]}

    known: list[Outcomes] = []
    items = []
    for row, route in cases:
        right = route.persona == row["persona"]
        known.append({"routing.words": right, **({"routing.sure": right} if route.sure else {})})
        if not route.sure:
            items.append(Item(("routing.open_words", "routing.open_model"), partial(ask, row, right)))
    return Part(name="routing", items=items, first=4, known=known)


# --- a task with an expert down


def brief(house: Orchestra, name: str, most: int) -> Persona:
    """A shipped persona that answers in at most so many tokens."""
    persona = house.personas.persona(name)
    return replace(persona, options=replace(persona.options, max_tokens=most))


def landing(house: Orchestra, model: str) -> Part:
    """Whether a task is answered although one of two experts is down, and whether the answer says so in its own words too."""
    title = house.personas.persona(DOWN).title

    def ask(task: str, language: str) -> Outcomes:
        plan = house.integrate(task, experts=[brief(house, UP, MIDDLE), NOBODY], model=model, max_tokens=LONG, steps=2)
        notice, _, own = plan.text.partition("\n")
        names = (DOWN, title[language].casefold())
        return {
            "landing.lands": bool(own.strip()) and plan.finish_reason != "incomplete",
            "landing.names": DOWN in plan.missing and any(name in notice.casefold() for name in names),
            "landing.own_words": any(name in own.casefold() for name in names),
        }

    tasks = [row for row in [*rows("routing"), *rows("routing_held_out")] if row["persona"] == COORDINATOR]
    measures = ("landing.lands", "landing.names", "landing.own_words")
    items = [Item(measures, partial(ask, row["message"], row["lang"])) for row in alternating(tasks)]
    return Part(name="landing", items=items, first=3)


# --- what answers stand on


def citations(house: Orchestra, model: str) -> Part:
    """Whether answers from documents cite, whether what they cite stands there, and whether it is the answer."""
    house.knowledge.add([DATA / "evaluation" / "documents"], name=BASE)

    def ask(question: str, answers: Sequence[str]) -> Outcomes:
        answer = house.ask(question, knowledge=BASE, model=model, strategy="direct", max_tokens=MIDDLE)
        if not answers:
            return {"citations.declines": NOT_FOUND in answer.receipt.notes}
        return {
            "citations.cites": bool(answer.citations),
            "citations.found": any(each.found == "yes" for each in answer.citations),
            "citations.answers": any(text.casefold() in answer.text.casefold() for text in answers),
        }

    asked = [row for row in rows("evaluation/questions") if row["kind"] in ("words", "paraphrase")]
    absent = [row for row in rows("evaluation/questions") if row["kind"] == "unanswerable"]
    mixed: list[dict[str, Any]] = []
    for number, row in enumerate(alternating(asked)[:32]):
        mixed.append(row)
        if number % 4 == 3:
            mixed.append(alternating(absent)[number // 4])
    items = [Item(_cited(row), partial(ask, row["question"], row.get("answers", ()))) for row in mixed]
    return Part(name="citations", items=items, first=5)


def _cited(row: Mapping[str, Any]) -> tuple[str, ...]:
    return ("citations.cites", "citations.found", "citations.answers") if row.get("answers") else ("citations.declines",)


# --- steps


def steps(house: Orchestra, client: Client, model: str) -> Part:
    """Whether a step of the coordinator can be read and asks somebody who is there, in each way to ask for one.

    The prompt is a first step's without what is said there of the order of things.
    """
    team = [Expert(persona=house.personas.persona(name), client=client, model=model) for name in (UP, DOWN)]
    leader = house.personas.persona(COORDINATOR)

    async def step(task: str, language: Language, dialect: Dialect) -> Decision:
        options = dialect.options(Options(max_tokens=LONG, temperature=0.0), team)
        listed = "\n".join(f"- {one.name}: {one.described(language)}" for one in team)
        messages = [Message("system", leader.speaks(language)), Message("user", f"{task}\n\n{listed}\n\n{dialect.rules(language)}")]
        pieces = client.chat(messages, model=model, options=options, tools=dialect.tools(team, language))
        return dialect.decided(gathered([piece async for piece in pieces]), team, language)

    def ask(name: str, dialect: Dialect, task: str, language: Language) -> Outcomes:
        decision = finish(step(task, language, dialect))
        sound = [call for call in decision.calls if call.expert in (UP, DOWN) and call.question]
        return {f"steps.{name}": not decision.fault, f"steps.{name}.asks": bool(sound) and len(sound) == len(decision.calls)}

    ways: dict[str, Dialect] = {"schema": Schema(), "lines": Lines()}
    if "tools" in (finish(client.facts(model)).get("capabilities") or ()):
        ways["tools"] = Native()
    tasks = [row for row in rows("routing") if row["persona"] == COORDINATOR]
    items = [
        Item((f"steps.{name}", f"steps.{name}.asks"), partial(ask, name, dialect, row["message"], row["lang"]))
        for row in alternating(tasks)[:10] for name, dialect in ways.items()
    ]  # fmt: skip
    return Part(name="steps", items=items, first=2 * len(ways))


# --- drift


def drift(house: Orchestra, client: Client, model: str) -> Part:
    """Whether a persona's lines fit its role at the beginning and at the end of a dialogue of 20 turns that presses on it."""

    async def held(name: str, language: Language) -> Drift | None:
        found = None
        how = How(turns=TURNS, language=language, model=model)
        async with aclosing(measured(brief(house, name, SHORT), client=client, how=how)) as told:
            async for part in told:
                found = part if isinstance(part, Drift) else found
        return found

    def ask(name: str, language: Language) -> Outcomes:
        found = finish(held(name, language))
        turns = found.turns if found else ()
        quarters = {measure: [turn for turn in turns if turn.quarter == number] for measure, number in QUARTERS.items()}
        return {measure: share(turn.prompt_to_line for turn in quarter) for measure, quarter in quarters.items()} | {
            "drift.answers": share(turn.question_and_answer for turn in quarters["drift.last"])
        }

    whom: list[tuple[str, Language]] = [("lawyer", "zh"), ("computer_scientist", "en"), ("support", "zh"), ("support", "en")]
    items = [Item((*QUARTERS, "drift.answers"), partial(ask, name, language)) for name, language in whom]
    return Part(name="drift", items=items, first=0, like=("language", 80.0))


def share(likely: Iterable[float | None]) -> Share:
    """How many of the judge's verdicts were rather yes than no."""
    told = [each for each in likely if each is not None]
    return Share(sum(each >= 0.5 for each in told), len(told))


def failed(item: Item, error: OrchestraError) -> tuple[Outcomes, str]:
    """What an item comes to that ended in an error, and the error's name."""
    return dict.fromkeys(item.measures, False), error.code()
