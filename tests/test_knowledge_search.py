"""Searching a base by words and by vectors: what the embedding model does on a bad day costs no document and no answer."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import pytest
from runtimes import RUNTIMES, run

from orchestra.errors import DaemonUnreachable, EmbeddingChanged, EmbeddingFailed, KnowledgeMissing, ModelMissing
from orchestra.model.client import Client
from orchestra.request import Request
from orchestra.retrieval.knowledge import embedding
from orchestra.retrieval.knowledge.chunks import Chunk, Document
from orchestra.retrieval.knowledge.embedding import PREFIXES, EmbeddingProgress, embed, family
from orchestra.retrieval.knowledge.index import Index, Match
from orchestra.retrieval.knowledge.reranking import likelihood
from orchestra.retrieval.knowledge.search import Hits, Knowledge, fused
from orchestra.retrieval.looking import Lookup
from orchestra.retrieval.pipeline import Answer, ask
from orchestra.runtime import Blocking, finish
from orchestra.standin import Scripted, StandIn
from orchestra.standin.engine import Engine

T = TypeVar("T")
TEXTS = ("The greenhouse is opened at noon.", "Bread is baked in the morning.", "快递周三送到。", "The library closes at six.")
QUIET: dict[str, Any] = {"load_timeout": 5.0}


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index(tmp_path) as index:
        yield index


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(models=["llama3", "tiny-embed"]) as standin:
        yield standin


def filled(index: Index, *texts: str, name: str = "k") -> None:
    for number, text in enumerate(texts or TEXTS):
        document = Document(uri=f"/{number}.md", title=f"Title {number}", language="en", digest="0", mtime_ns=1, size=1)
        index.put(name, [(document, [Chunk(text=text, heading="H", start=3, end=4)])])


def asked(host: str, work: Callable[[Client], Coroutine[Any, Any, T]], kind: str = "blocking") -> T:
    return run(kind, work, host=host, **QUIET)


async def all_of(index: Index, client: Client, model: str = "", name: str = "k") -> list[EmbeddingProgress]:
    async with aclosing(embed(client, index, name, model=model)) as steps:
        return [step async for step in steps]


def embedded(index: Index, standin: StandIn, model: str = "tiny-embed", kind: str = "blocking") -> list[EmbeddingProgress]:
    return asked(standin.url, lambda client: all_of(index, client, model), kind)


def search(index: Index, host: str, query: str, *, kind: str = "blocking", **more: Any) -> Hits:
    async def work(client: Client) -> Hits:
        knowledge = Knowledge(index, "k", runtime=client.runtime, client=client, **more)
        return await knowledge.search(query)

    return asked(host, work, kind)


def texts(hits: Hits) -> list[str]:
    return [hit.chunk.text for hit in hits.hits]


# --- both ways


@pytest.mark.parametrize("kind", RUNTIMES)
def test_words_and_vectors_together_find_what_words_alone_do_not(index: Index, standin: StandIn, kind: str) -> None:
    filled(index)
    assert texts(search(index, standin.url, "greenhuose opning", kind=kind)) == []
    assert embedded(index, standin, kind=kind)[-1] == EmbeddingProgress(done=4, total=4)
    hits = search(index, standin.url, "greenhuose opning", kind=kind)
    assert (hits.mode, hits.why, texts(hits)[0]) == ("hybrid", None, TEXTS[0])
    assert (hits.hits[0].uri, hits.hits[0].title, hits.hits[0].chunk.place) == ("/0.md", "Title 0", "H, lines 3-4")


def test_a_base_without_vectors_asks_no_daemon(index: Index, standin: StandIn) -> None:
    filled(index)
    hits = search(index, standin.url, "快递")
    assert (hits.mode, hits.why, texts(hits)) == ("full_text", None, [TEXTS[2]])
    assert standin.requests == []


def test_a_search_needs_no_client(index: Index, standin: StandIn) -> None:
    filled(index)
    embedded(index, standin)
    hits = run("blocking", lambda client: Knowledge(index, "k", runtime=client.runtime).search("greenhouse"))
    assert (hits.mode, texts(hits)) == ("full_text", [TEXTS[0]])


def test_keywords_are_searched_beside_the_question(index: Index) -> None:
    filled(index)

    async def work(client: Client) -> list[str]:
        knowledge = Knowledge(index, "k", runtime=client.runtime)
        findings = await knowledge.retrieve(["greenhouse", "快递 周三", "bread"], results=3, language="en")
        assert [(a.name, a.outcome, a.hits) for a in findings.attempts] == [("k", "found", 3)]
        assert {p.origin for p in findings.passages} == {"k"}
        first = findings.passages[0]
        assert (first.url, first.title, first.place) == ("/0.md", "Title 0 > H", "lines 3-4")
        return [p.text for p in findings.passages]

    assert set(run("blocking", work)) == {TEXTS[0], TEXTS[1], TEXTS[2]}


@pytest.mark.parametrize("joint", [True, False], ids=["together", "red control: each for itself"])
def test_only_the_question_is_embedded_not_its_keywords(index: Index, standin: StandIn, monkeypatch: pytest.MonkeyPatch, joint: bool) -> None:
    monkeypatch.setattr(Knowledge, "joint", joint)
    filled(index)
    embedded(index, standin)
    before = len(standin.asked("/api/embed"))

    async def work(client: Client) -> None:
        lookup = Lookup(places=(Knowledge(index, "k", runtime=client.runtime, client=client),), strategy="draft")
        parts = ask("When is the greenhouse opened?", client=client, model="llama3", lookup=lookup)
        *_, answer = [part async for part in parts]
        assert isinstance(answer, Answer)
        assert answer.ledger.queries == ("When is the greenhouse opened?", "快递", "greenhouse bread")
        assert {source.title for source in answer.sources} >= {"Title 0 > H, lines 3-4", "Title 1 > H, lines 3-4"}

    standin.script("At noon.", '{"keywords": ["快递", "greenhouse", "bread"]}', "At noon. [1]")
    asked(standin.url, work)
    asked_for = sorted(body["input"][0] for body in standin.asked("/api/embed")[before:])
    assert (asked_for == ["When is the greenhouse opened?"]) == joint


def test_a_retrieval_fails_into_its_attempt(index: Index) -> None:
    filled(index)

    async def work(client: Client) -> None:
        missing = Knowledge(index, "kk", runtime=client.runtime)
        (attempt,) = (await missing.retrieve(["greenhouse"], results=3, language="en")).attempts
        assert attempt.outcome == "failed"
        assert "'k'" in attempt.error
        (attempt,) = (await Knowledge(index, "k", runtime=client.runtime).retrieve(["zebra"], results=3, language="en")).attempts
        assert (attempt.outcome, attempt.error, attempt.hits) == ("nothing", "", 0)
        with pytest.raises(KnowledgeMissing):
            await missing.search("greenhouse")

    run("blocking", work)


def test_lists_are_fused_by_the_places_in_them() -> None:
    def ranked(*chunks: int) -> list[Match]:
        return [Match(chunk, 100.0 - place) for place, chunk in enumerate(chunks)]

    assert [match.chunk for match in fused([ranked(1, 2, 3), ranked(3, 1, 4)])] == [1, 3, 2, 4]
    assert fused([ranked(1, 2), ranked(2)])[0] == Match(2, 1 / 62 + 1 / 61)
    assert fused([ranked(7, 5)]) == ranked(7, 5)
    assert fused([[], []]) == []


# --- the model's side


@pytest.mark.parametrize(
    ("model", "row"),
    [
        ("nomic-embed-text:latest", "nomic-embed-text"), ("nomic-embed-text-v2-moe", "nomic-embed-text"),
        ("hf.co/Qwen/Qwen3-Embedding-0.6B-GGUF", "qwen3-embedding"), ("snowflake-arctic-embed2:568m", "snowflake-arctic-embed2"),
        ("snowflake-arctic-embed:33m", "snowflake-arctic-embed"), ("all-minilm", ""), ("llama3", ""),
    ],
)  # fmt: skip
def test_a_family_is_known_by_its_name(model: str, row: str) -> None:
    assert family(model) == row


def test_each_family_gets_the_prefixes_that_it_was_trained_with(
    index: Index, standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(index, "Bread")
    monkeypatch.setitem(PREFIXES, "tiny-embed", PREFIXES["nomic-embed-text"])
    embedded(index, standin)
    search(index, standin.url, "bread")
    inputs = [body["input"] for body in standin.asked("/api/embed")]
    assert inputs[-2:] == [["search_document: H\nBread"], ["search_query: bread"]]
    assert all(body["truncate"] is False for body in standin.asked("/api/embed"))
    monkeypatch.delitem(PREFIXES, "tiny-embed")  # vectors with other prefixes are not compared
    assert isinstance(search(index, standin.url, "bread").why, EmbeddingChanged)


def test_what_was_interrupted_goes_on(index: Index, standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "BATCH", 2)
    filled(index, *(f"text number {n}" for n in range(7)))

    async def first_step(client: Client) -> EmbeddingProgress:
        async with aclosing(embed(client, index, "k", model="tiny-embed")) as steps:
            return await anext(steps)

    assert asked(standin.url, first_step) == EmbeddingProgress(done=2, total=7)
    assert index.base("k").vectors == 2
    sent = len(standin.asked("/api/embed"))
    assert [step.done for step in embedded(index, standin, model="")] == [4, 6, 7]
    assert len(standin.asked("/api/embed")) - sent == 3  # no text twice
    assert embedded(index, standin, model="") == []


class Poison:
    """An engine that can make nothing of texts that hold a certain word."""

    def __init__(self, patch: pytest.MonkeyPatch, word: str, value: float | None) -> None:
        sound = Engine.embed

        def embed(engine: Engine, text: str, size: int = 256) -> list[float]:
            if word not in text:
                return sound(engine, text, size)
            if value is None:
                raise _refusal()
            return [value] * size

        patch.setattr(Engine, "embed", embed)


def _refusal() -> Exception:
    from orchestra.standin.refusal import Refusal

    return Refusal(500, "failed to encode response: json: unsupported value: NaN")


@pytest.mark.parametrize("value", [None, math.nan, math.inf, 0.0])
def test_one_text_that_the_model_cannot_embed_is_set_aside(
    index: Index, standin: StandIn, monkeypatch: pytest.MonkeyPatch, value: float | None
) -> None:
    Poison(monkeypatch, "poison", value)
    filled(index, *(f"text number {n}" for n in range(20)), "a poison text", "the last text")
    assert embedded(index, standin)[-1] == EmbeddingProgress(done=22, total=22, failed=1)
    base = index.base("k")
    assert (base.vectors, base.failed) == (21, 1)
    assert texts(search(index, standin.url, "poison"))[0] == "a poison text"
    assert embedded(index, standin, model="") == []  # not asked for again ...
    monkeypatch.undo()
    assert embedded(index, standin)[-1].failed == 0  # ... until the model is named again
    assert index.base("k").vectors == 22


def test_a_question_that_cannot_be_embedded_is_searched_by_its_words(
    index: Index, standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(index)
    embedded(index, standin)
    Poison(monkeypatch, "greenhouse", None)
    hits = search(index, standin.url, "greenhouse")
    assert (hits.mode, texts(hits)) == ("full_text", [TEXTS[0]])
    assert isinstance(hits.why, EmbeddingFailed)


def test_a_text_that_is_too_long_is_embedded_by_its_beginning_and_said(index: Index, standin: StandIn) -> None:
    long = "the greenhouse is opened at noon " * 200
    filled(index, long, "short")
    assert embedded(index, standin)[-1] == EmbeddingProgress(done=2, total=2, shortened=1)
    assert index.base("k").shortened == 1
    taken = max((body["input"][0] for body in standin.asked("/api/embed") if len(body["input"]) == 1), key=len)
    assert taken in f"H\n{long}"


@pytest.mark.parametrize("model", ["llama3", "tiny-embed"])
def test_a_model_that_embeds_nothing_is_an_error_and_costs_no_vector(
    index: Index, standin: StandIn, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    filled(index)
    embedded(index, standin)
    Poison(monkeypatch, "", None)
    sent = len(standin.asked("/api/embed"))
    with pytest.raises(EmbeddingFailed) as caught:
        embedded(index, standin, model=model)
    assert model in caught.value.message()
    assert len(standin.asked("/api/embed")) - sent <= 2
    assert index.base("k").vectors == len(TEXTS)


@pytest.mark.parametrize("fault", ["html_200", "empty_200", "error_500_html", "close_before_headers"])
def test_a_fault_for_a_moment_costs_no_vector(index: Index, standin: StandIn, fault: str) -> None:
    filled(index)
    embedded(index, standin)
    filled(index, *(f"text number {n}" for n in range(8)))
    standin.fail(fault, path="/api/embed")
    assert embedded(index, standin, model="")[-1].failed == 0
    assert index.base("k").vectors == index.base("k").chunks == 8


def test_a_daemon_that_goes_away_leaves_what_is_done(index: Index, standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "BATCH", 2)
    filled(index)

    async def work(client: Client) -> None:
        async with aclosing(embed(client, index, "k", model="tiny-embed")) as steps:
            await anext(steps)
            standin.stop()
            await anext(steps)

    url = standin.url
    with pytest.raises(DaemonUnreachable):
        asked(url, work)
    assert index.base("k").vectors == 2
    hits = search(index, url, "bread")
    assert (hits.mode, texts(hits)) == ("full_text", [TEXTS[1]])
    assert isinstance(hits.why, DaemonUnreachable)


# --- a model that was changed or deleted


def posted(standin: StandIn, method: str, path: str, body: dict[str, Any]) -> None:
    async def work(client: Client) -> None:
        request = Request(method=method, url=standin.url + path, body=json.dumps(body).encode(), connect=5, first=5, between=5, deadline=None)
        async with client.runtime.send(request) as answer:
            assert answer.status == 200, [chunk async for chunk in answer.chunks()]

    run("blocking", work)


def deleted(standin: StandIn) -> None:
    posted(standin, "DELETE", "/api/delete", {"model": "tiny-embed"})


def replaced(standin: StandIn) -> None:
    posted(standin, "POST", "/api/create", {"model": "tiny-embed", "from": "tiny-embed", "system": "another one", "stream": False})


@pytest.mark.parametrize(("change", "said"), [(deleted, "no longer installed"), (replaced, "another one now")])
def test_a_model_that_changed_is_named_and_the_words_are_searched(
    index: Index, standin: StandIn, change: Callable[[StandIn], None], said: str
) -> None:
    filled(index)
    embedded(index, standin)
    change(standin)
    hits = search(index, standin.url, "greenhouse")
    assert (hits.mode, texts(hits)) == ("full_text", [TEXTS[0]])
    assert isinstance(hits.why, EmbeddingChanged)
    assert said in hits.why.message()
    assert "--embed tiny-embed" in hits.why.hint()
    with pytest.raises(EmbeddingChanged):  # nothing is mixed
        embedded(index, standin, model="")
    with pytest.raises(ModelMissing) if change is deleted else nullcontext():
        embedded(index, standin)
        assert search(index, standin.url, "greenhouse").mode == "hybrid"


# --- reranking


def test_the_first_hits_are_put_in_order_by_a_model(index: Index, standin: StandIn) -> None:
    filled(index, "greenhouse one", "greenhouse two")
    first, second = texts(search(index, standin.url, "greenhouse"))
    standin.script(Scripted(["no"]), Scripted(["yes"]))
    hits = search(index, standin.url, "greenhouse", rerank="llama3")
    assert texts(hits) == [second, first]
    prompts = [body["messages"] for body in standin.asked("/api/chat")]
    assert [len(messages) for messages in prompts] == [1, 1]
    for messages, text in zip(prompts, (first, second), strict=True):
        assert messages[0]["content"].index("greenhouse") < messages[0]["content"].index(text)
    assert {body["options"]["num_predict"] for body in standin.asked("/api/chat")} == {1}


def test_where_the_model_cannot_the_order_stays(index: Index, standin: StandIn) -> None:
    filled(index, "greenhouse one", "greenhouse two")
    plain = texts(search(index, standin.url, "greenhouse"))
    assert texts(search(index, standin.url, "greenhouse", rerank="no-such-model")) == plain


def test_a_likelihood_is_that_of_yes_beside_no() -> None:
    def token(word: str, chance: float) -> dict[str, Any]:
        return {"token": word, "logprob": math.log(chance)}

    assert likelihood([{**token("Yes", 0.6), "top_logprobs": [token("Yes", 0.6), token(" no", 0.2), token("x", 0.2)]}]) == pytest.approx(0.75)
    assert likelihood([token("no", 0.9)]) == 0.0
    assert likelihood([]) == likelihood([token("maybe", 0.9)]) == 0.5


# --- a real daemon


def test_a_real_daemon_embeds(real_daemon: str, index: Index) -> None:
    model = os.environ.get("ORCHESTRA_TEST_EMBED", "tiny-embed")

    async def work(client: Client) -> Hits:
        if model not in [str(row["name"]).removesuffix(":latest") for row in await client.tags()]:
            pytest.skip(f"{model} is missing there")
        steps = await all_of(index, client, model)
        assert (steps[-1].done, steps[-1].failed) == (5, 0)
        assert steps[-1].shortened == 1
        with pytest.raises(EmbeddingFailed):
            await all_of(index, client, "llama3")
        return await Knowledge(index, "k", runtime=client.runtime, client=client).search("greenhouse noon")

    filled(index, *TEXTS, "a very long text " * 2000)
    hits = asked(real_daemon, work)
    assert (hits.mode, hits.why) == ("hybrid", None)
    assert TEXTS[0] in texts(hits)


def test_the_runtime_of_a_script_suffices(index: Index) -> None:
    filled(index)
    knowledge = Knowledge(index, "k", runtime=Blocking())
    assert texts(finish(knowledge.search("bread"))) == [TEXTS[1]]
