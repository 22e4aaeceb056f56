"""The public names: what `orchestra` says it has is there, and importing it costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import orchestra
from orchestra.errors import OrchestraError, every_error

HEAVY = ["httpx", "pydantic", "pydantic_core", "typer", "asyncio", "ollama", "yaml", "rich", "sqlite3", "platformdirs"]


def loaded_after(statement: str) -> set[str]:
    """The heavy modules in a fresh interpreter after a statement."""
    code = f"import sys; {statement}; print(*(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    return set(done.stdout.split())


def test_every_name_is_there() -> None:
    for name in orchestra.__all__:
        value = getattr(orchestra, name)
        assert value.__name__ == name
        assert value.__doc__


def test_the_names_are_sorted_and_few() -> None:
    assert orchestra.__all__ == sorted(set(orchestra.__all__))
    assert len(orchestra.__all__) <= 25


def test_dir_says_the_same() -> None:
    assert set(dir(orchestra)) == {*orchestra.__all__, "__version__"}


def test_the_checkers_view_is_the_same() -> None:
    """The names under TYPE_CHECKING are those that are loaded on use."""
    import ast
    import inspect

    tree = ast.parse(inspect.getsource(orchestra))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(seen) == set(orchestra.__all__)
    for name, module in seen.items():
        assert getattr(orchestra, name) is getattr(sys.modules[str(module)], name)


def test_every_error_is_a_name_too() -> None:
    for error in every_error():
        assert getattr(orchestra, error.__name__) is error
    assert issubclass(orchestra.PromptTooLong, OrchestraError)


@pytest.mark.parametrize("name", ["Orchester", "_HOMES", "Words"])
def test_nothing_else_is_there(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(orchestra, name)


def test_importing_costs_nothing() -> None:
    assert loaded_after("import orchestra") == set()


def test_a_name_loads_what_it_needs_and_no_more() -> None:
    assert "httpx" in loaded_after("import orchestra; orchestra.Orchestra")
    assert loaded_after("import orchestra; orchestra.Message; orchestra.Settings; orchestra.OrchestraError") == set()
