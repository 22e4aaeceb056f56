"""A translator's answers are not asked for in the language of what it is sent; everybody else's are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from dialogues import prompts
from runtimes import run

from orchestra import Orchestra
from orchestra.agents.expert import Expert
from orchestra.agents.personas import Library, shipped
from orchestra.model.language import LINES
from orchestra.model.messages import Language, Options
from orchestra.model.persona import Persona
from orchestra.standin import Scripted, StandIn

TEXT = "会议改到周五下午三点，请准时参加。"
ANSWER = "The meeting is moved to Friday, 3 p.m.; please be on time."
TRANSLATOR = Library([shipped()]).persona("translator")


def last(daemon: StandIn) -> str:
    return prompts(daemon)[-1][-1]["content"]


@pytest.mark.parametrize(("persona", "asks"), [(TRANSLATOR, False), (replace(TRANSLATOR, follows_language=True), True)])
def test_in_a_session(home: Path, persona: Persona, asks: bool) -> None:
    with StandIn([Scripted(ANSWER)] * (1 + asks)) as daemon, Orchestra(host=daemon.url) as orchestra:
        assert orchestra.session("wanted", persona=persona).ask(TEXT).text == ANSWER
        assert (LINES["zh"] in prompts(daemon)[0][-1]["content"]) is asks, "and an answer in English would be asked for again"


@pytest.mark.parametrize(("told", "line"), [(None, ""), ("zh", LINES["zh"])])
def test_as_an_expert(told: Language | None, line: str) -> None:
    with StandIn([Scripted("会议改到周五。")]) as daemon:
        options = Options(language=told)
        run(
            "blocking",
            lambda client: Expert(persona=TRANSLATOR, client=client, model="llama3").answer(TEXT, options=options),
            host=daemon.url,
        )
        assert last(daemon) == (f"{TEXT}\n\n{line}" if line else TEXT)
