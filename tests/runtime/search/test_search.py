"""How search finds: candidates by estimate, the recall that was asked for, and codes that follow commits."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_embed import Document, Embedder, Index
from edge_embed_runtime.storage.bitblocks import Blocks
from edge_embed_runtime.vectors.types import Vectors

DIM = 96


def clustered(count: int, seed: int = 0) -> Vectors:
    """Vectors of length 1 around many centres."""
    centres = np.random.default_rng(99).standard_normal((300, DIM))
    random = np.random.default_rng(seed)
    rows = centres[random.integers(0, 300, count)] + random.standard_normal((count, DIM))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return clustered(20_000)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, vectors: Vectors) -> Path:
    path = tmp_path_factory.mktemp("search") / "i.db"
    with Index.create(path, space="clusters", dim=DIM) as index:
        index.add_vectors([Document(str(i), "", {"even": i % 2 == 0}) for i in range(len(vectors))], vectors)
    return path


def recall(index: Index, vectors: Vectors, k: int, **options: Any) -> float:
    """Part of the k nearest by float vectors that searches find."""
    found = []
    for query in clustered(60, seed=1):
        nearest = set(np.argsort(-(vectors @ query))[:k].tolist())
        found.append(len(nearest & {int(hit.key) for hit in index.search(vector=query, k=k, **options)}) / k)
    return float(np.mean(found))


@pytest.mark.parametrize("k", [1, 10, 50])
@pytest.mark.slow
def test_recall_is_what_was_asked_for(filled: Path, vectors: Vectors, k: int) -> None:
    """Against exact float vectors, int8 scores lose a little of their own."""
    with Index.open(filled, read_only=True) as index:
        assert recall(index, vectors, k) >= 0.97
        assert recall(index, vectors, k, recall=1.0) >= 0.98


def test_less_recall_fetches_less(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of candidates comes from the recall that is asked for."""
    fetched = {}
    with Index.open(filled, read_only=True) as index:
        index.search(vector=clustered(1)[0])  # takes the sample
        real = index._store.passages
        for target in (0.3, 0.9, 0.999):
            counts: list[int] = []
            monkeypatch.setattr(index._store, "passages", lambda ids, n=counts: n.append(len(ids)) or real(ids))
            for query in clustered(20, seed=2):
                index.search(vector=query, k=10, recall=target)
            fetched[target] = sum(counts)
    assert fetched[0.3] <= fetched[0.9] < fetched[0.999]


def test_filter_gives_the_best_of_the_allowed(filled: Path, vectors: Vectors) -> None:
    """With a filter that half of the documents fit, hits are the nearest of that half."""
    with Index.open(filled, read_only=True) as index:
        for query in clustered(10, seed=3):
            hits = index.search(vector=query, k=10, where={"even": True}, recall=1.0)
            nearest = (2 * np.argsort(-(vectors[::2] @ query))[:10]).tolist()
            assert len(set(nearest) & {int(hit.key) for hit in hits}) >= 9
            assert all(hit.metadata["even"] for hit in hits)


def test_codes_are_read_once_and_then_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit of this object or of another adds its own codes only; own deletes read nothing again."""
    vectors, loaded = clustered(2000), []
    real = Blocks.load

    def counted(self: Blocks, after: int) -> Any:
        for ids, words in real(self, after):
            loaded.extend([len(ids)] if len(ids) else [])
            yield ids, words

    monkeypatch.setattr(Blocks, "load", counted)
    path = tmp_path / "i.db"
    with (
        Index.create(path, space="s", dim=DIM) as index,
        Index.open(path, read_only=True) as reader,
    ):

        def added(first: int, last: int) -> None:
            index.add_vectors([Document(str(i), "") for i in range(first, last)], vectors[first:last])

        def nearest(which: Index, i: int) -> str:
            return which.search(vector=vectors[i], k=1)[0].key

        added(0, 1000)
        assert nearest(index, 5) == nearest(reader, 5) == "5"
        assert loaded == [1000, 1000]
        added(1000, 1500)
        assert nearest(index, 1200) == nearest(reader, 1200) == "1200"
        assert loaded[2:] == [500, 500]
        index.delete([str(i) for i in range(0, 1500, 2)])
        assert nearest(index, 1201) == "1201"
        assert nearest(index, 1200) != "1200"
        assert loaded[4:] == []
        assert nearest(reader, 1200) != "1200"
        assert loaded[4:] == [750]


def test_searches_do_not_wait_for_embedding(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one thread adds, others search through the same object; what is added appears when it is committed."""
    with Index.open(tmp_path / "i.db", embedder) as index:
        index.add([Document("a", "the cat sleeps on the sofa")])
        inside, go_on = threading.Event(), threading.Event()
        real = Embedder.encode_document

        def slow(self: Embedder, texts: list[str], **options: Any) -> Any:
            inside.set()
            assert go_on.wait(20)
            return real(self, texts, **options)

        monkeypatch.setattr(Embedder, "encode_document", slow)
        adding = threading.Thread(target=index.add, args=([Document("b", "the train leaves at nine")],))
        adding.start()
        assert inside.wait(20)
        assert [hit.key for hit in index.search("train", k=5)] == ["a"]
        assert (len(index), index.get("b")) == (1, None)
        go_on.set()
        adding.join(20)
        assert index.search("train", k=1)[0].key == "b"


def test_a_second_writer_waits_as_long_as_it_is_told(tmp_path: Path, embedder: Embedder) -> None:
    """With a timeout the second writer gets in when the first has closed the index."""
    path = tmp_path / "i.db"
    first = Index.open(path, embedder)
    closing = threading.Timer(0.3, first.close)
    closing.start()
    with Index.open(path, embedder, timeout=20) as second:
        assert not closing.is_alive() or second is not first
        second.add([Document("a", "text")])
    closing.join()
