"""vectors.py, and Index with given vectors: what is stored, what is found, and what is refused."""

import json
import multiprocessing
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.files import alter
from numpy.typing import NDArray

from edge_embed import Document, Embedder, Index
from edge_embed.errors import (
    BundleMismatchError,
    DocumentError,
    DuplicateKeyError,
    IndexFileError,
    IndexLockedError,
    IndexReadOnlyError,
    InputError,
)
from edge_embed_runtime.maintenance.verify import verify_index
from edge_embed_runtime.vectors.normalize import check_vectors

DIM = 24
COUNT = 300


def random_vectors(count: int = COUNT, dim: int = DIM, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def documents(count: int = COUNT, text: str = "Row {} of the log.") -> list[Document]:
    return [Document(f"d{i}", text.format(i), {"n": i, "even": i % 2 == 0}) for i in range(count)]


def unit(vectors: NDArray[Any]) -> NDArray[np.float64]:
    wide = np.asarray(vectors, np.float64)
    return wide / np.linalg.norm(wide, axis=-1, keepdims=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "given.db"


@pytest.fixture
def index(path: Path) -> Iterator[Index]:
    """An index of random vectors."""
    with Index.create(path, space="random", dim=DIM) as made:
        made.add_vectors(documents(), random_vectors())
        yield made


@pytest.mark.parametrize(
    "dtype", ["f2", "f4", "f8", ">f4", ">f8", "i1", "i2", "i4", "i8", "u1", "u8", ">i2", np.longdouble]
)
def test_real_numbers_of_any_type_become_vectors_of_length_1(dtype: Any) -> None:
    """Floats and whole numbers of any width and byte order, as float32 in the direction they had."""
    given = np.array([[3, 4], [0, 5], [127, 0], [1, 1]]).astype(dtype)
    checked = check_vectors(given, 2, "vectors")
    assert checked.dtype == np.float32
    assert np.allclose(checked, unit(given), atol=1e-7)


def test_the_smallest_whole_number_has_no_positive_twin() -> None:
    """-128 in int8, whose absolute value int8 does not hold."""
    assert check_vectors(np.array([[-128, 0]], np.int8), 2, "vectors").tolist() == [[-1, 0]]


@pytest.mark.parametrize("size", [1e-320, 1e-300, 1e-40, 1e-20, 1.0, 1e20, 1e30, 1e300, 1.7e308])
def test_no_length_is_too_large_or_too_small(size: float) -> None:
    """Squares that overflow or vanish, subnormal numbers: the direction is the same."""
    assert np.allclose(check_vectors([[size, -size]], 2, "vectors"), [[0.5**0.5, -(0.5**0.5)]], atol=1e-4)


@pytest.mark.parametrize("size", [1e30, 1e38, 1e-40])
def test_float32_at_its_limits(size: float) -> None:
    given = (np.array([[1, 2, 2]]) * size).astype(np.float32)
    assert np.allclose(check_vectors(given, 3, "vectors"), [[1 / 3, 2 / 3, 2 / 3]], atol=1e-4)


@pytest.mark.parametrize(
    "given",
    [
        [[0.6, 0.8], [1.0, 0.0]],
        [(3, 4), (2, 0)],
        ((3, 4), (2, 0)),
        [np.array([3, 4]), np.array([2.0, 0.0], np.float16)],
        np.array([[3, 4], [2, 0]], order="F"),
        np.array([[3, 9, 4, 9], [2, 9, 0, 9]])[:, ::2],
        np.array([[2, 0], [3, 4]])[::-1],
    ],
)
def test_lists_and_views(given: Any) -> None:
    """What numpy makes an array of, however it lies in memory."""
    assert np.allclose(check_vectors(given, 2, "vectors"), [[0.6, 0.8], [1, 0]])


@pytest.mark.parametrize("given", [[], (), [[]], np.empty((0, 5)), np.empty(0), np.empty((0, 3, 4))])
def test_no_vectors(given: Any) -> None:
    """Nothing, in whatever form, is no vectors; but empty rows of another number of dimensions are a mistake."""
    if isinstance(given, np.ndarray) and given.shape == (0, 5):
        assert check_vectors(given, 5, "vectors").shape == (0, 5)
    elif np.ndim(given) == 2:
        with pytest.raises(InputError, match="shape"):
            check_vectors(given, 5, "vectors")
    else:
        assert check_vectors(given, 5, "vectors").shape == (0, 5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1.0, 2.0], r"shape is \(2,\), expected \('n', 2\)"),
        ([[1.0, 2.0, 3.0]], r"shape is \(1, 3\), expected \('n', 2\)"),
        ([[[1.0, 2.0]]], r"shape is \(1, 1, 2\)"),
        (5.0, r"shape is \(\)"),
        (None, r"shape is \(\)"),
        ([[1.0], [1.0, 2.0]], "not an array of numbers"),
        ([["a", "b"]], "expected real numbers"),
        ("ab", "shape"),
        ([[1j, 2]], "expected real numbers, got complex"),
        ([[True, False]], "expected real numbers, got bool"),
        ([[None, 1.0]], "expected real numbers, got object"),
        (np.array([[1.0, 2.0]], object), "expected real numbers, got object"),
        (np.array([["2020-01-01", "2021-01-01"]], "M8[D]"), "expected real numbers, got datetime64"),
        (np.zeros((1, 2), [("x", "f4")]), "expected real numbers"),
        ([[1, 2], [float("nan"), 1]], "row 1 holds NaN or infinity"),
        ([[1, 2], [1, 2], [1, float("inf")]], "row 2 holds NaN or infinity"),
        ([[1, -float("inf")]], "row 0 holds NaN or infinity"),
        ([[1, 2], [0, 0]], "row 1 holds nothing but zeros"),
        ([[0.0, -0.0]], "row 0 holds nothing but zeros"),
        ([[2**70, 1]], "expected real numbers, got object"),
    ],
)
def test_what_are_no_vectors(given: Any, message: str) -> None:
    """Another shape, other things than real numbers, NaN, infinity and rows of zeros, with the number of the row."""
    with pytest.raises(InputError, match=message):
        check_vectors(given, 2, "vectors")


