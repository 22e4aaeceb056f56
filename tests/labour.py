"""The other side of the workers in test_worker.py: does to itself what the data says."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from orchestra.retrieval.worker import limited, serve

MEMORY = 2**29


def toil(data: bytes, *, how: str) -> dict[str, Any]:
    """Works as told: `how` is sleep, die, exit, raise, fill, print, long, write, or says what to tell of the process."""
    match how:
        case "sleep":
            time.sleep(float(data))
        case "die":
            os.abort()
        case "exit":
            sys.exit(0)
        case "raise":
            raise RuntimeError
        case "fill":
            bytes(2 * MEMORY)
        case "print":
            print('{"printed": true}', flush=True)
        case "long":
            return {"text": "x" * int(data)}
        case "write":
            Path(os.fsdecode(data)).write_bytes(b"x")
        case "environment":
            return dict(os.environ)
    return {"size": len(data), "pid": os.getpid()}


if __name__ == "__main__":
    limited(MEMORY)
    serve(toil)
