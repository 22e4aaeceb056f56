"""Who leads each turn of a dialogue: steady while a message goes on, another where the topic turns, asked where words leave it open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Line, line  # noqa: F401 - a fixture
from runtimes import RUNTIMES, inferences, run

from orchestra import Orchestra, StandIn
from orchestra.agents.contributions import Step
from orchestra.agents.personas import Library, shipped
from orchestra.agents.reasoning import Thought
from orchestra.agents.router import Route, Router
from orchestra.model.client import Client
from orchestra.model.messages import Reply

NOBODY = "http://127.0.0.1:1"
DATA = Path(__file__).parent / "data"
ROUTER = Router(Library([shipped()]).all())
OPEN = "怎样从技术上证明我们的模型合法地使用个人信息？"


def messages(name: str) -> list[dict[str, str]]:
    return [json.loads(row) for row in (DATA / f"{name}.jsonl").read_text("utf-8").splitlines()]


def routed(daemon: StandIn, message: str, *, current: str) -> Route:
    async def work(client: Client) -> Route:
        return await ROUTER.route(message, client=client, model="llama3", current=current)

    return run("blocking", work, host=daemon.url)


# --- by words


def test_a_dialogue_stays_with_its_persona_until_the_topic_turns() -> None:
    for message in ("那要多少钱？", "Why?", OPEN):
        assert ROUTER.lexical(message, current="lawyer").persona == "lawyer"
        assert ROUTER.lexical(message, current="lawyer").sure
    assert ROUTER.lexical("我的订单 12345 能加急吗？", current="lawyer").persona == "support"
    assert ROUTER.lexical("那要多少钱？", current="gone").persona == "general"


@pytest.mark.parametrize("message", ["高风险人工智能系统的提供者有哪些法律义务？", "Which legal duties do software providers have for their training data?"])
def test_where_the_words_are_others_the_topic_has_turned_also_unsurely(message: str) -> None:
    alone, within = ROUTER.lexical(message), ROUTER.lexical(message, current="support")
    assert "support" not in alone.candidates
    assert not alone.sure
    assert within == alone, "with its experts, and left open"
    stays = ROUTER.lexical(message, current="lawyer")
    assert (stays.persona, stays.sure, stays.experts) == ("lawyer", True, ())


@pytest.mark.parametrize("message", ["写一首关于春天的诗", "Write a short poem about spring, please."])
def test_a_request_that_is_nobodys_is_left_open_within_a_dialogue(message: str) -> None:
    route = ROUTER.lexical(message, current="support")
    assert (route.persona, route.sure) == ("support", False)
    assert "no change" in route.why.en
    assert route.reason in route.why
    assert ROUTER.lexical(message, current="general").persona == "general"


@pytest.mark.parametrize("message", ["如果他还是不还货款呢？", "What if he refuses to return the money?"])
def test_one_word_of_a_message_that_points_back_turns_nothing(message: str) -> None:
    route = ROUTER.lexical(message, current="lawyer")
    assert (route.persona, route.sure) == ("lawyer", not route.candidates)


def rightly_led(name: str) -> float:
    """The share of turns that are led rightly by words, or for what is nobody's, asked of a model where there is one."""
    rows = messages(name)
    routes = [(row, ROUTER.lexical(row["message"], current=row["current"])) for row in rows]
    return sum(not route.sure if row["kind"] == "general" else route.persona == row["persona"] for row, route in routes) / len(rows)


@pytest.mark.parametrize("name", ["routing_dialogues", "routing_dialogues_held_out"])
def test_of_ten_turns_nine_are_led_rightly(name: str) -> None:
    assert rightly_led(name) >= 0.9


def needlessly_asked(name: str) -> int:
    """How many turns that stay ask a model."""
    return sum(not ROUTER.lexical(row["message"], current=row["current"]).sure for row in messages(name) if row["kind"] == "stays")


