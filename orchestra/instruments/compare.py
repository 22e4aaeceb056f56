"""The same prompts put to several models, or to one with other options, and what came of each.

One model answers all prompts before the next is loaded: on a machine that holds one model at a time each is loaded once, and
that before its first answer is timed. What fails is an answer too, with its error; the others go on.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, fields, replace
from statistics import median
from typing import Any

from orchestra.errors import AuthFailed, DaemonUnreachable, NotOllama, OrchestraError, RedirectRefused, UsageError
from orchestra.model.client import Client
from orchestra.model.messages import FinishReason, Options, Piece, gathered
from orchestra.model.window import section, weights_of

MOST = 26  # contenders: a vote names them by letters
# what may be said beside a model, and from where to where: as the command's own options
_WHOLE = {"max_tokens": (1, 1_000_000), "top_k": (0, 100_000), "seed": (-(2**63), 2**63 - 1), "repeat_last_n": (-1, 1_000_000)}
_PARTS = {
    "temperature": (0, 5), "top_p": (0, 1), "min_p": (0, 1), "repeat_penalty": (0.01, 5),
    "presence_penalty": (-2, 2), "frequency_penalty": (-2, 2),
}  # fmt: skip

_GONE = (DaemonUnreachable, AuthFailed, NotOllama, RedirectRefused)  # what is wrong with the daemon itself, whoever is asked

Stream = Callable[..., AsyncGenerator[Piece]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One that is compared: a model with its options. `base` says that it goes on from the prompt as it is, None is by its kind.

    `label` is what it is called, where it has none as `contender` would read it: "llama3,temperature=0.2", "mid,base".
    """

    model: str
    options: Options = field(default_factory=Options)
    base: bool | None = None
    label: str = ""

    @property
    def name(self) -> str:
        """What it is called."""
        return self.label or ",".join([self.model, *self.given])

    @property
    def given(self) -> tuple[str, ...]:
        """What was said beside the model's name."""
        values = {each.name: getattr(self.options, each.name) for each in fields(Options)}
        shown = {name: f"{value:g}" if isinstance(value, float) else value for name, value in values.items() if value is not None}
        kind = () if self.base is None else ("base" if self.base else "instruct",)
        return (*kind, *(f"{name}={value}" for name, value in shown.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What one contender answered to one prompt. Times are in seconds, from the request on, loading not counted.

    `prompt_tokens` and `tokens` are the daemon's counts, `speed` generated tokens a second by the daemon's clock.
    `asked` are the options, `weights` is the digest of the model's, `quantization` and `parameters` are as the daemon names them.
    `error` is why there is no whole answer, and what to do, in both languages.
    """

    prompt: str
    contender: str
    model: str
    asked: str = ""
    text: str = ""
    finish_reason: FinishReason = FinishReason.INCOMPLETE
    prompt_tokens: int | None = None
    tokens: int | None = None
    speed: float | None = None
    first_token: float | None = None
    seconds: float | None = None
    quantization: str = ""
    parameters: str = ""
    weights: str = ""
    error: Mapping[str, str] | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two measurements one: the prompt, the model with its options, its weights."""
        return self.prompt, self.model, self.asked, self.weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All answers of one contender: how many there are, how many failed, the medians of the others, how they ended."""

    contender: str
    quantization: str
    answers: int
    failed: int
    tokens: float | None
    speed: float | None
    first_token: float | None
    ends: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """Which answer to a prompt was the best of those `among` which one was to be chosen, by contender; empty where none was."""

    prompt: str
    best: str
    among: tuple[str, ...]


def contender(written: str) -> Contender:
    """A contender as it is written: a model, and after commas what it is asked with. Raises `UsageError`."""
    model, *given = (part.strip() for part in written.split(","))
    options: dict[str, Any] = {}
    base: bool | None = None
    for each in given:
        if each in ("base", "instruct"):
            base = each == "base"
            continue
        name, _, value = (part.strip() for part in each.partition("="))
        number = _number(name.replace("-", "_"), value)
        if number is None:
            known = ", ".join((*_PARTS, *_WHOLE))
            raise UsageError(
                detail=f"{each!r} is no option of a model that is compared", detail_zh=f"{each!r} 不是可用于比较的模型选项",
                fix=f"write NAME=NUMBER, for example -m llama3,temperature=0; the names: {known}",
                fix_zh=f"请写成 名称=数值，例如 -m llama3,temperature=0；可用的名称：{known}",
            )  # fmt: skip
        least, most = {**_WHOLE, **_PARTS}[name.replace("-", "_")]
        if not least <= number <= most:  # which nan is not either
            raise UsageError(
                detail=f"{name} of {model} is {value}", detail_zh=f"{model} 的 {name} 为 {value}",
                fix=f"it goes from {least} to {most}", fix_zh=f"取值范围为 {least} 到 {most}",
            )  # fmt: skip
        options[name.replace("-", "_")] = number
    return Contender(model=model, options=Options(**options), base=base, label=",".join([model, *given]))


def _number(name: str, value: str) -> float | None:
    try:
        return int(value) if name in _WHOLE else float(value) if name in _PARTS else None
    except ValueError:
        return None


def contenders(models: Sequence[str | Contender], options: Options | None, base: bool | None = None) -> list[Contender]:
    """All that are compared; what one does not say itself is as in `options`. Raises `UsageError` for fewer than two, or twice one."""
    named = [contender(each) if isinstance(each, str) else each for each in models]
    found = [_over(each, options, base) for each in named]
    known = Counter((each.model, each.given) for each in found)
    twice = next((each.name for each in found if known[each.model, each.given] > 1), "")
    if twice:
        raise UsageError(
            detail=f"{twice} is named twice", detail_zh=f"{twice} 重复出现",
            fix="name each once, or with other options: -m llama3,seed=1 -m llama3,seed=2",
            fix_zh="每个只写一次，或使用不同的选项：-m llama3,seed=1 -m llama3,seed=2",
        )  # fmt: skip
    if not 2 <= len(found) <= MOST:
        raise UsageError(
            detail=f"a comparison takes 2 to {MOST} models, and there are {len(found)}",
            detail_zh=f"比较需要 2 到 {MOST} 个模型，现有 {len(found)} 个",
            fix='orchestra compare "..." -m llama3:text -m llama3 (the same one with other options: -m llama3,temperature=0)',
            fix_zh='orchestra compare "..." -m llama3:text -m llama3（同一模型的不同选项：-m llama3,temperature=0）',
        )
    return found


def _over(each: Contender, options: Options | None, base: bool | None) -> Contender:
    return replace(each, options=each.options.over(options), base=base if each.base is None else each.base, label=each.name)


async def compared(
    prompts: Sequence[str], found: Sequence[Contender], *, client: Client, stream: Stream, done: Sequence[Compared] = ()
) -> AsyncGenerator[Compared]:
    """Each answer once it is whole; what is `done` without an error is given as it is. Raises `ModelMissing` before anything is asked."""
    prompts = [*dict.fromkeys(prompt for prompt in prompts if prompt.strip())]
    if not prompts:
        raise UsageError(detail="there is no prompt", detail_zh="没有提示词", fix="say what to ask", fix_zh="请给出提示词")
    about = {each.model: await client.facts(each.model) for each in found}
    known = {each.key: each for each in done if each.error is None}
    for each in found:
        blank = _blank(each, about[each.model])
        for prompt in prompts:
            asked = replace(blank, prompt=prompt)
            if asked.key in known:
                yield known[asked.key]
                continue
            yield await _answered(asked, each, client, stream)


def _blank(each: Contender, facts: dict[str, Any]) -> Compared:
    details = section(facts, "details")
    return Compared(
        prompt="",
        contender=each.name,
        model=each.model,
        asked=",".join(each.given),
        quantization=str(details.get("quantization_level") or ""),
        parameters=str(details.get("parameter_size") or ""),
        weights=weights_of(facts),
    )


async def _answered(asked: Compared, each: Contender, client: Client, stream: Stream) -> Compared:
    pieces: list[Piece] = []
    error: Mapping[str, str] | None = None
    try:
        await client.ready(each.model, each.options)  # a load is no part of what is timed
        async with aclosing(stream(asked.prompt, model=each.model, base=each.base, options=each.options)) as parts:
            async for piece in parts:
                pieces.append(piece)
        reply = gathered(pieces)
    except _GONE:
        raise
    except OrchestraError as fault:
        reply = gathered(pieces)
        error = {
            "code": fault.code(),
            "message": fault.message("en"),
            "hint": fault.hint("en"),
            "message_zh": fault.message("zh"),
            "hint_zh": fault.hint("zh"),
        }
    return replace(
        asked,
        text=reply.text,
        finish_reason=reply.finish_reason,
        prompt_tokens=reply.usage.prompt_tokens,
        tokens=reply.usage.completion_tokens,
        speed=reply.usage.tokens_per_second,
        first_token=reply.receipt.first_token,
        seconds=reply.receipt.seconds,
        error=error,
    )


def by_prompt(answers: Sequence[Compared]) -> dict[str, list[Compared]]:
    """The answers that belong side by side."""
    rows: dict[str, list[Compared]] = {}
    for each in answers:
        rows.setdefault(each.prompt, []).append(each)
    return rows


def summaries(answers: Sequence[Compared]) -> list[Summary]:
    """One for each contender, in the order in which they were asked."""
    found: dict[str, list[Compared]] = {}
    for each in answers:
        found.setdefault(each.contender, []).append(each)
    return [_summary(name, row) for name, row in found.items()]


def _summary(name: str, row: Sequence[Compared]) -> Summary:
    whole = [each for each in row if each.error is None]

    def middle(figures: Iterable[float | None]) -> float | None:
        known = [figure for figure in figures if figure is not None]
        return median(known) if known else None

    return Summary(
        contender=name,
        quantization=row[0].quantization,
        answers=len(row),
        failed=len(row) - len(whole),
        tokens=middle(each.tokens for each in whole),
        speed=middle(each.speed for each in whole),
        first_token=middle(each.first_token for each in whole),
        ends=dict(Counter(str(each.finish_reason) for each in whole)),
    )


def shuffled(row: Sequence[Compared], chance: random.Random) -> list[Compared]:
    """The answers to one prompt in an order that tells nothing; those that failed are not voted on."""
    ready = _ready(row)
    chance.shuffle(ready)
    return ready


def standing(votes: Sequence[Vote], answers: Sequence[Compared]) -> list[Vote]:
    """The votes that were about just these contenders, the last one where a prompt has several."""
    rows = {prompt: _ready(row) for prompt, row in by_prompt(answers).items()}
    return list({vote.prompt: vote for vote in votes if {*vote.among} == {each.contender for each in rows.get(vote.prompt, ())}}.values())


def _ready(row: Sequence[Compared]) -> list[Compared]:
    return [each for each in row if each.error is None]


def tally(votes: Sequence[Vote], names: Sequence[str]) -> dict[str, int]:
    """How often each contender was the best, the most first."""
    counts = Counter(vote.best for vote in votes if vote.best)
    return dict(sorted(((name, counts[name]) for name in names), key=lambda pair: -pair[1]))


def restored(row: Mapping[str, Any]) -> Compared:
    """A `Compared` from its JSON object. Raises ValueError for what is none."""
    try:
        known = {each.name: row[each.name] for each in fields(Compared)}
        return Compared(**{**known, "finish_reason": FinishReason(known["finish_reason"])})
    except (KeyError, TypeError) as error:
        raise ValueError(str(error)) from None
