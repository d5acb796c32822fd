"""LangChain: its own suites for embeddings, vector stores and retrievers, and what these leave out."""

import asyncio
import copy
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.commands import run
from builders.docpages import run_page

pytestmark = pytest.mark.frameworks
pytest.importorskip("langchain_core")
pytest.importorskip("langchain_tests")

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.vectorstores.utils import maximal_marginal_relevance
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.unit_tests import EmbeddingsUnitTests

from edge_embed import (
    BundleMismatchError,
    DocumentError,
    DuplicateKeyError,
    Embedder,
    FilterError,
    Index,
    InputError,
    Reranker,
    TruncationWarning,
)
from edge_embed.integrations.langchain import EdgeEmbeddings, EdgeReranker, EdgeVectorStore

TEXTS = {
    "ferry": ("The ferry to the island leaves at nine.", {"lang": "en", "year": 2001}),
    "boat": ("The boat to the island leaves at ten.", {"lang": "en", "year": 2010}),
    "cat": ("The cat sleeps on the warm windowsill.", {"lang": "en", "year": 2020}),
    "katze": ("Die Katze schläft auf dem Sofa.", {"lang": "de", "tags": ["animal"]}),
}


@pytest.fixture(scope="module")
def static() -> Embedder:
    return Embedder("static")


class TestEmbeddingsUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self) -> type[EdgeEmbeddings]:
        return EdgeEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"threads": 1}


class TestEmbeddings(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[EdgeEmbeddings]:
        return EdgeEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"bundle": "static"}


class TestOwnBundle(VectorStoreIntegrationTests):
    """An index of a bundle. The suite's texts are single words."""

    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[EdgeVectorStore]:
        store = EdgeVectorStore(tmp_path / "a.db")
        yield store
        store.close()


class TestHybrid(VectorStoreIntegrationTests):
    """The same, with words compared too."""

    @pytest.fixture
    def vectorstore(self, tmp_path: Path, static: Embedder) -> Iterator[EdgeVectorStore]:
        store = EdgeVectorStore(tmp_path / "a.db", EdgeEmbeddings(static), mode="hybrid")
        yield store
        store.close()


class TestGivenVectors(VectorStoreIntegrationTests):
    """An index of the vectors that other embeddings make."""

    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[EdgeVectorStore]:
        store = EdgeVectorStore(tmp_path / "a.db", self.get_embeddings())
        yield store
        store.close()


class RetrieverTests(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def filled(self, store: EdgeVectorStore) -> None:
        self.store = store

    @property
    def retriever_query_example(self) -> str:
        return "a cat"


def _retriever(store: EdgeVectorStore, **options: Any) -> Any:
    return store.as_retriever(search_kwargs=options)


class TestRetriever(RetrieverTests):
    """`as_retriever`, by similarity."""

    @property
    def retriever_constructor(self) -> Callable[..., Any]:
        return partial(_retriever, self.store)


class TestDiverseRetriever(RetrieverTests):
    """`as_retriever`, by maximal marginal relevance."""

    @property
    def retriever_constructor(self) -> Callable[..., Any]:
        return lambda **options: self.store.as_retriever(search_type="mmr", search_kwargs=options)


class TestThresholdRetriever(RetrieverTests):
    """`as_retriever`, with a threshold that all documents reach."""

    @property
    def retriever_constructor(self) -> Callable[..., Any]:
        return lambda **options: self.store.as_retriever(
            search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.0, **options}
        )


@pytest.fixture
def store(tmp_path: Path, static: Embedder) -> Iterator[EdgeVectorStore]:
    """Four documents in an index of the small bundle."""
    found = EdgeVectorStore(tmp_path / "notes.db", EdgeEmbeddings(static))
    texts, metadatas = zip(*TEXTS.values(), strict=True)
    found.add_texts(texts, metadatas, ids=list(TEXTS))
    yield found
    found.close()


def ids(documents: list[Document]) -> list[str | None]:
    return [document.id for document in documents]