def test_given_vectors_are_not_changed() -> None:
    """Neither a float64 array nor its view is written to."""
    given = np.array([[3.0, 4.0]])
    check_vectors(given, 2, "vectors")
    assert given.tolist() == [[3, 4]]


def test_scores_are_cosines(index: Index) -> None:
    """The nearest by float vectors, in their order, with their cosines."""
    query = random_vectors(1, seed=1)[0]
    cosines = unit(random_vectors()) @ unit(query)
    hits = index.search(vector=query, k=20)
    assert [hit.key for hit in hits][:5] == [f"d{i}" for i in np.argsort(-cosines)[:5]]
    assert max(abs(hit.score - cosines[int(hit.key[1:])]) for hit in hits) < 0.005
    assert hits[0].metadata == {"n": int(hits[0].key[1:]), "even": int(hits[0].key[1:]) % 2 == 0}
    assert hits.shortfall is None


@pytest.mark.parametrize("recall", [1e-9, 0.5, 1, 1.0])
def test_recall_is_a_share(index: Index, recall: float) -> None:
    """With 1 every passage is scored by its int8 code; with any the hits are k."""
    query = random_vectors(1, seed=2)[0]
    hits = index.search(vector=query, k=50, recall=recall)
    assert len(hits) == 50
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    if recall == 1:
        best = np.argsort(-(unit(random_vectors()) @ unit(query)))[:40]
        assert {f"d{i}" for i in best} <= {hit.key for hit in hits}


