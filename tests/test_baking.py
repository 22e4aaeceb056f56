"""Personas in the daemon: what is made of them, what is refused, what is stale, and that plain requests work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from command_line import Line, Terminal, chinese, line  # noqa: F401 - fixtures

import orchestra.errors as e
from orchestra.agents.baking import ANSWER, Base, base_for, install, installed, mark_of, quoted, recipe, uninstall
from orchestra.agents.personas import Library, shipped
from orchestra.model.catalog import chosen
from orchestra.model.client import Client
from orchestra.model.messages import Message, Options
from orchestra.model.persona import Persona
from orchestra.runtime import Blocking, finish
from orchestra.settings import Settings
from orchestra.standin import StandIn

BARD = Persona(name="bard", seed_memory={"zh": "你是诗人。", "en": "You are a bard."}, options=Options(temperature=0.4, max_tokens=90))
LLAMA = Base("llama3", "0" * 64)
RELOADED = 0.15  # seconds: a model that is loaded "loads" in far less


@pytest.fixture
def client(standin: StandIn) -> Client:
    return Client(Blocking(), Settings.read(host=standin.url))


def bake(client: Client, persona: Persona = BARD, name: str = "", *, language: str = "en", force: bool = False) -> list[str]:
    async def steps() -> list[str]:
        made = recipe(persona, await base_for(client, persona), language=language, settings=client.settings)
        return [step.status async for step in install(client, made, name, force=force)]

    return finish(steps())


def posted(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    found = httpx.post(url + path, json=body, trust_env=False, timeout=120)
    found.raise_for_status()
    answer: dict[str, Any] = found.json() if "json" in found.headers.get("content-type", "") else {}
    return answer


# --- what is made


def test_a_recipe_holds_text_and_sampling_and_never_the_window() -> None:
    persona = replace(BARD, options=replace(BARD.options, num_ctx=512, deadline=9.0, stop=("END",)))
    made = recipe(persona, LLAMA._replace(stops=("<|eot_id|>",)), language="en", settings=Settings())
    assert made.body("bard")["parameters"] == {
        "repeat_penalty": 1.1, "temperature": 0.4, "num_predict": 90, "stop": ["<|eot_id|>", "END"],
    }  # fmt: skip
    assert made.system == "You are a bard.\n\nAnswer in the language of the question."
    assert "num_ctx" not in made.modelfile("bard")


def test_the_language_is_one_that_the_persona_speaks() -> None:
    assert recipe(BARD, LLAMA, language="zh", settings=Settings()).system.startswith("你是诗人。\n\n用提问")
    english = replace(BARD, seed_memory={"en": "You are a bard."})
    assert recipe(english, LLAMA, language="zh", settings=Settings()).language == "en"
    told = replace(BARD, options=Options(language="zh"))
    assert recipe(told, LLAMA, language="en", settings=Settings()).system.endswith("请用中文回答。")
    translator = replace(BARD, follows_language=False)
    assert recipe(translator, LLAMA, language="en", settings=Settings()).system == "You are a bard."


def test_an_answer_has_a_bound() -> None:
    free = replace(BARD, options=Options())
    assert recipe(free, LLAMA, language="en", settings=Settings()).parameters["num_predict"] == ANSWER
    assert recipe(free, LLAMA, language="en", settings=Settings(max_tokens=50)).parameters["num_predict"] == 50


def test_a_seed_memory_cannot_open_a_turn() -> None:
    sly = replace(BARD, seed_memory={"en": "<|eot_id|> \ud800"})
    assert "<|eot_id|>" not in recipe(sly, LLAMA, language="en", settings=Settings()).system


def test_the_argument_of_a_modelfile_ends_where_it_ends() -> None:
    assert quoted('a """b""" c\nlast "') == '"""a """b""" c\nlast """"'
    assert quoted('ends """\nhere """  ') == "\"\"\"ends '''\nhere '''\"\"\""
    assert quoted('"""\nx') == "\"\"\"'''\nx\"\"\""


# --- in the daemon


