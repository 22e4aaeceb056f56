"""What `doctor` finds: on a sound set-up nothing, and for each thing that is broken on purpose, that thing with its fix."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from command_line import Line, line, process  # noqa: F401 - fixtures

from orchestra.instruments import doctor, here
from orchestra.instruments.check import Check, sound
from orchestra.instruments.doctor import examined, readable
from orchestra.instruments.inventory import inventory, kind_of, portrait
from orchestra.instruments.machine import Machine
from orchestra.model.catalog import ModelCard
from orchestra.model.client import Client
from orchestra.runtime import Blocking, Looped, Runtime, finish
from orchestra.sessions.migrations import MIGRATIONS
from orchestra.sessions.store import Store
from orchestra.settings import Settings
from orchestra.standin import StandIn

NAMES = [
    "daemon", "version", "penalty", "stand-in", "direct", "chat model", "base model", "window", "memory", "place", "proxies", "slots",
    "store", "free space", "personas", "gateway", "keys", "extras", "port 5000", "python", "packages", "data folder", "search", "language",
]  # fmt: skip
RUNTIMES: dict[str, tuple[Callable[[], Runtime], Callable[[Coroutine[Any, Any, Any]], Any]]] = {
    "looped": (Looped, asyncio.run),
    "blocking": (Blocking, finish),
}
NOWHERE = "127.0.0.1:9"


def check(**overrides: Any) -> dict[str, Check]:
    """All checks by name, in the order in which they came."""
    return {each.name: each for each in finish(examined(Settings.read(**overrides), Blocking()))}


@pytest.fixture(autouse=True)
def this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What listens on this machine and how full its disk is are no facts about the code."""
    monkeypatch.setattr(here, "taken", lambda number: False)
    monkeypatch.setattr(here, "LEAST_FREE", 0)
    monkeypatch.setattr(doctor, "look", lambda: Machine(total=16 * 10**9, available=12 * 10**9))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_on_a_sound_set_up_the_main_job_can_run(standin: StandIn, runtime: str) -> None:
    make, run = RUNTIMES[runtime]
    checks = run(examined(Settings.read(host=standin.url), make()))
    assert [each.name for each in checks] == NAMES
    assert sound(checks)
    assert [each.name for each in checks if not each.ok] == ["stand-in"], "the stand-in counts, and is named"
    assert [each.name for each in checks if each.required] == ["daemon", "chat model", "store"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_without_a_daemon_it_is_quick_and_says_what_to_do(runtime: str) -> None:
    make, run = RUNTIMES[runtime]
    before = time.monotonic()
    checks = run(examined(Settings.read(host=NOWHERE), make()))
    assert time.monotonic() - before < 3
    assert [each.name for each in checks] == NAMES
    assert not sound(checks)
    assert {each.name for each in checks if each.ok} >= {"store", "personas", "python", "packages", "language"}
    for language in ("en", "zh"):
        for each in checks:
            shown = each.shown(language)
            assert set(shown) == {"name", "ok", "required", "detail", "fix"}
            assert shown["detail"]
            assert bool(shown["fix"]) == (not each.ok), shown


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_something_that_listens_and_is_silent(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PATIENCE", 0.2)
    make, run = RUNTIMES[runtime]
    before = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        checks = run(examined(Settings.read(host=f"127.0.0.1:{silent.getsockname()[1]}"), make()))
    assert time.monotonic() - before < 3
    assert not sound(checks)
    assert "does not answer" in checks[0].detail.en


@pytest.mark.skipif(sys.platform != "linux", reason="what a full queue does to a connection differs between systems")
def test_an_address_that_swallows_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PATIENCE", 0.3)
    with socket.socket() as full, ExitStack() as queue:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        before = time.monotonic()
        found = check(host=f"127.0.0.1:{full.getsockname()[1]}")["daemon"]
    assert time.monotonic() - before < 3
    assert "does not answer in time" in found.detail.en


def test_what_answers_and_is_no_daemon(standin: StandIn) -> None:
    standin.fail("html_200", path="/api/version")
    found = check(host=standin.url)["daemon"]
    assert not found.ok
    assert "not like Ollama" in found.detail.en
    assert "OLLAMA_HOST" in found.fix.en


def test_where_the_address_came_from(standin: StandIn) -> None:
    assert check(host=standin.url)["daemon"].detail.en == f"{standin.url} (from OLLAMA_HOST)"
    client = Client(Blocking(), Settings())
    assert "the default" in doctor.reached(client, Settings()).detail.en


@pytest.mark.parametrize(("version", "ok"), [("0.12.5", False), ("0.3.0", False), ("0.12.6", False), ("0.12.11", True), ("0.32.15", True), ("1.0", True)])
def test_a_daemon_that_cuts_prompts_or_lacks_logprobs_is_too_old(version: str, ok: bool) -> None:
    with StandIn(version=version) as daemon:
        found = check(host=daemon.url)["version"]
    assert found.ok == ok
    assert version in found.detail.en
    assert bool(found.fix.en) != ok


def test_a_build_without_a_number_is_taken_for_a_new_one() -> None:
    assert doctor.version_of("0.0.0").ok
    assert doctor.version_of("").ok
    assert not doctor.version_of("0.12.6-rc0".replace("6", "5")).ok


def test_no_model_at_all() -> None:
    with StandIn(models=[]) as daemon:
        found = check(host=daemon.url)
    assert [found[name].ok for name in ("chat model", "base model")] == [False, False]
    assert found["chat model"].fix.en == "run: orchestra pull llama3"
    assert found["base model"].fix.en == "run: orchestra pull llama3:text"
    assert not sound(list(found.values()))


def test_a_base_model_alone_is_not_enough_and_a_chat_model_is() -> None:
    for models, ok in ((["llama3:text"], False), (["llama3"], True)):
        with StandIn(models=models) as daemon:
            assert sound(list(check(host=daemon.url).values())) == ok


def test_the_model_that_was_named_must_be_there(standin: StandIn) -> None:
    found = check(host=standin.url, model="mistral")["chat model"]
    assert (found.ok, found.fix.en) == (False, "orchestra pull mistral")


def test_a_window_that_is_smaller_than_the_models_is_named(standin: StandIn) -> None:
    assert check(host=standin.url)["window"].ok, "nothing is loaded"
    client = Client(Blocking(), Settings.read(host=standin.url))
    finish(client.ready("llama3"))
    found = check(host=standin.url)["window"]
    assert (found.ok, found.detail.en.startswith("llama3 4096/8192")) == (False, True)
    with StandIn(window=8192) as daemon:
        finish(Client(Blocking(), Settings.read(host=daemon.url)).ready("llama3"))
        assert check(host=daemon.url)["window"].ok


def test_the_way_to_the_full_window() -> None:
    small = ModelCard(name="m", context=8192, loaded=True, window=4096)
    assert "OLLAMA_CONTEXT_LENGTH=8192 ollama serve" in doctor.window([small], False).fix.en
    large = ModelCard(name="m", context=131072, loaded=True, window=8192)
    assert doctor.window([large], False).ok, "more than a dialogue needs costs memory"
    tiny = ModelCard(name="m", context=2048, loaded=True, window=1024)
    assert "OLLAMA_CONTEXT_LENGTH=2048" in doctor.window([tiny], False).fix.en


# --- this machine


def test_a_store_that_is_no_store(home: Path) -> None:
    home.mkdir()
    (home / "sessions.db").write_bytes(b"no database" * 100)
    found = check(host=NOWHERE)["store"]
    assert (found.ok, found.required) == (False, True)
    assert "ORCHESTRA_HOME" in found.fix.en
    assert (home / "sessions.db").read_bytes() == b"no database" * 100


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    found = check(host=NOWHERE, home=str(tmp_path / "file" / "below"))["store"]
    assert not found.ok
    assert "ORCHESTRA_HOME" in found.fix.en


def test_a_store_that_somebody_holds(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    monkeypatch.setattr(here, "STORE_PATIENCE", 0.2)
    with Store(home) as store:
        store.create("s")
    with closing(sqlite3.connect(home / "sessions.db", isolation_level=None)) as held:
        held.execute("BEGIN IMMEDIATE")
        assert not check(host=NOWHERE)["store"].ok
    found = check(host=NOWHERE)["store"]
    assert found.ok
    assert found.detail.en == f"{home / 'sessions.db'}, version {len(MIGRATIONS)}, 1 sessions"


def test_a_disk_that_is_nearly_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "free_bytes", lambda path: here.LEAST_FREE - 1)
    found = check(host=NOWHERE)
    assert (found["free space"].ok, found["free space"].required) == (False, False)


def test_a_persona_that_cannot_be_read(home: Path) -> None:
    folder = home / "personas"
    folder.mkdir(parents=True)
    (folder / "mine.md").write_text("no front matter")
    found = check(host=NOWHERE)["personas"]
    assert not found.ok
    assert f"{folder / 'mine.md'}:1" in found.detail.en
    (folder / "mine.md").unlink()
    assert check(host=NOWHERE)["personas"].ok


def test_no_personas_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestra.agents import personas

    monkeypatch.setattr(personas, "shipped", lambda: tmp_path)
    assert not check(host=NOWHERE)["personas"].ok


def test_a_port_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        number = listening.getsockname()[1]
        found = here.port(number, "us", "我们")
        assert not found.ok
        assert found.fix.en.endswith(f"lsof -i :{number}")
    assert here.port(number, "us", "我们").ok


def test_a_port_that_airplay_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "taken", lambda number: True)
    monkeypatch.setattr(here.sys, "platform", "darwin")  # type: ignore[attr-defined]
    assert "AirPlay" in here.port(5000, "us", "我们").fix.en
    assert "lsof" in here.port(5002, "us", "我们").fix.en


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "PACKAGES", ("httpx", "no-such-package"))
    interpreter, packages = here.python()
    assert interpreter.ok
    assert not packages.ok
    assert packages.fix.en.endswith("-m pip install no-such-package")


