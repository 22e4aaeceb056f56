"""A task as a turn of a stored dialogue: what is kept of it, what a follow-up sees, and that it lands there as it does without one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from dialogues import prompts
from services import Told, serving

from orchestra import AsyncOrchestra, Orchestra
from orchestra.agents import team_ground
from orchestra.agents.budget import Budget, Limits
from orchestra.agents.coordinator import Plan, trace_as_json
from orchestra.agents.dialects import Call
from orchestra.agents.expert import Expert
from orchestra.agents.landing import beside
from orchestra.agents.personas import Library, shipped
from orchestra.agents.reasoning import Team, Thought
from orchestra.agents.team_ground import Part, TeamGround, turn
from orchestra.agents.tool import Step
from orchestra.api import AsyncSession
from orchestra.errors import PersonaMissing
from orchestra.model.messages import FinishReason, Message, Piece
from orchestra.runtime import finish
from orchestra.sessions.conversation import Opening
from orchestra.sessions.export import export_jsonl, import_jsonl
from orchestra.standin import Scripted, StandIn

TASK = "制定人工智能合规标准，避免人工智能伤害人类"
LIBRARY = Library([shipped()])
COORDINATOR = LIBRARY.persona("standardization_expert")


def act(*calls: tuple[str, str], thought: str = "想") -> str:
    actions = [{"expert": name, "question": question} for name, question in calls]
    return json.dumps({"thought": thought, "actions": actions}, ensure_ascii=False)


DONE = act(thought="够了")
BOTH = act(("computer_scientist", "怎样测试？"), ("lawyer", "谁负责？"))
FIRST = [BOTH, "逐项测试。", "开发者。", DONE, "完整方案。"]


def system_of(prompt: Sequence[dict[str, str]]) -> str:
    assert prompt[0]["role"] == "system"
    return prompt[0]["content"]


# --- the whole way


def test_a_task_is_a_turn_and_gives_a_whole_plan(home: Path) -> None:
    with StandIn(FIRST) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        plan = orchestra.integrate(TASK, session="s")
        told = prompts(daemon)
        (stored,) = orchestra.store.history("s")
        record = orchestra.store.session("s")
        assert (daemon.loads, daemon.reloads) == (1, 0)
        asked = len(daemon.asked("/api/chat"))
    assert (plan.text, plan.finish_reason, plan.missing, plan.model) == ("完整方案。", FinishReason.STOP, (), "llama3")
    assert [(step.expert, step.question, step.answer) for step in plan.steps] == [
        ("computer_scientist", "怎样测试？", "逐项测试。"),
        ("lawyer", "谁负责？", "开发者。"),
    ]
    assert [type(part).__name__ for part in plan.trace] == ["Thought", "Step", "Step", "Thought"]
    assert (stored.question, stored.answer, stored.status) == (TASK, "完整方案。", "done")
    assert stored.ground == json.loads(json.dumps({"trace": trace_as_json(plan.trace), "missing": []}))
    assert (record.persona, record.model) == ("standardization_expert", "llama3")
    assert system_of(told[-1]) == COORDINATOR.speaks("zh")
    assert "法律专家（谁负责？）\n开发者。" in told[-1][-1]["content"]
    assert plan.receipt.calls == asked == 5
    assert (plan.receipt.loads, plan.receipt.reloads) == (1, 0)
    assert plan.usage.completion_tokens is not None
    assert plan.usage.completion_tokens > 20, "of all, not of the answer alone"


def test_both_faces_have_it(home: Path) -> None:
    async def main() -> None:
        with StandIn(FIRST) as daemon:
            async with AsyncOrchestra(host=daemon.url, home=str(home)) as orchestra:
                plan = await orchestra.integrate(TASK, session="s")
                assert plan.text == "完整方案。"
                assert len(plan.steps) == 2

    asyncio.run(main())


def test_a_follow_up_sees_what_was_said_before(home: Path) -> None:
    again = [act(("lawyer", "在德国谁负责？")), "制造商。", DONE, "按德国法。", "德国方案。"]
    with StandIn([*FIRST, *again]) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        orchestra.integrate(TASK, session="s")
        plan = orchestra.integrate("那德国呢？", session="s")
        told = prompts(daemon)[5:]
    assert plan.text == "德国方案。"
    step, lawyer, _, scientist, answer = told
    before = [{"role": "user", "content": TASK}, {"role": "assistant", "content": "完整方案。"}]
    assert step[1:3] == before, "the coordinator has read the turn before"
    assert len(lawyer) == 2, "a question that is written out in full stands alone"
    assert scientist[1:3] == before, "the task itself does not"
    assert answer[1]["content"].startswith(TASK)
    assert "开发者。" not in answer[1]["content"], "what the experts said is no part of the history"


def test_steps_are_told_as_they_happen_and_come_before_the_answer(home: Path) -> None:
    seen: list[tuple[str, int]] = []
    with StandIn(FIRST) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:

        def trace(part: Part) -> None:
            seen.append((type(part).__name__, len(prompts(daemon))))

        parts = list(orchestra.integrate_stream(TASK, session="s", trace=trace))
    assert seen == [("Thought", 1), ("Step", 1), ("Step", 2), ("Step", 2), ("Step", 3), ("Thought", 4)]
    kinds = [type(part).__name__ for part in parts]
    assert kinds[:7] == ["Thought", "Step", "Step", "Step", "Step", "Thought", "Piece"]
    assert kinds[-1] == "Plan"


def test_without_a_session_the_trace_is_told_too() -> None:
    seen: list[Part] = []
    with StandIn(FIRST) as daemon, Orchestra(host=daemon.url) as orchestra:
        parts = list(orchestra.integrate_stream(TASK, trace=seen.append))
    assert seen == [part for part in parts if isinstance(part, Thought | Step)]
    assert len(seen) == 6


def test_a_panel_is_asked_the_message_itself(home: Path) -> None:
    with StandIn(["一。", "二。", "方案。"]) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        plan = orchestra.integrate(TASK, session="s", panel=True)
    assert [step.question for step in plan.steps] == [TASK, TASK]
    assert plan.text == "方案。"


def test_a_dialogue_with_another_persona_is_led_by_the_coordinator_for_this_turn(home: Path) -> None:
    with StandIn(["你好。", "一。", "二。", "方案。", "再见。"]) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        orchestra.session("s", persona="support").ask("你好")
        orchestra.integrate(TASK, session="s", panel=True)
        orchestra.session("s").ask("再见")
        told = prompts(daemon)
    support = LIBRARY.persona("support").speaks("zh")
    assert [system_of(told[place]) == support for place in (0, 3, 4)] == [True, False, True]
    assert system_of(told[3]) == COORDINATOR.speaks("zh")


def test_the_dialogues_own_model_answers(home: Path) -> None:
    with StandIn(["Hello.", *FIRST], models=["llama3", "mid"]) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        orchestra.session("s", model="mid").ask("Hello")
        orchestra.integrate(TASK, session="s")
        models = {body["model"] for body in daemon.asked("/api/chat")}
    assert models == {"mid"}


def test_files_keep_the_trace(home: Path) -> None:
    with StandIn(FIRST) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        orchestra.integrate(TASK, session="s")
        import_jsonl(orchestra.store, list(export_jsonl(orchestra.store, "s")), name="t")
        before, after = [orchestra.store.history(name)[0].ground for name in ("s", "t")]
    assert before == after
    assert after is not None
    assert len(after["trace"]) == 4


# --- it lands


def test_an_expert_that_is_missing_is_named_and_not_remembered(home: Path) -> None:
    def lookup_order(text: str) -> str:
        """Where an order is."""
        raise KeyError(text)

    with StandIn(["意见。", "方案。", "好。"]) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        plan = orchestra.integrate(TASK, session="s", panel=True, experts=["lawyer", lookup_order])
        stored = orchestra.store.history("s")[0]
        orchestra.session("s").ask("好")
        last = prompts(daemon)[-1]
    assert plan.missing == ("lookup_order",)
    assert plan.text.startswith("（以下专家没有回答")
    assert plan.text.endswith("方案。")
    assert plan.receipt.notes == ("missing: lookup_order",)
    assert stored.answer == "方案。"
    assert stored.ground is not None
    assert stored.ground["missing"] == ["lookup_order"]
    assert last[2]["content"] == "方案。"


def test_where_nobody_could_be_asked_everybody_is_missing(home: Path) -> None:
    with StandIn(["方案。"]) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        daemon.fail("error_500_json", path="/api/chat")
        plan = orchestra.integrate(TASK, session="s")
    assert plan.missing == ("computer_scientist", "lawyer")
    assert plan.text.endswith("方案。")
    assert plan.receipt.notes == ("step_failed", "missing: computer_scientist, lawyer")


def test_where_no_answer_comes_the_experts_words_are_the_answer(home: Path) -> None:
    with StandIn(["一。", "二。", Scripted([])]) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        plan = orchestra.integrate(TASK, session="s", panel=True)
        stored = orchestra.store.history("s")[0]
    assert plan.text.startswith("（没能整合")
    assert "法律专家:\n二。" in plan.text
    assert stored.answer == plan.text


def test_the_limit_that_ended_the_steps_is_said(home: Path) -> None:
    with StandIn([act(("lawyer", "谁？")), "开发者。", "测试。", "方案。"]) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        plan = orchestra.integrate(TASK, session="s", steps=1)
        stored = orchestra.store.history("s")[0]
    assert plan.finish_reason is stored.finish_reason is FinishReason.STEP_LIMIT


LONG = "开发者须逐项测试。" * 300


def handbook(text: str) -> str:
    """What the handbook says."""
    return LONG


EXPERTS: list[Any] = [handbook, "lawyer"]


def test_what_does_not_fit_beside_the_question_is_shortened_and_noted(home: Path) -> None:
    with StandIn(["二。", "方案。"], window=2048) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        plan = orchestra.integrate(TASK, session="s", panel=True, experts=EXPERTS)
        beside = prompts(daemon)[-1][-1]["content"]
    assert plan.receipt.notes == ("shortened",)
    assert "此处有删节" in beside
    assert "二。" in beside
    assert plan.steps[0].answer == LONG, "the trace has it whole"


def test_red_control_without_the_room_nothing_of_it_would_be_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def whole(self: TeamGround, run: Any, missed: Any, inquiry: Any) -> tuple[str, bool]:
        return next(beside(run, missed))

    monkeypatch.setattr(TeamGround, "_text", whole)
    with StandIn(["二。", "方案。"], window=2048) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        plan = orchestra.integrate(TASK, session="s", panel=True, experts=EXPERTS)
        assert "二。" not in prompts(daemon)[-1][-1]["content"]
    assert plan.receipt.notes == ("ground_too_long",)


STORY = "".join(f"第{number}天，他走过山。" for number in range(100, 170))


def longer(home: Path) -> tuple[Plan, list[dict[str, str]]]:
    """A task after a turn that takes most of a small window."""
    with StandIn(["一。", "二。", "方案。"], window=2048) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        orchestra.store.create("s", history=[Message("user", "讲个故事"), Message("assistant", STORY)])
        plan = orchestra.integrate("它说了什么？", session="s", panel=True)
        return plan, prompts(daemon)[0]


def test_of_a_long_dialogue_the_end_is_read_and_no_more_than_there_is_room_for(home: Path) -> None:
    plan, expert = longer(home)
    assert plan.missing == ()
    assert [message["role"] for message in expert] == ["system", "user", "assistant", "user"]
    assert expert[1]["content"] == "讲个故事"
    assert expert[2]["content"].endswith("…")
    assert 80 <= len(expert[2]["content"]) < len(STORY) // 2


def test_red_control_without_a_bound_nothing_of_it_is_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team_ground, "_before", lambda inquiry: list(inquiry.said))
    assert [message["role"] for message in longer(home)[1]] == ["system", "user"], "what does not fit is left out"


def late(home: Path) -> tuple[Plan, int]:
    """A task of a second, of which its experts take all they can; and how many words its answer has, at 50 a second."""
    slow = Scripted([f"{number}，" for number in range(500)], pace=0.02)
    with StandIn([slow, slow, slow]) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        plan = orchestra.integrate(TASK, session="s", panel=True, deadline=1.0)
    return plan, plan.text.count("，")


def test_the_deadline_is_of_the_whole(home: Path) -> None:
    plan, said = late(home)
    assert plan.finish_reason is FinishReason.DEADLINE
    assert 0 < said < 22


def test_red_control_without_it_the_answer_has_a_deadline_of_its_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team_ground, "_left", lambda budget: team_ground._Left(None, None))
    assert late(home)[1] > 22


def test_whoever_leaves_in_the_answer_leaves_the_trace_with_it(home: Path) -> None:
    with StandIn(["一。", "二。", Scripted(["方", "案"] * 50, pace=0.01)]) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        with closing(orchestra.integrate_stream(TASK, session="s", panel=True)) as parts:
            next(part for part in parts if isinstance(part, Piece))
        (stored,) = orchestra.store.history("s")
    assert stored.status == "interrupted"
    assert stored.ground is not None
    assert len(stored.ground["trace"]) == 2


def test_the_total_of_tokens_is_of_the_whole(home: Path) -> None:
    long = Scripted([f"{number}，" for number in range(200)])
    with StandIn(["一。", "二。", long]) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        plan = orchestra.integrate(TASK, session="s", panel=True, max_total_tokens=50)
        stored = orchestra.store.history("s")[0]
    assert plan.finish_reason is stored.finish_reason is FinishReason.TOKEN_LIMIT
    assert 20 < plan.text.count("，") <= 50


def test_whoever_leaves_before_the_answer_leaves_what_was_said_by_then(home: Path) -> None:
    def leave(part: Part) -> None:
        if isinstance(part, Step) and part.expert == "lawyer":
            raise KeyboardInterrupt

    with StandIn([BOTH, "逐项测试。"]) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        with pytest.raises(KeyboardInterrupt):
            orchestra.integrate(TASK, session="s", trace=leave)
        (turn,) = orchestra.store.history("s")
    assert (turn.status, turn.answer) == ("interrupted", "")
    assert turn.ground is not None
    assert [each.get("answer") for each in turn.ground["trace"]] == [None, "逐项测试。"]


def test_what_an_operator_got_wrong_is_said_before_anything_is_stored(home: Path) -> None:
    with StandIn([]) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        with pytest.raises(PersonaMissing):
            orchestra.integrate(TASK, session="s", experts=["lawyre"])
        assert orchestra.store.find("s") is None


def test_a_service_is_told_the_question_and_nothing_else_of_the_dialogue(home: Path) -> None:
    with serving() as service, StandIn(["方案。", "好。"]) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        service.told = Told(body=json.dumps({"response": "明天送达"}).encode())
        orchestra.store.create("s", history=[Message("user", "密码是 4711"), Message("assistant", "知道了")])
        for task in (TASK, "那德国呢？"):
            orchestra.integrate(task, session="s", panel=True, experts=[f"carrier={service.url}"])
        sent = [seen.body.decode() for seen in service.seen if seen.method == "POST"]
        own = prompts(daemon)[-1]
    assert [json.loads(body) for body in sent] == [{"intent": TASK}, {"intent": "那德国呢？"}]
    assert any("4711" in message["content"] for message in own), "the session's own model reads it"


# --- calls that are known before


def asking(orchestra: Orchestra, message: str, ground: TeamGround) -> list[Any]:
    async def main() -> list[Any]:
        core = orchestra._core
        opening = Opening(persona=COORDINATOR)
        session = AsyncSession(store=core.store, client=core.client, name="s", opening=opening, ground=ground)
        return [part async for part in turn(session.stream(message), ground)]

    return finish(main())


def test_calls_are_asked_without_anybody_thinking(home: Path) -> None:
    message = "怎样测试？谁负责？"
    calls = [Call("lawyer", "谁负责？"), Call("computer_scientist", "怎样测试？")]
    with StandIn(["开发者。", "逐项测试。", "好的。"]) as daemon, Orchestra(host=daemon.url, home=str(home)) as orchestra:
        client = orchestra._core.client
        async def team(model: str) -> Team:
            experts = [Expert(persona=LIBRARY.persona(call.expert), client=client, model=model) for call in calls]
            return Team(client=client, model=model, coordinator=COORDINATOR, experts=experts)

        ground = TeamGround(team, calls=calls, budget=lambda: Budget(Limits(seconds=30)))
        plan = asking(orchestra, message, ground)[-1]
        told = prompts(daemon)
    assert [prompt[-1]["content"].split("\n")[0] for prompt in told] == ["谁负责？", "怎样测试？", message]
    assert "逐一回答" in told[-1][-1]["content"]
    assert [(step.expert, step.answer) for step in plan.steps] == [("lawyer", "开发者。"), ("computer_scientist", "逐项测试。")]
    assert plan.missing == ()
