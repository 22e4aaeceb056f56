"""How well documents are found and questions answered from them, on the bilingual set in tests/data/evaluation.

The figures of full text hold anywhere. Those of vectors are as good as the model: the stand-in's embeddings compare runs
of one to three characters and know no meaning. The same is true end to end: the stand-in answers with the sentence that
shares most words with the question. With ORCHESTRA_TEST_OLLAMA, BENCH_EMBED=MODEL and BENCH_MODEL=MODEL put models of a
real daemon in their place.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bounds import Row, shown

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from evaluation import (
    BASE,
    WORDED,
    Question,
    Search,
    chosen,
    crowded,
    documents,
    embedded,
    figures,
    filled,
    named,
    nearest,
    searched,
)

from orchestra.model.client import Client
from orchestra.model.messages import Options
from orchestra.retrieval.knowledge.embedding import Embedder
from orchestra.retrieval.knowledge.index import Index
from orchestra.retrieval.knowledge.search import Knowledge
from orchestra.retrieval.ledger import NO_SOURCES
from orchestra.retrieval.looking import Looking, Lookup
from orchestra.retrieval.need import leans_on_dialogue
from orchestra.retrieval.passages import Passage
from orchestra.retrieval.pipeline import NOT_FOUND, UNSUPPORTED, Answer, ask
from orchestra.retrieval.queries import with_last_words
from orchestra.runtime import Blocking, finish
from orchestra.settings import Settings
from orchestra.standin import StandIn

DAEMON = os.environ.get("ORCHESTRA_TEST_OLLAMA", "")
MODEL, EMBED = os.environ.get("BENCH_MODEL", ""), os.environ.get("BENCH_EMBED", "")
STAND_IN = "llama3"
RESULTS = 5
MISSED = 5.0  # per cent: recall among the best five is 0.95 at least where words are shared
CROWD = 20_000
HONEST = {NO_SOURCES, NOT_FOUND, UNSUPPORTED}
GROUPS = {
    "sharing words": WORDED,
    "paraphrased": ("paraphrase",),
    "follow-ups that stand alone": ("follow_up",),
    "naming a thing in the other language": ("cross_language",),
}
COMPARED = ("sharing words", "paraphrased")


@contextmanager
def client_of(url: str) -> Iterator[Client]:
    """A client of the daemon at `url`."""
    runtime = Blocking()
    try:
        yield Client(runtime, Settings(host=url))
    finally:
        finish(runtime.close())


@contextmanager
def model_of(named: str, stand_in: str) -> Iterator[tuple[Client, str]]:
    """A client and a model: the one that is named, of the real daemon, else the stand-in's."""
    if DAEMON and named:
        with client_of(DAEMON) as client:
            yield client, named
    else:
        with StandIn(models=[stand_in]) as daemon, client_of(daemon.url) as client:
            yield client, stand_in


def found(name: str, search: Search, *groups: str, bound: bool = False) -> list[Row]:
    """A search's misses by language and kind; the detail has recall and MRR."""
    return [
        Row(
            f"{name}, {lang}, {group}: not among the best 5",
            100 * (1 - (result := figures(chosen(*kinds, lang=lang), search)).five),
            MISSED if bound and kinds == WORDED else None,
            unit=" %",
            detail=str(result),
        )
        for lang in ("zh", "en")
        for group, kinds in GROUPS.items()
        if group in groups or not groups
    ]


async def _answer(client: Client, model: str, question: Question, lookup: Lookup) -> Answer:
    async for part in ask(question.question, client=client, model=model, lookup=lookup, said=question.dialogue):
        if isinstance(part, Answer):
            return part
    raise AssertionError("a stream without an answer")


async def _looked_up(client: Client, question: Question, lookup: Lookup) -> tuple[Passage, ...]:
    return (await Looking(client, STAND_IN, lookup, Options()).prepared(question.question, question.dialogue)).passages


def has_all(question: Question, found: Iterable[str]) -> bool:
    """Whether all documents of the question are among these."""
    return set(question.documents) <= set(found)


