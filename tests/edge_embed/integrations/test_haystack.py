"""What Haystack's own tests leave out of the document store: other processes, other files, filters against its own
store, what cannot be stored, and pipelines."""

import asyncio
import copy
import pickle
import random
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("haystack", exc_type=ImportError)

from haystack import Document, Pipeline
from haystack.components.writers import DocumentWriter
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError

from edge_embed import Index, verify_index
from edge_embed.errors import BundleMismatchError, DocumentError, InputError
from edge_embed.integrations.haystack import (
    EdgeDocumentEmbedder,
    EdgeDocumentStore,
    EdgeEmbeddingRetriever,
    EdgeHybridRetriever,
    EdgeKeywordRetriever,
    EdgeTextEmbedder,
    searching,
)
from edge_embed.integrations.haystack.filters import planned

pytestmark = pytest.mark.frameworks

DIM = 16
ONE_THREAD = {"threads": 1}
NOTES = [
    Document(content="The ferry to the island leaves at nine.", meta={"lang": "en", "at": {"hour": 9}}),
    Document(content="The cat sleeps on the warm windowsill.", meta={"lang": "en"}),
    Document(content="Le chat dort sur le canapé.", meta={"lang": "fr"}),
]


@pytest.fixture
def store(tmp_path: Path) -> EdgeDocumentStore:
    return EdgeDocumentStore(tmp_path / "notes.db")


def vector(seed: int) -> list[float]:
    found: list[float] = np.random.default_rng(seed).standard_normal(DIM).tolist()
    return found


# Values that meet in one field, and values that filters ask for: of several types, near each other, hard to compare.
VALUES: list[Any] = [
    *(None, 0, 1, 2, -1, True, False, 1.0, 0.5, 0.1 + 0.2, 0.3, 2**53 + 1, 2.0**53, 10**20, 1e20),
    *("a", "A", "", "1", "é", "a\x00b", "a\ufffdb", "2020-01-01", "2020-01-01T00:00:00", "2020-01-01T00:00:00+00:00"),
    *("2020-13-99", [1, 2], ["a"], {"b": 1}, {"b": {"c": "x"}}, {"b": None}, []),
]
FIELDS = [
    *["meta.n", "meta.other"] * 4,
    "n",
    "meta.other",
    "meta.n.b",
    "meta.n.b.c",
    "meta.missing",
    "meta.mixed",
    "content",
    "id",
    "score",
]
COMMON = [0, 1, 2, 3, 4, "a", "b", "2020-01-01"] * 3
COMPARABLE = [0, 1, 2, 0.5, 0.3, -1, True, 1e20, None]


def corpus() -> list[Document]:
    random_ = random.Random(5)  # noqa: S311 - repeatable test data
    documents = []
    for i in range(80):
        meta = {
            "n": random_.choice([*range(5), 0.3, 0.1 + 0.2, True, None]),
            "other": random_.choice(["a", "b", "2020-01-01", "2020-01-01T00:00:00"]),
            "mixed": random_.choice(VALUES),
        }
        if i % 7 == 0:
            meta["n"] = random_.choice([{"b": 1}, {"b": {"c": "x"}}])
        if i % 11 == 0:
            del meta["n"]
        embedding = vector(i) if i % 3 else None
        documents.append(Document(f"id{i:03}", random_.choice(["a", "b c", None]), meta=meta, embedding=embedding))
    return documents


def random_filter(random_: random.Random, depth: int) -> dict[str, Any]:
    if depth and random_.random() < 0.6:
        count = random_.choice([0, 1, 2, 2, 2, 3, 3])
        conditions = [random_filter(random_, depth - 1) for _ in range(count)]
        return {"operator": random_.choice(["AND", "OR", "NOT"]), "conditions": conditions}
    field = random_.choice(FIELDS)
    operator = random_.choice(["==", "!=", "in", "not in", ">", ">=", "<", "<="])
    if operator in ("in", "not in"):
        return {
            "field": field,
            "operator": operator,
            "value": random_.choices([*COMMON, *VALUES], k=random_.randint(0, 5)),
        }
    if operator in ("==", "!="):
        return {"field": field, "operator": operator, "value": random_.choice([*COMMON, *VALUES, "id003"])}
    return {"field": field, "operator": operator, "value": random_.choice([*COMPARABLE, "2020-01-01", "a"])}


