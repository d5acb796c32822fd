"""load.py, dump.py, arrays.py, arrow.py and their commands: vectors in from files, and out to them."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from builders.files import alter
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from edge_embed import Document, Embedder, Index
from edge_embed.cli.dump import dump
from edge_embed.cli.load import load
from edge_embed.cli.main import Commands
from edge_embed.errors import (
    DocumentError,
    DuplicateKeyError,
    EdgeEmbedError,
    IndexFileError,
    IndexLockedError,
    InputError,
    MissingExtraError,
    SourceError,
    StorageError,
)
from edge_embed.files import columns
from edge_embed.files import load as loading
from edge_embed.files.arrays import ArrayReader
from edge_embed.files.dump import Dumped, dump_vectors
from edge_embed.files.load import Loaded, load_vectors
from edge_embed.files.npzwriter import NpzWriter

DIM = 16
COUNT = 100
main = Commands(commands={"load": load, "dump": dump})


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def random_vectors(count: int = COUNT, dim: int = DIM, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def texts(blob: NDArray[np.uint8], offsets: NDArray[np.int64]) -> list[str]:
    return [blob[start:stop].tobytes().decode() for start, stop in itertools.pairwise(offsets)]


def names() -> list[str]:
    """Files in the working directory, but for what SQLite keeps beside an index."""
    return sorted(path.name for path in Path().iterdir() if not path.name.endswith(("-wal", "-shm")))


def found(path: Path, query: NDArray[np.float32], **options: Any) -> list[tuple[str, float, str, dict[str, Any]]]:
    with Index.open(path, read_only=True) as index:
        return [(h.key, round(h.score, 3), h.text, h.metadata) for h in index.search(vector=query, **options)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of vectors and documents of them, and the working directory of the test."""
    monkeypatch.chdir(tmp_path)
    np.save("v.npy", random_vectors())
    write_rows("d.jsonl", rows())
    return tmp_path


def rows(count: int = COUNT) -> list[dict[str, Any]]:
    return [{"id": f"k{i}", "text": f"Row {i} of the log.", "n": i} for i in range(count)]


def write_rows(name: str, content: list[dict[str, Any]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in content))


@pytest.fixture
def made(folder: Path) -> Path:
    """A closed index of odd documents: without text, with odd characters, of long keys; one was deleted."""
    path = folder / "made.db"
    odd = ["", "x" * 3000, "Ünï 🦆 \x00 \r\n", "  ", '"]}', "a\u2028b"]
    with Index.create(path, space="random", dim=DIM, fields=[]) as index:
        index.add_vectors(
            [
                Document(f"k{i}", odd[i % 6] if i < 60 else f"Row {i}.", {"n": i, "deep": {"é": [None, 1.5]}})
                for i in range(COUNT)
            ],
            random_vectors(),
        )
        index.add_vectors([Document("é" * 2000, "long key"), Document("gone", "x")], random_vectors(2, seed=1))
        index.delete("gone")
    return path


def test_load_vectors_alone(folder: Path) -> None:
    """Rows become documents under their numbers; a second run stores nothing."""
    assert load_vectors("a.db", "v.npy", space="random") == Loaded(COUNT, COUNT, 0)
    assert load_vectors("a.db", "v.npy") == Loaded(COUNT, 0, COUNT)
    assert found(Path("a.db"), random_vectors()[42], k=1) == [("42", 1.0, "", {"source": "v.npy"})]
    changed = random_vectors()
    changed[[3, 4]] *= -1
    np.save("v.npy", changed)
    assert load_vectors("a.db", "v.npy", space="random") == Loaded(COUNT, 2, COUNT - 2)


def test_load_with_documents(folder: Path) -> None:
    """Rows of both files belong together by their order; texts may be missing, other fields are metadata."""
    content = rows()
    del content[7]["text"]
    content[8]["text"] = ""
    content[9] = {"key": "title", "title": "Only a title"}
    write_rows("d.jsonl", content)
    assert load_vectors("a.db", "v.npy", "d.jsonl", space="random") == Loaded(COUNT, COUNT, 0)
    query = random_vectors()
    assert found(Path("a.db"), query[42], k=1) == [("k42", 1.0, "Row 42 of the log.", {"source": "d.jsonl", "n": 42})]
    assert found(Path("a.db"), query[7], k=1) == [("k7", 1.0, "", {"source": "d.jsonl", "n": 7})]
    assert found(Path("a.db"), query[8], k=1)[0][2] == ""
    assert found(Path("a.db"), query[9], k=1)[0][::2] == ("title", "Only a title")
    assert load_vectors("a.db", "v.npy", Path("d.jsonl")).unchanged == COUNT


def test_load_csv(folder: Path) -> None:
    """A .csv file of documents, without a column of texts."""
    Path("d.csv").write_text("key,lang\n" + "".join(f"c{i},en\n" for i in range(COUNT)))
    assert load_vectors("a.db", "v.npy", "d.csv", space="random").stored == COUNT
    assert found(Path("a.db"), random_vectors()[5], k=1, where={"lang": "en"})[0][0] == "c5"


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8", "i1", "<i4", "u1"])
def test_types_of_numbers(folder: Path, dtype: str) -> None:
    """Every real type in either byte order gives the vectors that it holds."""
    given = (random_vectors() * 20 + 30).clip(0, 100).astype(dtype)
    np.save("t.npy", given)
    np.savez_compressed("t.npz", vectors=given)
    for i, name in enumerate(("t.npy", "t.npz")):
        assert load_vectors(f"{i}.db", name, space="s").stored == COUNT
        assert found(Path(f"{i}.db"), given[17].astype(np.float64), k=1)[0][:2] == ("17", 1.0)


