"""/api/embed and /api/embeddings."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from orchestra.standin.encoding import quoted
from orchestra.standin.inference import House
from orchestra.standin.link import Link
from orchestra.standin.refusal import EXCEEDS, Refusal
from orchestra.standin.vocabulary import BEGIN
from orchestra.standin.weights import Model

NOT_AN_EMBEDDER = "This server does not support embeddings. Start it with `--embeddings`"
DIGITS = 8


def embed(house: House, body: Mapping[str, Any], link: Link) -> None:
    """Answer /api/embed. Raises `Refusal` and `ClientGone`."""
    link.json(embedded(house, body, link))


def embedded(house: House, body: Mapping[str, Any], link: Link) -> dict[str, Any]:
    """What /api/embed answers. Raises `Refusal` and `ClientGone`."""
    body = {**house.profile.heard(body), "truncate": body.get("truncate", True)}
    texts = _texts(body.get("input"))
    answer: dict[str, Any] = {"model": body.get("model", ""), "embeddings": []}
    vectors, count, loaded = _vectors(house, body, texts, link)
    if texts:
        wanted = body.get("dimensions") or 0
        answer["embeddings"] = [_shortened(vector, wanted) for vector in vectors]
        answer["total_duration"] = int((time.perf_counter() - link.arrived) * 1e9)
        answer["load_duration"] = int((loaded - link.arrived) * 1e9)
        answer["prompt_eval_count"] = count
    return answer


def embed_one(house: House, body: Mapping[str, Any], link: Link) -> None:
    """Answer the older /api/embeddings. Raises `Refusal` and `ClientGone`."""
    text = body.get("prompt", "")
    vectors, _, _ = _vectors(house, body, [text] if text else [], link)
    link.json({"embedding": vectors[0] if vectors else []})


def _texts(given: Any) -> list[str]:
    if given is None or given == "":
        return []
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Refusal(400, "invalid input type")
    return texts


def _vectors(house: House, body: Mapping[str, Any], texts: Sequence[str], link: Link) -> tuple[list[list[float]], int, float]:
    name = body.get("model", "")
    model = house.library.find(name) if name else None
    if model is None:
        raise Refusal(404, f"model {quoted(name)} not found, try pulling it first" if name else "model '' not found")
    settings = house.settings(model, body)
    with house.scheduler.runner(model, settings.load, link, body.get("keep_alive")) as runner:
        loaded = time.perf_counter()
        if texts and not model.weights.pooling and house.profile.has("engine of its own"):
            raise Refusal(501, NOT_AN_EMBEDDER)
        count, kept = 0, []
        for text in texts:
            tokens, text = _fitting(house, text, settings.load.num_ctx - 1, truncate=body.get("truncate", True))
            count += tokens
            kept.append(text)
        if not kept:
            return [], 0, loaded
        with house.scheduler.slot(runner, link):
            return [_embedded(house, model, text) for text in kept], count, loaded


def _fitting(house: House, text: str, room: int, *, truncate: bool) -> tuple[int, str]:
    """The number of tokens and the text, which is cut at the end where it has more than `room`."""
    words = house.engine.vocabulary
    tokens = [BEGIN, *words.encode(text)]
    if len(tokens) <= room:
        return len(tokens), text
    if not truncate:
        raise Refusal(400, EXCEEDS)
    return room, b"".join(words.data(number) for number in tokens[1:room]).decode("utf-8", "ignore")


def _embedded(house: House, model: Model, text: str) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in house.engine.embed(text, model.weights.embedding)]


def _shortened(vector: list[float], dimensions: int) -> list[float]:
    """The first `dimensions` numbers, of length 1 again; more than there are is no wish that can be met."""
    if not 0 < dimensions < len(vector):
        return vector
    cut = vector[:dimensions]
    norm = math.sqrt(math.fsum(value * value for value in cut)) or 1.0
    return [float(f"{value / norm:.{DIGITS}g}") for value in cut]
