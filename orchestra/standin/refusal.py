"""How the daemon says no: a status and one line of text, as JSON."""

from __future__ import annotations

import json

TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, "
    "adjust the context length in settings, or use a model with a longer context length"
)
EXCEEDS = "the input length exceeds the context length"
BUSY = "server busy, please try again.  maximum pending requests exceeded"
CRASH = "an error was encountered while running the model: unexpected EOF"
GARBLED = (
    "llama-server chat error: map[code:500 message:The model produced output that does not match the expected "
    "peg-native format type:server_error]"
)
LOOPED = "prediction aborted, token repeat limit reached"


class Refusal(Exception):
    """A request that the daemon turns down. `late` marks what it notices only after a stream was set up.

    Before that it answers with plain JSON; after it with the stream's framing, and once a line is out, as a line.
    """

    def __init__(self, status: int, error: str, *, late: bool = False) -> None:
        super().__init__(error)
        self.status, self.error, self.late = status, error, late


def missing(name: str) -> Refusal:
    """The model is not there, in the words of generate, chat and delete."""
    return Refusal(404, f"model '{name}' not found")


def engine_refusal(message: str, kind: str = "invalid_request_error", code: int = 400, **facts: int) -> Refusal:
    """An error of the engine, which the daemon hands on as JSON inside the error's text."""
    nested = {"error": {"code": code, "message": message, "type": kind, **facts}}
    return Refusal(code, json.dumps(nested, ensure_ascii=False, separators=(",", ":")), late=True)


def exceeds(tokens: int, window: int) -> Refusal:
    """The prompt does not fit, and was not to be cut."""
    return engine_refusal(
        f"request ({tokens} tokens) exceeds the available context size ({window} tokens), try increasing it",
        "exceed_context_size_error",
        n_prompt_tokens=tokens,
        n_ctx=window,
    )
