"""What follows from texts and vectors is made again, a graph kept where it is faster; an interruption harms nothing."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.files import alter
from click.testing import CliRunner

from edge_embed import Document, Index
from edge_embed.cli.rebuild import rebuild as command
from edge_embed.errors import IndexReadOnlyError, StorageError
from edge_embed_runtime.index.stats import read_stats
from edge_embed_runtime.maintenance import learn_rotation
from edge_embed_runtime.maintenance import rebuild as rebuilding
from edge_embed_runtime.maintenance.verify import verify_index
from edge_embed_runtime.search import hnswfile
from edge_embed_runtime.search.hnswfile import Verdict, graph_path
from edge_embed_runtime.storage.bitblocks import Blocks
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.vectors.rotation import Frame
from edge_embed_runtime.vectors.types import Vectors

DIM = 48
MANY = 1500
VERDICT = Verdict(MANY, "cpu", 2.0, 1.0, 0.99, 0.99, 60.0, 1000, "")


def vectors(count: int, seed: int) -> Vectors:
    """Vectors [count, DIM] of length 1 that share a direction, as those of some models do: most signs are equal."""
    shared = 2 * np.random.default_rng(9).standard_normal(DIM)
    drawn = shared + np.random.default_rng(seed).standard_normal((count, DIM))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


STORED, QUERIES = vectors(MANY, 1), vectors(40, 2)


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    """Scan and graph are compared by a few queries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rebuilding, "ROUNDS", 1)
        patch.setattr(rebuilding, "QUERIES", 20)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed index of STORED, each with a text, as releases left it that learned no rotation while adding."""
    path = tmp_path_factory.mktemp("made") / "many.db"
    with pytest.MonkeyPatch.context() as patch, Index.create(path, space="s", dim=DIM) as index:
        patch.setattr(learn_rotation, "when_grown", lambda _: None)
        index.add_vectors([Document(f"d{i}", f"number{i} of the log") for i in range(MANY)], STORED)
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return shutil.copy(made, tmp_path / "many.db")


def frame_of(path: Path) -> Frame:
    store = Store(path, read_only=True)
    store.close()
    return store.frame


def recall(index: Index) -> float:
    """Part of the 10 nearest by float vectors that searches find."""
    nearest = np.argsort(-(QUERIES @ STORED.T), axis=1)[:, :10]
    keys = [{hit.key for hit in index.search(vector=query)} for query in QUERIES]
    return float(np.mean([len(found & {f"d{i}" for i in row}) / 10 for found, row in zip(keys, nearest, strict=True)]))


def check_whole(path: Path) -> None:
    assert verify_index(path).whole
    with Index.open(path, read_only=True) as index:
        assert len(index) == MANY
        assert recall(index) > 0.85
        assert [hit.key for hit in index.search("number77", mode="text")] == ["d77"]


def test_what_is_derived_is_made_again(path: Path) -> None:
    """Binary codes and words come from vectors and texts, whatever became of them."""
    alter(
        path,
        "DELETE FROM bits WHERE block > 2",
        "UPDATE bits SET crc = 1",
        "INSERT INTO bits VALUES (99, x'00', x'', 1)",
    )
    alter(path, "INSERT INTO fts (fts) VALUES ('delete-all')")
    assert not verify_index(path).whole
    with Index.open(path) as index:
        done = index.rebuild()
        assert (done.passages, done.verdict) == (MANY, None)
        assert done.graph == "none: 1,500 codes are scanned faster; one is tried from 2,000,000 on"
    check_whole(path)


def test_rotation_is_learned_from_what_is_stored(path: Path) -> None:
    """Vectors that share a direction get codes without it; all connections follow, also when more is added."""
    with Index.open(path) as index, Index.open(path, read_only=True) as reader:
        before = recall(reader)
        done = index.rebuild()
        assert done.frame.startswith("centre")
        assert done.frames["centre"] > done.frames["none"] + 0.1
        assert min(recall(index), recall(reader)) >= before
        np.testing.assert_array_equal(reader._store.frame.centre, index._connections.writer.frame.centre)  # type: ignore[union-attr]
        index.add_vectors([Document("new", "new")], QUERIES[:1])
        assert index.search(vector=QUERIES[0])[0].key == reader.search(vector=QUERIES[0])[0].key == "new"
        assert index.verify().whole
        assert index.rebuild().frames.keys() == done.frames.keys()
    assert frame_of(path).centre is not None


def test_few_passages_keep_their_rotation(tmp_path: Path) -> None:
    """A few vectors do not tell which rotation is better."""
    path = tmp_path / "few.db"
    with Index.create(path, space="s", dim=DIM) as index:
        index.add_vectors([Document(f"d{i}", "text") for i in range(200)], STORED[:200])
        done = index.rebuild()
    assert (done.frame, done.frames) == ("none", {})
    assert frame_of(path) == Frame()


def test_failure_keeps_the_old_codes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where codes cannot be written, rotation and codes are the old ones, in the file and in the open index."""
    original = Blocks.replace

    def fail(self: Blocks, block: int) -> None:
        original(self, block)
        if block == 3:
            raise StorageError("the disk is full")

    with Index.open(path) as index:
        with monkeypatch.context() as patch:
            patch.setattr(Blocks, "replace", fail)
            with pytest.raises(StorageError):
                index.rebuild()
        monkeypatch.setattr(learn_rotation, "when_grown", lambda _: None)
        assert index._connections.writer is not None
        assert index._connections.writer.frame == Frame()
        index.add_vectors([Document("new", "new")], QUERIES[:1])
        index.delete("new")
    assert frame_of(path) == Frame()
    check_whole(path)