@pytest.mark.parametrize("recall", [0, -0.1, 1.01, float("nan"), float("inf"), True, None, "1"])
def test_what_is_no_recall(index: Index, recall: Any) -> None:
    with pytest.raises(InputError, match=r"recall is .*, expected a number over 0, up to 1"):
        index.search(vector=random_vectors(1)[0], recall=recall)


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (np.ones(DIM - 1), rf"vector: the shape is \({DIM - 1},\), expected \({DIM},\)"),
        (np.ones((1, DIM)), "vector: the shape is"),
        ([], "vector: the shape is"),
        (1.0, "vector: the shape is"),
        (np.array(1.0), "vector: the shape is"),
        (np.zeros(DIM), "vector: .*nothing but zeros"),
        ([float("nan")] * DIM, "vector: .*NaN or infinity"),
        (["a"] * DIM, "vector: expected real numbers"),
        ([None] * DIM, "vector: expected real numbers"),
        ("a vector", "vector"),
    ],
)
def test_bad_query_vectors(index: Index, vector: Any, message: str) -> None:
    """A query of another shape or without a direction; the message does not speak of rows that were stored."""
    with pytest.raises(InputError, match=message) as caught:
        index.search(vector=vector)
    assert "stored" not in str(caught.value)


@pytest.mark.parametrize("scale", [1e-40, 1e-6, 1, 1e30])
def test_length_of_the_query_does_not_matter(index: Index, scale: float) -> None:
    query = random_vectors(1, seed=3)[0].astype(np.float64)
    expected = [(hit.key, hit.score) for hit in index.search(vector=query)]
    found = [(hit.key, hit.score) for hit in index.search(vector=query * scale)]
    assert [key for key, _ in found] == [key for key, _ in expected]
    assert np.allclose([s for _, s in found], [s for _, s in expected], atol=1e-6)


def test_modes(index: Index) -> None:
    """A vector asks by meaning, a text by words, both by both; a text alone needs an embedder but for its words."""
    query = random_vectors()[7]
    assert index.search(vector=query, k=1)[0].key == "d7"
    assert [hit.key for hit in index.search("17", mode="text")] == ["d17"]
    both = index.search("17", vector=query, k=2)
    assert {hit.key for hit in both} == {"d7", "d17"}
    assert index.search("17", vector=query, k=1, mode="vector")[0].key == "d7"
    assert index.search("17", vector=query, k=1, mode="text")[0].key == "d17"
    for call in ({"query": "17"}, {"query": "17", "mode": "vector"}, {"query": "17", "mode": "hybrid"}):
        with pytest.raises(
            InputError, match=r"cannot embed the query: give `vector`, made by 'random', or .*mode='text'"
        ):
            index.search(**call)
    for mode in ("text", "hybrid"):
        with pytest.raises(InputError, match="there is no query"):
            index.search(vector=query, mode=mode)
    with pytest.raises(InputError, match="give a query"):
        index.search()
    with pytest.raises(InputError, match="the query is empty"):
        index.search(" ", vector=query)
    with pytest.raises(InputError, match="mode is 'magic'"):
        index.search(vector=query, mode="magic")


def test_where(index: Index) -> None:
    """Conditions hold for given vectors as for others."""
    query = random_vectors()[7]
    assert all(hit.metadata["even"] for hit in index.search(vector=query, where={"even": True}))
    assert [hit.key for hit in index.search(vector=query, where={"n": 3})] == ["d3"]
    found = index.search(vector=query, k=3, where={"n": {"$lt": 2}})
    assert (len(found), found.shortfall) == (2, "only 2 documents fit `where`")


def test_texts_may_be_missing(path: Path) -> None:
    """Documents without text are found by vector, returned with an empty one, and are no damage."""
    with Index.create(path, space="bare", dim=DIM) as index:
        index.add_vectors([Document(f"d{i}", "") for i in range(COUNT)], random_vectors())
        index.upsert_vectors([Document("d5", " \n")], random_vectors(1, seed=5))
        hit = index.search(vector=random_vectors()[9], k=1)[0]
        assert (hit.key, hit.text, hit.start, hit.end) == ("d9", "", 0, 0)
        assert index.search("anything", mode="text") == []
        assert index.search("anything", vector=random_vectors()[9], k=1)[0].key == "d9"
        assert index.get("d9") == Document("d9", "")
        report = index.verify()
        assert report.damaged == []
        assert report.whole
        assert index.repair(drop=True).dropped == []
        assert len(index) == COUNT


