"""`bench`: what is asked of each side, what is timed, what fails in one line, what Ctrl-C keeps, and its page in a browser."""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import dumped
from command_line import Line, chinese, line, started
from services import CANARY, Seen, Service, Told, everything_logged, running_service

from orchestra import Orchestra
from orchestra.errors import EndpointFault, ExtraMissing, ModelMissing, PromptTooLong, UsageError
from orchestra.instruments.spread import Spread, Work, findings
from orchestra.standin import Scripted, StandIn

__all__ = ["chinese", "everything_logged", "line", "running_service"]
PROMPT = "Tell me of the sea."
QUICK = ("bench", PROMPT, "-n", "8", "--runs", "3", "--json")


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with StandIn() as daemon:
        monkeypatch.setenv("OLLAMA_HOST", daemon.url)
        yield daemon


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """One whose tokens are far enough apart to be timed."""
    with StandIn(pace=0.005) as daemon:
        monkeypatch.setenv("OLLAMA_HOST", daemon.url)
        yield daemon


def inference(daemon: StandIn) -> list[tuple[str, dict[str, Any]]]:
    """The requests for an answer, in order: path and body."""
    return [(each.path, each.body) for each in daemon.requests if each.body and ("messages" in each.body or each.body.get("prompt"))]


def stream(*events: dict[str, Any] | str) -> Told:
    """Server-sent events."""
    body = b"".join(b"data: " + (each if isinstance(each, str) else json.dumps(each)).encode() + b"\n\n" for each in events)
    return Told(body=body, headers={"content-type": "text/event-stream"})


def said(text: str, reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5}}


def offering(answer: Told, *models: str) -> Any:
    """An endpoint with these models that answers so."""
    listed = Told(body=json.dumps({"object": "list", "data": [{"id": model} for model in models or ("m",)]}).encode())
    return lambda seen: listed if seen.path.endswith("/models") else answer


def test_both_sides_are_asked_the_same(paced: StandIn, line: Line) -> None:
    daemon = paced
    found = line(*QUICK, "-m", "llama3", "--endpoint", f"v1={daemon.url}/v1#llama3", "--precision", "v1=fp16")
    assert found.code == 0, found
    assert [side["name"] for side in found.json["sides"]] == ["llama3", "v1"]
    asked = inference(daemon)
    assert [path for path, _ in asked] == ["/api/chat"] * 4 + ["/v1/chat/completions"] * 4  # one first answer and three runs each
    for path, body in asked:
        own = body["options"] if path == "/api/chat" else body
        assert (own["temperature"], own.get("num_predict", own.get("max_tokens"))) == (0, 8)
        assert {name: own[name] for name in ("top_p", "seed", "presence_penalty", "frequency_penalty")} == {
            "top_p": 1, "seed": 1, "presence_penalty": 0, "frequency_penalty": 0
        }  # fmt: skip
        assert body["stream"] is True
        assert re.fullmatch(r"\[\d( \d){5}\] " + PROMPT, body["messages"][0]["content"])
    # no prompt twice: what was read before is in the server's cache
    assert len({body["messages"][0]["content"] for _, body in asked}) == 8
    assert (daemon.loads, daemon.reloads) == (1, 0)
    for side in found.json["sides"]:
        assert (side["precision"], len(side["answers"])) == ("F16" if side["name"] == "llama3" else "fp16", 3)
        assert {run["prompt_tokens"] for run in side["answers"]} == {side["first"]["prompt_tokens"]}
        assert {(run["tokens"], run["finish_reason"], run["counted"]) for run in side["answers"]} == {(8, "length", True)}
        values = side["speed"]["values"]
        assert side["speed"]["min"] <= side["speed"]["median"] <= side["speed"]["max"]
        assert sorted(values)[1] == side["speed"]["median"]
    own, other = found.json["sides"]
    assert own["memory"] > own["vram"] > 0
    assert own["window"] == 4096
    assert (other["memory"], other["load"]) == (None, None)  # not said, and so not guessed
    assert len(found.json["controlled"]) == 3
    assert "what theirs applies is not known" in found.json["controlled"][0]
    # all is equal here but that no model answers
    assert {reason for finding in found.json["findings"] for reason in finding["reasons"]} >= {"a stand-in answered, which is no model"}
    assert not any(finding["faster"] for finding in found.json["findings"])


