"""The same prompts on several models: what is shown is what was measured, none is asked twice, and a vote knows no names."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from browser import dumped
from command_line import Line, Terminal, chinese, line, started

from orchestra import AsyncOrchestra, Orchestra
from orchestra.errors import DaemonError, ModelMissing, PromptTooLong, UsageError
from orchestra.instruments.compare import Compared, Contender, Vote, contender, contenders, shuffled, standing, tally
from orchestra.instruments.compare_file import Kept
from orchestra.model.messages import Options
from orchestra.standin import Scripted, StandIn

__all__ = ["chinese", "line"]

TWO = ("-m", "llama3:text", "-m", "llama3")
SLOW = Scripted([f"{n} " for n in range(400)], pace=0.05)
PROMPTS = ("Once upon a time", "What is a token?")


@pytest.fixture(autouse=True)
def here(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", standin.url)


def asked(daemon: StandIn) -> list[tuple[str, str]]:
    """Which model was asked what, in order."""
    return [(body["model"], body["prompt"].partition("\n")[0]) for body in daemon.asked("/api/generate") if body.get("prompt")]


def until_asked(daemon: StandIn, times: int, running: subprocess.Popen[bytes]) -> None:
    """Waits for that many requests that make a model write."""
    until = time.monotonic() + 20
    while len(asked(daemon)) < times:
        assert time.monotonic() < until, running.poll()
        time.sleep(0.02)


# --- what is measured


def test_each_model_answers_all_prompts_before_the_next_is_loaded(line: Line, standin: StandIn) -> None:
    whole = line("compare", *PROMPTS, *TWO, "-n", "6", "--temperature", "0", "--json").json
    rows = whole["results"]
    assert asked(standin) == [(model, prompt) for model in ("llama3:text", "llama3") for prompt in PROMPTS]
    assert [(row["contender"], row["prompt"]) for row in rows] == asked(standin)
    assert (standin.loads, standin.reloads) == (2, 0)
    for row in rows:
        assert 0 < row["tokens"] <= 6
        assert row["finish_reason"] in ("length", "stop")
        assert 0 <= row["first_token"] <= row["seconds"]
        assert row["error"] is None
    with Orchestra() as orchestra:
        again = orchestra.generate(PROMPTS[1], model="llama3", max_tokens=6, temperature=0)
    assert (rows[3]["text"], rows[3]["prompt_tokens"]) == (again.text, again.usage.prompt_tokens)
    assert [each["answers"] for each in whole["summary"]] == [2, 2]


def test_a_load_is_no_part_of_what_is_timed(line: Line) -> None:
    with StandIn(load_seconds=0.6) as slow, Orchestra(host=slow.url) as orchestra:
        for each in orchestra.compare("Hello", models=["llama3:text", "llama3"], options=Options(max_tokens=2)):
            assert each.seconds is not None
            assert each.seconds < 0.5


def test_one_model_with_several_options(standin: StandIn) -> None:
    with Orchestra() as orchestra:
        rows = orchestra.compare("Hello", models=["llama3,seed=1", "llama3,seed=2,temperature=0.5", Contender(model="llama3", base=True)])
    assert [row.contender for row in rows] == ["llama3,seed=1", "llama3,seed=2,temperature=0.5", "llama3,base"]
    sent = [body for body in standin.asked("/api/generate") if body.get("prompt")]
    assert [body["options"].get("seed") for body in sent] == [1, 2, None]
    assert [body.get("raw", False) for body in sent] == [False, False, True]


def test_the_face_that_waits_gives_the_same() -> None:
    async def main() -> list[Compared]:
        async with AsyncOrchestra() as orchestra:
            return await orchestra.compare(PROMPTS, models=["llama3,temperature=0", "llama3:text,temperature=0"])

    with Orchestra() as orchestra:
        same = orchestra.compare(PROMPTS, models=["llama3,temperature=0", "llama3:text,temperature=0"])
    assert [(row.key, row.text) for row in asyncio.run(main())] == [(row.key, row.text) for row in same]


def test_one_that_fails_does_not_stop_the_others(line: Line, standin: StandIn, tmp_path: Path) -> None:
    standin.fail("error_500_json")
    whole = line("compare", *PROMPTS, *TWO, "-n", "3", "--json")
    rows = whole.json["results"]
    assert whole.code == DaemonError.exit_code, "what failed is told to scripts, too"
    assert [row["error"] is None for row in rows] == [False, True, True, True]
    assert rows[0]["error"]["code"] == "daemon_error"
    standin.fail("error_500_json", times=2)
    kept = str(tmp_path / "kept.jsonl")
    done = line("compare", PROMPTS[0], *TWO, "--save", kept)
    assert done.code == DaemonError.exit_code, "not one answer"
    assert "failed 1" in done.out
    for _ in range(2):
        assert line("compare", PROMPTS[0], *TWO, "--save", kept).code == 0
    assert [each.error is None for each in Kept(kept).answers] == [False, False, True, True], "a failure is asked again, once"


def test_a_prompt_that_overflows_a_window_is_said_with_what_to_do(line: Line) -> None:
    done = line("compare", "word " * 6000, *TWO, "-n", "3")
    assert done.code == PromptTooLong.exit_code
    (row, _) = line("compare", "word " * 6000, *TWO, "-n", "3", "--json").json["results"]
    assert row["error"]["code"] == "prompt_too_long"
    assert row["error"]["hint"] in done.out


def test_a_daemon_that_goes_away_leaves_what_was_measured(tmp_path: Path) -> None:
    with StandIn(["One.", SLOW]) as daemon:
        command = ("compare", "Count.", *TWO, "-m", "llama3,seed=1", "--json")
        with started(*command, OLLAMA_HOST=daemon.url, ORCHESTRA_LANG="en") as running:
            until_asked(daemon, 2, running)
            daemon.stop()
            out, _ = running.communicate(timeout=20)
    left = json.loads(out)
    assert (running.returncode, left["error"]["code"]) == (3, "daemon_unreachable")
    first, *rest = left["results"]
    assert (first["text"], first["error"]) == ("One.", None)
    assert all(row["error"] for row in rest), "whoever was answering then has an error, or is not there"


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x", "-m", "llama3"], "takes 2 to 26"),
        (["x"], "takes 2 to 26"),
        (["x", "-m", "llama3", "-m", "llama3"], "named twice"),
        (["x", "-m", "llama3", "-m", "llama3,heat=1"], "heat=1"),
        (["x", "-m", "llama3", "-m", "llama3,seed=x"], "seed=x"),
        (["x", "-m", "llama3", "-m", "llama3,temperature=99"], "temperature of llama3 is 99"),
        (["x", "-m", "llama3", "-m", "llama3,temperature=nan"], "temperature of llama3 is nan"),
        (["x", "-m", "llama3", "-m", "llama3,top-p=7"], "top-p of llama3 is 7"),
        (["x", "-m", "llama3", "-m", "llama3,top_k=-5"], "top_k of llama3 is -5"),
        (["x", "-m", "llama3", "-m", "llama3,max_tokens=0"], "max_tokens of llama3 is 0"),
        ([*TWO], "no prompt"),
        (["x", *TWO, "--html", "nowhere/x.html"], "cannot write"),
        (["x", *TWO, "--save", "nowhere/x.jsonl"], "cannot keep"),
        (["x", *TWO, "--prompts", "nowhere.txt"], "cannot read nowhere.txt"),
        (["x", *TWO, "--blind"], "nobody is at the keyboard"),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_is_asked(
    line: Line, standin: StandIn, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    error = line("compare", *arguments, "--json").error
    assert said in error["message"]
    assert error["code"] == "usage_error"
    assert asked(standin) == []


def test_a_model_that_is_not_there_is_said_first(standin: StandIn) -> None:
    with Orchestra() as orchestra, pytest.raises(ModelMissing):
        orchestra.compare("Hello", models=["llama3", "nobody"])
    assert asked(standin) == []


def test_a_contender_reads_as_it_is_written() -> None:
    for written in ("llama3", "llama3:text,temperature=0.2,seed=1", "mid,base", "mid,instruct,seed=1000000"):
        assert {*contender(written).name.split(",")} == {*written.split(",")}
    mixed = contenders(["a,temperature=0", "b"], Options(temperature=1.0, max_tokens=5))
    assert [(each.name, each.options.temperature, each.options.max_tokens) for each in mixed] == [("a,temperature=0", 0.0, 5), ("b", 1.0, 5)]
    with pytest.raises(UsageError):
        contenders(["a"] * 2, None)


# --- kept and gone on with


def test_what_was_measured_is_not_asked_again(line: Line, standin: StandIn, tmp_path: Path) -> None:
    kept, prompts = str(tmp_path / "kept.jsonl"), tmp_path / "prompts.txt"
    prompts.write_text(f"{PROMPTS[1]}\n\n", "utf-8")
    first = line("compare", PROMPTS[0], *TWO, "-n", "4", "--save", kept, "--json").json
    both = line("compare", PROMPTS[0], *TWO, "-n", "4", "--save", kept, "--prompts", str(prompts), "--json").json
    assert len(asked(standin)) == 4
    assert [row for row in both["results"] if row["prompt"] == PROMPTS[0]] == first["results"]
    again = line("compare", PROMPTS[0], *TWO, "-n", "4", "--save", kept)
    assert again.out.count(" · kept from before") == 2
    assert "for speed use orchestra bench" in again.err
    new = line("compare", PROMPTS[0], *TWO, "-n", "5", "--save", kept)
    assert "kept from before" not in new.out
    assert len(asked(standin)) == 6, "other options are another measurement"


def test_ctrl_c_keeps_what_was_measured(line: Line, standin: StandIn, tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    standin.script("One.", SLOW)
    command = ("compare", "Count.", *TWO, "--save", str(kept), "--json")
    with started(*command, ORCHESTRA_LANG="en") as running:
        until_asked(standin, 2, running)
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=20)
    assert running.returncode == 130
    left = json.loads(out)
    assert [row["text"] for row in left["results"]] == ["One."]
    assert left["finish_reason"] == "cancelled"
    with kept.open("a", encoding="utf-8") as file:
        file.write('{"prompt": "Count.", "contend')  # as a sudden end leaves it
    standin.script("Two.")
    assert [row["text"] for row in line(*command).json["results"]] == ["One.", "Two."]
    assert len(asked(standin)) == 3
    assert [each.text for each in Kept(kept).answers] == ["One.", "Two."], "the torn line is no answer, and no other is lost"


def test_a_file_of_something_else_is_left_alone(line: Line, tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    for text in ("my notes\n", "my notes", '{"a": 1}\n', "\n[1]\n"):
        other.write_text(text, "utf-8")
        assert "no file of a comparison" in line("compare", "x", *TWO, "--save", str(other), "--json").error["message"]
        assert other.read_text("utf-8") == text


# --- shown


def test_side_by_side_for_people(line: Line, standin: StandIn, tmp_path: Path) -> None:
    standin.script("A \x1b[31mred\x1b[0m answer.", "<b>Bold</b>.")
    page = tmp_path / "page.html"
    done = line("compare", "What?", *TWO, "--html", str(page))
    assert "== llama3:text · " in done.out
    assert "A red answer." in done.out
    assert "F16" in done.out or "Q4" in done.out
    text = page.read_text("utf-8")
    assert "&lt;b&gt;Bold&lt;/b&gt;." in text
    assert "llama3:text" in text
    assert "\x1b" not in text


@pytest.mark.usefixtures("chinese")
def test_in_chinese(line: Line, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = line("compare", "你好", *TWO, "-n", "3", "--html", str(page))
    assert "量化" in done.out
    seen = dumped(page, tmp_path / "profile")
    assert "<h1>相同的提示词，不同的模型</h1>" in seen
    assert seen.count("<h3>") == 2
    assert "max_tokens=3" in seen


def test_the_english_page_in_a_browser(line: Line, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    line("compare", "Hello", *TWO, "-n", "3", "--html", str(page))
    seen = dumped(page, tmp_path / "profile")
    assert '<html lang="en"' in seen
    assert seen.count("<h3>") == 2
    assert "Hello" in seen


# --- the vote


def test_a_blind_vote_on_a_terminal(line: Line, standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standin.script("apple", "pear", "plum", "fig")
    kept = tmp_path / "kept.jsonl"
    command = ("compare", *PROMPTS, *TWO, "--blind", "--save", str(kept))
    with Terminal(*command, OLLAMA_HOST=standin.url, ORCHESTRA_LANG="en") as screen:
        shown = screen.until("which is best?")
        ballot = shown[shown.index("# 1/2") :]
        assert "llama3" not in ballot, "no name before the vote"
        screen.type("x\n")
        screen.type("A\n" if ballot.index("apple") < ballot.index("plum") else "B\n")
        screen.until("# 2/2")
        screen.type("=\n")
        assert screen.code() == 0
    assert Kept(kept).votes == [Vote(prompt=prompt, best=best, among=("llama3", "llama3:text")) for prompt, best in zip(PROMPTS, ("llama3:text", ""), strict=True)]
    monkeypatch.setattr("orchestra.cli.comparing.needs_somebody", bool)
    whole = line(*command, "--json").json
    assert whole["tally"] == {"llama3:text": 1, "llama3": 0}, "both have been voted on, and nobody is asked again"


def test_the_order_of_a_vote_tells_nothing() -> None:
    row = [Compared(prompt="p", contender=name, model=name) for name in "abc"]
    failed = Compared(prompt="p", contender="d", model="d", error={"code": "x"})
    chance = random.Random(1)
    first = [shuffled([*row, failed], chance)[0].contender for _ in range(300)]
    assert all(70 < first.count(name) < 130 for name in "abc")
    assert "d" not in first
    votes = [Vote(prompt=str(n), best=best, among=("a", "b", "c")) for n, best in enumerate(["b", "b", "", "c"])]
    assert tally(votes, ["a", "b", "c"]) == {"b": 2, "c": 1, "a": 0}


def test_a_vote_is_about_those_who_stood_in_it() -> None:
    row = [Compared(prompt="p", contender=name, model=name) for name in "ab"]
    votes = [Vote(prompt="p", best=best, among=among) for best, among in (("a", ("a", "b")), ("c", ("a", "c")), ("b", ("b", "a")))]
    assert [vote.best for vote in standing(votes, row)] == ["b"], "the last one among the same"
    assert standing(votes, [*row, Compared(prompt="p", contender="d", model="d")]) == []


def test_on_a_real_daemon(real_daemon: str, real_model: str, tmp_path: Path) -> None:
    with Orchestra(host=real_daemon, home=str(tmp_path)) as orchestra:
        rows = orchestra.compare(PROMPTS, models=[f"{real_model},temperature=0,max_tokens=6", f"{real_model},base,max_tokens=6"])
        assert [row.error for row in rows] == [None] * 4
        assert all(row.tokens and row.quantization and row.weights for row in rows)
        again = orchestra.generate(PROMPTS[0], model=real_model, temperature=0, max_tokens=6)
        assert (rows[0].text, rows[0].prompt_tokens) == (again.text, again.usage.prompt_tokens)
