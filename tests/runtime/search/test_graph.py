"""A graph next to the index saves time or is left alone; whatever happened to it, hits are right."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders.files import alter

from edge_embed import Document, Index
from edge_embed.errors import IndexFileError, InputError, StorageError
from edge_embed_runtime.index.stats import read_stats
from edge_embed_runtime.maintenance import rebuild as rebuilding
from edge_embed_runtime.search import hnsw, hnswfile
from edge_embed_runtime.search.hnsw import Graph
from edge_embed_runtime.search.hnswfile import Origin, Verdict, graph_path
from edge_embed_runtime.storage.schema import GRAPH
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.vectors.bits import BinaryCodes, binarize
from edge_embed_runtime.vectors.types import Vectors

DIM = 64
MANY = 4000
MUTATIONS = 300


def clustered(count: int, seed: int) -> Vectors:
    """Vectors [count, DIM] of length 1 around 60 centres, the same ones for every seed."""
    centres = np.random.default_rng(7).standard_normal((60, DIM))
    random = np.random.default_rng(seed)
    vectors = centres[random.integers(0, 60, count)] + random.standard_normal((count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


QUERIES = clustered(60, seed=2)


def documents(*numbers: int) -> list[Document]:
    return [Document(f"d{i}", f"Text {i}.", {"even": i % 2 == 0}) for i in numbers]


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    """Scan and graph are compared by a few queries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rebuilding, "ROUNDS", 1)
        patch.setattr(rebuilding, "QUERIES", 20)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed index of MANY vectors, with a graph that searches use."""
    path = tmp_path_factory.mktemp("made") / "many.db"
    with Index.create(path, space="s", dim=DIM) as index:
        index.add_vectors(documents(*range(MANY)), clustered(MANY, seed=1))
        index.rebuild("always")
    return path


@pytest.fixture(scope="module")
def exact(made: Path) -> list[list[str]]:
    """Keys that QUERIES find in `made` where all codes are compared."""
    alone = made.with_name("alone.db")
    shutil.copy(made, alone)
    return found(alone)


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    """A copy of `made` and its graph."""
    shutil.copy(graph_path(made), graph_path(tmp_path / "many.db"))
    return shutil.copy(made, tmp_path / "many.db")


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gets an entry for each search by graph."""
    calls: list[int] = []
    original = Graph.nearest

    def nearest(self: Graph, codes: BinaryCodes, query: np.ndarray, count: int) -> np.ndarray:
        calls.append(count)
        return original(self, codes, query, count)

    monkeypatch.setattr(Graph, "nearest", nearest)
    return calls


def found(path: Path, count: int = len(QUERIES)) -> list[list[str]]:
    with Index.open(path, read_only=True) as index:
        return [[hit.key for hit in index.search(vector=query)] for query in QUERIES[:count]]


def state(index: Index) -> str:
    """Whether the graph is used, after a search."""
    index.search(vector=QUERIES[0])
    return str(index.stats()["graph"]["state"])


def overlap(some: list[list[str]], others: list[list[str]]) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(some, others, strict=True)]))


def test_graph_finds_what_the_scan_finds(path: Path, exact: list[list[str]], watched: list[int]) -> None:
    """Searches by graph find nearly the same, with the same scores."""
    assert overlap(found(path), exact) > 0.98
    assert len(watched) == len(QUERIES)
    with Index.open(path, read_only=True) as index:
        assert state(index) == "used"
        hits = index.search(vector=QUERIES[0])
        scanned = index.search(vector=QUERIES[0], where={"$key": {"$in": [hit.key for hit in hits]}})
        assert {hit.key: hit.score for hit in hits} == pytest.approx({hit.key: hit.score for hit in scanned})


def test_nearest_are_proposed(path: Path) -> None:
    """Of the nearest by bits a graph proposes nearly all, and nothing twice."""
    vectors = clustered(MANY, seed=1)
    codes = BinaryCodes(DIM)
    codes.append(np.arange(1, MANY + 1), binarize(vectors))
    with Index.open(path, read_only=True) as index:
        assert state(index) == "used"
        assert index._search.dense.graph is not None
        graph = index._search.dense.graph.graph
        assert graph is not None
        for query in binarize(QUERIES):
            places = graph.nearest(codes, query, 400)
            assert len(places) == len(set(places.tolist())) == 300
            near = codes.nearest(query, 100)
            assert np.isin(near, places).mean() > 0.9


def test_where_is_exact(path: Path, watched: list[int]) -> None:
    """With a condition all codes that fit are compared."""
    with Index.open(path, read_only=True) as index:
        hits = index.search(vector=QUERIES[0], where={"even": True})
        assert len(hits) == 10
        assert all(hit.metadata["even"] for hit in hits)
        assert watched == []


def test_many_hits_are_exact(path: Path, watched: list[int]) -> None:
    """What takes more candidates than a graph is good for, or all, is scanned for; nothing is missed."""
    with Index.open(path, read_only=True) as index:
        assert len(index.search(vector=QUERIES[0], k=2000)) == 2000
        assert len(index.search(vector=QUERIES[0], k=MANY + 1)) == MANY
        assert watched == []