@pytest.mark.parametrize(
    ("docs", "given", "message"),
    [
        (2, np.ones((3, DIM)), "2 documents and 3 vectors: expected one vector each"),
        (2, np.ones((1, DIM)), "2 documents and 1 vectors"),
        (1, np.ones((1, DIM + 1)), "shape"),
        (1, np.ones(DIM), "shape"),
        (2, [], "2 documents and 0 vectors"),
        (0, np.ones((1, DIM)), "0 documents and 1 vectors"),
        (2, np.vstack([np.ones(DIM), np.zeros(DIM)]), "row 1 holds nothing but zeros; nothing was stored"),
        (2, np.vstack([np.ones(DIM), np.full(DIM, np.nan)]), "row 1 holds NaN or infinity; nothing was stored"),
    ],
)
@pytest.mark.parametrize("method", ["add_vectors", "upsert_vectors"])
def test_nothing_is_stored_of_what_is_refused(path: Path, method: str, docs: int, given: Any, message: str) -> None:
    """All or none: a bad row leaves the index as it was."""
    with Index.create(path, space="s", dim=DIM) as index:
        with pytest.raises(InputError, match=message):
            getattr(index, method)(documents(docs), given)
        assert (len(index), index.stats()["generation"]) == (0, 0)
        assert getattr(index, method)([], np.empty((0, DIM))) == 0
        assert getattr(index, method)([], []) == 0


def test_bad_documents(index: Index) -> None:
    """What `add` refuses, but for texts that are empty."""
    one = random_vectors(1)
    for bad in (Document("", "t"), Document("k", None), Document("k", "t", {"x": float("nan")})):  # type: ignore[arg-type]
        with pytest.raises(DocumentError):
            index.add_vectors([bad], one)
    with pytest.raises(DuplicateKeyError, match="already in the index: 'd1'"):
        index.add_vectors([Document("new", ""), Document("d1", "")], random_vectors(2))
    with pytest.raises(DuplicateKeyError, match="comes twice in one call"):
        index.upsert_vectors([Document("x", ""), Document("x", "")], random_vectors(2))
    with pytest.raises(InputError, match="expected a list of Documents"):
        index.add_vectors(Document("x", ""), one)  # type: ignore[arg-type]
    assert len(index) == COUNT
    assert "new" not in index


def test_upsert_counts_what_changed(index: Index) -> None:
    """Text, metadata or vector: a document with another one of them is replaced; the same costs no commit."""
    before = index.stats()["generation"]
    assert index.upsert_vectors(documents(), random_vectors()) == 0
    assert index.stats()["generation"] == before
    changed = documents()
    changed[1] = Document("d1", "Another text.", changed[1].metadata)
    changed[2] = Document("d2", changed[2].text, {"n": -2})
    vectors = random_vectors()
    vectors[3] = random_vectors(1, seed=9)[0]
    vectors[4] *= 1000  # the same direction
    assert index.upsert_vectors(changed, vectors) == 3
    assert index.search(vector=vectors[3], k=1)[0].key == "d3"
    assert index.search("another", mode="text")[0].key == "d1"
    assert index.get("d2") == changed[2]
    assert len(index) == COUNT
    assert index.verify().whole


def test_upsert_restores_a_damaged_passage(path: Path, index: Index) -> None:
    """The same vector again replaces a row whose checksum does not fit."""
    index.close()
    alter(path, "UPDATE vec SET code = zeroblob(28) WHERE id = 8")
    with Index.open(path) as opened:
        assert opened.upsert_vectors(documents(), random_vectors()) == 1
        assert opened.search(vector=random_vectors()[7], k=1)[0].key == "d7"
        assert opened.verify().damaged == []


