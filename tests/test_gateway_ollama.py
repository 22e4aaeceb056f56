"""`/api`: personas as models for clients of the daemon's own protocol, over real sockets."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from clients import Terminal, ollama_binary, ollama_environment
from served import Served, running, serving

from orchestra.agents.lineage import Lineage
from orchestra.errors import Overloaded
from orchestra.gateway import answering, create_app, ollama_wire
from orchestra.gateway.app import refusal
from orchestra.model.window import full_name
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn

QUESTION = "违约金过高可以调整吗？"
ASK = {"model": "orchestra/lawyer", "messages": [{"role": "user", "content": QUESTION}]}
GENERAL = {**ASK, "model": "orchestra/general"}
PROMPT = {"model": "orchestra/lawyer", "prompt": QUESTION}
SEARCH = {"model": "orchestra/search", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
SEED = "你是一位法律专家"  # how the seed memory of the lawyer begins


@pytest.fixture
def client(served: Served) -> httpx.Client:
    return served()


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    """The lines of a stream, as the strictest client reads them."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert answer.content.endswith(b"\n")
    return [json.loads(line) for line in answer.content[:-1].decode("ascii").split("\n")]


def part(line: dict[str, Any], name: str = "content") -> str:
    said = line.get("message", line)
    return str(said.get("response", said.get("content", "")) if name == "content" else said.get(name, ""))


def text_of(said: list[dict[str, Any]], name: str = "content") -> str:
    return "".join(part(line, name) for line in said)


def entries(client: httpx.Client, path: str) -> dict[str, Any]:
    return {entry["name"]: entry for entry in client.get(path).json()["models"]}


# --- what there is


def test_it_passes_for_a_daemon(client: httpx.Client) -> None:
    for path, told in (("/", "Ollama is running"), ("/api/version", '{"version":"0.32.15"}')):
        assert client.get(path).text == told
        assert (client.head(path).status_code, client.head(path).content) == (200, b"")
    assert client.head("/api/tags").status_code == 200


def test_voices_are_listed_beside_the_models_of_the_daemon(client: httpx.Client, daemon: StandIn) -> None:
    listed = entries(client, "/api/tags")
    assert {"llama3:latest", "orchestra/auto:latest", "orchestra/lawyer:latest"} <= set(listed)
    assert len({entry["digest"] for entry in listed.values()}) == len(listed), "some clients take one digest for one model"
    lawyer, llama = listed["orchestra/lawyer:latest"], listed["llama3:latest"]
    assert set(lawyer) >= set(llama)
    assert (lawyer["model"], lawyer["size"], lawyer["details"]["parent_model"]) == (lawyer["name"], llama["size"], llama["name"])
    assert len([each for each in daemon.requests if each.path in ("/api/tags", "/api/ps")]) < 5, "not once for each voice"


def test_a_voice_is_in_memory_where_its_model_is(client: httpx.Client) -> None:
    assert entries(client, "/api/ps") == {}
    client.post("/api/generate", json={"model": "orchestra/lawyer"})
    loaded = entries(client, "/api/ps")
    assert loaded["orchestra/lawyer:latest"]["context_length"] == loaded["llama3:latest"]["context_length"]
    assert loaded["orchestra/lawyer:latest"]["digest"] == entries(client, "/api/tags")["orchestra/lawyer:latest"]["digest"]


def test_a_voice_is_shown_without_its_seed_memory(client: httpx.Client, daemon: StandIn) -> None:
    shown = client.post("/api/show", json={"name": "orchestra/lawyer:latest"}, headers={"Accept-Language": "zh"})
    assert SEED not in shown.text
    told = shown.json()
    assert "法律" in told["modelfile"]
    assert told["modelfile"].endswith("\nFROM llama3\n")
    assert (told["capabilities"], told["model_info"]["llama.context_length"]) == (["completion"], 8192)
    assert "temperature" in told["parameters"]
    client.post("/api/generate", json={"model": "orchestra/lawyer"})
    told = client.post("/api/show", json={"model": "orchestra/search"}).json()
    assert told["model_info"]["llama.context_length"] == 4096, "as much as is loaded"
    plain = httpx.post(daemon.url + "/api/show", json={"model": "llama3"}, trust_env=False)
    assert client.post("/api/show", json={"model": "llama3"}).content == plain.content
    assert client.post("/api/generate", json={**PROMPT, "_debug_render_only": True}).json()["done_reason"] == "load", "no prompt is shown"