def test_made_as_asked(folder: Path) -> None:
    """Space, words and the batch of commits; what is there must fit them."""
    load_vectors("a.db", "v.npy", "d.jsonl", space="random", words="trigram")
    with Index.open("a.db") as index:
        stats = index.stats()
        assert (stats["bundle"], stats["words"], stats["generation"]) == ("random", "trigram", 2)
    with pytest.raises(InputError, match="'random', not of 'other'"):
        load_vectors("a.db", "v.npy", space="other")
    with pytest.raises(InputError, match="made with words='trigram'"):
        load_vectors("a.db", "v.npy", words="plain")
    with pytest.raises(InputError, match=r"is new: give its space"):
        load_vectors("b.db", "v.npy")
    np.save("w.npy", random_vectors(3, DIM + 1))
    with pytest.raises(InputError, match=f"holds vectors of {DIM} numbers, w.npy of {DIM + 1}"):
        load_vectors("a.db", "w.npy")
    assert not Path("b.db").exists()


def test_not_into_an_index_of_a_bundle(folder: Path, embedder: Embedder) -> None:
    Index.open("bundle.db", embedder).close()
    with pytest.raises(InputError, match="holds vectors of the bundle"):
        load_vectors("bundle.db", "v.npy")


def save_objects(path: str) -> None:
    np.save(path, np.array([[1.0, None]], object), allow_pickle=True)


def truncated(path: str, keep: float) -> None:
    np.save(path, random_vectors())
    Path(path).write_bytes(Path(path).read_bytes()[: int(Path(path).stat().st_size * keep)])


