"""The loop of a coordinator: think, ask experts, read what they said, think again (ReAct, arXiv 2210.03629).

Each step is one request whose prompt begins like the one before - seed memory, task, who there is, what was said so far -
and ends with how to answer: the daemon reads only what is new. What a model gets wrong (a name nobody has, a call to
itself, prose) stands as a fault in the next prompt and counts as a step; what it asks again is not asked again.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from orchestra.agents.budget import Budget, Limits
from orchestra.agents.contributions import Answered, Step, asked, material, missing
from orchestra.agents.dialects import Call, Decision, Dialect, Native, dialect_for, fault_of, plain_name, weaker
from orchestra.agents.remote import address
from orchestra.agents.tool import DOWN, CallContext, Contribution, Tool, takes_slot
from orchestra.errors import EmptyReply, OrchestraError, StreamTruncated
from orchestra.model.client import Client
from orchestra.model.firmness import fits
from orchestra.model.language import language_of
from orchestra.model.messages import FinishReason, Message, Options, Receipt, Reply, gathered
from orchestra.model.persona import Persona
from orchestra.model.thinking import unspent

STEP_TOKENS = 600  # the most of one step: a thought and a few questions
REPEATED = 3  # the same call so often, and the model goes in a circle
MOST_EACH = 3  # questions to one expert in one step; more is a model that lists
UNUSABLE = 2  # steps in a row that ask nobody anything
PART = 3  # who takes no slot has one part in so many of the time that is left, while further steps may follow

_TEAM = {"zh": "可以询问的专家：", "en": "The experts who can be asked:"}
_NEXT = {
    "zh": "决定下一步：还需要问哪些专家什么问题。彼此独立的问题一起问；专家看不到以上内容，问题要写全，用中文写。",
    "en": "Decide the next step: which experts still have to be asked what. Ask independent questions together; "
    "experts see nothing of the above, so write each question out in full, in English.",
}
_FAILED = {"zh": "没有回答：{names}。", "en": "No answer came from: {names}."}
_MANY = {"zh": "一步最多问 {name} {most} 个问题，其余的没有问。", "en": "At most {most} questions to {name} in one step; the others were not asked."}
_DOWN = {"zh": "{name} 不再应答。", "en": "{name} does not answer any more."}
_KNOWN = {"zh": "{name} 已经被问过这个问题，结果见上。", "en": "{name} was asked this already; what came of it stands above."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """Who solves a task: a coordinator and its experts, on one daemon; `model` answers where a persona names none."""

    client: Client
    model: str
    coordinator: Persona
    experts: Sequence[Tool]

    def asked_always(self) -> set[str]:
        """The names of the experts that the coordinator's own file lists, some by address: no task of its is solved without them."""
        listed = [address(each) or (each, "") for each in self.coordinator.experts]
        names, places = {name for name, _ in listed if name}, {place for _, place in listed if place}
        return {one.name for one in self.experts if one.name in names or getattr(one, "url", "") in places}


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought:
    """One step of the coordinator: what it thinks and whom it asks; `duration` in seconds, `fault` what it got wrong."""

    by: str
    number: int
    text: str
    calls: tuple[Call, ...] = ()
    fault: str = ""
    tokens: int | None = None
    duration: float = 0.0


