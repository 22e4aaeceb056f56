"""What `next` does: the tokens that may follow a text, with bars, one choice after another; how sure a model was of an answer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from orchestra.cli import words
from orchestra.cli.answering import at_work, named_model
from orchestra.cli.outcome import Wish
from orchestra.cli.prediction_page import headline, label, percent, prediction_page, shown
from orchestra.cli.running import complete
from orchestra.cli.tables import width
from orchestra.cli.terminal import as_line, colourful, tell, write
from orchestra.cli.tokens import strip, visible
from orchestra.errors import OrchestraError
from orchestra.instruments import pages
from orchestra.model.messages import FinishReason
from orchestra.model.prediction import Candidate, NextStep, Prediction

BAR, EIGHTHS = 24, " ▏▎▍▌▋▊▉"
LEVELS = "▁▂▃▄▅▆▇█"
_WARMTH = (210, 216, 222, 223, 229, 193, 157, 120)  # of 256 colours: red, where it was a guess, to green
_UNKNOWN, _UNTOLD = 250, "?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked of `next`; `heat` shows the answer alone, each token by how likely it was; `html` is a file to write."""

    model: str = ""
    top: int = 10
    steps: int | None = None
    choose: Sequence[str] = ()
    instruct: bool = False
    heat: bool = False
    html: str = ""
    window: int | None = None


def show_next(prompt: str, asked: Asked, wish: Wish) -> None:
    """The steps as they are made; with --json one object. What was made before Ctrl-C is kept, on the page too."""
    path = pages.writable(asked.html) if asked.html else None

    async def main() -> None:
        whole: Prediction | None = None
        try:
            async with at_work(window=asked.window) as (orchestra, patience):
                model = await named_model(orchestra, "chat", asked.model, wish)
                patience.observe("reading")
                parts = orchestra.next_stream(
                    prompt, model=model, top=asked.top, steps=asked.steps, choose=asked.choose, instruct=asked.instruct
                )
                async with aclosing(parts):
                    async for part in parts:
                        patience.observe("writing")
                        first, whole = whole is None, _with(whole, part)
                        if not wish.json:
                            _show(part, whole, asked, first=first)
        except asyncio.CancelledError:
            if whole is not None:
                whole = replace(whole, finish_reason=FinishReason.CANCELLED)
                _left(whole, wish)
            raise
        except OrchestraError as error:
            if whole is not None:
                error.reply = error.reply or as_object(whole)
            raise
        finally:
            if path is not None and whole is not None and whole.steps:
                pages.save(path, prediction_page(prompt, whole))
        if whole is not None:
            _ended(whole, asked, wish)

    complete(main())


def _with(whole: Prediction | None, part: NextStep | Prediction) -> Prediction:
    if isinstance(part, Prediction):
        return part
    assert whole is not None, "a stream of steps begins with its prompt"
    return replace(whole, steps=(*whole.steps, part), calls=whole.calls + part.calls)


def _left(whole: Prediction, wish: Wish) -> None:
    if wish.json:
        write(as_line(as_object(whole)) + "\n")
    else:
        tell("\n" + words.say("stopped; the steps above were measured", "已停止；以上步骤已完成"))


def as_object(whole: Prediction) -> dict[str, Any]:
    """What `--json` prints. A log-probability that nobody told is null, and the step says how many tokens are `missing`."""
    return {
        "steps": [_step(step) for step in whole.steps],
        "model": whole.model,
        "prompt": [token.text for token in whole.prompt.tokens],
        "text": whole.text,
        "finish_reason": whole.finish_reason,
        "calls": whole.calls,
    }


def _step(step: NextStep) -> dict[str, Any]:
    told: dict[str, Any] = {
        "token": step.token,
        "logprob": step.logprob,
        "candidates": [{"token": each.token, "logprob": each.logprob, "probability": each.probability} for each in step.candidates],
    }
    return {**told, "missing": step.missing} if step.missing else told


# --- for people


