"""See the model work, for Python: what it reads, and how models differ."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Unpack

from orchestra.instruments.bench import Plan, PlanFields, Side, benched
from orchestra.instruments.compare import Compared, Contender, compared, contenders
from orchestra.instruments.contestants import Named, contestants
from orchestra.model.asking import AsyncModels, Models
from orchestra.model.messages import Options
from orchestra.model.rendition import Rendition, completion, rendition
from orchestra.retrieval.looking import Lookup
from orchestra.retrieval.pipeline import composed
from orchestra.retrieval.places import HowFields, LookupFields
from orchestra.runtime import blocking, stepping


class AsyncInstruments(AsyncModels):
    """See the model work: what it reads, and how models differ."""

    async def _looked_up(self, where: LookupFields, how: HowFields) -> Lookup:
        raise NotImplementedError

    async def render(
        self, text: str, *, model: str = "", base: bool | None = None, options: Options | None = None, **lookup: Unpack[LookupFields]
    ) -> Rendition:
        """The exact text that a model would read for a prompt, part by part with its tokens; nothing is generated.

        With `search` or `knowledge` it is looked up as by `ask` ("draft" asks the model for one). A session renders its own turns.
        """
        options = options or Options()
        if lookup:
            model = await self.model_for("chat", model)
            found = await self._looked_up(lookup, lookup)
            asked = await composed(text, client=self.client, model=model, lookup=found, options=options)
        else:
            model = await self.model_for("base" if base else "chat", model)
            asked = await completion(self.client, text, model=model, base=base, options=options)
        return await rendition(self.client, asked)

    async def compare(
        self, prompts: str | Sequence[str], *, models: Sequence[str | Contender], options: Options | None = None,
        base: bool | None = None, done: Sequence[Compared] = (),
    ) -> list[Compared]:  # fmt: skip
        """The same prompts on several models ("llama3,temperature=0": one with options of its own); what failed has its error.

        What is `done`, of earlier runs, is not asked again. Raises `UsageError` for fewer than two, `ModelMissing` at once.
        """
        stream = self.compare_stream(prompts, models=models, options=options, base=base, done=done)
        return [each async for each in stream]

    async def compare_stream(
        self, prompts: str | Sequence[str], *, models: Sequence[str | Contender], options: Options | None = None,
        base: bool | None = None, done: Sequence[Compared] = (),
    ) -> AsyncGenerator[Compared]:  # fmt: skip
        """The same, each answer once it is whole."""
        asked = [prompts] if isinstance(prompts, str) else prompts
        found = contenders(models, options, base)
        async with aclosing(compared(asked, found, client=self.client, stream=self.stream, done=done)) as answers:
            async for answer in answers:
                yield answer

    async def bench(self, models: str | Sequence[str] = (), *, who: Named | None = None, **fields: Unpack[PlanFields]) -> list[Side]:
        """How fast models answer: those of the daemon (without any, the default one) and whoever else is named in `who`.

        Raises `ModelMissing` and `EndpointFault` at once; a side that fails later keeps what was measured, with its `error`.
        """
        sides: dict[str, Side] = {}
        async for side in self.bench_stream(models, who=who, **fields):
            sides[side.name] = side
        return list(sides.values())

    async def bench_stream(
        self, models: str | Sequence[str] = (), *, who: Named | None = None, **fields: Unpack[PlanFields]
    ) -> AsyncGenerator[Side]:
        """The same as it is measured: each side as it is known after each step."""
        plan = Plan(**fields)
        asked = await contestants(self.client, [models] if isinstance(models, str) else models, who or Named())
        async with aclosing(benched(asked, plan)) as states:
            async for side in states:
                yield side


class Instruments(Models):
    """The same for code without an event loop."""

    render = blocking(AsyncInstruments.render)
    compare = blocking(AsyncInstruments.compare)
    compare_stream = stepping(AsyncInstruments.compare_stream)
    bench = blocking(AsyncInstruments.bench)
    bench_stream = stepping(AsyncInstruments.bench_stream)