def followed(index: Index) -> list[Row]:
    """Follow-ups: as they are asked, with the words of the question before, and made whole by a model that can do it."""
    asked = chosen("follow_up")
    search = searched(Knowledge(index, BASE, runtime=Blocking()))
    ways: dict[str, Callable[[Question], str]] = {
        "as they are asked": lambda question: question.question,
        "with the last question's words": lambda question: with_last_words(question.question, question.dialogue),
    }
    hits = {name: sum(has_all(q, search(way(q))[:RESULTS]) for q in asked) for name, way in ways.items()}
    leaning = [question for question in asked if leans_on_dialogue(question.question)]
    replies = [json.dumps({"query": question.standalone}, ensure_ascii=False) for question in leaning]
    with StandIn(replies=replies) as daemon, client_of(daemon.url) as client:
        lookup = Lookup(places=(Knowledge(index, BASE, runtime=client.runtime),), results=RESULTS)
        passages = [finish(_looked_up(client, question, lookup)) for question in asked]
    known = f"by the pipeline, which knows {len(leaning)} for one; the rewriting is scripted"
    hits[known] = sum(has_all(question, named(p.url for p in found)) for question, found in zip(asked, passages, strict=True))
    return [Row(f"follow-ups that find their document, {name}", count, unit=f" of {len(asked)}") for name, count in hits.items()]


def answered(index: Index) -> list[Row]:
    """Questions answered from the best passages: honest where nothing is to be found, cited where something is."""
    with model_of(MODEL, STAND_IN) as (client, model):
        lookup = Lookup(places=(Knowledge(index, BASE, runtime=client.runtime),), results=RESULTS)
        nowhere = chosen("unanswerable")
        honest = sum(bool(HONEST & set(finish(_answer(client, model, question, lookup)).ledger.notes)) for question in nowhere)
        asked = chosen("words")[::2]
        answers = [finish(_answer(client, model, question, lookup)) for question in asked]
    marks = Counter(citation.found for answer in answers for citation in answer.citations)
    right = sum(all(text in answer.text for text in question.answers) for question, answer in zip(asked, answers, strict=True))
    sourced = sum(has_all(question, named(s.url for s in answer.sources)) for question, answer in zip(asked, answers, strict=True))
    who = model if DAEMON and MODEL else "the stand-in"
    return [
        Row(f"{who}: unanswerable, answered with 'not in the sources'", honest, unit=f" of {len(nowhere)}"),
        Row(f"{who}: answers with the document among their sources", sourced, unit=f" of {len(asked)}"),
        Row(f"{who}: answers that say what was asked for", right, unit=f" of {len(asked)}"),
        *(Row(f"{who}: citations checked, {mark}", count, unit=f" of {marks.total()}") for mark, count in marks.most_common()),
    ]


def measured() -> list[Row]:
    """All rows: finding, then answering."""
    with tempfile.TemporaryDirectory(prefix="orchestra-bench-") as folder, filled(Path(folder)) as index:
        rows = found("full text", searched(Knowledge(index, BASE, runtime=Blocking())), bound=True)
        rows += [*followed(index), *answered(index)]
        with model_of(EMBED, "tiny-embed") as (client, model):
            embedded(client, index, model)
            rows += found(f"vectors of {model}", nearest(index, Embedder(client, model)), *COMPARED)
            rows += found(f"hybrid with {model}", searched(Knowledge(index, BASE, runtime=client.runtime, client=client)), *COMPARED)
        crowded(index, CROWD)
        crowd = searched(Knowledge(index, BASE, runtime=Blocking()))
        rows += found(f"full text among {CROWD:,} neighbours of the same words", crowd, *COMPARED, bound=True)
    return rows


if __name__ == "__main__":
    started = time.perf_counter()
    rows = measured()
    shown(f"retrieval quality, {len(documents())} documents ({time.perf_counter() - started:.0f} s)", rows)
