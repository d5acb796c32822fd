"""Documents without a vector, in an index of given vectors."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.files import alter

from edge_embed import Document, Embedder, Index, dump_vectors, load_vectors, reembed_index, verify_index
from edge_embed.errors import BundleMismatchError, InputError, SourceError
from edge_embed_runtime.maintenance import learn_rotation

DIM = 16
COUNT = 60
VECTORS = np.random.default_rng(0).standard_normal((COUNT, DIM)).astype(np.float32)
DOCUMENTS = [Document(f"d{i:02}", f"{'ferry' if i % 2 else 'cat'} number {i}", {"n": i}) for i in range(COUNT)]
BARE = {d.key for d in DOCUMENTS[::3]}
GIVEN = [None if d.key in BARE else VECTORS[i] for i, d in enumerate(DOCUMENTS)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "given.db"


@pytest.fixture
def index(path: Path) -> Iterator[Index]:
    with Index.create(path, space="s", dim=DIM) as made:
        assert made.add_vectors(DOCUMENTS, GIVEN) == COUNT
        yield made


def missing(index: Index) -> set[str]:
    return {key for key, vectors in index.vectors(index.keys()).items() if len(vectors) == 0}


def test_found_by_words_and_conditions_never_by_vector(index: Index) -> None:
    """And the shortfall of a search by vector says that only some have one."""
    assert list(index) == DOCUMENTS
    assert missing(index) == BARE
    assert index.vectors("d00")["d00"].shape == (0, DIM)
    assert index.stats()["without_vector"] == len(BARE)
    assert {hit.key for hit in index.search("cat", COUNT, mode="text")} == {d.key for d in DOCUMENTS[::2]}
    others = {d.key for d in DOCUMENTS} - BARE
    for recall in (0.99, 1.0):
        hits = index.search(vector=VECTORS[1], k=COUNT, recall=recall)
        assert {hit.key for hit in hits} == others
        assert hits.shortfall == "only 40 documents have a vector"
    hits = index.search(vector=VECTORS[1], k=COUNT, where={"n": {"$lt": 6}})
    assert ({hit.key for hit in hits}, hits.shortfall) == (
        {"d01", "d02", "d04", "d05"},
        "only 4 documents have a vector and fit `where`",
    )
    assert index.damaged == []


def test_hybrid_search_finds_them_by_their_words(index: Index) -> None:
    """Among the others, neither before all of them nor behind: a vector that is not there says nothing."""
    hits = index.search("cat", COUNT, vector=VECTORS[1], mode="hybrid")
    found = [hit.key for hit in hits]
    assert set(found) == ({d.key for d in DOCUMENTS} - BARE) | {d.key for d in DOCUMENTS[::6]}
    assert hits.shortfall == "only 50 documents have a vector or hold a word of the query"
    places = [i for i, key in enumerate(found) if key in BARE]
    cats = [i for i, key in enumerate(found) if key not in BARE and int(key[1:]) % 2 == 0]
    assert min(cats) < min(places)
    assert max(places) < max(cats)


def test_none_at_all(path: Path) -> None:
    """An index in which nothing has a vector yet: words work, vectors find nothing and say why."""
    with Index.create(path, space="s", dim=DIM) as index:
        assert index.add_vectors(DOCUMENTS, None) == COUNT
        assert missing(index) == {d.key for d in DOCUMENTS}
        hits = index.search(vector=VECTORS[0], k=3)
        assert (hits, hits.shortfall) == ([], "only 0 documents have a vector")
        assert len(index.search("ferry", mode="text", k=COUNT)) == COUNT // 2
        assert [hit.key for hit in index.search("ferry", vector=VECTORS[0], k=2)] == [
            hit.key for hit in index.search("ferry", mode="text", k=2)
        ]
        assert index.verify().whole
        assert index.rebuild("never").passages == 0


def test_vectors_come_and_go(index: Index) -> None:
    """`upsert_vectors` gives a vector to a document, or takes it; what is as it was costs nothing."""
    generation = index.stats()["generation"]
    assert index.upsert_vectors(DOCUMENTS, GIVEN) == 0
    assert index.stats()["generation"] == generation
    assert index.upsert_vectors(DOCUMENTS[:6], VECTORS[:6]) == 2
    assert missing(index) == BARE - {"d00", "d03"}
    assert index.search(vector=VECTORS[3], k=1)[0].key == "d03"
    assert index.upsert_vectors(DOCUMENTS[:6], None) == 6
    assert missing(index) == BARE | {d.key for d in DOCUMENTS[:6]}
    assert index.unchanged(DOCUMENTS) == {d.key for d in DOCUMENTS}
    assert index.delete([d.key for d in DOCUMENTS[:9]]) == 9
    assert index.verify().whole


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([None], "2 documents and 1 vectors"),
        ([None, None, None], "2 documents and 3 vectors"),
        ([None, [1.0] * (DIM - 1)], "vectors: not an array of numbers"),
        ([None, [float("nan")] * DIM], "row 1 holds NaN"),
        ([[0.0] * DIM, None], "row 0 holds nothing but zeros"),
        ([None, "x" * DIM], "vectors"),
        ([None, [None] * DIM], "vectors"),
    ],
)
def test_refusals(index: Index, vectors: Any, message: str) -> None:
    """The rows of an error are those that were given."""
    with pytest.raises(InputError, match=message):
        index.add_vectors([Document("x", "x"), Document("y", "y")], vectors)
    assert len(index) == COUNT


def test_an_array_of_objects(path: Path) -> None:
    """As pandas gives a column of vectors with gaps."""
    column = np.empty(2, object)
    column[1] = VECTORS[1]
    with Index.create(path, space="s", dim=DIM) as index:
        index.add_vectors(DOCUMENTS[:2], column)
        assert missing(index) == {"d00"}


def test_maintenance_keeps_them(index: Index, path: Path, tmp_path: Path) -> None:
    """verify, compact, rebuild, repair and backup take them for whole."""
    index.delete(where={"n": {"$gte": 50}})
    assert index.verify().whole
    index.compact()
    index.rebuild("always")
    repaired = index.repair(drop=True)
    assert (repaired.whole, repaired.dropped, repaired.rebuilt) == (True, [], [])
    index.backup(tmp_path / "copy.db", compact=True)
    index.close()
    for file in (path, tmp_path / "copy.db"):
        assert verify_index(file).whole
        with Index.open(file) as again:
            assert list(again) == DOCUMENTS[:50]
            assert missing(again) == {key for key in BARE if key < "d50"}


def test_damage_is_seen(index: Index, path: Path) -> None:
    """A vector that was lost is no document without one."""
    index.close()
    alter(path, "UPDATE vec SET code = x'' WHERE doc = (SELECT id FROM doc WHERE key = 'd01')")
    assert [(damage.key, damage.what) for damage in verify_index(path).damaged] == [
        ("d01", "1 of its 1 passages are damaged")
    ]


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".arrow"])
@pytest.mark.parametrize("codes", [False, True])
def test_dump_and_load(index: Index, path: Path, tmp_path: Path, suffix: str, codes: bool) -> None:
    """Vectors of zeros stand for none in the file, which says so; loaded again the index is the same."""
    if suffix != ".npz":
        pytest.importorskip("pyarrow")
    dump, again = tmp_path / f"dump{suffix}", tmp_path / "again.db"
    assert dump_vectors(path, dump, codes=codes).rows == COUNT
    assert load_vectors(again, dump, space="s").stored == COUNT
    assert load_vectors(again, dump, space="s").unchanged == COUNT
    with Index.open(again) as loaded:
        assert list(loaded) == DOCUMENTS
        assert missing(loaded) == BARE
        assert loaded.search(vector=VECTORS[1], k=1)[0].key == "d01"
        assert loaded.verify().whole
    index.upsert_vectors(DOCUMENTS, VECTORS)
    dump_vectors(path, dump, codes=codes, force=True)
    if suffix == ".npz":
        with np.load(dump) as arrays:
            assert "missing" not in arrays


def test_files_that_do_not_say_so_are_refused(tmp_path: Path) -> None:
    """Zeros are no vector in a file that is not a dump, and an array called missing is metadata there."""
    keys = np.array(["a", "b"])
    np.savez(tmp_path / "v.npz", vectors=np.array([[1.0, 0], [0, 0]]), keys=keys, missing=np.array([False, True]))
    with pytest.raises(SourceError, match="row 1 holds NaN, infinity, or nothing but zeros"):
        load_vectors(tmp_path / "a.db", tmp_path / "v.npz", space="s")
    for gaps in (np.array([0, 1]), np.array([True]), np.array([[True, False]])):
        np.savez(tmp_path / "w.npz", vectors=np.eye(2), keys=keys, missing=gaps, fingerprint="x", bundle="s")
        with pytest.raises(SourceError, match="missing"):
            load_vectors(tmp_path / "b.db", tmp_path / "w.npz", space="s")


def test_reembed_gives_them_vectors(index: Index, path: Path, embedder: Embedder) -> None:
    """All that have a text; then it is an index of a bundle."""
    index.delete(where={"n": {"$gte": 9}})
    index.close()
    assert reembed_index(path, embedder).documents == 9
    with pytest.raises(BundleMismatchError):
        Index.open(path, Embedder("static"))
    with Index.open(path, embedder) as again:
        assert missing(again) == set()
        assert again.search("cat", k=9, mode="vector").shortfall is None
        with pytest.raises(InputError, match="use add"):
            again.add_vectors([Document("x", "x")], None)


def test_the_rotation_is_learned_from_vectors(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents without one come first, and many; what is learned, is learned once there are vectors enough."""
    monkeypatch.setattr(learn_rotation, "LEAST_VECTORS", 100)
    learned = []
    monkeypatch.setattr(
        learn_rotation, "learn_frame", lambda vectors, current: learned.append(len(vectors)) or (current, {})
    )
    with Index.create(path, space="s", dim=DIM) as index:
        index.add_vectors([Document(f"a{i}", "t") for i in range(300)], None)
        assert learned == []
        index.add_vectors([Document(f"b{i}", "t") for i in range(99)], np.resize(VECTORS, (99, DIM)))
        assert learned == []
        index.add_vectors([Document("c", "t")], VECTORS[:1])
        assert learned == [100]