# --- an answer


def test_a_persona_answers_part_by_part(client: httpx.Client, daemon: StandIn) -> None:
    said = lines(client.post("/api/chat", json={**ASK, "options": {"num_predict": 30, "num_ctx": 512}, "tools": [{"type": "function"}]}))
    assert len(said) > 3
    assert [line["done"] for line in said] == [False] * (len(said) - 1) + [True]
    assert {(line["model"], line["message"]["role"]) for line in said} == {("orchestra/lawyer", "assistant")}
    assert text_of(said)
    assert not text_of(said, "thinking")
    end = said[-1]
    assert end["done_reason"] in ("stop", "length")
    assert end["prompt_eval_count"] > end["eval_count"] > 0
    assert end["total_duration"] > end["eval_duration"] > 0
    (sent,) = daemon.asked("/api/chat")
    assert SEED in sent["messages"][0]["content"]
    assert sent["options"]["num_predict"] <= 30
    assert "tools" not in sent
    assert (sent["options"]["num_ctx"], daemon.reloads) == (4096, 0), "a wish for a window would load the model again for everybody"
    httpx.post(daemon.url + "/api/chat", json={**sent, "options": {"num_ctx": 512}}, trust_env=False)
    assert daemon.reloads == 1, "as it does"


@pytest.mark.parametrize(("path", "body"), [("/api/chat", ASK), ("/api/generate", {**PROMPT, "context": [1, 2], "template": "x"})])
def test_and_in_one(client: httpx.Client, daemon: StandIn, path: str, body: dict[str, Any]) -> None:
    daemon.script("可以请求法院减少。")
    answer = client.post(path, json={**body, "stream": False})
    assert answer.headers["content-type"].startswith("application/json")
    said = answer.json()
    assert (part(said), said["done"], said["done_reason"]) == ("可以请求法院减少。", True, "stop")
    assert said["eval_count"] > 0
    assert "context" not in said


def test_a_dialogue_goes_on_and_a_wish_stands_after_the_seed_memory(client: httpx.Client, daemon: StandIn) -> None:
    messages = [
        {"role": "system", "content": "请用很短的句子。"},
        {"role": "user", "content": "我叫小明。"},
        {"role": "assistant", "content": "你好，小明。", "thinking": "⏳"},
        {"role": "tool", "content": "?"},
        {"role": "User", "content": "我叫什么？"},
    ]
    client.post("/api/chat", json={**ASK, "messages": messages})
    client.post("/api/generate", json={**PROMPT, "system": "请用很短的句子。", "suffix": "", "options": None, "format": "", "images": None})
    dialogue, prompt = (sent["messages"] for sent in daemon.asked("/api/chat"))
    assert [one["role"] for one in dialogue] == ["system", "user", "assistant", "user"]
    assert dialogue[1]["content"].startswith("请用很短的句子。\n\n我叫小明。")
    assert dialogue[2]["content"] == "你好，小明。"
    assert prompt[1]["content"].startswith("请用很短的句子。\n\n" + QUESTION)
    assert all("很短的句子" not in one[0]["content"] for one in (dialogue, prompt))


