"""LlamaIndex: embedding, store and reranker in its own indexes; filters against its own SimpleVectorStore."""

import asyncio
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.commands import run
from builders.docpages import run_page

pytestmark = pytest.mark.frameworks
pytest.importorskip("llama_index.core")

from llama_index.core import Document as LlamaDocument
from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import IndexNode, NodeRelationship, NodeWithScore, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from edge_embed import (
    BundleMismatchError,
    DocumentError,
    DuplicateKeyError,
    Embedder,
    FilterError,
    InputError,
    Reranker,
    TruncationWarning,
)
from edge_embed.integrations.llamaindex import EdgeEmbedding, EdgeReranker, EdgeVectorStore

MOCK = MockEmbedding(embed_dim=1)
TEXTS = {
    "ferry": ("The ferry to the island leaves at nine.", {"lang": "en", "year": 2001}),
    "boat": ("The boat to the island leaves at ten.", {"lang": "en", "year": 2010}),
    "cat": ("The cat sleeps on the warm windowsill.", {"lang": "en", "year": 2020}),
    "katze": ("Die Katze schläft auf dem Sofa.", {"lang": "de", "tags": ["animal"]}),
}


class Remote(MockEmbedding):
    """Embeddings of another library."""


def node(key: str, text: str, metadata: dict[str, Any], source: str | None = None, **more: Any) -> TextNode:
    links = {} if source is None else {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=source)}
    return TextNode(id_=key, text=text, metadata=metadata, relationships=links, **more)


@pytest.fixture(scope="module")
def static() -> Embedder:
    return Embedder("static")


@pytest.fixture
def store(tmp_path: Path, static: Embedder) -> Iterator[EdgeVectorStore]:
    """Four nodes of two documents in an index of the small bundle."""
    found = EdgeVectorStore(tmp_path / "notes.db", EdgeEmbedding(static))
    sources = {"ferry": "travel", "boat": "travel", "cat": "animals", "katze": "animals"}
    assert found.add([node(key, *rest, sources[key]) for key, rest in TEXTS.items()]) == list(TEXTS)
    yield found
    found.close()


def asked(text: str | None = "a sleeping cat", k: int = 4, **more: Any) -> VectorStoreQuery:
    return VectorStoreQuery(query_str=text, similarity_top_k=k, **more)


def filters(*given: Any, condition: str = "and") -> MetadataFilters:
    inner = [
        one
        if isinstance(one, MetadataFilters)
        else MetadataFilter(**dict(zip(("key", "value", "operator"), one, strict=True)))
        for one in given
    ]
    return MetadataFilters(filters=inner, condition=condition)


async def test_vectors_are_the_embedders(static: Embedder) -> None:
    """Queries and texts get the bundle's prompts for them, alone, many at once, and awaited."""
    embedding = EdgeEmbedding(static, embed_batch_size=2)
    texts = ["one", "two", "three"]
    documents, query = static.encode_document(texts).tolist(), static.encode_query(["one"])[0].tolist()
    assert embedding.get_text_embedding("one") == documents[0]
    assert embedding.get_text_embedding_batch(texts) == documents
    assert embedding.get_query_embedding("one") == query
    assert await embedding.aget_text_embedding("two") == documents[1]
    assert await embedding.aget_text_embedding_batch(texts) == documents
    assert await asyncio.gather(*[embedding.aget_query_embedding("one") for _ in range(10)]) == [query] * 10
    assert embedding.get_agg_embedding_from_queries(["one"]) == query
    assert embedding.model_name == static.name
    assert len(EdgeEmbedding("static", truncate_dim=32, embed_batch_size=5).get_query_embedding("a")) == 32
    with pytest.raises(TypeError, match="colour"):
        EdgeEmbedding("static", colour="red")
    with pytest.raises(InputError, match="options of its own"):
        EdgeEmbedding(static, threads=1)


