"""`options` of a request: their types, their defaults, and which of them a model is loaded with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from orchestra.standin.engine import Sampling
from orchestra.standin.refusal import Refusal

_TYPES = {
    **dict.fromkeys(
        ("num_ctx", "num_predict", "num_keep", "top_k", "repeat_last_n", "seed", "num_batch", "num_gpu", "main_gpu",
         "num_thread", "draft_num_predict"), "integer"),
    **dict.fromkeys(
        ("temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty"), "float32"),
    "use_mmap": "boolean",
    "stop": "array",
}  # fmt: skip
SMALLEST_WINDOW = 4
LONGEST_ANSWER = 10


class Load(NamedTuple):
    """What a model is loaded with. A request that wants one of these otherwise reloads it, for everybody."""

    num_ctx: int
    num_batch: int = 512
    num_gpu: int = -1
    main_gpu: int = 0
    use_mmap: bool | None = None
    num_thread: int = 0
    draft_num_predict: int = 4
    shift: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of one request, complete."""

    load: Load
    sampling: Sampling
    num_predict: int
    num_keep: int
    stop: tuple[str, ...]
    shift: bool

    @property
    def most(self) -> int:
        """The most tokens that an answer may have: 0 and negative numbers are no limit but the daemon's own."""
        longest = LONGEST_ANSWER * self.load.num_ctx
        return min(self.num_predict, longest) if self.num_predict > 0 else longest


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The known options among those given, without nulls. Raises `Refusal` (500) for one of the wrong type."""
    return {name: _value(name, value) for name, value in given.items() if name in _TYPES and value is not None}


def _value(name: str, value: Any) -> Any:
    wanted = _TYPES[name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if wanted == "integer" and number:
        return int(value)
    if (wanted == "float32" and number) or (wanted == "boolean" and isinstance(value, bool)):
        return value
    if wanted == "array" and isinstance(value, list):
        if all(isinstance(each, str) for each in value):
            return value
        raise Refusal(500, f'option "{name}" must be of an array of strings')
    raise Refusal(500, f'option "{name}" must be of type {wanted}')


def settle(chosen: Mapping[str, Any], *, window: int, longest: int, shift: bool, reloads: bool) -> Settings:
    """The complete options. `chosen` are the model's and the request's, `window` the daemon's own num_ctx, `longest` the
    model's; `reloads`: whether a model is loaded with or without `shift`.
    """
    num_ctx = min(max(SMALLEST_WINDOW, chosen.get("num_ctx", window)), longest)
    loading = {name: chosen[name] for name in Load._fields if name in chosen and name != "num_ctx"}
    sampling = {name: chosen[name] for name in _SAMPLED if name in chosen}
    return Settings(
        load=Load(num_ctx, **loading, shift=shift or not reloads),
        sampling=Sampling(**sampling, seed=chosen["seed"]),
        num_predict=chosen.get("num_predict", -1),
        num_keep=chosen.get("num_keep", 4),
        stop=tuple(text for text in chosen.get("stop", ()) if text),
        shift=shift,
    )


_SAMPLED = (
    "temperature", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_last_n", "presence_penalty", "frequency_penalty",
)  # fmt: skip
