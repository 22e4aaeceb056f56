"""The scenes: each does what somebody does in Open WebUI, and says what was seen and whether it is as promised."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from page import Browser, Page
from stage import ADMIN, USER, Stage

from orchestra.standin import Scripted

Figures = dict[str, Any]
STOP = 0.5  # seconds in which the daemon has to feel a stop
TASKS = {"en": "Draft a compliance standard for AI", "zh": "制定人工智能合规标准，避免人工智能伤害人类"}
# what the models say: a stand-in's own words are mechanical, and as long as they come
PLANS = {
    "en": (
        '{"thought": "Two things are open: how to test, and who answers for harm.", "actions": ['
        '{"expert": "computer_scientist", "question": "How is an AI system tested before it is used?"}, '
        '{"expert": "lawyer", "question": "Who is liable for harm that an AI system does?"}]}',
        "Each requirement gets a test that can be repeated, and its results are kept.",
        "Whoever operates the system answers to those harmed, and has recourse to its maker.",
        '{"thought": "That is enough.", "actions": []}',
        "1. **Tests**: each requirement has a test that can be repeated; results are kept.\n"
        "2. **Liability**: the operator answers to those harmed, with recourse to the maker.",
    ),
    "zh": (
        '{"thought": "有两点未定：如何测试，谁来负责。", "actions": ['
        '{"expert": "computer_scientist", "question": "人工智能系统在使用前如何测试？"}, '
        '{"expert": "lawyer", "question": "人工智能系统造成损害由谁负责？"}]}',
        "每项要求都要有可重复的测试，并保存结果。",
        "运营者对受害人负责，并可向开发者追偿。",
        '{"thought": "已经足够。", "actions": []}',
        "1. **测试**：每项要求都有可重复的测试，并保存结果。\n2. **责任**：由运营者对受害人负责，并可向开发者追偿。",
    ),
}
FACTS = {  # question, answer, and what its second source says
    "en": ("What is the capital of France?", "The capital of France is Paris [1], its largest city [2].", "two million"),
    "zh": ("法国的首都是哪里？", "法国的首都是巴黎 [1]，也是法国最大的城市 [2]。", "两百万"),
}
PERSONAS = {"en": "Lawyer ✓", "zh": "法律专家 ✓"}  # as a step names one
LOCALES = {"en": "en-US", "zh": "zh-CN"}
ADVICE = "A contract by e-mail binds both sides once offer and acceptance are clear. Keep the messages, and ask for a confirmation in writing."
# of different words: a text that repeats itself is ended by the gateway, not by the button
LONG = " ".join(f"Clause {number} has {number * number} words." for number in range(1, 200))


@dataclass(frozen=True, slots=True)
class Play:
    """What every scene needs; `pictures` is where pictures go."""

    stage: Stage
    browser: Browser
    pictures: Path

    @contextmanager
    def page(self, model: str = "", *, account: tuple[str, str] = ADMIN, locale: str = "en-US") -> Iterator[Page]:
        """A new chat of an account, with a model."""
        with self.browser.page(self.stage.token(account), locale) as page:
            page.open(model)
            yield page


def models(play: Play, language: str = "en") -> Figures:
    """Orchestra's models, each with what it is for, also for somebody who is no administrator."""
    figures: Figures = {}
    for who, account in (("admin", ADMIN), ("user", USER)):
        head = {"Authorization": f"Bearer {play.stage.token(account)}"}
        listed = httpx.get(f"{play.stage.page}/api/models", headers=head, timeout=60, trust_env=False).json()["data"]
        own = [each for each in listed if each["id"].startswith("orchestra/")]
        figures[who] = [each["id"] for each in own]
        figures["described"] = sum(bool(each["info"]["meta"]["description"]) for each in own)
    with play.page(account=USER, locale=LOCALES[language]) as page:
        figures["preset"] = page.tab.locator("#model-selector-model-button").inner_text()
        figures["seen"] = len(page.models())
        figures["picture_bytes"] = page.picture(play.pictures / f"openwebui-models-{language}.png")
    figures["ok"] = len(figures["user"]) >= 8 and figures["user"] == figures["admin"] and figures["described"] == len(figures["user"])
    figures["ok"] = figures["ok"] and "orchestra/auto" in figures["preset"]
    return figures


