"""One question through the whole house: looked up, cited, and checked."""

from __future__ import annotations

from dataclasses import replace

from orchestra.api import AsyncOrchestra
from orchestra.cli.demo.stage import QUIET, Card, Stage
from orchestra.cli.demo.world import BRIEF, Record, World
from orchestra.cli.words import say
from orchestra.retrieval.passages import Citation
from orchestra.retrieval.pipeline import Answer
from orchestra.runtime import Blocking, blocking, stepping
from orchestra.standin import StandIn

PACE = 0.012
QUESTION = "What is the capital of France?"


class House:
    """What the scene needs of Orchestra, for code without an event loop."""

    def __init__(self, world: World, name: str, url: str) -> None:
        self._core = AsyncOrchestra(settings=world.settings(name, "" if world.found else url), runtime=Blocking())

    ask = stepping(AsyncOrchestra.ask_stream)
    route = blocking(AsyncOrchestra.route)
    close = blocking(AsyncOrchestra.close)


def thread(stage: Stage, world: World, record: Record) -> None:
    """A question with its sources, and an answer that is not in them."""
    with world.daemon(PACE if world.paced else 0.0) as (url, _):
        house = House(world, record.name, url)
        try:
            _asked(stage, world, record, house)
            stage.pause(2.0)
            _doubted(stage, world, record)
        finally:
            house.close()


def origin(world: World) -> str:
    """Whose words a live scene shows."""
    return say("the stand-in's words", "替身服务的文字") if world.stand_in else world.model


def _asked(stage: Stage, world: World, record: Record, house: House) -> None:
    card = Card(say("Looked up and cited", "检索并引用"), origin(world), live=True)
    with stage.shown(card) as redraw:
        card.say(f'orchestra ask "{QUESTION}" --search offline', QUIET)
        grow = card.quote("", dim=world.stand_in, lines=5)
        text, answer = "", None
        for part in house.ask(QUESTION, search="offline", options=BRIEF):
            if isinstance(part, Answer):
                answer = part
            else:
                text += part.text
                grow(text)
                redraw()
        if answer is None:
            record.promise(False, "the answer has an end")
            return
        grow(whole(answer.text))
        cited = [source for source in answer.sources if source.cited]
        record.promise(bool(answer.text.strip()), "the question is answered")
        record.promise(bool(answer.sources), "the sources are listed")
        if world.stand_in:  # a model may cite as it likes; whether it did is shown, not promised
            record.promise("Paris" in answer.text, "the answer comes out of the sources")
            record.promise(any(one.found == "yes" for one in answer.citations), "a citation is found in its source")
        record.facts["ask"] = {
            "text": answer.text, "finish_reason": str(answer.finish_reason), "sources": len(answer.sources), "cited": len(cited),
            "citations": [one.found for one in answer.citations], "calls": answer.receipt.calls,
        }  # fmt: skip
        card.gap()
        for source in answer.sources:
            found = {one.found for one in answer.citations if one.n == source.n}
            word = next((grade for grade in ("yes", "weak", "no") if grade in found), "")
            card.fact(f"[{source.n}]", f"{source.title} · {source.url}{_checked(word)}")


def _checked(found: str) -> str:
    """Whether the sentence that cites a source was found in it, in words."""
    return {
        "yes": say(" · cited, found in it", " · 已引用，原文中有"),
        "weak": say(" · cited, partly found in it", " · 已引用，原文中部分有"),
        "no": say(" · cited, not found in it", " · 已引用，原文中没有"),
    }.get(found, "")


def _doubted(stage: Stage, world: World, record: Record) -> None:
    """An answer with a wrong year, put into the stand-in's mouth: its citation is there, and is not believed."""
    question = say("When was the Eiffel Tower finished?", "埃菲尔铁塔是哪一年建成的？")
    reply = say(
        "Paris is the largest city of France [1]. The Eiffel Tower was finished in 1899 [1].",
        "巴黎是法国最大的城市[1]。埃菲尔铁塔于1899年建成[1]。",
    )
    card = Card(say("A wrong year, well cited", "年份有误，引用齐全"), say("a reply written for this", "为演示而写的回答"), live=True)
    with StandIn([reply]) as daemon, stage.shown(card) as redraw:
        house = House(replace(world, found=None), record.name, daemon.url)
        try:
            card.say(f'orchestra ask "{question}" --search offline', QUIET)
            (answer,) = [part for part in house.ask(question, search="offline", strategy="direct") if isinstance(part, Answer)]
        finally:
            house.close()
        card.quote(answer.text, dim=True, lines=3)
        card.gap()
        for citation in answer.citations:
            card.fact(f"[{citation.n}]", _judged(citation))
        redraw()
        found = [citation.found for citation in answer.citations]
        record.facts["checked"] = {"text": answer.text, "citations": found}
        held = record.promise(len(found) == 2 and found[0] == "yes" != found[1], "the wrong year is not found in its source")
        card.verdict(held, say("the sentence that is not in its source is named", "来源中没有的那句话被指出"))


def _judged(citation: Citation) -> str:
    words = {"yes": say("found in it", "原文中有"), "weak": say("partly found in it", "原文中部分有")}
    word = words.get(citation.found, say("not found in it", "原文中没有"))
    return f"{'✓' if citation.found == 'yes' else '✗'} {word} · {citation.sentence}"


def whole(text: str) -> str:
    """The text, and a mark where its bound cut it in the middle of a sentence."""
    return text if text.rstrip().endswith((".", "!", "?", "。", "！", "？", "]", ")", "）")) else text.rstrip() + " …"
