"""One question and one task through the whole house: looked up, cited and checked, asked of experts and put together."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from orchestra.agents.contributions import Step
from orchestra.agents.coordinator import Plan, integrate
from orchestra.api import DEFAULT_COORDINATOR, DEFAULT_EXPERTS, AsyncOrchestra
from orchestra.cli.demo.stage import QUIET, Card, Stage
from orchestra.cli.demo.world import BRIEF, Record, World
from orchestra.cli.words import say
from orchestra.model.messages import Piece
from orchestra.model.persona import Persona
from orchestra.retrieval.passages import Citation
from orchestra.retrieval.pipeline import Answer
from orchestra.runtime import Blocking, blocking, stepping
from orchestra.standin import StandIn

PACE = 0.012
QUESTION = "What is the capital of France?"
TASK = "制定人工智能合规标准，避免人工智能伤害人类"


def _brief(persona: Persona) -> Persona:
    """The persona with answers that fit a demo: a model on a laptop writes a few tokens a second."""
    return replace(persona, options=BRIEF.over(persona.options))


async def _integrated(core: AsyncOrchestra, task: str) -> AsyncGenerator[Step | Piece | Plan]:
    personas = core.personas
    parts = integrate(
        task,
        client=core.client,
        model=await core.model_for("chat"),
        coordinator=_brief(personas.persona(DEFAULT_COORDINATOR)),
        experts=[_brief(personas.persona(name)) for name in DEFAULT_EXPERTS],
    )
    async with aclosing(parts):
        async for part in parts:
            yield part


class House:
    """What the scene needs of Orchestra, for code without an event loop."""

    def __init__(self, world: World, name: str, url: str) -> None:
        self._core = AsyncOrchestra(settings=world.settings(name, "" if world.found else url), runtime=Blocking())

    ask = stepping(AsyncOrchestra.ask_stream)
    integrate = stepping(_integrated)
    close = blocking(AsyncOrchestra.close)


def thread(stage: Stage, world: World, record: Record) -> None:
    """A question with sources, a task for two experts."""
    with world.daemon(PACE if world.paced else 0.0) as (url, _):
        house = House(world, record.name, url)
        try:
            _asked(stage, world, record, house)
            stage.pause(2.0)
            _doubted(stage, world, record)
            stage.pause(2.0)
            _planned(stage, world, record, house)
        finally:
            house.close()


def _origin(world: World) -> str:
    return say("the stand-in's words", "替身服务的文字") if world.stand_in else world.model


def _asked(stage: Stage, world: World, record: Record, house: House) -> None:
    card = Card(say("Looked up and cited", "检索并引用"), _origin(world), live=True)
    with stage.shown(card) as redraw:
        card.say(f'orchestra ask "{QUESTION}" --search offline', QUIET)
        grow = card.quote("", dim=world.stand_in, lines=5)
        text, answer = "", None
        for part in house.ask(QUESTION, search="offline", options=BRIEF):
            if isinstance(part, Answer):
                answer = part
            else:
                text += part.text
                grow(text)
                redraw()
        if answer is None:
            record.promise(False, "the answer has an end")
            return
        grow(_whole(answer.text))
        cited = [source for source in answer.sources if source.cited]
        record.promise(bool(answer.text.strip()), "the question is answered")
        record.promise(bool(answer.sources), "the sources are listed")
        if world.stand_in:  # a model may cite as it likes; whether it did is shown, not promised
            record.promise("Paris" in answer.text, "the answer comes out of the sources")
            record.promise(any(one.found == "yes" for one in answer.citations), "a citation is found in its source")
        record.facts["ask"] = {
            "text": answer.text, "finish_reason": str(answer.finish_reason), "sources": len(answer.sources), "cited": len(cited),
            "citations": [one.found for one in answer.citations], "calls": answer.receipt.calls,
        }  # fmt: skip
        card.gap()
        for source in answer.sources:
            found = {one.found for one in answer.citations if one.n == source.n}
            word = next((grade for grade in ("yes", "weak", "no") if grade in found), "")
            card.fact(f"[{source.n}]", f"{source.title} · {source.url}{_checked(word)}")


def _checked(found: str) -> str:
    """Whether the sentence that cites a source was found in it, in words."""
    return {
        "yes": say(" · cited, found in it", " · 已引用，原文中有"),
        "weak": say(" · cited, partly found in it", " · 已引用，原文中部分有"),
        "no": say(" · cited, not found in it", " · 已引用，原文中没有"),
    }.get(found, "")


def _doubted(stage: Stage, world: World, record: Record) -> None:
    """An answer with a wrong year, put into the stand-in's mouth: its citation is there, and is not believed."""
    question = say("When was the Eiffel Tower finished?", "埃菲尔铁塔是哪一年建成的？")
    reply = say(
        "Paris is the largest city of France [1]. The Eiffel Tower was finished in 1899 [1].",
        "巴黎是法国最大的城市[1]。埃菲尔铁塔于1899年建成[1]。",
    )
    card = Card(say("A wrong year, well cited", "年份有误，引用齐全"), say("a reply written for this", "为演示而写的回答"), live=True)
    with StandIn([reply]) as daemon, stage.shown(card) as redraw:
        house = House(replace(world, found=None), record.name, daemon.url)
        try:
            card.say(f'orchestra ask "{question}" --search offline', QUIET)
            (answer,) = [part for part in house.ask(question, search="offline", strategy="direct") if isinstance(part, Answer)]
        finally:
            house.close()
        card.quote(answer.text, dim=True, lines=3)
        card.gap()
        for citation in answer.citations:
            card.fact(f"[{citation.n}]", _judged(citation))
        redraw()
        found = [citation.found for citation in answer.citations]
        record.facts["checked"] = {"text": answer.text, "citations": found}
        held = record.promise(len(found) == 2 and found[0] == "yes" != found[1], "the wrong year is not found in its source")
        card.verdict(held, say("the sentence that is not in its source is named", "来源中没有的那句话被指出"))


