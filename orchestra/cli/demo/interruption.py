"""kill -9 in mid-answer: a process of its own is really killed, and the session goes on where it stopped."""

from __future__ import annotations

import codecs
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from orchestra.api import Orchestra
from orchestra.cli.demo.recorded import recording
from orchestra.cli.demo.scenes import recorded_card
from orchestra.cli.demo.stage import QUIET, Card, Stage
from orchestra.cli.demo.world import COMMAND, Record, World
from orchestra.cli.words import say
from orchestra.sessions.records import Turn
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn

PACE = 0.04  # seconds a word of the stand-in
KILL_AFTER_SECONDS = (2.2, 0.2, 0.0, 0.0)  # an answer that was over by then is asked for again, and killed sooner
KILL_AFTER_CHARACTERS = 400
UNPACED_SECONDS = 1.5
SAFE_SECONDS = 1.0
PATIENCE_SECONDS = 180.0


@dataclass(slots=True)
class Screen:
    """What a person saw of a process before it was killed: text and the moments at which it came."""

    seen: list[tuple[float, str]] = field(default_factory=list)
    code: int | None = None
    killed: float = 0.0

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(text for _, text in self.seen)

    def before(self, moment: float) -> str:
        """What had come by then."""
        return "".join(text for when, text in self.seen if when <= moment)

    def reached(self, length: int) -> float:
        """The moment from which on more than so many characters were there; that of the kill where there never were."""
        total = 0
        for when, text in self.seen:
            total += len(text)
            if total > length:
                return when
        return self.killed


def interruption(stage: Stage, world: World, record: Record) -> None:
    """A process that is killed in mid-answer loses nothing; the next turn goes on."""
    left, right = _gone(record), Card("Orchestra", _origin(world), live=True)
    question = say("Tell me a long story about a garden.", "请讲一个关于花园的长故事。")
    with world.daemon(0.0) as (url, standin), stage.shown(left, right) as redraw:
        right.say(f'orchestra chat "{question}"', QUIET)
        grow = right.quote("", dim=world.stand_in, lines=4, tail=True)

        def update(text: str) -> None:
            grow(text)
            redraw()

        environment = world.environment(record.name, url)
        screen = Screen()
        for seed, seconds in enumerate(KILL_AFTER_SECONDS, 7):
            if standin:
                standin.script(Scripted(story(), pace=PACE))
            after = seconds if world.paced else min(seconds, UNPACED_SECONDS)
            screen = _killed(["chat", question, "--session", "demo", "--seed", str(seed)], environment, update, after=after)
            if screen.killed and screen.code != 0:
                break
        right.gap()
        right.fact("kill -9", say(f"after {_lasted(screen):.1f} s of words", f"输出 {_lasted(screen):.1f} 秒后"))
        redraw()
        stage.pause(0.8)
        turn = kept(right, record, world.settings(record.name, url), screen)
        redraw()
        stage.pause(0.8)
        _goes_on(right, record, environment, turn, standin)
        right.verdict(record.ok, say("kept up to the last second; the session goes on", "保留到最后一秒，会话继续"))


def story() -> str:
    """What the stand-in says, so long that it is never over before the kill."""
    return say(
        "Behind the old house there was a garden that nobody had looked after for years. Ivy covered the wall, the "
        "pond had dried up, and only one apple tree still bloomed in spring. Then a girl moved in who liked to get up "
        "early. First she cut a path to the tree, then she dug out the pond and waited for rain. By the second summer "
        "there were frogs, and by the third the neighbours came on Sundays, brought cake, and stayed until it was dark.",
        "老屋后面有一座花园，多年无人照看。墙上爬满常春藤，池塘早已干涸，只有一棵苹果树每到春天还会开花。后来，一个喜欢早起的女孩"
        "搬了进来。她先清出一条通向苹果树的小路，再把池塘挖深，等着下雨。第二年夏天，池塘里有了青蛙；到了第三年，邻居们每逢星期天"
        "都会带着点心过来，一直坐到天黑才回家。",
    )


def _origin(world: World) -> str:
    return say("live, over the stand-in", "实时运行，替身服务") if world.stand_in else say(f"live, {world.model}", f"实时运行，{world.model}")


def _gone(record: Record) -> Card:
    """The recorded daemon whose client leaves in mid-answer."""
    recorded = recording("disconnect")
    before, broken, after = recorded.exchanges
    text = "".join(json.loads(line)["response"] for line in broken.lines)
    counts = [exchange.last["prompt_eval_count"] for exchange in (before, after)]
    record.promise(counts[0] == counts[1], "the recorded daemon keeps nothing of an answer that was left")
    record.facts["recorded"] = {"lines": len(broken.lines), "text": text, "read_before": counts[0], "read_after": counts[1]}
    left = recorded_card(recorded)
    left.say(f"{broken.method} {broken.path}", QUIET)
    left.quote(text, dim=True)
    left.gap()
    left.fact(say("the client", "客户端"), say(f"is gone after {len(broken.lines)} pieces", f"收到 {len(broken.lines)} 段后消失"))
    left.fact(say("the daemon", "Ollama"), say("ends the work, keeps no word", "停止生成，一个字也不保留"))
    left.fact(say("asked again", "再次提问"), say(
        f"it reads {counts[1]} tokens, as before ({counts[0]})", f"读取 {counts[1]} token，与之前（{counts[0]}）相同"
    ))  # fmt: skip
    left.verdict(False, say("gone with the client", "随客户端一起消失"))
    return left


