"""What one agent is to another: a tool with a name, a description and one argument.

An expert in this process, one at a URL, a Python function: whoever asks cannot tell them apart. What a tool does
wrong - it is slow, it breaks, it answers nonsense - is said in its `Contribution`, for the one who asked to go on
without it; only what ends the whole task (Ctrl-C, closing) is raised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from orchestra.agents.lineage import Lineage
from orchestra.model.messages import Message, Options, Receipt, Usage
from orchestra.runtime import Runtime
from orchestra.texts import Words

CALLS = 40  # questions to experts in one task, those that experts ask each other included
AT_ONCE = 16  # of them at a time
DOWN = 2  # failures in a row, and a tool is asked no more in its task: a circuit breaker (M. Nygard, Release It!)
LONGEST_ANSWER = 20_000  # characters: more than any window holds beside the other answers
QUESTION: Mapping[str, Any] = {
    "type": "object",
    "properties": {"question": {"type": "string"}},
    "required": ["question"],
    "additionalProperties": False,
}
_CUT = {"zh": "……（后面还有 {left} 个字符，已省略）", "en": " ... ({left} more characters are left out)"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """In what a tool is called: `options` have the answer's language, the seconds and the tokens that are left for it.

    `said` is what this tool was asked and answered before in the same task; `lineage` the agents on the way here. A tool
    that asks others in turn may ask `calls` questions, `at_once` of them at a time, `slots` of those that take a slot of the daemon.
    """

    runtime: Runtime
    options: Options = field(default_factory=Options)
    lineage: Lineage = field(default_factory=Lineage)
    said: tuple[Message, ...] = ()
    calls: int = CALLS
    at_once: int = 1
    slots: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One question to one expert: `ok` is None while it is being answered; `duration` in seconds; `error` says why not.

    `tokens` are those of the answer, None where nobody said; `steps` are the questions that the expert itself asked others for it.
    """

    expert: str
    question: str
    answer: str = ""
    ok: bool | None = None
    duration: float = 0.0
    tokens: int | None = None
    error: str = ""
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What came of asking a tool. With an `error`, `answer` is as far as it came; `duration` in seconds.

    `steps` are those it asked for it. `failures` tell how far it speaks for a tool that is down: `DOWN` of them are enough.
    """

    answer: str = ""
    error: str = ""
    duration: float = 0.0
    usage: Usage = field(default_factory=Usage)
    receipt: Receipt = field(default_factory=lambda: Receipt(calls=0))
    steps: tuple[Step, ...] = ()
    failures: int = 0

    @property
    def ok(self) -> bool:
        """Whether the answer is whole."""
        return not self.error


def asked_in_all(steps: Sequence[Step]) -> int:
    """How many questions were asked, those of experts to others included."""
    return sum(1 + asked_in_all(step.steps) for step in steps)


class Fault(Exception):
    """What a tool, or whoever called it, did wrong: a fact of its contribution, in the language of the task."""

    def __init__(self, words: Words, *, failures: int = 0, **facts: Any) -> None:
        super().__init__()
        self.words, self.facts, self.failures = words, facts, failures


class Tool(Protocol):
    """Whatever can be asked. One value serves many tasks at once: what belongs to a call is in its context.

    One that asks the daemon of this process has an attribute `takes_slot` that is True: with one slot they are asked in
    turn, all others at the same time.
    """

    @property
    def name(self) -> str:
        """The name by which other agents ask for it."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """JSON Schema of its arguments, for models that call tools natively: `QUESTION` where it takes a text."""

    def titled(self, language: str) -> str:
        """The name as people read it."""

    def described(self, language: str) -> str:
        """What it is for, as other agents read it."""

    async def ask(self, question: str, context: CallContext) -> Contribution:
        """The answer to `question`: a text, or the JSON of its arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """What a tool is to others that has another one behind it: the same name, purpose and arguments; how it answers is its own."""

    tool: Tool

    @property
    def name(self) -> str:
        """The name by which other agents ask for it."""
        return self.tool.name

    @property
    def parameters(self) -> Mapping[str, Any]:
        """JSON Schema of its arguments."""
        return self.tool.parameters

    @property
    def takes_slot(self) -> bool:
        """Whether it waits for a slot of the daemon."""
        return takes_slot(self.tool)

    def titled(self, language: str) -> str:
        """The name as people read it."""
        return self.tool.titled(language)

    def described(self, language: str) -> str:
        """What it is for."""
        return self.tool.described(language)


def takes_slot(tool: Tool) -> bool:
    """Whether a tool waits for a slot of the daemon; one that does not say so does not."""
    return bool(getattr(tool, "takes_slot", False))


def bounded(answer: str, language: str) -> str:
    """`answer`, cut where it is longer than anybody will read; it says so."""
    left = len(answer) - LONGEST_ANSWER
    return answer if left <= 0 else answer[:LONGEST_ANSWER] + _CUT["zh" if language == "zh" else "en"].format(left=left)
