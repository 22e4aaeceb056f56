"""What happened before an answer: kept with the turn and shown as a tree, drawn live where a person looks."""

from __future__ import annotations

import io
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from command_line import Line, Terminal, bare, chinese, line, process  # noqa: F401 - fixtures

from orchestra.agents.dialects import Call
from orchestra.agents.reasoning import Thought
from orchestra.agents.tool import Step
from orchestra.cli import steps as module
from orchestra.cli.outcome import Wish
from orchestra.cli.running import Patience
from orchestra.cli.steps import Lines, LiveTree, stepped, steps_shown
from orchestra.cli.tree import DEEPEST, LONGEST, branches, drawn, lines
from orchestra.model.messages import Piece
from orchestra.sessions.store import Store
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn

TASK = "制定人工智能合规标准，避免人工智能伤害人类"
STEP = '{"thought": "先问法律", "actions": [{"expert": "lawyer", "question": "谁负责？"}]}'
ENOUGH = '{"thought": "够了", "actions": []}'
SCRIPT = (STEP, "法律上要问责。\n细节在后。", ENOUGH, "技术上要可控。", "标准分两部分。")
TREE = """\
1. standardization_expert: 先问法律
└── ✓ lawyer: 谁负责？
    └── 法律上要问责。 细节在后。
2. standardization_expert: 够了
✓ computer_scientist
└── 技术上要可控。
"""
HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"


def untimed(text: str) -> str:
    """Without seconds and tokens."""
    return re.sub(r" \([\d.]+ s(, \d+ tokens)?\)", "", text)


