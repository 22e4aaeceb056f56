"""Three ways to ask for a step, one loop: what a model gets wrong ends the same, whether it calls tools, fills a schema or writes lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_coordinator import COORDINATOR, EXPERTS, FREE, TASK, act, plan_of, prompts, thoughts
from test_coordinator import team as made

from orchestra.agents import dialects, reasoning
from orchestra.agents.coordinator import Plan, solve
from orchestra.agents.dialects import Call, Lines, Native, Schema, dialect_for, weaker
from orchestra.agents.expert import Expert
from orchestra.agents.function import tool
from orchestra.errors import DaemonError, ModelUnsupported, PromptTooLong
from orchestra.model.answering import Answering
from orchestra.model.client import Client
from orchestra.model.messages import FinishReason, Options, Reply, ToolCall
from orchestra.runtime import Blocking, finish
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn

MODELS = ["llama3", "tiny-tools"]
TEAM = [Expert(persona=persona, client=Client(Blocking(), Settings()), model="llama3") for persona in EXPERTS]


def run(daemon: StandIn, model: str, *, coordinator: Any = FREE, tools: Any = None, **settings: Any) -> list[Any]:
    async def parts() -> list[Any]:
        runtime = Blocking(parallel=settings.get("parallel", 1))
        client = Client(runtime, Settings(host=daemon.url, **settings))
        team = made(client, coordinator=coordinator, tools=tools, model=model)
        try:
            return [part async for part in solve(TASK, team=team)]
        finally:
            await runtime.close()

    return finish(parts())


# How the same step is written in each dialect.


def native(*calls: tuple[str, str]) -> str:
    if not calls:
        return "可以整合。"
    return json.dumps([{"name": name, "parameters": {"question": question}} for name, question in calls], ensure_ascii=False)


def lines(*calls: tuple[str, str]) -> str:
    return "\n".join(f"Action: {name}\nAction Input: {question}" for name, question in calls) or "Final Answer: 可以"


Write = Callable[..., str]
WAYS: Mapping[str, tuple[type[Any], str, Write]] = {
    "native": (Native, "tiny-tools", native),
    "schema": (Schema, "llama3", act),
    "lines": (Lines, "llama3", lines),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Write]:
    """The model that is asked in a dialect, and how it writes a step."""
    dialect, model, write = WAYS[request.param]
    if dialect is Lines:
        monkeypatch.setattr(reasoning, "dialect_for", lambda version, facts: Lines())
    return model, write


def landed(way: tuple[str, Write], *replies: str, **other: Any) -> tuple[list[Any], Plan, list[str]]:
    model, _ = way
    with StandIn(replies, models=MODELS, window=8192) as daemon:
        parts = run(daemon, model, **other)
        told = prompts(daemon)
        assert daemon.reloads == 0
    return parts, plan_of(parts), told


BOTH = (("computer_scientist", "怎样测试？"), ("lawyer", "谁负责？"))
ONE = (("lawyer", "谁负责？"),)


def test_independent_questions_of_one_step(way: tuple[str, Write]) -> None:
    write = way[1]
    parts, plan, told = landed(way, write(*BOTH), "逐项测试。", "开发者。", write(), "方案。")
    assert [(step.expert, step.question, step.answer) for step in plan.steps] == [
        ("computer_scientist", "怎样测试？", "逐项测试。"),
        ("lawyer", "谁负责？", "开发者。"),
    ]
    assert (plan.text, plan.finish_reason, plan.missing, plan.receipt.calls) == ("方案。", FinishReason.STOP, (), 5)
    assert [len(thought.calls) for thought in thoughts(parts)] == [2, 0]
    assert not any(thought.fault for thought in thoughts(parts))
    head = told[0][: told[0].index("决定下一步")]
    assert told[3].startswith(head), "what was read once is not read again"
    assert told[3].index("逐项测试") < told[3].index("决定下一步")


def test_they_are_asked_at_the_same_time(way: tuple[str, Write]) -> None:
    model, write = way
    with StandIn([write(*BOTH)], models=MODELS, window=8192, slots=2) as daemon:
        daemon.script("逐项测试。", "逐项测试。", write(), "方案。")
        plan = plan_of(run(daemon, model, parallel=2))
    assert [step.ok for step in plan.steps] == [True, True]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("{half}", "上一步的格式无法识别"),
        ("{itself}", "不能问自己"),
        ("{nobody}", "没有名为“doctor”的专家"),
        ("{empty}", "给 lawyer 的问题为空"),
    ],
)
def test_a_fault_is_told_and_the_task_goes_on(way: tuple[str, Write], wrong: str, told: str) -> None:
    write = way[1]
    written = {
        "{half}": '[{"name": "lawyer", "parameters": {"question": "谁' if way[0] == "tiny-tools" else '{"thought": "", "actions": [{"exp',
        "{itself}": write(("standardization_expert", "怎么办？")),
        "{nobody}": write(("doctor", "怎么办？")),
        "{empty}": write(("lawyer", " ")),
    }[wrong]
    parts, plan, prompted = landed(way, written, write(*BOTH), "逐项测试。", "开发者。", write(), "方案。")
    assert told in prompted[1]
    assert told in thoughts(parts)[0].fault
    assert plan.text == "方案。"


def test_chinese_punctuation(way: tuple[str, Write]) -> None:
    """Lines with a Chinese colon; JSON with quotes, colons and braces that no parser of JSON knows."""
    write = way[1]
    odd = "行动：lawyer\n行动输入：谁负责？"
    _, plan, _ = landed(way, odd, "开发者。", write(), "方案。")
    assert [(step.expert, step.question) for step in plan.steps] == [("lawyer", "谁负责？")]
    for quoted in ("{“name”：“lawyer”，“parameters”：{“question”：“谁负责？”}}", '｛"name"："lawyer"，"question"："谁负责？"｝'):
        _, plan, _ = landed(way, quoted, "开发者。", write(), "方案。")
        assert [(step.expert, step.question) for step in plan.steps] == [("lawyer", "谁负责？")]


def test_prose_alone(way: tuple[str, Write]) -> None:
    """Beside tools, words are an answer; where a form was asked for they are a fault. Both end with everybody asked."""
    prose = ["我觉得应该先问一下大家。"] * (1 if way[0] == "tiny-tools" else 2)
    _, plan, _ = landed(way, *prose, "逐项测试。", "开发者。", "方案。")
    assert [step.question for step in plan.steps] == [TASK, TASK]
    assert plan.text == "方案。"


def test_nothing_at_all(way: tuple[str, Write]) -> None:
    _, plan, _ = landed(way, "", "", "逐项测试。", "开发者。", "方案。")
    assert (len(plan.steps), plan.text) == (2, "方案。")


def test_the_same_call_again_and_again(way: tuple[str, Write]) -> None:
    same = way[1](*ONE)
    _, plan, prompted = landed(way, same, "开发者。", same, same, "方案。")
    assert "lawyer 已经被问过这个问题" in prompted[3]
    assert len(plan.steps) == 1
    assert plan.receipt.notes == ("repeated_call",)


def test_a_model_that_always_asks_is_stopped(way: tuple[str, Write]) -> None:
    each = [(way[1](("lawyer", f"第{number}个问题？")), "开发者。") for number in range(5)]
    parts, plan, _ = landed(way, *(text for pair in each for text in pair), "方案。")
    assert len(thoughts(parts)) == 5
    assert (plan.finish_reason, plan.text) == (FinishReason.STEP_LIMIT, "方案。")


def listing(write: Write) -> str:
    return write(*(("lawyer", f"第{number}个问题？") for number in range(6)))


def test_one_expert_is_asked_three_questions_at_a_time(way: tuple[str, Write]) -> None:
    """The others are not forgotten: asked again in the next step they count as new."""
    write = way[1]
    _, plan, prompted = landed(way, listing(write), "一。", "二。", "三。", write(("lawyer", "第5个问题？")), "四。", write(), "方案。")
    assert [step.question[1] for step in plan.steps] == ["0", "1", "2", "5"]
    assert "一步最多问 lawyer 3 个问题" in prompted[4]


def test_red_control_the_most_of_each_decides(way: tuple[str, Write], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasoning, "MOST_EACH", 99)
    _, plan, _ = landed(way, listing(way[1]), *["是。"] * 6, way[1](), "方案。")
    assert len(plan.steps) == 6


@pytest.mark.parametrize(("think", "sent"), [(None, False), (True, True)])
def test_a_step_is_not_spent_on_thinking(think: bool | None, sent: bool) -> None:
    """Unless somebody wants it: the tokens of a step are few."""

    async def parts(url: str) -> list[Any]:
        client = Client(Blocking(), Settings(host=url))
        tools = [Expert(persona=persona, client=client, model="thinker") for persona in EXPERTS]
        team = made(client, coordinator=FREE, model="thinker", tools=tools)
        return [part async for part in solve(TASK, team=team, options=Options(think=think))]

    with StandIn([act(*ONE), "开发者。", act(), "方案。"], models=["thinker"], window=8192) as daemon:
        plan = plan_of(finish(parts(daemon.url)))
        assert [body.get("think") for body in daemon.asked("/api/chat")] == [sent, think, sent, think]
    assert (len(plan.steps), plan.text) == (1, "方案。")


# --- native calls


def test_tools_are_offered_as_the_experts_are() -> None:
    with StandIn([native(*ONE), "开发者。", native(), "方案。"], models=MODELS, window=8192) as daemon:
        run(daemon, "tiny-tools")
        bodies = daemon.asked("/api/chat")
    offered = bodies[0]["tools"]
    assert [each["function"]["name"] for each in offered] == ["computer_scientist", "lawyer"]
    assert offered[1]["function"]["parameters"]["required"] == ["question"]
    assert offered[1]["function"]["description"]
    assert ["tools" in body for body in bodies] == [True, False, True, False], "experts and answer have none"
    assert all("format" not in body for body in bodies)


def test_a_function_gets_its_arguments() -> None:
    seen: list[tuple[int, str]] = []

    def lookup(number: int, day: str = "mon") -> str:
        """Where an order is."""
        seen.append((number, day))
        return "上海"

    call = json.dumps([{"name": "lookup", "parameters": {"number": 12345, "day": "tue"}}])
    wrong = json.dumps([{"name": "lookup", "parameters": {"number": "x"}}])
    with StandIn([call, wrong, native(), "方案。"], models=MODELS, window=8192) as daemon:
        parts = run(daemon, "tiny-tools", tools=[tool(lookup)])
        offered = daemon.asked("/api/chat")[0]["tools"][0]["function"]
    plan = plan_of(parts)
    assert offered["parameters"]["properties"]["number"]["type"] == "integer"
    assert seen == [(12345, "tue")]
    assert [step.ok for step in plan.steps] == [True, False]
    assert "number" in plan.steps[1].error


def broken_off() -> list[Any]:
    """A step that breaks off after its call came whole, then one that is whole."""
    step = Scripted(native(*ONE), end="nothing")
    with StandIn([step, "开发者。", native(), "方案。"], models=MODELS, window=8192) as daemon:
        return run(daemon, "tiny-tools")


def test_a_call_that_came_whole_is_asked_whatever_became_of_the_rest() -> None:
    parts = broken_off()
    first = thoughts(parts)[0]
    assert ([call.expert for call in first.calls], first.fault) == ([ONE[0][0]], "")
    assert first.tokens, "what it took is counted"
    assert [step.answer for step in plan_of(parts).steps] == ["开发者。"]


def test_what_a_step_took_that_broke_off_is_spent() -> None:
    step = Scripted("我想先问问，", end="nothing")
    with StandIn([step, act(), "一。", "二。", "方案。"]) as daemon:
        plan = plan_of(run(daemon, "llama3"))
        assert plan.receipt.calls == len(daemon.asked("/api/chat")) == 5


def test_red_control_without_its_calls_a_step_that_breaks_off_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    true = Answering.reply
    monkeypatch.setattr(Answering, "reply", lambda self, **how: replace(true(self, **how), tool_calls=()))
    with pytest.raises(AssertionError):
        test_a_call_that_came_whole_is_asked_whatever_became_of_the_rest()


def test_a_model_that_is_refused_tools_gets_a_schema_then_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model says that it has tools, and the daemon refuses them all the same."""
    facts = Client.facts

    async def boasting(self: Client, model: str) -> dict[str, Any]:
        return {**await facts(self, model), "capabilities": ["completion", "tools"]}

    monkeypatch.setattr(Client, "facts", boasting)
    with StandIn([act(*ONE), "开发者。", act(), "方案。"]) as daemon:
        plan = plan_of(run(daemon, "llama3"))
        shapes = [("tools" in body, "format" in body) for body in daemon.asked("/api/chat")]
    assert len(plan.steps) == 1
    assert shapes == [(True, False), (False, True), (False, False), (False, True), (False, False)], "refused once, not asked again"