def test_what_is_timed_is_what_happened(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    with StandIn(pace=0.02, load_seconds=0.3) as daemon:
        monkeypatch.setenv("OLLAMA_HOST", daemon.url)
        (side,) = line("bench", PROMPT, "-m", "llama3", "-n", "6", "--runs", "2", "--cold", "2", "--json").json["sides"]
        assert (daemon.loads, daemon.reloads) == (2, 0)
    assert len(side["load"]["values"]) == 2
    assert 0.3 <= side["load"]["min"] <= side["load"]["max"] < 2
    assert side["first"]["first_token"] < 0.3  # the load is not in it
    for run in side["answers"]:
        assert 10 < run["speed"] < 51  # a piece each 0.02 s
        assert run["seconds"] >= 5 * 0.02


def test_an_answer_that_comes_in_one_go_has_no_speed(service: Service, line: Line) -> None:
    def told(pause: float) -> Any:
        events: list[dict[str, Any] | str] = [said("a"), said("b"), said("c", "length"), USAGE, "[DONE]"]
        answer = stream(*events)
        assert isinstance(answer.body, bytes)
        whole = answer.body

        def slowly() -> Iterator[bytes]:
            for event in whole.split(b"\n\n"):
                yield event + b"\n\n"
                time.sleep(pause)

        return offering(Told(body=slowly(), headers=answer.headers))

    for pause, timed in ((0.0, False), (0.02, True)):
        service.told = lambda seen, pause=pause: told(pause)(seen)
        found = line("bench", PROMPT, "--runs", "1", "--endpoint", f"e={service.url}/v1")
        assert ("generation, tokens/s" in found.out) is timed
        assert ("e: answers that came in one go" in found.out) is not timed


def test_a_run_without_a_figure_takes_none_from_the_others(paced: StandIn, line: Line) -> None:
    paced.script(*(Scripted(["a ", "b ", "c ", "d ", "e ", "f "][:count], pace=0.02) for count in (6, 6, 0, 6)))
    found = line("bench", PROMPT, "-m", "llama3", "--runs", "3")
    (speed,) = [row for row in found.out.splitlines() if row.startswith("generation, tokens/s")]
    assert "2 of 3 runs" in speed
    assert "in one go" not in found.out  # the third has no token to time


def test_nothing_is_faster_by_what_was_not_told() -> None:
    def faster(prompt_tokens: int | None = 9, tokens: int | None = 5, runs: int = 3) -> bool:
        counts: Any = {"prompt_tokens": frozenset({prompt_tokens}), "tokens": frozenset({tokens}), "precision": "F16", "runs": runs}
        sides = [Work(name=name, figures={"speed": Spread((pace,) * 3)}, **counts) for name, pace in (("a", 2.0), ("b", 1.0))]
        (found,) = findings(sides)
        return not found.reasons

    assert faster()
    assert not faster(prompt_tokens=None)
    assert not faster(tokens=None)
    assert not faster(runs=4)


def test_other_weights_are_said(daemon: StandIn, line: Line) -> None:
    both = ("bench", PROMPT, "-n", "2", "--runs", "1", "-m", "llama3", "-m", "llama3:text")
    assert "these are different weights: llama3" in line(*both).out
    same = (*both[:-1], "llama3:latest")
    assert "different weights" not in line(*same).out


def test_an_empty_prompt_is_not_the_story(daemon: StandIn, line: Line) -> None:
    assert line("bench", "", "-m", "llama3", "--json").error["code"] == "usage_error"
    assert inference(daemon) == []


def test_a_loop_that_the_daemon_ends_is_timed_all_the_same(daemon: StandIn, line: Line) -> None:
    daemon.script(*[Scripted(["ha"] * 40, end="nothing") for _ in range(4)])
    found = line("bench", PROMPT, "-m", "llama3", "-n", "50", "--runs", "3", "--json")
    (side,) = found.json["sides"]
    assert (found.code, side["error"]) == (0, None)
    assert {(run["finish_reason"], run["counted"], run["prompt_tokens"]) for run in side["answers"]} == {
        ("repetition", False, side["first"]["prompt_tokens"])
    }
    assert all(run["tokens"] > 30 for run in side["answers"])
    daemon.script(Scripted(["ha", "hu"] * 20, end="nothing"))  # the control: what just broke off is no answer
    assert line("bench", PROMPT, "-m", "llama3", "--runs", "1", "--json").error["code"] == "stream_truncated"


def test_nothing_is_unloaded_unless_asked_for(daemon: StandIn, line: Line) -> None:
    line("generate", "hello")
    before = daemon.loads
    (side,) = line(*QUICK, "-m", "llama3").json["sides"]
    assert daemon.loads == before
    assert side["load"] is None
    line(*QUICK, "-m", "llama3", "--cold", "1")  # the control
    assert daemon.loads == before + 1


def test_a_base_model_and_base_endpoints_get_the_text_as_it_is(daemon: StandIn, line: Line) -> None:
    line(*QUICK, "-m", "llama3:text", "--base", "--endpoint", f"v1={daemon.url}/v1#llama3:text")
    bodies = dict(inference(daemon))
    assert set(bodies) == {"/api/generate", "/v1/completions"}
    assert bodies["/api/generate"]["raw"] is True
    assert bodies["/v1/completions"]["prompt"].endswith(PROMPT)


def test_another_daemon(daemon: StandIn, line: Line) -> None:
    with StandIn(models=["llama3"]) as other:
        sides = line(*QUICK, "--daemon", f"far={other.url}", "--daemon", f"near={daemon.url}#llama3").json["sides"]
        assert [(each["name"], each["model"], each["url"]) for each in sides] == [("far", "llama3", other.url), ("near", "llama3", daemon.url)]
        assert len(inference(other)) == len(inference(daemon)) == 4


def side_of(sides: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(side for side in sides if side["name"] == name)


def test_from_python_without_a_loop(daemon: StandIn, service: Service) -> None:
    service.told = offering(stream(said("a"), said("b", "length"), USAGE, "[DONE]"))
    with Orchestra(host=daemon.url) as orchestra:
        own, other = orchestra.bench("llama3", who={"endpoints": [f"e={service.url}/v1"], "precisions": {"e": "f16"}}, tokens=4, runs=2)
        assert [run.tokens for run in own.runs] == [4, 4]
        assert ([run.tokens for run in other.runs], other.precision) == ([5, 5], "f16")
        with pytest.raises(UsageError, match="nothing to measure"):
            orchestra.bench("llama3", prompt=" ")
        first = next(iter(orchestra.bench_stream()))
        assert (first.model, first.runs) == ("llama3", ())  # the default model, before anything is measured


def test_tokens_that_an_endpoint_does_not_count(service: Service, line: Line) -> None:
    service.told = offering(stream(said("a"), said("b"), said("c", "length"), "[DONE]"))
    (side,) = line(*QUICK, "--endpoint", f"e={service.url}/v1").json["sides"]
    assert {(run["tokens"], run["counted"], run["prompt_tokens"]) for run in side["answers"]} == {(3, False, None)}
    assert side["prompt_speed"] is None
    service.told = offering(stream(said("a"), said("b", "length"), USAGE, "[DONE]"))  # the control
    (side,) = line(*QUICK, "--endpoint", f"e={service.url}/v1").json["sides"]
    assert {(run["tokens"], run["counted"], run["prompt_tokens"]) for run in side["answers"]} == {(5, True, 9)}


def test_a_key_goes_to_its_own_endpoint_and_is_told_nobody(
    service: Service, line: Line, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ORCHESTRA_ENDPOINT_KEYS", f"{service.url}={CANARY} http://127.0.0.1:9={CANARY}2")
    service.told = offering(Told(401, json.dumps({"error": {"message": f"wrong key {CANARY}"}}).encode()))
    found = line(*QUICK, "--endpoint", f"e={service.url}/v1")
    assert {seen.headers.get("authorization") for seen in service.seen} == {f"Bearer {CANARY}"}
    assert found.error["hint"].startswith("give its key in ORCHESTRA_ENDPOINT_KEYS")
    assert CANARY not in found.out + found.err + "".join(record.getMessage() for record in logged.records if "orchestra" in record.name)
    monkeypatch.setenv("ORCHESTRA_ENDPOINT_KEYS", f"http://127.0.0.1:9={CANARY}")
    service.seen.clear()
    line(*QUICK, "--endpoint", f"e={service.url}/v1")
    assert {seen.headers.get("authorization") for seen in service.seen} == {None}


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (Told(body=b"<html>hello", headers={"content-type": "text/html"}), "/models does not answer as the OpenAI API does"),
        (Told(body=b'{"version": "0.32.15"}'), "/models does not answer as the OpenAI API does"),
        (Told(body=b"[" * 100_000), "/models does not answer as the OpenAI API does"),
        (Told(404), "HTTP 404"),
        (Told(307, headers={"location": "http://192.0.2.1/"}), "redirects elsewhere"),
        (offering(Told(200), "a", "b\x1b[31m"), "several models (a, b)"),
        (offering(Told(404, b'{"error": {"message": "The model m does not exist"}}')), "HTTP 404: The model m does not exist"),
        (offering(Told(body=b'{"choices": [{"message": {"content": "no stream"}}]}')), "/chat/completions does not answer as the OpenAI API does"),
        (offering(stream("{")), "/chat/completions does not answer as the OpenAI API does"),
        (offering(stream(said("a"))), "broke off"),
        (offering(stream(said("a"), {"error": {"message": "out of memory"}})), "out of memory"),
        (offering(stream(said("", "stop"), "[DONE]")), "its answer is empty"),
    ],
)
def test_an_endpoint_that_is_none_is_one_line(service: Service, line: Line, told: Any, words: str) -> None:
    service.told = told
    found = line("bench", PROMPT, "--runs", "1", "--endpoint", f"e={service.url}/v1")
    assert (found.code, found.out) == (EndpointFault.exit_code, "")
    error, hint = found.err.splitlines()[-2:]
    assert error.startswith("error: the endpoint e (")
    assert words in error
    assert hint.startswith("hint:")
    assert not [seen for seen in service.seen if "192.0.2.1" in seen.path]


def test_nobody_at_an_address_is_one_line_and_nothing_is_asked_of_others(daemon: StandIn, line: Line, chinese: None) -> None:
    found = line("bench", PROMPT, "-m", "llama3", "--endpoint", "e=http://127.0.0.1:1/v1")
    assert found.code == EndpointFault.exit_code
    assert "无法测量端点 e（http://127.0.0.1:1/v1）：该地址没有应答" in found.err
    assert inference(daemon) == []


def test_a_side_that_fails_on_the_way_keeps_what_was_measured(daemon: StandIn, service: Service, line: Line) -> None:
    def told(seen: Seen) -> Told:
        answers = sum(each.path.endswith("completions") for each in service.seen)
        answer = stream(said("a"), said("b", "stop"), USAGE, "[DONE]") if answers < 3 else Told(500, b'{"error": {"message": "gone"}}')
        made: Told = offering(answer)(seen)
        return made

    service.told = told
    found = line(*QUICK, "--endpoint", f"e={service.url}/v1", "-m", "llama3")
    assert found.code == EndpointFault.exit_code
    sides = found.json["sides"]
    assert (len(side_of(sides, "e")["answers"]), side_of(sides, "e")["error"]["code"]) == (1, "endpoint_fault")
    assert (len(side_of(sides, "llama3")["answers"]), side_of(sides, "llama3")["error"]) == (3, None)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["-m", "nowhere"], ModelMissing),
        (["-m", "llama3", "-n", "4096"], PromptTooLong),
        (["-m", "llama3", "-m", "llama3"], UsageError),
        (["-m", "llama3", "--precision", "e=f16"], UsageError),
        (["-m", "llama3", "--precision", "f16"], UsageError),
        (["--endpoint", "http://127.0.0.1:1/v1"], UsageError),
        (["--endpoint", "e=ftp://x"], UsageError),
        (["--daemon", "=http://127.0.0.1:1"], UsageError),
    ],
)
def test_what_cannot_be_measured_is_one_line(daemon: StandIn, line: Line, arguments: list[str], error: type[UsageError]) -> None:
    found = line("bench", PROMPT, *arguments)
    assert found.code == error.exit_code, found
    assert [text.split(":")[0] for text in found.err.splitlines()[-2:]] == ["error", "hint"]
    assert inference(daemon) == []