def test_wishes_reach_the_model(client: httpx.Client, daemon: StandIn) -> None:
    wished = {"temperature": 0.1, "top_k": 7, "top_p": 0.5, "min_p": 0.1, "seed": 3, "repeat_penalty": 1.3, "repeat_last_n": 32,
              "presence_penalty": 0.1, "frequency_penalty": 0.2}  # fmt: skip
    form = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    options = {**wished, "stop": ["。"], "num_predict": -1, "num_gpu": 1, "unheard_of": {}}
    client.post("/api/chat", json={**ASK, "options": options, "format": form, "think": False})
    (sent,) = daemon.asked("/api/chat")
    assert {name: sent["options"][name] for name in wished} == wished
    assert "。" in sent["options"]["stop"]
    assert sent["options"]["num_predict"] > 0, "there is a bound where none is wanted"
    assert "num_gpu" not in sent["options"]
    assert (sent["format"], sent["think"]) == (form, False)


def test_whoever_wants_thinking_of_a_model_that_cannot_is_answered(client: httpx.Client, daemon: StandIn) -> None:
    assert client.post("/api/chat", json={**ASK, "model": "llama3", "think": True}).status_code == 400, "the daemon itself refuses"
    for think in (True, "high"):
        assert lines(client.post("/api/chat", json={**ASK, "think": think}))[-1]["done"] is True


def test_what_happens_is_thinking_and_sources_are_text(client: httpx.Client) -> None:
    auto = {**ASK, "model": "orchestra/auto"}
    said = lines(client.post("/api/chat", json=auto))
    assert text_of(said, "thinking") == "→ lawyer\n"
    assert not text_of(lines(client.post("/api/chat", json={**auto, "think": False})), "thinking")
    assert text_of(lines(client.post("/api/generate", json={**PROMPT, "model": "orchestra/auto"})), "thinking") == "→ lawyer\n"
    found = lines(client.post("/api/chat", json=SEARCH))
    assert "\n\n[1] France\n" in text_of(found)
    assert "\n\n[1] France\n" in part(client.post("/api/chat", json={**SEARCH, "stream": False}).json())


def test_a_program_that_reads_a_form_gets_nothing_else(client: httpx.Client, daemon: StandIn) -> None:
    for model in ("orchestra/auto", "orchestra/search"):
        said = lines(client.post("/api/chat", json={**SEARCH, "model": model, "format": "json"}))
        json.loads(text_of(said))
        assert not text_of(said, "thinking")
    daemon.script(Scripted(['{"a"', ": "], end="nothing"))
    said = lines(client.post("/api/chat", json={**GENERAL, "format": "json"}))
    assert (text_of(said), said[-1]["done_reason"]) == ('{"a": ', "incomplete")


def test_an_error_in_the_middle_is_text_and_there_is_an_end(client: httpx.Client, daemon: StandIn) -> None:
    lines(client.post("/api/chat", json=GENERAL))
    for path, body in (("/api/chat", GENERAL), ("/api/generate", {**PROMPT, "model": "orchestra/general"})):
        daemon.script(Scripted(["一", "二", "三"], end="nothing"))
        said = lines(client.post(path, json=body))
        assert text_of(said).startswith("一二三\n\n> ")
        assert not any("error" in line for line in said), "some clients pass over it"
        assert (said[-1]["done"], said[-1]["done_reason"]) == (True, "incomplete")
        daemon.script(Scripted(["一", "二", "三"], end="nothing"))
        whole = client.post(path, json={**body, "stream": False})
        assert (whole.status_code, list(whole.json())) == (502, ["error"])


def test_a_loop_is_broken_off_and_says_so(client: httpx.Client, daemon: StandIn) -> None:
    daemon.script("很好，" * 40, "很好，" * 40)
    said = lines(client.post("/api/chat", json=GENERAL))
    whole = client.post("/api/chat", json={**GENERAL, "stream": False}).json()
    assert said[-1]["done_reason"] == whole["done_reason"] == "repetition"
    assert 0 < len(part(whole)) < len(text_of(said)), "whoever takes it whole is spared what was repeated"


def test_an_empty_line_is_a_sign_of_life(client: httpx.Client, daemon: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "QUIET", 0.05)
    client.post("/api/generate", json={"model": "orchestra/general"})
    daemon.script(Scripted(["一", "二"], pace=0.8))
    said = lines(client.post("/api/chat", json=GENERAL))
    assert "" in [part(line) for line in said[1:-1]]
    assert text_of(said) == "一二"