@pytest.mark.parametrize(
    ("graph_ms", "graph_recall", "kept"), [(1.9, 0.986, True), (2.0, 0.99, False), (1.0, 0.984, False)]
)
@pytest.mark.slow
def test_graph_is_kept_where_it_is_faster(
    path: Path, monkeypatch: pytest.MonkeyPatch, graph_ms: float, graph_recall: float, *, kept: bool
) -> None:
    """A graph stays if it is faster than the scan and finds as much; the verdict stays in any case."""
    measured = rebuilding.replace(VERDICT, graph_ms=graph_ms, graph_recall=graph_recall, cpu=hnswfile.cpu_model())
    monkeypatch.setattr(rebuilding, "_measure", lambda *_: measured)
    monkeypatch.setattr(rebuilding, "GRAPH_CODES", MANY)
    with Index.open(path) as index:
        done = index.rebuild()
        assert (done.graph == "used: faster than the scan", graph_path(path).exists()) == (kept, kept)
        index.search(vector=QUERIES[0])
        stats = index.stats()["graph"]
        assert stats == read_stats(path)["graph"]
        assert stats["state"] == ("used" if kept else "not kept: the scan is as good")
        assert (stats["exact_ms"], stats["graph_ms"]) == (2.0, graph_ms)
    check_whole(path)
    monkeypatch.setattr(rebuilding, "GRAPH_CODES", MANY + 1)
    with Index.open(path) as index:
        assert index.rebuild().verdict is None
        assert index.stats()["graph"] is None
    assert not graph_path(path).exists()


@pytest.mark.slow
def test_always_and_never(path: Path) -> None:
    """A graph can be asked for, with figures of this device, and be sent away."""
    with Index.open(path) as index, Index.open(path, read_only=True) as reader:
        done = index.rebuild("always")
        assert done.verdict is not None
        assert (done.verdict.codes, done.verdict.bytes) == (MANY, graph_path(path).stat().st_size - header(path))
        assert done.verdict.exact_ms > 0 < done.verdict.graph_ms
        assert min(done.verdict.exact_recall, done.verdict.graph_recall) > 0.85
        assert recall(index) > 0.85
        assert index.stats()["graph"]["state"] == "used"
        assert recall(reader) > 0.85
        assert index.rebuild("never").graph == "none: not wanted"
        assert (index.stats()["graph"], graph_path(path).exists()) == (None, False)
        reader.search(vector=QUERIES[0])
        assert reader._search.dense.graph is None or reader._search.dense.graph.graph is None
    check_whole(path)


