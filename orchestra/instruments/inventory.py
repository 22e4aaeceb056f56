"""What is installed, looked at closely: the daemon's list says neither what a model's template is nor its longest context."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, NamedTuple

from orchestra.errors import ModelMissing
from orchestra.instruments.footprint import Footprint, footprint, shape_of
from orchestra.model.catalog import ModelCard, is_base, models
from orchestra.model.client import Client
from orchestra.model.window import context_length, full_name, own_stops

Kind = Literal["base", "instruct", "embedding"]


def kind_of(card: ModelCard) -> Kind:
    """What a model is for: to go on with a text, to answer, or to turn texts into vectors."""
    if card.capabilities and "completion" not in card.capabilities:
        return "embedding"
    return "base" if card.base else "instruct"


async def inventory(client: Client) -> list[ModelCard]:
    """The installed models with `base` and `context` from their own templates; one request for each."""
    return [await _looked_at(client, card) for card in await models(client)]


async def _looked_at(client: Client, card: ModelCard) -> ModelCard:
    try:
        facts = await client.facts(card.name)
    except ModelMissing:  # deleted since it was listed
        return card
    capabilities = card.capabilities or tuple(str(each) for each in facts.get("capabilities") or ())
    return replace(
        card, base=is_base(card.name, facts), context=context_length(facts) or card.context, capabilities=capabilities
    )


class Sized(NamedTuple):
    """An installed model with the memory that it takes at the window that was asked about."""

    card: ModelCard
    footprint: Footprint


async def sized(client: Client, context: int) -> list[Sized]:
    """The inventory with what each model takes at `context` tokens in every slot (`ORCHESTRA_PARALLEL`)."""
    found = []
    for card in await inventory(client):
        try:
            facts = await client.facts(card.name)  # remembered since a moment ago
        except ModelMissing:
            facts = {}
        found.append(Sized(card, footprint(card.size, shape_of(facts), context, max(1, client.settings.parallel))))
    return found


async def portrait(client: Client, model: str) -> dict[str, Any]:
    """All that is worth knowing of one model. Raises `ModelMissing`."""
    facts = await client.facts(model)
    cards = [card for card in await models(client) if full_name(card.name) == full_name(model)]
    card = await _looked_at(client, cards[0]) if cards else ModelCard(name=model, base=is_base(model, facts))
    return {
        "name": card.name,
        "family": card.family,
        "parameters": card.parameters,
        "quantization": card.quantization,
        "size": card.size,
        "digest": card.digest,
        "context": card.context,
        "window": card.window,
        "loaded": card.loaded,
        "kind": kind_of(card),
        "capabilities": list(card.capabilities),
        "stop": own_stops(facts),
        "settings": str(facts.get("parameters") or ""),
        "template": str(facts.get("template") or ""),
        "system": str(facts.get("system") or ""),
        "license": str(facts.get("license") or ""),
    }
