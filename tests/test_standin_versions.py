"""Old daemons and new ones: what the stand-in does otherwise on either side of each border, and models that think."""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import closing
from typing import Any

import pytest

from orchestra.errors import StandInFault
from orchestra.standin import Scripted, StandIn
from orchestra.standin.refusal import BUSY, LOOPED, TOO_LONG
from orchestra.standin.versions import SINCE, profile

LONG = "The lake is blue and the sky is clear today. " * 30
NEWEST = "0.34.0"
EXCEEDS = "the input length exceeds the context length"
FEW = {"num_ctx": 256, "num_predict": 4}


def sent(daemon: StandIn, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    """Status and JSON of an answer; GET where nothing is sent."""
    connection = http.client.HTTPConnection("127.0.0.1", int(daemon.url.rpartition(":")[2]), timeout=10)
    with closing(connection):
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def ask(daemon: StandIn, path: str = "/api/generate", **body: Any) -> tuple[int, dict[str, Any]]:
    """One answer, not streamed."""
    given = {"prompt": "hi"} if path == "/api/generate" else {}
    return sent(daemon, path, {"model": "llama3", "stream": False, **given, **body})


def lines(daemon: StandIn, **body: Any) -> list[dict[str, Any]]:
    """The lines of a streamed answer."""
    connection = http.client.HTTPConnection("127.0.0.1", int(daemon.url.rpartition(":")[2]), timeout=10)
    with closing(connection):
        connection.request("POST", "/api/chat", json.dumps({"model": "llama3", "messages": [{"role": "user", "content": "hi"}], **body}))
        return [json.loads(line) for line in connection.getresponse().read().splitlines()]


def borders(*cases: tuple[str, Any]) -> pytest.MarkDecorator:
    """A test for each version, with what is expected of it."""
    return pytest.mark.parametrize(("version", "expected"), cases, ids=[version for version, _ in cases])


def test_versions_are_read() -> None:
    assert profile("v0.30.0-rc1").number == (0, 30, 0)
    assert profile("0.9").number == (0, 9, 0)
    assert all(profile("0.0.0").has(name) for name in SINCE)
    assert not any(profile("0.3.0").has(name) for name in SINCE)
    with pytest.raises(StandInFault, match="newest"):
        StandIn(version="newest")
    with StandIn(version="0.24.0") as daemon:
        assert sent(daemon, "/api/version") == (200, {"version": "0.24.0"})


@pytest.mark.parametrize("name", SINCE)
def test_every_border_is_sharp(name: str) -> None:
    major, minor, patch = SINCE[name]
    before = f"{major}.{minor}.{patch - 1}" if patch else f"{major}.{minor - 1}.99"
    assert profile(f"{major}.{minor}.{patch}").has(name)
    assert not profile(before).has(name)


@borders(("0.6.3", False), ("0.6.4", True))
def test_show_tells_capabilities(version: str, expected: bool) -> None:
    with StandIn(version=version) as daemon:
        assert ("capabilities" in sent(daemon, "/api/show", {"model": "llama3"})[1]) is expected


@borders(("0.9.6", False), ("0.10.0", True))
def test_ps_tells_the_window(version: str, expected: bool) -> None:
    with StandIn(version=version) as daemon:
        ask(daemon)
        assert ("context_length" in sent(daemon, "/api/ps")[1]["models"][0]) is expected


@borders(("0.29.9", False), ("0.30.0", True))
def test_tags_tell_capabilities_and_sizes(version: str, expected: bool) -> None:
    with StandIn(version=version) as daemon:
        tag = sent(daemon, "/api/tags")[1]["models"][0]
    assert ("capabilities" in tag, "context_length" in tag["details"]) == (expected, expected)


@borders(("0.12.10", False), ("0.12.11", True), ("0.24.0", True), (NEWEST, True))
def test_logprobs(version: str, expected: bool) -> None:
    with StandIn(version=version) as daemon:
        answer = ask(daemon, logprobs=True, top_logprobs=2, options={"num_predict": 3})[1]
    assert ("logprobs" in answer) is expected


@borders(("0.11.4", False), ("0.11.5", True))
def test_a_prompt_can_be_rendered_only(version: str, expected: bool) -> None:
    with StandIn(version=version) as daemon:
        assert ("_debug_info" in ask(daemon, _debug_render_only=True)[1]) is expected


@borders(
    ("0.12.5", (200, 256, 256)),
    ("0.12.6", (400, EXCEEDS, 256)),
    ("0.24.0", (400, EXCEEDS, 256)),
    ("0.30.0", (400, "exceed_context_size_error", 255)),
    ("0.30.10", (400, "exceed_context_size_error", 255)),
    ("0.30.11", (400, "exceed_context_size_error", 141)),
    ("0.33.0", (400, "exceed_context_size_error", 141)),
)
def test_a_prompt_that_does_not_fit(version: str, expected: tuple[int, Any, int]) -> None:
    """Status and what is said with `truncate: false` - before it was known, a cut prompt - and the tokens left without it."""
    status, said, left = expected
    with StandIn(version=version) as daemon:
        refused = ask(daemon, prompt=LONG, truncate=False, options=FEW)
        assert refused[0] == status
        assert (refused[1]["prompt_eval_count"] == said) if status == 200 else (said in refused[1]["error"])
        cut = ask(daemon, prompt=LONG, options=FEW)
        assert (cut[0], cut[1]["done_reason"]) == (200, "length")
    with StandIn(version=version) as daemon:
        counted = ask(daemon, prompt=LONG, options=FEW)[1]["prompt_eval_count"]
    assert counted == left


@borders(("0.24.0", None), ("0.33.0", TOO_LONG))
def test_shift_false_and_a_prompt_that_is_too_long(version: str, expected: str | None) -> None:
    with StandIn(version=version) as daemon:
        assert ask(daemon, prompt=LONG, shift=False, options=FEW)[1].get("error") == expected


@borders(("0.12.5", ("stop", 0)), ("0.12.6", ("length", 0)), ("0.29.0", ("length", 0)), ("0.30.0", ("length", 1)))
def test_shift_false_ends_at_the_window_and_reloads_since_it_is_the_engines(version: str, expected: tuple[str, int]) -> None:
    with StandIn([["x ", "y "] * 20], version=version) as daemon:
        ask(daemon, prompt="", options={"num_ctx": 32})
        answer = ask(daemon, shift=False, options={"num_ctx": 32})[1]
        assert (answer["done_reason"], daemon.reloads) == expected


@borders(("0.32.9", 1.1), ("0.32.10", 1.0))
def test_the_penalty_of_a_request_that_names_none(version: str, expected: float) -> None:
    def drawn(**options: Any) -> str:
        with StandIn(version=version) as daemon:
            return str(ask(daemon, prompt="the forest", options={"seed": 3, "temperature": 1.5, **options})[1]["response"])

    other = {1.0: 1.1, 1.1: 1.0}[expected]
    assert drawn() == drawn(repeat_penalty=expected)
    assert drawn() != drawn(repeat_penalty=other)


@borders(("0.3.14", False), ("0.4.0", True), ("0.24.0", True), ("0.30.0", False), ("0.30.1", True))
def test_cached_tokens_are_counted_but_in_two_versions(version: str, expected: bool) -> None:
    with StandIn(version=version) as daemon:
        first = ask(daemon, prompt="one two three")[1]["prompt_eval_count"]
        again = ask(daemon, prompt="one two three")[1]["prompt_eval_count"]
    assert (first, again) == (first, first if expected else 1)


@borders(("0.33.9", False), (NEWEST, True))
def test_cached_tokens_are_told(version: str, expected: bool) -> None:
    with StandIn(version=version) as daemon:
        answers = [ask(daemon, prompt="one two three")[1] for _ in range(2)]
        usage = ask(daemon, "/v1/completions", prompt="one two three")[1]["usage"]
    counts = [answer.get("prompt_eval_cached_count") for answer in answers]
    assert counts == ([0, answers[1]["prompt_eval_count"] - 1] if expected else [None, None])
    assert ("prompt_tokens_details" in usage) is expected


@borders(("0.33.9", (31, None, 200)), (NEWEST, (101, LOOPED, 500)))
def test_equal_pieces(version: str, expected: tuple[int, str | None, int]) -> None:
    most, error, status = expected
    with StandIn([["x"] * most, ["x"] * (most + 1), ["x"] * (most + 1)], version=version) as daemon:
        assert lines(daemon)[-1]["done"] is True
        last = lines(daemon)[-1]
        assert (last.get("error"), last.get("done")) == ((error, None) if error else (None, False))
        assert ask(daemon)[0] == status


@borders(("0.29.9", 200), ("0.30.0", 501))
def test_once_every_model_could_embed(version: str, expected: int) -> None:
    with StandIn(version=version) as daemon:
        assert sent(daemon, "/api/embed", {"model": "llama3", "input": "x"})[0] == expected


@borders(("0.11.10", 256), ("0.11.11", 4))
def test_dimensions(version: str, expected: int) -> None:
    with StandIn(version=version, models=["tiny-embed"]) as daemon:
        answer = sent(daemon, "/api/embed", {"model": "tiny-embed", "input": "x", "dimensions": 4})[1]
    assert len(answer["embeddings"][0]) == expected


# --- models that think


THOUGHT = Scripted("It is blue.", thinking="Sky. Colour?")


def told(found: list[dict[str, Any]]) -> tuple[str, str]:
    """Thinking and content of a streamed chat."""
    messages = [line["message"] for line in found]
    return "".join(m.get("thinking", "") for m in messages), "".join(m["content"] for m in messages)


@pytest.mark.parametrize("think", [None, True, "high"])
def test_a_model_that_thinks_does_so_unless_told_not_to(think: Any) -> None:
    body = {} if think is None else {"think": think}
    with StandIn([THOUGHT] * 3, models=["thinker"]) as daemon:
        assert sent(daemon, "/api/show", {"model": "thinker"})[1]["capabilities"] == ["completion", "thinking"]
        assert told(lines(daemon, model="thinker", **body)) == ("Sky. Colour?", "It is blue.")
        assert told(lines(daemon, model="thinker", think=False)) == ("", "It is blue.")
        whole = ask(daemon, model="thinker", **body)[1]
        assert (whole["thinking"], whole["response"], whole["eval_count"]) == ("Sky. Colour?", "It is blue.", 6)


def test_thinking_comes_first_and_alone_and_takes_of_the_bound() -> None:
    with StandIn([THOUGHT] * 2, models=["thinker"]) as daemon:
        kinds = ["thinking" if "thinking" in line["message"] else "text" for line in lines(daemon, model="thinker")]
        assert kinds == sorted(kinds, reverse=True)
        short = lines(daemon, model="thinker", options={"num_predict": 2})
        assert told(short) == ("Sky. Colour?", "")
        assert short[-1]["done_reason"] == "length"


def test_a_model_that_thinks_in_tags_says_them() -> None:
    with StandIn([THOUGHT], models=["thinker-tags"]) as daemon:
        assert told(lines(daemon, model="thinker-tags")) == ("", "<think>\nSky. Colour?\n</think>\n\nIt is blue.")
        status, answer = ask(daemon, model="thinker-tags", think=True)
    assert (status, answer["error"]) == (400, '"thinker-tags" does not support thinking')


def test_models_that_think_do_so_of_themselves() -> None:
    with StandIn(models=["thinker", "thinker-tags"]) as daemon:
        thinking, content = told(lines(daemon, model="thinker"))
        tagged = told(lines(daemon, model="thinker-tags"))[1]
        message = ask(daemon, "/v1/chat/completions", model="thinker", messages=[{"role": "user", "content": "hi"}])[1]["choices"][0]["message"]
    assert thinking
    assert content
    assert tagged.startswith("<think>\n")
    assert "\n</think>\n\n" in tagged
    assert message["reasoning"]


@borders(("0.8.9", ("", 200)), ("0.12.3", ("", 200)), ("0.12.4", ("Sky. Colour?", 200)))
def test_thinking_by_default(version: str, expected: tuple[str, int]) -> None:
    with StandIn([THOUGHT], models=["thinker"], version=version) as daemon:
        status, answer = ask(daemon, model="thinker")
    assert (answer.get("thinking", ""), status) == expected


@borders(("0.21.9", 400), ("0.22.0", 200))
def test_the_highest_level_of_thinking(version: str, expected: int) -> None:
    with StandIn([THOUGHT] if expected == 200 else [], models=["thinker"], version=version) as daemon:
        assert ask(daemon, model="thinker", think="max")[0] == expected


# --- a queue that is full, an engine that dies


@pytest.mark.parametrize(("most", "seconds", "statuses"), [(1, 0.3, [200, 200, 503, 503]), (512, 0.02, [200] * 4)])
def test_only_what_needs_loading_waits_in_the_queue(most: int, seconds: float, statuses: list[int]) -> None:
    found: list[tuple[int, dict[str, Any]]] = []
    names = ["llama3", "llama3:text", "tiny-native", "mid"]
    with StandIn(models=names, max_queue=most, load_seconds=seconds) as daemon:
        threads = []
        for name in names:
            threads.append(threading.Thread(target=lambda name=name: found.append(ask(daemon, model=name, prompt=""))))
            threads[-1].start()
            while len(daemon.requests) < len(threads):
                time.sleep(0.002)
            time.sleep(0.01)
        for thread in threads:
            thread.join()
        assert sorted(status for status, _ in found) == statuses
        assert {answer["error"] for status, answer in found if status == 503} <= {BUSY}
        assert "again.  maximum" in BUSY


def test_a_loaded_model_takes_any_number() -> None:
    with StandIn(max_queue=0) as daemon:
        ask(daemon)
        found: list[int] = []
        threads = [threading.Thread(target=lambda: found.append(ask(daemon)[0])) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [200] * 6


def test_an_engine_that_is_killed_is_loaded_again() -> None:
    with StandIn([["x ", "y "] * 500, ["fine"]], pace=0.005) as daemon:
        found: list[list[dict[str, Any]]] = []
        thread = threading.Thread(target=lambda: found.append(lines(daemon)))
        thread.start()
        while not daemon.active:
            time.sleep(0.002)
        daemon.kill()
        thread.join()
        assert found[0][-1] == {"error": "an error was encountered while running the model: unexpected EOF"}
        assert sent(daemon, "/api/ps")[1] == {"models": []}
        assert (ask(daemon)[0], daemon.loads, daemon.active) == (200, 2, 0)


# --- the OpenAI interface, where it hides what happened


def test_an_error_in_mid_answer_becomes_an_empty_piece() -> None:
    with StandIn([Scripted("So far", end="error")]) as daemon:
        connection = http.client.HTTPConnection("127.0.0.1", int(daemon.url.rpartition(":")[2]), timeout=10)
        with closing(connection):
            body = {"model": "llama3", "messages": [{"role": "user", "content": "hi"}], "stream": True}
            connection.request("POST", "/v1/chat/completions", json.dumps(body))
            raw = connection.getresponse().read()
    events = [json.loads(line.removeprefix(b"data: ")) for line in raw.split(b"\n") if line]
    assert "".join(event["choices"][0]["delta"]["content"] for event in events) == "So far"
    assert events[-1]["choices"][0]["delta"]["content"] == ""
    assert b"[DONE]" not in raw


def test_images_and_unknown_parts() -> None:
    def status(part: Any) -> int:
        with StandIn() as daemon:
            messages = [{"role": "user", "content": [{"type": "text", "text": "hi"}, part]}]
            return ask(daemon, "/v1/chat/completions", messages=messages)[0]

    assert status({"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}) == 400
    assert status({"type": "image_url", "image_url": "data:image/png;base64,*"}) == 400
    assert status({"type": "song"}) == 400
    assert status({"type": "text", "text": "ho"}) == 200


# --- who answers makes a difference


def test_two_personas_do_not_say_the_same() -> None:
    experts = {
        "law": "You are a lawyer who knows legislation. Name the legal framework, the duty, and the evidence to keep.",
        "software": "You are a computer scientist. Advise on software, techniques, access control, and how to log and encrypt data.",
        "standards": "You are an expert in standards. Name the scope, the terms, each requirement, its indicator and test method.",
    }
    task = "Write a compliance standard for artificial intelligence so that it does not harm people."
    said = {}
    for name, system in experts.items():
        with StandIn() as daemon:
            messages = [{"role": "system", "content": system}, {"role": "user", "content": task}]
            said[name] = ask(daemon, "/api/chat", messages=messages, options={"temperature": 0})[1]["message"]["content"]
    assert len({text[:60] for text in said.values()}) == 3, said
    assert said["law"].startswith("In law")
