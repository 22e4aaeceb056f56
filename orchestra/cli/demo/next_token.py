"""The first step of it all: how likely each next token is, and where other choices lead."""

from __future__ import annotations

import math

from orchestra.cli.demo.scenes import opened
from orchestra.cli.demo.stage import QUIET, Card, Stage
from orchestra.cli.demo.thread import origin
from orchestra.cli.demo.world import Record, World
from orchestra.cli.prediction import bar
from orchestra.cli.prediction_page import label, percent
from orchestra.cli.tables import width
from orchestra.cli.words import say
from orchestra.errors import DaemonTooOld, ModelUnsupported
from orchestra.model.prediction import MOST_CANDIDATES, NextStep, Prediction

SHOWN, BRANCHES, STEPS = 4, 3, 10


def next_token(stage: Stage, world: World, record: Record) -> None:
    """The distribution after a few words, and a text for each of the likeliest choices."""
    prompt = say("I am", "他说")
    card = Card(say("Token by token", "逐个 token"), origin(world), live=True)
    with world.daemon(0.0) as (url, _), opened(world, record.name, url) as orchestra, stage.shown(card) as redraw:
        card.say(f'orchestra next "{prompt}" --choose …', QUIET)
        try:
            first = orchestra.next(prompt, top=MOST_CANDIDATES)
        except (DaemonTooOld, ModelUnsupported) as error:  # somebody's daemon, which does not tell
            card.say(error.message(say("en", "zh")))
            card.say(error.hint(say("en", "zh")), QUIET)
            return
        (step,) = first.steps
        for name, figures in _rows(step):
            card.fact(name, figures)
        redraw()
        card.gap()
        taken = [each.token for each in step.candidates if each.kind == "text"][:BRANCHES]
        texts = [(token, orchestra.next(prompt, choose=[token], steps=STEPS)) for token in taken]
        for token, whole in texts:
            card.say(say(f'if it says "{token}":', f"如果它说“{token}”："))
            card.quote(prompt + whole.text, dim=world.stand_in, lines=2)
        _kept(card, record, first, texts)


def _rows(step: NextStep) -> list[tuple[str, str]]:
    candidates = step.candidates[:SHOWN]
    names = [label(each.token, each.kind) for each in candidates]
    room = max(map(width, names), default=0)
    return [
        (name + " " * (room - width(name)), f"{percent(each.probability):>7}  {bar(each.probability)}")
        for name, each in zip(names, candidates, strict=True)
    ]


def _kept(card: Card, record: Record, first: Prediction, texts: list[tuple[str, Prediction]]) -> None:
    """What the scene promises: a distribution, a choice that was taken, and one request a token."""
    (step,) = first.steps
    total = math.fsum(each.probability for each in step.candidates)
    record.facts |= {
        "candidates": [[each.token, round(each.probability, 4)] for each in step.candidates[:SHOWN]],
        "texts": [whole.text for _, whole in texts], "calls": sum(whole.calls for _, whole in texts),
    }  # fmt: skip
    held = [
        record.promise(0 < total <= 1.001, "the probabilities are a distribution"),
        record.promise(bool(texts) and all(whole.steps[0].token == token for token, whole in texts), "what was chosen is said"),
        record.promise(
            all(whole.calls == sum(each.tokens for each in whole.steps) for _, whole in texts), "a token takes one request"
        ),
    ]
    card.verdict(all(held), say("one token, then the next: everything else is choosing", "先一个 token，再下一个：其余都是选择"))