def test_other_numbers_in_a_vector(tmp_path: Path, embedder: Embedder) -> None:
    """As long as no document has a vector, `set_dim` says how many there are; objects that are open follow."""
    path = tmp_path / "notes.db"
    Index.create(path, space="s", dim=4).close()
    vectors = np.random.default_rng(0).standard_normal((300, 6))
    with Index.open(path, shared=True) as first, Index.open(path, shared=True) as second:
        first.add_vectors([Document(f"k{i}", f"word{i}") for i in range(300)], None)
        assert second.search("word7", mode="text")[0].key == "k7"
        assert second.search(vector=[1, 2, 3, 4]) == []
        first.set_dim(6)
        second.upsert_vectors([Document(f"k{i}", f"word{i}") for i in range(100)], vectors[:100])
        first.add_vectors([Document(f"n{i}", f"word{i}") for i in range(200)], vectors[100:])
        for index in (first, second):
            assert index.search(vector=vectors[7])[0].key == "k7"
            assert index.search(vector=vectors[107], mode="hybrid", query="word7")[0].key == "n7"
            assert index.stats()["dim"] == 6
            with pytest.raises(InputError, match="holds vectors of 6 numbers: that can't be changed to 7"):
                index.set_dim(7)
            index.set_dim(6)  # as it is
            with pytest.raises(InputError, match="shape"):
                index.search(vector=[1, 2, 3, 4])
        assert first.verify().whole
        first.compact()
    with Index.open(path) as index:
        assert index.verify().whole
        index.repair()
        assert index.search(vector=vectors[7])[0].key == "k7"
        index.delete(where={"$key": {"$prefix": ""}})
        index.set_dim(3)
        index.add_vectors([Document("a", "word")], [[1, 2, 3]])
        assert index.search(vector=[1, 2, 3])[0].key == "a"
        for wrong in (0, True, 2**20):
            with pytest.raises(InputError, match="dim is"):
                index.set_dim(wrong)
    with Index.open(tmp_path / "own.db", embedder) as own, pytest.raises(InputError, match="vectors of the bundle"):
        own.set_dim(3)