def test_reopened_without_an_embedder(path: Path, index: Index) -> None:
    """What is in it is known from the file."""
    index.close()
    with Index.open(path) as opened:
        stats = opened.stats()
        assert (stats["bundle"], stats["dim"], stats["documents"]) == ("random", DIM, COUNT)
        assert opened.search(vector=random_vectors()[7], k=1)[0].key == "d7"
        assert opened.delete("d7") == 1
        assert opened.search(vector=random_vectors()[7], k=1)[0].key != "d7"
        assert opened.add_vectors([Document("d7", "")], random_vectors()[7:8]) == 1
    with Index.open(path, read_only=True) as reader:
        assert reader.search(vector=random_vectors()[7], k=1)[0].key == "d7"
        with pytest.raises(IndexReadOnlyError):
            reader.add_vectors([Document("x", "")], random_vectors(1))


def test_spaces_and_bundles_do_not_mix(path: Path, index: Index, embedder: Embedder, tmp_path: Path) -> None:
    """Texts need an embedder, given vectors an index of given vectors; an embedder does not open such an index."""
    with pytest.raises(InputError, match="opened without an embedder: use add_vectors"):
        index.add([Document("x", "text")])
    with pytest.raises(InputError, match="opened without an embedder: use add_vectors"):
        index.upsert([Document("x", "text")])
    index.close()
    with pytest.raises(BundleMismatchError, match=r"of the space 'random'.*Open it without an embedder"):
        Index.open(path, embedder)
    with Index.open(tmp_path / "bundle.db", embedder) as made:
        made.add([Document("x", "A text about ships.")])
        for method in (made.add_vectors, made.upsert_vectors):
            with pytest.raises(InputError, match=r"holds vectors of the bundle .*: use add"):
                method([Document("y", "")], np.ones((1, 384)))
    with Index.open(tmp_path / "bundle.db") as bare:
        (vector,) = embedder.encode_query(["ships"])
        assert bare.search(vector=vector)[0].key == "x"
        assert bare.search("ships", mode="text")[0].key == "x"
        with pytest.raises(InputError, match="open it with an Embedder"):
            bare.search("ships")
        with pytest.raises(InputError, match="open it with the Embedder of"):
            bare.add([Document("y", "text")])
        assert bare.delete("x") == 1


def test_a_space_of_the_name_of_a_bundle_is_not_the_bundle(path: Path, embedder: Embedder) -> None:
    """A name says nothing about weights."""
    Index.create(path, space=embedder.manifest.name, dim=embedder.dim).close()
    with pytest.raises(BundleMismatchError):
        Index.open(path, embedder)


def test_create_refuses_what_is_there(path: Path, index: Index, tmp_path: Path) -> None:
    """An index, another file, a folder; and a folder that is not there."""
    with pytest.raises(InputError, match=r"exists; Index\.open opens it"):
        Index.create(path, space="random", dim=DIM)
    (tmp_path / "note.txt").write_text("hello")
    with pytest.raises(InputError, match="exists"):
        Index.create(tmp_path / "note.txt", space="s", dim=2)
    assert (tmp_path / "note.txt").read_text() == "hello"
    with pytest.raises(IndexFileError, match="is a folder"):
        Index.create(tmp_path, space="s", dim=2)
    with pytest.raises(IndexFileError, match="does not exist"):
        Index.create(tmp_path / "none" / "a.db", space="s", dim=2)
    with pytest.raises(IndexFileError, match=r"does not exist; .*Index\.create"):
        Index.open(tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"space": ""}, "space is ''"),
        ({"space": " \t"}, "space is"),
        ({"space": "a\nb"}, "space is"),
        ({"space": "x" * 257}, "space is"),
        ({"space": "\ud800"}, "lone surrogate"),
        ({"space": 5}, "space is int, expected str"),
        ({"space": None}, "space is NoneType"),
        ({"dim": 0}, "dim is 0, expected a whole number from 1 to 65536"),
        ({"dim": -3}, "dim is -3"),
        ({"dim": 2**16 + 1}, "dim is 65537"),
        ({"dim": 2.0}, "dim is 2.0"),
        ({"dim": True}, "dim is True"),
        ({"dim": "3"}, "dim is '3'"),
        ({"words": "german"}, "words is 'german', expected one of english, plain, trigram"),
        ({"words": ""}, "words is ''"),
        ({"words": None}, "words is None"),
        ({"words": ["english"]}, "words is"),
        ({"fields": "lang"}, "fields is 'lang', expected a list"),
        ({"fields": ["a", "a"]}, "all different"),
        ({"fields": ['a"b']}, "fields is"),
        ({"fields": [""]}, "fields is"),
        ({"fields": [1]}, "fields is"),
        ({"fields": None}, "fields is"),
        ({"fields": [f"f{i}" for i in range(33)]}, "at most 32"),
    ],
)
def test_bad_options(path: Path, option: dict[str, Any], message: str) -> None:
    """Each is named with what was expected, and no file is left."""
    with pytest.raises(InputError, match=message):
        Index.create(path, **{"space": "s", "dim": 2, **option})
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("dim", [1, 2, 63, 64, 65, 1536, 3072])
def test_any_dim(path: Path, dim: int) -> None:
    """One number to thousands: what is stored is found by itself, after reopening too."""
    vectors = random_vectors(40, dim)
    with Index.create(path, space="s", dim=np.int64(dim)) as index:
        index.add_vectors(documents(40), vectors)
    with Index.open(path) as index:
        best = index.search(vector=vectors[11], k=1)[0]
        assert best.score == pytest.approx(1, abs=0.01)
        assert dim == 1 or best.key == "d11"
        assert index.stats()["dim"] == dim


