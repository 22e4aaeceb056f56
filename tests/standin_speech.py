"""Asking the stand-in's engine, for the tests of what it says."""

from __future__ import annotations

from itertools import islice
from typing import Any

from orchestra.standin.engine import Sampling, Token, engine

ANSWER = "<|start_header_id|>assistant<|end_header_id|>\n\n"


def asked(question: str) -> str:
    return f"<|start_header_id|>user<|end_header_id|>\n\n{question}<|eot_id|>{ANSWER}"


def tokens(prompt: str, *, most: int = 600, format: Any = None, **options: Any) -> list[Token]:
    source = engine()
    drawn = source.generate(source.vocabulary.encode(prompt), Sampling(**options), text=prompt, format=format)
    return list(islice(drawn, most))


def said(prompt: str, **options: Any) -> str:
    return b"".join(token.data for token in tokens(prompt, **options)).decode("utf-8", "replace")