def test_what_is_weaker() -> None:
    refused, broken = ModelUnsupported(model="m", detail="tools"), DaemonError(status=500, detail="template: :1: no")
    assert isinstance(weaker(Native(), refused), Schema)
    assert isinstance(weaker(Native(), broken), Schema)
    assert isinstance(weaker(Schema(), refused), Lines)
    assert weaker(Schema(), broken) is None
    assert weaker(Lines(), refused) is None
    assert weaker(Native(), PromptTooLong(model="m", needed=2, window=1, over=1, needed_window=2, most=2)) is None


@pytest.mark.parametrize(
    ("capabilities", "dialect"),
    [(["completion", "tools"], Native), (["completion"], Schema), (None, Schema), ("tools", Schema), (5, Schema)],
)
def test_the_dialect_follows_the_model(capabilities: Any, dialect: type[Any]) -> None:
    assert isinstance(dialect_for("0.32.15", {"capabilities": capabilities}), dialect)


@pytest.mark.parametrize(
    ("reply", "calls"),
    [
        (Reply(text="", finish_reason=FinishReason.STOP, tool_calls=(ToolCall("lawyer", {"question": " 谁？ "}),)), [("lawyer", "谁？")]),
        (Reply(text='[{"name": "doctor", "parameters": {"question": "谁？"}}]', finish_reason=FinishReason.STOP), [("doctor", "谁？")]),
        (Reply(text='{"name": "lawyer", "parameters": {"question": "a?"}}; {"name": "doctor", "parameters": {"question": "b?"}}',
               finish_reason=FinishReason.STOP), [("lawyer", "a?"), ("doctor", "b?")]),
        (Reply(text='{"name": "lawyer", "parameters": "谁？"}', finish_reason=FinishReason.STOP), [("lawyer", "谁？")]),
        (Reply(text='{"tool_calls": [{"type": "function", "function": {"name": "lawyer", "arguments": {"question": "谁？"}}}]}',
               finish_reason=FinishReason.STOP), [("lawyer", "谁？")]),
        (Reply(text='<tool_call>{"name": "lawyer", "arguments": {"question": "谁？"}}</tool_call>', finish_reason=FinishReason.STOP),
         [("lawyer", "谁？")]),
    ],
)  # fmt: skip
def test_calls_also_where_the_daemon_knew_them_for_none(reply: Reply, calls: list[tuple[str, str]]) -> None:
    decision = Native().decided(reply, TEAM, "zh")
    assert list(decision.calls) == [Call(*call) for call in calls]
    assert not decision.fault