def test_vectors_are_the_embedders(static: Embedder) -> None:
    """Queries and documents get the bundle's prompts for them; no texts give no vectors; wrong options are refused."""
    embeddings = EdgeEmbeddings(static)
    assert embeddings.embed_query("a") == static.encode_query(["a"])[0].tolist()
    assert embeddings.embed_documents(["a", "b"]) == static.encode_document(["a", "b"]).tolist()
    assert embeddings.embed_documents([]) == []
    assert len(EdgeEmbeddings("static", truncate_dim=32).embed_query("a")) == 32
    with pytest.raises(TypeError, match="colour"):
        EdgeEmbeddings("static", colour="red")
    with pytest.raises(InputError, match="options of its own"):
        EdgeEmbeddings(static, threads=1)
    again = pickle.loads(pickle.dumps(embeddings))  # noqa: S301 - our own
    assert again.embed_query("a") == embeddings.embed_query("a")


async def test_awaited_vectors(static: Embedder) -> None:
    """Many queries may wait at once, and get what they get one after the other."""
    embeddings = EdgeEmbeddings(static)
    texts = [f"text {i}" for i in range(20)]
    found = await asyncio.gather(*(embeddings.aembed_query(text) for text in texts))
    assert found == [embeddings.embed_query(text) for text in texts]
    assert await embeddings.aembed_documents(texts) == embeddings.embed_documents(texts)


def test_long_texts_are_named(static: Embedder) -> None:
    """Embeddings alone say which texts the model does not read to the end."""
    with pytest.warns(TruncationWarning, match=r"text 1 \(600 tokens\)"):
        EdgeEmbeddings(static).embed_documents(["short", "word " * 600])


def test_filters(store: EdgeVectorStore) -> None:
    """Filters are exact in every kind of search; a field that no document has is an error, as for an index."""
    query = "sleeping animals"
    assert set(ids(store.similarity_search(query, filter={"lang": "en"}))) == {"ferry", "boat", "cat"}
    assert ids(store.similarity_search(query, filter={"year": {"$gte": 2005, "$lt": 2015}})) == ["boat"]
    where = {"$or": [{"tags": {"$contains": "animal"}}, {"$key": "cat"}]}
    assert set(ids(store.similarity_search(query, filter=where))) == {"cat", "katze"}
    assert set(ids(store.max_marginal_relevance_search(query, filter=where))) == {"cat", "katze"}
    assert set(ids(store.as_retriever(search_kwargs={"filter": where}).invoke(query))) == {"cat", "katze"}
    vector = store.embeddings.embed_query(query)  # type: ignore[union-attr]
    assert set(ids(store.similarity_search_by_vector(vector, filter=where))) == {"cat", "katze"}
    assert set(ids(store.max_marginal_relevance_search_by_vector(vector, filter=where))) == {"cat", "katze"}
    with pytest.raises(FilterError, match="no document has the field 'colour'"):
        store.similarity_search(query, filter={"colour": "red"})
    with pytest.raises(FilterError, match="where is <function"):
        store.similarity_search(query, filter=lambda _: True)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="colour"):
        store.similarity_search(query, colour="red")  # type: ignore[call-arg]


def test_scores(store: EdgeVectorStore, static: Embedder) -> None:
    """In mode "vector" a score is the cosine; relevance is the cosine from 0 to 1 in any mode."""
    query = "when does the boat go?"
    cosines = dict(
        zip(TEXTS, static.encode([text for text, _ in TEXTS.values()]) @ static.encode_query([query])[0], strict=True)
    )
    found = store.similarity_search_with_score(query)
    assert ids([document for document, _ in found]) == sorted(cosines, key=lambda key: -cosines[key])
    for document, score in found:
        assert score == pytest.approx(cosines[document.id], abs=2e-3)
    for mode in ("vector", "hybrid", "text"):
        for document, score in store.similarity_search_with_relevance_scores(query, mode=mode):
            assert 0 <= score <= 1
            assert score == pytest.approx(max(0, cosines[document.id]), abs=2e-3)
        ranked = [document for document, _ in store.similarity_search_with_relevance_scores(query, mode=mode)]
        assert ranked == store.similarity_search(query, mode=mode)
        assert store.max_marginal_relevance_search(query, lambda_mult=1.0, mode=mode) == ranked
    assert len(store.similarity_search_with_relevance_scores(query, mode="text")) < 4
    threshold = float(np.mean(sorted(cosines.values())[-2:]))
    options = {"score_threshold": threshold}
    retriever = store.as_retriever(search_type="similarity_score_threshold", search_kwargs=options)
    assert ids(retriever.invoke(query)) == [max(cosines, key=cosines.__getitem__)]


