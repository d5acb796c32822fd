"""One index with places, documents without a vector and records of files, opened by writers that take turns: what each
kind of maintenance keeps of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_embed import Document, Embedder, Index, dump_vectors, load_vectors, reembed_index, verify_index
from edge_embed_runtime.storage.filerecords import FileRecord

DIM = 16
BOOK = Document(
    "a.txt#1", "The ferry leaves at nine. The cat sleeps.", {"source": "a.txt"}, ((0, "p. 1"), (26, "p. 2"))
)
NOTE = Document("a.txt#2", "The cat sleeps on the windowsill.", {"source": "a.txt"})
BARE = Document("b.txt", "A ship without a vector.", {"source": "b.txt", "n": 1}, ((2, "p. 1"),))
DOCUMENTS = [BOOK, NOTE, BARE]
VECTORS = np.random.default_rng(0).standard_normal((2, DIM)).astype(np.float32)
RECORDS = [FileRecord(f"{name}.txt", 10, 1, 2, name.encode() * 16, b"r" * 8, count, "") for name, count in
           (("a", 2), ("b", 1), ("empty", 0))]  # fmt: skip
NAMES = [record.key for record in RECORDS]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two writers that take turns made it, and each deleted something that the other had stored."""
    path = tmp_path / "all.db"
    Index.create(path, space="s", dim=DIM, fields=["n"]).close()
    with Index.open(path, shared=True) as one, Index.open(path, shared=True) as other:
        one.add_vectors([Document("gone", "Gone.", {"source": "gone.txt"}, ((0, "p. 1"),)), BOOK], VECTORS)
        other.add_vectors([NOTE, Document("left", "Left.")], VECTORS[::-1])
        one.add_vectors([BARE], [None])
        other.files.record([*RECORDS, RECORDS[0]._replace(key="gone.txt")])
        assert other.delete(["gone"]) == one.delete(where={"$key": "left"}) == 1
    check(path)
    return path


def check(path: Path, *, vectors: bool = True) -> None:
    """Everything is there. vectors: whether these are as at the beginning, too"""
    assert verify_index(path).problems == []
    with Index.open(path, read_only=True) as index:
        assert list(index) == DOCUMENTS
        assert index.field_values("n") == [(1, 1)]
        hits = index.search("cat ship", mode="text")
        assert {hit.key: hit.place for hit in hits} == {"a.txt#1": "p. 1", "a.txt#2": None, "b.txt": None}
        assert index.files.records([*NAMES, "gone.txt"]) == {record.key: record for record in RECORDS}
        if vectors:
            assert index.stats()["without_vector"] == 1
            assert [hit.key for hit in index.search(vector=VECTORS[1])] == ["a.txt#1", "a.txt#2"]


def rebuilt(path: Path, _: Path) -> Path:
    with Index.open(path, shared=True) as index:
        index.rebuild()
    return path


def compacted(path: Path, _: Path) -> Path:
    with Index.open(path, shared=True) as index:
        index.compact()
    return path


def repaired(path: Path, _: Path) -> Path:
    with Index.open(path, shared=True) as index:
        assert index.repair().whole
    return path


def copied(path: Path, folder: Path) -> Path:
    with Index.open(path, shared=True) as index:
        index.backup(folder / "copy.db", compact=True)
    return folder / "copy.db"


@pytest.mark.parametrize("work", [compacted, rebuilt, repaired, copied])
def test_kept_as_it_is(path: Path, tmp_path: Path, work: Callable[[Path, Path], Path]) -> None:
    check(work(path, tmp_path))


def test_dump_and_load(path: Path, tmp_path: Path) -> None:
    """A dump has passages, each with the place in which it begins; what is known of files is not part of it."""
    dump_vectors(path, tmp_path / "all.npz")
    load_vectors(tmp_path / "other.db", tmp_path / "all.npz", space="s", fields=["n"])
    assert verify_index(tmp_path / "other.db").problems == []
    with Index.open(tmp_path / "other.db", shared=True) as index:
        assert list(index) == [replace(BOOK, places=BOOK.places[:1]), NOTE, replace(BARE, places=())]
        assert {key: len(found) for key, found in index.vectors(index.keys()).items()} == {
            "a.txt#1": 1, "a.txt#2": 1, "b.txt": 0,
        }  # fmt: skip
        assert index.files.records(NAMES) == {}


def test_reembed(path: Path, embedder: Embedder) -> None:
    """All documents have vectors then; texts, places and files stay."""
    reembed_index(path, embedder)
    check(path, vectors=False)
    with Index.open(path, embedder, shared=True) as index:
        assert {hit.key for hit in index.search("a cat", mode="vector")} == {d.key for d in DOCUMENTS}
        assert index.upsert(DOCUMENTS) == 0
        assert index.delete("b.txt") == 1
        assert set(index.files.records(NAMES)) == {"a.txt", "empty.txt"}


def test_one_after_the_other(path: Path, tmp_path: Path, embedder: Embedder) -> None:
    for work in (copied, compacted, rebuilt, repaired):
        path = work(path, tmp_path)
        check(path)
    reembed_index(path, embedder)
    for work in (repaired, rebuilt, compacted):
        path = work(path, tmp_path)
        check(path, vectors=False)
