"""`next` and `decode` on the command line: for people, for programs, for a browser; and left in the middle."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import dumped
from command_line import Line, chinese, line, started

from orchestra.cli.prediction import bar, drawn, heat
from orchestra.cli.prediction_page import percent
from orchestra.model.prediction import END, Candidate, NextStep
from orchestra.standin import Scripted, StandIn
from orchestra.standin.engine import engine

__all__ = ["chinese", "line"]
FRANCE = "The capital of France is"
STEP, CANDIDATE = {"token", "logprob", "candidates"}, {"token", "logprob", "probability"}
RESULT = {"strategy", "text", "logprob", "tokens", "calls"}


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with StandIn() as daemon:
        monkeypatch.setenv("OLLAMA_HOST", daemon.url)
        yield daemon


def test_next_for_programs(daemon: StandIn, line: Line) -> None:
    found = line("next", FRANCE, "--top", "5", "--steps", "3", "--json")
    assert found.code == 0
    steps = found.json["steps"]
    assert len(steps) == 3
    for step in steps:
        assert set(step) == STEP
        assert len(step["candidates"]) == 5
        assert all(set(each) == CANDIDATE for each in step["candidates"])
        assert all(each["probability"] == pytest.approx(math.exp(each["logprob"])) for each in step["candidates"])
        assert step["token"] == step["candidates"][0]["token"]
    assert found.json["text"] == "".join(step["token"] for step in steps)
    assert found.json["calls"] == 3


def test_what_is_missing_is_null_for_programs(daemon: StandIn, line: Line) -> None:
    found = line("next", FRANCE, "--choose", "Zanzibar", "--json").json
    forced, after = found["steps"]
    assert (forced["token"], forced["logprob"], forced["missing"]) == ("Zanzibar", None, len(engine().vocabulary.encode("Zanzibar")))
    assert "missing" not in after


def test_decode_for_programs(daemon: StandIn, line: Line) -> None:
    found = line("decode", FRANCE, "-n", "5", "--strategies", "greedy, beam", "--beam-width", "2", "--json").json
    assert [each["strategy"] for each in found["results"]] == ["greedy", "beam"]
    for each in found["results"]:
        assert set(each) >= RESULT
        assert each["calls"] <= 10
        assert each["tokens"] == 5


def test_next_for_people(daemon: StandIn, line: Line) -> None:
    found = line("next", FRANCE, "--top", "3", "--choose", " light", "--steps", "2")
    lines = found.out.splitlines()
    assert lines[0] == "The│ c│a│p│it│a│l│ │o│f│ │F│r│an│c│e│ is"
    assert '1. " light"  (forced)' in lines
    assert any(each.startswith(' ▸ " light"') for each in lines)
    assert any(each.startswith('   " " ') and ">99.99%" in each and "█" * 24 in each for each in lines)
    assert "all others" in found.out
    assert "the stand-in at" in found.err, "nobody takes these words for a model's"


def test_next_in_chinese(daemon: StandIn, line: Line, chinese: None) -> None:
    found = line("next", "诉讼", "--top", "2")
    assert "<半个字符>" in found.out
    assert "其余所有" in found.out
    assert "模型读到的提示词，共 5 个 token" in found.err


def test_decode_for_people(daemon: StandIn, line: Line) -> None:
    found = line("decode", "诉讼", "-n", "6")
    assert [each.split()[0] for each in found.out.splitlines() if each][:4] == ["strategy", "greedy", "sample", "beam"]
    assert "≤ " in found.out
    assert "the most that it can be" in found.err
    assert "calls" in found.out


def test_nothing_a_model_says_acts_on_the_terminal(daemon: StandIn, line: Line) -> None:
    daemon.script(Scripted(["\x1b[31m", "x"]), Scripted(["\x07"]), Scripted(["\u202e"]))
    found = line("next", FRANCE, "--steps", "2")
    daemon.script(Scripted(["\x1b]0;taken\x07"]))
    found_decoded = line("decode", FRANCE, "--strategies", "sample")
    assert not {"\x1b", "\x07", "\u202e"} & set(found.out + found_decoded.out)
    assert "⟨1b⟩[31m" in found.out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["next", FRANCE, "--top", "21"], 2, "at most 20"),
        (["next", FRANCE, "--choose", ""], 2, "empty token"),
        (["next", FRANCE, "--html", "nowhere/page.html"], 2, "cannot write"),
        (["next", FRANCE, "-m", "nope"], 4, "not installed"),
        (["decode", FRANCE, "--beam-width", "0"], 2, "at least 1"),
        (["decode", FRANCE, "--beam-width", "10000"], 2, "at most 20"),
        (["decode", FRANCE, "--strategies", "greedy,magic"], 2, "'magic' is no strategy"),
        (["decode", "word " * 5000], 23, "tokens"),
        (["next", "word " * 5000], 23, "too many"),
        (["next", FRANCE, "--choose", "<|eot_id|>"], 2, "control token"),
    ],
)
def test_what_fails_says_what_to_do(daemon: StandIn, line: Line, arguments: list[str], code: int, said: str) -> None:
    found = line(*arguments, "--json")
    assert (found.code, found.err) == (code, "")
    assert said in found.error["message"]


def test_the_window_of_the_hint_can_be_given(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = "word " * 40
    with StandIn(window=32) as small:
        monkeypatch.setenv("OLLAMA_HOST", small.url)
        commands = ["next", prompt], ["decode", prompt, "-n", "1", "--strategies", "greedy"]
        assert all("--window 2048" in line(*command, "--json").error["hint"] for command in commands)
        assert "--window" in line("render", prompt, "--base").err
        assert all(line(*command, "--window", "2048", "--json").code == 0 for command in commands)
        assert "does not fit" not in line("render", prompt, "--base", "--window", "2048").err


def test_no_daemon_and_one_too_old(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:9")
    assert line("next", FRANCE).code == 3
    with StandIn(version="0.12.10") as old:
        monkeypatch.setenv("OLLAMA_HOST", old.url)
        for command in ("next", "decode"):
            found = line(command, FRANCE, "--json")
            assert found.code == 19
            assert "0.12.10" in found.error["message"]
            assert "0.12.11" in found.error["hint"]


def test_what_was_measured_stands_beside_an_error(daemon: StandIn, line: Line) -> None:
    daemon.script(Scripted("a"), Scripted("b"), Scripted([], end="error"))
    found = line("next", FRANCE, "--steps", "9", "--json")
    assert found.code != 0
    assert [step["token"] for step in found.json["steps"]] == ["a", "b"]
    assert found.json["error"]["hint"]


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    with (
        StandIn() as daemon,
        started("next", FRANCE, "--steps", "900", "--json", "--html", str(page), OLLAMA_HOST=daemon.url) as running,
    ):
        until = time.monotonic() + 30
        while len(daemon.asked("/api/generate")) < 5:
            assert time.monotonic() < until
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=20)
    assert running.returncode == 130
    kept = json.loads(out)
    assert len(kept["steps"]) >= 3
    assert kept["finish_reason"] == "cancelled"
    assert "stopped" in page.read_text("utf-8")


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_page_in_a_browser(daemon: StandIn, line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str) -> None:
    monkeypatch.setattr("orchestra.cli.words.LANGUAGE", language)
    page = tmp_path / "page.html"
    assert line("next", "诉讼<b>", "--top", "4", "--steps", "2", "--choose", "Zanzibar", "--html", str(page)).code == 0
    shown = dumped(page, tmp_path / "profile")
    assert "<h1>" + {"zh": "逐步预测下一个 token", "en": "The next token, step by step"}[language] + "</h1>" in shown
    assert {"zh": "指定", "en": "forced"}[language] in shown
    assert '<span class="untold" title="?">Zanzibar</span>' in shown
    assert shown.count('class="bar"') == 2 * 5
    assert "<b>" not in shown


@pytest.mark.parametrize(("probability", "drawn"), [(0.0, ""), (1.0, "█" * 24), (0.5, "█" * 12), (1 / 192, "▏"), (0.26, "██████▎")])
def test_a_bar_to_the_eighth(probability: float, drawn: str) -> None:
    assert bar(probability) == drawn


@pytest.mark.parametrize(
    ("probability", "shown"),
    [(0.0, "0.00%"), (6.8e-06, "<0.01%"), (0.00005, "0.01%"), (0.5, "50.00%"), (0.9999, "99.99%"), (0.999993, ">99.99%"), (1.0, "100.00%")],
)
def test_nearly_certain_is_not_certain(probability: float, shown: str) -> None:
    assert percent(probability) == shown


def test_heat_without_colours() -> None:
    steps = [NextStep(token="a", logprob=0.0), NextStep(token="\n", logprob=-9.0), NextStep(token="b", logprob=None, missing=1)]
    assert heat([*steps, NextStep(token=END, logprob=math.log(0.5), kind="end")], tinted=False) == "a█⏎▁b?<end>▅"


def test_in_colours() -> None:
    """Each text of a token is its own; what is between is ours, and ends what it began."""
    step = NextStep(token="\x1b[2J", logprob=-0.1, candidates=(Candidate(token="\x1b[2J", logprob=-0.1),))
    for shown in ("\n".join(drawn(step, 1, tinted=True)), heat([step], tinted=True)):
        assert shown.count("\x1b[") == 2 * shown.count("\x1b[0m") > 0
        assert "⟨1b⟩[2J" in shown
    assert "\x1b" not in "\n".join(drawn(step, 1, tinted=False))
    assert "48;5;120m" in heat([step], tinted=True)
    assert "48;5;250m" in heat([NextStep(token="a", logprob=None)], tinted=True)
