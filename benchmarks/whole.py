"""CPU of one whole `orchestra chat MESSAGE`, from the shell's point of view, for an answer of 50 tokens.

Beside it the least that a typer application can do: the same option names, raw httpx, nothing kept, watched or counted.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from bounds import Row, shown
from processes import compared
from scripted import MODEL, scripted

TOKENS = 50
PEER = f"""
import json, os, sys, typer

app = typer.Typer()

@app.command()
def chat(message: str, model: str = {MODEL!r}, temperature: float = 0.8) -> None:
    import httpx

    body = {{"model": model, "messages": [{{"role": "user", "content": message}}], "options": {{"temperature": temperature}}}}
    with httpx.Client(trust_env=False) as client, client.stream("POST", os.environ["OLLAMA_HOST"] + "/api/chat", json=body) as response:
        for line in response.iter_lines():
            print(json.loads(line)["message"]["content"], end="", flush=True)

app()
"""


def measured() -> list[Row]:
    """One ratio; it has no bound of its own, only a figure to be kept from growing."""
    with tempfile.TemporaryDirectory(prefix="orchestra-bench-") as folder, scripted(TOKENS) as url:
        os.environ.update(OLLAMA_HOST=url, ORCHESTRA_HOME=folder)
        peer = Path(folder) / "peer.py"
        peer.write_text(PEER, encoding="utf-8")
        ours = str(Path(sys.executable).with_name("orchestra"))
        found = compared([ours, "chat", "Hello there", "--temperature", "0.8"], [sys.executable, str(peer), "Hello there"])
    detail = f"{1000 * found.ours:.0f} ms against {1000 * found.theirs:.0f} ms"
    return [Row("orchestra chat MESSAGE / typer and raw httpx", found.ratio, spread=(found.low, found.high), detail=detail)]


if __name__ == "__main__":
    shown("CPU of a whole process, median of 15 pairs", measured())