def persona(play: Play) -> Figures:
    """An answer is seen as it comes, and the chat gets its title without a model."""
    play.stage.daemon.script(ADVICE)
    asked = len(play.stage.daemon.asked("/api/chat"))
    with play.page("orchestra/lawyer") as page:
        page.ask("Is a contract by e-mail binding?")
        seen = page.watch()
        page.tab.wait_for_function("document.title.includes('contract')", timeout=10_000)
        title = page.tab.title()
    generations = len(play.stage.daemon.asked("/api/chat")) - asked
    figures: Figures = {"partials": seen.partials, "first_s": seen.first, "whole_s": seen.whole, "title": title, "generations": generations}
    figures["ok"] = seen.partials > 3 and generations == 1 and seen.text.strip().startswith(ADVICE[:40])
    return figures


def coordinator(play: Play, language: str = "en") -> Figures:
    """Each step is told while it is done, and stays with the answer."""
    play.stage.daemon.script(*PLANS[language])
    with play.page("orchestra/coordinator", locale=LOCALES[language]) as page:
        page.ask(TASKS[language])
        seen = page.watch()
        page.steps()
        size = page.picture(play.pictures / f"openwebui-coordinator-{language}.png", 460)
        kept = page.text()
    figures: Figures = {"statuses": seen.statuses, "partials": seen.partials, "first_s": seen.first, "whole_s": seen.whole, "picture_bytes": size}
    figures["ok"] = len(seen.statuses) >= 3 and seen.statuses[-1].startswith("✓") and seen.partials > 3 and PERSONAS[language] in kept
    return figures


def search(play: Play, language: str = "en") -> Figures:
    """Sources stand below an answer, each of its marks leads to one, and they can be opened."""
    question, answer, passage = FACTS[language]
    play.stage.daemon.script(answer)
    with play.page("orchestra/search", locale=LOCALES[language]) as page:
        page.ask(question)
        page.watch()
        marks = page.tab.locator(".chat-assistant .markdown-prose button[aria-label]")
        sources = page.tab.locator(".chat-assistant button[aria-label][aria-expanded=false]")
        figures: Figures = {"marks": marks.all_inner_texts(), "below": sources.first.inner_text().strip()}
        sources.first.click()
        figures["picture_bytes"] = page.picture(play.pictures / f"openwebui-search-{language}.png", 420)
        marks.nth(1).click()
        page.tab.wait_for_timeout(500)
        figures["passage"] = passage in page.tab.locator("body").inner_text()
    figures["ok"] = len(figures["marks"]) == 2 and "3" in figures["below"] and figures["passage"]
    return figures


def stop(play: Play) -> Figures:
    """The stop button ends the generation."""
    took: list[float] = []
    for _ in range(3):
        play.stage.daemon.script(Scripted(LONG, pace=0.05))
        with play.page("orchestra/lawyer") as page:
            page.ask("Write a long contract.")
            page.watch(until=lambda seen: len(seen["text"]) > 40)
            before = play.stage.daemon.cancelled
            began = page.stop()
            while play.stage.daemon.cancelled == before and time.monotonic() - began < 10:
                time.sleep(0.005)
            took.append(round(time.monotonic() - began, 3))
    return {"felt_after_s": took, "ok": max(took) <= STOP}


