"""The coordinator's loop: who is asked what, what a model gets wrong, and that a task lands at every limit."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestra.agents import budget as budgets
from orchestra.agents import dialects, reasoning
from orchestra.agents.budget import Budget, Limits
from orchestra.agents.contributions import LEAST, MODEST, Answered, Step, shorter
from orchestra.agents.coordinator import Plan, as_json, solve
from orchestra.agents.dialects import Call, Lines, Schema, dialect_for, read
from orchestra.agents.expert import Expert
from orchestra.agents.personas import Library, shipped
from orchestra.agents.reasoning import Team, Thought
from orchestra.agents.tool import Contribution
from orchestra.errors import (
    DaemonError,
    EmptyReply,
    FirstTokenTimeout,
    OrchestraError,
    PromptTooLong,
    SeedTooLong,
    StreamTruncated,
)
from orchestra.model.client import Client
from orchestra.model.messages import FinishReason, Options, Piece, Receipt, Usage
from orchestra.model.window import Loaded
from orchestra.runtime import Blocking, Looped, finish
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn
from orchestra.standin.scheduler import Runner

TASK = "制定人工智能合规标准，避免人工智能伤害人类"
LIBRARY = Library([shipped()])
EXPERTS = [LIBRARY.persona("computer_scientist"), LIBRARY.persona("lawyer")]
COORDINATOR = LIBRARY.persona("standardization_expert")
FREE = replace(COORDINATOR, experts=())  # who asks only whom it wants to ask


def team(client: Client, **other: Any) -> Team:
    personas = other.pop("experts", EXPERTS)
    tools = other.pop("tools", None) or [Expert(persona=persona, client=client, model="llama3") for persona in personas]
    return Team(**{"client": client, "model": "llama3", "coordinator": COORDINATOR, "experts": tools, **other})


def run(
    daemon: StandIn, *, limits: Limits | None = None, task: str = TASK, options: Options | None = None, parallel: int = 1,
    panel: bool = False, **other: Any
) -> list[Any]:
    async def parts() -> list[Any]:
        runtime = Blocking(parallel=parallel)
        client = Client(runtime, Settings(host=daemon.url, parallel=parallel))
        given = Budget(limits) if limits else None
        try:
            return [part async for part in solve(task, team=team(client, **other), options=options, budget=given, panel=panel)]
        finally:
            await runtime.close()

    return finish(parts())


def plan_of(parts: list[Any]) -> Plan:
    assert isinstance(parts[-1], Plan)
    assert "".join(part.text for part in parts if isinstance(part, Piece)) == parts[-1].text
    return parts[-1]


def thoughts(parts: list[Any]) -> list[Thought]:
    return [part for part in parts if isinstance(part, Thought)]


def act(*calls: tuple[str, str], thought: str = "想") -> str:
    actions = [{"expert": name, "question": question} for name, question in calls]
    return json.dumps({"thought": thought, "actions": actions}, ensure_ascii=False)


DONE = act()
BOTH = act(("computer_scientist", "怎样测试？"), ("lawyer", "谁负责？"))


def prompts(daemon: StandIn) -> list[str]:
    return [body["messages"][-1]["content"] for body in daemon.asked("/api/chat")]


# --- the whole way


def test_each_expert_is_asked_its_own_question() -> None:
    with StandIn([BOTH, "逐项测试。", "开发者。", DONE, "方案。"]) as daemon:
        parts = run(daemon)
        bodies, told = daemon.asked("/api/chat"), prompts(daemon)
        assert (daemon.loads, daemon.reloads) == (1, 0)
    plan = plan_of(parts)
    assert [(step.expert, step.question, step.answer) for step in plan.steps] == [
        ("computer_scientist", "怎样测试？", "逐项测试。"),
        ("lawyer", "谁负责？", "开发者。"),
    ]
    assert (plan.text, plan.finish_reason, plan.missing) == ("方案。", FinishReason.STOP, ())
    assert [thought.calls for thought in thoughts(parts)][1] == ()
    assert [body.get("format") is not None for body in bodies] == [True, False, False, True, False]
    assert bodies[0]["format"]["properties"]["actions"]["items"]["properties"]["expert"]["enum"] == ["computer_scientist", "lawyer"]
    assert told[1] == "怎样测试？\n\n请用中文回答。"
    assert "法律专家（谁负责？）\n开发者。" in told[3]
    assert told[4].endswith("请用中文回答。")
    assert plan.receipt.calls == 5
    assert [type(part).__name__ for part in plan.trace] == ["Thought", "Step", "Step", "Thought"]
    assert json.loads(json.dumps(as_json(plan)))["trace"][0]["calls"][1] == {"expert": "lawyer", "question": "谁负责？"}


def test_a_prompt_begins_like_the_one_before() -> None:
    with StandIn([BOTH, "逐项测试。", "开发者。", act(("lawyer", "罚款？")), "有。", DONE, "方案。"]) as daemon:
        run(daemon)
        told = prompts(daemon)
    first, second, third, last = told[0], told[3], told[5], told[6]
    head = first[: first.index("决定下一步")]
    assert second.startswith(head)
    for before, after in ((second, third), (third, last)):
        common = before[: before.rindex("-----", 0, before.rindex("专家意见结束"))]
        assert after.startswith(common.rstrip())


def test_each_prefix_is_read_once_with_one_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted by the stand-in's model of the daemon's cache: of each later prompt only what is new is read."""
    read_anew: list[tuple[int, int]] = []
    cached = Runner.cached

    def counted(self: Runner, prompt: Any) -> int:
        known = cached(self, prompt)
        read_anew.append((len(prompt) - known, len(prompt)))
        return known

    monkeypatch.setattr(Runner, "cached", counted)
    with StandIn([BOTH, "逐项测试。", "开发者。", act(("lawyer", "罚款多少？")), "有。", DONE, "方案。"]) as daemon:
        run(daemon)
    anew = [new / whole for new, whole in read_anew]
    assert len(anew) == 7
    coordinator, lawyer = [anew[0], anew[3], anew[5], anew[6]], [anew[2], anew[4]]
    assert max(coordinator[1:]) < 0.5
    assert lawyer[1] < 0.25


