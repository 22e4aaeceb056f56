"""1. Talking to the model, for Python: what needs neither a store nor personas, waiting and not waiting."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Unpack

from orchestra.model import catalog
from orchestra.model.catalog import ModelCard, Progress, Purpose
from orchestra.model.client import Client
from orchestra.model.decoding import Choices, Decoded, DecodeFields, How, decoded, predicted
from orchestra.model.messages import OptionFields, Options, Piece, Reply, gathered
from orchestra.model.prediction import NextStep, Prediction, Predictor, predictor
from orchestra.model.rendition import completion
from orchestra.model.tokens import Tokens
from orchestra.runtime import blocking, stepping


class AsyncModels:
    """1. Talking to the model: what needs neither a store nor personas."""

    client: Client

    async def generate(
        self, prompt: str, *, model: str = "", base: bool | None = None, options: Options | None = None, **fields: Unpack[OptionFields]
    ) -> Reply:
        """One completion, whole. A base model gets the prompt as it is, an instruct model in its template."""
        stream = self.stream(prompt, model=model, base=base, options=options, **fields)
        return gathered([piece async for piece in stream])

    async def stream(
        self, prompt: str, *, model: str = "", base: bool | None = None, options: Options | None = None, **fields: Unpack[OptionFields]
    ) -> AsyncGenerator[Piece]:
        """One completion as it comes."""
        model = await self.model_for("base" if base else "chat", model)
        asked = await completion(self.client, prompt, model=model, base=base, options=Options(**fields).over(options))
        assert isinstance(asked.subject, str), "a completion is of a text"
        async with aclosing(self.client.complete(asked.subject, model=model, options=asked.options, raw=asked.raw)) as pieces:
            async for piece in pieces:
                yield piece

    async def embed(self, texts: Sequence[str], *, model: str) -> list[list[float]]:
        """One vector for each text."""
        return await self.client.embed(model, texts)

    async def model_for(self, purpose: Purpose = "chat", named: str = "") -> str:
        """The model that answers; raises `NoModel` where there is none."""
        return await catalog.chosen(self.client, named, purpose=purpose)

    async def models(self) -> list[ModelCard]:
        """The installed models."""
        return await catalog.models(self.client)

    async def pull(self, model: str) -> AsyncGenerator[Progress]:
        """Bring a model in, step by step."""
        async with aclosing(catalog.pull(self.client, model)) as steps:
            async for step in steps:
                yield step

    async def tokens(self, text: str, *, model: str = "") -> Tokens:
        """How a model cuts a text: its tokens with their ids and bytes, or, of an unknown vocabulary, a number rather too high."""
        model = await self.model_for("chat", model)
        return (await self.client.counter(model)).read(text, model=model)

    async def next(
        self, prompt: str, *, model: str = "", top: int = 10, steps: int | None = None, choose: Sequence[str] = (), instruct: bool = False
    ) -> Prediction:  # fmt: skip
        """How likely a model finds each token after a text, step by step; `choose` forces the first, without `steps` one follows.

        The text is gone on from as it is; with `instruct` it is asked as a question, in the model's template. Log-probabilities
        are natural, before temperature and penalties. Raises `DaemonTooOld` and `ModelUnsupported` where they are not told.
        """
        whole: Prediction | None = None
        async for part in self.next_stream(prompt, model=model, top=top, steps=steps, choose=choose, instruct=instruct):
            whole = part if isinstance(part, Prediction) else whole
        assert whole is not None, "a prediction is what a stream of steps ends with"
        return whole

    async def next_stream(
        self, prompt: str, *, model: str = "", top: int = 10, steps: int | None = None, choose: Sequence[str] = (), instruct: bool = False
    ) -> AsyncGenerator[NextStep | Prediction]:  # fmt: skip
        """The same as it is made: the prompt's tokens (a `Prediction` without steps), each step, at last the whole."""
        choices = Choices(top=top, steps=steps, choose=choose)
        asked = await self._predictor(prompt, model, instruct=instruct)
        async with aclosing(predicted(asked, choices)) as parts:
            async for part in parts:
                yield part

    async def decode(
        self, prompt: str, *, model: str = "", instruct: bool = False, **fields: Unpack[DecodeFields]
    ) -> list[Decoded]:  # fmt: skip
        """What greedy search, sampling and beam search make of the same prompt, with the log-probability of each text."""
        parts = self.decode_stream(prompt, model=model, instruct=instruct, **fields)
        return [each async for each in parts]

    async def decode_stream(
        self, prompt: str, *, model: str = "", instruct: bool = False, **fields: Unpack[DecodeFields]
    ) -> AsyncGenerator[Decoded]:  # fmt: skip
        """The same, each strategy as it is ready."""
        how = How(**fields)
        asked = await self._predictor(prompt, model, instruct=instruct)
        async with aclosing(decoded(asked, how)) as parts:
            async for part in parts:
                yield part

    async def _predictor(self, prompt: str, model: str, *, instruct: bool) -> Predictor:
        return await predictor(self.client, prompt, model=await self.model_for("chat", model), instruct=instruct)


class Models:
    """The same for code without an event loop."""

    generate = blocking(AsyncModels.generate)
    stream = stepping(AsyncModels.stream)
    embed = blocking(AsyncModels.embed)
    tokens = blocking(AsyncModels.tokens)
    next = blocking(AsyncModels.next)
    next_stream = stepping(AsyncModels.next_stream)
    decode = blocking(AsyncModels.decode)
    decode_stream = stepping(AsyncModels.decode_stream)
    model_for = blocking(AsyncModels.model_for)
    models = blocking(AsyncModels.models)
    pull = stepping(AsyncModels.pull)