def test_modes(store: EdgeVectorStore) -> None:
    """Words, meanings, or both: for a store, a retriever, or one call."""
    assert ids(store.similarity_search("windowsill", mode="text")) == ["cat"]
    assert ids(store.similarity_search("windowsill", k=1, mode="hybrid")) == ["cat"]
    retriever = store.as_retriever(search_kwargs={"mode": "text", "k": 1})
    assert ids(retriever.invoke("Katze")) == ["katze"]
    with pytest.raises(InputError, match="mode is 'words'"):
        store.similarity_search("windowsill", mode="words")  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_mmr_is_langchains(store: EdgeVectorStore, static: Embedder, share: float) -> None:
    """The order is that of LangChain's own function over the same candidates."""
    query = "the island"
    candidates = store.similarity_search(query, k=3)
    vectors = static.encode([document.page_content for document in candidates])
    order = maximal_marginal_relevance(static.encode_query([query])[0], vectors.tolist(), share, 3)
    found = store.max_marginal_relevance_search(query, k=3, fetch_k=3, lambda_mult=share)
    assert ids(found) == [candidates[place].id for place in order]
    assert ids(store.max_marginal_relevance_search(query, k=2, fetch_k=1, lambda_mult=1.0)) == ids(candidates[:2])
    vector = static.encode_query([query])[0].tolist()
    assert ids(store.max_marginal_relevance_search_by_vector(vector, 3, 3, share)) == ids(found)


def test_mmr_differs(store: EdgeVectorStore) -> None:
    """Diversity takes another document than the second nearest; other numbers are refused."""
    near = ids(store.similarity_search("to the island", k=2))
    assert set(near) == {"ferry", "boat"}
    diverse = ids(store.max_marginal_relevance_search("to the island", k=2, lambda_mult=0.1))
    assert diverse[0] == near[0]
    assert diverse[1] not in near
    assert len(store.max_marginal_relevance_search("to the island", k=3, mode="hybrid")) == 3
    for wrong in (-0.1, 1.1, True, "half"):
        with pytest.raises(InputError, match="lambda_mult"):
            store.max_marginal_relevance_search("a", lambda_mult=wrong)  # type: ignore[arg-type]


def test_deletion(store: EdgeVectorStore) -> None:
    """By id, by filter, or all; ids that are not there do no harm."""
    assert store.delete(["ferry", "nothing"])
    assert store.index is not None
    assert len(store.index) == 3
    assert store.delete([])
    assert len(store.index) == 3
    with pytest.raises(FilterError):
        store.delete(filter={})
    store.add_texts(["one letter"], ids=["o"])
    assert store.delete("boot")  # one id, and no letters
    assert ids(store.get_by_ids("o")) == ["o"]
    assert store.delete("o")
    assert len(store.index) == 3
    assert store.delete(filter={"lang": "de"})
    assert sorted(store.index.keys()) == ["boat", "cat"]
    with pytest.raises(InputError, match="either ids or a filter"):
        store.delete(["cat"], filter={"lang": "de"})
    assert store.delete()
    assert len(store.index) == 0
    assert store.similarity_search("cat") == []


def test_ids(store: EdgeVectorStore) -> None:
    """Given again, an id replaces its document; twice in one call, nothing is stored. New ids are like no others."""
    with pytest.raises(DuplicateKeyError, match="twice in one call: 'a'; nothing was stored"):
        store.add_texts(["one", "two"], ids=["a", "a"])
    assert store.get_by_ids(["a"]) == []
    store.add_documents([Document(id="cat", page_content="Another cat.", metadata={"lang": "fr"})])
    assert store.get_by_ids(["cat", "gone", "boat"]) == [
        Document(id="cat", page_content="Another cat.", metadata={"lang": "fr"}),
        Document(id="boat", page_content=TEXTS["boat"][0], metadata=TEXTS["boat"][1]),
    ]
    made = store.add_documents([Document(page_content="x"), Document(id="given", page_content="y")])
    assert made[1] == "given"
    assert len(set(made) | set(TEXTS)) == 6
    for wrong in ([""], ["a" * 3000], [7]):
        with pytest.raises(DocumentError, match="key"):
            store.add_texts(["text"], ids=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="got str"):
        store.add_texts("text")
    with pytest.raises(InputError, match="2 texts and 1 ids"):
        store.add_texts(["a", "b"], ids=["a"])
    with pytest.raises(InputError, match="2 texts and 3 metadatas"):
        store.add_texts(["a", "b"], [{}, {}, {}])
    assert store.index is not None
    assert len(store.index) == 6


