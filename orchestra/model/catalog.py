"""Which models there are, which one answers, and how another one is brought in.

Listing and choosing go through our own wire; pulling, copying and deleting through the `ollama` package, which
is imported here alone and on use, since its import costs more than most commands take.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal

from orchestra.errors import DaemonDisconnected, DaemonUnreachable, NoModel, OrchestraError, PullFailed
from orchestra.model.client import Client
from orchestra.model.window import full_name, section
from orchestra.request import Breakage, Call

Purpose = Literal["chat", "base", "any"]
_FAVOURITES: dict[Purpose, str] = {"chat": "llama3", "base": "llama3:text", "any": "llama3"}
_KINDS: dict[Purpose, tuple[str, str]] = {"chat": ("chat", "对话"), "base": ("base", "基础"), "any": ("language", "语言")}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One installed model. Sizes are bytes, `context` and `window` tokens; `window` is None while it is not loaded."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step of a pull. `completed` and `total` are bytes of the layer `digest`, 0 where there are none."""

    status: str
    digest: str = ""
    completed: int = 0
    total: int = 0


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
    if named:
        return named
    cards = [card for card in await models(client) if _can_answer(card)]
    favourite = _FAVOURITES[purpose]
    if any(full_name(card.name) == full_name(favourite) for card in cards):
        return favourite
    fitting = [card for card in cards if purpose == "any" or bool(card.base) == (purpose == "base")]
    if not fitting:
        kind, kind_zh = _KINDS[purpose]
        raise NoModel(url=client.connection.url, kind=kind, kind_zh=kind_zh, suggestion=favourite)
    return next((card.name for card in fitting if card.loaded), fitting[0].name)


async def pull(client: Client, model: str) -> AsyncGenerator[Progress]:
    """Bring a model in, step by step; a pull that was interrupted goes on where it stopped. Raises `PullFailed`."""
    call = Call()
    steps = _steps(client.connection.url, model, call)
    turn = Lock()

    def step() -> Progress | None:
        with turn:
            return next(steps, None)

    def leave() -> None:
        call.end(Breakage.CLOSED)  # a thread may still be waiting for the next step: it could not be interrupted
        with turn:
            steps.close()

    try:
        while (progress := await client.runtime.call(step)) is not None:
            yield progress
    finally:
        await client.runtime.call(leave)


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

    from orchestra.model import wire

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
