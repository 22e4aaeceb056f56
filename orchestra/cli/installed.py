"""What `models`, `show` and `standin` do: the models of the daemon, and a daemon without any."""

from __future__ import annotations

import signal
import threading
from typing import Any

from orchestra.cli.outcome import Wish
from orchestra.cli.running import complete
from orchestra.cli.tables import size, table
from orchestra.cli.terminal import as_line, harmless, plain, tell, write
from orchestra.cli.words import say
from orchestra.errors import OrchestraError, PortTaken, StandInFault, UsageError
from orchestra.errors.system import why
from orchestra.instruments.footprint import Verdict, verdict
from orchestra.instruments.inventory import Sized, kind_of, portrait, sized
from orchestra.instruments.machine import Machine, look
from orchestra.instruments.surroundings import is_here
from orchestra.model.catalog import unload
from orchestra.model.client import Client
from orchestra.runtime import Looped
from orchestra.settings import Settings

VERDICTS = {"fits": ("fits", "放得下"), "tight": ("tight", "勉强"), "too big": ("too big", "放不下"), "unknown": ("?", "?")}
DIMENSIONS = {"data": "场景数据", "input": "输入长度", "efficiency": "参数效率", "quantization": "量化程度"}
KINDS = {"base": ("base", "基础"), "instruct": ("instruct", "指令"), "embedding": ("embedding", "嵌入")}


def list_models(wish: Wish, *, context: int) -> None:
    """The installed models, with the memory that each takes at `context` tokens."""

    async def main() -> tuple[list[Sized], Machine, str]:
        client = Client(Looped(), Settings.read())
        found = await sized(client, context)
        return found, look(), client.connection.url

    found, machine, url = complete(main())
    here = is_here(url)
    verdicts = [verdict(each.footprint.needed, machine, loaded=each.card.loaded) if here else "unknown" for each in found]
    if wish.json:
        rows = [_described(each, how) for each, how in zip(found, verdicts, strict=True)]
        write(as_line({"models": rows, "machine": _measured(machine) if here else None}) + "\n")
        return
    if not found:
        tell(say("no model is installed; bring one: orchestra pull llama3", "尚未安装模型；可运行：orchestra pull llama3"))
        return
    headers = (
        say("NAME", "名称"), say("SIZE", "大小"), say("PARAMS", "参数"), say("QUANT", "量化"),
        say("CONTEXT", "上下文"), say("KIND", "类型"), say("MEMORY", "内存"), say("LOADED", "已加载"),
    )  # fmt: skip
    table(headers, [_row(each, how) for each, how in zip(found, verdicts, strict=True)])
    if not here:
        tell(say("the daemon is on another machine: whether a model fits there is not known", "Ollama 在另一台机器上：无法判断模型是否放得下"))


def _described(each: Sized, how: Verdict) -> dict[str, Any]:
    card, taken = each
    memory = {**plain(taken), "needed": taken.needed}
    return {**plain(card), "kind": kind_of(card), "memory": memory, "fits": _fits(how), "verdict": how}


def _fits(how: Verdict) -> bool | None:
    return None if how == "unknown" else how != "too big"


def _measured(machine: Machine) -> dict[str, int]:
    return {"memory": machine.total, "available": machine.available, "vram": machine.vram}


def _row(each: Sized, how: Verdict) -> tuple[str, ...]:
    card, taken = each
    loaded = (str(card.window) if card.window else say("yes", "是")) if card.loaded else "-"
    context = str(card.context) if card.context else "-"
    kind = ", ".join([say(*KINDS[kind_of(card)]), *(name for name in card.capabilities if name not in ("completion", "embedding"))])
    memory = f"{size(taken.needed)} {say(*VERDICTS[how])}"
    return (card.name, size(card.size), card.parameters, card.quantization, context, kind, memory, loaded)


def unload_model(name: str, wish: Wish) -> None:
    """Take a model out of the daemon's memory."""

    async def main() -> bool:
        return await unload(Client(Looped(), Settings.read()), name)

    was_loaded = complete(main())
    if wish.json:
        write(as_line({"model": name, "was_loaded": was_loaded}) + "\n")
    elif was_loaded:
        tell(say(f"{name} is no longer in memory", f"{name} 已从内存中卸载"))
    else:
        tell(say(f"{name} was not loaded", f"{name} 未加载"))