def test_metadata(store: EdgeVectorStore) -> None:
    """None, numpy's types, dates and nested lists come back as JSON has them, and filters find them."""
    given = {
        "none": None,
        "n": np.int64(3),
        "x": np.float32(0.5),
        "day": date(2024, 5, 1),
        "deep": [[1, (2,)], {"a": []}],
    }
    store.add_texts(["some text"], [given], ids=["odd"])
    (found,) = store.get_by_ids(["odd"])
    assert found.metadata == {"none": None, "n": 3, "x": 0.5, "day": "2024-05-01", "deep": [[1, [2]], {"a": []}]}
    assert ids(store.similarity_search("text", filter={"day": {"$gte": "2024-01-01"}, "n": 3})) == ["odd"]
    assert given["n"].dtype == np.int64


@pytest.mark.parametrize("value", [{1, 2}, object(), b"x", float("nan"), {"a": {2: 3}}])
def test_bad_metadata(store: EdgeVectorStore, value: Any) -> None:
    """What JSON cannot hold is refused by name, and no document of the call is stored."""
    with pytest.raises(DocumentError, match=r"document 'bad': metadata field .*field"):
        store.add_texts(["good", "bad"], [{}, {"field": value}], ids=["good", "bad"])
    assert store.get_by_ids(["good", "bad"]) == []


def test_empty_texts(store: EdgeVectorStore) -> None:
    """A document without text has no vector: refused. An empty list is nothing to do."""
    with pytest.raises(DocumentError, match="document 'empty' has no text"):
        store.add_texts(["a", " "], ids=["full", "empty"])
    assert store.add_texts([]) == []
    assert store.get_by_ids(["full"]) == []


def test_reopened(tmp_path: Path, static: Embedder) -> None:
    """All is on disk at once: another store finds it, without being given the embeddings."""
    first = EdgeVectorStore.from_texts(
        ["a cat", "a ship"], EdgeEmbeddings(static), ids=["cat", "ship"], path=tmp_path / "a.db"
    )
    second = EdgeVectorStore(tmp_path / "a.db")  # while the first is open
    assert isinstance(second.embeddings, EdgeEmbeddings)
    assert second.embeddings.embedder.fingerprint == static.fingerprint
    assert ids(second.similarity_search("a kitten", k=1)) == ["cat"]
    second.add_texts(["a kitten"], ids=["kitten"])
    assert ids(first.similarity_search("a kitten", k=1)) == ["kitten"]
    first.close()
    second.close()
    with pytest.raises(BundleMismatchError, match=r"'static-minilm-l6-v2' .*; the embedder is .*dim 64"):
        EdgeVectorStore(tmp_path / "a.db", EdgeEmbeddings("static", truncate_dim=64))
    with EdgeVectorStore(tmp_path / "a.db", read_only=True).index as reading:  # type: ignore[union-attr]
        assert len(reading) == 3


def test_other_process(store: EdgeVectorStore, tmp_path: Path) -> None:
    """A second process adds to the file that this one has open, and both find all."""
    code = """
import sys
from edge_embed.integrations.langchain import EdgeVectorStore
store = EdgeVectorStore(sys.argv[1])
store.add_texts(["A dog barks in the yard."], ids=["dog"])
print(store.similarity_search("a sleeping cat", k=1)[0].id)
"""
    path = tmp_path / "notes.db"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "cat\n"
    assert ids(store.similarity_search("a barking dog", k=1)) == ["dog"]


@pytest.mark.parametrize("kind", ["bundle", "given"])
def test_two_processes_at_once(tmp_path: Path, kind: str) -> None:
    """Both make the same new file, and write to it in turns: every text of both is there."""
    code = """
import sys
from langchain_core.embeddings import DeterministicFakeEmbedding
from edge_embed.integrations.langchain import EdgeEmbeddings, EdgeVectorStore
path, name, kind = sys.argv[1:]
embeddings = EdgeEmbeddings("static") if kind == "bundle" else DeterministicFakeEmbedding(size=8)
print("ready", flush=True)
sys.stdin.readline()
store = EdgeVectorStore(path, embeddings)
for i in range(5):
    store.add_texts([f"text {i} of {name}"], ids=[f"{name}{i}"])
"""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "a.db"), name, kind],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in ("a", "b")
    ]  # fmt: skip
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.communicate("\n")
        assert process.returncode == 0
    with Index.open(tmp_path / "a.db") as found:
        assert sorted(found.keys()) == [f"{name}{i}" for name in "ab" for i in range(5)]