@pytest.mark.parametrize(("name", "value"), [("goes_on", True), ("points_back", False)])
def test_the_turns_tell_a_router_that_does_not_see_how_a_message_leans(name: str, value: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rightly_led("routing_dialogues")
    monkeypatch.setattr(f"orchestra.agents.router.{name}", lambda message: value)
    assert rightly_led("routing_dialogues") < before


def test_hardly_a_message_that_goes_on_asks_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert needlessly_asked("routing_dialogues") + needlessly_asked("routing_dialogues_held_out") <= 4
    monkeypatch.setattr("orchestra.agents.router.goes_on", lambda message: False)
    assert needlessly_asked("routing_dialogues") > 4


def test_the_pairs_of_turns_are_enough_and_stand_there_once() -> None:
    rows = [*messages("routing_dialogues"), *messages("routing_dialogues_held_out")]
    assert len({(row["before"], row["message"]) for row in rows}) == len(rows)
    for language in ("zh", "en"):
        assert sum(row["lang"] == language for row in rows) >= 20
    assert {row["kind"] for row in rows} == {"stays", "turns", "back", "general"}
    for row in rows:
        assert row["current"] in ROUTER.personas


# --- by a model


@pytest.mark.parametrize(("message", "language"), [("写一首关于春天的诗", "zh"), ("Write a short poem about spring, please.", "en")])
@pytest.mark.parametrize("chosen", ["general", "support"])
def test_within_a_dialogue_the_model_may_choose_to_stay(message: str, language: str, chosen: str) -> None:
    with StandIn(replies=[json.dumps({"persona": chosen, "reason": "因为"})]) as daemon:
        route = routed(daemon, message, current="support")
        (body,) = inferences(daemon)
    assert (route.persona, route.calls) == (chosen, 1)
    assert {"general", "support"} <= set(body["format"]["properties"]["persona"]["enum"])
    assert {"zh": "对话现由 support 回答", "en": "support leads the dialogue now"}[language] in body["messages"][0]["content"]


def test_who_leads_is_named_in_dialogues_alone() -> None:
    reply = '{"persona": "lawyer", "reason": "x"}'
    for current in ("", "gone"):
        with StandIn(replies=[reply]) as daemon:
            routed(daemon, OPEN, current=current)
            (body,) = inferences(daemon)
        assert "对话现由" not in body["messages"][0]["content"]


@pytest.mark.parametrize("reply", ["no JSON", None])
def test_within_a_dialogue_without_an_opinion_the_words_decide(reply: str | None) -> None:
    for message, persona in (("写一首关于春天的诗", "support"), ("高风险人工智能系统的提供者有哪些法律义务？", "standardization_expert")):
        if reply is None:
            with Orchestra(host=NOBODY) as orchestra:
                route = orchestra.route(message, current="support")
        else:
            with StandIn(replies=[reply]) as daemon:
                route = routed(daemon, message, current="support")
        assert (route.persona, bool(route.experts)) == (persona, persona != "support")


# --- a dialogue that is led by whoever fits


def test_a_dialogue_is_led_by_whoever_fits(tmp_path: Path) -> None:
    said = ["我的订单 12345 能加急吗？", "那要多久？", "房东不退押金，我可以起诉吗？", "谢谢"]
    with StandIn(replies=["好的。"] * len(said)) as daemon, Orchestra(host=daemon.url, home=str(tmp_path)) as orchestra:
        session = orchestra.session("led", persona="auto")
        kept, calls = [], []
        for message in said:
            calls.append(session.ask(message).receipt.calls)
            found = orchestra.store.find("led")
            kept.append(found and found.persona)
        asked = inferences(daemon)
    assert kept == ["support", "support", "lawyer", "lawyer"]
    assert calls == [1, 1, 1, 1], "no call before the answer's own"
    assert len(asked) == len(said)
    seeds = [body["messages"][0]["content"] for body in asked]
    for persona, seed in zip(kept, seeds, strict=True):
        assert seed == ROUTER.personas[str(persona)].speaks("zh")
    assert any(said[0] in message["content"] for message in asked[-1]["messages"]), "what was said stays known"


@pytest.mark.parametrize("kind", RUNTIMES)
def test_one_call_finds_who_answers_where_words_do_not(kind: str, tmp_path: Path) -> None:
    assert not ROUTER.lexical(OPEN).sure
    with StandIn(replies=['{"persona": "lawyer", "reason": "法律"}', "好的。"]) as daemon:
        with Orchestra(host=daemon.url, home=str(tmp_path)) as orchestra:
            reply = orchestra.session("open", persona="auto").ask(OPEN)
        choice, answer = inferences(daemon)
    assert reply.receipt.calls == 2
    assert "format" in choice
    assert answer["messages"][0]["content"] == ROUTER.personas["lawyer"].speaks("zh")


def test_an_answer_that_is_given_again_is_not_routed_again(tmp_path: Path) -> None:
    with StandIn(replies=["好的。"]) as daemon, Orchestra(host=daemon.url, home=str(tmp_path)) as orchestra:
        session = orchestra.session("again", persona="auto")
        session.ask("我的订单 12345 能加急吗？", turn_id="1")
        assert session.ask("我的订单 12345 能加急吗？", turn_id="1").receipt.calls == 0


SEVERAL = "我的订单 12345 能加急吗？合同违约怎么办？"


def several(daemon: StandIn, home: Path, **more: Any) -> tuple[Reply, list[Step | Thought], list[dict[str, Any]]]:
    told: list[Step | Thought] = []
    with Orchestra(host=daemon.url, home=str(home)) as orchestra:
        reply = orchestra.session("several", persona="auto", steps=told.append, **more).ask(SEVERAL)
    return reply, told, inferences(daemon)


def test_several_questions_are_asked_of_their_experts_before_the_answer(tmp_path: Path) -> None:
    with StandIn(replies=["明天发货。", "可以要求赔偿。", "订单明天发货；违约可以要求赔偿。"]) as daemon:
        reply, told, (support, lawyer, answer) = several(daemon, tmp_path)
        with Orchestra(host=daemon.url, home=str(tmp_path)) as orchestra:
            (turn,) = orchestra.store.history("several")
    for body, name, question in ((support, "support", "我的订单 12345 能加急吗？"), (lawyer, "lawyer", "合同违约怎么办？")):
        assert body["messages"][0]["content"] == ROUTER.personas[name].speaks("zh")
        assert question in body["messages"][-1]["content"]
    assert "合同违约" not in support["messages"][-1]["content"]
    assert answer["messages"][0]["content"] == ROUTER.personas["standardization_expert"].speaks("zh")
    assert answer["messages"][-1]["content"].startswith(SEVERAL)
    assert "明天发货。" in answer["messages"][-1]["content"]
    assert reply.receipt.calls == 3
    assert [(step.expert, step.ok) for step in told if isinstance(step, Step)] == [
        ("support", None), ("support", True), ("lawyer", None), ("lawyer", True),
    ]  # fmt: skip
    assert turn.persona == "standardization_expert"
    assert turn.answer == "订单明天发货；违约可以要求赔偿。"
    assert [step["expert"] for step in (turn.ground or {})["trace"]] == ["support", "lawyer"]


def test_an_expert_of_a_message_knows_what_was_said_to_it_before(tmp_path: Path) -> None:
    with StandIn(replies=["已为您登记 12345。", "可以起诉。", "明天发货。", "可以要求赔偿。", "都安排好了。"]) as daemon:
        with Orchestra(host=daemon.url, home=str(tmp_path)) as orchestra:
            orchestra.session("several", persona="auto").ask("我的订单 12345 能加急吗？")
            orchestra.session("several").ask("房东不退押金，我可以起诉吗？")
            orchestra.session("several").ask("我的订单能加急吗？合同违约怎么办？")
        support, lawyer, answer = inferences(daemon)[2:]
    assert [message["content"] for message in support["messages"][1:-1]] == ["我的订单 12345 能加急吗？", "已为您登记 12345。"]
    assert [message["content"] for message in lawyer["messages"][1:-1]] == ["房东不退押金，我可以起诉吗？", "可以起诉。"]
    assert all("可以起诉。" not in message["content"] for message in support["messages"])
    assert answer["messages"][0]["content"] == ROUTER.personas["standardization_expert"].speaks("zh")


def test_an_expert_of_a_message_who_is_missing_is_named(tmp_path: Path) -> None:
    with StandIn(["明天发货。"], models=["llama3"]) as daemon:
        own = tmp_path / "personas"
        own.mkdir(parents=True)
        page = (shipped() / "lawyer.md").read_text("utf-8").replace("---\n", "---\nmodel: not-here\n", 1)
        (own / "lawyer.md").write_text(page, "utf-8")
        reply, told, _ = several(daemon, tmp_path)
    assert {(step.expert, step.ok) for step in told if isinstance(step, Step)} >= {("support", True), ("lawyer", False)}
    assert reply.ground is not None
    assert reply.ground["missing"] == ["lawyer"]


def test_a_session_that_looks_things_up_itself_asks_no_experts(tmp_path: Path) -> None:
    with StandIn(["好的。"]) as daemon:
        _, told, _ = several(daemon, tmp_path, search="none")
    assert told == []


def test_chat_says_who_answers(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    with StandIn(replies=["好的。", "好的。"]) as daemon:
        monkeypatch.setenv("OLLAMA_HOST", daemon.url)
        found = line("chat", "我的订单 12345 能加急吗？", "--persona", "auto")
        assert (found.code, found.out) == (0, "好的。\n")
        assert found.err.count("persona: support (") == 1
        told = line("chat", "房东不退押金，我可以起诉吗？", "--persona", "auto", "-c", "--json").json
    assert (told["persona"], told["text"]) == ("lawyer", "好的。")
    assert told["reason"]


def test_chat_gives_the_reason_in_the_readers_language(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr("orchestra.cli.words.LANGUAGE", "en")
    with StandIn(replies=["好的。"] * 3) as daemon:
        monkeypatch.setenv("OLLAMA_HOST", daemon.url)
        told = [line("chat", message, "--persona", "auto", "--session", "s").err for message in ("我的订单 12345 能加急吗？", "那要多久？", "房东不退押金，我可以起诉吗？")]
    assert "persona: support (the same as one of its examples)" in told[0]
    assert "persona: support (the topic has not turned)" in told[1]
    assert "persona -> lawyer (in the message: " in told[2]