def recommend(wish: Wish, *, work: str, language: str, context: int | None) -> None:
    """Which model for which work, the best first, with a reason in each dimension."""
    from orchestra.instruments.recommendation import WINDOWS, Recommendation, candidates, recommended

    if work not in WINDOWS:
        raise _no_choice("--for", work, tuple(WINDOWS))
    if language not in ("zh", "en"):
        raise _no_choice("--lang", language, ("zh", "en"))
    window = context or WINDOWS[work]

    async def main() -> list[Recommendation]:
        settings = Settings.read()
        client = Client(Looped(), settings)
        found = candidates(await sized(client, window), work, window, max(1, settings.parallel))
        machine = look() if is_here(client.connection.url) else Machine()
        return recommended(found, machine, work=work, language=language, context=window)

    advice = complete(main())
    if wish.json:
        write(as_line({"for": work, "lang": language, "context": window, "recommended": [_advised(each) for each in advice]}) + "\n")
        return
    for number, each in enumerate(advice, start=1):
        state = say("installed", "已安装") if each.installed else say("not installed", "未安装")
        write(f"{number}. {harmless(each.name)} ({state})\n")
        for name, reason in each.reasons.items():
            write(f"   {say(name, DIMENSIONS[name])}: {harmless(say(reason.en, reason.zh))}\n")
        write(f"   -> {harmless(each.command)}\n")


def _advised(each: Any) -> dict[str, Any]:
    return {
        "name": each.name,
        "installed": each.installed,
        "fits": _fits(each.verdict),
        "verdict": each.verdict,
        "needed": each.needed,
        "context": each.context,
        "role": each.role,
        "score": each.score,
        "reasons": {name: say(reason.en, reason.zh) for name, reason in each.reasons.items()},
        "command": each.command,
    }


def _no_choice(option: str, given: str, known: tuple[str, ...]) -> UsageError:
    choices = ", ".join(known)
    return UsageError(
        detail=f"{option} does not know {given!r}", detail_zh=f"{option} 不支持 {given!r}", fix=f"one of: {choices}", fix_zh=f"可选：{choices}"
    )


def show_model(name: str, wish: Wish) -> None:
    """What matters of one model; with --json all of it."""

    async def main() -> dict[str, Any]:
        return await portrait(Client(Looped(), Settings.read()), name)

    whole = complete(main())
    if wish.json:
        write(as_line(whole) + "\n")
        return
    loaded = say(f", loaded with {whole['window']}", f"，加载时为 {whole['window']}") if whole["window"] else ""
    facts = {
        say("name", "名称"): whole["name"],
        say("family", "系列"): whole["family"],
        say("parameters", "参数"): whole["parameters"],
        say("quantization", "量化"): whole["quantization"],
        say("size", "大小"): size(whole["size"]),
        say("context", "上下文"): f"{whole['context'] or '?'} token{loaded}",
        say("kind", "类型"): say(*KINDS[whole["kind"]]),
        say("capabilities", "能力"): ", ".join(whole["capabilities"]),
        say("stops", "停止词"): " ".join(whole["stop"]),
        say("license", "许可"): next((line for line in whole["license"].splitlines() if line.strip()), ""),
        say("system", "系统提示"): whole["system"],
        say("template", "模板"): whole["template"],
    }
    for label, value in facts.items():
        if value:
            text = harmless(str(value))
            write(f"{label}:\n  " + text.replace("\n", "\n  ") + "\n" if "\n" in text else f"{label}: {text}\n")


# --- the stand-in


def stand_in(wish: Wish, *, port: int, models: list[str] | None, **how: Any) -> None:
    """Run the stand-in daemon until Ctrl-C."""
    from orchestra.standin.daemon import StandIn

    try:
        daemon = StandIn(port=port, models=models, **how)
        daemon.start()
    except (OSError, OverflowError) as error:
        raise PortTaken(port=port, detail=why(error).en, detail_zh=why(error).zh) from None
    except StandInFault as error:
        raise _unknown_model(error) from None
    ended = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        _announce(daemon.url, wish)
        ended.wait()
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
        daemon.stop()
    tell(say(f"the stand-in has ended; requests: {len(daemon.requests)}", f"替身服务已结束；请求数：{len(daemon.requests)}"))


def _unknown_model(error: OrchestraError) -> UsageError:
    detail = str(error.facts.get("detail", error))
    return UsageError(
        detail=f"the stand-in cannot play that model: {detail}",
        detail_zh=f"替身服务不认识该模型：{detail}",
        fix="without --model it has llama3 and llama3:text",
        fix_zh="省略 --model 时提供 llama3 与 llama3:text",
    )


def _announce(url: str, wish: Wish) -> None:
    host = url.removeprefix("http://")
    if wish.json:
        write(as_line({"url": url, "OLLAMA_HOST": host}) + "\n")
    else:
        write(f"{url}\nOLLAMA_HOST={host}\n")
    tell(say("This is a stand-in for tests and the demo, no model: its words are mechanical. Ctrl-C ends it.",
             "这是用于测试和演示的替身服务，不是模型：其文字由机械程序生成。按 Ctrl-C 结束。"))  # fmt: skip
