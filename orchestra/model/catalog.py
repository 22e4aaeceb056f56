"""Which models there are, which one answers, and how another one is brought in.

Listing and choosing go through our own wire; pulling, copying and deleting through the `ollama` package, which
is imported here alone and on use, since its import costs more than most commands take.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from orchestra.errors import DaemonDisconnected, DaemonUnreachable, NoModel, OrchestraError, PullFailed
from orchestra.model import wire
from orchestra.model.client import Client
from orchestra.model.connection import Patience
from orchestra.model.transfer import Progress as Progress
from orchestra.model.transfer import checked_gguf, uploaded, watched
from orchestra.model.window import full_name, section, weights_of
from orchestra.request import Broken, Call

Purpose = Literal["chat", "base", "any"]
PLAIN = "{{ .Prompt }}"  # the template of a base model
CREATING = 900.0  # seconds: a large file is read and checked without a word
UNLOADING = 5.0
_FAVOURITES: dict[Purpose, str] = {"chat": "llama3", "base": "llama3:text", "any": "llama3"}
_KINDS: dict[Purpose, tuple[str, str]] = {"chat": ("chat", "对话"), "base": ("base", "基础"), "any": ("language", "语言")}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One installed model. Sizes are bytes, `context` and `window` tokens; `window` is None while it is not loaded.

    `parent` is the model that it was made from on this daemon.
    """

    name: str
    size: int = 0
    digest: str = ""
    family: str = ""
    parameters: str = ""
    quantization: str = ""
    context: int | None = None
    capabilities: tuple[str, ...] = ()
    base: bool | None = None
    loaded: bool = False
    window: int | None = None
    modified: str = ""
    parent: str = ""


async def models(client: Client) -> list[ModelCard]:
    """The installed models, newest first, with what is loaded."""
    rows = await client.tags()
    loaded = {full_name(str(row.get("name", ""))): row for row in await client.ps()}
    return [_card(row, loaded.get(full_name(str(row.get("name", ""))))) for row in rows]


def _card(row: dict[str, Any], loaded: dict[str, Any] | None) -> ModelCard:
    details = section(row, "details")
    capabilities = tuple(str(c) for c in row.get("capabilities") or ())
    name = str(row.get("name", ""))
    window = (loaded or {}).get("context_length")
    return ModelCard(
        name=name.removesuffix(":latest"),
        size=int(row.get("size") or 0),
        digest=str(row.get("digest", "")),
        family=str(details.get("family", "")),
        parameters=str(details.get("parameter_size", "")),
        quantization=str(details.get("quantization_level", "")),
        context=details.get("context_length"),
        capabilities=capabilities,
        base=_named_base(name) or None,
        loaded=loaded is not None,
        window=window if isinstance(window, int) else None,
        modified=str(row.get("modified_at", "")),
        parent=str(details.get("parent_model") or ""),
    )


def is_base(model: str, facts: dict[str, Any]) -> bool:
    """Whether a model only completes text: no template but `{{ .Prompt }}`, or a tag that says so.

    A model whose template stands in its own file (capability "completion" and a chat template in `model_info`)
    has an empty TEMPLATE too; the file's template makes it an instruct model.
    """
    template = re.sub(r"\s", "", str(facts.get("template") or ""))
    own = section(facts, "model_info").get("tokenizer.chat_template")
    return _named_base(model) or template == "{{.Prompt}}" or (not template and not own)


def _named_base(model: str) -> bool:
    tag = model.rpartition("/")[2].partition(":")[2].lower()
    return any(part in ("text", "base") for part in re.split(r"[-_.]", tag))


def _can_answer(card: ModelCard) -> bool:
    return not card.capabilities or "completion" in card.capabilities


async def chosen(client: Client, wanted: str = "", *, purpose: Purpose = "chat") -> str:
    """The model that answers: the one that was named, else the favourite, else the only or last used one of its kind.

    Raises `NoModel` with the command that brings one.
    """
    named = wanted or (client.settings.base_model if purpose == "base" else client.settings.model)
    return named or await client.remembered(f"chosen {purpose}", partial(_chosen, client, purpose))


async def _chosen(client: Client, purpose: Purpose) -> str:
    cards = [card for card in await models(client) if _can_answer(card)]
    favourite = _FAVOURITES[purpose]
    if any(full_name(card.name) == full_name(favourite) for card in cards):
        return favourite
    fitting = [card for card in cards if purpose == "any" or bool(card.base) == (purpose == "base")]
    if not fitting:
        kind, kind_zh = _KINDS[purpose]
        raise NoModel(url=client.connection.url, kind=kind, kind_zh=kind_zh, suggestion=favourite)
    # what was made of another one speaks with a system text of its own: a baked persona is nobody's default
    fitting = [card for card in fitting if not card.parent] or fitting
    return next((card.name for card in fitting if card.loaded), fitting[0].name)


async def pull(client: Client, model: str, *, quiet: float = 0.0) -> AsyncGenerator[Progress]:
    """Bring a model in, step by step; a pull that was interrupted goes on where it stopped. Raises `PullFailed`.

    A step with `silent` says that nothing has come for `quiet` seconds (by default 20); the pull goes on.
    """
    url = client.connection.url
    async with aclosing(watched(client.runtime, lambda call: _steps(url, model, call), model=model, quiet=quiet)) as steps:
        async for step in steps:
            yield step