def headed(path: str, shape: str, content: bytes = b"") -> None:
    """A .npy file whose header says a shape."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    Path(path).write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + content)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: Path(p).touch(), "cannot be read"),
        (lambda p: Path(p).write_bytes(b"\x93NUMPY\x01"), "cannot be read"),
        (lambda p: Path(p).write_text("0.5,0.25\n" * 100), "cannot be read"),
        (lambda p: truncated(p, 0.01), "cannot be read"),
        (lambda p: truncated(p, 0.9), "cut off or overwritten"),
        (lambda p: headed(p, "(2, 3)", bytes(25)), "25|cut off or overwritten"),
        (lambda p: headed(p, "(99999999999999, 384)"), "cut off"),
        (lambda p: headed(p, "(-1, 3)", bytes(12)), r"has the shape \(-1, 3\)"),
        (lambda p: headed(p, "(1, 2, "), "cannot be read"),
        (save_objects, "holds Python objects .* not read"),
        (lambda p: np.save(p, np.ones((4, 3), order="F")[:, ::1]), "Fortran order"),
        (lambda p: np.save(p, np.ones(5)), r"has the shape \(5,\)"),
        (lambda p: np.save(p, np.float32(1)), r"has the shape \(\)"),
        (lambda p: np.save(p, np.ones((2, 3, 4))), r"has the shape \(2, 3, 4\)"),
        (lambda p: np.save(p, np.ones((2, 3), complex)), "is of complex128, expected real numbers"),
        (lambda p: np.save(p, np.ones((2, 3), bool)), "is of bool"),
        (lambda p: np.save(p, np.array([["a", "b"]])), "is of <U1"),
        (lambda p: np.save(p, np.zeros((2, 2), [("x", "f4")])), "expected real numbers"),
        (lambda p: np.save(p, np.ones((3, 0))), "holds vectors without numbers"),
        (lambda p: np.save(p, np.ones((2, 70_000), np.int8)), "dim is 70000"),
    ],
)
def test_malformed_npy(folder: Path, make: Callable[[str], None], message: str) -> None:
    """Cut off, pickled, of another order, shape or type: an error that names the file, and no index."""
    make("bad.npy")
    with pytest.raises(EdgeEmbedError, match=message):
        load_vectors("a.db", "bad.npy", space="s")
    assert not Path("a.db").exists()


def zipped(path: str, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def altered(path: str) -> None:
    np.savez(path, vectors=random_vectors(2000))
    content = bytearray(Path(path).read_bytes())
    content[len(content) // 2] ^= 1
    Path(path).write_bytes(content)


BLOB = np.frombuffer(b"abc", np.uint8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: Path(p).touch(), "cannot be read: File is not a zip file"),
        (lambda p: np.savez(p, other=np.ones(3)), "no array 'vectors'; arrays: other"),
        (lambda p: np.savez(p, codes=np.ones((3, 2), np.int8)), "no array 'vectors'"),
        (lambda p: np.savez(p, codes=np.ones((3, 2), np.int8), scales=np.ones(2)), "3 codes and 2 scales"),
        (lambda p: np.savez(p, codes=np.ones((3, 2), np.int8), scales=np.array(["a"] * 3)), "scales are not real"),
        (lambda p: np.savez(p, vectors=np.ones((3, 2)), keys=np.array(["a", "b"])), "3 vectors and 2 keys"),
        (lambda p: np.savez(p, vectors=np.ones((1, 2)), keys=np.array([["a"]])), "1 vectors and 0 keys"),
        (lambda p: np.savez(p, vectors=np.ones((1, 2)), keys=np.array([0.5])), "keys is float64"),
        (lambda p: np.savez(p, vectors=np.ones((1, 2)), keys=np.array([None])), "keys holds Python objects"),
        (lambda p: np.savez(p, vectors=np.ones((2, 2)), keys=np.array(["a", ""])), "row 1: key '' cannot be used"),
        (lambda p: np.savez(p, vectors=np.ones((2, 2)), keys=np.array(["a", "a"])), "rows 0 and 1 have the same key"),
        (lambda p: np.savez(p, vectors=np.ones((2, 2)), keys=BLOB, keys_offsets=[0, 1]), "2 vectors and 1 keys"),
        (lambda p: np.savez(p, vectors=np.ones((2, 2)), keys=BLOB, keys_offsets=[0, 2, 1]), "has 1 after 2"),
        (lambda p: np.savez(p, vectors=np.ones((2, 2)), keys=BLOB, keys_offsets=[0, 2, 4]), "has 4 after 2"),
        (lambda p: np.savez(p, vectors=np.ones((2, 2)), keys=BLOB, keys_offsets=[1, 2, 3]), "begins with 1"),
        (lambda p: np.savez(p, vectors=np.ones((2, 2)), keys=BLOB, keys_offsets=[0, 0.5, 1]), "with int64 offsets"),
        (lambda p: np.savez(p, vectors=np.ones((1, 2)), keys=BLOB + 128, keys_offsets=[0, 3]), "not UTF-8"),
        (lambda p: np.savez(p, vectors=np.ones((1, 2)), metadata=np.array(["[1]"])), "row 0: the metadata is list"),
        (lambda p: np.savez(p, vectors=np.ones((1, 2)), metadata=np.array(["{"])), "row 0: .* not valid JSON"),
        (lambda p: np.savez(p, vectors=np.ones((1, 2)), metadata=np.array(['{"a": NaN}'])), "as JSON: Out of range"),
        (lambda p: zipped(p, vectors=b"nothing"), "vectors cannot be read"),
        (altered, "Bad CRC-32.*; (the 0 rows|nothing was stored)"),
    ],
)
def test_malformed_npz(folder: Path, make: Callable[[str], None], message: str) -> None:
    """Not a zip, arrays that are missing or do not fit each other, keys and metadata that cannot be stored."""
    make("bad.npz")
    with pytest.raises(EdgeEmbedError, match=message):
        load_vectors("a.db", "bad.npz", space="s")
    if Path("a.db").exists():
        with Index.open("a.db") as index:
            assert len(index) == 0


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_a_cut_off_npz(folder: Path, keep: float) -> None:
    np.savez("v.npz", vectors=random_vectors())
    content = Path("v.npz").read_bytes()
    Path("v.npz").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(SourceError, match=r"v\.npz cannot be read"):
        load_vectors("a.db", "v.npz", space="s")


def test_npz_of_a_user(folder: Path) -> None:
    """numpy's own strings, bytes and whole numbers as keys; texts and metadata where they are there."""
    vectors = random_vectors(3)
    for i, keys in enumerate((np.array(["é", "b", "c"]), np.array([b"\xc3\xa9", b"b", b"c"]), np.array([5, 6, 7]))):
        np.savez(f"{i}.npz", vectors=vectors, keys=keys, texts=np.array(["", "one", "two"]))
        load_vectors(f"{i}.db", f"{i}.npz", space="s")
        assert found(Path(f"{i}.db"), vectors[0], k=1)[0][::2] == (("é", "é", "5")[i], "")
        assert found(Path(f"{i}.db"), vectors[2], k=1)[0][::2] == (("c", "c", "7")[i], "two")
    np.savez("m.npz", vectors=vectors, metadata=np.array(['{"a": 1}', "{}", '{"b": [null]}']))
    load_vectors("m.db", "m.npz", space="s")
    assert [found(Path("m.db"), v, k=1)[0][0::3] for v in vectors] == [
        ("0", {"a": 1, "source": "m.npz"}), ("1", {"source": "m.npz"}), ("2", {"b": [None], "source": "m.npz"})
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("count", "message"), [(COUNT - 1, "99 rows and v.npy 100 vectors"), (COUNT + 1, "101 rows and v.npy 100 vectors")]
)
def test_other_numbers_of_rows(folder: Path, count: int, message: str) -> None:
    """Known before anything is stored."""
    write_rows("d.jsonl", rows(count))
    with pytest.raises(SourceError, match=f"d.jsonl has {message}.*nothing was stored"):
        load_vectors("a.db", "v.npy", "d.jsonl", space="s")
    assert not Path("a.db").exists()


@pytest.mark.parametrize("change", ["shorter", "longer"])
def test_documents_that_change_while_they_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """What is found at the end names the row, and what is stored."""
    check = loading._check_keys

    def altered(*arguments: Any) -> None:
        check(*arguments)
        write_rows("d.jsonl", rows(COUNT - 30 if change == "shorter" else COUNT + 30))

    monkeypatch.setattr(loading, "_check_keys", altered)
    monkeypatch.setattr(columns, "BATCH_ROWS", 10)
    stored = 70 if change == "shorter" else 100
    message = "d.jsonl ends before row 70; v.npy has 100" if change == "shorter" else "row 100 of d.jsonl has no vector"
    with pytest.raises(SourceError, match=f"{message}.*; the {stored} rows before row {stored} are stored"):
        load_vectors("a.db", "v.npy", "d.jsonl", space="s")
    with Index.open("a.db") as index:
        assert len(index) == stored


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0])
@pytest.mark.slow
def test_a_bad_row_far_in(folder: Path, value: float) -> None:
    """Batches before it are stored, and the message says which; once it is mended, the rest is."""
    vectors = random_vectors(20_000, 4)
    vectors[17_000] = value
    np.save("w.npy", vectors)
    message = r"w.npy: row 17000 holds NaN, infinity, or nothing but zeros; the 16384 rows before row 16384 are stored"
    with pytest.raises(SourceError, match=message):
        load_vectors("a.db", "w.npy", space="s")
    with Index.open("a.db") as index:
        assert len(index) == 16_384
    vectors[17_000] = 1
    np.save("w.npy", vectors)
    assert load_vectors("a.db", "w.npy") == Loaded(20_000, 20_000 - 16_384, 16_384)


