"""Three things that go wrong with a bare daemon, and beside each what becomes of it through Orchestra."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from orchestra.api import Orchestra, Session
from orchestra.cli.demo.recorded import Recording, plain_client, plain_client_version, recording
from orchestra.cli.demo.stage import QUIET, Card, Stage
from orchestra.cli.demo.world import Record, World
from orchestra.cli.words import say
from orchestra.errors import OrchestraError
from orchestra.model.messages import Piece, Reply, gathered
from orchestra.sessions.records import Turn
from orchestra.standin import Scripted, StandIn

LOOP_PACE = 0.07
WINDOW = 384
ROW_PAUSE = 0.45


def recorded_card(recording: Recording) -> Card:
    """The left side: what a bare daemon gave."""
    return Card(say("a bare daemon", "直接使用 Ollama"), say(f"recorded from {recording.daemon}", f"录自 {recording.daemon}"))


def stand_in_card() -> Card:
    """The right side where only the stand-in can be made to fail."""
    return Card("Orchestra", say("live, over the stand-in", "实时运行，替身服务"), live=True)


@contextmanager
def opened(world: World, name: str, url: str) -> Iterator[Orchestra]:
    """Orchestra over a daemon, with a data folder for this scene."""
    with Orchestra(settings=world.settings(name, url)) as orchestra:
        yield orchestra


# --- 1. an answer that loops


def loop(stage: Stage, world: World, record: Record) -> None:
    """An answer that loops and ends without a word is stopped, kept and named."""
    left, right = _endless(record), stand_in_card()
    question = say("What colour is the lake?", "今天天气怎么样？")
    pieces = say("The| lake| is" + "| blue" * 60, "今天|天气|很好|，|天空|很蓝" + "|，很蓝" * 60).split("|")
    with (
        StandIn([Scripted(pieces, end="nothing", pace=LOOP_PACE if world.paced else 0.0)]) as daemon,
        opened(world, record.name, daemon.url) as orchestra,
        stage.shown(left, right) as redraw,
    ):
        right.say(f'orchestra chat "{question}"', QUIET)
        grow = right.quote("", dim=True, lines=3, tail=True)
        heard: list[Piece] = []
        fault: OrchestraError | None = None
        dialogue = orchestra.session("lake")
        try:
            for piece in dialogue.stream(question):
                heard.append(piece)
                grow("".join(one.text for one in heard))
                redraw()
        except OrchestraError as error:
            fault = error
        reply = fault.reply if fault and fault.reply else gathered(heard)
        streamed = sum(bool(piece.text) for piece in heard)
        _stopped(right, record, reply, streamed, dialogue.history)


def _endless(record: Record) -> Card:
    """The recorded loop, and what a plain client makes of it."""
    recorded = recording("loop")
    (exchange,) = recorded.exchanges
    (heard,) = plain_client([exchange])
    left = recorded_card(recorded)
    said_end = any(json.loads(line).get("done") for line in exchange.lines)
    record.promise(not said_end, "the recorded stream ends without done")
    record.promise(not heard.complaint, "a plain client takes the recorded stream for a success")
    record.facts["recorded"] = {
        "status": exchange.status, "lines": len(exchange.lines), "done": said_end, "client": plain_client_version(),
        "parts": heard.parts, "complaint": heard.complaint,
    }  # fmt: skip
    left.say(f"{exchange.method} {exchange.path}", QUIET)
    left.quote(heard.text, dim=True, lines=3)
    left.gap()
    left.fact(say("status", "状态"), f"{exchange.status} OK")
    left.fact(say("lines", "行数"), str(len(exchange.lines)))
    text = exchange.last["message"]["content"]
    left.fact(say("the last", "最后一行"), f'"content": "{text}", "done": {str(exchange.last["done"]).lower()}')
    left.fact(say("a client", "客户端"), say(
        f"ollama-python {plain_client_version()}: {heard.parts} parts, no error",
        f"ollama-python {plain_client_version()}：{heard.parts} 段，无错误",
    ))  # fmt: skip
    left.verdict(False, say("no end, no reason: taken for a success", "没有结束标记，也没有原因：被当作成功"))
    return left


def _stopped(right: Card, record: Record, reply: Reply, streamed: int, history: list[Turn]) -> None:
    """What Orchestra made of the loop."""
    limit = len(recording("loop").exchanges[0].lines)
    turn = history[-1] if history else None
    held = [
        record.promise(reply.finish_reason == "repetition", "finish_reason is repetition"),
        record.promise(streamed < limit, f"stopped before the daemon falls silent ({limit} pieces)"),
        record.promise(0 < len(reply.text) < 40, "the clean part is kept"),
        record.promise(turn is not None and turn.answer == reply.text and turn.status == "done", "the session holds what was kept"),
    ]
    record.facts |= {"pieces": streamed, "kept": reply.text, "finish_reason": str(reply.finish_reason), "session": turn and turn.status}
    right.gap()
    right.fact(say("stopped", "停止"), say(f"after {streamed} pieces", f"在第 {streamed} 段之后"))
    right.fact("finish_reason", str(reply.finish_reason))
    right.fact(say("kept", "保留"), f"“{reply.text}”")
    if turn:
        right.fact(say("session", "会话"), say(f"lake · 1 turn · {turn.status}", f"lake · 1 轮 · {turn.status}"))
    right.verdict(all(held), say("stopped, kept, named", "已停止，已保留，已说明原因"))


# --- 2. a dialogue that outgrows its window


def overflow(stage: Stage, world: World, record: Record) -> None:
    """A dialogue outgrows its window: its older turns are summarised, the receipt says so, and nothing is lost."""
    left, right = _forgotten(record), stand_in_card()
    first = say("My cat is called Mimi.", "我的猫叫豆豆。")
    word = say("Mimi", "豆豆")
    others = say(
        "How do plants drink?|Why is the sea salty?|What is a good walk?|How is bread made?|Tell me about the moon.|What is a lighthouse?",
        "植物怎样喝水？|海水为什么是咸的？|散步有什么好处？|面包是怎么做的？|说说月亮。|灯塔是什么？",
    ).split("|")
    with (
        StandIn(window=WINDOW) as daemon,
        opened(world, record.name, daemon.url) as orchestra,
        stage.shown(left, right) as redraw,
    ):
        right.say(say(f"orchestra chat · a window of {WINDOW} tokens", f"orchestra chat · 窗口 {WINDOW} token"), QUIET)
        grow = right.table((say("turn", "轮次"), say("tokens used", "已用 token"), say("summarised", "已总结的轮次")), [])
        replies: list[Reply] = []
        dialogue = orchestra.session("cat")
        for question in [first, *others]:
            replies.append(dialogue.ask(question, max_tokens=24, seed=7))
            grow([_receipt(number, reply) for number, reply in enumerate(replies, 1)])
            redraw()
            stage.pause(ROW_PAUSE)
        _remembered(right, record, orchestra, dialogue, word=word)
        _accounted(record, daemon, replies)
        right.verdict(record.ok, say("what became of older turns is said, and they are still there", "较早的对话有何变化有据可查，而且都还在"))


def _forgotten(record: Record) -> Card:
    """The recorded overflow, asked for by a plain client."""
    recorded = recording("overflow")
    exchanges = recorded.cases("overflow-default")
    heard = plain_client(exchanges)
    sizes = [sum(len(message["content"]) for message in exchange.request["messages"]) for exchange in exchanges]
    read = [one.read for one in heard]
    (refused,) = recorded.cases("overflow-truncate-false")
    needed = _needed(refused.last["error"])
    record.promise(sizes == sorted(set(sizes)), "the recorded dialogue grows")
    record.promise(len(set(read[1:])) == 1, "the daemon reads the same number of tokens whatever it is sent")
    record.promise(not any(one.complaint for one in heard), "nothing in the recorded answers says so")
    record.facts["recorded"] = {"characters": sizes, "read": read, "needed": needed}
    left = recorded_card(recorded)
    left.say(say("POST /api/chat · a window of 256 tokens", "POST /api/chat · 窗口 256 token"), QUIET)
    rows = [(str(n), str(size), str(count)) for n, (size, count) in enumerate(zip(sizes, read, strict=True), 1)]
    left.table((say("turn", "轮次"), say("characters sent", "发送字符"), say("tokens read", "读取 token")), rows)
    left.gap()
    left.fact(say("turn 2 needs", "第 2 轮需要"), say(f"{needed} tokens (asked with truncate: false)", f"{needed} token（以 truncate: false 询问）"))
    left.fact(say("answers", "回答"), say("200 OK, no word about it", "200 OK，只字未提"))
    left.verdict(False, say("its beginning was dropped in silence", "开头被悄悄丢弃"))
    return left


def _needed(error: str) -> int:
    """The tokens that a refused request would have taken; the daemon says so in JSON within a string."""
    return int(json.loads(error)["error"]["n_prompt_tokens"])


def _receipt(number: int, reply: Reply) -> tuple[str, str, str]:
    used, window = reply.receipt.used, reply.receipt.window
    return str(number), f"{used} / {window}", str(_away(reply) or "–")


def _away(reply: Reply) -> int:
    """The older turns that did not stand in the prompt word for word."""
    return reply.receipt.compacted + reply.receipt.dropped


def _remembered(right: Card, record: Record, orchestra: Orchestra, dialogue: Session, *, word: str) -> None:
    """The first message: still in the session, and found by its words."""
    history = dialogue.history
    hits = orchestra.store.search(word)
    kept = record.promise(bool(history) and word in history[0].question, "the first message is still in the session")
    found = record.promise(any(word in hit.text and hit.session == "cat" for hit in hits), "the first message is found by a search")
    record.facts |= {"turns": len(history), "first": history[0].question if history else "", "hits": len(hits)}
    right.gap()
    right.fact(say("turn 1", "第 1 轮"), say("still in the session", "仍在会话中") if kept else "?")
    right.fact(f"sessions search {word}", f"“{hits[0].text}”" if found else "?")


def _accounted(record: Record, daemon: StandIn, replies: list[Reply]) -> None:
    """The receipts are compared with what was really sent."""
    sent = [sum(message["role"] == "user" for message in body["messages"]) for body in _questions(daemon)]
    said = [number - _away(reply) for number, reply in enumerate(replies, 1)]
    record.promise(sent == said, "the receipt counts what became of older turns")
    record.promise(all((reply.receipt.used or WINDOW + 1) <= WINDOW for reply in replies), "no answer passes the window")
    record.promise(_away(replies[-1]) > 0, "the dialogue outgrows the window")
    record.promise(all(body.get("truncate") is False for body in daemon.asked("/api/chat")), "the daemon is told not to cut")
    record.facts |= {
        "window": WINDOW,
        "used": [reply.receipt.used for reply in replies],
        "summarised": [reply.receipt.compacted for reply in replies],
        "left_out": [reply.receipt.dropped for reply in replies],
    }


def _questions(daemon: StandIn) -> list[dict[str, list[dict[str, str]]]]:
    """The requests for an answer; a summary is asked for at temperature 0, and what is only counted is not streamed."""
    return [body for body in daemon.asked("/api/chat") if body["stream"] and body["options"].get("temperature") != 0]
