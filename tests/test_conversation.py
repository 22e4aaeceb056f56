"""Dialogues: what the model is shown of them, what is left out and where."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dialogues import EN, POLITE, ZH, prompts, said

import orchestra.errors as e
from orchestra import Message, Orchestra, Persona
from orchestra.model.messages import Options
from orchestra.sessions import fitting
from orchestra.sessions.conversation import labelled
from orchestra.sessions.records import SessionRecord
from orchestra.sessions.store import Store
from orchestra.sessions.summaries import latest
from orchestra.standin import StandIn


@pytest.fixture
def talk(standin: StandIn) -> Iterator[Orchestra]:
    with Orchestra(host=standin.url) as orchestra:
        yield orchestra


# --- what the model is shown


def test_the_second_turn_has_the_first_in_its_prompt(standin: StandIn, talk: Orchestra) -> None:
    standin.script("On Monday.", "Sorry.")
    session = talk.session("order-12345")
    assert session.ask("When will it come?").text == "On Monday."
    assert session.ask("Can you expedite it?").text == "Sorry."
    assert said(prompts(standin)[1]) == ["When will it come?" + EN, "On Monday.", "Can you expedite it?" + EN]
    assert [message["role"] for message in prompts(standin)[1]] == ["user", "assistant", "user"]


def test_nothing_is_read_for_a_first_turn(talk: Orchestra, monkeypatch: pytest.MonkeyPatch) -> None:
    read = list[str]()

    def counted(store: Store, session: str, *, turns: int) -> Any:
        read.append(session)
        return latest(store, session, turns=turns)

    monkeypatch.setattr(fitting, "latest", counted)
    talk.session("s").ask("Hello?", max_tokens=3)
    assert read == []
    talk.session("s").ask("Again?", max_tokens=3)
    assert len(read) >= 1


def test_a_session_goes_on_in_another_process(standin: StandIn) -> None:
    standin.script("On Monday.", "Sorry.")
    for question in ("When will it come?", "Can you expedite it?"):
        with Orchestra(host=standin.url) as orchestra:
            orchestra.session("order").ask(question)
    assert said(prompts(standin)[1])[:2] == ["When will it come?" + EN, "On Monday."]


def test_a_session_without_a_name_gets_one(standin: StandIn, talk: Orchestra) -> None:
    session = talk.session()
    assert (session.name, session.turns()) == (None, [])
    session.ask("Hello?", max_tokens=3)
    assert session.name
    assert [turn.question for turn in talk.session(session.name).history] == ["Hello?"]


def test_two_that_begin_a_session_at_once_both_talk_in_it(talk: Orchestra, monkeypatch: pytest.MonkeyPatch) -> None:
    talk.session("s").ask("Hello?", max_tokens=3)
    true, looked = Store.find, list[str]()

    def late(self: Store, name: str) -> SessionRecord | None:
        """The first look came before the other had made it."""
        looked.append(name)
        return true(self, name) if len(looked) > 1 else None

    monkeypatch.setattr(Store, "find", late)
    talk.session("s").ask("And me?", max_tokens=3)
    assert [turn.question for turn in talk.session("s").history] == ["Hello?", "And me?"]


def test_the_question_is_stored_as_it_was_asked(standin: StandIn, talk: Orchestra) -> None:
    standin.script("  Yes.\n")
    talk.session("s").ask("  Is it <|eot_id|> so?  ")
    (turn,) = talk.session("s").history
    assert (turn.question, turn.answer, turn.status, turn.finish_reason) == ("  Is it <|eot_id|> so?  ", "  Yes.\n", "done", "stop")
    assert turn.usage is not None
    assert turn.usage["completion_tokens"] > 0


def test_the_persona_stands_first_in_each_request(standin: StandIn, talk: Orchestra) -> None:
    standin.script("Good day.", "Gladly.")
    session = talk.session("s", persona=POLITE)
    session.ask("Hello?")
    session.ask("Help me.")
    for prompt in prompts(standin):
        assert prompt[0] == {"role": "system", "content": "You are very polite."}
        assert [message["role"] for message in prompt].count("system") == 1
    assert standin.asked("/api/chat")[0]["options"]["temperature"] == 0.2


def test_a_session_keeps_the_persona_it_was_begun_with(standin: StandIn, talk: Orchestra) -> None:
    standin.script("Good day.", "Gladly.")
    talk.session("s", persona="lawyer").ask("Hello?")
    talk.session("s").ask("Help me.")
    first, second = (prompt[0]["content"] for prompt in prompts(standin))
    assert first.startswith("You are a lawyer")
    assert second == first


def test_the_personas_model_answers(standin: StandIn, talk: Orchestra) -> None:
    standin.script("Yes.")
    mine = Persona(name="mine", seed_memory={"en": "You are mine."}, model="llama3:latest")
    talk.session("s", persona=mine).ask("Hello?")
    assert standin.asked("/api/chat")[0]["model"] == "llama3:latest"


def test_options_of_a_turn_win_over_the_sessions_and_these_over_the_personas(standin: StandIn, talk: Orchestra) -> None:
    standin.script("One.", "Two.")
    session = talk.session("s", persona=POLITE, options=Options(temperature=0.5, seed=5))
    session.ask("Hello?")
    session.ask("Hello?", temperature=0.9)
    assert [body["options"]["temperature"] for body in standin.asked("/api/chat")] == [0.5, 0.9]
    assert standin.asked("/api/chat")[1]["options"]["seed"] == 5


def test_the_language_is_that_of_each_question(standin: StandIn, talk: Orchestra) -> None:
    standin.script("好。", "Yes.", "好。")
    session = talk.session("s", persona=POLITE)
    for question in ("你好吗？", "Are you well?", "123"):
        session.ask(question)
    assert said(prompts(standin)[2]) == [
        "你非常有礼貌。", "你好吗？" + ZH, "好。", "Are you well?" + EN, "Yes.", "123" + ZH
    ]  # fmt: skip


# --- transcripts for base models

LESSON = ["Customer: Where is my order 12345?", "Support: It left our warehouse yesterday."]


def test_a_base_model_gets_a_transcript(standin: StandIn, talk: Orchestra) -> None:
    standin.script(" We will try.\nCustomer: Thanks.", " You are welcome.")
    session = talk.session("order", model="llama3:text", history=LESSON)
    assert session.ask("Can you please expedite the delivery?").text == "We will try."
    assert session.ask("Thank you.").text == "You are welcome."
    first, second = (body for body in standin.asked("/api/generate") if body.get("prompt"))
    assert first["prompt"] == (
        "Customer: Where is my order 12345?\nSupport: It left our warehouse yesterday.\n"
        "Customer: Can you please expedite the delivery?\nSupport:"
    )
    assert second["prompt"] == first["prompt"] + " We will try.\nCustomer: Thank you.\nSupport:"
    assert first["raw"] is True
    assert first["options"]["stop"][:2] == ["\nCustomer:", "\nSupport:"]


def test_a_transcript_keeps_its_labels_when_the_session_goes_on(standin: StandIn, talk: Orchestra) -> None:
    standin.script(" Yes.", " Yes.")
    talk.session("order", model="llama3:text", history=LESSON).ask("Is it late?")
    talk.session("order").ask("Really?")
    assert standin.asked("/api/generate")[-1]["prompt"].endswith("Support: Yes.\nCustomer: Really?\nSupport:")


def test_a_base_persona_stands_first_in_a_transcript(standin: StandIn, talk: Orchestra) -> None:
    standin.script(" 好。")
    talk.session("s", model="llama3:text", persona=POLITE).ask("你好吗？")
    assert standin.asked("/api/generate")[-1]["prompt"] == "你非常有礼貌。\n\n用户: 你好吗？\n助手:"


def test_history_may_be_strings_or_messages() -> None:
    both = [Message("user", "a: b"), Message("assistant", "c")]
    assert labelled(both) == (tuple(both), ())
    assert labelled(["客户：在哪里？", "客服：在路上。"]) == (
        (Message("user", "在哪里？"), Message("assistant", "在路上。")), ("客户", "客服")
    )  # fmt: skip
    assert labelled([]) == ((), ())


@pytest.mark.parametrize("line", ["no label", ": nothing", "Third: person"])
def test_a_history_of_more_than_two_is_refused(line: str) -> None:
    with pytest.raises(e.UsageError) as caught:
        labelled([*LESSON, line])
    assert line[:10] in caught.value.message()


# --- what outgrows the window


def test_a_long_first_turn_counts_as_the_daemon_counted_it() -> None:
    long = "What does this mean: " + "the the the the the " * 60
    with StandIn(["A text.", "The first one."], window=2048) as daemon, Orchestra(host=daemon.url) as orchestra:
        session = orchestra.session("s")
        assert session.ask(long, max_tokens=300).usage.prompt_tokens is not None
        assert session.ask("Which text?", max_tokens=300).receipt.dropped == 0


def test_a_question_too_long_for_its_share_has_more_summarised_first() -> None:
    with StandIn(window=1024) as daemon, Orchestra(host=daemon.url) as orchestra:
        session = orchestra.session("s")
        for number in range(4):
            session.ask(f"Question {number}: " + "why? " * 10, max_tokens=20)
        long = session.ask("And now: " + "why? " * 170, max_tokens=60)
        assert (long.receipt.compacted > 0, long.receipt.dropped, long.receipt.calls) == (True, 0, 2)
        assert "compacted" in long.receipt.notes
        with pytest.raises(e.PromptTooLong):
            session.ask("why? " * 2000)
        assert session.turns()[-1].status == "interrupted"


def test_a_very_long_label_is_counted() -> None:
    label = "The Person Who Is Responsible For Each And Every Delivery Of This House " * 3
    with StandIn(window=1024) as daemon, Orchestra(host=daemon.url) as orchestra:
        session = orchestra.session("s", model="llama3:text", history=["A: hi", f"{label}: hello"])
        for number in range(6):
            reply = session.ask(f"Why {number}?", max_tokens=30)
            assert reply.usage.prompt_tokens is not None
            body = daemon.asked("/api/generate")[-1]
            assert body["options"]["num_predict"] + reply.usage.prompt_tokens <= 1024