def test_given_vectors(tmp_path: Path, static: Embedder) -> None:
    """The file names what its vectors come from, and takes no others; words and vectors find its documents."""
    fake = DeterministicFakeEmbedding(size=8)
    path = tmp_path / "given.db"
    store = EdgeVectorStore(path, fake)
    assert store.index is None
    assert store.similarity_search("anything") == []
    assert store.max_marginal_relevance_search("anything") == []
    assert store.similarity_search_with_relevance_scores("anything") == []
    assert store.get_by_ids(["a"]) == []
    assert store.delete(["a"])
    assert not path.exists()
    store.add_texts(["blue whale", "red fox", ""], ids=["whale", "fox", "empty"])
    assert ids(store.similarity_search("red fox", k=1)) == ["fox"]
    assert ids(store.similarity_search("whale", mode="text")) == ["whale"]
    assert ids(store.similarity_search("red fox", k=1, mode="hybrid")) == ["fox"]
    (pair,) = store.similarity_search_with_relevance_scores("red fox", k=1, mode="text")
    assert pair[1] == pytest.approx(1, abs=1e-3)
    with pytest.raises(BundleMismatchError, match="vectors of the space 'DeterministicFakeEmbedding'"):
        EdgeVectorStore(path, EdgeEmbeddings(static))
    with pytest.raises(BundleMismatchError, match="those given come from 'another'"):
        EdgeVectorStore(path, fake, space="another")
    without = EdgeVectorStore(path)
    assert without.embeddings is None
    assert ids(without.similarity_search("whale", mode="text")) == ["whale"]
    with pytest.raises(InputError, match="given vectors"):
        without.max_marginal_relevance_search("whale")
    with pytest.raises(InputError, match="expected Embeddings"):
        EdgeVectorStore(path, "static")  # type: ignore[arg-type]
    for one in (store, without):
        one.close()


async def test_awaited_store(tmp_path: Path, static: Embedder) -> None:
    """The awaited twins of every method, many at once."""
    store = await EdgeVectorStore.afrom_documents(
        [Document(id=key, page_content=text, metadata=data) for key, (text, data) in TEXTS.items()],
        EdgeEmbeddings(static), path=tmp_path / "a.db",
    )  # fmt: skip
    await asyncio.gather(*(store.aadd_texts([f"text {i}"], [{"lang": "en"}], ids=[f"text{i}"]) for i in range(8)))
    found = await asyncio.gather(*(store.asimilarity_search(text, k=1) for text, _ in TEXTS.values()))
    assert [ids(documents) for documents in found] == [[key] for key in TEXTS]
    query, where = "a sleeping cat", {"lang": "de"}
    assert ids(await store.amax_marginal_relevance_search(query, filter=where)) == ["katze"]
    ((document, score),) = await store.asimilarity_search_with_relevance_scores(query, filter=where)
    assert (document.id, 0 <= score <= 1) == ("katze", True)
    assert await store.asimilarity_search_with_score(query, filter=where) == store.similarity_search_with_score(
        query, filter=where
    )
    vector = static.encode_query([query])[0].tolist()
    assert ids(await store.asimilarity_search_by_vector(vector, k=1)) == ["cat"]
    assert len(await store.aget_by_ids([f"text{i}" for i in range(8)])) == 8
    assert await store.adelete([f"text{i}" for i in range(8)])
    retriever = store.as_retriever(search_type="mmr", search_kwargs={"k": 2})
    assert len(await retriever.ainvoke(query)) == 2
    store.close()


def test_batches(store: EdgeVectorStore) -> None:
    """Each batch is stored by itself: what came before a document that cannot be stored is there."""
    with pytest.raises(DuplicateKeyError):
        store.add_texts(["a", "b", "c"], ids=["1", "2", "1"], batch_size=1)
    with pytest.raises(DocumentError):
        store.add_texts(["a", "b", ""], ids=["1", "2", "3"], batch_size=2)
    assert ids(store.get_by_ids(["1", "2", "3"])) == ["1", "2"]
    with pytest.raises(InputError, match="batch_size is 0"):
        store.add_texts(["a"], batch_size=0)