def test_embedding_as_a_component(static: Embedder) -> None:
    """Pickled it is the same model; a cache of transformations does not take it for one of another bundle."""
    embedding = EdgeEmbedding(static, embed_batch_size=7)
    copy = pickle.loads(pickle.dumps(embedding))  # noqa: S301 - our own
    assert copy.get_query_embedding("a") == embedding.get_query_embedding("a")
    assert copy.embed_batch_size == 7
    nodes = [node("a", "text", {})]
    hashes = {get_transformation_hash(nodes, one) for one in (embedding, copy, EdgeEmbedding("static", truncate_dim=8))}
    assert len(hashes) == 2
    (embedded,) = IngestionPipeline(transformations=[embedding]).run(nodes=nodes)
    assert embedded.embedding == embedding.get_text_embedding("text")


def test_embedding_from_its_dictionary() -> None:
    """Made again where the bundle and its options give the same vectors, refused where they do not."""
    for bundle, options in ((None, {}), ("static", {"truncate_dim": 64})):
        embedding = EdgeEmbedding(bundle, embed_batch_size=7, **options)
        again = EdgeEmbedding.from_dict(embedding.to_dict(), bundle=bundle, **options)
        assert again.to_dict() == embedding.to_dict()
        assert again.get_text_embedding("a") == embedding.get_text_embedding("a")
    for wrong in ({}, {"bundle": "static"}):
        with pytest.raises(BundleMismatchError, match="give bundle="):
            EdgeEmbedding.from_dict(embedding.to_dict(), **wrong)


def test_index_over_a_store(tmp_path: Path) -> None:
    """Documents are split, stored, found, and deleted by an index of LlamaIndex; another one opens the file."""
    path = tmp_path / "a.db"
    store = EdgeVectorStore(path)  # the default bundle
    documents = [LlamaDocument(id_=key, text=text, metadata=metadata) for key, (text, metadata) in TEXTS.items()]
    context = StorageContext.from_defaults(vector_store=store)
    index = VectorStoreIndex.from_documents(
        documents,
        storage_context=context,
        embed_model=MOCK,
        transformations=[SentenceSplitter(chunk_size=128, chunk_overlap=0)],
    )
    engine = index.as_query_engine(llm=MockLLM(), similarity_top_k=1)
    answer = engine.query("when does the boat go?")
    assert answer.source_nodes[0].node.ref_doc_id in ("boat", "ferry")
    assert "leaves at" in str(answer)
    context.persist(tmp_path / "context")
    reopened = EdgeVectorStore(path)
    second = VectorStoreIndex.from_vector_store(reopened, embed_model=MOCK)
    for mode in ("default", "hybrid", "text_search", "mmr"):
        retriever = second.as_retriever(similarity_top_k=1, vector_store_query_mode=mode)
        (found,) = retriever.retrieve("cat windowsill")
        assert found.node.ref_doc_id == "cat"
        assert found.node.get_content() == TEXTS["cat"][0]
        assert found.node.metadata == TEXTS["cat"][1]
    where = filters(("lang", "de", "=="))
    assert [one.node.ref_doc_id for one in second.as_retriever(filters=where).retrieve("a cat")] == ["katze"]
    second.insert(LlamaDocument(id_="dog", text="A dog barks in the yard.", metadata={"lang": "en"}))
    assert index.as_retriever(similarity_top_k=1).retrieve("a barking dog")[0].node.ref_doc_id == "dog"
    index.delete_ref_doc("dog")
    assert store.client is not None
    assert len(store.client) == 4
    nodes = second.as_retriever().retrieve("cat")
    second.delete_nodes([nodes[0].node.node_id])
    assert len(store.client) == 3
    for one in (store, reopened):
        one.close()


