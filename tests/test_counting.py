"""Which number a prompt gets, before it is sent and after: exact, measured, calibrated or a bound; and what shows them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from command_line import Line, line  # noqa: F401 - a fixture
from runtimes import RUNTIMES, answer, asked, drained, inferences, run
from test_template import facts
from test_tokens import CHINESE, ENGLISH, llama3, verbose

import orchestra.errors as e
from orchestra import Orchestra
from orchestra.model import counting, wire
from orchestra.model.calibration import LEAST_PROMPTS, Rates
from orchestra.model.client import Client
from orchestra.model.messages import Message, Options, Usage
from orchestra.model.tokens import Count, Counter, most_tokens, most_tokens_of, shown
from orchestra.standin import StandIn

# --- the vocabulary is kept


def verbosely(daemon: StandIn) -> int:
    return sum(1 for body in daemon.asked("/api/show") if body.get("verbose"))


def counter(daemon: StandIn, model: str = "llama3", **settings: Any) -> Counter:
    return run("blocking", lambda client: client.counter(model), host=daemon.url, **settings)


def test_the_vocabulary_is_fetched_once_and_made_again_where_it_is_damaged(tmp_path: Path) -> None:
    home = {"home": str(tmp_path)}
    with StandIn() as daemon:
        assert counter(daemon, **home).exact
        assert counter(daemon, **home).exact
        assert verbosely(daemon) == 1
        [kept] = (tmp_path / "cache" / "vocabularies").iterdir()
        kept.write_bytes(kept.read_bytes()[:-1])
        assert counter(daemon, **home).exact
        assert verbosely(daemon) == 2
        assert counter(daemon, **home).exact
        assert verbosely(daemon) == 2


def test_a_daemon_without_the_long_answer_leaves_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def short(self: Client, model: str, *, verbose: bool = False) -> dict[str, Any]:
        return facts(model)

    monkeypatch.setattr(Client, "show", short)
    with StandIn() as daemon:
        found = counter(daemon, home=str(tmp_path))
    assert not found.exact
    assert found.measure("Hello.") == Count(most_tokens_of("Hello.", facts("llama3")["template"]) + 8, "bound")


# --- the counter

DIALOGUE = [Message("system", "Be brief."), Message("user", "你好<|eot_id|>?"), Message("assistant", "Hm \ud800."), Message("user", "And?")]


def test_a_counter_counts_what_is_sent() -> None:
    found = Counter(facts("llama3"), vocabulary=llama3())
    assert found.exact
    with StandIn(["Fine.", "Fine."]) as daemon:
        said = run("blocking", lambda client: drained(client.chat(DIALOGUE, model="llama3")), host=daemon.url)
        assert said.usage.prompt_tokens == found.rendered(DIALOGUE) == found.measure(DIALOGUE).tokens
        said = run("blocking", lambda client: drained(client.complete("a<|eot_id|>b", model="llama3:text", raw=True)), host=daemon.url)
        assert said.usage.prompt_tokens == found.measure("a<|eot_id|>b", raw=True).tokens
    assert found.count("a<|eot_id|>b") == llama3().count("a<| eot_id |>b")


def test_an_unknown_template_is_counted_rather_too_high() -> None:
    found = Counter(facts("native"), vocabulary=llama3())
    count = found.measure(DIALOGUE)
    assert (found.exact, count.counted) == (False, "calibrated")
    assert sum(found.count(message.content) for message in DIALOGUE) < count.tokens
    assert found.measure("Raw.", raw=True).counted == "exact"


# --- the client


def test_nothing_that_counts_is_loaded_before_it_is_needed() -> None:
    code = """if True:
        import sys
        from orchestra import Orchestra
        from orchestra.standin import StandIn
        heavy = {"tiktoken", "regex", "requests", "urllib3"}
        with StandIn(["Fine.", "Fine."], window=1024) as daemon, Orchestra(host=daemon.url) as orchestra:
            orchestra.generate("Hello.", model="llama3")
            print(sorted(heavy & set(sys.modules)))
            orchestra.generate("Hello. " * 150, model="llama3")
            print("tiktoken" in sys.modules, "requests" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert (done.stdout, done.stderr) == ("[]\nTrue False\n", "")


@pytest.mark.parametrize("kind", RUNTIMES)
def test_what_fits_by_its_bytes_is_not_counted(kind: str) -> None:
    with StandIn(["Fine."]) as daemon:
        reply = answer(kind, daemon)
        assert (reply.receipt.counted, reply.receipt.calls, verbosely(daemon)) == ("bound", 1, 0)


@pytest.mark.parametrize("kind", RUNTIMES)
def test_what_cannot_be_counted_is_measured(kind: str) -> None:
    text = "It was a bright cold day in April. " * 6
    with StandIn(["measured", "Fine."], models=["tiny-native"], window=512) as daemon:
        reply = run(kind, lambda client: drained(asked(client, text=text, model="tiny-native", options=Options(max_tokens=200))), host=daemon.url)
        assert (reply.receipt.counted, reply.receipt.calls) == ("measured", 2)
        measuring, answering = inferences(daemon)
    assert measuring["options"]["num_predict"] == 1
    assert reply.usage.prompt_tokens is not None
    assert answering["options"]["num_predict"] == min(200, 512 - reply.usage.prompt_tokens)


def test_what_is_counted_exactly_is_sent_once_and_agrees() -> None:
    text = "It was a bright cold day in April. " * 20
    with StandIn(["Fine."], window=512) as daemon:
        reply = answer("blocking", daemon, text, max_tokens=20)
        assert (reply.receipt.counted, reply.receipt.calls, reply.receipt.notes) == ("exact", 1, ())
        assert len(inferences(daemon)) == 1


LONG = "It was a bright cold day in April. " * 40


@pytest.mark.parametrize("version", ["0.12.5", "0.10.0"])
def test_a_prompt_that_an_old_daemon_would_cut_is_an_error(version: str) -> None:
    with StandIn(window=256, version=version) as daemon, pytest.raises(e.PromptTooLong) as caught:
        answer("blocking", daemon, LONG)
    assert caught.value.facts["needed"] > 256


def test_a_daemon_that_does_not_say_its_window_is_found_to_cut() -> None:
    with StandIn(["measured"], window=256, version="0.9.0") as daemon:
        with pytest.raises(e.PromptTooLong) as caught:
            answer("blocking", daemon, LONG, max_tokens=1500)
        [body] = inferences(daemon)
    assert body["options"]["num_predict"] == 1, "nothing was answered to half a question"
    assert caught.value.facts["needed"] > 256


def lying(monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    """Every answer says that the prompt had so many tokens more than it had."""
    honest = wire.usage_of

    def usage(event: dict[str, Any]) -> Usage:
        found = honest(event)
        return Usage(prompt_tokens=found.prompt_tokens and found.prompt_tokens + tokens, completion_tokens=found.completion_tokens)

    monkeypatch.setattr(wire, "usage_of", usage)


@pytest.mark.parametrize(
    ("difference", "version", "note"),
    [(-100, "0.32.15", "truncated"), (1, "0.32.15", "count differs"), (0, "0.32.15", ""), (-100, "0.30.0", ""), (1, "0.30.0", "count differs")],
)
def test_a_difference_to_the_daemons_count_is_noted(difference: int, version: str, note: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lying(monkeypatch, difference)
    with StandIn(["Fine."], window=1024, version=version) as daemon:
        notes = answer("blocking", daemon, LONG, max_tokens=20).receipt.notes
    needed = Counter(facts("llama3"), vocabulary=llama3()).rendered([Message("user", LONG)])
    assert notes == ((f"{note}: {needed + difference}/{needed}",) if note else ())


def test_a_daemon_that_counts_more_is_not_trusted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lying(monkeypatch, 1)
    options = Options(max_tokens=20)

    async def twice(client: Client) -> list[str]:
        return [(await drained(asked(client, text=LONG, options=options))).receipt.counted for _ in range(2)]

    with StandIn(["Fine.", "measured", "Fine."], window=1024) as daemon:
        assert run("blocking", twice, host=daemon.url) == ["exact", "measured"]


LISTED = "{{ range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n{{ .Content }}<|eot_id|>{{ end }}<|start_header_id|>assistant<|end_header_id|>\n\n"


@pytest.mark.parametrize(("said", "after"), [(0, True), (1, False), (-1, False)])
def test_a_newer_template_is_trusted_once_the_daemon_has_counted_the_same(said: int, after: bool) -> None:
    shown_facts = {**facts("llama3"), "template": LISTED}

    async def heard(client: Client) -> tuple[Counter, Counter]:
        async def whole() -> dict[str, Any]:
            return {"model_info": verbose()}

        kept = counting.Counting(client.runtime, client.settings.folder())
        before = await kept.counter("listed", shown_facts, verbose=whole)
        await kept.heard("listed", shown_facts, DIALOGUE, before.expected(DIALOGUE) + said, raw=False)
        return before, await kept.counter("listed", shown_facts, verbose=whole)

    before, later = run("blocking", heard)
    assert (before.exact, before.measure(DIALOGUE).counted, later.exact) == (False, "calibrated", after)
    assert before.measure(DIALOGUE).tokens >= before.expected(DIALOGUE)


# --- calibrated



def test_nothing_is_learned_from_too_little() -> None:
    rates = Rates()
    for _ in range(LEAST_PROMPTS - 1):
        rates.learn(ENGLISH * 10, 300)
    rates.learn("12345" * 100, 3)
    rates.learn("short", 1)
    assert not rates.known
    assert rates.most(ENGLISH) == most_tokens(ENGLISH)


def test_the_dearest_prompt_counts_and_other_scripts_stay_at_a_token_a_byte(tmp_path: Path) -> None:
    rates = Rates(tmp_path / "rates")
    for tokens in (200, 260, 180):
        rates.learn(ENGLISH * 10, tokens)
    assert 260 <= rates.most(ENGLISH * 10) < len(ENGLISH) * 5
    assert rates.most(CHINESE) == most_tokens(CHINESE)
    assert rates.most("1234567890") == 10
    again = Rates(tmp_path / "rates")
    assert again.most(ENGLISH * 10) == rates.most(ENGLISH * 10)
    (tmp_path / "rates").write_text('{"words": ["x"]}')
    assert not Rates(tmp_path / "rates").known


@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
def test_a_calibrated_count_is_on_the_safe_side(text: str) -> None:
    rates, draw = Rates(), random.Random(1)
    words = text.split(" ") if " " in text else list(text)
    joint = " " if " " in text else ""

    def prompt() -> str:
        return joint.join(draw.choices(words, k=400))

    for _ in range(5):
        learned = prompt()
        rates.learn(learned, llama3().count(learned) + 20)
    assert rates.known
    for _ in range(50):
        other = prompt()[: draw.randrange(400, 1500)]
        assert llama3().count(other) <= rates.most(other) <= most_tokens(other)


async def learned(text: str, client: Client) -> None:
    await drained(asked(client, text=text, options=Options(max_tokens=2)))


def test_answers_teach_where_the_vocabulary_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "suitable", lambda info: False)
    settings = {"home": str(tmp_path), "host": ""}
    with StandIn() as daemon:
        settings["host"] = daemon.url
        before = run("blocking", lambda client: client.counter("llama3"), **settings)
        for place in range(LEAST_PROMPTS):
            text = ENGLISH * (6 + place)
            run("blocking", partial(learned, text), **settings)
        after = run("blocking", lambda client: client.counter("llama3"), **settings)
    assert (before.measure(ENGLISH).counted, after.measure(ENGLISH).counted) == ("bound", "calibrated")
    assert llama3().count(ENGLISH * 9) <= after.count(ENGLISH * 9) < before.count(ENGLISH * 9)
    assert not after.exact


# --- shown


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"abc", "abc"), ("中".encode(), "中"), (b"\xe8\xaf", "⟨e8 af⟩"), (b" \xb7", " ⟨b7⟩"), ("一".encode() + b"\xe4\xb8", "一⟨e4 b8⟩"), (b"", "")],
)
def test_characters_that_are_cut_are_shown_by_their_bytes(data: bytes, text: str) -> None:
    assert shown(data) == text


