"""The lesson's routes: a question to one expert, a task to several."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request

from orchestra.agents.budget import least
from orchestra.agents.coordinator import Plan, as_json
from orchestra.agents.lineage import Lineage
from orchestra.api import AsyncOrchestra
from orchestra.gateway.access import allotted, language_for
from orchestra.gateway.attending import attended
from orchestra.gateway.bodies import ChatAnswer, ChatBody, TaskAnswer, TaskBody, read, takes
from orchestra.gateway.dialogue import Dialogue
from orchestra.gateway.discretion import discreet
from orchestra.gateway.owning import stored_name
from orchestra.gateway.reporting import report_of
from orchestra.gateway.roster import Roster
from orchestra.gateway.voices import PersonaVoice, told
from orchestra.model.messages import Options, Reply
from orchestra.model.persona import Persona


def mount(app: FastAPI, orchestra: AsyncOrchestra, roster: Roster) -> None:
    """Adds the routes; `/integrate` where there is a coordinator."""
    _chat(app, orchestra, roster)
    if roster.integrates:
        _integrate(app, orchestra, roster)


def _chat(app: FastAPI, orchestra: AsyncOrchestra, roster: Roster) -> None:
    @app.post("/chat", response_model=ChatAnswer, response_model_exclude_none=True, openapi_extra=takes(ChatBody))
    async def chat(request: Request) -> Any:
        body = await read(request, ChatBody, orchestra.settings.body_limit)
        persona = roster.speaker(body.persona)
        most = allotted(request.headers)

        async def answer() -> ChatAnswer:
            report = report_of(request.scope)
            if body.session:
                request.state.lineage.at(persona.name)
                name = stored_name(request, body.session)
                options = Options(max_tokens=least(most, persona.options.max_tokens))
                session = orchestra.session(name, persona=persona, options=options)
                reply = await session.ask(body.intent, turn_id=request.headers.get("idempotency-key"))
                report.spoken(persona.name, reply)
                return _spoken(reply, persona, session=body.session)
            dialogue = Dialogue(question=body.intent, lineage=request.state.lineage, most=most)
            said = await told(PersonaVoice(orchestra=orchestra, persona=persona).answer(dialogue))
            report.spoken(persona.name, said)
            return _spoken(said, persona)

        return await attended(request, answer())


def _spoken(said: Reply | Plan, persona: Persona, **more: Any) -> ChatAnswer:
    counted = {"prompt_tokens": said.usage.prompt_tokens, "completion_tokens": said.usage.completion_tokens}
    more["usage"] = {name: count for name, count in counted.items() if count is not None}
    if isinstance(said, Plan):
        more["missing"] = list(said.missing)
    elif said.ground:
        more["ground"] = dict(said.ground)
    return ChatAnswer(response=said.text, persona=persona.name, model=said.model, finish_reason=str(said.finish_reason), **more)


def _integrate(app: FastAPI, orchestra: AsyncOrchestra, roster: Roster) -> None:
    @app.post("/integrate", response_model=TaskAnswer, openapi_extra=takes(TaskBody))
    async def integrate(request: Request) -> Any:
        body = await read(request, TaskBody, orchestra.settings.body_limit)
        lineage: Lineage = request.state.lineage
        lineage.at(roster.coordinator)

        async def answer() -> TaskAnswer:
            plan = await orchestra.integrate(
                body.task, experts=roster.experts, coordinator=roster.coordinator, lineage=lineage,
                descriptions=roster.descriptions, max_total_tokens=body.max_total_tokens,
            )  # fmt: skip
            report_of(request.scope).spoken(roster.coordinator, plan)
            whole = as_json(plan)
            known = roster.known()
            for step in whole["steps"]:
                step["error"] = discreet(step["error"], known, language_for(request.headers, orchestra.settings))
            return TaskAnswer(
                response=plan.text, steps=whole["steps"], missing=whole["missing"], finish_reason=whole["finish_reason"]
            )

        return await attended(request, answer())