def test_the_lessons_task_ends_with_both_experts_asked() -> None:
    with StandIn() as daemon:
        plan = plan_of(run(daemon))
        assert daemon.reloads == 0
    assert {step.expert for step in plan.steps} == {"computer_scientist", "lawyer"}
    assert plan.text
    assert plan.missing == ()


def test_who_is_left_out_is_asked_the_task() -> None:
    with StandIn([act(("lawyer", "谁负责？")), "开发者。", DONE, "逐项测试。", "方案。"]) as daemon:
        plan = plan_of(run(daemon))
    assert [(step.expert, step.question) for step in plan.steps] == [("lawyer", "谁负责？"), ("computer_scientist", TASK)]


def test_experts_that_the_persona_does_not_list_are_asked_only_as_the_model_wants() -> None:
    with StandIn([act(("lawyer", "谁负责？")), "开发者。", DONE, "方案。"]) as daemon:
        assert len(plan_of(run(daemon, coordinator=FREE)).steps) == 1
    with StandIn([DONE, "逐项测试。", "开发者。", "方案。"]) as daemon:
        assert len(plan_of(run(daemon, coordinator=FREE)).steps) == 2, "without anybody's words there is nothing to integrate"


# --- what a model gets wrong


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("我觉得应该先问一下大家的意见。", "上一步的格式无法识别"),
        ('{"thought": "想", "actions": [{"expert": "law', "上一步的格式无法识别"),
        (act(("standardization_expert", "怎么办？")), "不能问自己"),
        (act(("doctor", "怎么办？")), "没有名为“doctor”的专家"),
        (act(("lawyer", " ")), "给 lawyer 的问题为空"),
        (Scripted("", end="nothing"), "上一步的格式无法识别"),
    ],
    ids=["prose", "half a JSON", "itself", "nobody", "no question", "nothing"],
)
def test_a_models_fault_is_told_to_it(wrong: Any, told: str) -> None:
    with StandIn([wrong, BOTH, "逐项测试。", "开发者。", DONE, "方案。"]) as daemon:
        parts = run(daemon)
        assert told in prompts(daemon)[1]
    assert told in thoughts(parts)[0].fault
    assert plan_of(parts).text == "方案。"