async def test_awaited_index(tmp_path: Path, static: Embedder) -> None:
    """The same, awaited; with the bundle's own embedding as the embed_model, whose vectors the index needs not."""
    store = EdgeVectorStore(tmp_path / "a.db", EdgeEmbedding(static))
    index = VectorStoreIndex(
        [], storage_context=StorageContext.from_defaults(vector_store=store), embed_model=EdgeEmbedding(static)
    )
    with pytest.warns(UserWarning, match="embeds their texts again"):
        await index.ainsert_nodes([node(key, *rest, key) for key, rest in TEXTS.items()])
    retriever = index.as_retriever(similarity_top_k=1)
    found = await asyncio.gather(*(retriever.aretrieve(text) for text, _ in TEXTS.values()))
    assert [nodes[0].node.node_id for nodes in found] == list(TEXTS)
    result = await store.aquery(asked())
    assert result.ids == store.query(asked()).ids
    assert [one.node_id for one in await store.aget_nodes(["cat"])] == ["cat"]
    await store.adelete("ferry")
    await store.adelete_nodes(["boat"])
    await store.async_add([node("dog", "A dog barks.", {})])
    assert sorted(one.node_id for one in await store.aget_nodes()) == ["cat", "dog", "katze"]
    await store.aclear()
    assert await store.aget_nodes() == []
    store.close()


def test_modes(store: EdgeVectorStore, static: Embedder) -> None:
    """Similarities of vectors are cosines; modes and wishes that are not done are refused by name."""
    query = "when does the boat go?"
    vector = static.encode_query([query])[0]
    cosines = dict(zip(TEXTS, static.encode_document([text for text, _ in TEXTS.values()]) @ vector, strict=True))
    order = sorted(cosines, key=lambda key: -cosines[key])
    for question in (
        asked(query),
        asked(None, query_embedding=vector.tolist()),
        asked("", query_embedding=vector.tolist()),
    ):
        result = store.query(question)
        assert result.ids == order
        assert [one.node_id for one in result.nodes or []] == order
        assert result.similarities == pytest.approx([cosines[key] for key in order], abs=2e-3)
    assert store.query(asked("windowsill", mode=VectorStoreQueryMode.TEXT_SEARCH)).ids == ["cat"]
    assert store.query(asked("windowsill", mode=VectorStoreQueryMode.HYBRID)).ids[0] == "cat"  # type: ignore[index]
    assert len(store.query(asked(mode=VectorStoreQueryMode.HYBRID, hybrid_top_k=2)).ids or []) == 2
    for mode in ("semantic_hybrid", "svm", "linear_regression", "logistic_regression"):
        with pytest.raises(InputError, match=f"mode is '{mode}', expected one of default, mmr"):
            store.query(asked(mode=VectorStoreQueryMode(mode)))
    assert store.query(asked("windowsill", mode="text_search")).ids == ["cat"]
    with pytest.raises(InputError, match="mode is 'words', expected one of"):
        store.query(asked(mode="words"))
    with pytest.raises(InputError, match="without"):
        store.query(asked(mode=VectorStoreQueryMode.SPARSE))
    for name, value in {"alpha": 0.5, "sparse_top_k": 2, "output_fields": ["a"], "embedding_field": "b"}.items():
        with pytest.raises(InputError, match=f"{name} of a query does nothing"):
            store.query(asked(**{name: value}))
    with pytest.raises(InputError, match="unknown options: colour"):
        store.query(asked(), colour="red")
    with pytest.raises(InputError, match="unknown options"):
        store.add([], colour="red")


def test_mmr(store: EdgeVectorStore, static: Embedder) -> None:
    """The first two nodes are those of SimpleVectorStore, which looks at the last node alone; ours at all before."""
    simple = SimpleVectorStore()
    vectors = static.encode_document([text for text, _ in TEXTS.values()])
    simple.add(
        [
            node(key, *rest, embedding=vector.tolist())
            for (key, rest), vector in zip(TEXTS.items(), vectors, strict=True)
        ]
    )
    vector = static.encode_query(["to the island"])[0].tolist()
    for threshold in (0.05, 0.3, 0.5, 0.7, 1.0):
        question = asked("to the island", k=2, query_embedding=vector, mode=VectorStoreQueryMode.MMR)
        expected = simple.query(question, mmr_threshold=threshold).ids
        assert store.query(question, mmr_threshold=threshold).ids == expected
        question.mmr_threshold = threshold
        assert store.query(question).ids == expected
    assert set(store.query(asked("to the island", k=2)).ids or []) == {"ferry", "boat"}
    diverse = store.query(asked("to the island", k=2, mode=VectorStoreQueryMode.MMR), mmr_threshold=0.05).ids
    assert set(diverse or []) != {"ferry", "boat"}
    with pytest.raises(InputError, match="mmr is 2"):
        store.query(asked(mode=VectorStoreQueryMode.MMR), mmr_threshold=2)


