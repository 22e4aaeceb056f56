"""Who leads each turn of a dialogue: whoever the router picks, and for a message with several experts' questions a coordinator.

That one reads what the experts said before it answers. Each is asked its own questions, where the router could tell them
apart, so that a lawyer need not say anything about a parcel; else each is asked the whole message. And each knows what was
said to it in this dialogue before: nobody says the number of an order twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from orchestra.agents.budget import Budget
from orchestra.agents.dialects import Call
from orchestra.agents.experts import Source, resolved
from orchestra.agents.reasoning import Team
from orchestra.agents.router import Route, Router
from orchestra.agents.team_ground import Part, TeamGround
from orchestra.agents.tool import Behind, CallContext, Contribution, Tool
from orchestra.model.messages import Message, Options
from orchestra.model.persona import Persona
from orchestra.retrieval.places import LookupFields
from orchestra.sessions.conversation import Leader, Memory

Leads = Callable[[str, str, Memory], Awaitable[Leader]]


class SessionFields(LookupFields, total=False):
    """What else a session takes: how its questions are looked up; who is told the `steps` of experts that a message needs."""

    steps: Callable[[Part], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Familiar(Behind):
    """An expert who was talked to in a dialogue before, and knows what was `said`."""

    said: tuple[Message, ...]

    async def ask(self, question: str, context: CallContext) -> Contribution:
        """Its answer, which goes on from what was said."""
        return await self.tool.ask(question, replace(context, said=(*self.said, *context.said)))


def leading(
    source: Source, *, options: Options | None = None, trace: Callable[[Part], object] | None = None,
    budget: Callable[[], Budget] | None = None,
) -> Leads:  # fmt: skip
    """Who answers each turn, for a session to ask: whoever led it, until the topic turns.

    `source` is where experts come from, its model the one that is asked where words leave a message open; `options` hold
    for the experts, `trace` is told their steps, and `budget` begins what they may take.
    """

    async def led(message: str, current: str, memory: Memory) -> Leader:
        router = Router(await source.client.runtime.call(source.personas.all))
        route = await router.route(message, client=source.client, model=source.model, current=current)
        persona = router.personas[route.persona]
        if not route.experts:
            return Leader(persona, route.reason, route.calls, why=route.why)
        calls = [Call(name, route.questions.get(name, message)) for name in route.experts]
        team = partial(_team, persona, route, source, memory)
        ground = TeamGround(team, options=options, calls=calls, trace=trace, budget=budget)
        return Leader(persona, route.reason, route.calls, ground, why=route.why)

    return led


async def _team(coordinator: Persona, route: Route, source: Source, memory: Memory, model: str) -> Team:
    """The experts of a route."""

    def familiar(tool: Tool) -> Tool:
        said = memory(tool.name)
        return Familiar(tool=tool, said=tuple(said)) if said else tool

    tools = await resolved(route.experts, replace(source, model=model))
    experts = [await source.client.runtime.call_store(partial(familiar, tool)) for tool in tools]
    return Team(client=source.client, model=model, coordinator=coordinator, experts=experts)