def test_added_and_deleted_since(path: Path) -> None:
    """A few changes leave the graph in use: what is new is found, what is gone is not; compacting changes nothing."""
    with Index.open(path) as index:
        index.add_vectors(documents(*range(MANY, MANY + 60)), QUERIES)
        gone = found(path)[0][1:]
        index.delete(gone)
        assert state(index) == "used"
        for i, query in enumerate(QUERIES):
            hits = index.search(vector=query)
            assert hits[0].key == f"d{MANY + i}"
            assert not {hit.key for hit in hits} & set(gone)
        index.compact()
        assert state(index) == "used"
        assert index.search(vector=QUERIES[3])[0].key == f"d{MANY + 3}"
    with Index.open(path, read_only=True) as index:
        assert read_stats(path)["graph"]["state"] == state(index) == "used"
        assert index.search(vector=QUERIES[3])[0].key == f"d{MANY + 3}"


@pytest.mark.parametrize("deletes", [False, True])
@pytest.mark.slow
def test_too_many_changes(path: Path, watched: list[int], *, deletes: bool) -> None:
    """After changes of more than a tenth all codes are compared, by who changed them and by who reads."""
    count = MANY // 10 + 1
    with Index.open(path) as index, Index.open(path, read_only=True) as reader:
        assert state(index) == state(reader) == "used"
        watched.clear()
        if deletes:
            index.delete(f"d{i}" for i in range(count))
        else:
            index.add_vectors(documents(*range(MANY, MANY + count)), clustered(count, seed=3))
        changed = f"stale: {count} passages were added or deleted since"
        assert state(index) == state(reader) == read_stats(path)["graph"]["state"] == changed
        assert read_stats(path)["graph"]["state"].startswith("stale: ")
        assert watched == []
        index.rebuild("always")
        assert state(index) == state(reader) == "used"
        assert len(watched) > 2


def spoil(data: bytearray, random: np.random.Generator) -> None:
    """Change bytes: a few or many of them, the length, the order."""
    kind = random.integers(0, 7)
    place = int(random.integers(0, len(data))) if random.random() < 0.7 else int(random.integers(0, 400))
    span = int(random.integers(1, 5000))
    if kind == 0:
        data[place] ^= 1 << int(random.integers(0, 8))
    elif kind == 1:
        data[place : place + span] = random.bytes(len(data[place : place + span]))
    elif kind == 2:
        data[place : place + span] = bytes(len(data[place : place + span]))
    elif kind == 3:
        del data[place:]
    elif kind == 4:
        data += random.bytes(span)
    elif kind == 5:
        del data[place : place + span]
    else:
        data[place : place + 8] = (2**63 - 1 - span).to_bytes(8, "little")