WORDS = ["sea", "Sea", "SEASIDE", "sea breeze", "harbour", "", "straße", "STRASSE", "10", "%", "_"]
NUMBERS: list[Any] = [0, 1, 2, -1, 1.0, 2.5, 1e9, 2**60]
LISTS: list[Any] = [[], ["sea"], ["sea", "harbour"], ["Sea", ""], [1, 2], [0, 2.5], [1]]
FIELDS = {"word": WORDS, "number": NUMBERS, "list": LISTS, "flag": [True, False], "day": ["2024-05-01", "2023-12-31"]}
ORDERED = [FilterOperator.GT, FilterOperator.GTE, FilterOperator.LT, FilterOperator.LTE]


def random_metadata(rng: random.Random) -> dict[str, Any]:
    return {
        name: rng.choice([*values, None]) if rng.random() < 0.9 else None
        for name, values in FIELDS.items()
        if rng.random() < 0.8
    }


def random_filter(rng: random.Random) -> MetadataFilter:
    """An operator with a value that SimpleVectorStore can compare with those of the field: it raises TypeError else."""
    field = rng.choice([*FIELDS, "nowhere"])
    texts = field in ("word", "day")
    values: list[Any] = WORDS if field == "word" else FIELDS["day"] if field == "day" else NUMBERS
    operators = [FilterOperator.EQ, FilterOperator.NE, FilterOperator.IN, FilterOperator.NIN, FilterOperator.IS_EMPTY]
    if field != "list":
        operators += ORDERED
    if texts:
        operators += [FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE]
    if field in ("word", "list", "day"):
        operators += [FilterOperator.CONTAINS, FilterOperator.ANY, FilterOperator.ALL]
    operator = rng.choice(operators)
    if field == "list" and rng.random() < 0.5:
        values = WORDS
    if operator in (FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL):
        value: Any = [
            one for one in rng.sample(values, rng.randint(0, min(3, len(values)))) if isinstance(one, str | int)
        ]
    else:
        value = rng.choice(values)
    if operator in (FilterOperator.EQ, FilterOperator.NE) and rng.random() < 0.1:
        value = []
    return MetadataFilter(key=field, value=value, operator=operator)


def random_filters(rng: random.Random, depth: int) -> MetadataFilters:
    inner: list[Any] = [random_filter(rng) for _ in range(rng.randint(0 if depth < 2 else 1, 3))]
    if depth and rng.random() < 0.7:
        inner += [random_filters(rng, depth - 1) for _ in range(rng.randint(1, 2))]
    return MetadataFilters(filters=inner, condition=rng.choice(list(FilterCondition)))


def oracle(simple: SimpleVectorStore, given: MetadataFilters | MetadataFilter, ids: set[str]) -> set[str]:
    """What SimpleVectorStore finds for each filter, combined: it refuses nested ones."""
    if isinstance(given, MetadataFilter):
        question = VectorStoreQuery(
            query_embedding=[1.0], similarity_top_k=1000, filters=MetadataFilters(filters=[given])
        )
        return set(simple.query(question).ids or [])
    found = [oracle(simple, one, ids) for one in given.filters]
    if not found:
        return ids
    if given.condition == FilterCondition.AND:
        return set.intersection(*found)
    union = set.union(*found)
    return union if given.condition == FilterCondition.OR else ids - union


@pytest.fixture(scope="module")
def two_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SimpleVectorStore, EdgeVectorStore]]:
    """The same 120 nodes with random metadata in both, whose vectors do not matter."""
    rng = random.Random("nodes")  # noqa: S311 - repeatable test data
    nodes = [node(f"n{i}", f"text {i}", random_metadata(rng), embedding=[1.0]) for i in range(120)]
    simple = SimpleVectorStore()
    simple.add(nodes)
    store = EdgeVectorStore(tmp_path_factory.mktemp("filters") / "a.db", Remote(embed_dim=1))
    store.add(nodes)
    yield simple, store
    store.close()


