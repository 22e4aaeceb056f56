"""What `tokens` does: a text as a model reads it."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from orchestra.cli.outcome import Wish
from orchestra.cli.terminal import as_line, colourful, tell, write
from orchestra.cli.words import say
from orchestra.model.tokens import Token, Tokens

# a token that ends a line is shown to do so, and then ends it
_LINE_ENDS = re.compile(r"\r\n|\r|\n")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_TINTS = ("\x1b[30;46m", "\x1b[30;43m")
_PLAIN = "\x1b[0m"


def show_tokens(text: str, *, model: str, wish: Wish) -> None:
    """The pieces in their order, then each with its id and bytes; with --json one object."""
    from orchestra.api import Orchestra

    with Orchestra() as orchestra:
        found = orchestra.tokens(text, model=model)
    if wish.json:
        write(as_line(_plain(found)) + "\n")
        return
    if found.exact:
        write(strip(found.tokens, tinted=colourful(sys.stdout)) + "\n")
        for token in found.tokens:
            write(f"{token.id:>7}  {token.data.hex(' ')}  {visible(token.text)}\n")
        tell(say(f"{found.count} tokens, {len(text)} characters · {found.model}", f"{found.count} 个 token，{len(text)} 个字符 · {found.model}"))
    else:
        write(f"{found.count}\n")
        tell(
            say(
                f"an estimate, rather too high: the vocabulary of {found.model} is not one that can be rebuilt here",
                f"以上为偏高的估计值：无法在此重建 {found.model} 的词表",
            )
        )


def _plain(found: Tokens) -> dict[str, object]:
    tokens = [{"id": token.id, "text": token.text, "bytes": list(token.data)} for token in found.tokens]
    return {"model": found.model, "count": found.count, "exact": found.exact, "tokens": tokens}


def strip(tokens: Sequence[Token], *, tinted: bool) -> str:
    """The text in its pieces: tinted by turns, or with a bar between where there is no colour."""
    pieces = [visible(token.text) for token in tokens]
    if not tinted:
        return "│".join(pieces)
    return "".join(f"{_TINTS[place % 2]}{piece}{_PLAIN}" for place, piece in enumerate(pieces))


def visible(text: str) -> str:
    """A piece on one line; line ends and tabs as signs, what else is not seen, or acts on a terminal, by its bytes."""
    return _UNSEEN.sub(lambda found: f"⟨{found[0].encode().hex(' ')}⟩", _LINE_ENDS.sub("⏎", text).replace("\t", "⇥"))
