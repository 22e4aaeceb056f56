"""How much memory a model takes at a given context, and whether this machine has it.

    needed   = weights + KV cache + overhead
    KV cache = 2 (K and V) x layers x KV heads x head size x 2 bytes (f16) x context x slots
    overhead = 512 x 4 bytes x (vocabulary + 8 x embedding) + 512 x 8 bytes x context + 200 MB

The first is how transformers keep what they have read; llama3 at 8192: 2 x 32 x 8 x 128 x 2 x 8192 = 1 GiB. The
overhead is the working memory of llama.cpp for a batch of 512 tokens - the logits, a few layers wide, the attention
mask - and a flat sum for the program. Measured on a real daemon (0.32.15, no graphics card): a model of 64 million
parameters at 8192 had a KV cache of 80.00 MiB (computed: 80 MiB) and 52 MiB of working memory (computed: 45 MiB).
A model with a sliding window, such as gemma3, takes less than this: the figure is a bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from orchestra.instruments.machine import Machine
from orchestra.model.window import context_length, section

BATCH = 512
PROGRAM = 200 * 10**6
VOCABULARY = 152_064  # where a model does not say: that of the largest common tokenizers but Gemma's
Verdict = Literal["fits", "tight", "too big", "unknown"]
# Up to here a model has the graphics card to itself; the rest is for the screen and for others.
OF_VRAM, OF_MEMORY = 0.95, 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What of a model's build decides on its memory; 0 = not said."""

    layers: int = 0
    kv_heads: int = 0
    head_size: int = 0
    embedding: int = 0
    vocabulary: int = 0
    context: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes that a model takes with a window of `context` tokens in each of `slots` slots."""

    weights: int
    kv_cache: int
    overhead: int
    context: int
    slots: int = 1

    @property
    def needed(self) -> int:
        """All of it."""
        return self.weights + self.kv_cache + self.overhead


def shape_of(facts: dict[str, Any]) -> Shape:
    """The build of a model, from `model_info` of the daemon's `show`."""
    info = section(facts, "model_info")
    kind = str(info.get("general.architecture", ""))

    def number(name: str) -> int:
        value = info.get(f"{kind}.{name}")
        return value if isinstance(value, int) and 0 < value < 2**40 else 0

    heads, embedding = number("attention.head_count"), number("embedding_length")
    return Shape(
        layers=number("block_count"),
        kv_heads=number("attention.head_count_kv") or heads,  # a list, one for each layer, is not shown: then the bound
        head_size=number("attention.key_length") or (embedding // heads if heads else 0),
        embedding=embedding,
        vocabulary=number("vocab_size"),
        context=context_length(facts),
    )


def kv_cache(shape: Shape, context: int, slots: int = 1) -> int:
    """Bytes of the cache of keys and values, at 2 bytes a number."""
    return 2 * shape.layers * shape.kv_heads * shape.head_size * 2 * context * slots


def footprint(weights: int, shape: Shape, context: int, slots: int = 1) -> Footprint:
    """What a model of `weights` bytes takes; a context beyond the model's own is cut to it, as the daemon does."""
    context = min(context, shape.context) if shape.context else context
    wide = (shape.vocabulary or VOCABULARY) + 8 * shape.embedding
    overhead = BATCH * 4 * wide + BATCH * 8 * context + PROGRAM
    return Footprint(weights=weights, kv_cache=kv_cache(shape, context, slots), overhead=overhead, context=context, slots=slots)


def verdict(needed: int, machine: Machine, *, loaded: bool = False) -> Verdict:
    """Whether the machine can run what needs that many bytes.

    "fits": on the graphics card, or without one in the memory that is free now. "tight": it runs, but in part beside
    the card and slower, or only when other programs are closed. "unknown": the machine does not say what it has.
    """
    if loaded:
        return "fits"
    if not machine.total and not machine.vram:
        return "unknown"
    if machine.vram:
        if needed <= machine.vram * OF_VRAM:
            return "fits"
        whole = machine.total if machine.unified else machine.vram + machine.total
        return "tight" if needed <= whole * OF_MEMORY else "too big"
    if needed <= min(machine.available or machine.total, machine.total * OF_MEMORY):
        return "fits"
    return "tight" if needed <= machine.total * OF_MEMORY else "too big"
