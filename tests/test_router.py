"""Who answers a message: by words without a model, by one small question where these leave it open, and steady in a dialogue."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import Line, line  # noqa: F401 - a fixture
from hypothesis import given
from hypothesis import strategies as st
from runtimes import RUNTIMES, inferences, run

from orchestra import Orchestra, StandIn
from orchestra.agents.personas import Library, shipped
from orchestra.agents.router import Route, Router, likelihood, schema_of
from orchestra.agents.topics import words_of_topics
from orchestra.model.client import Client
from orchestra.model.messages import FinishReason, Reply
from orchestra.model.persona import Persona

NOBODY = "http://127.0.0.1:1"
DATA = Path(__file__).parent / "data"
PERSONAS = Library([shipped()]).all()
ROUTER = Router(PERSONAS)
OPEN = "怎样从技术上证明我们的模型合法地使用个人信息？"


def messages(name: str) -> list[dict[str, str]]:
    return [json.loads(row) for row in (DATA / f"{name}.jsonl").read_text("utf-8").splitlines()]


def right(name: str) -> float:
    rows = messages(name)
    return sum(ROUTER.lexical(row["message"]).persona == row["persona"] for row in rows) / len(rows)


def routed(daemon: StandIn, message: str = OPEN, kind: str = "blocking", **given: Any) -> Route:
    async def work(client: Client) -> Route:
        return await ROUTER.route(message, client=client, model="llama3", **given)

    return run(kind, work, host=daemon.url)


# --- by words


@pytest.mark.parametrize("name", ["routing", "routing_held_out"])
def test_of_ten_messages_eight_and_a_half_are_routed_by_words(name: str) -> None:
    assert right(name) >= 0.85


def test_the_set_tells_a_router_that_knows_no_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.agents.router.words_of_topics", lambda text: {})
    assert right("routing") < 0.85


def test_each_message_of_the_set_stands_there_once() -> None:
    rows = [*messages("routing"), *messages("routing_held_out")]
    assert len({row["message"] for row in rows}) == len(rows) >= 150
    assert {row["persona"] for row in rows} == {persona.name for persona in PERSONAS}


@pytest.mark.parametrize("persona", PERSONAS, ids=lambda persona: persona.name)
def test_the_examples_of_a_persona_are_its_own(persona: Persona) -> None:
    for example in persona.examples:
        route = ROUTER.lexical(f" {example} ")
        assert (route.persona, route.sure, route.confidence) == (persona.name, True, 1.0)


def test_a_persona_of_ones_own_is_found_by_what_its_file_says() -> None:
    cook = Persona(name="cook", seed_memory={}, description={"en": "Recipes, baking and kitchen tools."}, examples=("How long do I boil an egg?",))
    assert Router([*PERSONAS, cook]).lexical("Which recipes need no baking?").persona == "cook"
    assert ROUTER.lexical("Which recipes need no baking?").persona == "general"


def test_what_is_to_be_done_weighs_more_than_what_it_is_about() -> None:
    assert ROUTER.lexical("请把这份租房合同翻译成英文").persona == "translator"
    assert ROUTER.lexical("Translate: where is my parcel?").persona == "translator"


def test_the_margin_is_what_leaves_a_message_open(monkeypatch: pytest.MonkeyPatch) -> None:
    message = "怎样加密个人信息？"
    assert not ROUTER.lexical(message).sure
    monkeypatch.setattr("orchestra.agents.router._MARGIN", 0.5)
    assert ROUTER.lexical(message).sure


def test_where_nothing_fits_the_general_one_answers() -> None:
    route = ROUTER.lexical("你好")
    assert (route.persona, route.sure, route.candidates) == ("general", True, {})
    assert Router([]).lexical("你好").persona == ""
    assert Router([PERSONAS[0]]).lexical("你好").persona == PERSONAS[0].name


def test_several_questions_of_different_experts_go_to_the_coordinator() -> None:
    route = ROUTER.lexical("怎么用 Python 给数据库加密？房东不退押金我可以起诉吗？")
    assert route.persona == "standardization_expert"
    assert set(route.experts) == {"computer_scientist", "lawyer"}
    alike = ROUTER.lexical("房东不退押金我可以起诉吗？合同没写违约金怎么办？")
    assert (alike.persona, alike.experts, alike.questions) == ("lawyer", (), {})


def test_each_of_several_experts_has_questions_of_its_own() -> None:
    route = ROUTER.lexical("我的订单 12345 能加急吗？合同违约怎么办？再说，房东不退押金我可以起诉吗？谢谢！")
    assert (route.persona, route.experts) == ("standardization_expert", ("support", "lawyer"))
    assert route.questions == {"support": "我的订单 12345 能加急吗？", "lawyer": "合同违约怎么办？\n房东不退押金我可以起诉吗？"}
    both = ROUTER.lexical("制定人工智能合规标准，避免人工智能伤害人类")
    assert both.questions == {}, "one question for all of them"


def test_whoever_leads_a_dialogue_asks_nobody_else_where_it_stays() -> None:
    message = "怎样用加密技术和软件架构证明我们的合同与法律责任合规？"
    assert ROUTER.lexical(message).experts
    stays = ROUTER.lexical(message, current="lawyer")
    assert (stays.persona, stays.experts, stays.questions) == ("lawyer", (), {})


@given(st.text(max_size=200), st.sampled_from(["", "lawyer", "nobody"]))
def test_whatever_is_said_somebody_answers(message: str, current: str) -> None:
    route = ROUTER.lexical(message, current=current)
    assert route.persona in ROUTER.personas
    assert 0 <= route.confidence <= 1
    assert route.reason
    assert route.calls == 0


def test_words_count_in_their_forms_and_not_within_longer_ones() -> None:
    assert words_of_topics("He was suing and deploying")["computing"] == ("deploy",)
    assert words_of_topics("参考文献")["research"] == ("参考文献",)
    assert "orders" not in words_of_topics("an orderly stockade")


# --- by a model


@pytest.mark.parametrize("kind", RUNTIMES)
def test_what_words_leave_open_is_one_question_to_the_model(kind: str) -> None:
    assert not ROUTER.lexical(OPEN).sure
    reply = json.dumps({"persona": "computer_scientist", "reason": "问的是技术"}, ensure_ascii=False)
    with StandIn(replies=[reply]) as daemon:
        route = routed(daemon, kind=kind)
        (body,) = inferences(daemon)
    assert (route.persona, route.reason, route.calls, route.sure) == ("computer_scientist", "问的是技术", 1, False)
    assert route.confidence == 1.0, "the stand-in says scripted words with certainty"
    assert body["format"]["properties"]["persona"]["enum"] == list(ROUTER.personas)
    assert body["logprobs"] is True
    assert OPEN in body["messages"][-1]["content"]
    assert OPEN not in body["messages"][0]["content"]


def test_what_words_decide_asks_nobody() -> None:
    with StandIn() as daemon:
        assert routed(daemon, "我的订单 12345 能加急吗？").calls == 0
        assert not daemon.requests


def test_the_grammar_of_the_choice_has_no_other_name() -> None:
    with StandIn(models=["llama3"]) as daemon:
        assert routed(daemon).persona in ROUTER.personas


@pytest.mark.parametrize("reply", ["", "no JSON", '{"persona": "nobody", "reason": "x"}', '["lawyer"]', '{"persona": 3}'])
def test_a_choice_that_is_none_leaves_the_lexical_one(reply: str) -> None:
    with StandIn(replies=[reply or " "]) as daemon:
        route = routed(daemon)
    assert route.persona == ROUTER.lexical(OPEN).persona
    assert route.calls == 1


def test_a_choice_no_likelier_than_chance_leaves_the_lexical_one(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = '{"persona": "translator", "reason": "because"}'
    for likely, persona in ((0.1, ROUTER.lexical(OPEN).persona), (0.3, "translator")):
        monkeypatch.setattr("orchestra.agents.router.likelihood", lambda reply, name, likely=likely: likely)
        with StandIn(replies=[reply]) as daemon:
            assert routed(daemon).persona == persona


def test_a_choice_whose_reason_was_cut_off_counts() -> None:
    with StandIn(replies=['{"persona": "translator", "reason": "because']) as daemon:
        route = routed(daemon)
    assert (route.persona, route.reason, route.experts) == ("translator", "由模型选择", ())


def test_without_a_daemon_the_lexical_route_is_taken() -> None:
    with Orchestra(host=NOBODY) as orchestra:
        assert orchestra.route(OPEN) == replace(ROUTER.lexical(OPEN), calls=0)


def test_confidence_is_the_likelihood_of_the_name() -> None:
    said = [('{"', -3.0), ("persona", -1.0), ('": "', -1.0), ("law", math.log(0.5)), ("yer", math.log(0.8)), ('"}', -2.0)]
    logprobs = tuple({"token": token, "logprob": logprob} for token, logprob in said)
    reply = Reply(text="", finish_reason=FinishReason.STOP, logprobs=logprobs)
    assert likelihood(reply, "lawyer") == 0.4
    assert likelihood(replace(reply, logprobs=()), "lawyer") == 0.5
    assert schema_of(ROUTER.personas)["required"] == ["persona", "reason"]


# --- the faces


def test_the_command_names_a_persona_without_a_daemon(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("OLLAMA_HOST", NOBODY)
    found = line("route", "我的订单 12345 能加急吗？", "--json").json
    assert (found["persona"], found["confidence"], found["calls"]) == ("support", 1.0, 0)
    assert found["reason"]
    several = line("route", "我的订单 12345 能加急吗？合同违约怎么办？", "--json").json
    assert several["experts"] == ["support", "lawyer"]
    assert several["questions"] == {"support": "我的订单 12345 能加急吗？", "lawyer": "合同违约怎么办？"}
    plain = line("route", "Where is my second parcel?")
    assert (plain.code, plain.out) == (0, "support\n")
    assert "parcel" in plain.err
    assert line("route", " ", "--json").error["code"] == "usage_error"


@pytest.mark.parametrize(("interface", "said"), [("en", "in the message: 订单"), ("zh", "消息中的：订单")])
def test_the_reason_is_in_the_readers_language_and_for_programs_in_the_messages(
    interface: str, said: str, line: Line, monkeypatch: pytest.MonkeyPatch,  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.setenv("OLLAMA_HOST", NOBODY)
    monkeypatch.setattr("orchestra.cli.words.LANGUAGE", interface)
    message = "我的订单什么时候发货？"
    assert said in line("route", message).err
    found = line("route", message, "--json").json
    assert found["reason"].startswith("消息中的：")
    assert "why" not in found


def test_python_routes_as_the_command_does() -> None:
    with StandIn(replies=['{"persona": "lawyer", "reason": "law"}']) as daemon, Orchestra(host=daemon.url) as orchestra:
        route = orchestra.route(OPEN)
        assert (route.persona, route.calls) == ("lawyer", 1)
        assert orchestra.route("And then?", current="lawyer").persona == "lawyer"