def test_whoever_leaves_frees_the_model(client: httpx.Client, daemon: StandIn) -> None:
    daemon.script(Scripted(["字"] * 500, pace=0.02))
    with client.stream("POST", "/api/chat", json=GENERAL) as answer:
        said = answer.iter_lines()
        while not part(json.loads(next(said))):
            pass
        assert daemon.active
    until = time.monotonic() + 5
    while daemon.active and time.monotonic() < until:
        threading.Event().wait(0.02)
    assert not daemon.active


def test_a_title_wakes_no_model(client: httpx.Client, daemon: StandIn) -> None:
    for body in ({**ASK, "stream": False}, ASK):
        answer = client.post("/api/chat", json=body, headers={"X-Orchestra-Task": "title_generation"})
        said = [answer.json()] if body.get("stream") is False else lines(answer)
        assert "违约金" in json.loads(text_of(said))["title"]
        assert (said[-1]["done"], said[-1]["done_reason"]) == (True, "stop")
    assert daemon.asked("/api/chat") == []


def test_a_dialogue_is_kept_under_the_name_that_its_client_gives_it(client: httpx.Client, daemon: StandIn) -> None:
    messages: list[dict[str, str]] = []
    for question in ("我叫小明。", "我叫什么？"):
        messages.append({"role": "user", "content": question})
        said = lines(client.post("/api/chat", json={**GENERAL, "messages": messages}, headers={"X-Orchestra-Chat": "names"}))
        messages.append({"role": "assistant", "content": text_of(said)})
    (session,) = client.get("/sessions").json()["sessions"]
    assert (session["name"], session["turns"]) == ("@/names", 2)


# --- the memory


@pytest.mark.parametrize(("path", "empty"), [("/api/chat", {"messages": []}), ("/api/generate", {"prompt": ""})])
def test_whoever_asks_nothing_loads_or_unloads(client: httpx.Client, daemon: StandIn, path: str, empty: dict[str, Any]) -> None:
    said = client.post(path, json={"model": "orchestra/lawyer", **empty}).json()
    assert (part(said), said["done"], said["done_reason"], daemon.loads) == ("", True, "load", 1)
    assert "message" in said or "response" in said
    client.post(path, json={"model": "orchestra/lawyer", **empty, "keep_alive": "-1"})
    assert entries(client, "/api/ps")["llama3:latest"]["expires_at"] > "2100", "for ever"
    for never in (0, "0", "0s"):
        said = client.post(path, json={"model": "orchestra/lawyer", **empty, "keep_alive": never}).json()
        assert (said["done_reason"], entries(client, "/api/ps")) == ("unload", {})
        client.post(path, json={"model": "orchestra/lawyer", **empty})
    assert daemon.reloads == 0


def test_how_long_a_model_stays_is_said_with_a_question_too(client: httpx.Client, daemon: StandIn) -> None:
    assert lines(client.post("/api/chat", json={**ASK, "keep_alive": -1}))[-1]["done_reason"] == "stop"
    assert entries(client, "/api/ps")["llama3:latest"]["expires_at"] > "2100"
    assert lines(client.post("/api/chat", json={**ASK, "keep_alive": 0}))[-1]["done_reason"] == "stop"
    assert entries(client, "/api/ps") == {}
    assert (daemon.loads, daemon.reloads) == (1, 0)
    assert client.post("/api/chat", json={**ASK, "keep_alive": "soon"}).status_code == 400


# --- what is refused