def _steps(url: str, model: str, call: Call) -> Generator[Progress]:
    import httpx
    from ollama import Client as Manager
    from ollama import ResponseError

    def traced(request: httpx.Request) -> None:
        request.extensions["trace"] = call.seen

    patience = httpx.Timeout(None, connect=5.0)
    said = ""
    try:
        with Manager(
            url, follow_redirects=False, timeout=patience, trust_env=False, event_hooks={"request": [traced]}
        ) as manager:
            for row in manager.pull(model, stream=True):
                said = row.status or ""
                yield Progress(status=said, digest=row.digest or "", completed=row.completed or 0, total=row.total or 0)
    except ResponseError as error:
        raise PullFailed(model=model, detail=error.error or "no reason given") from None
    except (ConnectionError, httpx.ConnectError):
        raise DaemonUnreachable(url=url, detail="nothing listens there") from None
    except httpx.HTTPError as error:
        raise PullFailed(model=model, detail=str(error) or type(error).__name__) from None
    except ValueError as error:
        raise PullFailed(model=model, detail=str(error)) from None
    if said != "success":
        raise PullFailed(model=model, detail="it broke off")


async def bring(client: Client, file: Path, name: str, *, base: bool = False) -> AsyncGenerator[Progress]:
    """Make a model of a GGUF file of this machine; `base` gives it no template but the text itself.

    Without `base` the daemon finds the template in the file. What has arrived whole is not sent again.
    Raises `UsageError` for a file that cannot be used, `PullFailed` where the daemon refuses it.
    """
    source = uploaded(client.connection.url, file, checked_gguf(file))
    digest = ""
    async with aclosing(watched(client.runtime, source, model=name)) as steps:
        async for step in steps:
            digest = step.digest
            yield step
    body: dict[str, Any] = {"model": name, "files": {file.name: digest}}
    async with aclosing(created(client, {**body, "template": PLAIN} if base else body)) as steps:
        async for step in steps:
            yield step


async def created(client: Client, body: dict[str, Any]) -> AsyncGenerator[Progress]:
    """Make a model as /api/create has it, step by step. Raises `PullFailed`."""
    name = str(body["model"])
    asked = wire.Asked(url=client.connection.url, model=name)
    patience = Patience(first=CREATING, between=CREATING)
    said = ""
    try:
        async with (
            client.connection.opened("POST", "/api/create", body, asked=asked, patience=patience) as answer,
            aclosing(client.connection.events(answer)) as events,
        ):
            async for event in events:
                if error := event.get("error"):
                    raise PullFailed(model=name, detail=wire.readable(wire.error_words(error)))
                said = str(event.get("status", ""))
                yield Progress(status=said)
    except Broken as broken:
        raise PullFailed(model=name, detail=str(broken) or "it broke off") from None
    if said != "success":
        raise PullFailed(model=name, detail="it broke off")


async def named(client: Client, model: str, name: str) -> None:
    """Give a pulled model a short name; a base model, by that name, also the template that a base model has."""
    if not _named_base(name):
        await copy(client, model, name)
        return
    async with aclosing(created(client, {"model": name, "from": model, "template": PLAIN})) as steps:
        async for _ in steps:
            pass


async def unload(client: Client, model: str) -> bool:
    """Take a model out of memory, after the answers that it is giving; False where it was not loaded.

    Models made from one another share what is loaded, under the name that came first: it goes for all of them.
    Raises `ModelMissing`.
    """
    ours = weights_of(await client.facts(model))
    before = {name for name in await _loaded(client) if name == full_name(model) or (ours and weights_of(await client.facts(name)) == ours)}
    await client.connection.ask("POST", "/api/generate", {"model": model, "keep_alive": 0, "stream": False}, model=model)
    until = time.monotonic() + UNLOADING
    while before & await _loaded(client) and time.monotonic() < until:  # it is still listed for a moment
        await client.runtime.pause(0.05)
    return bool(before)


async def _loaded(client: Client) -> set[str]:
    return {full_name(str(row.get("name", ""))) for row in await client.ps()}


async def delete(client: Client, model: str) -> None:
    """Remove an installed model from the daemon."""
    await client.runtime.call(lambda: _managed(client.connection.url, "delete", model))


async def copy(client: Client, model: str, name: str) -> None:
    """Give an installed model one more name; its weights are not copied."""
    await client.runtime.call(lambda: _managed(client.connection.url, "copy", model, name))


def _managed(url: str, verb: str, *names: str) -> None:
    import httpx
    from ollama import Client as Manager
    from ollama import ResponseError

    try:
        with Manager(url, follow_redirects=False, timeout=30.0, trust_env=False) as manager:
            getattr(manager, verb)(*names)
    except ResponseError as error:
        fault: OrchestraError = wire.said(error.status_code, error.error, wire.Asked(url=url, model=names[0]))
        raise fault from None
    except (ConnectionError, httpx.ConnectError):
        raise DaemonUnreachable(url=url, detail="nothing listens there") from None
    except httpx.HTTPError:
        raise DaemonDisconnected(url=url) from None