def test_a_model_that_writes_no_step_gets_a_panel() -> None:
    with StandIn(["你好。", "很好。", "逐项测试。", "开发者。", "方案。"]) as daemon:
        plan = plan_of(run(daemon, coordinator=FREE))
    assert [step.question for step in plan.steps] == [TASK, TASK]
    assert plan.receipt.notes == ("no_usable_step",)


SAME = act(("lawyer", "谁负责？"))


def test_the_same_call_three_times_ends_the_steps() -> None:
    with StandIn([SAME, "开发者。", SAME, SAME, "方案。"]) as daemon:
        plan = plan_of(run(daemon, coordinator=FREE))
        assert "lawyer 已经被问过这个问题" in prompts(daemon)[3]
    assert len(plan.steps) == 1
    assert plan.receipt.notes == ("repeated_call",)


def always_acting(steps: int) -> list[str]:
    each = [(act(("lawyer", f"第{number}个问题？")), "开发者。") for number in range(steps)]
    return [*(text for pair in each for text in pair), "方案。"]


def test_a_model_that_always_asks_is_stopped_after_five_steps() -> None:
    with StandIn(always_acting(5)) as daemon:
        parts = run(daemon, coordinator=FREE)
    assert len(thoughts(parts)) == 5
    assert plan_of(parts).finish_reason is FinishReason.STEP_LIMIT
    assert plan_of(parts).text == "方案。"


def test_red_control_the_limit_decides() -> None:
    with StandIn(always_acting(7)) as daemon:
        assert len(thoughts(run(daemon, coordinator=FREE, limits=Limits(steps=7)))) == 7


def test_red_control_the_count_of_repetitions_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasoning, "REPEATED", 99)
    monkeypatch.setattr(reasoning, "UNUSABLE", 99)
    with StandIn([SAME, "开发者。", SAME, SAME, SAME, SAME, "方案。"]) as daemon:
        assert len(thoughts(run(daemon, coordinator=FREE))) == 5


# --- reading a step


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("Thought: hm\nAction: lawyer\nAction Input: who?", [("lawyer", "who?")]),
        ("思考：嗯\n行动：lawyer\n行动输入：谁？", [("lawyer", "谁？")]),
        ("Action：lawyer\nAction Input：谁负责？", [("lawyer", "谁负责？")]),
        ("```\nAction: lawyer\nAction Input: who?\n```", [("lawyer", "who?")]),
        ('```json\n{"thought": "", "actions": [{"expert": "lawyer", "question": "who?"}]}\n```', [("lawyer", "who?")]),
        ("Action: lawyer Action Input: a? Action: doctor Action Input: b?", [("lawyer", "a?"), ("doctor", "b?")]),
        ('**Action:** lawyer\n**Action Input:** {"question": "who?"}', [("lawyer", "who?")]),
        ("Action: lawyer[who?]", [("lawyer", "who?")]),
        ("Action: lawyer\nAction Input: a?\nObservation: me\nAction: doctor\nAction Input: b?", [("lawyer", "a?")]),
        ('{"name": "lawyer", "arguments": {"question": "who?"}}', [("lawyer", "who?")]),
        ('{"actions": {"expert": "lawyer", "question": "who?"}}', [("lawyer", "who?")]),
        (f"{act(('lawyer', 'a?'))}\n{act(('doctor', 'b?'))}", [("lawyer", "a?"), ("doctor", "b?")]),
        ('Action: lookup\nAction Input: {"name": "Bob"}', [("lookup", '{"name": "Bob"}')]),
        ('Action: f\nAction Input: {"a": 1}\nAction: g\nAction Input: {"b": 2}', [("f", '{"a": 1}'), ("g", '{"b": 2}')]),
    ],
)
def test_the_ways_in_which_a_step_is_written(text: str, calls: list[tuple[str, str]]) -> None:
    decision = read(text, "zh")
    assert list(decision.calls) == [Call(*call) for call in calls]
    assert decision.fault == ""


@pytest.mark.parametrize("text", ['{"thought": "x", "actions": []}', "Thought: ok\nFinal Answer: ready", "最终答案：可以", '{"answer": true}'])
def test_enough_is_no_fault(text: str) -> None:
    assert (read(text, "zh").calls, read(text, "zh").fault) == ((), "")


