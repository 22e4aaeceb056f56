"""Face: Python. `AsyncOrchestra` puts the layers together; `Orchestra` is the same for code without an event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, Unpack

from orchestra.agents.budget import LANDING, STEPS, Budget, Limits
from orchestra.agents.contributions import Step
from orchestra.agents.coordinator import Plan, solve
from orchestra.agents.drift import TURNS, Drift, How, Part, measured
from orchestra.agents.experts import Named, Source, resolved
from orchestra.agents.leading import SessionFields, leading
from orchestra.agents.lineage import Lineage
from orchestra.agents.personas import Library
from orchestra.agents.reasoning import Team, Thought
from orchestra.agents.remote import Remote
from orchestra.agents.router import AUTO, Route, Router
from orchestra.agents.team_ground import TeamGround
from orchestra.agents.team_ground import turn as team_turn
from orchestra.errors import OrchestraError
from orchestra.instruments.asking import AsyncInstruments, Instruments
from orchestra.model.client import Client, Observe
from orchestra.model.messages import Language, Message, OptionFields, Options, Piece
from orchestra.model.persona import Persona
from orchestra.retrieval.excerpts import enriched
from orchestra.retrieval.ground import SearchGround, turn
from orchestra.retrieval.knowledge.index import Index
from orchestra.retrieval.knowledge.library import AsyncKnowledgeBases, KnowledgeBases
from orchestra.retrieval.knowledge.search import Knowledge
from orchestra.retrieval.ledger import Strategy
from orchestra.retrieval.looking import Lookup
from orchestra.retrieval.pages import Pages
from orchestra.retrieval.pipeline import SAMPLING, Answer, ask
from orchestra.retrieval.places import HowFields, LookupFields, Place, Tell, places
from orchestra.runtime import Blocking, Looped, Runtime, blocking, finish, stepping
from orchestra.sessions.branching import Begun
from orchestra.sessions.conversation import AsyncSession, Opening, labelled
from orchestra.sessions.grounding import Ground, Inquiry, Material
from orchestra.sessions.records import Turn
from orchestra.sessions.store import Store
from orchestra.settings import Settings

T = TypeVar("T")
DEFAULT_EXPERTS = ("computer_scientist", "lawyer")
DEFAULT_COORDINATOR = "standardization_expert"


class AskFields(OptionFields, HowFields, total=False):
    """What else `ask` takes: what was said before, or the stored dialogue (`session`) in which the question is a turn."""

    said: Sequence[Message]
    session: str | Begun


class TaskFields(OptionFields, total=False):
    """What else `integrate` takes: the most `steps`, or a `panel` that asks all the task; what services are for; who asked before.

    `max_total_tokens` bounds all that coordinator and experts generate, `max_tokens` the answer alone. `session` is the
    stored dialogue in which the task is a turn, `said` what was said before where it is kept elsewhere; `trace` is told
    each step as it begins and ends.
    """

    steps: int
    panel: bool
    max_total_tokens: int | None
    session: str | Begun
    said: Sequence[Message]
    trace: Callable[[Thought | Step], object]
    descriptions: Mapping[str, str]
    lineage: Lineage


class AsyncOrchestra(AsyncInstruments):
    """All of Orchestra over one daemon. Settings come from the environment; what is given here wins."""

    def __init__(
        self, *, settings: Settings | None = None, runtime: Runtime | None = None, observe: Observe | None = None,
        tell: Tell | None = None, **overrides: Any,
    ) -> None:  # fmt: skip
        self._met: dict[str, Remote] = {}  # who was met at which address
        self._tell = tell  # which service will see a question, where a persona looks things up
        self.settings = settings or Settings.read(**overrides)
        self.runtime = runtime or Looped(parallel=self.settings.parallel)
        self.client = Client(self.runtime, self.settings, observe=observe)
        self.store = Store(self.settings.folder(), timeout=self.settings.store_timeout)
        self.personas = Library.of(self.settings)
        index = Index(self.settings.folder(), timeout=self.settings.store_timeout)
        self.knowledge = AsyncKnowledgeBases(index, self.client, model=self.settings.embedding)
        self._pages = Pages(self.runtime, seconds=self.settings.page_timeout)  # opens nothing before it reads

    # --- 2. remembering

    def session(
        self, name: str | Begun | None = None, *, persona: str | Persona | None = None, model: str = "",
        history: Sequence[Message | str] = (), options: Options | None = None, base: bool | None = None,
        **lookup: Unpack[SessionFields],
    ) -> AsyncSession:  # fmt: skip
        """A named dialogue, made on its first turn; `history` is what was said before that, messages or "Speaker: text".

        The persona "auto" is whoever fits each message, and stays until the topic turns; a message that asks several experts is
        answered from what they say, each asked its own question.
        With `search` or `knowledge` each turn is looked up before its answer, as by `ask`; the sources are kept with it.
        """
        messages, speakers = labelled(history)
        auto = persona == AUTO
        opening = Opening(
            persona=None if auto else self._persona(persona), known=self.personas.persona, grounded=self._grounded,
            routed=leading(self._source(model), options=options, trace=lookup.get("steps")), auto=auto, model=model, base=base,
            history=messages, speakers=speakers,
        )  # fmt: skip
        ground = self._ground(lookup) if "search" in lookup or "knowledge" in lookup else None
        return AsyncSession(store=self.store, client=self.client, name=name, opening=opening, options=options, ground=ground)

    @property
    def grounds(self) -> Callable[[Persona], Ground | None]:
        """What a persona looks its questions up in, None where nothing: for whoever puts one to work."""
        return self._grounded

    def _grounded(self, persona: Persona) -> Ground | None:
        """A persona that looks things up does so before each answer, unless the session looks elsewhere."""
        fields = LookupFields(knowledge=persona.knowledge, search=("",) if persona.search else "none")
        return self._ground(fields) if persona.looks_up else None

    def _ground(self, fields: LookupFields) -> Ground:
        names = _names(fields.get("knowledge", ()))
        for name in names:
            self.knowledge.index.base(name)  # one that is not there is said at once
        search, strategy = fields.get("search", ""), fields.get("strategy", "auto")

        async def ground(inquiry: Inquiry) -> Material:
            lookup = replace(self._lookup(search, names, fields), strategy=strategy)
            return await SearchGround(self.client, lookup)(inquiry)

        return ground

    def _persona(self, persona: str | Persona | None) -> Persona | None:
        return self.personas.persona(persona) if isinstance(persona, str) else persona

    # --- 3. looking things up

    async def ask(
        self, question: str, *, model: str = "", search: Place | Sequence[Place] = "", knowledge: str | Sequence[str] = (),
        strategy: Strategy = "auto", options: Options | None = None, **fields: Unpack[AskFields],
    ) -> Answer:  # fmt: skip
        """An answer with its sources, from the web, from whatever `search` names, or from local `knowledge`.

        `search` is a name as `--search` takes it ("" = the first service that answers from here, "offline", "none"), a
        provider or retriever of one's own, or several of them; with `knowledge` alone nothing leaves the machine.
        """
        parts = self.ask_stream(
            question, model=model, search=search, knowledge=knowledge, strategy=strategy, options=options, **fields
        )
        return await _whole(parts, Answer)

    async def ask_stream(
        self, question: str, *, model: str = "", search: Place | Sequence[Place] = "", knowledge: str | Sequence[str] = (),
        strategy: Strategy = "auto", options: Options | None = None, **fields: Unpack[AskFields],
    ) -> AsyncGenerator[Piece | Answer]:  # fmt: skip
        """The same as it comes: pieces, at last the `Answer`."""
        lookup = await self._looked_up({"search": search, "knowledge": knowledge, "strategy": strategy}, fields)
        options = _options(fields).over(options)
        if session := fields.get("session"):
            parts = self._turn(question, session, model, lookup, options)
        else:
            model = await self.model_for("chat", model)
            parts = ask(question, client=self.client, model=model, lookup=lookup, said=fields.get("said", ()), options=options)
        async with aclosing(parts):
            async for part in parts:
                yield part

    def _turn(
        self, question: str, name: str | Begun, model: str, lookup: Lookup, options: Options
    ) -> AsyncGenerator[Piece | Answer]:
        ground = SearchGround(self.client, lookup, options)
        opening = Opening(known=self.personas.persona, model=model)
        session = AsyncSession(
            store=self.store, client=self.client, name=name, opening=opening, options=options.over(SAMPLING), ground=ground
        )
        return turn(session.stream(question), ground)

    async def _looked_up(self, where: LookupFields, how: HowFields) -> Lookup:
        names = _names(where.get("knowledge", ()))
        for name in names:
            await self.runtime.call(partial(self.knowledge.index.base, name))  # one that is not there is said at once
        return replace(self._lookup(where.get("search", ""), names, how), strategy=where.get("strategy", "auto"))

    def _lookup(self, search: Place | Sequence[Place], knowledge: Sequence[str], fields: HowFields) -> Lookup:
        rerank = self.settings.rerank
        local = [
            Knowledge(self.knowledge.index, name, runtime=self.runtime, client=self.client, rerank=rerank) for name in knowledge
        ]
        alone = bool(local) and search == ""  # nothing leaves the machine unless it is asked for
        found = () if alone else places(search, self.settings, self.runtime, tell=fields.get("tell", self._tell))
        return Lookup(
            places=(*found, *local),
            results=fields.get("results", 3),
            pages=partial(enriched, pages=self._pages) if fields.get("pages") else None,
            trace=fields.get("trace"),
        )

    # --- 4. working together

    async def route(self, message: str, *, model: str = "", current: str = "") -> Route:
        """Which persona answers a message, and why; a model is asked only where words leave it open.

        `current` leads the dialogue so far: what is not surely another's is its own.
        """
        router = Router(await self.runtime.call(self.personas.all))
        return await router.route(message, client=self.client, model=model, current=current)

    async def integrate(
        self, task: str, *, experts: Sequence[Named] = DEFAULT_EXPERTS, coordinator: str | Persona = DEFAULT_COORDINATOR,
        model: str = "", options: Options | None = None, **fields: Unpack[TaskFields],
    ) -> Plan:  # fmt: skip
        """A task solved by a coordinator with experts: names of personas (a single one as it is), addresses, functions, tools.

        Raises `UsageError` for less than one step, for an expert named twice and for one that cannot be asked.
        """
        parts = self.integrate_stream(task, experts=experts, coordinator=coordinator, model=model, options=options, **fields)
        return await _whole(parts, Plan)

    async def integrate_stream(
        self, task: str, *, experts: Sequence[Named] = DEFAULT_EXPERTS, coordinator: str | Persona = DEFAULT_COORDINATOR,
        model: str = "", options: Options | None = None, **fields: Unpack[TaskFields],
    ) -> AsyncGenerator[Thought | Step | Piece | Plan]:  # fmt: skip
        """The same as it happens: steps of coordinator and experts, pieces of the answer, at last the `Plan`.

        As a turn of a `session` the steps come together, before the first piece: `trace` is told them as they happen.
        """
        options, name, trace = _options(fields).over(options), fields.get("session"), fields.get("trace")
        experts = [experts] if isinstance(experts, str) else experts
        if not name:  # a stored dialogue chooses its own, once the task is on disk
            model = await self.model_for("chat", model)
        source = self._source(model, fields.get("descriptions", {}))
        leader = self.personas.persona(coordinator) if isinstance(coordinator, str) else coordinator
        lineage, seconds = fields.get("lineage", Lineage()).at(leader.name), options.deadline or self.settings.deadline
        limits = Limits(steps=lineage.steps(fields.get("steps", STEPS)), tokens=fields.get("max_total_tokens"), seconds=seconds)
        budget, panel = partial(Budget, limits, lineage=lineage), fields.get("panel", False)
        begun = budget()  # to find out who there is takes part of the task's time
        tools = await resolved(experts, source, seconds=seconds * LANDING, coordinator=leader.name)

        async def team(model: str) -> Team:
            again = [one if isinstance(one, Remote) else each for each, one in zip(experts, tools, strict=True)]
            asked = tools if model == source.model else await resolved(again, replace(source, model=model))
            return Team(client=self.client, model=model, coordinator=leader, experts=asked)

        if name:
            ground = TeamGround(team, options=options, panel=panel, budget=budget, trace=trace)
            opening = Opening(persona=leader, known=self.personas.persona, model=model)
            session = AsyncSession(
                store=self.store, client=self.client, name=name, opening=opening, options=options, ground=ground
            )
            parts = team_turn(session.stream(task), ground)
        else:
            parts = solve(
                task, team=await team(model), options=options, panel=panel, budget=begun, before=fields.get("said", ())
            )
        async with aclosing(parts):
            async for part in parts:
                if trace is not None and not name and isinstance(part, Thought | Step):
                    trace(part)
                yield part

    async def drift(
        self, persona: str | Persona, *, turns: int = TURNS, language: Language | None = None, model: str = "", judge: str = ""
    ) -> Drift:
        """How firm a persona is: its scores over a long dialogue that presses on it, and how they changed."""
        return await _whole(self.drift_stream(persona, turns=turns, language=language, model=model, judge=judge), Drift)

    async def drift_stream(
        self, persona: str | Persona, *, turns: int = TURNS, language: Language | None = None, model: str = "", judge: str = ""
    ) -> AsyncGenerator[Part]:
        """The same as it goes: what is about to be done, each line that was answered, each turn's scores, the `Drift` so far."""
        known = self.personas.persona(persona) if isinstance(persona, str) else persona
        how = How(turns=turns, language=language, model=model, judge=judge)
        async with aclosing(measured(known, client=self.client, how=how)) as parts:
            async for part in parts:
                yield part

    def _source(self, model: str, descriptions: Mapping[str, str] | None = None) -> Source:
        return Source(
            personas=self.personas, client=self.client, model=model, grounded=self._grounded, descriptions=descriptions or {}, met=self._met
        )

    # --- the end

    async def close(self) -> None:
        """Close what is open; streams that are running are ended, what they said is stored."""
        await self.runtime.close()
        self._pages.close()
        self.store.close()
        self.knowledge.index.close()

    async def __aenter__(self) -> AsyncOrchestra:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _whole(parts: AsyncGenerator[Any], kind: type[T]) -> T:
    """What stands at the end of a stream."""
    last: T | None = None
    async for part in parts:
        last = part if isinstance(part, kind) else last
    if last is None:
        raise OrchestraError(detail="the answer has no end")
    return last