def test_keys_are_checked_before_anything_is_stored(folder: Path) -> None:
    """Twice, far apart; of documents and of vectors that do not agree; that no index takes."""
    content = rows()
    content[90]["id"] = "k3"
    write_rows("d.jsonl", content)
    with pytest.raises(DuplicateKeyError, match=r"d\.jsonl: rows 3 and 90 have the same key 'k3'"):
        load_vectors("a.db", "v.npy", "d.jsonl", space="s")
    np.savez("v.npz", vectors=random_vectors(), keys=np.array([f"k{i}" for i in range(COUNT)]))
    content[90]["id"] = "other"
    write_rows("d.jsonl", content)
    with pytest.raises(SourceError, match=r"row 90 has the key 'k90' in v\.npz and 'other' in d\.jsonl"):
        load_vectors("a.db", "v.npz", "d.jsonl", space="s")
    np.savez("w.npz", vectors=random_vectors(1), keys=np.array(["x" * 2049]))
    with pytest.raises(DocumentError, match=r"w\.npz: row 0: key"):
        load_vectors("a.db", "w.npz", space="s")
    assert not Path("a.db").exists()
    write_rows("d.jsonl", rows())
    load_vectors("a.db", "v.npz", "d.jsonl", space="s")
    assert found(Path("a.db"), random_vectors()[4], k=1)[0][::2] == ("k4", "Row 4 of the log.")


def test_bad_documents_name_their_line(folder: Path) -> None:
    Path("d.jsonl").write_text('{"id": "a"}\n{"id": \n')
    with pytest.raises(SourceError, match=r"d\.jsonl, line 2: not valid JSON"):
        load_vectors("a.db", "v.npy", "d.jsonl", space="s")
    Path("d.jsonl").write_text('{"id": "a"}\n{"id": "b", "text": null}\n')
    with pytest.raises(SourceError, match=r"d\.jsonl, line 2: 'text' and 'title' must be strings"):
        load_vectors("a.db", "v.npy", "d.jsonl", space="s")


@pytest.mark.parametrize(
    ("vectors", "documents", "message"),
    [
        ("none.npy", None, r"none\.npy does not exist"),
        ("v.txt", None, r"v\.txt is not a file of a known type; expected \.npy, \.npz, \.parquet, \.arrow"),
        ("folder.npy", None, "is not a file"),
        ("v.npy", "none.jsonl", r"none\.jsonl does not exist"),
        ("v.npy", "d.txt", r"d\.txt is not a file of a known type; expected \.jsonl, \.ndjson, \.csv, \.tsv"),
    ],
)
def test_files_that_cannot_be_read(folder: Path, vectors: str, documents: str | None, message: str) -> None:
    Path("folder.npy").mkdir()
    with pytest.raises(SourceError, match=message):
        load_vectors("a.db", vectors, documents, space="s")


def test_no_rows(folder: Path) -> None:
    """An empty array makes an empty index, which dumps to an empty file."""
    np.save("w.npy", np.empty((0, 5)))
    assert load_vectors("a.db", "w.npy", space="s") == Loaded(0, 0, 0)
    assert dump_vectors("a.db", "a.npz") == Dumped(0, 0, 5)
    with np.load("a.npz") as arrays:
        assert (arrays["vectors"].shape, arrays["keys_offsets"].tolist()) == ((0, 5), [0])
    assert load_vectors("b.db", "a.npz", space="s") == Loaded(0, 0, 0)


def test_one_writer(folder: Path) -> None:
    load_vectors("a.db", "v.npy", space="s")
    with Index.open("a.db"), pytest.raises(IndexLockedError):
        load_vectors("a.db", "v.npy")


def test_dump_holds_what_is_stored(made: Path) -> None:
    """Every array by its name, without a pickle: vectors of length 1, near those given; texts and JSON as they are."""
    assert dump_vectors(made, "out.npz") == Dumped(COUNT + 1, 0, DIM)
    with np.load("out.npz", allow_pickle=False) as arrays, Index.open(made) as index:
        keys, stored = texts(arrays["keys"], arrays["keys_offsets"]), texts(arrays["texts"], arrays["texts_offsets"])
        assert keys == [*(f"k{i}" for i in range(COUNT)), "é" * 2000]
        documents = [index.get(key) for key in keys]
        assert stored == [document.text for document in documents if document]
        metadata = map(json.loads, texts(arrays["metadata"], arrays["metadata_offsets"]))
        assert list(metadata) == [document.metadata for document in documents if document]
        assert not arrays["starts"].any()
        assert arrays["stops"].tolist() == [len(text) for text in stored]
        given = np.vstack([random_vectors(), random_vectors(2, seed=1)[:1]])
        cosines = (arrays["vectors"] * given).sum(axis=1) / np.linalg.norm(given, axis=1)
        assert arrays["vectors"].dtype == np.float32
        assert np.allclose(np.linalg.norm(arrays["vectors"], axis=1), 1, atol=1e-6)
        assert cosines.min() > 0.9999
        assert str(arrays["bundle"]) == "random"
        assert str(arrays["fingerprint"]) == index.stats()["fingerprint"]


