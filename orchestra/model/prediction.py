"""What a model expects next: the likeliest tokens after a text, with the probabilities that it gives them.

The daemon tells them since 0.12.11 (`logprobs`), as natural logarithms of the bare distribution: before temperature,
penalties and grammars. But it tells them only of text that it sends, and an end, half a character, or what may begin a stop
text is not sent. So each request here asks for one token of a format that knows a single word, `0`: that is always sent,
and with it the whole distribution, whose first token is what the model would have said by itself.

The daemon takes texts, not tokens: what was said before is cut into tokens anew each time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestra.errors import DaemonTooOld, EmptyReply, FirstTokenTimeout, ModelUnsupported, UsageError
from orchestra.model import wire
from orchestra.model.client import Client
from orchestra.model.connection import shown
from orchestra.model.messages import FinishReason, Message, Options
from orchestra.model.rendition import shown_by_daemon
from orchestra.model.tokens import Tokens, most_tokens
from orchestra.model.tokens import shown as readable
from orchestra.model.window import Loaded
from orchestra.request import Broken

MOST_CANDIDATES = 20  # the daemon's own limit
LOGPROBS_SINCE = "0.12.11"
END = "<end>"
BARE = Options(temperature=0.0, repeat_penalty=1.0, presence_penalty=0.0, frequency_penalty=0.0, logprobs=True)
LONGEST_CHARACTER = 4  # UTF-8 bytes, each of which may be a token
_ONE_WORD = {"enum": [0]}
_BROKEN = "\ufffd"

Kind = Literal["text", "end", "part"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One token that may come next. `logprob` is a natural logarithm, before temperature and penalties.

    `kind` "end": a control token, which the daemon does not name; after an answer that is its end. `kind` "part": bytes that
    are no whole character.
    """

    token: str
    logprob: float
    kind: Kind = "text"

    @property
    def probability(self) -> float:
        """From 0 to 1."""
        return min(1.0, math.exp(self.logprob))


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """One choice: what was said, and what could have been, likeliest first.

    A character may be several of the model's `tokens`. `missing` of them are not in `logprob`, which is then the most that it
    can be: those in the middle of a character; a text that was `forced` and is none of the likeliest, whose `logprob` is None.
    `calls` are the requests that it took.
    """

    token: str
    logprob: float | None
    candidates: tuple[Candidate, ...] = ()
    kind: Kind = "text"
    forced: bool = False
    tokens: int = 1
    missing: int = 0
    calls: int = 1

    @property
    def probability(self) -> float | None:
        """From 0 to 1; None where not all of it is told."""
        return None if self.logprob is None or self.missing else min(1.0, math.exp(self.logprob))

    @property
    def rest(self) -> float:
        """The probability of all that are not among the candidates, from 0 to 1."""
        return max(0.0, 1 - math.fsum(each.probability for each in self.candidates))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A text and how a model goes on from it, one choice after another; `calls` counts the requests that it took."""

    model: str
    prompt: Tokens
    steps: tuple[NextStep, ...] = ()
    finish_reason: FinishReason = FinishReason.LENGTH
    calls: int = 0

    @property
    def text(self) -> str:
        """What was said, without the prompt."""
        return "".join(step.token for step in self.steps if step.kind == "text")


@dataclass(slots=True, kw_only=True)
class Predictor:
    """Asks one loaded model what follows a text and what was said since; `head` stands before it, with the template's control tokens.

    `read` are the tokens of each prompt, by the daemon's count.
    """

    client: Client
    model: str
    loaded: Loaded
    head: str
    text: str
    read: list[int] = field(default_factory=list, init=False)

    @property
    def calls(self) -> int:
        """The requests that were answered."""
        return len(self.read)

    async def prompt(self) -> Tokens:
        """The prompt as the model reads it, without a begin-of-text that the daemon puts before it. Raises `PromptTooLong`."""
        read = (await self.client.counter(self.model)).read(self._sent(""), model=self.model)
        if read.exact and self.loaded.told and read.count > self.loaded.window:
            raise wire.too_long(read.count, self.loaded.window, self._whom())
        return read

    async def length(self, text: str) -> int:
        """The tokens of a text by itself; 1, the least, where the vocabulary is not known."""
        read = (await self.client.counter(self.model)).read(text, model=self.model)
        return max(1, read.count) if read.exact else 1

    async def after(self, said: str) -> tuple[Candidate, ...]:
        """The likeliest tokens, the first first; empty where they are not told. Raises `DaemonTooOld`, `ModelUnsupported`."""
        event = await self.asked(said, BARE.over(Options(top_logprobs=MOST_CANDIDATES, format=_ONE_WORD)), tokens=1)
        entries = _entries(event)
        found = candidates_of(entries[0]) if entries else ()
        if not found and wire.text_of(event)[0]:
            raise await self._silent()
        return found

    async def character(self, said: str, *, tokens: int) -> Candidate | None:
        """The whole character that begins with a part, if it is whole after that many tokens; the logprob is its last one's.

        Raises `PromptTooLong` where the window has no room for them: it would be shifted.
        """
        if (needed := max(self.read, default=0) + tokens) > self.loaded.window:
            raise wire.too_long(needed, self.loaded.window, self._whom())
        try:
            entries = _entries(await self.asked(said, BARE, tokens=tokens))
        except EmptyReply:  # bytes that are no character: the daemon breaks off without a word
            return None
        found = _candidate(entries[0]) if entries else None
        return found if found is not None and found.kind == "text" else None

    async def asked(self, said: str, options: Options, *, tokens: int) -> dict[str, Any]:
        """The daemon's whole answer of at most so many tokens. Raises what the daemon means; `PromptTooLong` where it is full."""
        client = self.client
        bounds = wire.Bounds(num_predict=tokens, num_ctx=self.loaded.window if self.loaded.told else None)
        body = wire.inference_body(self.model, "", options, bounds, raw=True)
        body |= {"prompt": self._sent(said), "stream": False}
        if client.settings.keep_alive:
            body["keep_alive"] = wire.keep_alive(client.settings.keep_alive)
        until = time.monotonic() + client.settings.deadline
        patience = client.connection.patience(prompt_tokens=most_tokens(body["prompt"]), deadline=until)
        try:
            async with client.runtime.slot(until):
                event = await client.connection.whole("POST", "/api/generate", body, asked=self._whom(), patience=patience)
        except Broken as broken:
            raise FirstTokenTimeout(model=self.model, seconds=shown(patience.first)) from broken
        self.read.append(wire.usage_of(event).prompt_tokens or 0)
        return event

    def _sent(self, said: str) -> str:
        # as one: a control token's name may begin in the text and end in what was said
        return self.head + wire.neutral(wire.storable(self.text + said))

    def _whom(self) -> wire.Asked:
        return wire.Asked(url=self.client.connection.url, model=self.model, window=self.loaded.window)

    async def _silent(self) -> DaemonTooOld | ModelUnsupported:
        """Why there are no probabilities: a daemon that knows nothing of them does not say so."""
        version = await self.client.version()
        numbers = [int(part) if part.isdigit() else 0 for part in version.partition("-")[0].split(".")]
        if any(numbers) and numbers < [int(part) for part in LOGPROBS_SINCE.split(".")]:
            return DaemonTooOld(version=version, feature="logprobs", needed=LOGPROBS_SINCE)
        return ModelUnsupported(model=self.model, detail="its engine tells no logprobs", detail_zh="其引擎不提供 logprobs")


