"""`orchestra personas test`: the table, the object, the progress, and what Ctrl-C leaves."""

from __future__ import annotations

import json
import signal
import time

import pytest
from acting import acting
from command_line import Line, chinese, line, started  # noqa: F401 - fixtures
from test_drift import Troupe

from orchestra.standin import StandIn


class Lawyers(Troupe):
    """The shipped lawyer, played: it says so in each answer until it breaks."""


def test_the_table_shows_each_turn_and_the_drift(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    with acting(Lawyers(breaks=6)) as daemon:
        monkeypatch.setenv("OLLAMA_HOST", daemon.url)
        done = line("personas", "test", "lawyer", "--turns", "8")
    assert done.code == 0
    rows = done.out.splitlines()
    assert rows[0].split() == ["TURN", "PRESSURE", "PROMPT-TO-LINE", "LINE-TO-LINE", "QUESTION-AND-ANSWER", "ANSWER"]
    assert [row.split("  ")[0] for row in rows[1:9]] == [str(turn) for turn in range(1, 9)]
    assert [("1.00" in row, "0.00" in row) for row in rows[1:9]] == [(True, False)] * 5 + [(False, True)] * 3
    assert rows[10].split() == ["MEASURE", "FIRST", "QUARTER", "LAST", "QUARTER", "DRIFT"]
    assert rows[11].split() == ["prompt-to-line", "1.00", "0.00", "-1.00"]
    said = done.err.splitlines()
    assert "8 turns in English with llama3: 50 to " in done.err
    assert sum(each.startswith("turn ") for each in said) == 8
    assert "50 calls, " in done.err
    assert "these figures mean nothing" in said[-1]


def test_the_object_has_everything(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    with acting(Lawyers(language="zh")) as daemon:
        monkeypatch.setenv("OLLAMA_HOST", daemon.url)
        done = line("personas", "test", "lawyer", "--turns", "4", "--language", "zh", "--json")
    found = done.json
    assert (done.code, found["finish_reason"], found["mechanical"]) == (0, "stop", True)
    assert "turn " not in done.err
    assert found["outlook"]["language"] == "zh"
    assert [turn["turn"] for turn in found["turns"]] == [1, 2, 3, 4]
    assert found["turns"][0]["prompt_to_line"] == 1.0
    assert found["changes"]["prompt_to_line"] == {"first": 1.0, "last": 1.0, "change": 0.0}
    assert found["calls"] == found["outlook"]["calls"]
    assert found["usage"]["prompt_tokens"] > 0
    assert found["seconds"] > 0


@pytest.mark.usefixtures("chinese")
def test_it_speaks_chinese_and_measures_in_chinese(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    with acting(Lawyers(language="zh"), version="0.12.5") as daemon:
        monkeypatch.setenv("OLLAMA_HOST", daemon.url)
        done = line("personas", "test", "lawyer", "--turns", "4")
    assert done.out.split()[:2] == ["轮次", "压力"]
    assert "4 轮中文对话" in done.err
    assert "按 0 或 1 计" in done.err


@pytest.mark.parametrize("json_wanted", [False, True])
def test_ctrl_c_keeps_what_was_measured(json_wanted: bool) -> None:
    with acting(Lawyers(), pace=0.01) as daemon:
        wish = ["--json"] if json_wanted else []
        with started("personas", "test", "lawyer", "--turns", "12", *wish, OLLAMA_HOST=daemon.url) as running:
            assert running.stderr is not None
            if json_wanted:
                judged = 0
                while judged < 6:  # the first quarter is spoken before it is judged
                    time.sleep(0.02)
                    judged = sum(bool(body.get("format")) for body in daemon.asked("/api/chat"))
            else:
                while not running.stderr.readline().startswith(b"turn 2"):
                    pass
            running.send_signal(signal.SIGINT)
            out, err = running.communicate(timeout=30)
        assert running.returncode == 130
    if json_wanted:
        found = json.loads(out)
        assert found["finish_reason"] == "cancelled"
        assert found["turns"]
    else:
        assert out.decode().splitlines()[1].startswith("1  ")
        assert "stopped after " in err.decode()


def test_a_daemon_that_goes_leaves_what_was_measured(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    class Leaving(Lawyers):
        def judges(self, text: str) -> str:
            if len(self.shown) > 12:
                daemon.fail("error_500_json", times=50)
            return super().judges(text)

    with acting(Leaving()) as daemon:
        monkeypatch.setenv("OLLAMA_HOST", daemon.url)
        done = line("personas", "test", "lawyer", "--turns", "8")
    assert done.code not in (0, 130)
    assert done.out.splitlines()[1].startswith("1  ")
    assert "error: " in done.err


def test_what_cannot_be_measured_is_an_error(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    with StandIn([]) as daemon:
        monkeypatch.setenv("OLLAMA_HOST", daemon.url)
        assert line("personas", "test", "lawyre").code == 51
        assert line("personas", "test", "lawyer", "--turns", "3").code == 2
        assert line("personas", "test", "lawyer", "--judge", "nobody", "--json").error["code"] == "model_missing"