def _show(part: NextStep | Prediction, whole: Prediction, asked: Asked, *, first: bool) -> None:
    if isinstance(part, Prediction):
        if not first:
            return
        if not part.prompt.exact:
            tell(words.say(f"the vocabulary of {part.model} cannot be rebuilt here: the prompt's tokens are not shown",
                           f"无法在此重建 {part.model} 的词表：不显示提示词的 token"))  # fmt: skip
            return
        count = len(part.prompt.tokens)
        tell(words.say(f"the prompt as the model reads it, {count} tokens:", f"模型读到的提示词，共 {count} 个 token："))
        write(strip(part.prompt.tokens, tinted=colourful(sys.stdout)) + "\n")
    elif not asked.heat:
        write("\n" + "\n".join(drawn(part, len(whole.steps), tinted=colourful(sys.stdout))) + "\n")


def drawn(step: NextStep, number: int, *, tinted: bool) -> list[str]:
    """One step: its choice, then each candidate with its probability, a bar and its log-probability."""
    share, length, faint, plain = ("\x1b[36m", "\x1b[34m", "\x1b[2m", "\x1b[0m") if tinted else ("", "", "", "")
    lines = [f"{number}. {headline(step)}"]
    names = [label(each.token, each.kind) for each in step.candidates]
    others = words.say("all others", "其余所有")
    room = max(map(width, [others, *names]))
    taken = _place(step)
    for place, (each, name) in enumerate(zip(step.candidates, names, strict=True)):
        mark = "▸" if place == taken else " "
        chance = percent(each.probability)
        figures = f"{share}{chance:>7}{plain}  {length}{bar(each.probability):{BAR}}{plain}  {faint}{each.logprob:8.3f}{plain}"
        lines.append(f" {mark} {name}{' ' * (room - width(name))}  {figures}")
    if step.candidates:
        lines.append(f"   {others}{' ' * (room - width(others))}  {share}{percent(step.rest):>7}{plain}")
    return lines


def _place(step: NextStep) -> int:
    """Which candidate was taken; -1 where it is not among them. A whole character began with the likeliest."""
    if step.tokens > 1 and not step.forced:
        return 0
    same: list[Candidate] = [each for each in step.candidates if (each.token, each.logprob) == (step.token, step.logprob)]
    return step.candidates.index(same[0]) if same else -1


def bar(probability: float) -> str:
    """A bar of at most `BAR` places, to an eighth of one."""
    eighths = round(probability * BAR * 8)
    return "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")


def heat(steps: Sequence[NextStep], *, tinted: bool) -> str:
    """The tokens of an answer by how likely each was: by colour, or with a column after each where there is none."""
    parts = []
    for step in steps:
        text = visible(shown(step.token, step.kind))
        sure = None if step.probability is None else min(len(LEVELS) - 1, int(step.probability * len(LEVELS)))
        if tinted:
            parts.append(f"\x1b[30;48;5;{_UNKNOWN if sure is None else _WARMTH[sure]}m{text}\x1b[0m")
        else:
            parts.append(text + (_UNTOLD if sure is None else LEVELS[sure]))
    return "".join(parts)


def _ended(whole: Prediction, asked: Asked, wish: Wish) -> None:
    if wish.json:
        write(as_line(as_object(whole)) + "\n")
        return
    if len(whole.steps) > 1 or asked.heat:
        write("\n" + heat(whole.steps, tinted=colourful(sys.stdout)) + "\n")
        if not colourful(sys.stdout):
            tell(words.say("after each token how likely it was: ▁ hardly … █ sure, ? not told", "各 token 之后为其概率：▁ 很低 … █ 几乎确定，? 未给出"))
        else:
            tell(words.say("red was a guess, green was sure, grey is not told", "红色为猜测，绿色为确信，灰色为未给出"))
    if whole.finish_reason is not FinishReason.LENGTH and (line := words.ending(whole.finish_reason.value)):
        tell(line)
