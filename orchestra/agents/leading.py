"""Who leads each turn of a dialogue: whoever the router picks, and for a message with several experts' questions a coordinator.

That one reads what the experts said before it answers. Each is asked its own questions, where the router could tell them
apart, so that a lawyer need not say anything about a parcel; else each is asked the whole message.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from orchestra.agents.dialects import Call
from orchestra.agents.experts import Source, resolved
from orchestra.agents.reasoning import Team
from orchestra.agents.router import Route, Router
from orchestra.agents.team_ground import Part, TeamGround
from orchestra.model.messages import Options
from orchestra.model.persona import Persona
from orchestra.sessions.conversation import Leader

Leads = Callable[[str, str], Awaitable[Leader]]


def leading(source: Source, *, options: Options | None = None, trace: Callable[[Part], object] | None = None) -> Leads:
    """Who answers each turn, for a session to ask: whoever led it, until the topic turns.

    `source` is where experts come from, its model the one that is asked where words leave a message open; `options` hold
    for the experts, and `trace` is told their steps.
    """

    async def led(message: str, current: str) -> Leader:
        router = Router(await source.client.runtime.call(source.personas.all))
        route = await router.route(message, client=source.client, model=source.model, current=current)
        persona = router.personas[route.persona]
        ground = _team(persona, route, message, source, options, trace) if route.experts else None
        return Leader(persona, route.reason, route.calls, ground)

    return led


def _team(
    coordinator: Persona, route: Route, message: str, source: Source, options: Options | None, trace: Callable[[Part], object] | None
) -> TeamGround:
    """The experts of a route, asked what is theirs."""

    async def team(model: str) -> Team:
        experts = await resolved(route.experts, replace(source, model=model))
        return Team(client=source.client, model=model, coordinator=coordinator, experts=experts)

    calls = [Call(name, route.questions.get(name, message)) for name in route.experts]
    return TeamGround(team, options=options, calls=calls, trace=trace)