def test_filters_equal_the_oracle(two_stores: tuple[SimpleVectorStore, EdgeVectorStore]) -> None:
    """Random filters, nested three deep, find the nodes that SimpleVectorStore finds, and no others."""
    simple, store = two_stores
    rng = random.Random("filters")  # noqa: S311 - repeatable test data
    every = {f"n{i}" for i in range(120)}
    sizes, used = set(), set()
    for _ in range(200):
        given = random_filters(rng, 2)
        expected = oracle(simple, given, every)
        question = VectorStoreQuery(query_embedding=[1.0], similarity_top_k=1000, filters=given)
        assert set(store.query(question).ids or []) == expected, given
        assert {one.node_id for one in store.get_nodes(filters=given)} == expected
        sizes.add(len(expected))
        used |= {one.operator for one in given.filters if isinstance(one, MetadataFilter)}
    assert len(sizes) > 50
    assert used == set(FilterOperator)


def test_each_operator_equals_the_oracle(two_stores: tuple[SimpleVectorStore, EdgeVectorStore]) -> None:
    """One filter at a time, so that no other hides it."""
    simple, store = two_stores
    rng = random.Random("one filter")  # noqa: S311 - repeatable test data
    hits = dict.fromkeys(FilterOperator, 0)
    for _ in range(400):
        given = random_filter(rng)
        expected = oracle(simple, given, set())
        question = VectorStoreQuery(
            query_embedding=[1.0], similarity_top_k=1000, filters=MetadataFilters(filters=[given])
        )
        assert set(store.query(question).ids or []) == expected, given
        hits[given.operator] += 0 < len(expected) < 120
    assert min(hits.values()) >= 3, hits


@pytest.mark.parametrize(
    ("key", "value", "operator", "message"),
    [
        ("a", None, "==", "operator '==' on 'a' has None, expected a value"),
        ("a", "x", "in", "operator 'in' on 'a' has 'x', expected a list"),
        ("a", ["x"], "==", "expected a text or a number: operators any and all take lists"),
        ("a", [], ">", "expected a text or a number"),
        ("a", ["x"], "contains", "expected a text or a number"),
        ("a", 1, "text_match", "operator 'text_match' on 'a' has 1, expected a text"),
        ("a", "x", "any", "expected a list"),
    ],
)
def test_bad_filters(store: EdgeVectorStore, key: str, value: Any, operator: str, message: str) -> None:
    """A value that an operator cannot compare is refused, by operator and field, also in deletions."""
    given = filters((key, value, operator))
    with pytest.raises(FilterError) as error:
        store.query(asked(filters=given))
    assert message in str(error.value)
    with pytest.raises(FilterError):
        store.delete_nodes(filters=given)
    assert len(store.get_nodes()) == 4


@pytest.mark.parametrize("key", ["$key", "$and", "$has"])
@pytest.mark.parametrize("operator", ["==", "is_empty"])
def test_names_of_filters_are_no_operators(store: EdgeVectorStore, key: str, operator: str) -> None:
    """Those of an index's own conditions are refused: "$key" would ask for a node's id."""
    with pytest.raises(FilterError, match=f"'[$]{key[1:]}' is no field of the metadata"):
        store.delete_nodes(filters=filters((key, "cat", operator)))
    assert len(store.get_nodes()) == 4


