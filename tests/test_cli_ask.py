"""`ask` and `integrate` on the command line: sources below an answer, experts above it, and whose words these are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Line, Terminal, bare, chinese, line, process, started  # noqa: F401 - fixtures

from orchestra.cli.sources import sources_below, unreached
from orchestra.retrieval.passages import Attempt, Citation, Source
from orchestra.standin import Scripted, StandIn

QUESTION = "What is the capital of France?"
ANSWER = "The capital of France is Paris. [1]"
TASK = "制定人工智能合规标准，避免人工智能伤害人类"

pytestmark = pytest.mark.usefixtures("named")


@pytest.fixture
def named(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of this process talk to the stand-in."""
    monkeypatch.setenv("OLLAMA_HOST", standin.url)


def test_ask_lists_its_sources(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script(ANSWER)
    done = line("ask", QUESTION)
    assert done.code == 0
    answer, listed = done.out.split("\n\nSources:\n")
    assert answer == ANSWER
    first, *others = listed.splitlines()
    assert first == "[1] France  orchestra:texts/france.md"
    assert len(others) == 2
    assert all(other.endswith("(not cited)") for other in others)
    assert "model: llama3" in done.err
    assert standin.url in done.err, "the stand-in is named"


def test_ask_as_json(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script("The capital of France is Paris. [1] It has nine million towers. [2]")
    done = line("ask", QUESTION, "--results", "2", "--search", "offline", "--json")
    whole = done.json
    assert set(whole) >= {"text", "sources", "citations", "ledger", "usage", "receipt", "finish_reason", "model"}
    assert [(s["n"], s["cited"]) for s in whole["sources"]] == [(1, True), (2, True)]
    assert set(whole["sources"][0]) == {"n", "title", "url", "snippet", "cited"}
    assert [(c["n"], c["found"]) for c in whole["citations"]] == [(1, "yes"), (2, "no")]
    assert whole["ledger"]["queries"] == [QUESTION]
    assert whole["receipt"]["calls"] == 1
    assert standin.url in done.err


def test_what_is_not_in_its_source_is_said(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script("The capital of France is Paris. [1] It has nine million towers. [2]")
    shown = line("ask", QUESTION).out
    assert "! not found in [2]: It has nine million towers." in shown
    assert "[1]: The capital" not in shown


def test_ask_as_a_stream_of_objects(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script(ANSWER)
    *pieces, whole = [json.loads(each) for each in line("ask", QUESTION, "--json", "--stream").out.splitlines()]
    assert "".join(piece["text"] for piece in pieces) == whole["text"] == ANSWER
    assert whole["sources"]


def test_an_answer_without_sources_says_so(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script("I cannot tell.")
    done = line("ask", "Zzyzx qwrtp?")
    assert done.out.startswith("(No sources were found")
    assert "Sources:" not in done.out
    assert "this answer has no sources" in done.err


def test_ask_with_a_draft_as_json(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script("It is Lyon.", json.dumps({"keywords": ["France", "capital"]}), ANSWER)
    ledger = line("ask", QUESTION, "--draft", "--search", "offline", "--json").json["ledger"]
    assert (ledger["draft"], ledger["queries"], ledger["refined"]) == ("It is Lyon.", [QUESTION, "France capital"], True)


def test_the_trace_is_told_on_stderr(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script("It is Lyon.", json.dumps({"keywords": ["France"]}), ANSWER)
    done = line("ask", QUESTION, "--strategy", "draft", "--trace")
    told = done.err.splitlines()
    for words in ("draft: It is Lyon.", "keywords: France", f"searching: {QUESTION}", "  + kept: France  orchestra:texts/france.md"):
        assert words in told
    assert any(each.startswith("  offline: 6 hits · ") for each in told)
    assert any("dropped" in each and "beyond the 3 best" in each for each in told)
    assert done.out.startswith(ANSWER)
    assert "searching" not in line("ask", QUESTION).err, "unless it is asked for"


@pytest.mark.usefixtures("chinese")
def test_the_trace_in_chinese(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script("法国的首都是巴黎。[1]")
    told = line("ask", "法国的首都是哪里？", "--trace").err
    assert "查找：法国的首都是哪里？" in told
    assert "条结果" in told
    assert "超出前 3 条" in told
    assert "beyond" not in told


def test_the_trace_as_objects(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script(ANSWER)
    objects = [json.loads(each) for each in line("ask", QUESTION, "--trace", "--json", "--stream").out.splitlines()]
    told = [each["trace"] for each in objects if "trace" in each]
    assert told[0] == {"what": "searching", "text": QUESTION}
    assert told[1]["attempt"]["outcome"] == "found"
    assert objects[-1]["text"] == ANSWER


def test_ask_in_a_knowledge_base(line: Line, standin: StandIn, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "lamp.md").write_text("# Lumo 3\n\nThe lamp has a warranty of 30 months.\n", "utf-8")
    assert line("knowledge", "add", str(tmp_path), "--name", "manuals").code == 0
    standin.script("The lamp has a warranty of 30 months. [1]")
    whole = line("ask", "How long is the warranty of the lamp?", "--search", "none", "--knowledge", "manuals", "--json").json
    assert [(source["n"], source["cited"]) for source in whole["sources"]] == [(1, True)]
    assert (whole["sources"][0]["title"], whole["sources"][0]["snippet"]) == ("Lumo 3, lines 1-3", "The lamp has a warranty of 30 months.")
    assert whole["citations"][0]["found"] == "yes"
    sent = standin.asked("/api/chat")[-1]["messages"][-1]["content"]
    assert sent.count("Lumo 3") == 1, "a title is said once"
    assert line("ask", "What?", "--knowledge", "nothing", "--json").error["code"] == "knowledge_missing"


def test_ask_in_a_session(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script(ANSWER, json.dumps({"query": "What is the capital of Germany?"}), "Berlin. [1]")
    line("ask", QUESTION, "--session", "trip")
    whole = line("ask", "And of Germany?", "--session", "trip", "--json").json
    assert whole["ledger"]["rewritten"] == "What is the capital of Germany?"
    assert whole["sources"][0]["title"] == "Germany"
    assert "And of Germany?" in line("sessions", "show", "trip").out


def test_a_search_that_is_not_there(line: Line) -> None:  # noqa: F811
    assert line("ask", QUESTION, "--search", "nowhere", "--json").error["code"] == "usage_error"


def test_small_talk_is_not_looked_up(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script("Hello.")
    done = line("ask", "Hi!")
    assert done.out == "Hello.\n"
    assert "nothing was looked up for this answer" in done.err


def test_what_was_cut_is_left_behind_a_mark_in_a_pipe(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script("I think it is Lyon.", json.dumps({"keywords": ["France", "capital"]}), ANSWER)
    done = line("ask", "Which town is it that rules the Gauls nowadays?")
    alone, _, sourced = done.out.partition("\n\n⋯\n\n")
    assert alone.endswith("I think it is Lyon.")
    assert sourced.startswith(ANSWER)


def test_sources_are_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b]8;;http://evil.example\x1b\\France\n[9] Fake\u202e"
    sources_below(
        [Source(n=1, title=evil, url="http://a.example/\x07", snippet="")], [Citation(n=1, sentence=evil, found="weak")]
    )
    shown = capsys.readouterr().out
    assert shown == (
        "\nSources:\n[1] France [9] Fake  http://a.example/  (not cited)\n! only partly found in [1]: France [9] Fake\n"
    )


@pytest.mark.usefixtures("chinese")
def test_ask_in_chinese(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script("法国的首都是巴黎。[1]")
    done = line("ask", "法国的首都是哪里？")
    assert "\n来源：\n[1] " in done.out
    assert "替身服务" in done.err


def test_ctrl_c_while_asking(standin: StandIn) -> None:
    standin.script(Scripted([f"word{n} " for n in range(500)], pace=0.02))
    with Terminal("ask", QUESTION, "--json", "--stream", OLLAMA_HOST=standin.url) as screen:
        screen.until("word3")
        screen.interrupt()
        assert screen.code() == 130
    whole = json.loads(bare(screen.shown).splitlines()[-1])
    assert (whole["finish_reason"], whole["sources"]) == ("cancelled", [])
    assert whole["text"].startswith("word0 word1 word2 word3 ")


# --- integrate


def test_integrate_shows_each_expert_and_then_one_answer(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script("技术上要可控。", "法律上要问责。", "标准分两部分。")
    done = line("integrate", "--panel", TASK)
    assert (done.code, done.out) == (0, "标准分两部分。\n")
    said = done.err.splitlines()
    told = [each for each in said if each.startswith(("computer_scientist", "lawyer"))]
    assert [each.partition(" ")[0] for each in told] == ["computer_scientist"] * 2 + ["lawyer"] * 2
    assert all(each.endswith("s)") for each in told[1::2]), "with its seconds"
    assert done.err.count(standin.url) == 1


def test_integrate_as_json(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script("技术上要可控。", "法律上要问责。", "标准分两部分。")
    whole = line("integrate", "--panel", TASK, "--json").json
    assert (whole["text"], whole["finish_reason"], whole["missing"]) == ("标准分两部分。", "stop", [])
    assert [(s["expert"], s["answer"], s["ok"]) for s in whole["steps"]] == [
        ("computer_scientist", "技术上要可控。", True),
        ("lawyer", "法律上要问责。", True),
    ]
    assert all(set(step) >= {"expert", "question", "answer", "ok", "duration"} for step in whole["steps"])
    assert whole["receipt"]["calls"] == 3, "of all, not of the last alone"
    assert len(standin.asked("/api/chat")) == 3


def test_integrate_with_experts_of_ones_own(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script("One.", "Two.")
    whole = line("integrate", "--panel", "Write a plan", "--expert", "lawyer", "--json").json
    assert [step["expert"] for step in whole["steps"]] == ["lawyer"]
    assert line("integrate", "Write a plan", "--expert", "nobody", "--json").error["code"] == "persona_missing"


def test_integrate_lands_without_an_expert_and_says_so(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.fail("error_500_json")
    standin.script("法律上要问责。", "只有一部分。")
    done = line("integrate", "--panel", TASK)
    assert done.code == 0
    assert done.out.endswith("只有一部分。\n")
    assert "computer_scientist did not answer" in done.err
    assert "without the part of: computer_scientist" in done.err
    assert "\x1b" not in done.err


def test_integrate_as_a_stream_of_objects(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script("One.", "Two.", "Three.")
    objects = [json.loads(each) for each in line("integrate", "--panel", "Write a plan", "--json", "--stream").out.splitlines()]
    assert [each["step"]["ok"] for each in objects if "step" in each] == [None, True, None, True]
    assert "".join(each["text"] for each in objects if "kind" in each) == objects[-1]["text"] == "Three."


STEP = '{"thought": "先问法律", "actions": [{"expert": "lawyer", "question": "谁负责？"}]}'
ENOUGH = '{"thought": "够了", "actions": []}'


def test_integrate_tells_each_step_as_it_happens(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script(STEP, "法律上要问责。", ENOUGH, "技术上要可控。", "标准分两部分。")
    done = line("integrate", TASK)
    assert (done.code, done.out) == (0, "标准分两部分。\n")
    told = [each.partition(" (")[0] for each in done.err.splitlines()]
    assert "1. standardization_expert: 先问法律" in told
    assert told.index("   → lawyer: 谁负责？") < told.index("2. standardization_expert: 够了")


def test_integrate_says_which_limit_ended_it(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script(STEP, "法律上要问责。", "技术上要可控。", "标准分两部分。")
    whole = line("integrate", TASK, "--steps", "1", "--json").json
    assert whole["finish_reason"] == "step_limit"
    assert [step["expert"] for step in whole["steps"]] == ["lawyer", "computer_scientist"]
    assert [each.get("by", each.get("expert")) for each in whole["trace"]] == ["standardization_expert", "lawyer", "computer_scientist"]


def test_the_lessons_task_on_the_stand_ins_own_words(line: Line, standin: StandIn) -> None:  # noqa: F811
    whole = line("integrate", TASK, "--json").json
    assert {step["expert"] for step in whole["steps"]} == {"computer_scientist", "lawyer"}
    assert {"text", "finish_reason", "steps", "missing", "usage"} <= set(whole)
    assert (whole["missing"], standin.reloads) == ([], 0)


def test_a_process_with_pipes(standin: StandIn) -> None:
    standin.script(Scripted(ANSWER, pace=0.01))
    done = process("ask", QUESTION, OLLAMA_HOST=standin.url, FORCE_COLOR="1")
    assert done.code == 0
    assert done.out.startswith(ANSWER + "\n\nSources:\n[1] ")
    assert "\x1b" not in done.out + done.err


def test_it_streams(standin: StandIn) -> None:
    standin.script(Scripted(["The ", "capital ", *[f"word{n} " for n in range(200)], "Paris."], pace=0.05))
    with started("ask", QUESTION, OLLAMA_HOST=standin.url) as running:
        assert running.stdout is not None
        assert running.stdout.read(4) == b"The "
        assert standin.active == 1, "the first words are shown while the daemon still speaks"


def test_that_the_web_was_asked_in_vain_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    asked = [Attempt(name="duckduckgo", query="q", outcome="unreachable"), Attempt(name="offline", query="q", outcome="found", hits=1)]
    unreached(asked)
    assert "no web search answered (duckduckgo)" in capfd.readouterr().err
    unreached([Attempt(name="wikipedia", query="q", outcome="found", hits=1), *asked])
    unreached(asked[1:])
    assert capfd.readouterr().err == ""
