"""/api/generate and /api/chat: from a request to the lines of an answer."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from orchestra.standin import extract
from orchestra.standin import prompt as prompts
from orchestra.standin.encoding import compact, quoted, stamp
from orchestra.standin.engine import Engine, Token
from orchestra.standin.generation import THOUGHT, Bounds, Generation
from orchestra.standin.library import Library
from orchestra.standin.options import Settings, checked, settle
from orchestra.standin.pieces import Chunk, Pieces
from orchestra.standin.prompt import Prompt, Window
from orchestra.standin.refusal import Refusal, engine_refusal
from orchestra.standin.scheduler import Runner, Scheduler
from orchestra.standin.script import Script, Scripted, spoken
from orchestra.standin.tools import Calls, chosen, mark_of, offered
from orchestra.standin.versions import Profile
from orchestra.standin.voice import Voice
from orchestra.standin.weights import Model

THOUGHTS = {
    "en": "Let me think about what is asked here. The answer should be short and true.",
    "zh": "让我想一想这个问题。回答应该简短而真实。",
}
MOST_THOUGHT = "max"
READING = 1e-5
"""Seconds of work for each token of a prompt that is not in the cache, so that a kept prefix shows in the durations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What the endpoints share."""

    library: Library
    scheduler: Scheduler
    script: Script
    engine: Engine
    profile: Profile
    window: int
    pace: float
    seeds: random.Random
    seeds_lock: threading.Lock

    def settings(self, model: Model, body: Mapping[str, Any]) -> Settings:
        """The options of a request, over those of the model, over the daemon's. Raises `Refusal` (500)."""
        defaults = {"repeat_penalty": self.profile.repeat_penalty, "seed": -1}
        chosen = {**defaults, **checked(model.parameters), **checked(body.get("options", {}))}
        with self.seeds_lock:
            seed = self.seeds.randrange(2**31)
        if chosen["seed"] < 0:
            chosen["seed"] = seed
        shift, reloads = body.get("shift", True), self.profile.has("engine of its own")
        return settle(chosen, window=self.window, longest=model.weights.context, shift=shift, reloads=reloads)


