"""A few models that are worth having, with the numbers that their makers and Ollama's library give.

Sizes are those of the library's default file, to a tenth of a gigabyte; contexts are at least these. It is a short
list on purpose: each row is known to be true, and whatever else is installed is judged by what the daemon says of it.
"""

from __future__ import annotations

from typing import NamedTuple

from orchestra.instruments.footprint import Shape
from orchestra.instruments.inventory import Kind
from orchestra.model.window import full_name


class Known(NamedTuple):
    """One model of the library. `size` is bytes, `parameters` billions; `languages`: those that it was made for, of zh and en."""

    name: str
    size: int
    parameters: float
    quantization: str
    shape: Shape
    languages: tuple[str, ...] = ("en",)
    kind: Kind = "instruct"
    tools: bool = False


_LLAMA3 = Shape(layers=32, kv_heads=8, head_size=128, embedding=4096, vocabulary=128_256, context=8192)
_LLAMA31 = Shape(layers=32, kv_heads=8, head_size=128, embedding=4096, vocabulary=128_256, context=131_072)
_LLAMA32 = Shape(layers=28, kv_heads=8, head_size=128, embedding=3072, vocabulary=128_256, context=131_072)
_LLAMA32_1B = Shape(layers=16, kv_heads=8, head_size=64, embedding=2048, vocabulary=128_256, context=131_072)
_BOTH = ("zh", "en")


def _qwen3(layers: int, embedding: int, context: int = 40_960) -> Shape:
    return Shape(layers=layers, kv_heads=8, head_size=128, embedding=embedding, vocabulary=151_936, context=context)


def _gemma3(layers: int, kv_heads: int, embedding: int, context: int = 131_072) -> Shape:
    return Shape(layers=layers, kv_heads=kv_heads, head_size=256, embedding=embedding, vocabulary=262_144, context=context)


MB = 10**6
KNOWN = (
    Known("llama3", 4700 * MB, 8.0, "Q4_0", _LLAMA3),
    Known("llama3:text", 4700 * MB, 8.0, "Q4_0", _LLAMA3, kind="base"),
    Known("llama3.1", 4900 * MB, 8.0, "Q4_K_M", _LLAMA31, tools=True),
    Known("llama3.1:8b-text-q4_K_M", 4900 * MB, 8.0, "Q4_K_M", _LLAMA31, kind="base"),
    Known("llama3.2", 2000 * MB, 3.2, "Q4_K_M", _LLAMA32, tools=True),
    Known("llama3.2:1b", 1300 * MB, 1.2, "Q8_0", _LLAMA32_1B, tools=True),
    Known("qwen3:0.6b", 523 * MB, 0.75, "Q4_K_M", _qwen3(28, 1024), _BOTH, tools=True),
    Known("qwen3:1.7b", 1400 * MB, 2.0, "Q4_K_M", _qwen3(28, 2048), _BOTH, tools=True),
    Known("qwen3:4b", 2500 * MB, 4.0, "Q4_K_M", _qwen3(36, 2560), _BOTH, tools=True),
    Known("qwen3:8b", 5200 * MB, 8.2, "Q4_K_M", _qwen3(36, 4096), _BOTH, tools=True),
    Known("qwen3:14b", 9300 * MB, 14.8, "Q4_K_M", _qwen3(40, 5120), _BOTH, tools=True),
    Known("qwen3:32b", 20_000 * MB, 32.8, "Q4_K_M", _qwen3(64, 5120), _BOTH, tools=True),
    Known("gemma3:1b", 815 * MB, 1.0, "Q4_K_M", _gemma3(26, 1, 1152, 32_768)),
    Known("gemma3:4b", 3300 * MB, 4.3, "Q4_K_M", _gemma3(34, 4, 2560), _BOTH),
    Known("gemma3:12b", 8100 * MB, 12.2, "Q4_K_M", _gemma3(48, 8, 3840), _BOTH),
    Known("qwen3-embedding:0.6b", 639 * MB, 0.6, "Q8_0", _qwen3(28, 1024, 32_768), _BOTH, kind="embedding"),
    Known("bge-m3", 1200 * MB, 0.57, "F16", Shape(embedding=1024, vocabulary=250_002, context=8192), _BOTH, kind="embedding"),
)
# Two names of one file.
_ALIASES = {"llama3:8b": "llama3", "llama3.1:8b": "llama3.1", "llama3.2:3b": "llama3.2", "qwen3": "qwen3:8b", "gemma3": "gemma3:4b"}
# Which of the two languages the families speak, by how their names begin; what is not here is not known.
_FAMILIES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("qwen", "deepseek", "glm", "chatglm", "internlm", "minicpm", "baichuan", "gemma3", "bge-m3"), _BOTH),
    (("yi:", "yi-"), _BOTH),
    (("llama2", "llama3", "phi", "tinyllama", "nomic-embed", "all-minilm", "mxbai"), ("en",)),
)


def one_name(model: str) -> str:
    """The name under which a model is listed here, whatever it is called."""
    bare = full_name(model).removesuffix(":latest")
    return _ALIASES.get(bare, bare)


def languages_of(model: str, family: str = "") -> tuple[str, ...]:
    """The languages, of zh and en, that a model was made for; empty = not known."""
    name = model.lower().rpartition("/")[2]
    for prefixes, languages in _FAMILIES:
        if name.startswith(prefixes) or (family not in ("", "llama") and family.startswith(prefixes)):
            return languages
    return ()