def test_a_page_that_cannot_be_made_is_said_before_anything_is_asked(
    daemon: StandIn, line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert line(*QUICK, "--html", str(tmp_path / "nowhere" / "x.html")).error["code"] == "usage_error"
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    found = line(*QUICK, "--html", str(tmp_path / "x.html"))
    assert found.code == ExtraMissing.exit_code
    assert "orchestra-ollama[plot]" in found.error["hint"]
    assert daemon.requests == []
    assert line(*QUICK, "-m", "llama3").code == 0  # all else works without it


def test_ctrl_c_keeps_what_was_measured() -> None:
    with StandIn(pace=0.005) as daemon:
        line = ("bench", PROMPT, "-m", "llama3", "-m", "llama3:text", "-n", "4", "--runs", "50", "--json")
        with started(*line, OLLAMA_HOST=daemon.url) as running:
            until = time.monotonic() + 30
            while len(inference(daemon)) < 6:
                assert time.monotonic() < until
                time.sleep(0.01)
            running.send_signal(signal.SIGINT)
            out, _ = running.communicate(timeout=20)
    assert running.returncode == 130
    first, second = json.loads(out)["sides"]
    assert 3 <= len(first["answers"]) < 50
    assert (second["name"], second["answers"]) == ("llama3:text", [])


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_page_in_a_browser(
    paced: StandIn, line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    monkeypatch.setattr("orchestra.cli.words.LANGUAGE", language)
    page = tmp_path / "bench.html"
    asked = ("bench", "大海 <b>&amp;</b>", "-n", "8", "--runs", "3", "--endpoint", f"v1={paced.url}/v1#llama3", "-m", "llama3", "--html", str(page))
    found = line(*asked)
    assert found.code == 0, found
    assert not re.search(r"(?:src|href)=.https?:", page.read_text("utf-8"))
    shown = dumped(page, tmp_path / "profile")
    words = ("模型回答速度", "生成（token/秒）", "由替身服务回答") if language == "zh" else ("How fast", "generation, tokens/s", "a stand-in answers")
    assert all(word in shown for word in words)
    drawing = shown[shown.index("<figure>") : shown.index("</figure>")]
    assert all(f">{name}</text>" in drawing for name in ("v1", "llama3", words[1]))
    assert drawing.count("<use ") >= 3 * 2 * 3  # each run a point in each panel
    assert "<b>" not in shown
    assert words[1] in found.out
