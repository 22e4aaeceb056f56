"""The index of the knowledge bases: what is put in is found, what is taken out is not, and nothing breaks the file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from orchestra.errors import KnowledgeMissing, StorageFull, StoreCorrupt, StoreTooNew, UsageError
from orchestra.retrieval.knowledge import schema, words
from orchestra.retrieval.knowledge.chunks import Chunk, Document
from orchestra.retrieval.knowledge.index import Index
from orchestra.sessions import database
from orchestra.sessions.store import Store


def document(uri: str, digest: str = "0") -> Document:
    return Document(uri=uri, title=uri.rpartition("/")[2], language="en", digest=digest, mtime_ns=1, size=2)


def item(uri: str, *texts: str, digest: str = "0") -> tuple[Document, list[Chunk]]:
    return document(uri, digest), [Chunk(text=text, start=n, end=n) for n, text in enumerate(texts, 1)]


def found(index: Index, query: str, name: str = "k", limit: int = 10) -> list[str]:
    """The texts that a search gives, the best first."""
    matches = index.text_search(name, query, limit)
    chunks = index.chunks(match.chunk for match in matches)
    return [chunks[match.chunk].chunk.text for match in matches]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index(tmp_path / "home") as index:
        yield index


# --- what goes in comes out


def test_a_chunk_is_found_with_its_place_and_its_document(index: Index) -> None:
    chunk = Chunk(text="The window holds 4096 tokens.", heading="Guide > Window", start=10, end=20, page=3)
    index.put("k", [(document("/a/guide.md"), [chunk]), item("/a/other.md", "Nothing of the kind.")])
    (match,) = index.text_search("k", "window")
    assert match.score > 0
    assert index.chunks([match.chunk]) == {match.chunk: (document("/a/guide.md"), chunk)}
    assert index.documents("k") == {uri: document(uri) for uri in ("/a/guide.md", "/a/other.md")}
    (base,) = index.bases()
    assert (base.name, base.documents, base.chunks, base.embedding, base.vectors) == ("k", 2, 2, "", 0)
    assert base == index.base("k")


def test_a_chunk_is_found_by_the_heading_above_it(index: Index) -> None:
    index.put("k", [(document("/a"), [Chunk(text="Turn the key twice.", heading="Opening the greenhouse")])])
    assert found(index, "greenhouse") == ["Turn the key twice."]


def test_a_document_that_comes_again_replaces_what_it_had(index: Index) -> None:
    index.put("k", [item("/a", "apples", "pears"), item("/b", "apples")])
    index.put("k", [item("/a", "plums", digest="1")])
    assert found(index, "pears") == []
    assert found(index, "apples") == ["apples"]
    assert found(index, "plums") == ["plums"]
    assert index.documents("k")["/a"].digest == "1"
    assert index.base("k").chunks == 2


def test_the_same_document_twice_in_one_lot_is_there_once(index: Index) -> None:
    index.put("k", [item("/a", "apples"), item("/a", "pears")])
    assert (found(index, "apples"), found(index, "pears"), index.base("k").chunks) == ([], ["pears"], 1)


def test_what_is_removed_or_dropped_is_not_found(index: Index) -> None:
    index.put("k", [item("/a", "apples"), item("/b", "pears")])
    index.put("other", [item("/a", "apples in the other one")])
    assert index.remove("k", ["/a", "/nowhere"]) == 1
    assert (found(index, "apples"), found(index, "pears")) == ([], ["pears"])
    assert found(index, "apples", "other") == ["apples in the other one"]
    index.drop("k")
    assert [base.name for base in index.bases()] == ["other"]
    with pytest.raises(KnowledgeMissing):
        index.text_search("k", "pears")
    index.put("k", [item("/c", "new pears")])
    assert found(index, "pears") == ["new pears"]


def test_a_missing_base_is_an_error_with_the_nearest_names(index: Index) -> None:
    assert index.documents("handbok") == {}
    index.put("handbook", [item("/a", "x")])
    for attempt in (
        lambda: index.base("handbok"),
        lambda: index.text_search("handbok", "x"),
        lambda: index.remove("handbok", ["/a"]),
        lambda: index.drop("handbok"),
    ):
        with pytest.raises(KnowledgeMissing) as caught:
            attempt()
        assert "'handbook'" in caught.value.message()
        assert "'handbook'" in caught.value.message("zh")


@pytest.mark.parametrize("name", ["", " \n", "x" * 301])
def test_a_base_has_a_name(index: Index, name: str) -> None:
    with pytest.raises(UsageError):
        index.put(name, [])
    assert index.bases() == []


# --- words


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("模型的上下文窗口有多大", "上下文"),
        ("快递什么时候到", "快递"),
        ("喝一杯茶", "茶"),
        ("茶叶在哪里", "茶"),
        ("重跑gen-itgc后再看", "itgc"),
        ("ＡＢＣ１２３", "abc123"),
        ("She was running through the forests", "run forest"),
        ("Several factories", "factory"),
        ("Ein Über-Café", "uber cafe"),
        ("東京タワーへ行く", "タワー"),
        ("서울에서 만나요", "서울"),
        ("price is $6,300.00", "6300 price"),
        ("the C language", "c"),
    ],
)
def test_a_word_is_found(index: Index, text: str, query: str) -> None:
    index.put("k", [item("/a", "something else entirely 别的东西", text, "その他 다른 것")])
    assert found(index, query)[:1] == [text]


def test_a_lone_character_counts_beside_other_words(index: Index) -> None:
    index.put("k", [item("/a", "price of bread", "price of 茶叶", "price of rice")])
    assert found(index, "茶 price")[0] == "price of 茶叶"


def test_common_words_are_left_out_of_a_question_and_found_alone(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "FEW", 3)
    index.put("k", [item("/a", *(f"annual report of day {n}" for n in range(50)), "annual greenhouse")])
    assert found(index, "annual greenhouse") == ["annual greenhouse"]
    assert len(found(index, "annual report", limit=100)) == 51  # all are common: the two rarest are asked for
    monkeypatch.setattr(words, "FEW", 500)
    assert len(found(index, "annual greenhouse", limit=100)) == 51  # red control: nothing left out


@pytest.mark.parametrize(("query", "wanted"), [("how thick may the branches be", "thick branches"), ("更换电梯的预算是多少", "电梯很贵")])
def test_words_that_ask_are_left_out_of_a_question(index: Index, monkeypatch: pytest.MonkeyPatch, query: str, wanted: str) -> None:
    index.put("k", [item("/a", wanted, "how it may be", "梯的种类是多少")])
    assert found(index, query) == [wanted]
    assert found(index, "how") == ["how it may be"]  # and are found where there is nothing else
    monkeypatch.setattr(words, "COMMON", frozenset())
    monkeypatch.setattr(words, "GRAMMAR", frozenset())
    assert len(found(index, query)) == 2  # red control


def test_of_many_words_those_that_few_chunks_have_are_compared(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "MOST_RANKED", 8)
    texts = [" ".join(f"word{n}" for n in range(10) if place % (n + 2) == 0) or "else" for place in range(60)]
    index.put("k", [item("/a", *texts)])
    every = " ".join(f"word{n}" for n in range(10))
    few = found(index, every, limit=100)
    assert 0 < len(few) <= 18  # the three rarest have 5, 6 and 6 chunks
    assert all({"word7", "word8", "word9"} & set(text.split()) for text in few)
    monkeypatch.setattr(words, "MOST_RANKED", 1000)
    assert len(found(index, every, limit=100)) > 40  # red control


def test_a_lone_character_that_many_have_is_asked_for_in_some_of_its_words(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "FEW", 3)
    texts = [f"茶{chr(0x4E00 + n)}是好的" for n in range(60)]
    index.put("k", [item("/a", *texts, "别的东西")])
    few = found(index, "茶", limit=100)
    assert 0 < len(few) <= 12
    assert set(few) <= set(texts)
    monkeypatch.setattr(words, "FEW", 500)
    assert len(found(index, "茶", limit=100)) == 60  # red control


def test_counts_are_kept_for_common_words_and_taken_again_when_the_base_has_grown(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "FEW", 3)
    spread = words.Spread()

    def count(stem: str) -> int:
        return index.database.read(lambda c: spread.chunks(c, 1, stem, index.base("k").chunks))

    index.put("k", [item("/a", *(f"tea {n}" for n in range(10)))])
    assert (count("tea"), count("milk")) == (10, 0)
    index.put("k", [item("/b", *(f"tea milk {n}" for n in range(8)))])
    assert (count("tea"), count("milk")) == (10, 8)
    index.put("k", [item("/c", *(f"tea {n}" for n in range(8)))])
    assert count("tea") == 26


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=st.text(st.characters(codec=None)) | st.text("\"'*()^:-+{} ANDORTNE茶\x00\ud800"))
def test_no_query_is_an_operator(index: Index, query: str) -> None:
    if not index.bases():
        index.put("k", [item("/a", "apples AND pears NEAR plums", "茶叶")])
    assert set(found(index, query)) <= {"apples AND pears NEAR plums", "茶叶"}
    found(index, f'"{query}')


def test_a_query_of_any_length_is_answered(index: Index) -> None:
    index.put("k", [item("/a", "greenhouse")])
    assert found(index, "greenhouse " + " ".join(f"word{n}" for n in range(50_000))) == ["greenhouse"]
    assert found(index, "") == found(index, "?!") == []


def test_an_index_that_was_cut_in_another_way_is_cut_anew(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    index.put("k", [item("/a", "apples"), item("/b", "pears")])
    index.database.write(lambda c: c.execute("UPDATE base SET cut = 'old'"))
    index.database.write(lambda c: words.remove(c, 1, [(2, "pears")]))  # as if it had been cut in another way then
    assert found(index, "pears") == []
    index.remove("k", ["/a"])
    assert (found(index, "pears"), found(index, "apples")) == (["pears"], [])


# --- beside a dictionary


TEXTS = ["apples grow", "pears and apples", "喝茶", "茶叶与快递", "the same", "the same"]


class Bases(RuleBasedStateMachine):
    """Whatever is put in, replaced, taken out and dropped, in whatever order, is found as in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.index = Index(Bases.folder / str(next(Bases.number)))
        self.expected: dict[str, dict[str, list[str]]] = {}

    folder: Path
    number: Iterator[int]

    @rule(name=st.sampled_from("ab"), uri=st.sampled_from(["/1", "/2", "/3"]), texts=st.lists(st.sampled_from(TEXTS), max_size=4))
    def put(self, name: str, uri: str, texts: list[str]) -> None:
        self.index.put(name, [item(uri, *texts)])
        self.expected.setdefault(name, {})[uri] = texts

    @rule(name=st.sampled_from("ab"), uris=st.sets(st.sampled_from(["/1", "/2", "/3"])))
    def remove(self, name: str, uris: set[str]) -> None:
        with suppress(KnowledgeMissing):
            gone = self.index.remove(name, uris)
            assert gone == len(uris & self.expected[name].keys())
            for uri in uris:
                self.expected[name].pop(uri, None)

    @rule(name=st.sampled_from("ab"))
    def drop(self, name: str) -> None:
        with suppress(KnowledgeMissing):
            self.index.drop(name)
            del self.expected[name]

    @rule()
    def reopen(self) -> None:
        self.index.close()

    @invariant()
    def all_is_found(self) -> None:
        assert {base.name: base.documents for base in self.index.bases()} == {n: len(d) for n, d in self.expected.items()}
        for name, documents in self.expected.items():
            everything = [text for texts in documents.values() for text in texts]
            assert self.index.base(name).chunks == len(everything)
            for query, part in (("apples", "apples"), ("快递", "快递"), ("茶", "茶"), ("same", "same")):
                assert sorted(found(self.index, query, name, 50)) == sorted(text for text in everything if part in text)

    def teardown(self) -> None:
        with closing(sqlite3.connect(self.index.path)) as connection:
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%USING fts5(%'").fetchall():
                connection.execute(f"INSERT INTO {table}({table}) VALUES ('integrity-check')")
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        self.index.close()


def test_it_is_as_a_dictionary(tmp_path: Path) -> None:
    Bases.folder, Bases.number = tmp_path, iter(range(10**6))
    run_state_machine_as_test(Bases, settings=settings(max_examples=12, stateful_step_count=15, deadline=None))


# --- the file


def test_a_reader_sees_a_lot_whole_or_not_at_all(index: Index) -> None:
    index.put("k", [item("/seed", "seed")])
    seen: set[int] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(len(index.text_search("k", "apples", 1000)) % 50)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(10):
        index.put("k", [item(f"/{number}-{half}", *["apples"] * 25) for half in "ab"])
    done.set()
    reader.join()
    assert seen == {0}


def test_two_processes_worth_of_indexes_share_the_file(tmp_path: Path) -> None:
    with Index(tmp_path) as one, Index(tmp_path) as other:
        one.put("k", [item("/a", "apples")])
        assert found(other, "apples") == ["apples"]
        other.put("k", [item("/a", "pears")])
        assert (found(one, "apples"), found(one, "pears")) == ([], ["pears"])


def test_a_damaged_file_is_named_and_the_sessions_are_unharmed(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.create("s")
        (tmp_path / "knowledge.db").write_text("dear diary\n" * 500)
        with Index(tmp_path) as index:
            for attempt in (index.bases, lambda: index.put("k", [item("/a", "x")]), lambda: index.text_search("k", "x")):
                with pytest.raises(StoreCorrupt) as caught:
                    attempt()
                assert "knowledge.db" in caught.value.message()
        assert (tmp_path / "knowledge.db").read_text() == "dear diary\n" * 500
        assert [record.name for record in store.sessions()] == ["s"]


def test_the_sessions_file_is_not_taken_for_a_base(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.create("s")
    (tmp_path / "sessions.db").rename(tmp_path / "knowledge.db")
    with Index(tmp_path) as index, pytest.raises(StoreCorrupt, match="another program"):
        index.bases()


def test_a_file_from_a_newer_version_is_left_alone(index: Index) -> None:
    index.put("k", [item("/a", "x")])
    index.close()
    with closing(sqlite3.connect(index.path)) as connection:
        connection.execute("INSERT INTO migration VALUES ('knowledge_in_the_year_2100', 0)")
        connection.commit()
    with pytest.raises(StoreTooNew):
        index.bases()


def base_colour(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE base ADD COLUMN colour TEXT DEFAULT 'blue'")


def test_a_migration_needs_no_copy_of_what_can_be_made_anew(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    index.put("k", [item("/a", "apples")])
    index.close()
    monkeypatch.setattr(schema, "STEPS", [*schema.STEPS, base_colour])
    assert found(index, "apples") == ["apples"]
    assert index.database.read(lambda c: c.execute("SELECT colour FROM base").fetchall()) == [("blue",)]
    assert {file.name.partition("-")[0] for file in index.path.parent.iterdir()} == {"knowledge.db", "running"}


def test_the_names_of_steps_never_change() -> None:
    # released steps are only followed by others
    assert [step.__name__ for step in schema.STEPS] == ["bases", "vectors"]


def test_its_own_pragmas_are_those_of_every_connection(index: Index) -> None:
    def pragmas(connection: sqlite3.Connection) -> list[int]:
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "foreign_keys", "cache_size")]

    assert index.database.read(pragmas) == index.database.write(pragmas) == [1, 1, -8192]
    with Store(index.path.parent) as store:
        assert store.database.write(pragmas)[0] == 2


def test_a_full_disk_keeps_what_is_in(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    index.put("k", [item("/a", "apples")])
    (pages,) = index.database.read(lambda c: c.execute("PRAGMA page_count").fetchone())
    index.close()
    monkeypatch.setattr(database, "PRAGMAS", (*database.PRAGMAS, f"PRAGMA max_page_count = {pages + 5}"))
    with pytest.raises(StorageFull):
        index.put("k", [item(f"/{number}", *(f"pears number {n}" for n in range(500))) for number in range(20)])
    assert (found(index, "apples"), found(index, "pears")) == (["apples"], [])
    assert index.documents("k").keys() == {"/a"}
    index.close()
    monkeypatch.undo()
    index.put("k", [item("/b", "pears")])
    assert (found(index, "apples"), found(index, "pears")) == (["apples"], ["pears"])
