"""From distributions to a text: one choice after another, and greedy search, sampling and beam search side by side.

A model only says how likely each token is; a strategy makes a text of that (Holtzman et al. 2019, arXiv:1904.09751). All run
without a repeat penalty, so that their log-probabilities are the model's own and can be compared.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypedDict, get_args

from orchestra.errors import PromptTooLong, UsageError
from orchestra.model import wire
from orchestra.model.beam import Beam, Hypothesis
from orchestra.model.messages import FinishReason, Options
from orchestra.model.prediction import (
    END,
    LONGEST_CHARACTER,
    MOST_CANDIDATES,
    Candidate,
    NextStep,
    Prediction,
    Predictor,
    logprobs_of,
)

Strategy = Literal["greedy", "sample", "beam"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
MOST_STEPS = 1000
MOST_PENALTY = 5
MOST_TEMPERATURE = 5
MOST_TOP_K = 100_000
MOST_WIDTH = MOST_CANDIDATES  # each hypothesis is told so many continuations
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")  # as vocabularies name the bytes that are no character


class DecodeFields(TypedDict, total=False):
    """The fields of `How`, for `**fields` in signatures (PEP 692)."""

    strategies: Sequence[str]
    max_tokens: int
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    seed: int
    beam_width: int
    length_penalty: float


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How texts are decoded: by which strategies, at most so many tokens; what sampling draws from, None = the model's own.

    `beam_width` beginnings are kept, and compared by their sums over length ** `length_penalty`. Raises `UsageError`.
    """

    strategies: Sequence[str] = STRATEGIES
    max_tokens: int = 32
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int = 1
    beam_width: int = 4
    length_penalty: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "strategies", _several(self.strategies))
        _whole("max_tokens", self.max_tokens, most=MOST_STEPS)
        _whole("beam_width", self.beam_width, most=MOST_WIDTH)
        _within("length_penalty", self.length_penalty, least=-MOST_PENALTY, most=MOST_PENALTY)
        if self.top_k is not None:
            _whole("top_k", self.top_k, least=0, most=MOST_TOP_K)
        for name, value, most in (("temperature", self.temperature, MOST_TEMPERATURE), ("top_p", self.top_p, 1), ("min_p", self.min_p, 1)):
            if value is not None:
                _within(name, value, least=0, most=most)
        unknown = [each for each in self.strategies if each not in STRATEGIES]
        if unknown or not self.strategies:
            raise UsageError(
                detail=f"{unknown[0]!r} is no strategy" if unknown else "no strategy was named",
                detail_zh=f"{unknown[0]!r} 不是解码策略" if unknown else "没有指定解码策略",
                fix=f"there is: {', '.join(STRATEGIES)}", fix_zh=f"可用的有：{'、'.join(STRATEGIES)}",
            )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """How a text is gone on from: `choose` forces the first tokens; so many `steps`, by default one after those.

    Each shows the `top` likeliest candidates. Raises `UsageError`.
    """

    top: int = 10
    steps: int | None = None
    choose: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "choose", _several(self.choose))
        _whole("top", self.top, most=MOST_CANDIDATES)
        _whole("steps", self.count if self.steps is None else self.steps, most=MOST_STEPS)
        if not all(self.choose):
            raise UsageError(
                detail="an empty token cannot be chosen", detail_zh="不能选择空的 token",
                fix='name one, for example --choose " Paris"', fix_zh='请给出 token，例如 --choose " Paris"',
            )  # fmt: skip
        for text in (*self.choose, "".join(self.choose)):
            if wire.neutral(text) != text or _BYTE.fullmatch(text):  # the model would read other tokens than were named
                raise UsageError(
                    detail=f"{text!r} names a control token or a byte, which no text can be", detail_zh=f"{text!r} 是控制 token 或字节，无法作为文本",
                    fix=f'force an end with --choose "{END}", a character as a whole', fix_zh=f'用 --choose "{END}" 指定结束；字符请整个给出',
                )  # fmt: skip

    @property
    def count(self) -> int:
        """The steps that are taken."""
        return max(self.steps or 0, len(self.choose) + (self.steps is None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """One strategy's text. `logprob` is the sum over its `tokens` (an end is one), without those that are `missing`.

    `score` is the sum after the length penalty; `hypotheses` are what beam search ended with, best first; `calls` are requests.
    """

    strategy: Strategy
    text: str
    logprob: float
    tokens: int
    calls: int
    missing: int = 0
    score: float = 0.0
    finish_reason: FinishReason = FinishReason.LENGTH
    hypotheses: tuple[Hypothesis, ...] = ()


# --- one choice after another


async def predicted(predictor: Predictor, choices: Choices) -> AsyncGenerator[NextStep | Prediction]:
    """How a model goes on: the prompt's tokens (a `Prediction` without steps), each step as it is made, the whole."""
    whole = Prediction(model=predictor.model, prompt=await predictor.prompt())
    yield whole
    try:
        async with aclosing(walk(predictor, choices.choose)) as taken:
            async for step in taken:
                step = replace(step, candidates=step.candidates[: choices.top], calls=predictor.calls - whole.calls)
                whole = replace(whole, steps=(*whole.steps, step), finish_reason=_ended(step), calls=predictor.calls)
                yield step
                if len(whole.steps) == choices.count:
                    break
    except PromptTooLong:
        if not whole.steps:
            raise
        whole = replace(whole, finish_reason=FinishReason.CONTEXT_FULL)
    yield whole


async def walk(predictor: Predictor, choose: Sequence[str] = ()) -> AsyncGenerator[NextStep]:
    """The likeliest token each time, but first those that are forced; until the end, or bytes that become no character."""
    said = ""
    forced = iter(choose)
    while True:
        candidates = await predictor.after(said)
        token = next(forced, "")
        step = await _forced(predictor, candidates, token) if token else await _likeliest(predictor, said, candidates)
        yield step
        if step.kind != "text":
            return
        said += step.token


async def _forced(predictor: Predictor, candidates: tuple[Candidate, ...], token: str) -> NextStep:
    """The candidate that is meant: the very token, else the likeliest that differs only in blanks around it; else the text itself."""
    named = [each for each in candidates if each.kind != "part"]
    same = [each for each in named if each.token == token] or [each for each in named if each.token.strip() == token.strip() != ""]
    if same:
        return NextStep(token=same[0].token, logprob=same[0].logprob, candidates=candidates, kind=same[0].kind, forced=True)
    if token == END:
        return NextStep(token=END, logprob=None, candidates=candidates, kind="end", forced=True, missing=1)
    tokens = await predictor.length(token)
    return NextStep(token=token, logprob=None, candidates=candidates, forced=True, tokens=tokens, missing=tokens)


async def _likeliest(predictor: Predictor, said: str, candidates: tuple[Candidate, ...]) -> NextStep:
    if not candidates:  # nothing was sent and nothing told
        return NextStep(token=END, logprob=None, kind="end", missing=1)
    best = candidates[0]
    if best.kind == "part":
        for tokens in range(2, LONGEST_CHARACTER + 1):
            found = await predictor.character(said, tokens=tokens)
            if found is not None:
                known = best.logprob + found.logprob
                return NextStep(token=found.token, logprob=known, candidates=candidates, tokens=tokens, missing=tokens - 2)
    return NextStep(token=best.token, logprob=best.logprob, candidates=candidates, kind=best.kind)


def _ended(step: NextStep) -> FinishReason:
    return {"text": FinishReason.LENGTH, "end": FinishReason.STOP, "part": FinishReason.INCOMPLETE}[step.kind]


# --- strategies


async def decoded(predictor: Predictor, how: How) -> AsyncGenerator[Decoded]:
    """What each strategy makes of the same prompt, as it is ready."""
    ways = {"greedy": _greedy, "sample": _sampled, "beam": _beam}
    for strategy in dict.fromkeys(how.strategies):
        yield await ways[strategy](replace(predictor), how)  # each counts its own calls


async def _greedy(predictor: Predictor, how: How) -> Decoded:
    said = Hypothesis()
    reason = FinishReason.LENGTH
    try:
        async with aclosing(walk(predictor)) as steps:
            async for step in steps:
                if step.kind == "part" or said.tokens + step.tokens > how.max_tokens:
                    break
                said = Hypothesis(
                    text=said.text if step.kind == "end" else said.text + step.token, logprob=said.logprob + (step.logprob or 0.0),
                    tokens=said.tokens + step.tokens, missing=said.missing + step.missing, ended=step.kind == "end",
                )  # fmt: skip
                if said.tokens >= how.max_tokens:
                    break
    except PromptTooLong:
        if not said.tokens:
            raise
        reason = FinishReason.CONTEXT_FULL
    return _result("greedy", said, predictor, how, reason)


async def _sampled(predictor: Predictor, how: How) -> Decoded:
    """The daemon draws; its end, of which it tells nothing, is asked for afterwards."""
    options = Options(
        temperature=how.temperature, top_k=how.top_k, top_p=how.top_p, min_p=how.min_p, seed=how.seed, repeat_penalty=1.0,
        logprobs=True,
    )  # fmt: skip
    room = predictor.loaded.window - (await predictor.prompt()).count - 2  # a begin and an end that the daemon may add
    event = await predictor.asked("", options, tokens=max(1, min(how.max_tokens, room)))
    told = logprobs_of(event)
    if not told:
        await predictor.after("")  # which says why, where nothing can be told
    tokens = max(wire.usage_of(event).completion_tokens or 0, len(told))
    said = Hypothesis(
        text=wire.text_of(event)[0], logprob=sum(each.logprob for each in told), tokens=tokens, missing=tokens - len(told),
        ended=event.get("done_reason") == "stop",
    )  # fmt: skip
    if said.ended and said.missing:
        end = next((each for each in await predictor.after(said.text) if each.kind == "end"), None)
        said = replace(said, logprob=said.logprob + end.logprob, missing=said.missing - 1) if end else said
    cut = FinishReason.CONTEXT_FULL if room < how.max_tokens else FinishReason.LENGTH
    return _result("sample", said, predictor, how, cut if event.get("done") is True else FinishReason.INCOMPLETE)


async def _beam(predictor: Predictor, how: How) -> Decoded:
    beam = Beam(width=how.beam_width, max_tokens=how.max_tokens, length_penalty=how.length_penalty)
    reason = FinishReason.LENGTH
    try:
        while beam.live:
            jobs = [partial(_following, predictor, one) for one in beam.live]
            beam.advance(await predictor.client.runtime.together(jobs))
    except PromptTooLong:
        if not beam.ranked()[0].tokens:
            raise
        reason = FinishReason.CONTEXT_FULL
    best, *others = beam.ranked()
    return replace(_result("beam", best, predictor, how, reason), hypotheses=(best, *others))


async def _following(predictor: Predictor, one: Hypothesis) -> Sequence[Candidate]:
    """What may follow a hypothesis: one request, for the next token or for one token more of a character."""
    if not one.part:
        return await predictor.after(one.text)
    found = await predictor.character(one.text, tokens=one.part + 1)
    return () if found is None else (found,)


def _result(strategy: Strategy, said: Hypothesis, predictor: Predictor, how: How, otherwise: FinishReason) -> Decoded:
    return Decoded(
        strategy=strategy, text=said.text, logprob=said.logprob, tokens=said.tokens, calls=predictor.calls, missing=said.missing,
        score=said.score(how.length_penalty), finish_reason=FinishReason.STOP if said.ended else otherwise,
    )  # fmt: skip


def _several(given: Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _whole(name: str, value: int, *, least: int = 1, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise UsageError(
            detail=f"{name} cannot be {value}", detail_zh=f"{name} 不能为 {value}",
            fix=f"give a whole number from {least} to {most}", fix_zh=f"请使用 {least} 到 {most} 之间的整数",
        )  # fmt: skip


def _within(name: str, value: float, *, least: float = 1, most: float) -> None:
    if not least <= value <= most:
        raise UsageError(
            detail=f"{name} cannot be {value}", detail_zh=f"{name} 不能为 {value}",
            fix=f"give a number from {least} to {most}", fix_zh=f"请使用 {least} 到 {most} 之间的数字",
        )  # fmt: skip