def test_a_plain_request_is_answered_as_the_persona_is_told(client: Client, standin: StandIn) -> None:
    assert bake(client)[-1] == "success"
    posted(standin.url, "/api/generate", {"model": "llama3", "prompt": "hello", "stream": False})
    loads = standin.loads
    for _ in range(3):
        said = posted(standin.url, "/api/generate", {"model": "bard", "prompt": "hello", "stream": False})
        assert said["response"]
        assert said["eval_count"] <= 90
        posted(standin.url, "/api/generate", {"model": "llama3", "prompt": "hello", "stream": False})
    assert (standin.loads, standin.reloads) == (loads, 0)
    body = {"model": "bard", "messages": [{"role": "user", "content": "hello"}], "stream": False, "_debug_render_only": True}
    assert "You are a bard." in posted(standin.url, "/api/chat", body)["_debug_info"]["rendered_template"]


def test_a_window_of_its_own_would_reload(client: Client, standin: StandIn) -> None:
    """The red control of the test above."""
    made = recipe(BARD, LLAMA, language="en", settings=client.settings).body("bard")
    posted(standin.url, "/api/create", {**made, "parameters": {**made["parameters"], "num_ctx": 512}, "stream": False})
    for model in ("llama3", "bard", "llama3"):
        posted(standin.url, "/api/generate", {"model": model, "prompt": "hello", "stream": False})
    assert standin.reloads == 2


def test_what_orchestra_made_it_replaces_and_removes(client: Client) -> None:
    bake(client)
    bake(client, language="zh")
    [mark] = finish(installed(client))
    assert (mark.persona, mark.language, mark.model, mark.base) == ("bard", "zh", "bard", "llama3")
    finish(uninstall(client, ["bard"]))
    assert finish(installed(client)) == []
    with pytest.raises(e.ModelMissing):
        finish(uninstall(client, ["bard"]))


@pytest.mark.parametrize("how", ["by hand", "from ours", "copied", "changed"])
def test_what_somebody_else_made_stays(client: Client, standin: StandIn, how: str) -> None:
    name = "other" if how in ("from ours", "copied") else "bard"
    if how != "by hand":
        bake(client)
    if how == "copied":
        httpx.post(standin.url + "/api/copy", json={"source": "bard", "destination": name}, trust_env=False).raise_for_status()
    else:
        origin = "llama3" if how == "by hand" else "bard"
        posted(standin.url, "/api/create", {"model": name, "from": origin, "system": "" if how == "from ours" else "Mine.", "stream": False})
    before = finish(client.show(name))
    assert mark_of(name, before) is None
    with pytest.raises(e.ModelNotOurs):
        bake(client, name=name)
    with pytest.raises(e.ModelNotOurs):
        finish(uninstall(client, [name]))
    assert finish(client.show(name)) == before
    bake(client, name=name, force=True)
    assert mark_of(name, finish(client.show(name))) is not None


def test_stale_is_what_has_changed_since(client: Client, standin: StandIn) -> None:
    bake(client)
    [mark] = finish(installed(client))
    now = {"llama3:latest": next(row["digest"] for row in finish(client.tags()) if row["name"] == "llama3:latest")}
    assert not mark.stale(BARD, now)
    assert not mark.stale(BARD, {})  # without the base nothing newer could be made
    assert not mark.stale(replace(BARD, seed_memory={"en": "You are a bard.", "zh": "另一个。"}), now)
    assert mark.stale(replace(BARD, seed_memory={"en": "You are a poet."}), now)
    assert mark.stale(replace(BARD, options=Options(temperature=0.5, max_tokens=90)), now)
    assert mark.stale(BARD, {"llama3:latest": "f" * 64})
    assert mark.stale(None, now)


def test_the_base_may_be_named_in_full(client: Client) -> None:
    bake(client, replace(BARD, model="library/llama3"))
    [mark] = finish(installed(client))
    assert not mark.stale(BARD, {"llama3:latest": "f" * 64})


def test_what_cannot_be_made(client: Client) -> None:
    with pytest.raises(e.ModelMissing) as missing:
        bake(client, replace(BARD, model="nowhere"))
    assert "ollama pull nowhere" in missing.value.hint()
    with pytest.raises(e.ModelUnsupported):
        bake(client, replace(BARD, model="llama3:text"))
    with pytest.raises(e.UsageError):
        bake(client, name="llama3:latest", force=True)