@pytest.mark.parametrize(
    ("environment", "ok", "said"),
    [
        ({}, True, "English"),
        ({"LANG": "zh_CN.UTF-8"}, True, "Chinese (from LANG=zh_CN.UTF-8)"),
        ({"LANG": "zh_CN.UTF-8", "ORCHESTRA_LANG": "en"}, True, "English (from ORCHESTRA_LANG=en)"),
        ({"ORCHESTRA_LANG": "fr"}, False, "ORCHESTRA_LANG is 'fr'; English is used"),
    ],
)
def test_the_language_and_who_said_so(environment: dict[str, str], ok: bool, said: str) -> None:
    found = here.language(environment)
    assert (found.ok, found.detail.en, bool(found.fix.en)) == (ok, said, not ok)


def test_settings_that_cannot_be_read_are_named_and_the_rest_is_examined() -> None:
    settings, faults = readable({"ORCHESTRA_PARALLEL": "many", "ORCHESTRA_DEADLINE": "soon", "ORCHESTRA_MODEL": "m"})
    assert settings.model == "m"
    assert [each.required for each in faults] == [True, True]
    assert ["ORCHESTRA_PARALLEL" in faults[0].detail.en, "ORCHESTRA_DEADLINE" in faults[1].detail.en] == [True, True]