@pytest.mark.slow
def test_damaged_graphs_are_left_alone(path: Path, exact: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever bytes a graph has, usearch sees none that it did not write, and searches find what they find without."""
    whole = graph_path(path).read_bytes()

    def refuse(_: int) -> None:
        raise AssertionError("usearch was given a damaged file")

    monkeypatch.setattr(hnsw, "_usearch", refuse)
    random = np.random.default_rng(5)
    for _ in range(MUTATIONS):
        data = bytearray(whole)
        while data == whole:  # zeroing zeros
            spoil(data, random)
        graph_path(path).write_bytes(data)
        with Index.open(path, read_only=True) as index:
            assert state(index) != "used"
            i = int(random.integers(0, len(QUERIES)))
            assert [hit.key for hit in index.search(vector=QUERIES[i])] == exact[i]


def other_index(path: Path) -> None:
    other = path.with_name("other.db")
    with Index.create(other, space="s", dim=DIM) as index:
        index.add_vectors(documents(*range(1000)), clustered(1000, seed=4))
        index.rebuild("always")
    graph_path(other).replace(graph_path(path))


def folder(path: Path) -> None:
    graph_path(path).unlink()
    graph_path(path).mkdir()


def pipe(path: Path) -> None:
    graph_path(path).unlink()
    os.mkfifo(graph_path(path))


def forged(path: Path, **changes: object) -> None:
    """A graph and a verdict that fit each other, with other facts."""
    store = Store(path, read_only=False)
    try:
        verdict = Verdict.from_text(store.note(GRAPH))
        assert verdict is not None
        with hnswfile.open_graph(store, verdict) as (file, origin, _):
            content = file.read()
        sha256 = hnswfile.write(path, replace(origin, **changes), content)
        with store.transaction(deletes=False):
            store.set_note(GRAPH, replace(verdict, sha256=sha256).to_text())
    finally:
        store.close()


UNUSABLE: list[tuple[Callable[[Path], None], str | None]] = [
    (lambda path: graph_path(path).unlink(), "missing"),
    (other_index, "damaged, or of another index"),
    (folder, "damaged: not a file"),
    (lambda path: alter(path, "UPDATE meta SET value = value || ' ' WHERE key = 'graph'"), None),
    (lambda path: alter(path, "UPDATE meta SET value = '' WHERE key = 'graph'"), None),
    (lambda path: alter(path, "UPDATE meta SET value = '00000000 {}' WHERE key = 'graph'"), None),
    (lambda path: forged(path, usearch="1.0"), "made by usearch 1.0, "),
    (lambda path: forged(path, facts="1"), "stale: the codes were made again since"),
    (lambda path: forged(path, generation=99), "stale: the codes were made again since"),
    (lambda path: forged(path, codes="4000"), "damaged: other types"),
    (lambda path: forged(path, size=10), "damaged: "),
]
if hasattr(os, "mkfifo"):
    UNUSABLE.append((pipe, "damaged: not a file"))


@pytest.mark.parametrize(("change", "expected"), UNUSABLE)
@pytest.mark.slow
def test_graphs_that_do_not_fit(
    path: Path, exact: list[list[str]], watched: list[int], change: Callable[[Path], None], expected: str | None
) -> None:
    """A graph of something else, or none, costs time alone."""
    change(path)
    watched.clear()
    assert found(path) == exact
    with Index.open(path, read_only=True) as index:
        index.search(vector=QUERIES[0])
        stated = index.stats()["graph"]
        assert stated is None if expected is None else stated["state"].startswith(expected)
    assert watched == []


def test_verdict_is_of_one_device(
    path: Path, exact: list[list[str]], watched: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another processor nothing is known of what is faster: all codes are compared until it is measured there."""
    (measured,) = {read_stats(path)["graph"]["cpu"]}
    monkeypatch.setattr(hnswfile, "cpu_model", lambda: "Another")
    assert found(path) == exact
    assert read_stats(path)["graph"]["state"] == f"measured on another device ({measured})"
    assert watched == []


def test_too_little_memory(path: Path, exact: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a process may not have the memory, a search does without a graph, and building one is refused."""
    monkeypatch.setattr(hnsw, "MEMORY", 2**42)
    with Index.open(path) as index:
        with pytest.raises(IndexFileError, match=r"could not be built .* MB of memory.*searches do without"):
            index.rebuild("always")
        assert index.verify().whole

    def refuse(_: int) -> None:
        raise MemoryError("too little memory")

    with monkeypatch.context() as patch:
        patch.setattr(hnsw, "_check_memory", refuse)
        assert found(path, 3) == exact[:3]
    with pytest.raises(MemoryError, match="8,000,000,000,000 MB of memory"):
        hnsw._check_memory(8 * 10**18)


def test_full_disk(path: Path, exact: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that cannot be written is an error, leaves no part of itself, and harms nothing."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with Index.open(path) as index:
        with monkeypatch.context() as patch:
            patch.setattr(hnswfile.os, "fsync", full)
            with pytest.raises(StorageError, match=r"many\.db\.graph could not be written: No space left"):
                index.rebuild("always")
        assert sorted(path.parent.glob("*.tmp")) == sorted(path.parent.glob(".*")) == []
        assert index.verify().whole
        assert [hit.key for hit in index.search(vector=QUERIES[0])] == exact[0]


def test_empty_and_small_indexes(tmp_path: Path) -> None:
    """No codes make no graph; a few make one that searches do without where they want them all."""
    with Index.create(tmp_path / "small.db", space="s", dim=3) as index:
        assert index.rebuild("always").verdict is None
        index.add_vectors(documents(1, 2), [[1, 0, 0], [0, 1, 0]])
        done = index.rebuild("always")
        assert done.verdict is not None
        assert (done.verdict.exact_recall, done.verdict.graph_recall) == (1, 1)
        assert [hit.key for hit in index.search(vector=[1, 0.1, 0])] == ["d1", "d2"]


def test_usearch_is_imported_for_a_graph_alone(path: Path) -> None:
    """A search without a graph does not pay for what it does not use."""
    script = """
import sys
from edge_embed_runtime.index.index import Index
index = Index.open(sys.argv[1], read_only=True)
index.search(vector=[1.0] * 64)
print("usearch" in sys.modules, index.stats()["graph"]["state"])
"""
    used = subprocess.run([sys.executable, "-c", script, str(path)], check=True, capture_output=True, text=True).stdout
    graph_path(path).unlink()
    gone = subprocess.run([sys.executable, "-c", script, str(path)], check=True, capture_output=True, text=True).stdout
    assert (used.strip(), gone.strip()) == ("True used", "False missing")


def test_graph_choice_is_checked(path: Path) -> None:
    """Anything but the three words is refused."""
    with Index.open(path) as index, pytest.raises(InputError, match="expected one of"):
        index.rebuild("yes")  # type: ignore[arg-type]


def test_origin_is_read_strictly() -> None:
    """Facts with other names or types are none."""
    good = Origin("f", "1", 1, 0, 2, 64, 2, "2.17", 16, 256, 100)
    text = hnswfile.json.dumps(vars(good))
    assert Origin.from_json(text.encode()) == good
    for bad in (text.replace("bits", "bites"), text.replace("256", "256.0"), text.replace("256", "true"), "[]", "{"):
        with pytest.raises(ValueError):  # noqa: PT011 - the caller adds what was read
            Origin.from_json(bad.encode())
