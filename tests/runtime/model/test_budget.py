"""A memory budget holds for what searches read and return, and for what is stored; or a refusal says what works."""

import json
import random
import re
import sqlite3
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from builders.budgets import SHAPES, check_stored, make_case, make_text, make_texts, make_vectors, run_case
from click.testing import CliRunner

from edge_embed import Document, Embedder, Index
from edge_embed.cli.main import main
from edge_embed.errors import MemoryBudgetError
from edge_embed.files.storing import upsert
from edge_embed_runtime.batches import batches
from edge_embed_runtime.index import additions as parts
from edge_embed_runtime.maintenance.verify import verify_index
from edge_embed_runtime.storage import pieces
from edge_embed_runtime.storage.documents import document_bytes
from edge_embed_runtime.storage.pieces import Row, parsed_bytes
from edge_embed_runtime.system import headroom as room
from edge_embed_runtime.system.headroom import Room
from edge_embed_runtime.system.memory import MB, rss_bytes, trim_heap

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process has")
DIM = 32


@pytest.fixture(scope="module")
def static() -> Embedder:
    return Embedder("static")


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("budget") / "vectors.db"
    make_vectors(path, 0, 3000, DIM)
    return path


def leave(index: Index, megabytes: float) -> None:
    """Let a budget leave so much now."""
    assert index._connections.room is not None
    trim_heap()
    index._connections.room._limit = (rss_bytes() or 0) + int(megabytes * MB)


@pytest.mark.slow
def test_random_work_keeps_its_budget(tmp_path: Path) -> None:
    """Searches by threads at once and files of all shapes, in processes whose peak is looked at."""
    indexes = {"vectors": tmp_path / "vectors.db", "texts": tmp_path / "texts.db"}
    make_vectors(indexes["vectors"], 1, 2000, DIM)
    make_texts(indexes["texts"], 1, 200)
    rng = random.Random(3)  # noqa: S311 - not for secrets
    done = 0
    for _ in range(5):
        case = make_case(rng, indexes, tmp_path, 2_000_000)
        said, wrong = run_case(case, tmp_path)
        assert wrong + check_stored(case, said) == []
        done += len(said["done"])
    assert done > 5


def test_refusal_names_the_k_that_works(tmp_path: Path) -> None:
    """Before anything is taken; and that k works."""
    path, query = tmp_path / "index.db", np.random.default_rng(0).standard_normal(DIM)
    make_vectors(path, 0, 3000, DIM, long=0)
    with Index.open(path, read_only=True, max_rss_mb=10_000) as index:
        index.search(vector=query)
        leave(index, 8)
        refusal = r"a search for k=3000 takes up to .*; k=\d+ works; the least is"
        with pytest.raises(MemoryBudgetError, match=refusal) as error:
            index.search(vector=query, k=10**6)
        (works,) = map(int, re.findall(r"k=(\d+) works", str(error.value)))
        assert 0 < works < 3000
        assert len(index.search(vector=query, k=works)) == works


def test_budget_does_not_change_hits(vectors: Path) -> None:
    """Rows that are read in pieces are those that are read whole."""
    query = np.random.default_rng(0).standard_normal(DIM)
    with Index.open(vectors, read_only=True) as free, Index.open(vectors, read_only=True, max_rss_mb=10_000) as bound:
        for where in (None, {"g": 3}):
            assert bound.search(vector=query, k=200, where=where) == free.search(vector=query, k=200, where=where)
            assert bound.search("ferry", 3006, where, "text") == free.search("ferry", 3006, where, "text")


def test_hits_that_are_too_large(tmp_path: Path) -> None:
    """Large metadata is refused before it is read, with the document's key; others are found."""
    documents = [Document(f"d{i}", "small", {"g": i}) for i in range(5)]
    with Index.create(tmp_path / "index.db", space="x", dim=2) as index:
        index.add_vectors([*documents, Document("big", "small", {"blob": "x" * 20 * MB})], [[1, i] for i in range(6)])
    with Index.open(tmp_path / "index.db", read_only=True, max_rss_mb=10_000) as index:
        index.search("small", mode="text")
        leave(index, 30)
        before = rss_bytes() or 0
        with pytest.raises(MemoryBudgetError, match=r"'big' has 5 bytes of text and 20,000,011 of metadata.*k=5 works"):
            index.search("small", mode="text")
        assert len(index.search("small", 5, mode="text")) == 5
        with pytest.raises(MemoryBudgetError, match="a document's text or metadata takes more than is left"):
            index.search("small", 5, {"g": {"$gte": 0}}, "text")
        assert (rss_bytes() or 0) < before + 15 * MB
        leave(index, 300)
        assert len(index.search("small", mode="text")) == 6