# --- on the command line


def test_the_code_says_whether_it_is_well(standin: StandIn, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("OLLAMA_HOST", standin.url)
    done = line("doctor", "--json")
    assert (done.code, done.json["ok"]) == (0, True)
    assert [each["name"] for each in done.json["checks"]] == NAMES
    shown = line("doctor")
    assert (shown.code, shown.err) == (0, "")
    assert "note stand-in" in shown.out
    assert shown.out.endswith("The main job can run.\n")
    monkeypatch.setenv("OLLAMA_HOST", NOWHERE)
    done = line("doctor", "--json")
    assert (done.code, done.json["ok"]) == (1, False)
    shown = line("doctor")
    assert shown.out.count("ollama serve") == 1, "what helps many is said once"
    monkeypatch.setenv("OLLAMA_HOST", "ftp://x")
    monkeypatch.setenv("ORCHESTRA_PARALLEL", "many")
    done = line("doctor", "--json")
    assert (done.code, done.json["checks"][0]["name"], done.json["checks"][1]["name"]) == (1, "settings", "daemon")


def test_a_process_without_a_terminal_draws_nothing() -> None:
    before = time.monotonic()
    done = process("doctor", OLLAMA_HOST=NOWHERE, ORCHESTRA_LANG="zh", FORCE_COLOR="1")
    assert time.monotonic() - before < 3
    assert done.code == 1
    assert "无法连接 Ollama" in done.out
    assert "\x1b" not in done.out + done.err


# --- the inventory


def test_base_and_context_come_from_the_model_itself() -> None:
    with StandIn(models=["llama3", "llama3:text"]) as daemon:
        client = Client(Blocking(), Settings.read(host=daemon.url))
        cards = {card.name: card for card in finish(inventory(client))}
        assert {name: kind_of(card) for name, card in cards.items()} == {"llama3": "instruct", "llama3:text": "base"}
        assert cards["llama3"].context == 8192
        whole = finish(portrait(client, "llama3"))
        assert whole["stop"] == ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
        assert (whole["kind"], whole["family"], whole["loaded"]) == ("instruct", "llama", False)
    assert kind_of(ModelCard(name="e", capabilities=("embedding",))) == "embedding"


def test_the_environment_of_the_tests_names_no_daemon() -> None:
    assert "OLLAMA_HOST" not in os.environ