def test_filters_answer_as_haystack_s_own_store(store: EdgeDocumentStore) -> None:
    """On random filters of all operators, nested, over values of all types. Only where Haystack's raises an error,
    since it cannot compare a value, this may say that the document does not fit."""
    oracle = InMemoryDocumentStore(shared=False)
    documents = corpus()
    for each in (oracle, store):
        each.write_documents(documents)
    random_ = random.Random(7)  # noqa: S311 - repeatable test data
    answered = exact = some = 0
    for _ in range(900):
        filters = random_filter(random_, 3)
        try:
            expected = oracle.filter_documents(filters)
        except (FilterError, TypeError):
            continue
        assert [found.id for found in store.filter_documents(filters)] == [found.id for found in expected], filters
        assert store.count_documents_by_filter(filters) == len(expected), filters
        answered, some = answered + 1, some + (0 < len(expected) < len(documents))
        exact += planned(filters).rest is None
    assert min(answered, 2 * some, exact) > 120  # the filters are worth something, and both ways are taken


@pytest.mark.parametrize("operator", ["==", "!=", "in", "not in", "<", ">="])
def test_nested_fields_are_decided_in_the_file(operator: str) -> None:
    """Haystack's own code reads no document for them, alone or with others."""
    value: Any = [9, np.int64(10)] if "in" in operator else np.float32(9)
    nested = {"field": "meta.at.hour", "operator": operator, "value": value}
    flat = {"field": "meta.lang", "operator": "==", "value": None}
    for filters in (nested, {"operator": "NOT", "conditions": [nested, {"operator": "OR", "conditions": [flat]}]}):
        assert planned(filters).rest is None
    for field in ("at.hour", "meta._haystack.vector", "meta.at.$has", "meta." + ".".join("abcdefghijk")):
        assert planned(nested | {"field": field}).rest is not None


@pytest.mark.parametrize(
    "filters",
    [
        {"conditions": []},
        {"operator": "XOR", "conditions": []},
        {"operator": "AND", "conditions": "meta.n"},
        {"operator": "OR", "conditions": [{"field": "meta.n", "operator": "~", "value": 1}]},
        {"field": 3, "operator": "==", "value": 1},
        {"field": "meta.n", "operator": "in", "value": "abc"},
        {"field": "meta.n", "operator": ">", "value": {"a": 1}},
        "meta.n == 1",
        [{"field": "meta.n", "operator": "==", "value": 1}],
    ],
)
def test_malformed_filters_are_refused_in_an_empty_store_too(store: EdgeDocumentStore, filters: Any) -> None:
    for call in (store.filter_documents, store.delete_by_filter, store.count_documents_by_filter):
        with pytest.raises(FilterError):
            call(filters)


@pytest.mark.parametrize("empty", [{}, None])
def test_an_empty_filter_changes_nothing(store: EdgeDocumentStore, empty: Any) -> None:
    """It fits every document where documents are read, and none is deleted or changed by it."""
    store.write_documents(NOTES)
    assert store.count_documents_by_filter(empty) == 3
    for call in (store.delete_by_filter, lambda filters: store.update_by_filter(filters, {"x": 1})):
        with pytest.raises(FilterError, match="an empty filter fits every document"):
            call(empty)
    assert store.filter_documents(empty) == NOTES


def test_deletion_by_filters_of_both_kinds(store: EdgeDocumentStore) -> None:
    store.write_documents([Document(content=str(i), meta={"n": i, "at": {"n": i}}) for i in range(20)])
    assert store.delete_by_filter({"field": "meta.n", "operator": "<", "value": 5}) == 5
    assert store.delete_by_filter({"field": "meta.at.n", "operator": "<", "value": 10}) == 5
    assert store.delete_by_filter({"field": "meta.unknown", "operator": "==", "value": 10}) == 0
    assert store.update_by_filter({"field": "meta.n", "operator": ">", "value": 17}, {}) == 2
    assert {one.meta["n"] for one in store.filter_documents()} == set(range(10, 20))


def test_large_filters(store: EdgeDocumentStore) -> None:
    """More conditions and values than a `where` may have are compared by Haystack's own code."""
    store.write_documents([Document(content=str(i), meta={"n": i}) for i in range(20)])
    deep: dict[str, Any] = {"field": "meta.n", "operator": "<", "value": 3}
    for _ in range(11):
        deep = {"operator": "NOT", "conditions": [deep]}
    assert {one.meta["n"] for one in store.filter_documents(deep)} == set(range(3, 20))
    for _ in range(5_000):
        deep = {"operator": "NOT", "conditions": [deep]}
    with pytest.raises(FilterError, match="nested more than 100 deep"):
        store.filter_documents(deep)
    wide = {"field": "meta.n", "operator": "in", "value": list(range(5, 20_000))}
    assert store.count_documents_by_filter(wide) == 15