def test_indexed_twice(store: EdgeVectorStore) -> None:
    """LangChain's own `index` stores each document once, and deletes what its source no longer has."""
    manager = InMemoryRecordManager("notes")
    manager.create_schema()
    old = [Document(page_content=text, metadata={"source": "a"}) for text in ("first note", "second note")]
    for added, skipped in ((2, 0), (0, 2)):
        done = index(old, manager, store, cleanup="incremental", source_id_key="source", key_encoder="sha256")
        assert (done["num_added"], done["num_skipped"]) == (added, skipped)
    done = index(old[:1], manager, store, cleanup="full", source_id_key="source", key_encoder="sha256")
    assert done["num_deleted"] == 1
    assert store.index is not None
    assert store.index.count({"source": "a"}) == 1


def test_long_documents(tmp_path: Path, static: Embedder) -> None:
    """A document comes back as it was added; with `passages`, the passage that fits, and where it begins."""
    text = " ".join(["Nothing happens here."] * 200) + " The treasure is under the oak."
    store = EdgeVectorStore(tmp_path / "a.db", EdgeEmbeddings(static))
    store.add_texts([text], [{"book": 1}], ids=["novel"])
    (found,) = store.similarity_search("where is the treasure?", k=1)
    assert found == Document(id="novel", page_content=text, metadata={"book": 1})
    reading = EdgeVectorStore(tmp_path / "a.db", passages=True)
    (passage,) = reading.similarity_search("where is the treasure?", k=1)
    start = passage.metadata["start_index"]
    assert "under the oak" in passage.page_content
    assert start > 0
    assert text[start : start + len(passage.page_content)] == passage.page_content
    store.add_texts([text[100:]], [{"start_index": 100}], ids=["split"])  # as a text splitter of LangChain says it
    (passage,) = reading.similarity_search("where is the treasure?", k=1, filter={"$key": "split"})
    start = passage.metadata["start_index"]
    assert text[start : start + len(passage.page_content)] == passage.page_content
    for one in (store, reading):
        one.close()


def test_files_of_the_command_line(tmp_path: Path) -> None:
    """A store opens what `edge-embed add` made, with pages and headings, and `edge-embed search` what a store wrote."""
    (tmp_path / "guide.md").write_text("# Ferries\n\nThe ferry leaves at nine.\n\n# Cats\n\nThe cat sleeps all day.\n")
    assert run("add", tmp_path / "a.db", tmp_path / "guide.md", "--bundle", "static").exit_code == 0
    store = EdgeVectorStore(tmp_path / "a.db", passages=True)
    (found,) = store.similarity_search("boats", k=1)
    assert found.id == "guide.md"
    assert found.metadata["place"] == "Ferries"
    store.add_texts(["A dog barks."], [{"lang": "en"}], ids=["dog"])
    result = run("search", tmp_path / "a.db", "a barking dog", "-k", 1, "--where", "lang=en", "--bundle", "static")
    assert result.exit_code == 0, result.stderr
    assert "1. dog" in result.stdout
    store.close()


def test_values_of_filters(store: EdgeVectorStore) -> None:
    """They may be what metadata may be, and fit what these became."""
    store.add_texts(["one", "two"], [{"day": date(2024, 5, d), "n": np.int64(d)} for d in (1, 2)], ids=["1", "2"])
    for where in (
        {"n": np.int64(2)},
        {"n": {"$in": [np.float32(2), np.uint8(7)]}},
        {"n": {"$in": np.array([2, 7])}},
        {"day": date(2024, 5, 2)},
        {"$and": [{"day": {"$gt": date(2024, 5, 1)}}]},
    ):
        assert ids(store.similarity_search("text", filter=where)) == ["2"]
    for wrong in ({"n": {1, 2}}, {"n": object()}, {"n": float("nan")}):
        with pytest.raises(FilterError, match="value of 'n'"):
            store.similarity_search("text", filter=wrong)
    assert store.delete(filter={"day": {"$lte": date(2024, 5, 1)}})
    assert ids(store.get_by_ids(["1", "2"])) == ["2"]


