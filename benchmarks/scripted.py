"""A daemon of recorded shape in a process of its own: what it says costs the measured process nothing.

    scripted.py TOKENS [SECONDS]

Prints its port, then answers /api/chat and /api/generate with TOKENS lines, one token in a line and one line in a
chunk, as fast as they are taken or one in SECONDS seconds.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "orchestra"
MODEL = "llama3"
WINDOW = 131072
SHOWN = {
    "template": "{{ .System }}{{ .Prompt }}",
    "details": {"family": "llama", "format": "gguf", "quantization_level": "Q4_0"},
    "model_info": {"general.architecture": "llama", "llama.context_length": WINDOW},
    "capabilities": ["completion"],
}
LOADED = {"name": f"{MODEL}:latest", "model": f"{MODEL}:latest", "digest": "0" * 64, "context_length": WINDOW, "size": 1, "size_vram": 0}


def tokens(count: int) -> list[str]:
    """The first `count` tokens of varied text, English and Chinese, cut about as a vocabulary cuts."""
    files = [ROOT / "standin" / "corpus.txt", *sorted((ROOT / "retrieval" / "texts").glob("*.md"))]
    text = "\n\n".join(file.read_text("utf-8") for file in files)
    cut = re.findall(r" ?[A-Za-z]{1,7}|[\u3400-\u9fff]{1,2}| ?\d{1,3}|\n+|.", text)
    if len(cut) < count:
        raise SystemExit(f"the text has {len(cut)} tokens, not {count}")
    return cut[:count]


def lines(path: str, count: int) -> Iterator[bytes]:
    """The lines of one answer, of the shape in tests/wire."""
    stamp = {"model": MODEL, "created_at": "2026-11-21T17:53:10.840190567Z"}
    for token in tokens(count):
        said = {"message": {"role": "assistant", "content": token}} if path == "/api/chat" else {"response": token}
        yield _line({**stamp, **said, "done": False})
    said = {"message": {"role": "assistant", "content": ""}} if path == "/api/chat" else {"response": ""}
    counts = {"prompt_eval_count": 11, "prompt_eval_duration": 10**7, "eval_count": count, "eval_duration": 10**9}
    yield _line({**stamp, **said, "done": True, "done_reason": "stop", "total_duration": 2 * 10**9, "load_duration": 10**7, **counts})


def _line(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class Daemon:
    """What the process serves; the answers are made before the first request."""

    def __init__(self, count: int, pause: float) -> None:
        self.pause = pause
        self.chunks = {path: [b"%x\r\n%b\r\n" % (len(line), line) for line in lines(path, count)] for path in ("/api/chat", "/api/generate")}
        self.plain = {"/api/ps": {"models": [LOADED]}, "/api/tags": {"models": [LOADED]}, "/api/show": SHOWN, "/api/version": {"version": "0.32.15"}}

    def serve(self, connection: socket.socket) -> None:
        """Answers one connection until it is closed."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as stream:
            while head := stream.readline():
                path, length = head.split()[1].decode(), 0
                while (header := stream.readline()) not in (b"\r\n", b""):
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.split(b":")[1])
                stream.read(length)
                if path in self.plain:
                    body = _line(self.plain[path])
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                else:
                    self.stream(connection, path)

    def stream(self, connection: socket.socket, path: str) -> None:
        """One streamed answer."""
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")
        for chunk in self.chunks[path]:
            connection.sendall(chunk)
            if self.pause:
                time.sleep(self.pause)
        connection.sendall(b"0\r\n\r\n")


def main() -> None:
    """Serve until standard input is closed."""
    daemon = Daemon(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        threading.Thread(target=_accept, args=(server, daemon), daemon=True).start()
        sys.stdin.read()


def _accept(server: socket.socket, daemon: Daemon) -> None:
    with contextlib.suppress(OSError):
        while True:
            threading.Thread(target=daemon.serve, args=(server.accept()[0],), daemon=True).start()


@contextmanager
def apart(file: str, *given: object) -> Iterator[str]:
    """The URL of the daemon that a file makes of what it is given, in a process of its own while the block runs."""
    command = [sys.executable, file, *map(str, given)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.communicate()


def scripted(count: int, pause: float = 0.0) -> AbstractContextManager[str]:
    """The URL of such a daemon while the block runs."""
    return apart(__file__, count, pause)


if __name__ == "__main__":
    main()
