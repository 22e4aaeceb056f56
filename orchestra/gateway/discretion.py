"""Errors as they leave: a seed memory leaves only as what a model says, and what to do is said to somebody who has no command line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping

from orchestra.errors import (
    KnowledgeMissing,
    ModelUnsupported,
    OrchestraError,
    PersonaMissing,
    PromptTooLong,
    RateLimited,
    SearchFault,
    SearchUnreachable,
    SeedTooLong,
    SessionBusy,
    SessionMissing,
    StreamTruncated,
)
from orchestra.model.persona import Persona
from orchestra.texts import Words

SHORTEST = 6  # characters of a sentence that is one persona's and no phrase of everybody's
_SENTENCE = re.compile(r"[^。！？!?.\n]+")
_WITHHELD = Words("(left out: it repeats a seed memory)", "（已略去：其中复述了种子记忆）")


_SEARCH = Words("choose another one as `search`, or set ORCHESTRA_SEARCH", "请用 `search` 换一个，或设置 ORCHESTRA_SEARCH")
_LONGER = " start the daemon with OLLAMA_CONTEXT_LENGTH={needed_window}", "以 OLLAMA_CONTEXT_LENGTH={needed_window} 启动 Ollama"
HINTS: Mapping[type[OrchestraError], Words] = {
    OrchestraError: Words("try again; the gateway's log has its kind", "请重试；网关的日志中有错误的类型"),
    StreamTruncated: Words("ask again", "请重新提问"),
    ModelUnsupported: Words("choose another model; `/api/show` tells what each can do", "请换一个模型；`/api/show` 可查看各模型的能力"),
    PromptTooLong: Words("shorten it, or" + _LONGER[0], "请缩短内容，或" + _LONGER[1]),
    SeedTooLong: Words("shorten it to {limit} tokens, or" + _LONGER[0], "请将其缩短到 {limit} 个 token，或" + _LONGER[1]),
    PersonaMissing: Words("`/v1/models` lists who is here", "`/v1/models` 可查看这里有谁"),
    SearchFault: _SEARCH,
    SearchUnreachable: _SEARCH,
    RateLimited: Words("wait {seconds} s, or " + _SEARCH.en, "请等待 {seconds} 秒，或" + _SEARCH.zh.removeprefix("请")),
    KnowledgeMissing: Words("it is made where the gateway runs: orchestra knowledge add", "请在网关所在的机器上新建：orchestra knowledge add"),
    SessionMissing: Words("GET /sessions lists what there is", "GET /sessions 可查看已有的会话"),
    SessionBusy: Words("wait for it, or fork it: POST /sessions/{name}/fork", "请等待完成，或分叉该会话：POST /sessions/{name}/fork"),
}
"""What to do instead of what the error's own advice says, which is for the command line."""


def hint_of(error: OrchestraError, language: str) -> str:
    """What to do, for somebody who asks over HTTP."""
    own = error.hint(language)
    instead = HINTS.get(type(error)) if own == error.advice.text(language, error.facts) else None
    return instead.text(language, error.facts) if instead else own


def discreet(text: str, personas: Iterable[Persona], language: str) -> str:
    """`text`, or in its place that it was left out, where it repeats a sentence of a seed memory, as it is or as JSON writes it."""
    return _WITHHELD.text(language) if any(piece in text for piece in _pieces(personas)) else text


def in_one_line(error: OrchestraError, personas: Iterable[Persona], language: str) -> str:
    """What happened and what to do, for a protocol that has room for one text."""
    hint = " ".join(hint_of(error, language).split())
    return f"{discreet(error.message(language), personas, language)} ({hint})"


def _pieces(personas: Iterable[Persona]) -> Iterator[str]:
    for seed in (seed for persona in personas for seed in persona.seed_memory.values()):
        for sentence in _SENTENCE.findall(seed):
            if len(piece := sentence.strip()) >= SHORTEST:
                yield piece
                yield json.dumps(piece)[1:-1]