_PIECES = st.one_of(
    st.text(max_size=60),
    st.sampled_from(["Action:", "行动：", "Action Input：", "{", "}", "[", "]", '"actions":', '"expert":', "lawyer", "```", "Observation:", ","]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["actions", "expert", "question", "thought"]), inner),
        max_leaves=8,
    ).map(json.dumps),
)


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(_PIECES, max_size=12).map("".join))
def test_a_thousand_steps_of_garbage_raise_nothing(text: str) -> None:
    decision = read(text, "en")
    assert len(decision.calls) <= dialects.MOST_CALLS
    assert all(isinstance(call.expert, str) and len(call.question) <= dialects.LONGEST for call in decision.calls)


@pytest.mark.parametrize("text", ["[" * 100_000, "{" * 100_000, "Action:" * 30_000, "action" + " " * 90_000, '{"actions":' * 9000])
def test_a_step_of_any_size_is_read_in_no_time(text: str) -> None:
    started = time.process_time()
    read(text, "en")
    assert time.process_time() - started < 0.5


def test_the_dialect_follows_the_daemon() -> None:
    assert isinstance(dialect_for("0.32.15", {}), Schema)
    assert isinstance(dialect_for("", {}), Schema)
    assert isinstance(dialect_for("0.4.7", {}), Lines)


def test_a_step_that_keeps_to_the_schema_ends_within_its_bound() -> None:
    """A model that never closes a string would be cut in the middle of a JSON: the schema bounds every string."""
    with StandIn() as daemon:
        parts = run(daemon)
        schema = daemon.asked("/api/chat")[0]["format"]["properties"]
    assert schema["thought"]["maxLength"] + 2 * schema["actions"]["items"]["properties"]["question"]["maxLength"] <= reasoning.STEP_TOKENS
    assert not any("无法识别" in thought.fault for thought in thoughts(parts))


def test_an_old_daemon_is_asked_in_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasoning, "dialect_for", lambda version, facts: Lines())
    with StandIn(["Thought: 嗯\nAction：lawyer\nAction Input：谁负责？", "开发者。", "Final Answer: 可以", "方案。"]) as daemon:
        plan = plan_of(run(daemon, coordinator=FREE))
        assert all("format" not in body for body in daemon.asked("/api/chat"))
    assert [(step.expert, step.question) for step in plan.steps] == [("lawyer", "谁负责？")]


# --- limits


def slow(words: int, pace: float = 0.02) -> Scripted:
    return Scripted(["甲"] + [f"，乙{number}" for number in range(words)] + ["。"], pace=pace)


def test_time_that_runs_out_lands_with_what_there_is() -> None:
    with StandIn([act(("lawyer", "谁负责？")), slow(500), "方案。"]) as daemon:
        started = time.monotonic()
        plan = plan_of(run(daemon, limits=Limits(seconds=1.6)))
        took = time.monotonic() - started
    assert took < 1.6 + 0.25
    assert plan.text.startswith("（以下专家没有回答，方案缺少其意见：计算机科学家。）")
    assert plan.text.endswith("方案。")
    assert plan.finish_reason is FinishReason.DEADLINE
    assert plan.missing == ("computer_scientist",)


def test_red_control_the_time_kept_for_the_answer_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "LANDING", 0.0)
    with StandIn([act(("lawyer", "谁负责？")), slow(500)]) as daemon:
        plan = plan_of(run(daemon, limits=Limits(seconds=1.0)))
    assert "（没能整合" in plan.text


def test_an_expert_that_never_answers_is_named() -> None:
    with StandIn([BOTH, Scripted([], end="nothing"), "开发者。", DONE, "方案。"]) as daemon:
        plan = plan_of(run(daemon))
    assert plan.missing == ("computer_scientist",)
    assert plan.text.endswith("方案。")


def test_tokens_are_shared_by_all() -> None:
    with StandIn([BOTH, slow(300, 0), slow(300, 0), slow(300, 0)]) as daemon:
        plan = plan_of(run(daemon, limits=Limits(tokens=200)))
        bounds = [body["options"]["num_predict"] for body in daemon.asked("/api/chat")]
    assert plan.usage.completion_tokens is not None
    assert plan.usage.completion_tokens <= 200
    assert bounds[0] == 150
    assert plan.finish_reason in (FinishReason.LENGTH, FinishReason.TOKEN_LIMIT)
    assert plan.text


