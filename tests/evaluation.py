"""The bilingual evaluation set in tests/data/evaluation, and how good a search is on it.

`documents/` has short texts on invented things, so that no model knows the answers by heart; many have neighbours
that differ in their figures alone. `questions.jsonl` has one question a line:

    documents    where the answer stands; for an unanswerable one what is nearest to its subject
    answers      strings that a right answer contains, each in one of the documents
    absent       (unanswerable) what an answer would have to name; in none of the documents named
    key          (some in Chinese) the word of one or two characters that it hangs on
    dialogue     (follow_up) what was said before; `standalone` asks the same without it

Kinds: `words` share words with their document, `paraphrase` ask for the same in other words, `two_sources` need both
documents, `counterfactual` expect what the document denies, `cross_language` name a thing in the other language.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from orchestra.model.client import Client
from orchestra.model.messages import Message
from orchestra.retrieval.knowledge.chunks import Chunk, Document
from orchestra.retrieval.knowledge.embedding import Embedder, embed
from orchestra.retrieval.knowledge.index import Index
from orchestra.retrieval.knowledge.ingest import add
from orchestra.retrieval.knowledge.search import Knowledge
from orchestra.retrieval.sentences import sentences
from orchestra.runtime import Blocking, finish

FOLDER = Path(__file__).with_name("data") / "evaluation"
BASE = "evaluation"
WORDED = ("words", "two_sources", "counterfactual")  # the kinds whose questions share words with their documents
DEEP = 20  # chunks that are looked at for a rank

Search = Callable[[str], Sequence[str]]  # from a query to the names of documents, the best first


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question of the set; the fields are those of the file."""

    id: str
    lang: str
    kind: str
    question: str
    answers: tuple[str, ...]
    documents: tuple[str, ...]
    absent: tuple[str, ...] = ()
    key: str = ""
    dialogue: tuple[Message, ...] = ()
    standalone: str = ""

    @property
    def alone(self) -> str:
        """The question as it can be understood without a dialogue."""
        return self.standalone or self.question


class Figures(NamedTuple):
    """How good a search is: the share of the wanted documents among the best 1 and 5, and the mean reciprocal rank of the first."""

    questions: int
    first: float
    five: float
    mrr: float

    def __str__(self) -> str:
        return f"{self.questions:3} questions: recall@1 {self.first:.3f}, recall@5 {self.five:.3f}, MRR {self.mrr:.3f}"


@lru_cache(maxsize=1)
def documents() -> dict[str, str]:
    """The texts by their names, titles included."""
    return {path.stem: path.read_text("utf-8") for path in sorted((FOLDER / "documents").glob("*.md"))}


@lru_cache(maxsize=1)
def questions() -> tuple[Question, ...]:
    """The questions, in the order of the file."""
    lines = (FOLDER / "questions.jsonl").read_text("utf-8").splitlines()
    return tuple(_question(json.loads(line)) for line in lines)


def _question(line: dict[str, Any]) -> Question:
    dialogue = tuple(Message(said["role"], said["content"]) for said in line.pop("dialogue", ()))
    line.update({name: tuple(line.get(name, ())) for name in ("answers", "documents", "absent")})
    return Question(**line, dialogue=dialogue)


def chosen(*kinds: str, lang: str = "", key: int = 0) -> list[Question]:
    """The questions of these kinds, of one language or of one length of the key word."""
    asked = (question for question in questions() if question.kind in kinds)
    return [q for q in asked if lang in ("", q.lang) and key in (0, len(q.key))]


def figures(asked: Iterable[Question], search: Search) -> Figures:
    """What `search` finds of the documents that the questions are answered by; follow-ups are asked as they stand alone."""
    ranks = []
    for question in asked:
        best = list(search(question.alone))
        ranks.append([best.index(name) + 1 if name in best else 0 for name in question.documents])
    return Figures(len(ranks), _recall(ranks, 1), _recall(ranks, 5), sum(_reciprocal(rank) for rank in ranks) / len(ranks))


def _recall(ranks: list[list[int]], best: int) -> float:
    return sum(sum(0 < rank <= best for rank in wanted) / min(best, len(wanted)) for wanted in ranks) / len(ranks)


def _reciprocal(wanted: list[int]) -> float:
    return max(1 / rank if rank else 0.0 for rank in wanted)


def filled(folder: Path) -> Index:
    """An index that has taken the documents in, as `orchestra knowledge add` does."""

    async def taken_in() -> None:
        async for _ in add([FOLDER / "documents"], name=BASE, index=index, runtime=runtime):
            pass

    index, runtime = Index(folder), Blocking()
    finish(taken_in())
    finish(runtime.close())
    return index


def crowded(index: Index, count: int) -> None:
    """Puts `count` neighbours beside the documents: their own sentences in another mixture, without those that answer a question.

    They have the words of the questions, names included, and answer none.
    """
    answers = [answer for question in questions() for answer in question.answers]
    chance, items = random.Random(1), []
    for lang in ("zh", "en"):
        bodies = [text.split("\n", 1)[1] for name, text in documents().items() if name.startswith(lang)]
        told = [s for body in bodies for s in sentences(body) if not s.startswith("#") and not any(a in s for a in answers)]
        for number in range(count // 2):
            text = (" " if lang == "en" else "").join(chance.sample(told, 8))
            document = Document(uri=f"/crowd/{lang}-{number}.md", title="", language=lang, digest="", mtime_ns=0, size=0)
            items.append((document, [Chunk(text=text)]))
    index.put(BASE, items)


def embedded(client: Client, index: Index, model: str) -> None:
    """Gives every chunk a vector."""

    async def made() -> None:
        async for _ in embed(client, index, BASE, model=model):
            pass

    finish(made())


def searched(base: Knowledge) -> Search:
    """The base as a search: by words, and by vectors too where it has some and a client."""
    return lambda query: named(hit.uri for hit in finish(base.search(query, limit=DEEP)).hits)


def nearest(index: Index, embedder: Embedder) -> Search:
    """The vectors of the base alone as a search."""

    def search(query: str) -> list[str]:
        matches = [match.chunk for match in index.vectors.nearest(BASE, finish(embedder.question(query)), DEEP)]
        chunks = index.chunks(matches)
        return named(chunks[match].document.uri for match in matches)

    return search


def named(uris: Iterable[str]) -> list[str]:
    """The names of the documents at these addresses, each once."""
    return list(dict.fromkeys(Path(uri).stem for uri in uris))