async def predictor(client: Client, prompt: str, *, model: str, instruct: bool = False) -> Predictor:
    """What asks `model`, loaded, how it goes on from `prompt`: from the text as it is, or as from a question in its template."""
    if not prompt.strip():
        raise UsageError(
            detail="the prompt is empty", detail_zh="提示词为空", fix="give it some text to start from", fix_zh="请输入一些文字"
        )
    loaded = await client.ready(model)
    head, text = "", prompt
    if instruct:
        head, text = await shown_by_daemon(client, model, [Message("user", prompt)], Options(), loaded), ""
    return Predictor(client=client, model=model, loaded=loaded, head=head, text=text)


def candidates_of(entry: dict[str, Any]) -> tuple[Candidate, ...]:
    """The tokens of one entry's `top_logprobs`, likeliest first."""
    found = entry.get("top_logprobs")
    known = [_candidate(each) for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    return tuple(sorted((each for each in known if each is not None), key=lambda each: -each.logprob))


def _entries(event: dict[str, Any]) -> list[dict[str, Any]]:
    found = event.get("logprobs")
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _candidate(entry: dict[str, Any]) -> Candidate | None:
    token, logprob, data = entry.get("token"), entry.get("logprob"), entry.get("bytes")
    if not isinstance(token, str) or not isinstance(logprob, int | float) or isinstance(logprob, bool):
        return None
    if not token:
        return Candidate(token=END, logprob=float(logprob), kind="end")
    if _BROKEN not in token:
        return Candidate(token=token, logprob=float(logprob))
    return Candidate(token=_by_bytes(data) or token, logprob=float(logprob), kind="part")


def _by_bytes(data: Any) -> str:
    """Bytes that are no character, as the tokens of a text are shown; most daemons only say that there are some."""
    given = [byte for byte in data if isinstance(byte, int) and 0 <= byte < 256] if isinstance(data, list) else []
    text = readable(bytes(given))
    return "" if _BROKEN in text else text


def logprobs_of(event: dict[str, Any]) -> Sequence[Candidate]:
    """What an answer of several tokens tells of each piece: of a character that is several tokens only the last one's."""
    return [found for entry in _entries(event) if (found := _candidate(entry)) is not None]
