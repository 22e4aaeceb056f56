"""What `sessions` does: the stored dialogues, listed, read, found, copied, carried away and brought back."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestra.cli.outcome import Wish
from orchestra.cli.sources import ground_below
from orchestra.cli.tables import moment, table
from orchestra.cli.terminal import as_line, colourful, harmless, tell, unseen, write
from orchestra.cli.tracing import one_line
from orchestra.cli.tree import tree_below
from orchestra.cli.words import note, say
from orchestra.errors import ImportInvalid, SessionMissing, StoreFault, UsageError
from orchestra.errors.system import why
from orchestra.retrieval.ledger import NO_SOURCES
from orchestra.sessions.export import LONGEST_LINE, about, export_json, export_jsonl, export_markdown, import_jsonl
from orchestra.sessions.records import Compaction, SessionRecord, Turn, storable, timestamp
from orchestra.sessions.segments import leaders, numbers
from orchestra.sessions.store import Store
from orchestra.sessions.summaries import compactions
from orchestra.settings import Settings

STATUSES = {
    "open": ("being answered", "正在回答"),
    "interrupted": ("interrupted", "已中断"),
    "failed": ("failed", "失败"),
}


def opened() -> Store:
    """The store of this user."""
    settings = Settings.read()
    return Store(settings.folder(), timeout=settings.store_timeout)


def list_sessions(wish: Wish) -> None:
    """All dialogues, the one with the newest turn first."""
    with opened() as store:
        records = store.sessions()
    if wish.json:
        write(as_line({"sessions": [about(record) for record in records]}) + "\n")
    elif not records:
        tell(say('there is no dialogue yet; begin one: orchestra chat "..."', '还没有会话；可运行：orchestra chat "..."'))
    else:
        headers = say("NAME", "名称"), say("TURNS", "轮数"), say("CHANGED", "更新时间"), say("PERSONA", "角色"), say("BEGINS", "开头")
        table(headers, [(r.name, str(r.turns), moment(r.changed), r.persona or "-", r.title or r.first) for r in records])


def show(name: str, wish: Wish, *, trace: bool = False) -> None:
    """One dialogue, without a name the last one; with the tree of what happened before each answer, where it is wanted."""
    with opened() as store:
        record = store.session(name or last_name(store))
        if not wish.json:
            tell(" · ".join(part for part in (record.name, "auto" if record.auto else record.persona, record.model) if part))
            draw(store, record, trace=trace)
            return
        whole = export_json(store, record.id)
    write(as_line(whole) + "\n")


def draw(store: Store, record: SessionRecord, *, trace: bool = False) -> None:
    """The turns of a dialogue for people: its segments, what stands as a summary by now, and with `trace` the steps before each answer."""
    said = store.history(record.id)
    summaries, headings = _summaries(store, record, said), _headings(record, said)
    for turn in said:
        write(headings.get(turn.id, ""))
        write(_bold(harmless(f"> {turn.question}\n")) if turn.question else "")
        if trace:
            tree_below((turn.ground or {}).get("trace"), task=turn.question)
        ended = STATUSES.get(turn.status)
        write(harmless(turn.answer) + (f" [{say(*ended)}]" if ended else "") + "\n")
        ground_below(turn.ground or {})
        write("".join(f"! {one_line(note(told))}\n" for told in _lacks(turn)) + "\n")
        if turn.id in summaries:
            write(_marked(summaries[turn.id], part=record.auto))


def _summaries(store: Store, record: SessionRecord, said: Sequence[Turn]) -> dict[str, Compaction]:
    """The summaries of a dialogue by the id of the last turn that they stand for."""
    made = [each for each in compactions(store, record.id) if each.fault is None]
    return {turn.id: each for turn in said for each in made if each.turn == turn.id}


def _lacks(turn: Turn) -> list[str]:
    """The notes of a turn that say what its answer lacks: sources, the part of an expert."""
    notes = (turn.receipt or {}).get("notes") or ()
    return [told for told in notes if isinstance(told, str) and (told == NO_SOURCES or told.startswith("missing: "))]


def _headings(record: SessionRecord, said: Sequence[Turn]) -> dict[str, str]:
    """The line above each turn (by its id) with which a segment begins, or is taken up again."""
    found: dict[str, str] = {}
    seen: list[int] = []
    for turn, who, number in zip(said, leaders(said), numbers(record, said), strict=True):
        if record.auto and number != (seen or [0])[-1]:
            name, when = one_line(who) or "-", moment(turn.created)
            back = say(f"back to segment {number}: ", f"回到第 {number} 段：") if number in seen else ""
            found[turn.id] = f"=== {back or say(f'segment {number}: ', f'第 {number} 段：')}{name} · {when}\n\n"
        seen.append(number)
    return found


def _marked(made: Compaction, *, part: bool) -> str:
    """The line under the last turn that stands as a summary; `part`: only those of its segment do."""
    text = one_line(made.text)
    if part:
        return say(
            f"--- the turns of this segment up to here stand as a summary from here on: {text}\n\n",
            f"--- 本段到此为止的各轮此后以摘要代替：{text}\n\n",
        )
    return say(
        f"--- turns 1 to {made.turns} stand as a summary from here on: {text}\n\n",
        f"--- 第 1 至 {made.turns} 轮此后以摘要代替：{text}\n\n",
    )


def last_name(store: Store) -> str:
    """The dialogue in which something was said last."""
    records = store.sessions()
    if not records:
        raise UsageError(
            detail="there is no dialogue yet",
            detail_zh="还没有会话",
            fix='begin one: orchestra chat "..."',
            fix_zh='请先开始一个：orchestra chat "..."',
        )
    return records[0].name


def stored_in(store: Store, name: str | None, question: str) -> str:
    """`name` where the last turn of that session is this question's; empty where it was left before it was there."""
    with suppress(StoreFault, SessionMissing):
        last = store.history(name, last=1) if name else []
        if name and last and last[0].question == storable(question):
            return name
    return ""