@pytest.mark.slow
def test_documents_that_are_too_large(static: Embedder, tmp_path: Path) -> None:
    """Refused before they are embedded, by name; the call stores nothing, and `upsert` of adding.py the others."""
    with Index.open(tmp_path / "index.db", static, max_rss_mb=10_000) as index:
        leave(index, 30)
        long = Document("long", "ferry " * 500_000)
        wide = Document("wide", "😀 " * 200_000, {"g": 1})
        small = Document("small", "a ferry")
        for large in (long, wide, Document("blob", "a ferry", {"list": ["x" * 1000] * 3000})):
            with pytest.raises(
                MemoryBudgetError, match=f"document 1, '{large.key}', has [0-9,]+ bytes of text and meta"
            ):
                index.add([small, large])
            assert len(index) == 0
        stored, refused = upsert(index, [small, long, wide])
        assert stored == 1
        assert [document.key for document, _ in refused] == ["long", "wide"]
        many = [Document(f"d{i}", f"{i} " + "ferry " * 20_000) for i in range(30)]
        leave(index, 8)
        with pytest.raises(MemoryBudgetError, match=r"these documents have .* MB of text and metadata; give fewer"):
            index.add(many)
        leave(index, 30)
        bounds = index.bounds
        assert bounds is not None
        for part in batches(many, 256, (document_bytes, bounds.batch)):
            assert sum(map(document_bytes, part[:-1])) < bounds.batch
            assert index.add(part) == len(part)
        assert len(index) == 31
        leave(index, 2)
        with pytest.raises(MemoryBudgetError, match="nothing can be stored; the least is"):
            _ = index.bounds
    assert verify_index(tmp_path / "index.db").whole


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.slow
def test_long_texts_are_stored_the_same_in_slices(
    shape: str, static: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many passages are embedded and written at a time; also in place of others, and between others."""
    rng = random.Random(0)  # noqa: S311 - not for secrets
    texts = [make_text(rng, shape, size) for size in (10, 40_000, 300, 90_000, 5)]
    documents = [Document(f"d{i}", text, {"i": i}) for i, text in enumerate(texts)]

    def stored(name: str) -> list[tuple[object, ...]]:
        path = tmp_path / name
        with Index.open(path, static) as index:
            index.add([Document("d1", "another text"), Document("d9", "ferry " * 3000)])
            index.upsert(documents)
            assert index.upsert(documents) == 0
            found = index.search("ferry", 6, mode="text")
            assert {hit.key for hit in found} == {"d0", "d1", "d2", "d3", "d4", "d9"}
        assert verify_index(path).whole
        with closing(sqlite3.connect(path)) as db:
            query = "SELECT key, start, stop, code FROM vec JOIN doc ON doc.id = vec.doc ORDER BY key, start"
            return db.execute(query).fetchall()

    expected = stored("whole.db")
    assert len(expected) > 20
    monkeypatch.setattr(parts, "EMBED_SLICE", 7)
    monkeypatch.setattr(parts, "SLICE_CHARACTERS", 20_000)
    assert stored("slices.db") == expected


def test_load_keeps_a_budget(tmp_path: Path) -> None:
    """A budget in which nothing can be stored is refused; with enough, all rows are there."""
    np.save(tmp_path / "v.npy", np.random.default_rng(0).standard_normal((500, DIM)))
    arguments = ["load", str(tmp_path / "index.db"), str(tmp_path / "v.npy"), "--space", "x", "--max-rss"]
    refused = CliRunner().invoke(main, [*arguments, "10"])
    assert (refused.exit_code, "max_rss_mb=10 cannot be kept" in refused.output) == (1, True)
    done = CliRunner().invoke(main, [*arguments, "10000"])
    assert done.exit_code == 0, done.output
    with Index.open(tmp_path / "index.db", read_only=True) as index:
        assert len(index) == 500


def test_json_of_hits(vectors: Path) -> None:
    """Printed one by one, they are one object."""
    found = CliRunner().invoke(main, ["search", str(vectors), "ferry", "--mode", "text", "-k", "3", "--json"])
    assert found.exit_code == 0, found.output
    said = json.loads(found.output)
    assert list(said) == ["hits", "shortfall"]
    fields = ["end", "key", "kind", "metadata", "place", "score", "source", "start", "text"]
    assert [sorted(hit) for hit in said["hits"]] == [fields] * 3


def test_rows_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any part of a text, wherever pieces end inside of a character; None once a byte differs."""
    monkeypatch.setattr(pieces, "PIECE", 7)
    text = "ab é 水 😀 " * 40
    path = tmp_path / "index.db"
    with Index.create(path, space="x", dim=2) as index:
        index.add_vectors([Document("d", text, {"a": "é"})], [[1, 2]])
        store = index._store
        (head,) = store.heads([1]).values()
        for start in range(0, len(text), 3):
            for stop in (start + 1, start + 9, len(text)):
                with closing(store.row(head)) as row:
                    assert row.read((start, stop)) == (text[start:stop], '{"a":"é"}'.encode())
        for other, metadata, same in ((text, '{"a":"é"}', True), (text[:-1], '{"a":"é"}', False), (text, "{}", False)):
            with closing(store.row(head)) as row:
                assert row.holds(other, metadata) == same
        with closing(Row(store.connection, head[0], head[1], head[2] ^ 1)) as row:
            assert row.read((0, 3)) is None


def test_long_documents_are_compared_in_pieces(tmp_path: Path, static: Embedder) -> None:
    """What is there already is not stored again; what differs in one character is."""
    text = "ferry " * 60_000
    with Index.open(tmp_path / "index.db", static) as index:
        assert index.add([Document("d", text, {"a": 1})]) == 1
        assert index.upsert([Document("d", text, {"a": 1})]) == 0
        assert index.upsert([Document("d", text, {"a": 2})]) == 1
        assert index.upsert([Document("d", text[:-2] + "i ", {"a": 2})]) == 1
        found = index.get("d")
        assert found is not None
        assert found.text == text[:-2] + "i "


def test_parsed_json_is_not_larger_than_foretold() -> None:
    """Of what takes most room as objects of Python."""

    def size(value: object) -> int:
        own = sys.getsizeof(value)
        if isinstance(value, dict):
            return own + sum(size(name) + size(inner) for name, inner in value.items())
        return own + sum(map(size, value)) if isinstance(value, list) else own

    n = 5000
    for value in (
        {"a": [{} for _ in range(n)]},
        {"a": [[] for _ in range(n)]},
        {"a": [[[]] for _ in range(n)]},
        {"a": [0.5] * n},
        {"a": [10**6 + i for i in range(n)]},
        {"a": [{"k": i} for i in range(n)]},
        {str(i): i for i in range(n)},
        {"a": ["x"] * n},
        {"a": ["😀"] * n},
        {"a": "😀" * n},
        {"a": "x" * n + "😀"},
        {"a": '\\"' * n},
    ):
        encoded = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        assert size(json.loads(encoded)) <= parsed_bytes(encoded), encoded[:40]


def test_calls_wait_for_each_other() -> None:
    """What does not fit beside what another thread has asked for waits for it; what never fits is refused at once."""
    limit = Room((rss_bytes() or 0) + 1000 * MB, 0)
    entered, order = threading.Event(), []

    def refuse(left: int) -> str:
        return f"{left > 0}: too much"

    def second() -> None:
        entered.set()
        with limit.take(600 * MB, refuse):
            order.append("second")

    with limit.take(600 * MB, refuse):
        thread = threading.Thread(target=second)
        thread.start()
        entered.wait()
        with pytest.raises(MemoryBudgetError, match="cannot be kept: True: too much"):
            limit.add(500 * MB, refuse)  # its own does not come free by waiting
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    with pytest.raises(MemoryBudgetError, match="too much"), limit.take(2000 * MB, refuse):
        pass
    assert not room._ledger.taken