def test_red_control_tokens_that_nobody_counts_are_spent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Budget, "spend", lambda self, usage: None)
    with StandIn([BOTH, slow(300, 0), slow(300, 0), slow(300, 0)]) as daemon:
        plan = plan_of(run(daemon, limits=Limits(tokens=200, steps=1)))
    assert (plan.usage.completion_tokens or 0) > 200


def test_a_budget_divides_what_is_left() -> None:
    budget = Budget(Limits(tokens=1000, seconds=100))
    assert budget.options(Options(), answers=4, waves=2).max_tokens == 187
    budget.spend(Usage(completion_tokens=750))
    assert budget.spent is FinishReason.TOKEN_LIMIT
    assert budget.options(Options(), landing=True).max_tokens == 250
    assert budget.options(Options(max_tokens=5), landing=True).max_tokens == 5


def test_what_does_not_fit_into_the_window_is_shortened_and_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def said(text: str) -> str:
        if len(text) > 2500:
            raise PromptTooLong(model="llama3", needed=4097, window=4096, over=1, needed_window=8192, most=8192)
        return BOTH if "决定下一步" in text else "意见。" * 500 if "整合" not in text else "方案。"

    faked(monkeypatch, said)
    plan = plan_of(alone())
    assert plan.text == "方案。"
    assert plan.receipt.notes == ("shortened", "step_failed")


def test_a_seed_memory_longer_than_the_window() -> None:
    huge = replace(EXPERTS[0], seed_memory={"zh": "你是专家，熟悉每一条标准。" * 2000})
    with StandIn([BOTH, "开发者。", DONE, "方案。"]) as daemon:
        plan = plan_of(run(daemon, experts=[huge, EXPERTS[1]]))
    assert plan.missing == ("computer_scientist",)
    for panel in (False, True):
        with StandIn() as daemon:
            with pytest.raises(SeedTooLong):
                run(daemon, coordinator=replace(COORDINATOR, seed_memory=huge.seed_memory), panel=panel)
            assert not any(body.get("messages") for body in daemon.asked("/api/chat")), "nobody was asked"


def test_our_own_errors_are_raised() -> None:
    with StandIn() as daemon:
        daemon.fail("error_500_json", path="/api/chat")
        with pytest.raises(DaemonError):
            run(daemon)


@pytest.mark.parametrize("fault", ["error_500_json", "error_line", "cut_mid", "reset_mid"])
def test_an_expert_that_breaks_down_in_the_middle_is_named(fault: str) -> None:
    with StandIn([BOTH, "开发者。", DONE, "方案。"] if "mid" not in fault else [BOTH, "逐项测试。", "开发者。", DONE, "方案。"]) as daemon:
        class Breaking(Expert):
            async def ask(self, question: str, context: Any) -> Any:
                if self.name == "computer_scientist":
                    daemon.fail(fault, path="/api/chat")
                return await super().ask(question, context)

        async def parts() -> list[Any]:
            client = Client(Blocking(), Settings(host=daemon.url))
            tools = [Breaking(persona=persona, client=client, model="llama3") for persona in EXPERTS]
            return [part async for part in solve(TASK, team=team(client, tools=tools))]

        plan = plan_of(finish(parts()))
    assert plan.missing == ("computer_scientist",)
    assert plan.text.endswith("方案。")


@pytest.mark.parametrize(("options", "begins"), [(Options(), "（"), (Options(format="json"), "{")], ids=["prose", "json"])
def test_what_is_missing_is_said_before_prose_and_never_in_what_a_program_reads(options: Options, begins: str) -> None:
    class Silent(Expert):
        async def ask(self, question: str, context: Any) -> Any:
            return Contribution(error="away") if self.name == "lawyer" else await super().ask(question, context)

    async def parts(url: str) -> list[Any]:
        client = Client(Blocking(), Settings(host=url))
        tools = [Silent(persona=persona, client=client, model="llama3") for persona in EXPERTS]
        return [part async for part in solve(TASK, team=team(client, tools=tools), options=options)]

    with StandIn([BOTH, "逐项测试。", DONE, '{"plan": "方案"}']) as daemon:
        plan = plan_of(finish(parts(daemon.url)))
    assert plan.missing == ("lawyer",)
    assert "missing: lawyer" in plan.receipt.notes
    assert plan.text.startswith(begins), plan.text