def _bold(text: str) -> str:
    return f"\x1b[1m{text.rstrip()}\x1b[0m\n" if colourful(sys.stdout) else text


def search(words: str, limit: int, wish: Wish) -> None:
    """Messages with these words, best first."""
    with opened() as store:
        hits = store.search(words, limit=limit)
    if wish.json:
        found = [{"session": h.session, "role": h.role, "text": h.text, "turn": h.turn, "created": timestamp(h.created)} for h in hits]
        write(as_line({"hits": found}) + "\n")
    elif not hits:
        tell(say(f"nothing was found for {words!r}", f"没有找到 {words!r}"))
    else:
        headers = say("SESSION", "会话"), say("TIME", "时间"), say("WHO", "谁"), say("TEXT", "内容")
        table(headers, [(h.session, moment(h.created), h.role, h.text) for h in hits])


def fork(name: str, new: str, at: int | None, wish: Wish) -> None:
    """A new dialogue that shares this one's past."""
    with opened() as store:
        record = store.fork(name, new or None, at=at)
    _done({"session": record.name, "from": name, "turns": record.turns}, record.name, wish)


def rename(old: str, new: str, wish: Wish) -> None:
    """Another name."""
    with opened() as store:
        record = store.rename(old, new)
    _done({"session": record.name, "before": old}, record.name, wish)


def delete(names: Sequence[str], *, yes: bool, wish: Wish) -> int:
    """Remove dialogues, all that were named or none; asks first, and without a terminal wants to be told."""
    with opened() as store:
        records = list({record.id: record for record in map(store.session, names)}.values())
        if not yes and not _agreed(records):
            tell(say("nothing was deleted", "未删除任何会话"))
            return 1
        for record in records:
            store.delete(record.id)
    deleted = [record.name for record in records]
    _done({"deleted": deleted}, "\n".join(deleted), wish)
    return 0


def _agreed(records: Sequence[SessionRecord]) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            detail="nobody is there to ask whether to delete", detail_zh="无法在此处询问是否删除", fix="add --yes", fix_zh="请加上 --yes"
        )
    turns = sum(record.turns for record in records)
    listed = harmless(", ".join(record.name for record in records))
    question = say(f"Delete {listed} ({turns} turns)? [y/N] ", f"删除 {listed}（{turns} 轮）？[y/N] ")
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes", "是")


# --- files


def export(name: str, form: str, file: str, wish: Wish) -> None:
    """A dialogue as JSON lines or Markdown, to standard output or into a new file."""
    with opened() as store:
        text = "".join(export_jsonl(store, name)) if form == "jsonl" else export_markdown(store, name)
    if file:
        _written(Path(file), text)
        _done({"session": name, "format": form, "file": file}, file, wish)
    elif wish.json:
        write(as_line({"session": name, "format": form, "text": text}) + "\n")
    else:
        write(unseen(text) if form == "jsonl" else harmless(text))


def _written(path: Path, text: str) -> None:
    """A new file that only its owner can read. One that is there is never written over."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
    except OSError as error:
        raise _refused(path, error) from None


def backup(file: str, wish: Wish) -> None:
    """The whole store in one file, while others go on writing."""
    path = Path(file)
    try:
        path.open("xb").close()
        path.unlink()  # only whether it could be made: the store makes it itself
    except OSError as error:
        raise _refused(path, error) from None
    with opened() as store:
        store.database.backup(path)
    _done({"file": file, "bytes": path.stat().st_size}, file, wish)


def restore(file: str, name: str, wish: Wish) -> None:
    """A dialogue from an exported file, all of it or nothing; - reads standard input."""
    with opened() as store:
        record = import_jsonl(store, _lines(file), name=name or None, source=file)
    _done({"session": record.name, "turns": record.turns}, record.name, wish)


def _lines(file: str) -> Iterator[str]:
    """The lines of a file, ended by byte 0x0A alone; one that is too long comes cut, so that it is refused."""
    try:
        source = sys.stdin.buffer if file == "-" else Path(file).open("rb")  # noqa: SIM115 - standard input stays open
        with source:
            for number, raw in enumerate(iter(lambda: source.readline(LONGEST_LINE + 2), b""), start=1):
                try:
                    yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    detail = f"not UTF-8 (byte {error.start} of the line)"
                    raise ImportInvalid(path=file, line=number, detail=detail) from None
    except OSError as error:
        raise _refused(Path(file), error) from None


def _refused(path: Path, error: OSError) -> UsageError:
    reason = why(error)
    return UsageError(
        detail=f"{path}: {reason.en}", detail_zh=f"{path}：{reason.zh}", fix="name another file", fix_zh="请换一个文件"
    )


def _done(whole: dict[str, Any], line: str, wish: Wish) -> None:
    write(as_line(whole) + "\n" if wish.json else harmless(line) + "\n")