class Inference:
    """One request for an answer. `chat` tells the two endpoints apart where their shapes differ."""

    def __init__(self, house: House, body: Mapping[str, Any], voice: Voice, *, chat: bool) -> None:
        self.house, self.body, self.chat = house, house.profile.heard(body), chat
        self.voice, self.link = voice, voice.link
        self.name = body.get("model", "")
        self.loaded_at = 0.0
        self.tools = offered(self.body.get("tools") or ()) if chat else []
        self.calls: Calls | None = None

    def answer(self) -> None:
        """Answer the request. Raises `Refusal` and `ClientGone`."""
        model = self._admitted()
        keep_alive = self.body.get("keep_alive")
        empty = not self.body.get("messages" if self.chat else "prompt")
        if empty and keep_alive == 0:
            self.house.scheduler.unload(model)
            self.voice.whole(self._event("", done=True, done_reason="unload"))
            return
        settings = self.house.settings(model, self.body)
        with self.house.scheduler.runner(model, settings.load, self.link, keep_alive) as runner:
            self.loaded_at = time.perf_counter()
            finish = self._loaded if empty else self._with(model, settings, runner)
        # The end is told when slot and model are free again: whoever reads it may rely on that.
        finish()

    def _loaded(self) -> None:
        self.voice.whole(self._event("", done=True, done_reason="load"))

    def _admitted(self) -> Model:
        """The model, if it can do what is asked."""
        if not 0 <= self.body.get("top_logprobs", 0) <= 20:
            raise Refusal(400, "top_logprobs must be between 0 and 20")
        if self.chat and not self.name:
            raise Refusal(400, "model is required")
        if self.body.get("think") == MOST_THOUGHT and not self.house.profile.has("thinking at most"):
            raise Refusal(400, f'invalid think value: "{MOST_THOUGHT}" (must be "high", "medium", "low", true, or false)')
        model = self.house.library.need(self.name)
        if self.body.get("raw") and any(self.body.get(field) for field in ("template", "system", "context")):
            raise Refusal(400, "raw mode does not support template, system, or context")
        if "completion" not in model.capabilities:
            raise Refusal(400, f"{quoted(self.name)} does not support {'chat' if self.chat else 'generate'}")
        for field, ability in (("tools", "tools"), ("suffix", "insert")):
            if self.body.get(field) and ability not in model.capabilities:
                raise Refusal(400, f"{model.name.full} does not support {ability}")
        if self.body.get("think") and "thinking" not in model.capabilities:
            raise Refusal(400, f"{quoted(self.name)} does not support thinking")
        return model

    def _with(self, model: Model, settings: Settings, runner: Runner) -> Callable[[], None]:
        words = self.house.engine.vocabulary
        jinja = self.chat and model.template is None
        window = Window(settings=settings, truncate=self.body.get("truncate", True), native=jinja, profile=self.house.profile)
        debug = self.body.get("_debug_render_only", False)
        if self.chat:
            prompt = prompts.chat(model, self.body["messages"], words, window, self.tools)
        else:
            text = prompts.complete(model, self.body, words)
            prompt = Prompt(text=text, tokens=[]) if debug else prompts.fitted(text, words, window)
        if debug:
            shown = self._event("", role="", done=False, _debug_info={"rendered_template": prompt.text})
            return partial(self.voice.whole, shown)
        self._refuse_images()
        with self.house.scheduler.slot(runner, self.link):
            return self._generate(settings, prompt, runner, model)

    def _refuse_images(self) -> None:
        messages = self.body.get("messages") or ()
        if self.body.get("images") or any(message.get("images") for message in messages):
            raise engine_refusal("Multimodal data provided, but model does not support multimodal requests.")

    def _generate(self, settings: Settings, prompt: Prompt, runner: Runner, model: Model) -> Callable[[], None]:
        reply = self.house.script.next()
        began = time.perf_counter_ns()
        cached = runner.cached(prompt.tokens)
        self.link.pause((len(prompt.tokens) - cached) * READING)
        thinks = "thinking" in model.capabilities and self._thinking()
        tokens = self._with_thoughts(reply, model, settings, prompt, thinks=thinks)
        pieces = Pieces(
            settings.stop, logprobs=self.body.get("logprobs", False), top=self.body.get("top_logprobs", 0), thinking=thinks
        )
        bounds = self._bounds(settings, prompt, runner, model)
        pace = self.house.pace if reply is None or reply.pace is None else reply.pace
        generation = Generation(tokens, pieces, bounds, end=reply.end if reply else "stop", pace=pace)
        read = time.perf_counter_ns() - began
        entries: list[dict[str, Any]] = []
        if self.tools:
            self.calls = Calls(self.tools, mark_of(model.template or ""), random.Random(settings.sampling.seed))
        with closing(generation.chunks(self.link)) as chunks:
            for chunk in chunks:
                self._tell(chunk, entries)
        runner.prompts.append((*prompt.tokens, *self.house.engine.vocabulary.encode(generation.text)))
        return partial(self._finish, generation, prompt, (cached, read), entries)

    def _tell(self, chunk: Chunk, entries: list[dict[str, Any]]) -> None:
        """A piece of a stream; what is told as a whole is told at the end."""
        text, calls = chunk.text, list[dict[str, Any]]()
        if self.calls is not None and not chunk.thinking:
            text, calls = self.calls.push(text)
        if not self.body.get("stream", True):
            entries += chunk.logprobs
        elif text or calls or chunk.logprobs:
            extra: dict[str, Any] = {"logprobs": chunk.logprobs} if chunk.logprobs else {}
            said = ("", text) if chunk.thinking else (text, "")
            self.voice.piece(self._event(*said, calls=[] if text else calls, done=False, **extra))

    def _bounds(self, settings: Settings, prompt: Prompt, runner: Runner, model: Model) -> Bounds:
        native = self.chat and model.template is None
        return Bounds(
            most=settings.most,
            room=None if settings.shift else settings.load.num_ctx - len(prompt.tokens),
            equal=0 if native else self.house.profile.most_equal,
            outcry=self.house.profile.has("loops are errors"),
            native=native,
            crashed=lambda: runner.killed,
        )

    def _thinking(self) -> bool:
        wish = self.body.get("think")
        return self.house.profile.has("thinking by default") if wish is None else bool(wish)

    def _with_thoughts(
        self, reply: Scripted | None, model: Model, settings: Settings, prompt: Prompt, *, thinks: bool
    ) -> Iterator[Token]:
        """The tokens of the answer, after those of what a model that thinks says before."""
        said = reply.tokens() if reply else self._tokens(model, settings, prompt)
        if not thinks and not model.weights.tags:
            return said
        thoughts = spoken(reply.thinking if reply else THOUGHTS[extract.language(extract.last_turn(prompt.text))])
        if thinks:
            return itertools.chain(thoughts, [THOUGHT], said)
        return itertools.chain(spoken("<think>\n"), thoughts, spoken("\n</think>\n\n"), said)

    def _tokens(self, model: Model, settings: Settings, prompt: Prompt) -> Iterator[Token]:
        """The engine's tokens; the first is drawn at once, so that what it cannot do is refused before a line is sent."""
        asked = self.body.get("format") or None
        wanted = asked or chosen(self.tools, random.Random(settings.sampling.seed))
        if wanted is not None and wanted != "json" and not isinstance(wanted, dict):
            raise Refusal(500, f'invalid format: {quoted(compact(wanted))}; expected "json" or a valid JSON Schema object')
        if model.weights.says:
            return self._same(model.weights.says)
        sampling = replace(settings.sampling, top_logprobs=self.body.get("top_logprobs", 0))
        try:
            tokens = self.house.engine.generate(prompt.tokens, sampling, text=prompt.text, format=wanted)
            first = next(tokens)
        except ValueError:
            if asked is None:  # arguments that its model does not know how to write: it says something instead
                return self.house.engine.generate(prompt.tokens, sampling, text=prompt.text)
            reason = f"JSON schema conversion failed:\nUnrecognized schema: {compact(wanted)}"
            raise engine_refusal(f"Field 'json_schema': \"json_schema\": {reason}") from None
        return itertools.chain([first], tokens)

    def _same(self, text: str) -> Iterator[Token]:
        (number,) = self.house.engine.vocabulary.encode(text)
        data = text.encode()
        return itertools.repeat(Token(number, data, 0.0, ((number, data, 0.0),)))

    def _finish(self, generation: Generation, prompt: Prompt, read: tuple[int, int], entries: list[dict[str, Any]]) -> None:
        """`read`: how many tokens of the prompt were cached, and the nanoseconds that the others took."""
        extra: dict[str, Any] = {"logprobs": entries} if entries else {}
        streaming = self.body.get("stream", True)
        text, thinking = ("", "") if streaming else (generation.text, generation.thinking)
        calls: list[dict[str, Any]] = []
        if self.calls is not None:
            text, calls = (self.calls.rest(), []) if streaming else (self.calls.text + self.calls.rest(), self.calls.found)
        if generation.reason is None:
            if streaming:
                self.voice.end()
            else:
                self.voice.whole(self._event(text, thinking, calls=calls, done=False, **extra))
            return
        words = self.house.engine.vocabulary
        context: dict[str, Any] = {}
        if not (self.chat or self.body.get("raw")):
            context["context"] = words.encode(prompt.text + generation.text)
        counts: dict[str, Any] = {"prompt_eval_count": len(prompt.tokens)}
        if not self.house.profile.counts_cached:
            counts["prompt_eval_count"] -= read[0]
        if self.house.profile.has("prompt_eval_cached_count"):
            counts["prompt_eval_cached_count"] = read[0]
        last = self._event(
            text,
            thinking,
            calls=calls,
            done=True,
            done_reason=generation.reason,
            **context,
            total_duration=int((time.perf_counter() - self.link.arrived) * 1e9),
            load_duration=int((self.loaded_at - self.link.arrived) * 1e9),
            **counts,
            prompt_eval_duration=max(read[1] // 1000, 1) * 1000,
            eval_count=generation.count,
            eval_duration=generation.duration,
            **extra,
        )
        if streaming:
            self.voice.end(last)
        else:
            self.voice.whole(last)

    def _event(
        self, text: str, thinking: str = "", *, role: str = "assistant", calls: Sequence[Mapping[str, Any]] = (), **rest: Any
    ) -> dict[str, Any]:
        thought: dict[str, Any] = {"thinking": thinking} if thinking else {}
        if calls:
            thought["tool_calls"] = list(calls)
        said = {"message": {"role": role, "content": text, **thought}} if self.chat else {"response": text, **thought}
        return {"model": self.name, "created_at": stamp(), **said, **rest}
