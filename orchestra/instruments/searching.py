"""Which search services can be asked, and which of them answer from here.

Without being told to, `doctor` asks none of them: a question to a search service leaves this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from orchestra.errors import OrchestraError
from orchestra.instruments.check import NOTHING, Check, failed
from orchestra.retrieval.available import FILE, line_of, variable_of
from orchestra.retrieval.cache import Cache
from orchestra.retrieval.offline import TEXTS
from orchestra.retrieval.passages import Attempt, SearchProvider
from orchestra.retrieval.search import Policy, Searches, leaves, service_of
from orchestra.runtime import Runtime
from orchestra.settings import Settings
from orchestra.texts import Words, interface_language

WORD = "water"  # what is asked: it says nothing about whoever asks
PATIENCE = 5.0  # seconds for all of them, side by side
_OTHERS = Words(
    "--search offline needs no network; a SearXNG (ORCHESTRA_SEARXNG) or, in mainland China, Bocha (ORCHESTRA_BOCHA_KEY) may answer",
    "--search offline 无需网络；也可使用 SearXNG（ORCHESTRA_SEARXNG），中国大陆可用博查（ORCHESTRA_BOCHA_KEY）",
)


def ready_ones(settings: Settings) -> list[Check]:
    """What is looked into, in order; nobody is asked."""
    try:
        providers = _providers(settings)
    except OrchestraError as error:
        return [failed("search", error)]
    names = [provider.name for provider in providers if leaves(provider)]
    texts = _texts(settings)
    if not providers:
        detail = Words("none, as ORCHESTRA_SEARCH says", "未启用（ORCHESTRA_SEARCH 设为 none）")
        return [Check(name="search", ok=True, detail=detail)]
    web, web_zh = (
        (f"in this order: {', '.join(names)}; whether they answer: `orchestra doctor --search`, which sends them the word {WORD!r}; ",
         f"依次为 {'、'.join(names)}；`orchestra doctor --search` 可查看哪些应答（会向它们发送单词 {WORD!r}）；")
        if names else ("", "")
    )  # fmt: skip
    return [
        Check(
            name="search",
            ok=texts > 0,
            detail=Words(f"{web}offline: {texts} texts, no network needed", f"{web_zh}offline：{texts} 篇短文，无需网络"),
            fix=NOTHING if texts else Words("install Orchestra again: its texts are missing", "请重新安装：自带短文缺失"),
        )
    ]


async def asked(settings: Settings, runtime: Runtime) -> list[Check]:
    """What each service that is set up answers, and in what time: one word, all of them at once."""
    try:
        providers = [provider for provider in await runtime.call(partial(_providers, settings)) if leaves(provider)]
    except OrchestraError as error:
        return [failed("search", error)]
    policy = Policy(patience=PATIENCE, age=0.0, language=interface_language())
    line = Searches([providers], runtime=runtime, cache=Cache(settings.folder() / FILE), policy=policy)
    attempts = (await line.retrieve([WORD], results=1, language="en")).attempts if providers else ()
    return [_together(attempts), *(_one(each, provider) for each, provider in zip(attempts, providers, strict=True))]


def _providers(settings: Settings) -> list[SearchProvider]:
    """What would be asked; where nothing was chosen, also what was set up and is asked by its name alone."""
    found = [provider for step in line_of(settings) for provider in step]
    if settings.google_key and settings.google_engine and not settings.search:
        found += [provider for step in line_of(settings, "google") for provider in step]
    return found


def _texts(settings: Settings) -> int:
    folder = Path(settings.texts).expanduser() if settings.texts else TEXTS
    return sum(1 for _ in folder.glob("*.md"))


def _together(attempts: Sequence[Attempt]) -> Check:
    answered = [attempt for attempt in attempts if _well(attempt)]
    sent, sent_zh = f"each was asked for {WORD!r}", f"查询词为 {WORD!r}"
    if answered:
        times = ", ".join(f"{each.name} ({each.seconds:.1f} s)" for each in sorted(answered, key=lambda each: each.seconds))
        return Check(name="search", ok=True, detail=Words(f"answer from here: {times}; {sent}", f"可用：{times}；{sent_zh}"))
    none = Words(f"no search service answers from here; {sent}", f"当前网络下没有可用的搜索服务；{sent_zh}")
    return Check(name="search", ok=False, detail=none, fix=_OTHERS)


def _one(attempt: Attempt, provider: SearchProvider) -> Check:
    name, service = f"search {attempt.name}", service_of(provider) or attempt.name
    if _well(attempt):
        detail = Words(f"{service} answered in {attempt.seconds:.1f} s", f"{service} 在 {attempt.seconds:.1f} 秒内应答")
        return Check(name=name, ok=True, detail=detail)
    variable = variable_of(attempt.name)
    fixes = {
        "key_refused": Words(f"set {variable} to a valid key", f"请将 {variable} 设为有效的密钥"),
        "rate_limited": Words("leave it alone for a while; --search takes another one", "请稍后再试；可用 --search 换一个"),
        "skipped": Words("leave it alone for a while; --search takes another one", "请稍后再试；可用 --search 换一个"),
    }
    proxy = Words("if it is not reachable from here: HTTPS_PROXY, or --search with another one", "若当前网络无法访问：设置 HTTPS_PROXY，或用 --search 换一个")
    return Check(name=name, ok=False, detail=Words(attempt.error, attempt.error), fix=fixes.get(attempt.outcome, proxy))


def _well(attempt: Attempt) -> bool:
    return attempt.outcome in ("found", "nothing")
