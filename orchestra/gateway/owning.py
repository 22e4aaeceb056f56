"""Whose a session is: the holder's of a key, and of one user alone where a request speaks for a user of theirs.

Everybody at Open WebUI asks with one key; so the key alone would open to each what all others have said.
"""

from __future__ import annotations

from starlette.requests import Request

from orchestra.gateway.branches import prefix_of


def stored_name(request: Request, name: str) -> str:
    """The name under which the session is stored that whoever asks calls `name`. Raises `SessionMissing` for another holder's."""
    begins = _of_user(request)
    return str(request.app.state.keys.session(request.state.holder, name if name.startswith(begins) else begins + name))


def owned(request: Request, stored: str) -> bool:
    """Whether the session that is stored under this name is open to whoever asks."""
    holder = request.state.holder
    begins = (f"{holder}/" if holder else "") + _of_user(request)
    return request.app.state.keys.owns(holder, stored) and stored.startswith(begins)


def _of_user(request: Request) -> str:
    """How the names begin that a user may name, as their holder knows them; nothing where a request speaks for no user."""
    user = getattr(request.state, "user", "")
    return prefix_of("", user) if user else ""