REFUSED: list[tuple[str, dict[str, Any] | bytes, int, str]] = [
    ("/api/chat", {**ASK, "model": "orchestra/nobody"}, 404, "model 'orchestra/nobody' not found"),
    ("/api/chat", {**ASK, "model": "nobody"}, 404, "model 'nobody' not found"),
    ("/api/show", {"model": "nobody"}, 404, "model 'nobody:latest' not found"),
    ("/api/show", {"model": "orchestra/lawyr"}, 404, "model 'orchestra/lawyr' not found: there is no persona 'lawyr'; "),
    ("/api/chat", {**ASK, "messages": [{"role": "assistant", "content": "x"}]}, 400, "messages: "),
    ("/api/chat", {**ASK, "messages": [{"role": "user", "content": "x", "images": ["eA=="]}]}, 400, "images"),
    ("/api/chat", {**ASK, "messages": [{"role": "user", "content": [{"type": "text"}]}]}, 400, "messages.0.content: "),
    ("/api/chat", {**ASK, "options": {"temperature": "hot"}}, 400, "options.temperature: "),
    ("/api/chat", {**ASK, "options": {"seed": 10**30}}, 400, "options.seed: "),
    ("/api/chat", {**ASK, "options": []}, 400, "options: "),
    ("/api/chat", {**ASK, "format": "xml"}, 400, "format"),
    ("/api/chat", {**ASK, "think": "much"}, 400, "think"),
    ("/api/chat", b'{"model": "orchestra/lawyer", "options": {"temperature": 1e999}, "messages": [{"role": "user", "content": "x"}]}', 400, ""),
    ("/api/chat", b"[1, 2", 400, "JSON"),
    ("/api/generate", {**PROMPT, "suffix": "x"}, 400, "suffix"),
    ("/api/generate", {**PROMPT, "images": ["eA=="]}, 400, "images"),
    ("/api/generate", {**PROMPT, "raw": True}, 400, "raw"),
    ("/api/generate", {**PROMPT, "prompt": "  "}, 400, "messages: "),
    ("/api/embed", {"model": "orchestra/lawyer", "input": "x"}, 400, "embeddings"),
    ("/api/embeddings", {"model": "orchestra/lawyer", "prompt": "x"}, 400, "embeddings"),
    ("/api/me", {}, 404, "/api/me"),
    ("/api/tags", {}, 405, "GET"),
]


def test_what_is_wrong_is_said_in_one_line_with_the_daemons_status(client: httpx.Client, daemon: StandIn) -> None:
    for path, body, status, words in REFUSED:
        answer = client.post(path, content=body) if isinstance(body, bytes) else client.post(path, json=body)
        said = answer.json()
        assert (answer.status_code, list(said)) == (status, ["error"]), (path, body, answer.text)
        assert words in said["error"], (path, body, said)
        assert "\n" not in said["error"]
    assert daemon.asked("/api/chat") == []


def test_so_it_is_at_the_border(served: Served, daemon: StandIn) -> None:
    client = served(token="a-token-of-some-length-0123456789", body_limit=1000)
    key = {"Authorization": "Bearer a-token-of-some-length-0123456789"}
    for headers, status, words in (
        ({}, 401, "Authorization: Bearer"),
        ({**key, "Host": "evil.example"}, 421, "ORCHESTRA_ALLOWED_HOSTS"),
        ({**key, "Origin": "http://evil.example"}, 403, "ORCHESTRA_ALLOWED_ORIGINS"),
        ({**key, "X-Long": "x" * 20000}, 431, "headers"),
        (key, 400, "ORCHESTRA_BODY_LIMIT"),
        ({**key, **Lineage().at("lawyer").headers()}, 400, "ORCHESTRA_BODY_LIMIT"),
    ):
        answer = client.post("/api/chat", json={**ASK, "padding": "x" * 1000}, headers=headers)
        assert (answer.status_code, list(answer.json())) == (status, ["error"]), answer.text
        assert words in answer.json()["error"]
    again = client.post("/api/chat", json=ASK, headers={**key, **Lineage().at("lawyer").headers()})
    assert (again.status_code, "recursion" in again.json()["error"]) == (508, True)
    assert client.post("/api/chat", json=ASK).headers["www-authenticate"] == "Bearer"
    assert daemon.asked("/api/chat") == []


def test_a_full_house_says_when_to_come_again() -> None:
    answer = refusal(Overloaded(most=3, seconds=2), "en", path="/api/chat")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert json.loads(bytes(answer.body)) == {"error": "3 requests are being answered already (ask again in 2 seconds, or raise ORCHESTRA_IN_FLIGHT)"}