def test_dump_codes(made: Path) -> None:
    """Codes and scales as they are stored: vector = code * scale."""
    dump_vectors(made, "out.npz", codes=True)
    dump_vectors(made, "float.npz")
    with np.load("out.npz") as arrays, np.load("float.npz") as floats:
        assert "vectors" not in arrays
        assert (arrays["codes"].dtype, arrays["scales"].dtype) == (np.int8, np.float32)
        vectors = arrays["codes"] * arrays["scales"][:, None]
        assert np.allclose(vectors, floats["vectors"], atol=0.01)
        assert np.allclose(vectors / np.linalg.norm(vectors, axis=1)[:, None], floats["vectors"], atol=1e-6)


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".arrow"])
@pytest.mark.parametrize("codes", [False, True])
def test_round_trip(made: Path, suffix: str, codes: bool) -> None:
    """An index of what was dumped finds the same, and dumps the same codes again."""
    if suffix != ".npz":
        pytest.importorskip("pyarrow")
    dump_vectors(made, f"out{suffix}", codes=codes)
    assert load_vectors("copy.db", f"out{suffix}", space="random") == Loaded(COUNT + 1, COUNT + 1, 0)
    with Index.open(made) as first, Index.open("copy.db") as second:
        for query in random_vectors(20, seed=7):
            hits, copied = first.search(vector=query, k=20), second.search(vector=query, k=20)
            assert [hit.key for hit in hits] == [hit.key for hit in copied]
            assert np.allclose([h.score for h in hits], [h.score for h in copied], atol=1e-6)
            assert [(h.text, h.metadata) for h in hits] == [(h.text, h.metadata) for h in copied]
        found_words = [[hit.key for hit in index.search("row 77", mode="text")] for index in (first, second)]
        assert found_words[0] == found_words[1] != []
    dump_vectors(made, "one.npz", codes=True)
    dump_vectors("copy.db", "two.npz", codes=True)
    with np.load("one.npz") as one, np.load("two.npz") as two:
        for name in ("codes", "keys", "keys_offsets", "texts", "metadata"):
            assert np.array_equal(one[name], two[name]), name
    assert load_vectors("copy.db", f"out{suffix}").stored == 0
    assert load_vectors(made, f"out{suffix}").stored == 0


def test_space_of_a_dump(made: Path) -> None:
    """The name in the file is checked against the index where none is given."""
    dump_vectors(made, "out.npz")
    assert load_vectors(made, "out.npz").rows == COUNT + 1
    with pytest.raises(InputError, match=r"is new: give its space.*says 'random'"):
        load_vectors("new.db", "out.npz")
    Index.create("other.db", space="other", dim=DIM).close()
    with pytest.raises(InputError, match="holds vectors of 'other', not of 'random'"):
        load_vectors("other.db", "out.npz")
    assert load_vectors("other.db", "out.npz", space="other").stored == COUNT + 1


def test_dump_of_a_bundle_index(folder: Path, embedder: Embedder) -> None:
    """One row a passage: where it lies in its document, and a vector that is near that of its text."""
    long = "The committee met again and discussed the agenda at length. " * 60
    with Index.open("notes.db", embedder) as index:
        index.add([Document("long", long), Document("cat", "The cat sleeps.", {"lang": "en"})])
    assert dump_vectors("notes.db", "out.npz").rows > 3
    with np.load("out.npz") as arrays:
        keys, parts = texts(arrays["keys"], arrays["keys_offsets"]), texts(arrays["texts"], arrays["texts_offsets"])
        assert set(keys) == {"long", "cat"}
        for key, start, stop, text in zip(keys, arrays["starts"], arrays["stops"], parts, strict=True):
            assert text == (long if key == "long" else "The cat sleeps.")[start:stop]
        assert (arrays["vectors"] * embedder.encode_document(parts)).sum(axis=1).min() > 0.999
        assert str(arrays["fingerprint"]) == embedder.fingerprint
    with pytest.raises(DuplicateKeyError, match="rows 0 and 1 have the same key 'long'"):
        load_vectors("copy.db", "out.npz", space="s")


def test_damaged_rows_are_left_out(made: Path) -> None:
    """A passage, a document, a document without passages: counted, and the exit status says so."""
    alter(made, "UPDATE vec SET code = zeroblob(20) WHERE id = 4", "UPDATE doc SET text = 'x' WHERE id = 8")
    alter(made, "DELETE FROM vec WHERE id = 20")
    assert dump_vectors(made, "out.npz") == Dumped(COUNT + 1 - 3, 3, DIM)
    with np.load("out.npz") as arrays:
        keys = texts(arrays["keys"], arrays["keys_offsets"])
        assert not {"k3", "k7", "k19"} & set(keys)
        assert len(arrays["vectors"]) == len(keys) == len(arrays["starts"])
    result = run("dump", made, "cli.npz")
    assert (result.exit_code, Path("cli.npz").exists()) == (1, True)
    assert "3 damaged rows" in result.stderr
    assert f"{COUNT - 2} passages" in result.stdout


def test_an_output_that_is_there(made: Path) -> None:
    """It is kept, unless forced; the index itself always."""
    Path("out.npz").write_text("precious")
    with pytest.raises(InputError, match="exists; --force"):
        dump_vectors(made, "out.npz")
    assert Path("out.npz").read_text() == "precious"
    dump_vectors(made, "out.npz", force=True)
    assert np.load("out.npz")["vectors"].shape == (COUNT + 1, DIM)
    made.rename("index.npz")
    with pytest.raises(InputError, match="is the index itself"):
        dump_vectors("index.npz", Path("../") / Path.cwd().name / "index.npz", force=True)
    Path("folder.npz").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        dump_vectors("index.npz", "folder.npz", force=True)
    with pytest.raises(InputError, match=r"not a file of a known type; expected \.npz, \.parquet, \.arrow"):
        dump_vectors("index.npz", "out.csv")
    with pytest.raises(StorageError, match="could not be written"):
        dump_vectors("index.npz", "none/out.npz")
    with pytest.raises(IndexFileError, match="does not exist"):
        dump_vectors("none.db", "out.npz")


