"""What five clients show of a daemon's three troubles, plain and through Orchestra: measured, and written into both READMEs.

    python tools/clients_table.py            writes the tables from docs/clients.json
    python tools/clients_table.py measure    measures before, with every client that is here (`make clients`)

Rows of clients that are not here stay as they were measured, with the version that they were measured with.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "docs" / "clients.json"
PAGES = {"README.md": "en", "README.zh-CN.md": "zh"}
OPEN, CLOSE = "<!-- clients -->\n", "<!-- /clients -->\n"
WAYS, TROUBLES = ("plain", "through"), ("loop", "overflow", "cut")

WORDS = {
    "en": {
        "head": ["client", "", "the model repeats itself", "the dialogue outgrows the window", "the answer is cut in the middle"],
        "plain": "plain",
        "through": "**through Orchestra**",
        "endless": "{tokens:,} tokens of one sentence",
        "loop": "stopped after {tokens} tokens",
        "overflow": "{left_out} messages left out",
        "refused": "refused",
        "cut": "half an answer",
        "told": "the answer says so",
        "field": "`{reason}` in a field",
        "error": "`{error}`",
        "silent": "nothing says so",
        "and": ", ",
        "colon": ": ",
        "with": "Measured by `make clients` with {clients}, on the stand-in daemon, which loops, overflows and cuts as Ollama 0.32.15 was seen to; "
        "its window was {window} tokens (at the usual 4,096 a loop goes on for 40,960). Orchestra leaves out more, to keep room for the answer.",
    },
    "zh": {
        "head": ["客户端", "", "模型不断重复", "对话超出上下文窗口", "回答中途断掉"],
        "plain": "直连",
        "through": "**经由 Orchestra**",
        "endless": "同一句话重复 {tokens:,} 个 token",
        "loop": "{tokens} 个 token 后停止",
        "overflow": "丢掉 {left_out} 条消息",
        "refused": "拒绝",
        "cut": "半截回答",
        "told": "回答中注明",
        "field": "字段中为 `{reason}`",
        "error": "`{error}`",
        "silent": "毫无提示",
        "and": "，",
        "colon": "：",
        "with": "由 `make clients` 实测：{clients}；服务端是替身，其重复、溢出与中断同录制到的 Ollama 0.32.15，窗口为 {window} 个 token（通常的 4,096 时会重复到 40,960 个）。"
        "Orchestra 多丢一些，是为回答留出空间。",
    },
}  # fmt: skip


def measured() -> dict[str, Any]:
    """What was measured last."""
    found: dict[str, Any] = json.loads(MEASURED.read_text("utf-8"))
    return found


def shown(trouble: str, cell: dict[str, Any], language: str) -> str:
    """One cell in words: what came, and who says that something is wrong - the answer, a field, an error or nothing."""
    words = WORDS[language]
    came = trouble
    if trouble == "loop" and cell["reason"] != "repetition" and not cell["told"]:
        came = "endless"
    if trouble == "overflow" and cell["error"]:
        came = "refused"
    signs = [name for name in ("told", "error") if cell[name]]
    if cell["reason"] not in ("", "stop"):
        signs.append("field")
    says = words["and"].join(words[sign] for sign in signs or ["silent"])
    return (words[came] + words["colon"] + says).format(**cell)


def table(language: str) -> str:
    """The table in one language, and with what it was measured."""
    found, words = measured(), WORDS[language]
    lines = [words["head"], ["---"] * len(words["head"])]
    for client, row in found["clients"].items():
        lines += [[f"**{client}**" if way == "plain" else "", words[way], *(shown(t, row[way][t], language) for t in TROUBLES)] for way in WAYS]
    clients = words["and"].join(f"{client} {row['version']}" for client, row in found["clients"].items())
    below = words["with"].format(clients=clients, window=found["window"])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n{below}\n"


def pages() -> list[tuple[Path, str]]:
    """Both READMEs with their tables filled in."""
    filled = []
    for name, language in PAGES.items():
        path = ROOT / name
        before, _, rest = path.read_text("utf-8").partition(OPEN)
        _, _, after = rest.partition(CLOSE)
        filled.append((path, before + OPEN + table(language) + CLOSE + after))
    return filled


def measure() -> None:
    """Measures every client that is here, one after another, and keeps the rows of the others."""
    sys.path.insert(0, str(ROOT / "tests"))
    import troubled
    from clients import own_setup

    found = measured() if MEASURED.exists() else {"clients": {}}
    found["window"] = troubled.WINDOW
    for client in troubled.CLIENTS:
        version = client.version()
        if not version:
            print(f"{client.name}: not here, its row stays", file=sys.stderr)
            continue
        print(f"{client.name} {version}", file=sys.stderr)
        with own_setup():
            found["clients"][client.name] = {"version": version, **{way: troubled.row(client, way) for way in WAYS}}
    found["clients"] = {client.name: found["clients"][client.name] for client in troubled.CLIENTS if client.name in found["clients"]}
    MEASURED.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if "measure" in sys.argv[1:]:
        measure()
    for path, text in pages():
        path.write_text(text, encoding="utf-8")