@pytest.mark.parametrize("arguments", [None, {}, {"question": 5}, {"question": None}, {"frage": "?"}])
def test_arguments_that_hold_no_question_are_a_fault(arguments: Any) -> None:
    good = ToolCall("lawyer", {"question": "谁？"})
    decision = Native().decided(
        Reply(text="", finish_reason=FinishReason.STOP, tool_calls=(ToolCall("lawyer", arguments), good)), TEAM, "zh"
    )
    assert decision.calls == (Call("lawyer", "谁？"),)
    assert "无法识别" in decision.fault


_TEXTS = st.text(max_size=40) | st.sampled_from(["lawyer", "Ｌawyer", "doctor", "", "谁：", "```", "[", "{", "x" * 5000, "\ud800"])
_ARGUMENTS = st.none() | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["question", "number", "x"]), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: isinstance(value, dict))
_GARBAGE = st.lists(_TEXTS | st.sampled_from(["Action:", '"actions":', '"name":', ",", "}", "]", "行动："]), max_size=8).map("".join)


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(_GARBAGE, st.lists(st.builds(ToolCall, _TEXTS, _ARGUMENTS), max_size=3))
def test_a_thousand_steps_of_garbage_raise_nothing(text: str, calls: list[ToolCall]) -> None:
    for dialect in (Native(), Schema(), Lines()):
        offered = tuple(calls) if isinstance(dialect, Native) else ()
        decision = dialect.decided(Reply(text=text, finish_reason=FinishReason.STOP, tool_calls=offered), TEAM, "zh")
        assert len(decision.calls) <= dialects.MOST_CALLS
        assert all(isinstance(call.question, str) for call in decision.calls)
        assert not offered or decision.calls or decision.fault


def test_the_plain_stand_in_lands_with_both_experts_asked() -> None:
    with StandIn(models=MODELS, window=8192) as daemon:
        plan = plan_of(run(daemon, "tiny-tools", coordinator=COORDINATOR))
    assert {step.expert for step in plan.steps} == {"computer_scientist", "lawyer"}
    assert plan.missing == ()
