"""Face: HTTP. The lesson's `/chat` and `/integrate`, for programs that are not Python.

`create_app` gives an ASGI app that any server runs, and that `.run(port=5002)` runs itself. What serves it (FastAPI,
uvicorn, PyJWT) is the extra `serve`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestra.errors import ExtraMissing

if TYPE_CHECKING:
    from orchestra.gateway.app import Gateway, create_app

__all__ = ["Gateway", "create_app"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require()
    from orchestra.gateway import app

    return getattr(app, name)


def require() -> None:
    """Raises `ExtraMissing` where the parts that serve HTTP are not installed."""
    try:
        import fastapi  # noqa: F401
        import jwt  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise ExtraMissing(feature="orchestra serve", extra="serve") from None
