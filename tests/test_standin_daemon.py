"""What neighbours of a daemon feel: loading, reloading, sharing, waiting, leaving - and scripts, which tests live by."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from orchestra.errors import StandInFault
from orchestra.standin import Scripted, StandIn

LONG = " The lake is blue and the sky is clear today. I think the best way to learn is to read and write every day."


def fetch(daemon: StandIn, path: str, body: Any = None) -> bytes:
    """The body of an answer; GET where nothing is sent."""
    connection = http.client.HTTPConnection("127.0.0.1", int(daemon.url.rpartition(":")[2]), timeout=10)
    with closing(connection):
        content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("GET" if content is None else "POST", path, content, {"X-Mine": "yes"})
        response = connection.getresponse()
        assert response.getheader("Server") == "orchestra-standin"
        return response.read()


def ask(daemon: StandIn, path: str = "/api/generate", **body: Any) -> dict[str, Any]:
    """One answer, not streamed; `prompt` and `model` have defaults."""
    given = {"model": "llama3", "stream": False, **({"prompt": "hi"} if path == "/api/generate" else {}), **body}
    answer: dict[str, Any] = json.loads(fetch(daemon, path, given))
    return answer


def stream(daemon: StandIn, path: str = "/api/generate", **body: Any) -> list[dict[str, Any]]:
    """The lines of one streamed answer."""
    given = {"model": "llama3", **({"prompt": "hi"} if path == "/api/generate" else {}), **body}
    return [json.loads(line) for line in fetch(daemon, path, given).split(b"\n") if line]


def models(daemon: StandIn, path: str) -> list[dict[str, Any]]:
    """What /api/ps or /api/tags lists."""
    listed: list[dict[str, Any]] = json.loads(fetch(daemon, path))["models"]
    return listed


def running(daemon: StandIn) -> list[tuple[str, int]]:
    """Name and window of what is loaded."""
    return [(model["name"], model["context_length"]) for model in models(daemon, "/api/ps")]


def opened(daemon: StandIn, **body: Any) -> socket.socket:
    """A connection on which a streamed request was sent; the answer is not read."""
    content = json.dumps({"model": "llama3", "prompt": "hi", **body}).encode()
    connection = socket.create_connection(("127.0.0.1", int(daemon.url.rpartition(":")[2])), timeout=10)
    head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether a condition comes true in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.002)
    return False


# --- loading


def test_a_model_is_loaded_once() -> None:
    with StandIn() as daemon:
        for _ in range(3):
            ask(daemon)
        assert (daemon.loads, daemon.reloads, running(daemon)) == (1, 0, [("llama3:latest", 4096)])


@pytest.mark.parametrize(
    "other",
    [{"num_ctx": 2048}, {"num_batch": 64}, {"num_thread": 1}, {"num_gpu": 0}, {"use_mmap": False}],
    ids=lambda other: next(iter(other)),
)
def test_a_load_option_that_differs_reloads_and_plain_requests_reload_it_back(other: dict[str, Any]) -> None:
    with StandIn() as daemon:
        ask(daemon)
        ask(daemon, options=other)
        ask(daemon, options=other)
        assert daemon.reloads == 1
        ask(daemon)
        assert daemon.reloads == 2


def test_shift_reloads_only_when_it_is_false() -> None:
    with StandIn() as daemon:
        ask(daemon)
        ask(daemon, shift=True)
        assert daemon.reloads == 0
        ask(daemon, shift=False)
        assert daemon.reloads == 1
        ask(daemon)
        assert daemon.reloads == 2


def test_sampling_options_and_the_loaded_window_itself_do_not_reload() -> None:
    with StandIn(window=2048) as daemon:
        ask(daemon)
        ask(daemon, options={"num_ctx": 2048, "temperature": 0, "num_keep": 5, "stop": ["x"], "num_predict": 2})
        assert daemon.reloads == 0


def test_the_window_is_bounded_by_the_model() -> None:
    with StandIn(window=100_000) as daemon:
        ask(daemon, options={"num_ctx": 65536})
        assert running(daemon) == [("llama3:latest", 8192)]
        ask(daemon)
        assert daemon.reloads == 0
        ask(daemon, options={"num_ctx": 0})
        assert running(daemon) == [("llama3:latest", 4)]


def test_models_of_one_blob_share_a_runner_under_the_name_that_loaded_it() -> None:
    with StandIn() as daemon:
        ask(daemon, "/api/create", model="lawyer", **{"from": "llama3", "system": "You are a lawyer."})
        ask(daemon, "/api/create", model="reader", **{"from": "llama3", "parameters": {"num_ctx": 1024}})
        ask(daemon)
        ask(daemon, model="lawyer")
        assert (daemon.loads, daemon.reloads, running(daemon)) == (1, 0, [("llama3:latest", 4096)])
        ask(daemon, model="reader")
        assert (daemon.loads, daemon.reloads, running(daemon)) == (1, 1, [("reader:latest", 1024)])
        ask(daemon, model="llama3:text")
        assert (daemon.loads, daemon.reloads) == (2, 1)


def test_a_fourth_model_makes_the_longest_unused_one_leave() -> None:
    with StandIn(models=["llama3", "llama3:text", "mid", "tiny-loop"]) as daemon:
        for name in ("llama3", "llama3:text", "mid", "tiny-loop"):
            ask(daemon, model=name, prompt="")
        assert {name for name, _ in running(daemon)} == {"llama3:text", "mid:latest", "tiny-loop:latest"}


def test_keep_alive_ends_and_keeps_a_model() -> None:
    with StandIn() as daemon:
        ask(daemon, keep_alive="80ms")
        assert running(daemon)
        assert within(1, lambda: not running(daemon))
        ask(daemon, keep_alive=-1)
        expires = models(daemon, "/api/ps")[0]["expires_at"]
        assert expires.startswith("23")
        assert ask(daemon, prompt="", keep_alive=0)["done_reason"] == "unload"
        assert not running(daemon)
        assert daemon.loads == 2


def test_a_load_takes_its_time_and_says_so() -> None:
    with StandIn(load_seconds=0.08) as daemon:
        assert ask(daemon)["load_duration"] >= 80_000_000
        assert ask(daemon)["load_duration"] < 60_000_000


def test_a_client_that_leaves_while_loading_aborts_the_load() -> None:
    with StandIn(load_seconds=0.3) as daemon:
        connection = opened(daemon)
        assert within(1, lambda: len(daemon.requests) == 1)
        connection.close()
        time.sleep(0.35)
        assert (daemon.loads, running(daemon), daemon.cancelled) == (0, [], 0)


def test_a_client_that_stays_gets_the_load_done() -> None:
    with StandIn(load_seconds=0.1) as daemon, opened(daemon):
        assert within(1, lambda: daemon.loads == 1)


def test_a_second_request_goes_on_where_an_aborted_load_left_off() -> None:
    with StandIn(load_seconds=0.1) as daemon:
        connection = opened(daemon)
        assert within(1, lambda: len(daemon.requests) == 1)
        waiting = threading.Thread(target=ask, args=(daemon,))
        waiting.start()
        connection.close()
        waiting.join(5)
        assert (daemon.loads, len(running(daemon))) == (1, 1)


# --- slots and leaving


@pytest.mark.parametrize(("slots", "at_once"), [(1, 1), (3, 3)])
def test_no_more_answers_at_once_than_there_are_slots(slots: int, at_once: int) -> None:
    with StandIn([["a"] * 5] * 4, slots=slots, pace=0.02) as daemon:
        threads = [threading.Thread(target=ask, args=(daemon,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        seen = 0
        while any(thread.is_alive() for thread in threads):
            seen = max(seen, daemon.active)
            time.sleep(0.002)
        assert (seen, daemon.active, daemon.cancelled) == (at_once, 0, 0)


def test_waiting_for_a_slot_shows_in_the_total_alone() -> None:
    with StandIn([["a"] * 6, "b"], pace=0.03) as daemon:
        first = opened(daemon)
        assert within(1, lambda: daemon.active == 1)
        last = stream(daemon)[-1]
        parts = last["load_duration"] + last["prompt_eval_duration"] + last["eval_duration"]
        assert last["total_duration"] - parts > 50_000_000
        first.close()


@pytest.mark.parametrize("streaming", [True, False])
def test_leaving_cancels_at_once(streaming: bool) -> None:
    with StandIn([["a"] * 1000], pace=0.2) as daemon:
        connection = opened(daemon, stream=streaming)
        assert within(1, lambda: daemon.active == 1)
        connection.close()
        left = time.monotonic()
        assert within(1, lambda: daemon.active == 0)
        assert time.monotonic() - left < 0.05
        assert daemon.cancelled == 1


def test_leaving_without_a_pace_cancels_too() -> None:
    with StandIn(models=["tiny-loop-native"]) as daemon:
        body = json.dumps({"model": "tiny-loop-native", "messages": [{"role": "user", "content": "x"}]}).encode()
        with socket.create_connection(("127.0.0.1", int(daemon.url.rpartition(":")[2])), timeout=10) as connection:
            connection.sendall(b"POST /api/chat HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            connection.recv(100)
        assert within(1, lambda: daemon.cancelled == 1)


def test_staying_is_not_leaving() -> None:
    with StandIn([["a"] * 5], pace=0.01) as daemon:
        assert stream(daemon)[-1]["done"] is True
        assert daemon.cancelled == 0


def test_leaving_the_queue_frees_the_place() -> None:
    with StandIn([["a"] * 1000, "b"], pace=0.01) as daemon:
        first = opened(daemon)
        assert within(1, lambda: daemon.active == 1)
        queued = opened(daemon)
        assert within(1, lambda: len(daemon.requests) == 2)
        queued.close()
        assert within(1, lambda: daemon.cancelled == 1)
        first.close()
        assert ask(daemon)["response"] == "b"


def test_stopping_ends_what_still_runs() -> None:
    daemon = StandIn([["a"] * 1000], pace=0.5).start()
    with opened(daemon):
        assert within(1, lambda: daemon.active == 1)
        began = time.monotonic()
        daemon.stop()
        assert time.monotonic() - began < 1
    assert daemon.active == 0
    with pytest.raises(StandInFault):
        daemon.url  # noqa: B018


def test_twenty_clients_are_served_side_by_side() -> None:
    answers: list[str] = []
    with StandIn([f"answer {number}" for number in range(20)], slots=4) as daemon:
        threads = [threading.Thread(target=lambda: answers.append(ask(daemon)["response"])) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert sorted(answers) == sorted(f"answer {number}" for number in range(20))
        assert (len(daemon.requests), daemon.loads, daemon.active) == (20, 1, 0)


# --- prompts


def history(turns: int) -> list[dict[str, str]]:
    """A dialogue, one message for each turn of each side, after a system message."""
    said = [{"role": ("user", "assistant")[n % 2], "content": f"{chr(ord('a') + n)}:{LONG}"} for n in range(2 * turns - 1)]
    return [{"role": "system", "content": "Be brief."}, *said]


def test_the_oldest_messages_go_first_and_nothing_tells_but_the_count() -> None:
    options = {"num_ctx": 256, "num_predict": 1}
    with StandIn() as daemon:
        counts = [ask(daemon, "/api/chat", messages=history(n), options=options)["prompt_eval_count"] for n in range(1, 7)]
        shown = ask(daemon, "/api/chat", messages=history(6), options=options, _debug_render_only=True)
    assert max(counts) < 256
    assert counts[-1] == counts[-2]
    rendered = shown["_debug_info"]["rendered_template"]
    assert "Be brief." in rendered
    assert "k: The" in rendered
    assert "a: The" not in rendered


def test_a_long_prompt_is_cut_to_half_the_window_or_refused() -> None:
    body: dict[str, Any] = {"prompt": LONG * 12, "options": {"num_ctx": 256, "num_predict": 1}}
    with StandIn() as daemon:
        assert ask(daemon, **body)["prompt_eval_count"] == 141
        error = json.loads(ask(daemon, **body, truncate=False)["error"])["error"]
        assert error["type"] == "exceed_context_size_error"
        assert (error["n_ctx"], error["n_prompt_tokens"] > 256) == (256, True)
        assert "longer than the context length" in ask(daemon, **body, shift=False)["error"]


def test_a_prompt_that_fits_is_whole() -> None:
    body: dict[str, Any] = {"prompt": LONG * 3, "raw": True, "options": {"num_predict": 1}}
    with StandIn() as daemon:
        assert ask(daemon, **body, truncate=False)["prompt_eval_count"] == ask(daemon, **body)["prompt_eval_count"]


def test_a_kept_prefix_is_not_read_again_but_counted() -> None:
    with StandIn() as daemon:
        first = ask(daemon, prompt=LONG * 60, raw=True, options={"num_predict": 1})
        again = ask(daemon, prompt=LONG * 60, raw=True, options={"num_predict": 1})
        other = ask(daemon, prompt="X" + LONG * 60, raw=True, options={"num_predict": 1})
    assert first["prompt_eval_count"] == again["prompt_eval_count"]
    assert again["prompt_eval_duration"] < first["prompt_eval_duration"] / 2
    assert other["prompt_eval_duration"] > again["prompt_eval_duration"] * 2


# --- how an answer ends


def ends(daemon: StandIn, reply: Any, **options: Any) -> tuple[str, str | None, int | None]:
    """Text, reason and count of an answer to a script, the same streamed and not."""
    daemon.script(reply, reply)
    whole = ask(daemon, options=options)
    lines = stream(daemon, options=options)
    assert whole["response"] == "".join(line["response"] for line in lines)
    last = lines[-1] if lines and lines[-1]["done"] else {}
    assert (whole.get("done_reason"), whole.get("eval_count")) == (last.get("done_reason"), last.get("eval_count"))
    return whole["response"], whole.get("done_reason"), whole.get("eval_count")


def test_the_ways_in_which_an_answer_ends(standin: StandIn) -> None:
    assert ends(standin, "one two three") == ("one two three", "stop", 4)
    assert ends(standin, "one two three", num_predict=2) == ("one two", "length", 2)
    assert ends(standin, "一二三") == ("一二三", "stop", 4)
    assert ends(standin, Scripted("one two", end="length")) == ("one two", "length", 2)
    assert ends(standin, Scripted("one two", end="nothing")) == ("one two", None, None)


def test_an_engine_that_breaks_down(standin: StandIn) -> None:
    standin.script(Scripted("one", end="error"), Scripted("one", end="error"))
    assert "unexpected EOF" in stream(standin)[-1]["error"]
    assert "unexpected EOF" in ask(standin)["error"]


def test_stop_texts_are_held_back_and_never_sent(standin: StandIn) -> None:
    assert ends(standin, ["a", " Cust", "omer", ":", " b"], stop=["Customer:"]) == ("a ", "stop", 4)
    assert ends(standin, ["a", " Cust", "ard"], stop=["Customer:"]) == ("a Custard", "stop", 4)
    assert ends(standin, ["a", " Cust"], stop=["Customer:"]) == ("a Cust", "stop", 3)
    assert ends(standin, ["a", " b", " c"], stop=["Customer:"]) == ("a b c", "stop", 4)
    standin.script(["a", " Cust", "ard"])
    texts = [line["response"] for line in stream(standin, options={"stop": ["Customer:"]})]
    assert texts == ["a", " Custard", ""]


def test_a_request_replaces_the_stops_of_the_model(standin: StandIn) -> None:
    assert ends(standin, ["a", "<|eot_id|>", "b"])[0] == "a"
    assert ends(standin, ["a", "<|eot_id|>", "b"], stop=["zzz"])[0] == "a<|eot_id|>b"


@pytest.mark.parametrize(("equal", "cut"), [(31, False), (32, True)])
def test_more_than_thirty_equal_pieces_end_it_without_a_word(standin: StandIn, equal: int, cut: bool) -> None:
    pieces = [" blue", "\tblue"] * equal
    text, reason, _ = ends(standin, pieces[:equal])
    assert len(text) == 5 * min(equal, 31)
    assert reason == (None if cut else "stop")


def test_a_circle_of_two_is_not_noticed(standin: StandIn) -> None:
    assert ends(standin, ["a", "b"] * 60)[1] == "stop"


def test_the_native_path_has_no_loop_breaker_but_a_bound() -> None:
    with StandIn(models=["tiny-loop-native"]) as daemon:
        body: dict[str, Any] = {"model": "tiny-loop-native", "messages": [{"role": "user", "content": "What is your name?"}]}
        bounded = ask(daemon, "/api/chat", **body, options={"num_ctx": 64})
        unshifted = ask(daemon, "/api/chat", **body, options={"num_ctx": 64}, shift=False)
    assert (bounded["done_reason"], bounded["eval_count"]) == ("length", 640)
    assert (unshifted["done_reason"], unshifted["eval_count"]) == ("length", 64 - bounded["prompt_eval_count"])


@pytest.mark.parametrize("num_predict", [0, -1, -2])
def test_no_bound_is_the_daemons_own(standin: StandIn, num_predict: int) -> None:
    reply = [str(n) for n in range(700)]
    assert ends(standin, reply, num_predict=num_predict, num_ctx=64)[2] == 640


def test_pace_spreads_the_pieces() -> None:
    with StandIn([Scripted("a b c d", pace=0.02), "a b c d"]) as daemon:
        assert ask(daemon)["eval_duration"] >= 60_000_000
        assert ask(daemon)["eval_duration"] < 40_000_000


def test_a_piece_is_a_line_is_a_chunk(standin: StandIn) -> None:
    standin.script("one two")
    with opened(standin) as connection:
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += connection.recv(65536)
    chunks = received.partition(b"\r\n\r\n")[2].split(b"\r\n")
    sizes, bodies = [int(size, 16) for size in chunks[:-2:2]], chunks[1:-2:2]
    assert [len(body) for body in bodies[:3]] == sizes[:3]
    assert [json.loads(body)["response"] for body in bodies[:3]] == ["one", " two", ""]


# --- scripts and what was asked


def test_a_reply_left_over_fails() -> None:
    with pytest.raises(StandInFault, match="never asked"), StandIn(["never asked"]):
        pass


def test_an_exception_is_not_hidden_by_what_is_left_over() -> None:
    with pytest.raises(ZeroDivisionError), StandIn(["never asked"]):
        raise ZeroDivisionError


def test_only_generations_use_the_script() -> None:
    with StandIn(["mine"]) as daemon:
        ask(daemon, prompt="")
        ask(daemon, "/api/show")
        ask(daemon, "/api/chat", messages=[{"role": "user", "content": "x"}], _debug_render_only=True)
        ask(daemon, truncate=False, prompt=LONG * 200)
        assert ask(daemon)["response"] == "mine"


def test_what_was_asked_is_kept() -> None:
    with StandIn() as daemon:
        ask(daemon, "/api/show")
        fetch(daemon, "/api/chat", b"{broken")
        assert [(each.method, each.path) for each in daemon.requests] == [("POST", "/api/show"), ("POST", "/api/chat")]
        assert daemon.asked("/api/show") == [{"model": "llama3", "stream": False}]
        last = daemon.requests[-1]
        assert (last.body, last.raw, last.headers["x-mine"]) == (None, b"{broken", "yes")


def test_answers_without_a_seed_are_repeatable_by_the_daemons_seed() -> None:
    def said(seed: int) -> Iterator[str]:
        with StandIn(seed=seed) as daemon:
            for _ in range(3):
                yield ask(daemon, options={"num_predict": 12, "temperature": 1.5})["response"]

    assert list(said(1)) == list(said(1)) != list(said(2))


def test_it_says_what_it_is(standin: StandIn) -> None:
    for path in ("/", "/api/version", "/api/tags", "/api/nothing"):
        assert fetch(standin, path)  # looks at the header


def test_an_unknown_model_is_no_stand_in() -> None:
    with pytest.raises(StandInFault, match="gpt"):
        StandIn(models=["gpt"])


# --- models


def test_a_pulled_model_appears_and_an_unknown_one_does_not(standin: StandIn) -> None:
    lines = stream(standin, "/api/pull", model="mid")
    completed = [line["completed"] for line in lines if line.get("total", 0) > 10**6 and "completed" in line]
    assert len(completed) > 2
    assert completed == sorted(completed)
    assert (lines[0]["status"], lines[-1]["status"]) == ("pulling manifest", "success")
    assert "error" in stream(standin, "/api/pull", model="no-such-thing")[-1]
    names = [model["name"] for model in models(standin, "/api/tags")]
    assert names[0] == "mid:latest"
    assert "no-such-thing:latest" not in names


def test_a_made_model_keeps_what_it_was_made_with(standin: StandIn) -> None:
    made = {"from": "llama3", "system": "Be a lawyer.", "parameters": {"temperature": 0.1}, "template": "{{ .System }}|{{ .Prompt }}|"}
    assert ask(standin, "/api/create", model="lawyer", **made) == {"status": "success"}
    shown = ask(standin, "/api/show", model="LAWYER")
    assert (shown["system"], shown["template"]) == (made["system"], made["template"])
    assert "temperature                    0.1" in shown["parameters"]
    origin = [line for line in shown["modelfile"].splitlines() if line.startswith("FROM")]
    assert origin == [line for line in ask(standin, "/api/show")["modelfile"].splitlines() if line.startswith("FROM")]
    rendered = ask(standin, model="lawyer", _debug_render_only=True)["_debug_info"]["rendered_template"]
    assert rendered == "Be a lawyer.|hi|"


def test_verbose_show_brings_the_vocabulary(standin: StandIn) -> None:
    info = ask(standin, "/api/show", verbose=True)["model_info"]
    assert len(info["tokenizer.ggml.tokens"]) == len(info["tokenizer.ggml.token_type"]) == info["llama.vocab_size"]
    assert info["tokenizer.ggml.merges"]
    assert ask(standin, "/api/show")["model_info"]["tokenizer.ggml.tokens"] is None
