"""`--trace`: what is looked up for an answer, told as it happens; others see only that there is a search."""

from __future__ import annotations

from orchestra.cli.outcome import Wish
from orchestra.cli.running import Patience
from orchestra.cli.terminal import as_line, harmless, plain, tell, write
from orchestra.cli.words import note, say
from orchestra.retrieval.ledger import Event, Hit
from orchestra.retrieval.passages import Attempt


def traced(event: Event, *, patience: Patience, shown: bool, wish: Wish) -> None:
    """One entry of the ledger as it is made: a line on stderr, or with --json --stream an object."""
    if event.what == "searching":
        patience.observe("searching")
    if not shown:
        return
    if wish.json:
        if wish.stream:
            write(as_line({"trace": {name: value for name, value in plain(event._asdict()).items() if value}}) + "\n")
        return
    patience.clear()
    tell(_told(event))


def one_line(text: str) -> str:
    """Somebody's text as one line that no terminal acts on."""
    return " ".join(harmless(text).split())


def _told(event: Event) -> str:
    if event.attempt is not None:
        return _attempted(event.attempt)
    if event.hit is not None:
        return _hit(event.hit)
    text = one_line(event.text)
    return {
        "no search": say("nothing to look up", "无需查找"),
        "rewritten": say(f"as a question of its own: {text}", f"完整问题：{text}"),
        "draft": say(f"draft: {text}", f"草稿：{text}"),
        "keywords": say(f"keywords: {text}", f"关键词：{text}"),
        "searching": say(f"searching: {text}", f"查找：{text}"),
        "again": say(f"not enough ({note(text)}); once more, with keywords", f"资料不足（{note(text)}），用关键词再查一次"),
    }.get(event.what, text)


def _attempted(attempt: Attempt) -> str:
    outcome = {
        "found": say(f"{attempt.hits} hits", f"{attempt.hits} 条结果"),
        "nothing": say("nothing", "没有结果"),
        "rate_limited": say("takes no more questions for now", "暂时不再接受查询"),
        "unreachable": say("does not answer", "没有应答"),
        "key_refused": say("does not accept the key", "不接受密钥"),
        "skipped": say("not asked", "未询问"),
    }.get(attempt.outcome, say("failed", "失败"))
    kept = say(", kept from before", "，来自缓存") if attempt.cached else ""
    why = f" ({one_line(attempt.error)})" if attempt.error else ""
    return f"  {attempt.name}: {outcome} · {attempt.seconds:.2f} s{kept}{why}"


def _hit(hit: Hit) -> str:
    where = f", {one_line(hit.place)}" if hit.place else ""
    name = f"{one_line(hit.title)}{where}  {one_line(hit.url)}"
    if not hit.why:
        return say(f"  + kept: {name}", f"  + 采用：{name}")
    return say(f"  - dropped: {name} ({hit.why})", f"  - 舍弃：{name}（{_why(hit.why)}）")


def _why(why: str) -> str:
    """A ledger's reason in Chinese; its numbers are the same."""
    numbers = "".join(filter(str.isdigit, why))
    reasons = {
        "beyond": f"超出前 {numbers} 条", "more than": f"同一地址超过 {numbers} 条", "no room": f"{numbers} token 内放不下",
        "nearly the same": "与更靠前的一条几乎相同", "no text": "没有文字",
    }  # fmt: skip
    return next((zh for en, zh in reasons.items() if why.startswith(en)), why)
