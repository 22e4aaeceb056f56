"""Who answers, whom a task needs, and what becomes of it when a model writes nonsense and an expert is gone."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace

from orchestra.agents.budget import Budget, Limits
from orchestra.agents.contributions import Step
from orchestra.agents.coordinator import Plan, solve
from orchestra.agents.expert import Expert
from orchestra.agents.experts import Named, Source, resolved
from orchestra.agents.reasoning import Team, Thought
from orchestra.agents.tool import Tool
from orchestra.api import DEFAULT_COORDINATOR, DEFAULT_EXPERTS, AsyncOrchestra
from orchestra.cli.demo.stage import QUIET, Card, Stage
from orchestra.cli.demo.thread import House, origin, whole
from orchestra.cli.demo.world import BRIEF, Record, World
from orchestra.cli.words import say
from orchestra.model.messages import Piece
from orchestra.model.persona import Persona
from orchestra.runtime import stepping
from orchestra.standin import StandIn

PACE = 0.004
STEPS = 2  # of the live task: a laptop's model takes seconds for each
TASK = "制定人工智能合规标准，避免人工智能伤害人类"
MESSAGES = (
    "我的订单 12345 能加急吗？",
    "Is my landlord allowed to keep the deposit?",
    "Explain how a hash table works",
)


def _brief(persona: Persona) -> Persona:
    """The persona with answers that fit a demo: a model on a laptop writes a few tokens a second."""
    return replace(persona, options=BRIEF.over(persona.options))


async def _solved(core: AsyncOrchestra, task: str, experts: Sequence[Named]) -> AsyncGenerator[Thought | Step | Piece | Plan]:
    """`integrate`, with answers of a demo's length."""
    source = Source(personas=core.personas, client=core.client, model=await core.model_for("chat"))
    tools: list[Tool] = [
        replace(one, persona=_brief(one.persona)) if isinstance(one, Expert) else one for one in await resolved(experts, source)
    ]
    coordinator = _brief(core.personas.persona(DEFAULT_COORDINATOR))
    team = Team(client=core.client, model=source.model, coordinator=coordinator, experts=tools)
    async with aclosing(solve(task, team=team, budget=Budget(Limits(steps=STEPS)))) as parts:
        async for part in parts:
            yield part


class Workplace(House):
    """What the scene needs of Orchestra, for code without an event loop."""

    integrate = stepping(_solved)


def together(stage: Stage, world: World, record: Record) -> None:
    """Messages find their personas; a task is solved by two experts; another one is solved although half of it breaks."""
    with world.daemon(PACE if world.paced else 0.0) as (url, _):
        house = Workplace(world, record.name, url)
        try:
            _routed(stage, record, house)
            stage.pause(2.0)
            _planned(stage, world, record, house)
        finally:
            house.close()
    stage.pause(2.0)
    _mended(stage, world, record)


def _routed(stage: Stage, record: Record, house: Workplace) -> None:
    card = Card(say("Who answers?", "由谁回答？"), say("by its words, no model asked", "按词语判断，不问模型"), live=True)
    with stage.shown(card):
        card.say("orchestra route", QUIET)
        routes = [house.route(message) for message in MESSAGES]
        for message, route in zip(MESSAGES, routes, strict=True):
            card.fact(route.persona, f"{message}  ({say(*route.why)})")
        record.facts["route"] = [route.persona for route in routes]
        record.promise([route.persona for route in routes] == ["support", "lawyer", "computer_scientist"], "each message finds its persona")
        record.promise(not any(route.calls for route in routes), "no model is asked for it")


def _planned(stage: Stage, world: World, record: Record, house: Workplace) -> None:
    """The lesson's task, live."""
    card = Card(say("A coordinator asks its experts", "协调者询问专家"), origin(world), live=True)
    with stage.shown(card) as redraw:
        card.say(f'orchestra integrate "{TASK}"', QUIET)
        plan = _played(card, redraw, house.integrate(TASK, DEFAULT_EXPERTS), dim=world.stand_in)
        if plan is None:
            record.promise(False, "the task has an answer")
            return
        record.promise(bool(plan.text.strip()), "the task has an answer")
        asked = {step.expert for step in plan.steps if step.ok}
        record.promise(asked == set(DEFAULT_EXPERTS) and not plan.missing, "both experts were asked and answered")
        record.promise(plan.receipt.calls >= len(plan.steps) + 1, "every answer is a call that was counted")
        record.facts["integrate"] = _facts(plan)
        calls, count = plan.receipt.calls, len(asked)
        card.verdict(not plan.missing, say(f"{count} experts, 1 answer, {calls} model calls", f"{count} 位专家，1 份方案，{calls} 次模型调用"))