def test_ids_and_sources(store: EdgeVectorStore) -> None:
    """Queries among nodes, or nodes of documents; nodes by id; deletions by all of these."""
    assert set(store.query(asked(node_ids=["cat", "boat"])).ids or []) == {"cat", "boat"}
    assert len(store.query(asked(node_ids=[])).ids or []) == 4
    assert set(store.query(asked(doc_ids=["travel"])).ids or []) == {"ferry", "boat"}
    assert store.query(asked(doc_ids=["travel"], node_ids=["cat"])).ids == []
    de = filters(("lang", "de", "=="))
    assert [one.node_id for one in store.get_nodes(["katze", "gone", "boat"])] == ["katze", "boat"]
    assert [one.node_id for one in store.get_nodes(["katze", "boat"], de)] == ["katze"]
    assert store.get_nodes(["boat"], filters(("colour", "red", "=="))) == []
    store.delete_nodes(["boat", "katze"], filters=de)
    assert [one.node_id for one in store.get_nodes()] == ["boat", "cat", "ferry"]
    store.delete("travel")
    assert [one.node_id for one in store.get_nodes()] == ["cat"]
    store.delete("nothing")
    store.delete_nodes(["gone"])
    store.delete_nodes([])
    store.delete_nodes(filters=filters(("colour", "red", "==")))
    with pytest.raises(InputError, match=r"clear\(\) deletes all"):
        store.delete_nodes()
    empty = MetadataFilters(filters=[])
    for given in (empty, MetadataFilters(filters=[empty])):
        with pytest.raises(InputError, match="with a condition"):
            store.delete_nodes(filters=given)
    assert len(store.get_nodes()) == 1
    store.clear()
    assert store.get_nodes() == []
    assert store.query(asked()).ids == []


def test_nodes_come_back_whole(store: EdgeVectorStore) -> None:
    """Relations, excluded keys, places and types of nodes; of metadata what JSON has."""
    given = node(
        "odd", "some text", {"n": np.int64(3), "day": date(2024, 5, 1), "none": None, "deep": [[1, (2,)], {"a": []}],
         "doc_id": "mine"},
        "source", excluded_embed_metadata_keys=["n"], start_char_idx=3, end_char_idx=12, text_template="{content}!",
    )  # fmt: skip
    before = given.model_copy(deep=True)
    store.add([given, IndexNode(id_="pointer", text="see there", index_id="other")])
    assert given == before
    (found, pointer) = store.get_nodes(["odd", "pointer"])
    clean = {"n": 3, "day": "2024-05-01", "none": None, "deep": [[1, [2]], {"a": []}], "doc_id": "mine"}
    assert found == given.model_copy(update={"metadata": clean})
    assert found.ref_doc_id == "source"
    assert isinstance(pointer, IndexNode)
    assert pointer.index_id == "other"
    result = store.query(asked("some text", filters=filters(("day", "2024", ">"))))
    assert result.nodes == [found]


@pytest.mark.parametrize("value", [{1, 2}, object(), b"x", float("nan"), {"a": {2: 3}}])
def test_bad_metadata(store: EdgeVectorStore, value: Any) -> None:
    """What JSON cannot hold is refused by name, and no node of the call is stored."""
    with pytest.raises(DocumentError, match=r"document 'bad': metadata field .*field"):
        store.add([node("good", "text", {}), node("bad", "text", {"field": value})])
    assert store.get_nodes(["good", "bad"]) == []


def test_long_texts_are_named() -> None:
    """The embedding says which texts the model does not read to the end; the store reads all of them."""
    with pytest.warns(TruncationWarning, match="text 1"):
        EdgeEmbedding("static").get_text_embedding_batch(["short", "word " * 600])


def test_bad_nodes(store: EdgeVectorStore) -> None:
    """Ids given twice, empty texts, and vectors that the bundle did not make: refused, and nothing is stored."""
    with pytest.raises(DuplicateKeyError, match="twice in one call: 'a'"):
        store.add([node("a", "one", {}), node("a", "two", {})])
    with pytest.raises(DocumentError, match="document 'empty' has no text"):
        store.add([node("a", "one", {}), node("empty", "", {})])
    with pytest.raises(InputError, match="node 'a' brings a vector of 3 numbers"):
        store.add([node("a", "one", {}, embedding=[1.0, 2.0, 3.0])])
    assert store.get_nodes(["a", "empty"]) == []
    store.add([node("cat", "Another cat.", {}, "animals", embedding=[0.5])])
    assert [one.get_content() for one in store.get_nodes(["cat"])] == ["Another cat."]
    assert len(store.get_nodes()) == 4


