"""The services of the compose files, put together and filled in as docker compose does it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
BASE, GPU, HOST = "docker-compose.yml", "compose.gpu.yml", "compose.host.yml"
KEYS = {
    "ORCHESTRA_TOKEN": "token-of-this-test", "ORCHESTRA_JWT_SECRET": "signing-secret-of-this-test-0123456789",
    "WEBUI_SECRET_KEY": "secret-of-this-test",
}  # fmt: skip
_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?:(?P<how>:[-+?])(?P<more>(?:[^${}]|\$\{[^{}]*\})*))?\}")


def filled(text: str, variables: Mapping[str, str]) -> str:
    """A text of a compose file with its variables, as the specification's chapter on interpolation has it."""

    def one(match: re.Match[str]) -> str:
        if match["name"] is None:
            return "$"
        value, how, more = variables.get(match["name"], ""), match["how"], match["more"] or ""
        if how == ":?" and not value:
            raise LookupError(f"{match['name']} {more}")
        if how == ":+":
            return filled(more, variables) if value else ""
        return value or (filled(more, variables) if how == ":-" else "")

    return _VARIABLE.sub(one, text)


def everywhere(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: everywhere(each, variables) for name, each in value.items()}
    if isinstance(value, list):
        return [everywhere(each, variables) for each in value]
    return filled(value, variables) if isinstance(value, str) else value


def laid_over(below: Any, above: Any) -> Any:
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    both = {name: laid_over(below[name], above[name]) for name in below.keys() & above.keys()}
    return {**below, **above, **both}


def services(*overlays: str, **variables: str) -> dict[str, Any]:
    """The services that are started, as docker compose puts them together."""
    whole: dict[str, Any] = {}
    for name in (BASE, *overlays):
        whole = laid_over(whole, yaml.safe_load((ROOT / name).read_text("utf-8")))
    profiles = variables.get("COMPOSE_PROFILES", "").split(",")
    made: dict[str, Any] = everywhere(whole["services"], KEYS | variables)
    return {name: each for name, each in made.items() if not each.get("profiles") or set(each["profiles"]) & set(profiles)}