# --- models that answer at once, in this process


def faked(monkeypatch: pytest.MonkeyPatch, said: Callable[[str], str]) -> None:
    """Every model says what `said` makes of the last message."""

    async def chat(self: Client, messages: Any, **other: Any) -> Any:
        text = said(messages[-1].content)
        if isinstance(self.runtime, Looped):
            await asyncio.sleep(0)
        yield Piece(text, finish_reason=FinishReason.STOP, usage=Usage(completion_tokens=9), receipt=Receipt())

    async def version(self: Client) -> str:
        return "0.32.15"

    async def ready(self: Client, model: str, options: Any = None) -> Loaded:
        return Loaded(window=4096)

    async def facts(self: Client, model: str) -> dict[str, Any]:
        return {}

    for method in (chat, version, ready, facts):
        monkeypatch.setattr(Client, method.__name__, method)


def alone(limits: Limits | None = None, **other: Any) -> list[Any]:
    async def parts() -> list[Any]:
        client = Client(Blocking(), Settings())
        return [part async for part in solve(TASK, team=team(client, **other), budget=Budget(limits))]

    return finish(parts())


def test_a_hundred_tasks_on_one_loop_see_nothing_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def said(text: str) -> str:
        numbers = set(re.findall(r"#\d+#", text))
        assert len(numbers) == 1, "somebody else's words"
        (number,) = numbers
        if "Decide the next step" in text:
            return DONE if "no. 1" in text else act(("lawyer", f"no. 1 {number}"), ("computer_scientist", f"no. 2 {number}"))
        return f"said of {number}"

    async def everybody() -> list[Plan]:
        client = Client(Looped(parallel=4), Settings(parallel=4))
        shared = team(client)

        async def one(number: int) -> Plan:
            return plan_of([part async for part in solve(f"Draft standard #{number}#.", team=shared)])

        return await asyncio.gather(*(one(number) for number in range(100)))

    faked(monkeypatch, said)
    plans = asyncio.run(everybody())
    assert [plan.text for plan in plans] == [f"said of #{number}#" for number in range(100)]
    assert all(len(plan.steps) == 2 and not plan.missing for plan in plans)


@pytest.mark.parametrize(
    "error",
    [EmptyReply(), DaemonError(status=500, detail="down"), FirstTokenTimeout(model="llama3", seconds="60"), StreamTruncated()],
    ids=lambda error: type(error).__name__,
)
def test_with_an_expert_down_a_hundred_of_a_hundred_land(monkeypatch: pytest.MonkeyPatch, error: OrchestraError) -> None:
    def said(text: str) -> str:
        if text.startswith("怎样测试"):
            raise error
        if "决定下一步" in text:
            return DONE if "开发者" in text else BOTH
        return "方案。" if text.startswith(TASK) else "开发者。"

    faked(monkeypatch, said)
    for _ in range(25):
        plan = plan_of(alone())
        assert plan.missing == ("computer_scientist",)
        assert plan.text.startswith("（以下专家没有回答")
        assert plan.text.endswith("方案。")


def test_what_was_said_is_shortened_before_anybody_is_left_out() -> None:
    client: Any = None
    tools = {name: Expert(persona=persona, client=client, model="m") for name, persona in zip("ab", EXPERTS, strict=True)}
    said = [
        Answered(tools[who], Step(expert=tools[who].name, question="?", answer=f"{number}" + "意" * 999, ok=True), Contribution())
        for number, who in enumerate("aabab")
    ]
    forms = [([one.step.answer[0] for one in kept], most) for kept, most in shorter(said)]
    assert forms[0] == (list("01234"), 0)
    assert [most for kept, most in forms if len(kept) == 5][-1] == MODEST
    assert forms[-1] == (["3", "4"], LEAST), "the last word of each stays"
    lengths = [sum(min(most or 1000, 1000) for _ in kept) for kept, most in forms]
    assert lengths == sorted(lengths, reverse=True)