def test_a_failed_dump_leaves_nothing(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends it: the old output stays, and no other file."""
    dump_vectors(made, "out.npz")
    before = Path("out.npz").read_bytes()
    there = names()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge_embed.files.npzwriter.shutil.copyfileobj", fail)
    with pytest.raises(StorageError, match="No space left on device; nothing was changed"):
        dump_vectors(made, "out.npz", force=True)
    assert Path("out.npz").read_bytes() == before
    assert names() == there


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".arrow"])
def test_a_full_disk(made: Path, suffix: str) -> None:
    """A limit on the size of files stands for it."""
    if suffix != ".npz":
        pytest.importorskip("pyarrow")
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "sys.dont_write_bytecode = True\n"  # it would cut compiled modules off as well, for every later process
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "from edge_embed.files.dump import dump_vectors\nfrom edge_embed.errors import StorageError\n"
        "try: dump_vectors(sys.argv[1], sys.argv[2])\nexcept StorageError as error: print(error)"
    )
    with Index.open(made):  # so that the reader need not make what SQLite keeps beside the index
        done = subprocess.run(
            [sys.executable, "-c", program, str(made), f"out{suffix}"], capture_output=True, text=True, check=False
        )
    assert "could not be written" in done.stdout
    assert done.stderr == ""
    assert not [name for name in names() if name.startswith((".edge_embed", "out"))]


def test_dump_beside_a_writer(made: Path) -> None:
    """One committed state, while another connection goes on writing."""
    stop, errors = threading.Event(), []

    def write() -> None:
        try:
            with Index.open(made) as index:
                for i in itertools.count():
                    if stop.is_set():
                        return
                    batch = [Document(f"w{i}-{j}", "") for j in range(10)]
                    index.add_vectors(batch, random_vectors(10, seed=i))
                    index.delete([f"w{i - 1}-{j}" for j in range(10)])
        except Exception as error:  # noqa: BLE001 - shown below
            errors.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for i in range(5):
            done = dump_vectors(made, f"{i}.npz")
            assert (done.damaged, (done.rows - COUNT - 1) % 10) == (0, 0)
    finally:
        stop.set()
        thread.join()
    assert errors == []


def test_outputs_are_for_their_owner(made: Path) -> None:
    """As index files are: they hold the texts."""
    dump_vectors(made, "out.npz")
    assert os.name == "nt" or Path("out.npz").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_without_pyarrow(made: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """The error says what to install, and nothing is left."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edge-embed\[arrow\]'"):
        dump_vectors(made, f"out{suffix}")
    assert not [name for name in names() if name.startswith((".edge_embed", "out"))]
    Path(f"in{suffix}").touch()
    with pytest.raises(MissingExtraError, match=r"pip install 'edge-embed\[arrow\]'"):
        load_vectors("a.db", f"in{suffix}", space="s")


def test_npz_needs_no_pyarrow(made: Path) -> None:
    """Nor is it imported."""
    program = (
        "import sys; from edge_embed.files.dump import dump_vectors; from edge_embed.files.load import load_vectors; "
        "dump_vectors(sys.argv[1], 'o.npz');"
        "load_vectors('n.db', 'o.npz', space='s'); print('pyarrow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(made)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_parquet_for_others(made: Path) -> None:
    """What pyarrow reads: the vectors as lists of so many float32, the name and fingerprint of the space."""
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    dump_vectors(made, "out.parquet")
    dump_vectors(made, "out.npz")
    table = parquet.read_table("out.parquet")
    assert table.schema.names == ["key", "start", "stop", "vector", "text", "metadata"]
    assert table.schema.field("vector").type == pyarrow.list_(pyarrow.float32(), DIM)
    assert table.schema.metadata[b"bundle"] == b"random"
    assert len(table.schema.metadata[b"fingerprint"]) == 32
    with np.load("out.npz") as arrays:
        vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, DIM)
        assert np.array_equal(vectors, arrays["vectors"])
        assert table["key"].to_pylist() == texts(arrays["keys"], arrays["keys_offsets"])
        assert table["stop"].to_pylist() == arrays["stops"].tolist()
    dump_vectors(made, "out.arrow", codes=True)
    with pyarrow.OSFile("out.arrow") as file:
        codes = pyarrow.ipc.open_file(file).read_all()
    assert codes.schema.field("code").type == pyarrow.list_(pyarrow.int8(), DIM)
    assert codes.schema.field("scale").type == pyarrow.float32()


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("kind", ["list", "large_list", "fixed", "half", "double", "int"])
@pytest.mark.slow
def test_columns_of_others(folder: Path, suffix: str, kind: str) -> None:
    """Lists of any kind and of any numbers; keys of any strings or numbers; metadata as JSON or structs."""
    pyarrow = pytest.importorskip("pyarrow")
    vectors = random_vectors(3000) * 40
    types = {
        "list": pyarrow.list_(pyarrow.float32()),
        "large_list": pyarrow.large_list(pyarrow.float64()),
        "fixed": pyarrow.list_(pyarrow.float32(), DIM),
        "half": pyarrow.list_(pyarrow.float16(), DIM),
        "double": pyarrow.list_(pyarrow.float64()),
        "int": pyarrow.list_(pyarrow.int16()),
    }
    cast = vectors.astype({"half": np.float16, "int": np.int16}.get(kind, np.float64))
    columns = {
        "extra": pyarrow.array([None] * 3000, pyarrow.string()),
        "key": pyarrow.array(range(3000)) if kind == "int" else pyarrow.array([f"k{i}" for i in range(3000)]),
        "vector": pyarrow.array(list(cast), types[kind]),
        "text": pyarrow.array([None if i % 2 else f"Row {i}." for i in range(3000)]),
        "metadata": pyarrow.array([{"n": i} for i in range(3000)]),
    }
    if kind == "list":
        columns["metadata"] = pyarrow.array([None if i == 6 else json.dumps({"n": i}) for i in range(3000)])
        columns["key"] = columns["key"].dictionary_encode()
    save_table(f"t{suffix}", pyarrow.table(columns))
    assert load_vectors("a.db", f"t{suffix}", space="s") == Loaded(3000, 3000, 0)
    prefix = "" if kind == "int" else "k"
    assert found(Path("a.db"), vectors[2500], k=1)[0][::2] == (f"{prefix}2500", "Row 2500.")
    assert found(Path("a.db"), vectors[7], k=1)[0][2:] == ("", {"n": 7})
    assert found(Path("a.db"), vectors[6], k=1)[0][3] == ({} if kind == "list" else {"n": 6})