MANAGED = [
    ("POST", "/api/pull", {"model": "mistral"}, "ollama pull"),
    ("POST", "/api/push", {"model": "llama3"}, "ollama push"),
    ("POST", "/api/create", {"model": "mine", "from": "llama3"}, "ollama create"),
    ("POST", "/api/copy", {"source": "llama3", "destination": "mine"}, "ollama cp"),
    ("DELETE", "/api/delete", {"model": "llama3"}, "ollama rm"),
    ("POST", "/api/blobs/sha256:00", {}, "ollama create"),
]


def test_the_models_are_their_owners(client: httpx.Client, daemon: StandIn) -> None:
    for method, path, body, command in MANAGED:
        answer = client.request(method, path, json=body)
        assert answer.status_code == 403, path
        assert f"OLLAMA_HOST={daemon.url} {command}" in answer.json()["error"]
    assert {each.path for each in daemon.requests} & {path for _, path, *_ in MANAGED} == set()
    assert httpx.request("DELETE", daemon.url + "/api/delete", json={"model": "llama3"}, trust_env=False).status_code == 200, "as it would have been"


def test_a_client_that_pulls_a_voice_finds_it(client: httpx.Client) -> None:
    assert client.post("/api/pull", json={"model": "orchestra/lawyer"}).json() == {"status": "success"}
    missing = client.post("/api/pull", json={"name": "orchestra/nobody"})
    assert (missing.status_code, missing.json()["error"][:36]) == (404, "model 'orchestra/nobody' not found: ")


def test_an_expert_alone_is_all_there_is(served: Served, daemon: StandIn) -> None:
    client = served(persona="lawyer")
    assert list(entries(client, "/api/tags")) == ["orchestra/lawyer:latest"]
    assert lines(client.post("/api/chat", json=ASK))[-1]["done"] is True
    assert list(entries(client, "/api/ps")) == ["orchestra/lawyer:latest"]
    for path in ("/api/chat", "/api/show", "/api/embed"):
        answer = client.post(path, json={**ASK, "model": "llama3"})
        assert (answer.status_code, "orchestra/lawyer" in answer.json()["error"]) == (404, True), "the daemon's own are not here"