@pytest.mark.parametrize("space", ["x" * 256, "Ünïcode 名前 🦆", "text-embedding-3-large", "a'b\"c;--"])
def test_names_of_spaces(path: Path, space: str) -> None:
    """Any name that can be printed comes back as it was given."""
    Index.create(path, space=space, dim=2).close()
    with Index.open(path) as index:
        assert index.stats()["bundle"] == space


def test_the_same_name_is_the_same_space(tmp_path: Path) -> None:
    """Fingerprints are of the names alone."""
    prints = []
    for name, space in (("a", "one"), ("b", "one"), ("c", "two")):
        with Index.create(tmp_path / name, space=space, dim=2) as index:
            prints.append(index.stats()["fingerprint"])
    assert prints[0] == prints[1] != prints[2]


def test_long_keys_and_file_names(tmp_path: Path) -> None:
    """Keys of 2,048 characters and files of 200 bytes are the longest; one more of either is refused."""
    name = "é" * 98 + ".db"  # 199 bytes
    with Index.create(tmp_path / name, space="s", dim=2) as index:
        index.add_vectors([Document("k" * 2048, "t" * 100_000)], [[1, 0]])
        assert index.search(vector=[1, 0])[0].key == "k" * 2048
        with pytest.raises(DocumentError, match="1 to 2048 characters"):
            index.add_vectors([Document("k" * 2049, "")], [[1, 0]])
    with pytest.raises(InputError, match="more than 200 bytes"):
        Index.create(tmp_path / ("e" * 201), space="s", dim=2)


def test_words_and_fields(path: Path) -> None:
    """They are as they were made: asking for the same opens, asking for others is refused."""
    with Index.create(path, space="s", dim=2, words="trigram", fields=["lang", "year"]) as index:
        index.add_vectors([Document("zug", "Hauptbahnhof", {"lang": "de"})], [[1, 0]])
        assert [hit.key for hit in index.search("bahnhof", mode="text")] == ["zug"]
        assert index.search(vector=[1, 0], where={"lang": "de"})[0].key == "zug"
    with Index.open(path, words="trigram", fields=["year", "lang"]) as index:
        assert index.stats()["words"] == "trigram"
        assert sorted(index.stats()["fields"]) == ["lang", "year"]
    with pytest.raises(InputError, match="was made with words='trigram'"):
        Index.open(path, words="english")
    with pytest.raises(InputError, match="was made with fields"):
        Index.open(path, fields=["lang"])