def leaving(play: Play) -> Figures:
    """A page that is reloaded shows the answer; asked again, both answers stay, and Orchestra keeps one chat of one user."""
    play.stage.daemon.script("The first answer, in one line.", "The second answer, in other words.", "A third one, to what was asked next.")
    before = _chats(play)
    with play.page("orchestra/general", account=USER) as page:
        page.ask("Tell me something in one line.")
        page.watch()
        page.tab.reload()
        page.tab.wait_for_selector(".chat-assistant", timeout=60_000)
        page.tab.wait_for_timeout(1500)
        reloaded = page.text()
        page.again()
        page.watch()
        both = "2/2" in page.tab.locator("body").inner_text()
        page.ask("And something else?")
        page.watch()
    sent = play.stage.daemon.asked("/api/chat")[-1]["messages"]
    history = [each["content"] for each in sent if each["role"] == "assistant"]
    kept = [each for each in _chats(play) if each not in before]
    users = {each["user"] for each in kept}
    figures: Figures = {"reloaded": reloaded[:60], "both": both, "history": history, "kept": [each["turns"] for each in kept]}
    figures["ok"] = both and "first answer" in reloaded and history == ["The second answer, in other words."]
    figures["ok"] = figures["ok"] and len(kept) == 1 and users == {play.stage.user(USER)}
    return figures


def _chats(play: Play) -> list[dict[str, Any]]:
    """What Orchestra keeps."""
    listed = httpx.get(f"{play.stage.gateway}/sessions", headers=play.stage.key, timeout=30, trust_env=False)
    return list(listed.raise_for_status().json()["sessions"])


def broken(play: Play) -> Figures:
    """An answer that breaks off, and one that goes in a circle: what came stays, and beside it stands what happened."""
    figures: Figures = {"ok": True}
    circle = f"{ADVICE} " + "and so on and so forth, " * 60
    for said, told in ((Scripted(ADVICE, end="nothing"), "the answer broke off"), (Scripted(circle), "the answer began to loop")):
        play.stage.daemon.script(said)
        with play.page("orchestra/lawyer") as page:
            page.ask("Is a contract by e-mail binding?")
            page.watch()
            page.tab.wait_for_timeout(500)
            text = page.text()
        figures[told] = told in text
        figures["ok"] = figures["ok"] and told in text and ADVICE[:40] in text
    return figures


def own(play: Play) -> Figures:
    """The daemon's own models come through Orchestra, bounded and without tools; their titles are not asked of them."""
    play.stage.daemon.script(ADVICE)
    asked = len(play.stage.daemon.asked("/api/chat"))
    with play.page("llama3:latest") as page:
        page.ask("Is a contract by e-mail binding?")
        seen = page.watch()
        title = page.tab.title()
    sent = play.stage.daemon.asked("/api/chat")[asked:]
    figures: Figures = {"partials": seen.partials, "title": title, "generations": len(sent), "tools": any(each.get("tools") for each in sent)}
    figures["bounded"] = bool(sent) and all(each.get("options", {}).get("num_predict", 0) > 0 for each in sent)
    figures["ok"] = seen.partials > 3 and figures["bounded"] and not figures["tools"] and len(sent) == 1 and ADVICE[:40] in seen.text
    return figures


def chinese(play: Play) -> Figures:
    """A gateway that speaks Chinese, on a Chinese page."""
    play.stage.serve("zh")
    figures: Figures = {each.__name__: each(play, "zh") for each in (models, coordinator, search)}
    play.stage.serve("en")
    figures["ok"] = figures["models"]["preset"].startswith("自动选择") and all(each["ok"] for each in figures.values())
    return figures


def queue(play: Play) -> Figures:
    """Who has to wait for the one slot is told so within a second."""
    play.stage.daemon.script(Scripted(LONG, pace=0.05), ADVICE)
    with play.page("orchestra/general") as first, play.page("orchestra/lawyer", account=USER) as second:
        first.ask("Write a long contract.")
        first.watch(until=lambda seen: len(seen["text"]) > 40)
        second.ask("Is a contract by e-mail binding?")
        waiting = second.watch(until=lambda seen: bool(seen["whole"].strip()), seconds=10)
        size = second.picture(play.pictures / "openwebui-waiting.png", 300)
        first.stop()
        answered = second.watch()
    figures: Figures = {"shown": waiting.text, "after_s": waiting.first, "answered": answered.text[:80], "picture_bytes": size}
    figures["ok"] = waiting.first <= 2 and ADVICE[:30] in answered.text
    return figures


SCENES: dict[str, Callable[[Play], Figures]] = {
    each.__name__: each for each in (models, persona, coordinator, search, stop, leaving, broken, queue, own, chinese)
}