def _names(knowledge: str | Sequence[str]) -> list[str]:
    return [knowledge] if isinstance(knowledge, str) else list(knowledge)


def _options(fields: AskFields | TaskFields) -> Options:
    """The options among the fields."""
    names = OptionFields.__annotations__
    given: Any = {name: value for name, value in fields.items() if name in names}
    return Options(**given)


class Session:
    """The same dialogue for code without an event loop."""

    def __init__(self, core: AsyncSession) -> None:
        self._core = core

    @property
    def name(self) -> str | None:
        """The session's name; one that was not given is known after the first turn."""
        return self._core.name

    ask = blocking(AsyncSession.ask)
    stream = stepping(AsyncSession.stream)
    render = blocking(AsyncSession.render)
    turns = blocking(AsyncSession.turns)

    @property
    def history(self) -> list[Turn]:
        """What was said, oldest first."""
        return self.turns()


class Orchestra(Instruments):
    """The same for code without an event loop. It holds its own core and never shares `self` with it."""

    def __init__(
        self, *, settings: Settings | None = None, observe: Observe | None = None, tell: Tell | None = None, **overrides: Any
    ) -> None:
        settings = settings or Settings.read(**overrides)
        self._core = AsyncOrchestra(
            settings=settings, runtime=Blocking(parallel=settings.parallel), observe=observe, tell=tell
        )
        self.settings = settings
        self.store = self._core.store
        self.personas = self._core.personas
        self.knowledge = KnowledgeBases(self._core.knowledge)

    ask = blocking(AsyncOrchestra.ask)
    ask_stream = stepping(AsyncOrchestra.ask_stream)
    route = blocking(AsyncOrchestra.route)
    integrate = blocking(AsyncOrchestra.integrate)
    integrate_stream = stepping(AsyncOrchestra.integrate_stream)
    drift = blocking(AsyncOrchestra.drift)
    drift_stream = stepping(AsyncOrchestra.drift_stream)
    close = blocking(AsyncOrchestra.close)

    def session(
        self, name: str | Begun | None = None, *, persona: str | Persona | None = None, model: str = "",
        history: Sequence[Message | str] = (), options: Options | None = None, base: bool | None = None,
        **lookup: Unpack[SessionFields],
    ) -> Session:  # fmt: skip
        """A named dialogue, made on its first turn; `history` is what was said before that, messages or "Speaker: text".

        The persona "auto" is whoever fits each message, and stays until the topic turns; a message that asks several experts is
        answered from what they say, each asked its own question.
        With `search` or `knowledge` each turn is looked up before its answer, as by `ask`; the sources are kept with it.
        """
        core = self._core.session(name, persona=persona, model=model, history=history, options=options, base=base, **lookup)
        return Session(core)

    def __enter__(self) -> Orchestra:
        return self

    def __exit__(self, *_: object) -> None:
        finish(self._core.close())


__all__ = [
    "AsyncOrchestra",
    "AsyncSession",
    "Orchestra",
    "Session",
]
