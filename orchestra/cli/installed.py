"""What `models`, `show`, `pull` and `standin` do: the models of the daemon, and a daemon without any."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from orchestra.cli.outcome import Wish
from orchestra.cli.running import complete
from orchestra.cli.tables import size, table
from orchestra.cli.terminal import as_line, colourful, harmless, tell, write
from orchestra.cli.words import say
from orchestra.errors import OrchestraError, PortTaken, StandInFault, UsageError
from orchestra.instruments.inventory import inventory, kind_of, portrait
from orchestra.model.catalog import ModelCard, Progress, pull
from orchestra.model.client import Client
from orchestra.runtime import Blocking, Looped, blocking, stepping
from orchestra.settings import Settings

KINDS = {"base": ("base", "基础"), "instruct": ("instruct", "指令"), "embedding": ("embedding", "嵌入")}


def list_models(wish: Wish) -> None:
    """The installed models."""

    async def main() -> list[ModelCard]:
        return await inventory(Client(Looped(), Settings.read()))

    cards = complete(main())
    if wish.json:
        write(as_line({"models": [{**_plain(card), "kind": kind_of(card)} for card in cards]}) + "\n")
        return
    if not cards:
        tell(say("no model is installed; bring one: orchestra pull llama3", "尚未安装模型；可运行：orchestra pull llama3"))
        return
    headers = (
        say("NAME", "名称"), say("SIZE", "大小"), say("PARAMETERS", "参数"), say("QUANTIZATION", "量化"),
        say("CONTEXT", "上下文"), say("KIND", "类型"), say("LOADED", "已加载"),
    )  # fmt: skip
    table(headers, [_row(card) for card in cards])


def _plain(card: ModelCard) -> dict[str, Any]:
    from orchestra.cli.terminal import plain

    whole: dict[str, Any] = plain(card)
    return whole


def _row(card: ModelCard) -> tuple[str, ...]:
    loaded = (str(card.window) if card.window else say("yes", "是")) if card.loaded else "-"
    context = str(card.context) if card.context else "-"
    return (card.name, size(card.size), card.parameters, card.quantization, context, say(*KINDS[kind_of(card)]), loaded)


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


# --- pull


class _Puller:
    """The sync face of a pull: Ctrl-C ends a read in this thread at once, where a worker's would go on."""

    def __init__(self, client: Client) -> None:
        self._core = client

    steps = stepping(pull)
    version = blocking(Client.version)


def pull_model(name: str, wish: Wish) -> None:
    """Bring a model in. An interrupted pull goes on where it stopped."""
    puller = _Puller(Client(Blocking(), Settings.read()))
    puller.version()  # nobody there is said before anything is drawn
    try:
        with closing(puller.steps(name)) as steps, _progress(wish) as show:
            for step in steps:
                show(step)
    except KeyboardInterrupt:
        tell(say(f"stopped; `orchestra pull {name}` goes on from here", f"已停止；再次运行 `orchestra pull {name}` 会从此处继续"))
        raise
    if wish.json:
        write(as_line({"model": name, "status": "success"}) + "\n")


@contextmanager
def _progress(wish: Wish) -> Iterator[Callable[[Progress], None]]:
    """Where the steps of a pull are shown: a bar where a person looks, else a line for each new status."""
    if colourful(sys.stderr) and not wish.json:
        with _bar() as show:
            yield show
        return
    last = ""

    def line(step: Progress) -> None:
        nonlocal last
        if step.status != last and not wish.json:
            tell(f"{step.status} ({size(step.total)})" if step.total else step.status)
        last = step.status

    yield line


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    """One bar: that of the largest layer so far; the small ones pass unseen."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True, highlight=False)) as bar:
        tasks: dict[str, Any] = {}
        sizes: dict[Any, int] = {}

        def show(step: Progress) -> None:
            if not step.digest:
                bar.console.print(harmless(step.status), markup=False, style="dim")
                return
            if step.digest not in tasks:
                tasks[step.digest] = bar.add_task(harmless(step.status), total=step.total or None)
                sizes[tasks[step.digest]] = step.total
                largest = max(sizes, key=lambda task: sizes[task])
                for task in sizes:
                    bar.update(task, visible=task == largest)
            bar.update(tasks[step.digest], completed=step.completed, total=step.total or None)

        yield show


# --- the stand-in


def stand_in(wish: Wish, *, port: int, models: list[str] | None, **how: Any) -> None:
    """Run the stand-in daemon until Ctrl-C."""
    from orchestra.standin.daemon import StandIn

    try:
        daemon = StandIn(port=port, models=models, **how)
        daemon.start()
    except (OSError, OverflowError) as error:
        raise PortTaken(port=port, detail=getattr(error, "strerror", None) or str(error)) from None
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