def _judged(citation: Citation) -> str:
    words = {"yes": say("found in it", "原文中有"), "weak": say("partly found in it", "原文中部分有")}
    word = words.get(citation.found, say("not found in it", "原文中没有"))
    return f"{'✓' if citation.found == 'yes' else '✗'} {word} · {citation.sentence}"


def _planned(stage: Stage, world: World, record: Record, house: House) -> None:
    card = Card(say("Experts and a coordinator", "专家与协调者"), _origin(world), live=True)
    with stage.shown(card) as redraw:
        card.say(f'orchestra integrate "{TASK}"', QUIET)
        text, plan = "", None
        grow = None
        for part in house.integrate(TASK):
            if isinstance(part, Step):
                _stepped(card, part, dim=world.stand_in)
            elif isinstance(part, Plan):
                plan = part
            else:
                if grow is None:
                    card.rows.append(("…", DEFAULT_COORDINATOR))
                    grow = card.quote("", dim=world.stand_in, lines=5)
                text += part.text
                grow(text)
            redraw()
        if plan is None or grow is None:
            record.promise(False, "the task has an answer")
            return
        grow(_whole(plan.text))
        card.rows = [("✓", DEFAULT_COORDINATOR) if row == ("…", DEFAULT_COORDINATOR) else row for row in card.rows]
        _landed(card, record, plan)


def _stepped(card: Card, step: Step, *, dim: bool) -> None:
    """A step begins as a line; when it ends, that line says so and its words follow."""
    if step.ok is None:
        card.rows.append(("…", step.expert))
        return
    card.rows.remove(("…", step.expert))
    card.rows.append(("✓" if step.ok else "✗", f"{step.expert} · {step.duration:.1f} s"))
    if step.ok:
        card.quote(_whole(step.answer), dim=dim, lines=2)
    else:
        card.say(step.error, QUIET)


def _whole(text: str) -> str:
    """The text, and a mark where its bound cut it in the middle of a sentence."""
    return text if text.rstrip().endswith((".", "!", "?", "。", "！", "？", "]", ")", "）")) else text.rstrip() + " …"


def _landed(card: Card, record: Record, plan: Plan) -> None:
    record.promise(bool(plan.text.strip()), "the task has an answer")
    record.promise(len(plan.steps) == len(DEFAULT_EXPERTS) and not plan.missing, "both experts were asked and answered")
    record.promise(plan.receipt.calls >= len(plan.steps) + 1, "every answer is a call that was counted")
    record.facts["integrate"] = {
        "text": plan.text, "finish_reason": str(plan.finish_reason), "missing": list(plan.missing), "calls": plan.receipt.calls,
        "steps": [{"expert": step.expert, "ok": step.ok, "seconds": round(step.duration, 3)} for step in plan.steps],
    }  # fmt: skip
    calls, count = plan.receipt.calls, len(plan.steps)
    card.verdict(not plan.missing, say(f"{count} experts, 1 answer, {calls} model calls", f"{count} 位专家，1 份方案，{calls} 次模型调用"))
