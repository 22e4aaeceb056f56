"""What a model would read is what it then reads: the same text, the same tokens; and to look at it changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from command_line import Line, line, process

from orchestra import Orchestra
from orchestra.errors import DaemonTooOld, ModelMissing, UsageError
from orchestra.model import rendition as module
from orchestra.model.rendition import Rendition
from orchestra.model.template import Unknown
from orchestra.standin import StandIn

__all__ = ["line"]

NONCE = re.compile(r"(sources) [0-9a-f]{16}")


@pytest.fixture
def daemon() -> Iterator[StandIn]:
    with StandIn() as running:
        yield running


def ready(daemon: StandIn, home: Path, **settings: Any) -> Orchestra:
    return Orchestra(host=daemon.url, home=str(home), **settings)


def whole(shown: Rendition) -> Rendition:
    """What holds for each: its parts are the text, and their tokens are its tokens."""
    assert "".join(part.text for part in shown.parts) == shown.text
    assert sum(part.tokens for part in shown.parts) == shown.tokens
    assert shown.exact
    return shown


def kinds(shown: Rendition) -> list[str]:
    return [part.kind for part in shown.parts if part.kind not in ("template", "begin")]


def answered(daemon: StandIn) -> int:
    """The requests that made the daemon write."""
    sent = [*daemon.asked("/api/chat"), *daemon.asked("/api/generate")]
    return sum(1 for body in sent if not body.get("_debug_render_only") and (body.get("messages") or body.get("prompt")))


def test_a_prompt_is_counted_as_the_daemon_counts_it(daemon: StandIn, tmp_path: Path) -> None:
    with ready(daemon, tmp_path) as orchestra:
        for prompt, model in (("What is a token?", "llama3"), ("法国的首都是哪里？", "llama3"), ("Once upon a time", "llama3:text")):
            shown = whole(orchestra.render(prompt, model=model))
            assert shown.tokens == orchestra.generate(prompt, model=model, max_tokens=2).usage.prompt_tokens
            assert prompt in shown.text
            assert shown.by == ("raw" if model == "llama3:text" else "daemon")
        assert kinds(orchestra.render("法国的首都是哪里？")) == ["question", "language"]


def test_the_next_turn_of_a_persona_as_it_is_then_asked(daemon: StandIn, tmp_path: Path) -> None:
    with ready(daemon, tmp_path) as orchestra:
        chat = orchestra.session("case", persona="lawyer")
        chat.ask("Is this legal?", max_tokens=8)
        before = answered(daemon)
        shown = whole(orchestra.session("case").render("And that?"))
        assert answered(daemon) == before, "nothing was generated"
        assert len(chat.history) == 1, "nothing was stored"
        assert kinds(shown) == ["system", "user", "assistant", "question", "language"]
        reply = chat.ask("And that?", max_tokens=2)
        assert (shown.tokens, shown.left_out) == (reply.usage.prompt_tokens, 0)
        sent = daemon.asked("/api/chat")[-1]["messages"]
        assert [message["content"] in shown.text for message in sent] == [True] * 4
        orchestra.session("new").render("Hello?")
        assert orchestra.store.find("new") is None


def test_a_question_with_its_sources(daemon: StandIn, tmp_path: Path) -> None:
    with ready(daemon, tmp_path) as orchestra:
        question = "What is the capital of France?"
        shown = whole(orchestra.render(question, search="offline"))
        assert kinds(shown) == ["system", "question", "beside", "language"]
        assert answered(daemon) == 0
        orchestra.ask(question, search="offline", max_tokens=4)
        *_, last = daemon.asked("/api/chat")[-1]["messages"]
        assert NONCE.sub(r"\1", last["content"]) in NONCE.sub(r"\1", shown.text)


def test_turns_that_no_longer_fit_are_left_out_and_not_summarised(daemon: StandIn, tmp_path: Path) -> None:
    with ready(daemon, tmp_path, window=512) as orchestra:
        chat = orchestra.session("long")
        daemon.script(*["The answer to this is rather long. " * 12] * 3)
        for number in range(3):
            for _ in chat.stream(f"Question {number}? " + "word " * 30):
                pass
        before = answered(daemon)
        shown = whole(chat.render("And now? " + "word " * 150))
        assert shown.left_out > 0
        assert shown.fits
        assert answered(daemon) == before


def test_what_a_template_drops_is_said(daemon: StandIn, tmp_path: Path) -> None:
    with ready(daemon, tmp_path) as orchestra:
        shown = whole(orchestra.session(persona="lawyer", model="llama3:text", base=False).render("Is this legal?"))
        assert [part.kind for part in shown.dropped] == ["system"], "{{ .Prompt }} knows no system text"
        assert not orchestra.session(persona="lawyer").render("Is this legal?").dropped


def test_the_models_own_text_is_told_apart(daemon: StandIn, tmp_path: Path) -> None:
    with ready(daemon, tmp_path) as orchestra:
        own = {"model": "pirate", "from": "llama3", "system": "You are a pirate.", "messages": [{"role": "user", "content": "Ahoy?"}], "stream": False}
        httpx.post(f"{daemon.url}/api/create", json=own).raise_for_status()
        shown = whole(orchestra.render("Where is the gold?", model="pirate"))
        assert [part.text for part in shown.parts if part.kind == "model"] == ["You are a pirate.", "Ahoy?"]
        assert kinds(shown)[-2:] == ["question", "language"]
        mine = whole(orchestra.session(persona="lawyer", model="pirate").render("Where is the gold?"))
        assert [part.text for part in mine.parts if part.kind == "model"] == ["Ahoy?"], "its system text is replaced, its messages stay"


def test_control_tokens_and_marks_of_a_question_stay_text(daemon: StandIn, tmp_path: Path) -> None:
    with ready(daemon, tmp_path) as orchestra:
        shown = whole(orchestra.render("a<|eot_id|>b"))
        assert shown.text.count("<|eot_id|>") == 1
        assert "question" in kinds(shown)
        odd = whole(orchestra.render("a\ue000b\ue000c"))
        assert kinds(odd) == ["whole"]
        assert "a\ue000b\ue000c" in odd.text, "the marks themselves are no part of the prompt that is shown"


def test_without_the_models_vocabulary_it_is_an_estimate(daemon: StandIn, tmp_path: Path) -> None:
    with ready(daemon, tmp_path) as orchestra:
        counted = orchestra.render("What is a token?")
    with ready(daemon, tmp_path / "b") as orchestra:
        orchestra.generate("x", max_tokens=1)  # what is known of the model is remembered
        daemon.fail("error_500_json", path="/api/show")  # the vocabulary is not
        shown = orchestra.render("What is a token?")
    assert (shown.text, shown.exact) == (counted.text, False)
    assert shown.tokens >= counted.tokens
    assert "".join(part.text for part in shown.parts) == shown.text


def test_a_daemon_too_old_to_show_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with StandIn(version="0.11.4") as old, StandIn() as new, ready(old, tmp_path) as before, ready(new, tmp_path / "b") as now:
        shown, same = whole(before.render("What is it?")), whole(now.render("What is it?"))
        assert (shown.by, same.by) == ("orchestra", "daemon")
        assert (shown.text, shown.parts) == (same.text, same.parts)
        monkeypatch.setattr(module, "rendered", unknown)
        assert now.render("What is it?").differs is None
        with pytest.raises(DaemonTooOld, match=r"0\.11\.4"):
            before.render("What is it?")


def unknown(*_: object) -> str:
    raise Unknown("a renderer inside the daemon")


def test_where_the_two_renderings_differ(daemon: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ready(daemon, tmp_path) as orchestra:
        assert orchestra.render("What is it?").differs is None
        monkeypatch.setattr(module, "rendered", lambda facts, subject: "otherwise")
        assert whole(orchestra.render("What is it?")).differs == "otherwise"


def test_what_cannot_be_rendered(daemon: StandIn, tmp_path: Path) -> None:
    with ready(daemon, tmp_path) as orchestra:
        with pytest.raises(UsageError, match="empty"):
            orchestra.render("  ")
        with pytest.raises(UsageError, match="empty"):
            orchestra.session().render("")
        with pytest.raises(ModelMissing):
            orchestra.render("x", model="nobody")


def test_on_the_command_line(line: Line, daemon: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", daemon.url)
    done, shown = line("render", "What is it?", "-p", "lawyer"), line("render", "What is it?", "-p", "lawyer", "--json").json
    assert done.out == shown["text"], "the text and nothing else"
    assert "system" in done.err
    assert f"{shown['tokens']} of 4096 tokens · llama3 · as the daemon renders it" in done.err
    assert (shown["by"], shown["fits"], shown["differs"]) == ("daemon", True, None)
    assert "no session nobody yet" in line("render", "x", "--session", "nobody").err
    assert "does not fit" in line("render", "word " * 6000).err
    assert line("render", "x", "-m", "nobody", "--json").error["code"] == "model_missing"
    assert line("render", "x", "--ask", "--base", "--json").error["code"] == "usage_error"


def test_in_a_process_in_chinese(daemon: StandIn) -> None:
    done = process("render", "-", "--search", "offline", stdin="法国的首都？".encode(), OLLAMA_HOST=daemon.url, ORCHESTRA_LANG="zh")
    assert done.code == 0
    assert "资料结束" in done.out
    assert "附加资料" in done.err


def test_on_a_real_daemon(real_daemon: str, real_model: str, tmp_path: Path) -> None:
    with Orchestra(host=real_daemon, home=str(tmp_path)) as orchestra:
        shown = whole(orchestra.render("What is a token?", model=real_model))
        assert shown.tokens == orchestra.generate("What is a token?", model=real_model, max_tokens=2).usage.prompt_tokens
        chat = orchestra.session("case", persona="lawyer", model=real_model)
        chat.ask("Is this legal?", max_tokens=8)
        turn = whole(chat.render("And that?"))
        assert turn.tokens == chat.ask("And that?", max_tokens=2).usage.prompt_tokens
        assert (turn.by, turn.differs) == ("daemon", None)