def _mended(stage: Stage, world: World, record: Record) -> None:
    """Replies written for this: the first step is prose, where a parser of ReAct gives up; and the lawyer is gone."""
    task = say("Draft a safety standard for a care robot", "为护理机器人起草安全标准")
    question = say("Which technical limits must a care robot keep?", "护理机器人必须遵守哪些技术限制？")
    wish = say("Which law applies to care robots?", "护理机器人适用哪些法律？")
    actions = [{"expert": "computer_scientist", "question": question}, {"expert": "lawyer", "question": wish}]
    replies = [
        say("Well, first I would think about whom to ask.", "嗯，我先想一想该问谁。"),
        json.dumps({"thought": say("both fields", "两个领域都需要"), "actions": actions}, ensure_ascii=False),
        say("Its force stays below 50 N, and it stops within 0.1 s.", "作用力不超过 50 N，0.1 秒内停止。"),
        say("1. Force below 50 N. 2. Stop within 0.1 s. The law still has to be settled.", "一、作用力不超过 50 N。二、0.1 秒内停止。法律部分待补充。"),
    ]
    card = Card(say("Prose for a step, a lawyer who is gone", "一步写成闲话，律师不在"), say("replies written for this", "为演示而写的回答"), live=True)
    with StandIn(replies) as daemon, nobody() as address, stage.shown(card) as redraw:
        house = Workplace(replace(world, found=None), record.name, daemon.url)
        try:
            card.say(f'orchestra integrate "{task}" --expert computer_scientist --expert lawyer={address}', QUIET)
            plan = _played(card, redraw, house.integrate(task, ["computer_scientist", f"lawyer={address}"]), dim=True)
        finally:
            house.close()
        if plan is None:
            record.promise(False, "the task has an answer all the same")
            return
        faults = [part.fault for part in plan.trace if isinstance(part, Thought) and part.fault]
        held = [
            record.promise(len(faults) == 1, "the step that is no step is told to the model"),
            record.promise(plan.missing == ("lawyer",), "the expert that is gone is named"),
            record.promise("50 N" in plan.text, "the task has an answer all the same"),
        ]
        record.facts["mended"] = _facts(plan)
        card.verdict(all(held), say("told, asked again, landed; what is missing is named", "已告知模型并重问，方案照样完成，缺少的部分已写明"))


@contextmanager
def nobody() -> Iterator[str]:
    """An address at which nobody listens, as long as it is needed."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def _played(
    card: Card, redraw: Callable[[], None], parts: Iterator[Thought | Step | Piece | Plan], *, dim: bool
) -> Plan | None:
    """The parts of a task on a card as they come; the plan in which they end."""
    plan, text, grow = None, "", None
    for part in parts:
        if isinstance(part, Thought):
            _thought(card, part)
        elif isinstance(part, Step):
            _stepped(card, part, dim=dim)
        elif isinstance(part, Plan):
            plan = part
        else:
            if grow is None:
                card.rows.append(("…", DEFAULT_COORDINATOR))
                grow = card.quote("", dim=dim, lines=4)
            text += part.text
            grow(text)
        redraw()
    if plan is not None and grow is not None:
        grow(whole(plan.text))
        card.rows = [("✓", DEFAULT_COORDINATOR) if row == ("…", DEFAULT_COORDINATOR) else row for row in card.rows]
    return plan


def _thought(card: Card, thought: Thought) -> None:
    """Whom the coordinator wants to ask; or that its step is none."""
    names = ", ".join(dict.fromkeys(call.expert for call in thought.calls))
    if names:
        card.fact("→", f"{thought.by}: {names}")
    elif thought.fault:
        card.fact("!", f"{thought.by}: {thought.fault}")


def _stepped(card: Card, step: Step, *, dim: bool) -> None:
    """A step begins as a line; when it ends, that line says so and its words follow."""
    if step.ok is None:
        card.rows.append(("…", step.expert))
        return
    card.rows.remove(("…", step.expert))
    card.rows.append(("✓" if step.ok else "✗", f"{step.expert} · {step.duration:.1f} s"))
    if step.ok:
        card.quote(whole(step.answer), dim=dim, lines=2)
    else:
        card.say(step.error, QUIET)


def _facts(plan: Plan) -> dict[str, object]:
    return {
        "text": plan.text, "finish_reason": str(plan.finish_reason), "missing": list(plan.missing), "calls": plan.receipt.calls,
        "steps": [{"expert": step.expert, "ok": step.ok, "seconds": round(step.duration, 3)} for step in plan.steps],
    }  # fmt: skip