def test_copies_load_one_bundle(tmp_path: Path, static: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a store without embeddings of its own a pickle loads the bundle once; a deep copy of one with some, never."""
    given = EdgeVectorStore(tmp_path / "a.db", EdgeEmbeddings(static), passages=True, fields=["lang"])
    given.add_texts(["a cat"], [{"lang": "en"}], ids=["cat"])
    own, loaded = EdgeVectorStore(tmp_path / "a.db", mode="hybrid"), []
    start = Embedder.__init__

    def counted(embedder: Embedder, *args: Any, **options: Any) -> None:
        loaded.append(embedder)
        start(embedder, *args, **options)

    monkeypatch.setattr(Embedder, "__init__", counted)
    pickled, copied = pickle.loads(pickle.dumps(own)), copy.deepcopy(given)  # noqa: S301 - our own
    assert len(loaded) == 1
    assert (pickled.mode, pickled.passages, copied.mode, copied.passages) == ("hybrid", False, "vector", True)
    for one in (given, own, pickled, copied):
        assert ids(one.similarity_search("a kitten")) == ["cat"]
        one.close()


def test_pickled(store: EdgeVectorStore) -> None:
    """A copy of a store or a retriever opens the same file."""
    retriever = pickle.loads(pickle.dumps(store.as_retriever(search_kwargs={"k": 1})))  # noqa: S301 - our own
    assert ids(retriever.invoke("a sleeping cat")) == ["cat"]
    retriever.add_documents([Document(id="new", page_content="new")])
    assert ids(store.get_by_ids(["new"])) == ["new"]
    retriever.vectorstore.close()


def test_options(tmp_path: Path, static: Embedder) -> None:
    """Those of Index.open; others are refused by name, before a file is made."""
    with pytest.raises(InputError, match="unknown options: colour"):
        EdgeVectorStore(tmp_path / "a.db", EdgeEmbeddings(static), colour="red")
    with pytest.raises(TypeError, match="Embedder has no option colour"):
        EdgeEmbeddings("static", colour="red")
    with pytest.raises(InputError, match="embedding is str, expected Embeddings, such as EdgeEmbeddings"):
        EdgeVectorStore(tmp_path / "a.db", "static")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="from_texts needs path="):
        EdgeVectorStore.from_texts(["a"], EdgeEmbeddings(static))
    with pytest.raises(InputError, match="space= is for embeddings of others"):
        EdgeVectorStore(tmp_path / "a.db", static, space="a")
    with pytest.raises(InputError, match="mode is 'words'"):
        EdgeVectorStore(tmp_path / "a.db", static, mode="words")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    store = EdgeVectorStore(tmp_path / "a.db", static, fields=["lang"])
    assert store.index is not None
    assert isinstance(store.index, Index)
    assert store.index.stats()["fields"] == ["lang"]
    store.close()


def reranked(reranker: EdgeReranker, documents: list[Document]) -> list[tuple[str | None, float]]:
    found = reranker.compress_documents(documents, "a sleeping cat")
    return [(document.id, document.metadata["relevance_score"]) for document in found]


async def test_reranker(store: EdgeVectorStore, reranker: Reranker) -> None:
    """The order and the scores are the cross-encoder's; documents that were given stay as they are."""
    documents = store.similarity_search("a sleeping cat")
    before = [document.model_copy(deep=True) for document in documents]
    texts = [document.page_content for document in documents]
    order = [(documents[one.index].id, one.score) for one in reranker.rerank("a sleeping cat", texts)]
    compressor = EdgeReranker(reranker)
    assert reranked(compressor, documents) == order
    assert documents == before
    best = EdgeReranker(reranker.path, top_n=2, threads=1)
    assert reranked(best, documents) == order[:2]
    awaited = await best.acompress_documents(documents, "a sleeping cat")
    assert [document.id for document in awaited] == [key for key, _ in order[:2]]
    assert compressor.compress_documents([], "a sleeping cat") == []
    assert reranked(pickle.loads(pickle.dumps(best)), documents) == order[:2]  # noqa: S301 - our own
    with pytest.raises(InputError, match="options of its own"):
        EdgeReranker(reranker, threads=1)
    for wrong in (store.embeddings.embedder.path, "static"):  # type: ignore[union-attr]
        with pytest.raises(InputError, match="kind"):
            EdgeReranker(wrong)


def test_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of docs/langchain.md runs."""
    assert run_page("langchain.md", tmp_path, monkeypatch) >= 3