def test_damaged_vectors_are_lost_without_an_embedder(path: Path, index: Index) -> None:
    """They cannot be made again: the document is listed, dropped when asked, and given again by its owner."""
    index.close()
    alter(path, "UPDATE vec SET code = zeroblob(28) WHERE id = 8")
    assert [damage.key for damage in verify_index(path).damaged] == ["d7"]
    with Index.open(path) as opened:
        assert "d7" not in [hit.key for hit in opened.search(vector=random_vectors()[7], k=COUNT)]
        assert opened.damaged == [8]
        done = opened.repair()
        assert ([damage.key for damage in done.lost], done.restored, done.whole) == (["d7"], [], False)
        assert "d7" in opened
        done = opened.repair(drop=True)
        assert ([damage.key for damage in done.dropped], done.whole) == (["d7"], True)
        assert len(opened) == COUNT - 1
        opened.add_vectors(documents()[7:8], random_vectors()[7:8])
        assert opened.search(vector=random_vectors()[7], k=1)[0].key == "d7"
        assert opened.verify().whole


def test_damaged_codes_and_tables_are_made_anew_without_an_embedder(path: Path, index: Index) -> None:
    """Binary codes and words come from what is stored."""
    index.close()
    alter(path, "UPDATE bits SET words = zeroblob(length(words)) WHERE block = 1", "DELETE FROM fts_data WHERE id > 10")
    assert not verify_index(path).whole
    with Index.open(path) as opened:
        done = opened.repair()
        assert (sorted(done.rebuilt), done.lost, done.whole) == (["codes", "words"], [], True)
        assert [hit.key for hit in opened.search("299", mode="text")] == ["d299"]
        assert opened.search(vector=random_vectors()[299], k=1)[0].key == "d299"


def _hold(path: Path, ready: Any, seconds: float) -> None:
    with Index.open(path):
        ready.set()
        time.sleep(seconds)


def test_timeout(path: Path, index: Index) -> None:
    """Without one a second writer is refused at once; with one it waits for the first."""
    index.close()
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(path, ready, 1.0))
    holder.start()
    assert ready.wait(60)
    with pytest.raises(IndexLockedError):
        Index.open(path)
    with Index.open(path, timeout=60) as opened:
        assert len(opened) == COUNT
    holder.join()
    assert holder.exitcode == 0


@pytest.mark.parametrize("timeout", [-1, "1", float("nan"), True])
def test_what_is_no_timeout(path: Path, timeout: Any) -> None:
    with pytest.raises(InputError, match="timeout"):
        Index.create(path, space="s", dim=2, timeout=timeout)


def test_threads_add_and_search_at_once(path: Path) -> None:
    """Searches beside commits find what was committed, whole."""
    vectors, errors = random_vectors(), []
    with Index.create(path, space="s", dim=DIM) as index:
        index.add_vectors(documents(20), vectors[:20])

        def search() -> None:
            try:
                while len(index) < COUNT:
                    assert index.search(vector=vectors[3], k=1)[0].key == "d3"
            except Exception as error:  # noqa: BLE001 - shown below
                errors.append(error)

        thread = threading.Thread(target=search)
        thread.start()
        for start in range(20, COUNT, 20):
            index.add_vectors(documents()[start : start + 20], vectors[start : start + 20])
        thread.join()
        assert errors == []
        assert index.search(vector=vectors[299], k=1)[0].key == "d299"


def test_codes_in_the_file(path: Path, index: Index) -> None:
    """A passage is 4 bytes of scale and one byte a number; vector = code * scale within about half a step."""
    index.close()
    with sqlite3.connect(path) as db:
        rows = [blob for (blob,) in db.execute("SELECT code FROM vec ORDER BY id")]
        texts = [json.loads(row) for (row,) in db.execute("SELECT metadata FROM doc ORDER BY id")]
    db.close()
    raw = np.frombuffer(b"".join(rows), np.int8).reshape(COUNT, DIM + 4)
    scales = np.ascontiguousarray(raw[:, :4]).view("<f4")
    assert (np.abs(raw[:, 4:]).max(axis=1) == 127).all()
    assert np.abs(raw[:, 4:] * scales - unit(random_vectors())).max() <= 0.55 * scales.max()
    assert texts[5] == {"n": 5, "even": False}