def test_given_vectors(tmp_path: Path, static: Embedder) -> None:
    """With another embedding, the index holds the vectors that it makes, and takes no others."""
    path, remote = tmp_path / "given.db", Remote(embed_dim=4)
    store = EdgeVectorStore(path, remote)
    assert store.is_embedding_query
    assert store.client is None
    assert store.query(asked(query_embedding=[1, 0, 0, 0])).ids == []
    assert store.get_nodes() == []
    store.delete("x")
    store.clear()
    assert not path.exists()
    store.add([node("a", "blue whale", {}, embedding=[1, 0, 0, 0]), node("b", "", {}, embedding=[0, 1, 0, 0])])
    assert store.query(asked(None, k=1, query_embedding=[0, 2, 0, 0])).ids == ["b"]
    assert store.query(asked("whale", mode=VectorStoreQueryMode.TEXT_SEARCH)).ids == ["a"]
    assert store.query(asked("whale", query_embedding=[1, 0, 0, 0], mode=VectorStoreQueryMode.HYBRID)).ids[0] == "a"  # type: ignore[index]
    with pytest.raises(InputError, match="the query is empty: give its query_embedding"):
        store.query(asked())
    with pytest.raises(InputError, match="node 'c' has no embedding"):
        store.add([node("c", "text", {})])
    with pytest.raises(InputError, match="shape"):
        store.add([node("c", "text", {}, embedding=[1, 2])])
    index = VectorStoreIndex.from_vector_store(store, embed_model=remote)
    index.insert_nodes([node("d", "more", {})])
    assert {one.node.node_id for one in index.as_retriever(similarity_top_k=3).retrieve("any")} == {"a", "b", "d"}
    with pytest.raises(BundleMismatchError, match="vectors of the space 'Remote"):
        EdgeVectorStore(path, EdgeEmbedding(static))
    with pytest.raises(BundleMismatchError, match="those given come from 'another'"):
        EdgeVectorStore(path, remote, space="another")
    plain = EdgeVectorStore(path)
    assert plain.query(asked(None, k=1, query_embedding=[0, 2, 0, 0])).ids == ["b"]
    with pytest.raises(InputError, match="make the store with their embeddings"):
        plain.add([node("c", "text", {}, embedding=[1, 2, 3, 4])])
    for one in (store, plain):
        one.close()


def test_options(tmp_path: Path, static: Embedder) -> None:
    """Those of Index.open; others are refused by name, before a file is made."""
    with pytest.raises(InputError, match="unknown options: colour"):
        EdgeVectorStore(tmp_path / "a.db", static, colour="red")
    with pytest.raises(InputError, match="space= is for embeddings of others"):
        EdgeVectorStore(tmp_path / "a.db", static, space="a")
    with pytest.raises(InputError, match="expected BaseEmbedding"):
        EdgeVectorStore(tmp_path / "a.db", "static")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    store = EdgeVectorStore(tmp_path / "a.db", static, fields=["lang"])
    assert store.client is not None
    assert store.client.stats()["fields"] == ["lang"]
    assert store.to_dict()["class_name"] == "EdgeVectorStore"
    store.close()


def test_sources_have_an_index(tmp_path: Path, static: Embedder) -> None:
    """Of a new file, so that a document's nodes are found fast; not where a program names other fields."""
    new, given = EdgeVectorStore(tmp_path / "a.db", static), EdgeVectorStore(tmp_path / "b.db", Remote(embed_dim=1))
    copy = pickle.loads(pickle.dumps(given))  # noqa: S301 - our own
    copy.add([node("a", "text", {}, embedding=[1.0])])
    named = EdgeVectorStore(tmp_path / "c.db", static, fields=[])
    for store, fields in ((new, ["ref_doc_id"]), (given, ["ref_doc_id"]), (named, [])):
        assert store.client is not None
        assert store.client.stats()["fields"] == fields
        store.close()
    EdgeVectorStore(tmp_path / "c.db").close()
    copy.close()