@contextmanager
def _process(arguments: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """An `orchestra` of its own, which never outlives the block."""
    quiet = subprocess.DEVNULL
    child = subprocess.Popen([*COMMAND, *arguments], env=environment, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet)
    # a daemon that never answers must not hold the demo for ever
    guard = threading.Timer(PATIENCE_SECONDS, child.kill)
    guard.daemon = True
    guard.start()
    try:
        yield child
    finally:
        guard.cancel()
        child.kill()
        child.wait()
        if child.stdout:
            child.stdout.close()


def _killed(arguments: list[str], environment: dict[str, str], update: Callable[[str], None], *, after: float) -> Screen:
    """Lets the process speak for `after` seconds, then kills it as `kill -9` does. Not `killed`: it had ended by itself."""
    screen = Screen()
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    with _process(arguments, environment) as child:
        assert child.stdout is not None
        while data := os.read(child.stdout.fileno(), 4096):
            now = time.monotonic()
            screen.seen.append((now, decode(data)))
            update(screen.text)
            if now - screen.seen[0][0] >= after or len(screen.text) >= KILL_AFTER_CHARACTERS:
                screen.killed = time.monotonic()
                child.kill()
                break
        screen.code = child.wait()
    return screen


def _lasted(screen: Screen) -> float:
    return screen.killed - screen.seen[0][0] if screen.seen and screen.killed else 0.0


def kept(right: Card, record: Record, settings: Settings, screen: Screen) -> Turn | None:
    """What the session "demo" holds after the kill, compared with what was on screen."""
    with Orchestra(settings=settings) as orchestra:
        history = orchestra.store.history("demo") if orchestra.store.find("demo") else []
    turn = history[-1] if history else None
    safe = screen.before(screen.killed - SAFE_SECONDS)
    answer = turn.answer if turn else ""
    record.promise(screen.killed > 0 and screen.code not in (0, None), "the process is killed in mid-answer")
    record.promise(turn is not None and bool(turn.question), "the question is in the session")
    record.promise(answer.startswith(safe.rstrip("\n")), "what was on screen a second before is in the session")
    record.promise(answer.startswith(screen.text) or screen.text.startswith(answer), "the session holds what was streamed and nothing else")
    record.promise(turn is not None and turn.status == "interrupted", "the turn is marked interrupted")
    record.facts |= {
        "exit_code": screen.code, "streamed": len(screen.text), "kept": len(answer), "status": turn.status if turn else None,
        "streaming_seconds": round(_lasted(screen), 3),
    }  # fmt: skip
    late = screen.killed - screen.reached(len(answer)) if screen.killed else 0.0
    record.facts["unkept_seconds"] = round(late, 3)
    right.fact(say("on screen", "屏幕上"), say(f"{len(screen.text)} characters", f"{len(screen.text)} 字"))
    right.fact(say("in the session", "会话中"), say(f"{len(answer)} of them, and the question", f"其中 {len(answer)} 字，以及问题"))
    right.fact(say("lost", "丢失"), say(f"the last {late:.1f} s", f"最后 {late:.1f} 秒") if late else say("nothing", "无"))
    right.fact(say("marked", "标记"), turn.status if turn else "?")
    return turn


def _goes_on(right: Card, record: Record, environment: dict[str, str], turn: Turn | None, standin: StandIn | None) -> None:
    """The next turn of the same session, in another process."""
    message = say("Please go on.", "请继续。")
    with _process(["chat", message, "--session", "demo", "--max-tokens", "24", "--seed", "7", "--json"], environment) as child:
        assert child.stdout is not None
        said = _object(child.stdout.read())
        code = child.wait()
    went = record.promise(code == 0 and bool(said.get("text")), "the next turn is answered")
    usage = said.get("usage") or {}
    record.facts |= {"next": said.get("finish_reason"), "prompt_tokens": usage.get("prompt_tokens")}
    read = usage.get("prompt_tokens")
    shown = say(f"answered, {read} tokens read", f"已回答，读取 {read} token") if went else "?"
    if standin is not None and turn is not None:  # only the stand-in tells what it was asked
        messages = standin.asked("/api/chat")[-1]["messages"]
        roles = [one["role"] for one in messages]
        known = roles == ["user", "assistant", "user"] and messages[1]["content"] == turn.answer
        if record.promise(known, "the next prompt holds the broken answer"):
            shown = say(f"reads {read} tokens, the broken answer too", f"读取 {read} token，含中断的回答")
    right.fact(say("next turn", "下一轮"), shown)


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
