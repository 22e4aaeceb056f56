"""The reference and the maps in the READMEs are what the code is."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from orchestra.errors import every_error
from orchestra.settings import table

ROOT = Path(__file__).resolve().parent.parent


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORCHESTRA_LANG", "en")  # which a tool sets for its whole process
        spec.loader.exec_module(module)
    return module


def test_the_reference_is_made_from_the_code() -> None:
    made = tool("reference").document()
    assert (ROOT / "docs" / "reference.md").read_text("utf-8") == made, "run: make reference"


@pytest.mark.parametrize("setting", table(), ids=lambda s: s.name)
def test_every_setting_is_documented(setting: object) -> None:
    text = (ROOT / "docs" / "reference.md").read_text("utf-8")
    assert f"`{setting.variable}`" in text  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", every_error(), ids=lambda e: e.__name__)
def test_every_error_says_what_and_what_to_do_in_both_languages(error: type) -> None:
    raised = error(reply=None)
    for language in ("en", "zh"):
        for text in (raised.message(language), raised.hint(language)):
            assert text.strip()
            assert "\n" not in text
    assert raised.exit_code not in (0, 130, 141)


def test_every_error_has_an_exit_code_of_its_own() -> None:
    codes = [error.exit_code for error in every_error()]
    assert len(codes) == len(set(codes))


def test_the_maps_are_made_from_the_table() -> None:
    module = tool("map")
    for path, text in module.pages():
        assert path.read_text("utf-8") == text, "run: make map"