class Reasoning:
    """One run of the loop: what was `said` so far, the `replies` it took, why it `ended` where a limit ended it.

    `options` hold for the steps and the experts as well, but their length and form are the answer's, and their deadline is
    the whole task's where no `budget` says it. `before` is the dialogue in which the task stands: the coordinator reads it,
    and so does whoever is asked the task itself.
    """

    def __init__(
        self, task: str, team: Team, options: Options, budget: Budget | None = None, before: Sequence[Message] = ()
    ) -> None:
        self.said: list[Answered] = []
        self.replies: list[Reply | Contribution] = []
        self.trace: list[Thought | Step] = []
        self.notes: list[str] = []
        self.ended: FinishReason | None = None
        self.language = options.language or language_of(task)
        self.budget = budget or Budget(Limits(seconds=options.deadline or team.client.settings.deadline))
        self._task, self._team = task, team
        self._options = replace(options, max_tokens=None, format=None, schema=None, deadline=None)
        self.before = tuple(before)
        self._experts = {plain_name(expert.name): expert for expert in team.experts}
        self._titles = {plain_name(expert.titled(self.language)): expert for expert in team.experts}
        self._nonce = secrets.token_hex(8)
        self._counts: Counter[Call] = Counter()
        self._failures: Counter[str] = Counter()
        self._dialect: Dialect | None = None
        self._last: tuple[Reply | None, float] = (None, 0.0)  # of the step before: what came, in how many seconds

    # --- the loop

    async def whole(self, *, panel: bool = False) -> AsyncGenerator[Thought | Step]:
        """All that is asked before the answer: what the steps want, then the rest; a `panel` is asked the task alone.

        Raises `SeedTooLong` before anybody is asked.
        """
        await self._firm()
        if self._team.experts and not panel:
            async with aclosing(self.steps()) as thinking:
                async for part in thinking:
                    yield part
        async with aclosing(self.ask([(expert, self._task) for expert in self.left_out()])) as resting:
            async for step in resting:
                yield step

    async def steps(self) -> AsyncGenerator[Thought | Step]:
        """The steps as they happen, until the model has enough, goes in a circle, or a limit is reached."""
        fault, unusable = "", 0
        while (ended := self.budget.spent) is None:
            self.budget.step()
            decision = await self._decided(fault)
            if decision is None:
                return
            calls, fault = self._fresh(decision)
            yield self._told(decision, calls, fault)
            if not decision.calls and not decision.fault:
                return
            if any(count >= REPEATED for count in self._counts.values()):
                self.notes.append("repeated_call")
                return
            unusable = 0 if calls else unusable + 1
            if unusable >= UNUSABLE:
                self.notes.append("no_usable_step")
                return
            async with aclosing(self.ask(calls, part=PART if self.budget.spent is None else 1)) as steps:
                async for step in steps:
                    yield step
        self.ended = ended

    def left_out(self) -> list[Tool]:
        """Those who still have to be asked the task: without whom it is not solved, or all where nobody was asked."""
        heard = {one.expert.name for one in self.said}
        everybody = not self.said or "no_usable_step" in self.notes
        wanted = self._team.asked_always()
        return [one for one in self._team.experts if one.name not in heard and (everybody or one.name in wanted)]

    async def ask(self, calls: Sequence[tuple[Tool, str]], *, part: int = 1) -> AsyncGenerator[Step]:
        """Asks the experts, who take a slot of the daemon in turn, all others at once; stops where tokens or time are spent.

        These have one `part` in so many of the time. One that turns out to be down is not waited for again.
        """
        client, budget = self._team.client, self.budget
        for wave in budget.waves(calls, client.settings.parallel):
            ended = budget.exhausted
            if ended is not None:
                self.ended = ended
                return
            wave = wave._replace(calls=[call for call in wave.calls if not self._down(call[0])][: budget.calls])
            if not wave.calls:
                continue
            context = budget.context(client.runtime, self._options, wave)
            for expert, question in wave.calls:
                yield Step(expert=expert.name, question=question)
            jobs = [partial(asked, expert, question, self._within(context, expert, question, part)) for expert, question in wave.calls]
            said, trace = len(self.said), len(self.trace)
            ended_at: list[int] = []
            async with aclosing(client.runtime.completed(jobs)) as answers:
                async for place, one in answers:
                    ended_at.append(place)
                    self._heard(one)
                    yield one.step
            # who was asked first is read first, whoever was faster
            order = sorted(range(len(ended_at)), key=ended_at.__getitem__)
            self.said[said:] = [self.said[said:][place] for place in order]
            self.trace[trace:] = [self.trace[trace:][place] for place in order]

    def _heard(self, one: Answered) -> None:
        self.said.append(one)
        self.trace.append(one.step)
        self._took(one.contribution)
        self.budget.asked(one.step)
        self._failures[one.expert.name] = 0 if one.step.ok else self._failures[one.expert.name] + one.contribution.failures

    def _down(self, expert: Tool) -> bool:
        return self._failures[expert.name] >= DOWN

    def _within(self, context: CallContext, expert: Tool, question: str, part: int) -> CallContext:
        """An expert knows what it said itself; questions are written out in full, the task may follow on the dialogue before it."""
        before = self.before if question == self._task else ()
        own = [one.step for one in self.said if one.expert.name == expert.name and one.step.ok]
        told = [message for step in own for message in (Message("user", step.question), Message("assistant", step.answer))]
        options, patience = context.options, context.options.deadline
        if patience is not None and not takes_slot(expert):
            options = replace(options, deadline=patience / part)
        return replace(context, options=options, said=(*before, *told))

    async def _firm(self) -> None:
        """The coordinator's seed memory has to leave room for what the experts will say."""
        persona, client = self._team.coordinator, self._team.client
        model = persona.model or self._team.model
        loaded = await client.ready(model, self._options.over(persona.options))
        self.replies.append(Contribution(receipt=Receipt(calls=0, loads=loaded.loads, reloads=loaded.reloads)))
        await fits(persona, persona.speaks(self.language), client=client, model=model, loaded=loaded)

    # --- one step

    async def _decided(self, fault: str) -> Decision | None:
        """What the model wants next; None where it cannot be asked any more. Before anybody has said anything, its errors are raised."""
        started = time.monotonic()
        try:
            reply, dialect = await self._stepped(fault)
        except (EmptyReply, StreamTruncated) as error:
            self._last = (error.reply, time.monotonic() - started)
            if error.reply is not None:
                self._took(error.reply)
            if error.reply is None or not error.reply.tool_calls:
                return Decision(fault=fault_of("unreadable", self.language))
            # calls that came whole are calls, whatever became of the rest
            return Native().decided(error.reply, self._team.experts, self.language)
        except OrchestraError:
            self.ended = self.budget.exhausted
            if not self.said and self.ended is None:
                raise
            self.notes.append("step_failed")
            return None
        self._took(reply)
        self._last = (reply, time.monotonic() - started)
        return dialect.decided(reply, self._team.experts, self.language)

    async def _stepped(self, fault: str) -> tuple[Reply, Dialect]:
        """What the model writes, in the strongest dialect that it is not refused."""
        client, model = self._team.client, self._team.coordinator.model or self._team.model
        facts = await client.facts(model)
        own = self._options.over(self._team.coordinator.options)
        own = self.budget.options(replace(own, max_tokens=STEP_TOKENS, think=unspent(facts) if own.think is None else own.think))
        dialect = self._dialect or dialect_for(await client.version(), facts)
        while True:
            self._dialect = dialect
            try:
                return await self._chatted(model, dialect, fault, own), dialect
            except OrchestraError as error:
                less = weaker(dialect, error)
                if less is None:
                    raise
                dialect = less

    async def _chatted(self, model: str, dialect: Dialect, fault: str, own: Options) -> Reply:
        team = self._team
        options, tools = dialect.options(own, team.experts), dialect.tools(team.experts, self.language)
        seed, question = team.coordinator.speaks(self.language), self._asks(dialect, fault)
        messages = [Message("system", seed), *self.before, Message("user", question)]
        stream = team.client.chat(messages, model=model, options=options, tools=tools)
        async with aclosing(stream) as pieces:
            return gathered([piece async for piece in pieces])

    def _asks(self, dialect: Dialect, fault: str) -> str:
        """The prompt of a step: what never changes first, then what grows, at last what is said for this once."""
        language = self.language
        failed = ", ".join(expert.name for expert in missing(self.said))
        parts = [
            self._task,
            self.team_text(),
            self.material(self.said),
            _FAILED[language].format(names=failed) if failed else "",
            fault,
            _NEXT[language],
            dialect.rules(language),
        ]
        return "\n\n".join(part for part in parts if part)

    def team_text(self) -> str:
        """Who can be asked, each with what it is for."""
        language, comma = self.language, "：" if self.language == "zh" else ": "
        lines = [f"- {one.name}{comma}{one.described(language) or one.titled(language)}" for one in self._team.experts]
        return "\n".join([_TEAM[language], *lines]) if lines else ""

    def material(self, said: Sequence[Answered], most: int = 0) -> str:
        """What was `said`, each contribution of at most `most` characters (0: whole)."""
        return material(said, self._task, self.language, nonce=self._nonce, most=most)

    def _fresh(self, decision: Decision) -> tuple[list[tuple[Tool, str]], str]:
        """The calls that are worth asking, and what is wrong with the others."""
        fresh: list[tuple[Tool, str]] = []
        faults = [decision.fault]
        for call in dict.fromkeys(decision.calls):
            expert = self._known(call.expert)
            fault = self._refused(call, expert, sum(one is expert for one, _ in fresh))
            faults.append(fault)
            if expert is not None and not fault:
                fresh.append((expert, call.question))
        return fresh, "\n".join(dict.fromkeys(fault for fault in faults if fault))

    def _refused(self, call: Call, expert: Tool | None, already: int) -> str:
        """Why a call is not asked, if so; `already` are the questions to this expert in the same step."""
        if expert is None:
            own = plain_name(call.expert) == plain_name(self._team.coordinator.name)
            return fault_of("own" if own else "unknown", self.language, call.expert)
        if self._down(expert):
            return _DOWN[self.language].format(name=expert.name)
        if not call.question:
            return fault_of("empty", self.language, expert.name)
        if already >= MOST_EACH:
            return _MANY[self.language].format(name=expert.name, most=MOST_EACH)
        key = Call(expert.name, " ".join(call.question.split()))
        self._counts[key] += 1
        return _KNOWN[self.language].format(name=expert.name) if self._counts[key] > 1 else ""

    def _known(self, name: str) -> Tool | None:
        plain = plain_name(name)
        return self._experts.get(plain) or self._titles.get(plain)

    def _told(self, decision: Decision, calls: Sequence[tuple[Tool, str]], fault: str) -> Thought:
        reply, seconds = self._last
        thought = Thought(
            by=self._team.coordinator.name,
            number=sum(isinstance(part, Thought) for part in self.trace) + 1,
            text=decision.thought[:1000],
            calls=tuple(Call(expert.name, question) for expert, question in calls),
            fault=fault,
            tokens=reply.usage.completion_tokens if reply else None,
            duration=round(seconds, 6),
        )
        self.trace.append(thought)
        return thought

    def _took(self, reply: Reply | Contribution) -> None:
        self.replies.append(reply)
        self.budget.spend(reply.usage)