def test_tokens_from_python() -> None:
    with StandIn() as daemon, Orchestra(host=daemon.url) as orchestra:
        found = orchestra.tokens("请 a<|eot_id|>", model="llama3")
        empty = orchestra.tokens("", model="llama3")
    assert (found.model, found.count, found.exact) == ("llama3", 4, True)
    assert [(token.id, token.text, token.data) for token in found.tokens] == [
        (278, "⟨e8 af⟩", b"\xe8\xaf"), (188, "⟨b7⟩", b"\xb7"), (265, " a", b" a"), (4, "<|eot_id|>", b"<|eot_id|>")
    ]  # fmt: skip
    assert (empty.count, empty.exact, empty.tokens) == (0, True, ())


@pytest.fixture
def served(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """A stand-in where the command line looks for a daemon."""
    monkeypatch.setenv("OLLAMA_HOST", standin.url)
    return standin


def test_tokens_on_the_command_line(line: Line, served: StandIn) -> None:  # noqa: F811
    done = line("tokens", "请解释一下黑洞的形成", "--json")
    value = json.loads(done.out)
    assert set(value) == {"model", "count", "exact", "tokens"}
    assert (value["exact"], value["count"]) == (True, len(value["tokens"]))
    assert bytes(byte for token in value["tokens"] for byte in token["bytes"]).decode() == "请解释一下黑洞的形成"
    done = line("tokens", "a\tb\n\x1b[31m\u202e", "-m", "llama3:text")
    assert "│⇥│" in done.out
    assert "⏎" in done.out
    assert "⟨1b⟩" in done.out
    assert "\x1b" not in done.out
    assert "llama3:text" in done.err


def test_tokens_of_an_unknown_vocabulary(line: Line, served: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(counting, "suitable", lambda info: False)
    assert json.loads(line("tokens", "abc", "--json").out) == {"model": "llama3", "count": 3, "exact": False, "tokens": []}
    done = line("tokens", "abc")
    assert done.out == "3\n"
    assert "estimate" in done.err