@pytest.fixture(autouse=True)
def named(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of this process talk to the stand-in."""
    monkeypatch.setenv("OLLAMA_HOST", standin.url)


# --- stored with a dialogue


def test_the_tree_of_a_stored_task(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script(*SCRIPT)
    assert line("integrate", TASK, "--session", "s").out == "标准分两部分。\n"
    shown = line("sessions", "show", "s", "--trace").out
    assert untimed(shown) == f"> {TASK}\n{TREE}标准分两部分。\n\n"
    assert len(re.findall(r"\([\d.]+ s, \d+ tokens\)", shown)) == 4, "each step with its seconds and tokens"
    assert "└──" not in line("sessions", "show", "s").out


def test_as_json_it_is_whole(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script(*SCRIPT)
    whole = line("integrate", TASK, "--session", "s", "--json").json
    assert (whole["text"], whole["session"]) == ("标准分两部分。", "s")
    message = line("sessions", "show", "s", "--json").json["messages"][-1]
    assert message["ground"] == {"trace": whole["trace"], "missing": []}
    assert message["ground"]["trace"][1]["answer"] == "法律上要问责。\n细节在后。"


def test_a_task_goes_on_with_the_last_dialogue(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script("一。", "二。", "三。", "四。", "五。", "六。")
    line("integrate", "--panel", TASK, "-s", "s")
    whole = line("integrate", "--panel", "那德国呢？", "-c", "--json").json
    assert whole["session"] == "s"
    asked = standin.asked("/api/chat")[-1]["messages"]
    assert [message["content"] for message in asked[1:3]] == [f"{TASK}\n\n请用中文回答。", "三。"]


def test_without_a_dialogue_there_is_none_to_go_on_with(line: Line) -> None:  # noqa: F811
    done = line("integrate", TASK, "-c", "--json")
    assert (done.code, done.error["code"]) == (2, "usage_error")


def test_who_did_not_answer_is_said_below_the_answer(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.fail("error_500_json")
    standin.script("法律上要问责。", "只有一部分。")
    line("integrate", "--panel", TASK, "-s", "s")
    shown = line("sessions", "show", "s", "--trace").out
    assert re.search(r"✗ computer_scientist.*\n└── .*500", shown)
    assert shown.endswith("\n只有一部分。\n! without the part of: computer_scientist\n\n")


def test_in_a_dialogue_the_steps_are_told_as_they_are_without_one(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script(*SCRIPT, *SCRIPT)
    alone, turn = line("integrate", TASK), line("integrate", TASK, "--session", "s")
    told, again = [[untimed(each) for each in done.err.splitlines() if "stand-in" not in each] for done in (alone, turn)]
    assert again == told[1:], "but for the model, which is the dialogue's own"
    assert "1. standardization_expert: 先问法律" in again


def test_objects_come_as_they_do_without_a_dialogue(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script(*SCRIPT)
    objects = [json.loads(each) for each in line("integrate", TASK, "-s", "s", "--json", "--stream").out.splitlines()]
    assert [next(iter(each)) for each in objects[:6]] == ["thought", "step", "step", "thought", "step", "step"]
    assert "".join(each["text"] for each in objects if "kind" in each) == objects[-1]["text"]


# --- the tree


def step(expert: str, **more: Any) -> dict[str, Any]:
    return {"expert": expert, "question": "q", "answer": "a", "ok": True, "duration": 1.25, "error": "", **more}


def test_experts_of_experts_stand_below_them() -> None:
    nested = step("b", steps=[step("c", ok=False, error="gone", answer=""), step("d", tokens=7)])
    assert list(lines(branches([nested], task="t"))) == [
        "✓ b: q (1.2 s)",
        "├── ✗ c: q (1.2 s)",
        "│   └── gone",
        "├── ✓ d: q (1.2 s, 7 tokens)",
        "│   └── a",
        "└── a",
    ]


def test_a_call_that_was_never_asked_and_what_the_model_got_wrong() -> None:
    thought = {"by": "x", "number": 1, "text": "", "calls": [{"expert": "b", "question": "q"}], "fault": "no such name"}
    assert list(lines(branches([thought]))) == ["1. x: -", "├── · b: q", "└── ! no such name"]
    assert list(lines(branches([thought, {**step("b", answer=""), "ok": None}], running="@")))[1] == "├── @ b: q (1.2 s)"


@pytest.mark.parametrize(
    "trace",
    [None, "text", 7, {"by": "x"}, ["x", 7, None], [{}], [{"expert": ["x"], "ok": "yes"}], [{"by": 7, "calls": "abc", "duration": "x"}],
     [{"by": "x", "calls": [7, {"expert": {}}], "number": [1]}], [{"expert": "x", "duration": 10**400, "tokens": -1}],
     [{"expert": "x", "duration": float("nan"), "steps": {"expert": 1}}]],
)  # fmt: skip
def test_whatever_a_file_brings_is_drawn_or_left_out(trace: Any) -> None:
    assert all(isinstance(each, str) for each in lines(branches(trace)))


def test_a_long_trace_is_drawn_in_linear_time() -> None:
    thought = {"by": "x", "number": 1, "text": "t", "calls": [{"expert": "a", "question": str(n)} for n in range(8_000)]}
    trace = [thought, *(step("a", question=str(n)) for n in range(8_000)), *({"by": "x"} for _ in range(8_000))]
    started = time.monotonic()
    assert len(list(lines(branches(trace)))) == 24_001
    assert time.monotonic() - started < 5


def test_what_is_long_is_short_and_what_is_deep_ends() -> None:
    deep: dict[str, Any] = step("x")
    for _ in range(40):
        deep = step("x", steps=[deep])
    shown = list(lines(branches([deep])))
    assert len(shown) == 2 * (DEEPEST + 1)
    (first, _) = lines(branches([step("x", question="长" * 10_000)]))
    assert len(first) < LONGEST + 30


def test_nothing_of_a_trace_acts_on_the_terminal() -> None:
    evil = "\x1b[2Jx\x1b]0;owned\x07\u202e\ny"
    thought = {"by": evil, "number": evil, "text": evil, "calls": [{"expert": evil, "question": evil}], "fault": evil}
    shown = "\n".join(lines(branches([thought, step(evil, question=evil, error=evil, ok=False)], task="t")))
    assert "xy" not in shown
    assert not set(shown) & set("\x1b\x07\u202e")
    assert "owned" not in shown


@pytest.mark.parametrize("width", [20, 40, 80])
def test_a_narrow_terminal_breaks_lines_and_loses_nothing(width: int) -> None:
    from rich.cells import cell_len
    from rich.console import Console

    console = Console(width=width, file=io.StringIO(), highlight=False)
    for branch in branches([step("lawyer", question="人工智能造成损害时由谁承担责任，如何举证？", answer="由开发者承担责任。")]):
        console.print(drawn(branch))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(cell_len, shown.splitlines())) <= width
    assert "由谁承担责任" in re.sub(r"[\s│└─├]", "", shown)


# --- live


@pytest.fixture
def tree(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], LiveTree]]:
    """A live tree on a terminal that is a file, closed at the end."""
    made: list[LiveTree] = []

    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    def make() -> LiveTree:
        monkeypatch.setattr(sys, "stderr", Screen())
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        made.append(LiveTree(TASK, Patience()))
        made[-1].begin()
        return made[-1]

    yield make
    for one in made:
        one.close()


def screen() -> str:
    stream: Any = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
    return str(stream.getvalue())


def left_on(text: str) -> str:
    """What a terminal shows in the end of what it was sent: of its sequences only those that draw a line anew."""
    rows, row = [""], 0
    for part in re.findall(r"\x1b\[[0-?]*[ -/]*[@-~]|[\r\n]|[^\x1b\r\n]+", text):
        match part:
            case "\n":
                row += 1
                rows += [""] * (row + 1 - len(rows))
            case "\x1b[1A":
                row -= 1
            case "\x1b[2K":
                rows[row] = ""
            case _ if part[0] not in "\x1b\r":
                rows[row] += part
    return "\n".join(each.rstrip() for each in rows if each.strip())


def test_a_step_that_is_over_stays_and_the_next_one_is_drawn(tree: Callable[[], LiveTree]) -> None:
    live = tree()
    assert screen().startswith(HIDDEN)
    live.push(Thought(by="x", number=1, text="先问", calls=(Call("lawyer", "谁？"), Call("y", "何时？")), tokens=5, duration=1.0))
    live.push(Step(expert="lawyer", question="谁？"))
    live._live.refresh()
    assert re.search("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] lawyer: 谁？", bare(screen()))
    assert "· y: 何时？" in bare(screen())
    live.push(Step(expert="lawyer", question="谁？", answer="开发者。", ok=True, duration=2.0, tokens=9))
    live.push(Step(expert="computer_scientist", question=TASK))
    assert "✓ lawyer: 谁？ (2.0 s, 9 tokens)\n│   └── 开发者。" in bare(screen())
    live.push(Step(expert="computer_scientist", question=TASK, ok=False, error="gone", duration=1.0))
    live.close()
    assert left_on(screen()).splitlines() == [
        "1. x: 先问 (1.0 s, 5 tokens)", "├── ✓ lawyer: 谁？ (2.0 s, 9 tokens)", "│   └── 开发者。", "└── · y: 何时？",
        "✗ computer_scientist (1.0 s)", "└── gone",
    ]  # fmt: skip
    assert screen().rindex(SHOWN) > screen().rindex(HIDDEN)
    live.close()


def test_who_is_asked_at_the_same_time_stands_in_the_same_place(tree: Callable[[], LiveTree]) -> None:
    live = tree()
    asked = [Step(expert=name, question=TASK) for name in ("a", "b", "c")]
    for one in (*asked, *(replace(one, ok=True, answer="x", duration=1.0) for one in reversed(asked))):
        live.push(one)
    live.close()
    assert re.findall("✓ (.)", left_on(screen())) == ["a", "b", "c"]


def test_nothing_is_drawn_where_there_are_no_steps(tree: Callable[[], LiveTree]) -> None:
    tree().close()
    sys.stderr.truncate(0)
    LiveTree(TASK, Patience()).close()
    assert screen() == ""


def test_what_is_told_meanwhile_stands_above_the_tree(tree: Callable[[], LiveTree]) -> None:
    from orchestra.cli.terminal import tell

    live = tree()
    live.push(Step(expert="lawyer", question=TASK))
    live._live.refresh()
    tell("the stand-in answers")
    live.close()
    text = bare(screen())
    assert text.index("the stand-in answers") < text.rindex("lawyer")


def test_who_shows_the_steps(monkeypatch: pytest.MonkeyPatch, tree: Callable[[], LiveTree]) -> None:
    assert type(steps_shown(TASK, Wish(json=True), Patience())) is module.Steps
    assert isinstance(steps_shown(TASK, Wish(json=True, stream=True), Patience()), module.Objects)
    assert isinstance(steps_shown(TASK, Wish(), Patience()), Lines)
    tree().close()
    shown = steps_shown(TASK, Wish(), Patience())
    shown.close()
    assert isinstance(shown, LiveTree)
    monkeypatch.setenv("NO_COLOR", "1")
    assert isinstance(steps_shown(TASK, Wish(), Patience()), Lines)


def test_on_a_terminal_the_tree_stands_above_the_plan(standin: StandIn) -> None:
    slow = Scripted(["法律上", "要问责。"], pace=0.3)
    standin.script(STEP, slow, ENOUGH, "技术上要可控。", "标准分两部分。")
    with Terminal("integrate", TASK, OLLAMA_HOST=standin.url, ORCHESTRA_LANG="en") as terminal:
        assert terminal.code() == 0
        shown = bare(terminal.shown)
        assert terminal.shown.rindex(SHOWN) > terminal.shown.rindex(HIDDEN)
    assert re.search("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] lawyer: 谁负责？", shown)
    assert re.search(r"└── ✓ lawyer: 谁负责？ \([\d.]+ s, \d+ tokens\)\n    └── 法律上要问责。", shown)
    assert untimed(left_on(terminal.shown)).splitlines()[3:-1] == [
        "1. standardization_expert: 先问法律", "└── ✓ lawyer: 谁负责？", "    └── 法律上要问责。",
        "2. standardization_expert: 够了", "✓ computer_scientist", "└── 技术上要可控。", "标准分两部分。",
    ]  # fmt: skip


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_who_wants_no_drawing_gets_lines(standin: StandIn, environment: dict[str, str]) -> None:
    standin.script(*SCRIPT)
    with Terminal("integrate", TASK, OLLAMA_HOST=standin.url, ORCHESTRA_LANG="zh", **environment) as terminal:
        assert terminal.code() == 0
        shown = terminal.shown
    assert "正在询问 lawyer" in shown
    assert HIDDEN not in shown


def test_ctrl_c_in_the_middle_leaves_the_terminal_sound(standin: StandIn) -> None:
    standin.script(STEP, Scripted(["慢慢"] * 200, pace=0.05))
    with Terminal("integrate", TASK, "-s", "s", OLLAMA_HOST=standin.url, COLUMNS="40") as terminal:
        terminal.until("lawyer: 谁负责？")
        terminal.read_a_moment()
        terminal.interrupt()
        assert terminal.code() == 130
        shown = terminal.shown
    assert shown.rindex(SHOWN) > shown.rindex(HIDDEN)
    after = bare(shown[shown.rindex(SHOWN) :])
    assert "已停止" in after or "stopped" in after
    settings = Settings.read()
    with Store(settings.folder(), timeout=settings.store_timeout) as store:
        (turn,) = store.history("s")
    assert (turn.question, turn.status) == (TASK, "interrupted")


def test_red_control_without_the_end_of_the_steps_the_cursor_stays_hidden(
    tree: Callable[[], LiveTree], monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    async def parts() -> Any:
        raise KeyboardInterrupt
        yield Piece("")

    async def leave(live: LiveTree) -> None:
        async for _ in stepped(parts(), live):
            pass

    def left() -> bool:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(leave(tree()))
        return SHOWN in screen()

    assert left()
    with monkeypatch.context() as patch:
        patch.setattr(LiveTree, "close", lambda self: None)
        assert not left()


def test_in_chinese(standin: StandIn, chinese: None, tree: Callable[[], LiveTree]) -> None:  # noqa: F811
    live = tree()
    live._live.refresh()
    assert "正在思考" in bare(screen())
    live.push(Step(expert="lawyer", question=TASK, answer="开发者。", ok=True, duration=2.0, tokens=9))
    live.close()
    assert left_on(screen()) == "✓ lawyer（2.0 秒，9 token）\n└── 开发者。"


def test_a_pipe_gets_lines_and_no_sequence(standin: StandIn) -> None:
    standin.script(*SCRIPT)
    done = process("integrate", TASK, OLLAMA_HOST=standin.url)
    assert done.out == "标准分两部分。\n"
    assert "\x1b" not in done.err
    assert "→ lawyer: 谁负责？" in done.err