def test_a_baked_persona_is_nobodys_default() -> None:
    with StandIn(models=["mid"]) as daemon:
        client = Client(Blocking(), Settings.read(host=daemon.url))
        assert finish(chosen(client)) == "mid"
        bake(client)
        posted(daemon.url, "/api/generate", {"model": "bard", "prompt": "hello", "stream": False})
        assert finish(chosen(client)) == "mid"


# --- on the command line


@pytest.fixture
def named(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", standin.url)


@pytest.mark.usefixtures("named")
def test_install_list_uninstall(line: Line, home: Path) -> None:  # noqa: F811
    done = line("personas", "install", "lawyer", "--lang", "zh")
    assert (done.code, done.out) == (0, "lawyer: made of llama3 (zh)\n")
    assert "ollama run lawyer" in done.err
    assert line("personas", "install", "lawyer", "--as", "counsel", "--json").json == {
        "installed": [{"model": "counsel", "persona": "lawyer", "language": "en", "base": "llama3"}]
    }
    own = home / "personas" / "lawyer.md"
    own.parent.mkdir(parents=True)
    own.write_text((shipped() / "lawyer.md").read_text("utf-8").replace("You are a lawyer", "You are a judge"), "utf-8")
    rows = {row["name"]: row["installed"] for row in line("personas", "list", "--json").json["personas"]}
    assert sorted((row["model"], row["stale"]) for row in rows["lawyer"]) == [("counsel", True), ("lawyer", False)]
    assert rows["general"] == []
    assert "counsel (en, stale)" in line("personas", "list").out
    assert line("personas", "uninstall", "lawyer", "--json").error["code"] == "usage_error"  # nobody to ask
    assert line("personas", "uninstall", "lawyer", "counsel", "--yes", "--json").json == {"removed": ["lawyer", "counsel"]}
    assert "INSTALLED" not in line("personas", "list").out


@pytest.mark.usefixtures("named")
def test_without_names_all_are_installed(line: Line) -> None:  # noqa: F811
    made = line("personas", "install", "--json").json["installed"]
    assert [each["model"] for each in made] == Library([shipped()]).names()


@pytest.mark.usefixtures("named")
def test_all_are_installed_or_none(line: Line, client: Client) -> None:  # noqa: F811
    made = recipe(BARD, LLAMA, language="en", settings=client.settings).body("x")
    posted(client.connection.url, "/api/create", {**made, "model": "support", "stream": False})
    refused = line("personas", "install", "--json")
    assert refused.error["code"] == "model_not_ours"
    assert finish(installed(client)) == []
    assert line("personas", "install", "lawyer", "--as", "no name", "--json").error["code"] == "usage_error"


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize("name", ["bad:name:x", "no name", "", ".x", "a/b/c/d", "律师", "lawyer:", "x" * 81])
def test_what_is_no_name_of_a_model_is_said_before_anything_is_made(line: Line, name: str) -> None:  # noqa: F811
    if name:
        refused = line("personas", "install", "lawyer", "--as", name, "--json").error
        assert (refused["code"], refused["message"]) == ("usage_error", f"{name!r} cannot be the name of a model")
        assert refused["hint"].startswith("use another name: letters, digits")
        assert "--model" not in refused["hint"]
    assert line("personas", "uninstall", name, "--yes", "--json").error["code"] == "model_missing"


@pytest.mark.parametrize("name", ["lawyer", "Lawyer-zh.2:7b_Q4", "team/lawyer", "localhost:5000/team/lawyer:zh"])
def test_what_the_daemon_takes_for_a_name_is_taken(client: Client, name: str) -> None:
    bake(client, name=name)
    assert finish(installed(client))


@pytest.mark.usefixtures("named")
def test_removing_hints_at_removing(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    hints = {
        ("en", "support"): "nothing to remove; `orchestra personas list` shows what is installed",
        ("zh", "support"): "无需移除；`orchestra personas list` 可查看已安装的角色",
        ("en", "llama3"): "it stays; to remove it all the same: ollama rm llama3",
        ("zh", "llama3"): "该模型未被移除；如仍需删除：ollama rm llama3",
    }
    for (language, name), hint in hints.items():
        monkeypatch.setattr("orchestra.cli.words.LANGUAGE", language)
        assert line("personas", "uninstall", name, "--yes", "--json").error["hint"] == hint


@pytest.mark.usefixtures("named")
def test_a_template_is_installed_with_a_warning(line: Line, home: Path) -> None:  # noqa: F811
    assert line("personas", "new", "miller").code == 0
    for arguments in (("miller",), ("miller", "--modelfile"), ()):
        done = line("personas", "install", *arguments)
        assert done.code == 0
        assert "warning: miller: the seed memory is still the one that `personas new` wrote" in done.err
        assert done.err.count("warning:") == 1
    (home / "personas" / "miller.md").write_text("---\nname: miller\ndescription: {en: Mills.}\n---\nYou mill.\n", "utf-8")
    assert "warning" not in line("personas", "install", "miller").err


@pytest.mark.usefixtures("named")
def test_what_has_lost_its_file_is_named(line: Line, client: Client) -> None:  # noqa: F811
    bake(client)
    assert "bard" in line("personas", "list").err


def test_uninstall_asks(standin: StandIn, client: Client) -> None:
    bake(client)
    with Terminal("personas", "uninstall", "bard", OLLAMA_HOST=standin.url) as terminal:
        terminal.until("[y/N]")
        terminal.type("n\n")
        assert terminal.code() == 1
    assert len(finish(installed(client))) == 1


def test_a_modelfile_needs_no_daemon(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    done = line("personas", "install", "lawyer", "--modelfile", "--lang", "en")
    head, base, system = done.out.splitlines()[:3]
    assert (done.code, head, base) == (0, "# ollama create lawyer -f Modelfile", "FROM llama3")
    assert system.startswith('SYSTEM """You are a lawyer')
    assert done.out.endswith('"""\nPARAMETER repeat_penalty 1.1\nPARAMETER temperature 0.3\nPARAMETER num_predict 700\n')
    monkeypatch.setenv("ORCHESTRA_MODEL", "mid")
    assert "FROM mid\n" in line("personas", "install", "lawyer", "--modelfile").out
    assert line("personas", "install", "--modelfile", "--json").error["code"] == "usage_error"
    assert line("personas", "install", "lawyer", "--json").error["code"] == "daemon_unreachable"
    rows = line("personas", "list", "--json").json["personas"]
    assert {row["installed"] for row in rows} == {None}


# --- on a real daemon


@pytest.fixture
def baked(real_daemon: str, real_model: str) -> Iterator[tuple[str, str]]:
    client = Client(Blocking(), Settings.read(host=real_daemon, model=real_model))
    name = f"orchestra-test-{os.getpid()}"
    bake(client, name=name)
    yield real_daemon, name
    finish(uninstall(client, [name]))


def test_a_real_daemon_answers_as_the_persona_and_reloads_nothing(baked: tuple[str, str], real_model: str) -> None:
    url, name = baked
    client = Client(Blocking(), Settings.read(host=url))
    assert name in [mark.model for mark in finish(installed(client))]
    hello = {"prompt": "Say one word.", "stream": False, "options": {"num_predict": 2}}
    posted(url, "/api/generate", {**hello, "model": real_model})
    for _ in range(10):
        for model in (name, real_model):
            said = posted(url, "/api/generate", {**hello, "model": model})
            assert said["done"]
            assert said["load_duration"] / 1e9 < RELOADED
    told, plain = (
        posted(url, "/api/chat", {
            "model": model, "messages": [{"role": "user", "content": "Hello"}], "stream": False, "_debug_render_only": True,
        })["_debug_info"]["rendered_template"]
        for model in (name, real_model)
    )  # fmt: skip
    assert "You are a bard." in told
    assert "You are a bard." not in plain


def test_messages_with_a_system_text_of_their_own_win(client: Client, standin: StandIn) -> None:
    """What a baked persona cannot do: whoever sends a system message takes its place."""
    bake(client)
    messages = [{"role": m.role, "content": m.content} for m in (Message("system", "Be terse."), Message("user", "hello"))]
    body = {"model": "bard", "messages": messages, "stream": False, "_debug_render_only": True}
    assert "bard" not in posted(standin.url, "/api/chat", body)["_debug_info"]["rendered_template"]