def header(path: Path) -> int:
    """Bytes of a graph's file before the graph."""
    data = graph_path(path).read_bytes()
    start = len(hnswfile.MAGIC) + hnswfile.HASH_BYTES
    return start + hnswfile.LENGTH_BYTES + int.from_bytes(data[start : start + hnswfile.LENGTH_BYTES], "little")


def test_recall_is_measured_against_all_codes(path: Path) -> None:
    """The tenth best score by all int8 codes, a document counted once."""
    with Index.open(path) as index:
        assert index._connections.writer is not None
        with index._connections.writer.snapshot():
            least, counts = rebuilding._tenth(index._connections.writer, QUERIES)
        hits = [index.search(vector=query, recall=1.0, k=MANY) for query in QUERIES]
    assert counts == [10] * len(QUERIES)
    np.testing.assert_allclose(least, [found[9].score for found in hits], atol=1e-5)


def test_read_only(path: Path) -> None:
    """A reader changes nothing."""
    with Index.open(path, read_only=True) as index, pytest.raises(IndexReadOnlyError):
        index.rebuild()


# Ends itself with SIGKILL when a named function is called for the n-th time: before what it does, or after.
CHILD = """
import os, signal, sys
from edge_embed_runtime.index import index
from edge_embed_runtime.maintenance import learn_rotation, rebuild
from edge_embed_runtime.search import hnsw, hnswfile
from edge_embed_runtime.storage import bitblocks as blocks
rebuild.ROUNDS, rebuild.QUERIES = 1, 20
path, place, name, number, after = sys.argv[1:]
holder = {"blocks": blocks.Blocks, "learning": learn_rotation,
          "rebuild": rebuild, "graph": hnsw, "os": hnswfile.os, "path": hnswfile.Path}[place]
original, calls = getattr(holder, name), 0
def killing(*arguments, **options):
    global calls
    calls += 1
    if calls == int(number) and after == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*arguments, **options)
    if calls == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
    return result
opened = index.Index.open(path)
setattr(holder, name, killing)
opened.rebuild("always")
"""
KILLS = [
    ("blocks", "replace", 3, "after"),
    ("learning", "recode", 1, "after"),
    ("rebuild", "rebuild_words", 1, "after"),
    ("graph", "build", 1, "after"),
    ("os", "fsync", 1, "before"),
    ("path", "replace", 1, "before"),
    ("path", "replace", 1, "after"),
    ("rebuild", "_record", 1, "before"),
    ("rebuild", "_record", 1, "after"),
]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("again", [False, True])
def test_kills(path: Path, *, again: bool) -> None:
    """Killed anywhere, or where an old graph is replaced, the index is whole; the next run does the rest."""
    for where in KILLS[4 * again :]:
        if again:
            with Index.open(path) as index:
                index.rebuild("always")
        arguments = [sys.executable, "-c", CHILD, str(path), *map(str, where)]
        assert subprocess.run(arguments, check=False, timeout=60).returncode == -signal.SIGKILL, where
        check_whole(path)
    with Index.open(path) as index:
        index.rebuild("always")
        index.search(vector=QUERIES[0])
        assert index.stats()["graph"]["state"] == "used"
    assert not list(path.parent.glob(".*"))
    check_whole(path)


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


def test_command(path: Path) -> None:
    """`rebuild` says what it did, as text and as JSON."""
    result = invoke(path)
    assert result.exit_code == 0, result.output
    assert "1500 binary codes" in result.output
    assert "graph: none: " in result.output
    result = invoke(path, "--graph", "always")
    assert "recall@10" in result.output
    assert "graph: used: " in result.output
    content = json.loads(invoke(path, "--graph", "never", "--json").output)
    assert (content["passages"], content["graph"], content["verdict"]) == (MANY, "none: not wanted", None)
    assert invoke(path, "--graph", "perhaps").exit_code == 2
