"""Which services are asked: the chosen ones, a user's own, or those that are set up; and what is said of the others."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from services import CANARY

from orchestra.errors import ConfigError, UsageError
from orchestra.retrieval import available
from orchestra.retrieval.available import FACTORIES, ready, register, searches, variable_of
from orchestra.retrieval.search import Searches, leaves, service_of
from orchestra.runtime import Blocking, finish
from orchestra.settings import Settings

ALL: dict[str, Any] = {
    "searxng": "http://localhost:8080", "bocha_key": CANARY, "tavily_key": "keyless", "google_key": CANARY,
    "google_engine": "cx", "feeds": "https://a.example/feed https://b.example/feed",
}  # fmt: skip


def chosen(names: str, **settings: Any) -> Searches:
    return searches(Settings(**settings), names, Blocking())


def names(line: Searches) -> list[str]:
    return [provider.name for provider in line.providers]


@pytest.fixture(autouse=True)
def own_names() -> Iterator[None]:
    """What a test registers is gone after it."""
    before = dict(FACTORIES)
    yield
    FACTORIES.clear()
    FACTORIES.update(before)


@pytest.mark.parametrize("name", FACTORIES)
def test_each_name_has_its_service(name: str) -> None:
    (provider,) = chosen(name, **ALL).providers
    assert provider.name == name
    assert leaves(provider) == (name != "offline")
    assert (provider.name == service_of(provider)) == (name == "offline"), "whoever sees a question says who it is"
    assert CANARY not in repr(provider) + service_of(provider)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("none", []),
        ("offline", ["offline"]),
        ("Wikipedia, OFFLINE", ["wikipedia", "offline"]),
        ("duckduckgo+wikipedia,offline", ["duckduckgo", "wikipedia", "offline"]),
        (" , ", []),
    ],
)
def test_names_in_line_and_side_by_side(given: str, line: list[str]) -> None:
    assert names(chosen(given)) == line


def test_the_setting_chooses_where_nothing_else_does() -> None:
    assert names(chosen("", search="wikipedia")) == ["wikipedia"]
    assert names(chosen("offline", search="wikipedia")) == ["offline"]


def test_without_a_choice_what_is_set_up_comes_first_and_the_shipped_texts_last() -> None:
    keyless = ["duckduckgo", "brave", "mojeek", "wikipedia", "offline"]
    assert names(chosen("")) == keyless
    assert names(chosen("", **ALL)) == ["searxng", "bocha", "tavily", "feeds", *keyless], "Google is asked by those who say so"


def test_an_unknown_name_lists_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="'bing'") as caught:
        chosen("wikipedia,bing")
    assert all(name in caught.value.hint() for name in [*FACTORIES, "none"])
    with pytest.raises(UsageError):
        chosen("none,wikipedia")


@pytest.mark.parametrize(
    ("name", "variable"),
    [("searxng", "ORCHESTRA_SEARXNG"), ("bocha", "ORCHESTRA_BOCHA_KEY"), ("tavily", "ORCHESTRA_TAVILY_KEY"), ("feeds", "ORCHESTRA_FEEDS"), ("google", "ORCHESTRA_GOOGLE_KEY")],
)  # fmt: skip
def test_a_missing_key_or_address_names_its_variable(name: str, variable: str) -> None:
    with pytest.raises(ConfigError) as caught:
        chosen(name)
    assert variable in caught.value.message()
    assert variable in caught.value.hint("zh")
    assert variable_of(name) == variable


def test_google_says_that_it_ends_before_it_is_set_up() -> None:
    with pytest.raises(ConfigError, match="2027-01-01"):
        chosen("google")
    with pytest.raises(ConfigError, match="ORCHESTRA_GOOGLE_ENGINE"):
        chosen("google", google_key=CANARY)


def test_a_key_in_the_wrong_place_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        chosen("google", google_key=CANARY)
    assert CANARY not in repr(vars(caught.value))


def test_texts_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "tea.md").write_text("# Tea\n\nTea is served at four in the garden.\n", "utf-8")
    (tmp_path / "latin.md").write_bytes("# Café\n\nThe café opens at nine.\n".encode("latin-1"))
    line = chosen("offline", texts=str(tmp_path))
    found = finish(line.retrieve(["When is tea served?"], results=3, language="en"))
    assert [passage.title for passage in found.passages] == ["Tea"]
    with pytest.raises(ConfigError, match="ORCHESTRA_TEXTS"):
        chosen("offline", texts=str(tmp_path / "gone"))


# --- one's own


class Own:
    name = "own"

    def search(self, query: str, *, results: int) -> list[Any]:
        return []


def test_a_provider_of_ones_own_is_chosen_by_its_name() -> None:
    register("Own", lambda settings: Own())
    assert names(chosen("own,offline")) == ["own", "offline"]
    assert leaves(chosen("own").providers[0]), "one that does not say is taken to send the question away"


@pytest.mark.parametrize("name", ["duckduckgo", "none", "", "a,b", "a+b", "a b", "OFFLINE"])
def test_a_name_that_cannot_be_told_from_others_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        register(name, lambda settings: Own())


def test_the_example_finds_a_note(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    example = Path(__file__).parent.parent / "docs" / "examples" / "own_provider.py"
    monkeypatch.setattr(sys, "argv", [str(example), "when is tea served"])
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out.startswith("Tea: Tea is served at four")


def test_no_question_leaves_while_a_line_is_made() -> None:
    assert len(chosen("", **ALL).providers) == len(ready(Settings(**ALL))) == 9
    assert set(available.WITHOUT_KEY) | set(available.SET_UP) <= available.SHIPPED