def save_table(name: str, table: Any) -> None:
    import pyarrow
    from pyarrow import parquet

    if name.endswith(".parquet"):
        parquet.write_table(table, name, row_group_size=700)
        return
    with pyarrow.OSFile(name, "wb") as file, pyarrow.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=700)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"key": ["a"]}, "no column 'vector'; columns: key"),
        ({"code": [[1, 2]]}, "no column 'vector'; columns: code"),
        ({"vector": ["text"]}, "'vector' is string, expected lists of numbers"),
        ({"vector": [1.5]}, "'vector' is double, expected lists of numbers"),
        ({"vector": [["a", "b"]]}, "expected lists of numbers"),
        ({"vector": [[[1.0]]]}, "expected lists of numbers"),
        ({"vector": [[1.0, 2.0], None]}, "row 1 has no vector, expected 2"),
        ({"vector": [[1.0, 2.0], [1.0]]}, "row 1 has a vector of 1 numbers, expected 2"),
        ({"vector": [[1.0, None]]}, "row 0 holds NaN"),
        ({"vector": [[1.0, 2.0], [0.0, 0.0]]}, "row 1 holds NaN, infinity, or nothing but zeros"),
        ({"vector": [None, [1.0, 2.0]]}, "holds vectors without numbers"),
        ({"vector": [[1.0]], "key": [None]}, "a key is None, expected a string"),
        ({"vector": [[1.0]], "key": [1.5]}, "a key is 1.5"),
        ({"vector": [[1.0]], "key": [True]}, "a key is True"),
        ({"vector": [[1.0]], "key": [b"a"]}, "a key is b'a'"),
        ({"vector": [[1.0], [1.0]], "key": ["a", "a"]}, "rows 0 and 1 have the same key 'a'"),
        ({"vector": [[1.0]], "key": [""]}, "row 0: key"),
        ({"vector": [[1.0]], "text": [5]}, "row 0: the text is int, expected a string"),
        ({"vector": [[1.0]], "metadata": ["{"]}, "row 0: the metadata is not valid JSON"),
        ({"vector": [[1.0]], "metadata": [5]}, "row 0: the metadata is int"),
    ],
)
def test_malformed_columns(folder: Path, suffix: str, columns: dict[str, list[Any]], message: str) -> None:
    """The file, the column or the row, and what is wrong with it."""
    pyarrow = pytest.importorskip("pyarrow")
    save_table(f"t{suffix}", pyarrow.table(columns))
    with pytest.raises(EdgeEmbedError, match=message):
        load_vectors("a.db", f"t{suffix}", space="s")


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_files_that_are_no_arrow(made: Path, suffix: str) -> None:
    """Empty, of another kind, cut off anywhere, altered in the middle: an error of ours or all rows, never a crash."""
    pytest.importorskip("pyarrow")
    dump_vectors(made, f"out{suffix}")
    content = Path(f"out{suffix}").read_bytes()
    for bad in (b"", b"PAR1", b"ARROW1\0\0", b"text" * 1000, *(content[: len(content) * i // 9] for i in range(1, 9))):
        Path(f"bad{suffix}").write_bytes(bad)
        with pytest.raises(SourceError, match=f"bad{suffix} cannot be read"):
            load_vectors("a.db", f"bad{suffix}", space="s")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet", ".arrow"])
def test_memory_is_bounded(folder: Path, suffix: str) -> None:
    """Six times the rows, which are 80 MB more in the file, take little more memory to load and to dump."""
    if suffix in (".parquet", ".arrow"):
        pytest.importorskip("pyarrow")
    program = (
        "import sys; from edge_embed.files import columns\n"
        "from edge_embed.files.dump import dump_vectors; from edge_embed.files.load import load_vectors\n"
        "from edge_embed_runtime.system.memory import peak_rss_bytes; columns.BATCH_NUMBERS = 2**20\n"
        "if sys.argv[1]: load_vectors(sys.argv[2], sys.argv[1], space='s')\n"
        "else: dump_vectors(sys.argv[2], sys.argv[3])\n"
        "print(peak_rss_bytes() / 2**20)"
    )

    def peak(*arguments: str) -> float:
        done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
        return float(done.stdout)

    peaks = []
    for count in (1024, 6 * 1024):
        np.save("big.npy", random_vectors(count, 4096))
        loaded = [peak("big.npy", f"{count}.db")]
        if suffix != ".npy":
            loaded += [peak("", f"{count}.db", f"{count}{suffix}"), peak(f"{count}{suffix}", f"{count}.copy")]
        peaks.append(loaded)
    growth = [large - small for small, large in zip(*peaks, strict=True)]
    assert max(growth) < 24, (peaks, "MB")


def test_characters_are_bounded_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts make small batches."""
    monkeypatch.setattr(loading, "BATCH_CHARACTERS", 100)
    load_vectors("a.db", "v.npy", "d.jsonl", space="s")
    with Index.open("a.db") as index:
        assert len(index) == COUNT
        assert index.stats()["generation"] == 1 + -(-COUNT // 6)  # 18 characters a row, after the root


def test_array_reader_reads_in_parts(folder: Path) -> None:
    """Any number of rows at a time, and none after the last."""
    with Path("v.npy").open("rb") as file:
        reader = ArrayReader(file, Path("v.npy").stat().st_size, "v.npy")
        parts = [reader.take(rows) for rows in (1, 0, 60, 60, 5)]
    assert [len(part) for part in parts] == [1, 0, 60, 39, 0]
    assert np.array_equal(np.concatenate(parts), random_vectors())


def test_commands(folder: Path) -> None:
    """The way of vectors through the commands, for people and for programs."""
    result = run("load", "a.db", "v.npy", "--documents", "d.jsonl", "--space", "random", "--json")
    assert json.loads(result.stdout) == {"rows": COUNT, "stored": COUNT, "unchanged": 0}
    assert (
        run("load", "a.db", "v.npy", "--documents", "d.jsonl").stdout == "a.db: 0 stored, 100 unchanged, of 100 rows\n"
    )
    assert run("dump", "a.db", "out.npz").stdout == "out.npz: 100 passages, 16 numbers each\n"
    refused = run("dump", "a.db", "out.npz")
    assert (refused.exit_code, "--force" in refused.stderr) == (1, True)
    result = run("dump", "a.db", "out.npz", "--codes", "--force", "--json")
    assert json.loads(result.stdout) == {"rows": COUNT, "damaged": 0, "dim": DIM}
    result = run("load", "b.db", "out.npz", "--space", "random", "--words", "plain")
    assert result.exit_code == 0
    with Index.open("b.db") as index:
        assert index.stats()["words"] == "plain"


def test_commands_take_fields(folder: Path) -> None:
    """Fields of a new index; another run need not name them."""
    assert run("load", "a.db", "v.npy", "--space", "s", "--field", "lang", "--field", "n").exit_code == 0
    with Index.open("a.db") as index:
        assert sorted(index.stats()["fields"]) == ["lang", "n"]
    assert run("load", "a.db", "v.npy").exit_code == 0
    assert "was made with fields" in run("load", "a.db", "v.npy", "--field", "n").stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["load", "a.db", "v.npy"], 1, "give its space"),
        (["load", "a.db", "none.npy", "--space", "s"], 1, "does not exist"),
        (["load", "d.jsonl", "v.npy", "--space", "s"], 1, "not an edge_embed index"),
        (["dump", "none.db", "out.npz"], 1, "does not exist"),
        (["dump", "d.jsonl", "out.npz"], 1, "not an edge_embed index"),
        (["load", "a.db"], 2, "Missing argument"),
        (["load", "a.db", "v.npy", "--words", "german"], 2, "Invalid value"),
        (["dump", "a.db"], 2, "Missing argument"),
    ],
)
def test_errors_are_one_line(folder: Path, arguments: list[str], status: int, message: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert status == 2 or result.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_load_goes_on(folder: Path, signal_number: int) -> None:
    """What was committed is whole, in whole batches; the next run does the rest."""
    np.save("big.npy", random_vectors(150_000, 64))
    program = (
        "from edge_embed.cli.main import Commands; from edge_embed.cli.load import load;"
        "Commands(commands={'load': load})(['load', 'a.db', 'big.npy', '--space', 's'])"
    )
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while time.monotonic() < until and not (Path("a.db").exists() and stored("a.db") >= 8192):
            time.sleep(0.01)
        process.send_signal(signal_number)
        _, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors
        assert process.returncode != 0
    before = stored("a.db")
    assert 8192 <= before < 150_000
    assert before % 8192 == 0
    assert load_vectors("a.db", "big.npy") == Loaded(150_000, 150_000 - before, before)
    with Index.open("a.db") as index:
        assert index.verify().whole
        assert index.search(vector=random_vectors(150_000, 64)[149_999], k=1)[0].key == "149999"


def stored(path: str) -> int:
    with Index.open(path, read_only=True) as index:
        return len(index)


def test_an_interrupted_archive_says_so(tmp_path: Path) -> None:
    """Ctrl-C at any line while an archive is written comes out as itself, not as an error of closing the archive."""
    row = {"key": ["a"], "start": [0], "stop": [1], "vector": np.ones((1, 4)), "text": ["t"], "metadata": ["{}"]}

    def interrupted(stop: int) -> bool:
        lines = 0

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal lines
            if event == "line" and frame.f_globals.get("__name__") in ("zipfile", NpzWriter.__module__):
                lines += 1
                if lines == stop:
                    raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        file = (tmp_path / "out.npz").open("w+b")
        form = columns.Form(4, codes=False, places=False, gaps=False, facts={"bundle": "b"})
        with file, closing(NpzWriter(file, tmp_path, form)) as writer:
            writer.write(row)
            sys.settrace(trace)
            try:
                writer.finish()
            except KeyboardInterrupt:
                return True
            finally:
                sys.settrace(before)
        return False

    # the first lines are those of the archive's own making
    tried = list(itertools.takewhile(interrupted, itertools.count(60, 37)))
    assert len(tried) > 20