def test_nodes_embedded_twice(store: EdgeVectorStore, static: Embedder) -> None:
    """A store that embeds by itself says so, once, where an embed_model has done that already."""
    nodes = [node(f"{i}", "text", {}, embedding=[0.1] * static.dim) for i in range(2)]
    with pytest.warns(UserWarning, match=r"MockEmbedding\(embed_dim=1\) saves that work"):
        store.add(nodes[:1])
    store.add(nodes[1:])
    assert len(store.get_nodes(["0", "1"])) == 2


def test_pickled(store: EdgeVectorStore) -> None:
    """A copy opens the same file, and both write to it in turns."""
    copy = pickle.loads(pickle.dumps(store))  # noqa: S301 - our own
    copy.add([node("dog", "A dog barks.", {})])
    assert store.query(asked("a barking dog", k=1)).ids == ["dog"]
    copy.close()


def test_other_process(store: EdgeVectorStore, tmp_path: Path) -> None:
    """A second process adds to the file that this one has open, and both find all."""
    code = """
import sys
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery
from edge_embed.integrations.llamaindex import EdgeVectorStore
store = EdgeVectorStore(sys.argv[1])
store.add([TextNode(id_="dog", text="A dog barks in the yard.")])
print(store.query(VectorStoreQuery(query_str="a sleeping cat")).ids)
"""
    path = tmp_path / "notes.db"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "['cat']\n"
    assert store.query(asked("a barking dog", k=1)).ids == ["dog"]


def test_files_of_the_command_line(tmp_path: Path) -> None:
    """Documents of `edge-embed add` are nodes: a query gives passages; `edge-embed search` finds nodes of a store."""
    text = " ".join(["Nothing happens here."] * 200) + " The treasure is under the oak."
    (tmp_path / "novel.txt").write_text(text)
    assert run("add", tmp_path / "a.db", tmp_path / "novel.txt", "--bundle", "static").exit_code == 0
    store = EdgeVectorStore(tmp_path / "a.db")
    (found,) = store.query(asked("where is the treasure?", k=1)).nodes or []
    assert isinstance(found, TextNode)
    assert found.node_id == "novel.txt"
    assert "under the oak" in found.text
    assert text[found.start_char_idx : found.end_char_idx] == found.text
    assert store.get_nodes(["novel.txt"])[0].get_content() == text
    store.add([node("dog", "A dog barks.", {"lang": "en"})])
    result = run("search", tmp_path / "a.db", "a barking dog", "-k", 1, "--where", "lang=en", "--bundle", "static")
    assert result.exit_code == 0, result.stderr
    assert "1. dog" in result.stdout
    store.close()


async def test_reranker(store: EdgeVectorStore, reranker: Reranker) -> None:
    """The order and the scores are the cross-encoder's; nodes that were given stay as they are."""
    nodes = [NodeWithScore(node=one, score=0.5) for one in store.get_nodes()]
    texts = [one.node.get_content(metadata_mode="embed") for one in nodes]
    assert "lang: en" in texts[0]
    ranked = reranker.rerank("a sleeping cat", texts)
    order = [(nodes[one.index].node.node_id, one.score) for one in ranked]
    best = EdgeReranker(reranker.path, top_n=2, threads=1)
    for one, count in ((EdgeReranker(reranker), 4), (best, 2), (pickle.loads(pickle.dumps(best)), 2)):  # noqa: S301
        found = one.postprocess_nodes(nodes, query_str="a sleeping cat")
        assert [(each.node.node_id, each.score) for each in found] == order[:count]
        awaited = await one.apostprocess_nodes(nodes, query_str="a sleeping cat")
        assert awaited == found
    assert {one.score for one in nodes} == {0.5}
    assert best.postprocess_nodes([], query_str="a") == []
    with pytest.raises(InputError, match="give query_str"):
        best.postprocess_nodes(nodes)
    with pytest.raises(InputError, match="options of its own"):
        EdgeReranker(reranker, threads=1)
    index = VectorStoreIndex.from_vector_store(store, embed_model=MOCK)
    engine = index.as_query_engine(llm=MockLLM(), node_postprocessors=[best])
    assert len(engine.query("a sleeping cat").source_nodes) == 2


def test_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of docs/llamaindex.md runs."""
    assert run_page("llamaindex.md", tmp_path, monkeypatch) >= 4