def test_every_field_comes_back(store: EdgeDocumentStore, tmp_path: Path) -> None:
    """From another object, too: content or none, blob, nested meta, score, embeddings of either precision."""
    documents = [
        Document(content=None, blob=ByteStream(b"\x00\xff\x10", meta={"from": "camera"}, mime_type="image/png")),
        Document(content="", meta={"a": {"b": [1, None, {"c": "ü"}]}, "": "empty name", "$and": 1, "é.x": True}),
        Document(content="scored", score=0.1, embedding=vector(1)),
        Document(content="float32", embedding=np.float32([vector(2)])[0].tolist()),
        Document(content="sparse", sparse_embedding=SparseEmbedding([3, 70_000], [0.5, 0.25])),
        Document(id="ключ / with spaces", content="a line\nand\tanother", meta={"none": None}),
    ]
    assert store.write_documents(documents) == len(documents)
    assert store.filter_documents() == documents
    store.close()
    assert EdgeDocumentStore(tmp_path / "notes.db").filter_documents() == documents
    assert EdgeDocumentStore.from_dict(store.to_dict()).filter_documents() == documents
    report = verify_index(tmp_path / "notes.db")
    assert report.whole


def test_what_meta_becomes(store: EdgeDocumentStore) -> None:
    """What JSON has no type for is stored as what is equal to it, or nearest."""
    meta = {
        "n": np.int64(3),
        "x": np.float32(0.5),
        "at": date(2024, 5, 1),
        "when": datetime(2024, 5, 1, 12),
        "t": (1, 2),
    }
    store.write_documents([Document(id="a", content="text", meta=meta)])
    expected = {"n": 3, "x": 0.5, "at": "2024-05-01", "when": "2024-05-01T12:00:00", "t": [1, 2]}
    assert store.filter_documents()[0].meta == expected
    after = {"field": "meta.when", "operator": ">", "value": "2024-05-01T11:00:00"}
    assert store.count_documents_by_filter(after) == 1


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (Document(id="a", meta={"tags": {1, 2}}), "document 'a': metadata field tags is set"),
        (Document(id="a", meta={"x": float("nan")}), "document 'a': metadata field x is nan"),
        (Document(id="a", meta={"_haystack": 1}), "'_haystack' is kept"),
        (Document(id="a", content="x", embedding=[0.0] * DIM), "nothing but zeros"),
        (Document(id="a", content="x", embedding=[float("inf")] * DIM), "NaN or infinity"),
        (Document(id="a", content="x", embedding=[]), r"the embedding is \[\], expected a list of numbers"),
        (Document(id="a", content="x", embedding=["b"]), r"is \['b'\], expected a list of numbers"),
        (Document(id="a", content="x", embedding=[1.0, 2.0]), f"has 2 numbers.* holds those of {DIM}"),
        (Document(id="a\x00", content="x"), "cannot be used"),
        (Document(id="a", content="\ud800"), "text"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(store: EdgeDocumentStore, document: Document, message: str) -> None:
    """And nothing of the call is stored."""
    first = Document(content="first", embedding=vector(0))
    store.write_documents([first])
    for policy in DuplicatePolicy:
        with pytest.raises(DocumentError, match=message):
            store.write_documents([Document(content="good"), document], policy=policy)
    assert store.filter_documents() == [first]


def test_ids_that_come_twice(store: EdgeDocumentStore) -> None:
    twice = [Document(id="a", content="one"), Document(id="a", content="two")]
    for policy in (DuplicatePolicy.FAIL, DuplicatePolicy.NONE):
        with pytest.raises(DuplicateDocumentError, match="'a' comes twice"):
            store.write_documents(twice, policy=policy)
    assert store.count_documents() == 0
    assert store.write_documents(twice, policy=DuplicatePolicy.SKIP) == 1
    assert store.filter_documents()[0].content == "one"
    assert store.write_documents(twice, policy=DuplicatePolicy.OVERWRITE) == 2
    assert store.filter_documents()[0].content == "two"
    both = [Document(id="b", content="new"), Document(id="a", content="there")]
    with pytest.raises(DuplicateDocumentError, match="stored already: 'a'; nothing was stored"):
        store.write_documents(both)
    assert store.count_documents() == 1
    assert store.write_documents(both, policy=DuplicatePolicy.SKIP) == 1
    assert {one.content for one in store.filter_documents()} == {"new", "two"}


def test_a_policy_that_is_none(store: EdgeDocumentStore) -> None:
    with pytest.raises(ValueError, match="expected a DuplicatePolicy"):
        store.write_documents(NOTES, policy="overwrite")  # type: ignore[arg-type]
    assert store.count_documents() == 0


def test_a_store_opened_twice(store: EdgeDocumentStore, tmp_path: Path) -> None:
    """Both write, in turns, and see what the other wrote."""
    other = EdgeDocumentStore(tmp_path / "notes.db")
    assert other.count_documents() == 0
    store.write_documents([NOTES[0]])
    other.write_documents([NOTES[1]])
    store.write_documents([NOTES[2]])
    assert store.filter_documents() == other.filter_documents() == NOTES
    assert other.delete_by_filter({"field": "meta.lang", "operator": "==", "value": "en"}) == 2
    assert store.count_documents() == 1


def test_many_writers_at_once(tmp_path: Path) -> None:
    """Of coroutines that write with two stores, every document is there once."""

    async def write() -> None:
        stores = [EdgeDocumentStore(tmp_path / "notes.db", embedding_dim=DIM) for _ in range(2)]
        calls = [
            stores[i % 2].write_documents_async([Document(id=str(i % 12), content=f"text {i}")], DuplicatePolicy.SKIP)
            for i in range(24)
        ]
        written = await asyncio.gather(*calls)
        assert sum(written) == await stores[0].count_documents_async() == 12

    asyncio.run(write())
    assert verify_index(tmp_path / "notes.db").whole


@pytest.mark.parametrize("most", [10_000, 3])
def test_retrieval_by_embedding(store: EdgeDocumentStore, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """The order and the cosines are those of Haystack's own store, with filters that an index can ask and others; also
    where more documents fit than a condition can name."""
    monkeypatch.setattr(searching, "MAX_VALUES", most)
    oracle = InMemoryDocumentStore(shared=False, embedding_similarity_function="cosine")
    documents = [
        Document(content=f"text {i}", meta={"n": i, "at": {"n": i % 5}}, embedding=vector(i) if i % 9 else None)
        for i in range(200)
    ]
    for each in (oracle, store):
        each.write_documents(documents)
    for filters in (
        None,
        {"field": "meta.n", "operator": "<", "value": 50},
        {"field": "meta.at.n", "operator": "in", "value": [1, 2]},
        {"field": "meta.unknown", "operator": "==", "value": 1},
    ):
        for scale in (False, True):
            options: dict[str, Any] = {"filters": filters, "top_k": 5, "scale_score": scale, "return_embedding": True}
            expected = oracle.embedding_retrieval(vector(999), **options)
            found = store.embedding_retrieval(vector(999), **options)
            assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=0.01)
            assert [one.id for one in found][:3] == [one.id for one in expected][:3]  # codes are near the embeddings
            written = {one.id: one.embedding for one in documents}
            assert all(one.embedding == written[one.id] for one in found)
    assert store.embedding_retrieval(vector(1), top_k=0) == []
    assert store.embedding_retrieval(vector(1))[0].embedding is None


def test_embeddings_that_come_later(store: EdgeDocumentStore, tmp_path: Path) -> None:
    """The first ones decide how many numbers they have, whatever was written before; or `embedding_dim` does."""
    words = [Document(id=str(i), content=f"text {i}") for i in range(5)]
    store.write_documents(words)
    for size in (384, DIM):
        assert store.embedding_retrieval([1.0] * size) == []
        assert len(store.hybrid_retrieval("text", [1.0] * size)) == 5
    embedded = [Document(id=str(i), content=f"text {i}", embedding=vector(i)) for i in range(3)]
    store.write_documents(embedded, DuplicatePolicy.OVERWRITE)
    assert store.embedding_retrieval(vector(2))[0].id == "2"
    assert len(store.embedding_retrieval(vector(2))) == 3
    assert len(EdgeKeywordRetriever(store).run("text")["documents"]) == 5
    with pytest.raises(DocumentError, match=f"has 3 numbers, .* holds those of {DIM}"):
        store.write_documents([Document(content="other", embedding=[1.0, 2.0, 3.0])])
    fixed = EdgeDocumentStore(tmp_path / "fixed.db", embedding_dim=8)
    fixed.write_documents(words)
    with pytest.raises(DocumentError, match="holds those of 8"):
        fixed.write_documents([Document(content="other", embedding=vector(1))])


def test_embeddings_as_codes_alone(tmp_path: Path) -> None:
    """They come back near what was given, of length 1; also through a store that keeps its own exactly."""
    documents = [Document(content="a", embedding=vector(1)), Document(content="b")]
    small = EdgeDocumentStore(tmp_path / "small.db", embeddings="int8")
    small.write_documents(documents)
    for store in (small, EdgeDocumentStore(tmp_path / "small.db")):
        first, second = store.filter_documents()
        given = np.array(vector(1)) / np.linalg.norm(vector(1))
        assert np.array(first.embedding) @ given > 0.9995
        assert second.embedding is None
        assert store.count_documents_by_filter({"field": "embedding", "operator": "==", "value": None}) == 1
    exact = EdgeDocumentStore(tmp_path / "exact.db")
    exact.write_documents(documents)
    found = Index.open(tmp_path / "exact.db")
    assert "vector" in next(found.find({"_haystack": {"$exists": True}})).metadata["_haystack"]


def test_a_store_that_embeds(tmp_path: Path) -> None:
    """It finds by meaning without embedders, in passages of long documents, and is an ordinary index of the bundle."""
    store = EdgeDocumentStore(tmp_path / "own.db", bundle="static", embedder_options=ONE_THREAD)
    long = Document(content="word " * 3000 + "The harbour master's telephone number is on the door.")
    assert store.write_documents([*NOTES, long]) == 4
    assert store.write_documents(NOTES, DuplicatePolicy.SKIP) == 0
    for found in (store, EdgeDocumentStore(tmp_path / "own.db")):
        assert EdgeHybridRetriever(found, top_k=1).run("when does the boat go?")["documents"][0].id == NOTES[0].id
        assert EdgeHybridRetriever(found, top_k=1).run("phone of the harbour")["documents"][0].content == long.content
    threads = EdgeDocumentStore(tmp_path / "own.db", embedder_options={"threads": 0})
    with pytest.raises(InputError, match="threads"):  # the options reach the embedder of the file's own bundle
        threads.count_documents()
    with Index.open(tmp_path / "own.db", read_only=True) as index:
        assert index.search("windowsill", mode="text", where={"lang": "en"})[0].key == NOTES[1].id
    with pytest.raises(DocumentError, match=r"brings an embedding, and .* makes its own"):
        store.write_documents([Document(content="x", embedding=vector(1))])
    with pytest.raises(DocumentError, match="has no text"):
        store.write_documents([Document(content=None, meta={"a": 1})])
    with pytest.raises(BundleMismatchError):
        EdgeDocumentStore(tmp_path / "own.db", bundle="minilm", embedder_options=ONE_THREAD).count_documents()
    with pytest.raises(BundleMismatchError):
        EdgeDocumentStore(tmp_path / "own.db", space="mine").count_documents()


def test_words_and_both(store: EdgeDocumentStore) -> None:
    store.write_documents(
        [Document(content=note.content, meta=note.meta, embedding=vector(i)) for i, note in enumerate(NOTES)]
    )
    found = EdgeKeywordRetriever(store).run("cat on a windowsill")["documents"]
    assert [one.content for one in found] == [NOTES[1].content]
    assert 0.5 < EdgeKeywordRetriever(store, scale_score=True).run("cat")["documents"][0].score < 1
    both = EdgeHybridRetriever(store, filters={"field": "meta.lang", "operator": "==", "value": "en"})
    assert [one.content for one in both.run("cat", vector(0))["documents"]][:2] != []
    assert {one.meta["lang"] for one in both.run("cat", vector(2))["documents"]} == {"en"}
    with pytest.raises(ValueError, match="give the query's"):
        both.run("cat")


def test_a_pipeline_saved_as_yaml(tmp_path: Path) -> None:
    """Loaded from its file it gives the same; documents are embedded and written by another one."""
    path = tmp_path / "notes.db"
    indexing = Pipeline()
    indexing.add_component("embedder", EdgeDocumentEmbedder("static", embedder_options=ONE_THREAD))
    indexing.add_component("writer", DocumentWriter(EdgeDocumentStore(path)))
    indexing.connect("embedder", "writer")
    assert indexing.run({"embedder": {"documents": NOTES}})["writer"]["documents_written"] == 3
    asking = Pipeline()
    asking.add_component("text", EdgeTextEmbedder("static", embedder_options=ONE_THREAD))
    store = EdgeDocumentStore(path)
    english = {"field": "meta.lang", "operator": "==", "value": "en"}
    asking.add_component("nearest", EdgeEmbeddingRetriever(store, filters=english, filter_policy="merge", top_k=2))
    asking.add_component("words", EdgeKeywordRetriever(store))
    asking.add_component("both", EdgeHybridRetriever(store))
    asking.connect("text.embedding", "nearest.query_embedding")
    asking.connect("text.embedding", "both.query_embedding")
    with (tmp_path / "asking.yaml").open("w") as file:
        asking.dump(file)
    with (tmp_path / "asking.yaml").open() as file:
        loaded = Pipeline.load(file)
    question = "when does the boat go?"
    late = {"field": "meta.at.hour", "operator": ">=", "value": 9}
    asked = {
        "text": {"text": question},
        "nearest": {"filters": late},
        "words": {"query": "chat"},
        "both": {"query": question},
    }
    expected, found = asking.run(asked), loaded.run(asked)
    assert found == expected
    assert [one.id for one in found["nearest"]["documents"]] == [NOTES[0].id]
    assert found["both"]["documents"][0].id == NOTES[0].id
    assert found["words"]["documents"][0].meta == {"lang": "fr"}
    assert asyncio.run(loaded.run_async(asked)) == expected
    assert loaded.to_dict() == asking.to_dict()


def test_options_that_do_not_fit(tmp_path: Path, store: EdgeDocumentStore) -> None:
    with pytest.raises(InputError, match="expected exact or int8"):
        EdgeDocumentStore(tmp_path / "a.db", embeddings="float16")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="leave space and embedding_dim out"):
        EdgeDocumentStore(tmp_path / "a.db", bundle="static", embedding_dim=3)
    with pytest.raises(TypeError, match="no option thread"):
        EdgeDocumentStore(tmp_path / "a.db", embedder_options={"thread": 1})
    with pytest.raises(InputError, match="unknown options: words2"):
        EdgeDocumentStore(tmp_path / "a.db", index_options={"words2": 1})
    with pytest.raises(TypeError, match="expected EdgeDocumentStore"):
        EdgeEmbeddingRetriever(InMemoryDocumentStore(shared=False))  # type: ignore[arg-type]
    for most in (0, -1):
        with pytest.raises(InputError, match="top_k"):
            EdgeKeywordRetriever(store, top_k=most)
    store.write_documents([Document(content="x", embedding=vector(1))])
    with pytest.raises(InputError, match="vector"):
        store.embedding_retrieval([1.0, 2.0])
    for wrong in (None, [], "text", [float("nan")], [0.0] * DIM):
        with pytest.raises(InputError, match="query_embedding"):
            store.embedding_retrieval(wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="embedder_options do nothing without a bundle"):
        EdgeDocumentStore(store.path, embedder_options=ONE_THREAD).count_documents()
    assert not (tmp_path / "a.db").exists()


def test_recreated(store: EdgeDocumentStore, tmp_path: Path) -> None:
    """The space of what was deleted is given back, and the store goes on."""
    store.write_documents([Document(content=str(i) * 5000) for i in range(50)])
    large = (tmp_path / "notes.db").stat().st_size
    store.delete_all_documents(recreate_index=True)
    assert (tmp_path / "notes.db").stat().st_size < large / 2
    assert store.write_documents(NOTES) == 3


def test_copies_and_pickles(store: EdgeDocumentStore) -> None:
    """A copy is another store on the same file, also of what holds one."""
    store.write_documents(NOTES)
    retriever = EdgeKeywordRetriever(store, top_k=3, filter_policy="merge")
    embedder = EdgeDocumentEmbedder("static", prefix="x ", embedder_options=ONE_THREAD)
    embedder.warm_up()
    for copied in (copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))):  # noqa: S301 - ours
        assert copied(store).filter_documents() == NOTES
        assert copied(retriever).to_dict() == retriever.to_dict()
        assert copied(retriever).run("chat") == retriever.run("chat")
        assert copied(embedder).run(NOTES) == embedder.run(NOTES)
