"""What `decode` does: the texts that greedy search, sampling and beam search make of one prompt, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from orchestra.cli import words
from orchestra.cli.answering import at_work, named_model
from orchestra.cli.outcome import Wish
from orchestra.cli.running import complete
from orchestra.cli.tables import table
from orchestra.cli.terminal import as_line, tell, write
from orchestra.cli.tokens import visible
from orchestra.errors import OrchestraError
from orchestra.model.beam import Hypothesis
from orchestra.model.decoding import Decoded, DecodeFields


def show_decoded(prompt: str, *, model: str, instruct: bool, fields: DecodeFields, wish: Wish, window: int | None = None) -> None:
    """The results in one table; with --json one object. Ctrl-C shows those that were ready."""

    penalty = fields.get("length_penalty", 1.0)

    async def main() -> None:
        ready: list[Decoded] = []
        chosen = model
        try:
            async with at_work(window=window) as (orchestra, patience):
                chosen = await named_model(orchestra, "chat", model, wish)
                patience.observe("reading")
                parts = orchestra.decode_stream(prompt, model=chosen, instruct=instruct, **fields)
                async with aclosing(parts):
                    async for part in parts:
                        patience.observe("writing")
                        ready.append(part)
        except asyncio.CancelledError:
            if wish.json or ready:
                _shown(ready, chosen, wish, penalty=penalty)
            if not wish.json:
                tell(words.say("stopped; what was ready is shown", "已停止；已显示完成的部分"))
            raise
        except OrchestraError as error:
            error.reply = error.reply or (as_object(ready, chosen) if ready else None)
            raise
        _shown(ready, chosen, wish, penalty=penalty)

    complete(main())


def as_object(results: Sequence[Decoded], model: str) -> dict[str, Any]:
    """What `--json` prints; tokens that are `missing` are not in a `logprob`."""
    names = ("strategy", "text", "logprob", "tokens", "calls", "missing", "score", "finish_reason")
    return {"results": [{name: getattr(each, name) for name in names} for each in results], "model": model}


def _shown(results: Sequence[Decoded], model: str, wish: Wish, *, penalty: float) -> None:
    if wish.json:
        write(as_line(as_object(results, model)) + "\n")
        return
    sums = (words.say("log-probability", "对数概率"), words.say("score", "得分"), words.say("tokens", "token 数"))
    text = words.say("text", "文本")
    rows = [(each.strategy, *_figures(each, each.score), str(each.calls), _quoted(each.text)) for each in results]
    table((words.say("strategy", "策略"), *sums, words.say("calls", "请求数"), text), rows)
    for each in results:
        if len(each.hypotheses) > 1:
            write("\n")
            beams = [(str(place), *_figures(one, one.score(penalty)), _quoted(one.text)) for place, one in enumerate(each.hypotheses, 1)]
            table((words.say("beam", "束"), *sums, text), beams)
    if any(each.missing for each in results):
        tell(words.say("≤: of some tokens the daemon tells nothing; the sum is the most that it can be", "≤：部分 token 的概率未给出，所示之和为上限"))


def _figures(each: Decoded | Hypothesis, score: float) -> tuple[str, str, str]:
    return f"{'≤ ' if each.missing else ''}{each.logprob:.3f}", f"{score:.3f}", str(each.tokens)


def _quoted(text: str) -> str:
    return f'"{visible(text)}"'
