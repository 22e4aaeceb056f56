"""A stand-in Ollama daemon: the protocol over real sockets, with a mechanical engine in place of a model.

For the demo, for the project's tests and for its users' tests; never used silently. Every answer says
`Server: orchestra-standin`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestra.standin.daemon import StandIn
    from orchestra.standin.link import Exchange
    from orchestra.standin.script import Scripted

__all__ = ["Exchange", "Scripted", "StandIn"]
_HOMES = {"StandIn": "daemon", "Exchange": "link", "Scripted": "script"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
