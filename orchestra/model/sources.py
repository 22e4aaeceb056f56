"""Where a model can be had: Ollama's own library, ModelScope, Hugging Face; and its name there.

The last two hold GGUF files that the daemon takes by their full name (`modelscope.cn/Qwen/Qwen3-8B-GGUF`). For a few
models the short name is known here; for all others the repository is named by whoever pulls.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from orchestra.errors import UsageError
from orchestra.model.window import full_name

Origin = Literal["library", "modelscope", "hf"]
HOSTS: dict[Origin, str] = {"library": "", "modelscope": "modelscope.cn", "hf": "hf.co"}
_EVERYWHERE: tuple[Origin, ...] = ("modelscope", "hf")


class Place(NamedTuple):
    """What the daemon is asked to pull, and the short name that it gets afterwards (empty = none)."""

    full: str
    short: str = ""


def _known() -> dict[str, dict[Origin, str]]:
    table: dict[str, dict[Origin, str]] = {
        "llama3": {"modelscope": "LLM-Research/Meta-Llama-3-8B-Instruct-GGUF", "hf": "QuantFactory/Meta-Llama-3-8B-Instruct-GGUF"},
        "llama3:text": {"hf": "QuantFactory/Meta-Llama-3-8B-GGUF"},
        "qwen3-embedding:0.6b": dict.fromkeys(_EVERYWHERE, "Qwen/Qwen3-Embedding-0.6B-GGUF"),
    }
    for size in ("0.6b", "1.7b", "4b", "8b", "14b", "32b"):
        table[f"qwen3:{size}"] = dict.fromkeys(_EVERYWHERE, f"Qwen/Qwen3-{size.upper()}-GGUF")
    table["llama3:8b"], table["qwen3"] = table["llama3"], table["qwen3:8b"]
    return {full_name(name): places for name, places in table.items()}


_KNOWN = _known()


def place_of(name: str, origin: Origin = "library", wanted: str = "") -> Place:
    """What to pull for `name` from `origin`; `wanted` is the short name that it shall have.

    Raises `UsageError` for a short name whose repository is not known there.
    """
    host = HOSTS[origin]
    if not host or name.partition("/")[0].lower() in (*HOSTS.values(), "huggingface.co"):
        return Place(name, wanted)
    if repository := _KNOWN.get(full_name(name), {}).get(origin):
        return Place(f"{host}/{repository}", wanted or name)
    if name.count("/") == 1:
        return Place(f"{host}/{name}", wanted)
    others = [other for other in _EVERYWHERE if other in _KNOWN.get(full_name(name), {})]
    instead = f"orchestra pull {name} --from {others[0]}" if others else f"orchestra pull OWNER/REPOSITORY-GGUF --from {origin} --as {name}"
    raise UsageError(
        detail=f"it is not known here which repository of {host} has {name!r}",
        detail_zh=f"尚不知道 {host} 上哪个仓库有 {name!r}",
        fix=f"name the repository, or another source: {instead}",
        fix_zh=f"请指定仓库或其他来源：{instead}",
    )


def others(name: str, origin: Origin) -> list[str]:
    """The commands that bring the same model from elsewhere."""
    known = _KNOWN.get(full_name(name), {})
    found = [f"orchestra pull {name} --from {other}" for other in _EVERYWHERE if other != origin and other in known]
    return found + ([f"orchestra pull {name}"] if origin != "library" and known else [])
