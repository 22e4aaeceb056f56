"""A local Ollama daemon, and above it a typed client, a session store, search-RAG and persona agents.

    texts errors settings        the ground: one error tree, one table of settings
    request runtime              one request and who ends it; the one place that waits
    model/                       1. talking to the model
    sessions/                    2. remembering
    retrieval/                   3. looking things up
    agents/                      4. working together
    instruments/                 measuring and advising
    api                          the face for Python: `Orchestra` and `AsyncOrchestra`
    cli/                         the face for the terminal
    standin/                     a stand-in daemon for the demo and for tests

Imports run down this list only. The names below are loaded when they are used: importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestra.agents.expert import Expert
    from orchestra.agents.function import tool
    from orchestra.agents.tool import Tool
    from orchestra.api import AsyncOrchestra, AsyncSession, Orchestra, Session
    from orchestra.errors import OrchestraError
    from orchestra.model.messages import FinishReason, Message, Options, Piece, Receipt, Reply, Usage
    from orchestra.model.persona import Persona
    from orchestra.retrieval.passages import Passage, Source
    from orchestra.settings import Settings
    from orchestra.standin import StandIn

__version__ = "0.1.0"

_HOME = {
    "AsyncOrchestra": "orchestra.api",
    "AsyncSession": "orchestra.api",
    "Expert": "orchestra.agents.expert",
    "FinishReason": "orchestra.model.messages",
    "Message": "orchestra.model.messages",
    "Options": "orchestra.model.messages",
    "Orchestra": "orchestra.api",
    "OrchestraError": "orchestra.errors",
    "Passage": "orchestra.retrieval.passages",
    "Persona": "orchestra.model.persona",
    "Piece": "orchestra.model.messages",
    "Receipt": "orchestra.model.messages",
    "Reply": "orchestra.model.messages",
    "Session": "orchestra.api",
    "Settings": "orchestra.settings",
    "Source": "orchestra.retrieval.passages",
    "StandIn": "orchestra.standin",
    "Tool": "orchestra.agents.tool",
    "Usage": "orchestra.model.messages",
    "tool": "orchestra.agents.function",
}

__all__ = [
    "AsyncOrchestra",
    "AsyncSession",
    "Expert",
    "FinishReason",
    "Message",
    "Options",
    "Orchestra",
    "OrchestraError",
    "Passage",
    "Persona",
    "Piece",
    "Receipt",
    "Reply",
    "Session",
    "Settings",
    "Source",
    "StandIn",
    "Tool",
    "Usage",
    "tool",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        # the errors are many: each is found where all are
        found = None if name.startswith("_") else getattr(import_module("orchestra.errors"), name, None)
        if isinstance(found, type) and issubclass(found, Exception):
            return found
        raise AttributeError(f"module 'orchestra' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__"})