EMBEDDING: list[tuple[str, dict[str, Any], int]] = [
    ("/api/embed", {"model": "tiny-embed", "input": ["a", "b"]}, 200), ("/api/embeddings", {"model": "tiny-embed", "prompt": "a"}, 200),
    ("/api/embed", {"model": "not-there", "input": "a"}, 404), ("/api/embed", {"model": "llama3", "input": "a"}, 501),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status"), EMBEDDING)
def test_texts_become_vectors_as_at_the_daemon(path: str, body: dict[str, Any], status: int) -> None:
    with StandIn(models=["llama3", "tiny-embed"]) as daemon, serving(daemon.url) as served:
        answer, plain = served().post(path, json=body), httpx.post(daemon.url + path, json=body, trust_env=False)
    times = ("total_duration", "load_duration")
    told, meant = ({name: value for name, value in one.json().items() if name not in times} for one in (answer, plain))
    assert (answer.status_code, plain.status_code, told) == (status, status, meant)


@pytest.mark.parametrize(("guard", "own", "status"), [
    ("on", {}, 200), ("strict", {}, 400), ("strict", {"truncate": None}, 400), ("strict", {"Truncate": True}, 200), ("off", {}, 200),
])
def test_a_text_that_the_daemon_would_cut_is_refused_where_nothing_may_be(guard: str, own: dict[str, Any], status: int) -> None:
    with StandIn(models=["tiny-embed"]) as daemon:
        settings = Settings.read(host=daemon.url, guard=guard)
        with running(create_app(settings=settings), settings) as url:
            body = {"model": "tiny-embed", "input": ["word " * 5000], **own}
            answer = httpx.post(url + "/api/embed", json=body, trust_env=False, timeout=30)
    assert answer.status_code == status, answer.text
    assert status == 200 or "context length" in answer.json()["error"]


def test_a_daemon_that_is_away_is_named(served: Served, daemon: StandIn) -> None:
    client, url = served(), daemon.url
    daemon.stop()
    for answer in (client.get("/api/tags"), client.get("/api/version"), client.post("/api/chat", json=ASK), client.post("/api/show", json=PROMPT)):
        assert answer.status_code == 503
        assert url in answer.json()["error"]
    assert client.get("/").text == "Ollama is running", "it is here"


def test_a_daemon_that_takes_a_question_and_says_nothing_keeps_no_list_waiting(
    served: Served, daemon: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestra.gateway.attending.LISTING", 0.2)
    client = served()
    for path in ("/v1/models", "/api/tags", "/api/ps", "/api/version"):
        daemon.fail("stall_before_headers", path=path)
    began = time.monotonic()
    listed = client.get("/v1/models").json()["data"]
    assert {one["id"].partition("/")[0] for one in listed} == {"orchestra"}, "the voices alone"
    for path in ("/api/tags", "/api/ps", "/api/version"):
        answer = client.get(path)
        assert (answer.status_code, daemon.url in answer.json()["error"]) == (503, True), answer.text
    assert time.monotonic() - began < 3


def test_a_digest_of_all_voices_would_be_noticed(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the list: without names in the digest there is one."""
    entry = ollama_wire.entry
    monkeypatch.setattr(ollama_wire, "entry", lambda name, row: {**entry("orchestra/x", row), "name": name})
    listed = [one["digest"] for one in client.get("/api/tags").json()["models"]]
    assert len(set(listed)) < len(listed)


# --- a real daemon, and its command line


def test_over_a_real_daemon(real_daemon: str, real_model: str) -> None:
    with serving(real_daemon) as run:
        client = run()
        assert client.get("/api/version").json() == httpx.get(real_daemon + "/api/version", trust_env=False).json()
        listed = entries(client, "/api/tags")
        assert {"orchestra/lawyer:latest", full_name(real_model)} <= set(listed)
        assert client.post("/api/generate", json={"model": "orchestra/lawyer"}).json()["done_reason"] == "load"
        assert "orchestra/lawyer:latest" in entries(client, "/api/ps")
        end = lines(client.post("/api/chat", json={**ASK, "options": {"num_predict": 8}}))[-1]
        assert (end["done"], end["eval_count"] <= 8) == (True, True)
        assert lines(client.post("/api/generate", json=PROMPT))[-1]["done"] is True
        assert client.post("/api/generate", json={"model": "orchestra/lawyer", "keep_alive": 0}).json()["done_reason"] == "unload"


def test_the_ollama_command(client: httpx.Client, daemon: StandIn, tmp_path: Path) -> None:
    if not ollama_binary():
        pytest.skip("there is no ollama on the PATH")
    environment = ollama_environment(str(client.base_url), str(tmp_path))

    def run(*given: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["ollama", *given], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30)

    assert "orchestra/lawyer:latest" in run("list").stdout
    assert "8192" in run("show", "orchestra/lawyer").stdout
    daemon.script("可以请求法院减少。")
    assert run("run", "orchestra/lawyer", QUESTION).stdout.strip() == "可以请求法院减少。"
    assert "orchestra/lawyer:latest" in run("ps").stdout
    assert "no persona 'nobody'" in run("run", "orchestra/nobody", "hi").stderr
    assert f"OLLAMA_HOST={daemon.url} ollama rm" in run("rm", "llama3").stderr
    daemon.script("你好，小明。", "你叫小明。")
    terminal = Terminal("orchestra/general", environment)
    try:
        assert "你好，小明。" in terminal.say("我叫小明。")
        assert "你叫小明。" in terminal.say("我叫什么？")
    finally:
        terminal.close()
    _, name, greeting, _ = daemon.asked("/api/chat")[-1]["messages"]
    assert (name["content"][:5], greeting["content"]) == ("我叫小明。", "你好，小明。"), "the second turn knows the first"
