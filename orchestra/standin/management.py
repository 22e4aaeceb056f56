"""The endpoints about models: tags, ps, show, pull, copy, delete, create."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from orchestra.errors import StandInFault
from orchestra.standin.encoding import stamp_in
from orchestra.standin.inference import House
from orchestra.standin.library import show, tag
from orchestra.standin.link import JSON_PLAIN, Link
from orchestra.standin.names import HOST, Name, parse
from orchestra.standin.options import checked
from orchestra.standin.refusal import Refusal
from orchestra.standin.weights import Model, known

RESOLVER = "10.255.255.53:53"
PROGRESS = 4
RUNNER_SIZE, TOKEN_SIZE, VRAM = 6_962_543, 1536, 2_495_610


def tags(house: House, link: Link) -> None:
    """Answer /api/tags."""
    complete = house.profile.has("tags.capabilities")
    link.json({"models": [tag(model, complete=complete) for model in house.library.all()]})


def running(house: House, link: Link) -> None:
    """Answer /api/ps: each runner under the name that loaded it, with the window that it really has."""
    models = []
    for runner, left in house.scheduler.loaded():
        model = runner.model
        loaded = {
            "name": model.name.short,
            "model": model.name.short,
            "size": RUNNER_SIZE + TOKEN_SIZE * runner.load.num_ctx,
            "digest": model.digest,
            "details": {**model.details, "parent_model": ""},
            "expires_at": stamp_in(left),
            "size_vram": VRAM,
        }
        if house.profile.has("ps.context_length"):
            loaded["context_length"] = runner.load.num_ctx
        models.append(loaded)
    link.json({"models": models})


def describe(house: House, body: Mapping[str, Any], link: Link) -> None:
    """Answer /api/show. Raises `Refusal`."""
    asked = body.get("model") or body.get("name") or ""
    if not asked:
        raise Refusal(400, "model is required")
    model = house.library.find(asked)
    if model is None:
        raise Refusal(404, f"model '{parse(asked).short}' not found")
    shown = show(model, house.engine.vocabulary, verbose=bool(body.get("verbose")))
    if not house.profile.has("show.capabilities"):
        del shown["capabilities"]
    link.json(shown)


def copy(house: House, body: Mapping[str, Any], link: Link) -> None:
    """Answer /api/copy. Raises `Refusal`."""
    house.library.copy(body.get("source", ""), body.get("destination", ""))
    link.whole(200)


def delete(house: House, body: Mapping[str, Any], link: Link) -> None:
    """Answer /api/delete. Raises `Refusal`."""
    house.library.remove(body.get("model") or body.get("name") or "")
    link.whole(200)


def pull(house: House, body: Mapping[str, Any], link: Link) -> None:
    """Answer /api/pull: what the stand-in knows arrives with some progress, anything else as if there were no network."""
    asked = body.get("model") or body.get("name") or ""
    if not asked:
        raise Refusal(400, "model is required")
    name = parse(asked)
    model = _offered(asked)
    said = [{"status": "pulling manifest"}]
    if model is None:
        error = _unreachable(name, insecure=bool(body.get("insecure")))
        _tell(link, said, streaming=body.get("stream", True), error=error)
        return
    house.library.add(model)
    _tell(link, [*said, *_arrival(model)], streaming=body.get("stream", True))


def _offered(asked: str) -> Model | None:
    try:
        return known(asked)
    except StandInFault:
        return None


def _arrival(model: Model) -> Iterable[dict[str, Any]]:
    for layer, size in model.layers:
        status = {"status": f"pulling {layer[:12]}", "digest": f"sha256:{layer}", "total": size}
        yield status
        for part in range(1, PROGRESS + 1):
            yield {**status, "completed": size * part // PROGRESS}
    for line in ("verifying sha256 digest", "writing manifest", "success"):
        yield {"status": line}


def _unreachable(name: Name, *, insecure: bool) -> str:
    scheme = "http" if insecure else "https"
    address = f"{scheme}://{name.host}/v2/{name.namespace}/{name.model}/manifests/{name.tag}"
    if name.host == HOST:
        why = f"dial tcp: lookup {HOST} on {RESOLVER}: no such host"
    else:
        why = f"dial tcp {name.host}: connect: connection refused"
    return f'pull model manifest: Get "{address}": {why}'


def _tell(link: Link, lines: Iterable[Mapping[str, Any]], *, streaming: bool, error: str = "") -> None:
    """The lines of a pull or a create, and its error; not streamed, only what came of it."""
    if streaming:
        for line in lines:
            link.line(line)
        if error:
            link.line({"error": error})
        link.close()
    elif error:
        link.json({"error": error}, 500, JSON_PLAIN)
    else:
        link.json({"status": "success"}, content_type=JSON_PLAIN)


def create(house: House, body: Mapping[str, Any], link: Link) -> None:
    """Answer /api/create from a model that is there; the daemon would try to pull one that is not. Raises `Refusal`."""
    name = parse(body.get("model") or body.get("name") or "")
    origin = body.get("from") or ""
    streaming = body.get("stream", True)
    if not origin:
        raise Refusal(400, "neither 'from' or 'files' was specified", late=True)
    parent = house.library.find(origin)
    if parent is None:
        _tell(link, [{"status": "pulling manifest"}], streaming=streaming, error=_unreachable(parse(origin), insecure=False))
        return
    model = _derived(parent, name, body)
    lines = [{"status": "verifying conversion"}] if body.get("quantize") else []
    lines += [{"status": f"{_state(house, layer)} layer sha256:{layer}"} for layer, _ in model.layers]
    house.library.add(model)
    _tell(link, [*lines, {"status": "writing manifest"}, {"status": "success"}], streaming=streaming)


def _state(house: House, layer: str) -> str:
    return "using existing" if house.library.has_layer(layer) else "creating new"


def _derived(parent: Model, name: Name, body: Mapping[str, Any]) -> Model:
    given = {key: [value] if key == "stop" and isinstance(value, str) else value for key, value in body.get("parameters", {}).items()}
    messages = tuple({"role": m.get("role", ""), "content": m.get("content", "")} for m in body.get("messages", ()))
    wanted = body.get("quantize")
    licenses = body.get("license") or ()
    return replace(
        parent,
        name=name,
        weights=parent.weights.quantized(wanted.upper()) if wanted else parent.weights,
        template=body.get("template") or parent.template,
        system=body.get("system") or parent.system,
        parameters={**parent.parameters, **checked(given)},
        messages=messages or parent.messages,
        licenses=(*parent.licenses, *([licenses] if isinstance(licenses, str) else licenses)),
        parent=parent.name.short,
        modified=time.time_ns(),
    )


def status(link: Link) -> None:
    """Answer /api/status: there is no cloud here."""
    link.json({"cloud": {"disabled": True, "source": "env"}})
