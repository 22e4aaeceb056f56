"""What `route` does: who would answer a message, and why."""

from __future__ import annotations

from orchestra.agents.router import Route
from orchestra.cli.answering import at_work
from orchestra.cli.outcome import Wish
from orchestra.cli.running import complete
from orchestra.cli.terminal import as_line, harmless, plain, tell, write
from orchestra.cli.words import say
from orchestra.errors import UsageError


def route_once(message: str, *, model: str, wish: Wish) -> None:
    """The name on stdout, the reason beside it."""
    if not message.strip():
        raise UsageError(detail="the message is empty", detail_zh="消息为空", fix="say something", fix_zh="请输入内容")

    async def main() -> None:
        async with at_work() as (orchestra, patience):
            route = await orchestra.route(message, model=model)
            patience.clear()
        if wish.json:
            said = {key: value for key, value in plain(route).items() if key != "why"}  # the reason in both languages
            write(as_line(said) + "\n")
            return
        write(harmless(route.persona) + "\n")
        tell(why(route))

    complete(main())


def why(route: Route) -> str:
    """How sure it is, and why, in the reader's language; whether a model was asked."""
    asked = say(", a model was asked", "，已询问模型") if route.calls else ""
    reason = say(*route.why)
    return harmless(say(f"confidence {route.confidence:.2f}{asked}: {reason}", f"把握 {route.confidence:.2f}{asked}：{reason}"))
