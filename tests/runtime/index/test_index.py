"""index.py, search.py, store.py: documents in, hits out, nothing lost."""

import contextlib
import multiprocessing
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.files import alter, refused_after_fork

from edge_embed import Document, Embedder, Index
from edge_embed.corpus import demo_documents
from edge_embed.errors import (
    BundleMismatchError,
    DocumentError,
    DuplicateKeyError,
    EdgeEmbedError,
    FilterError,
    IndexClosedError,
    IndexDamagedError,
    IndexFileError,
    IndexFormatError,
    IndexLockedError,
    IndexReadOnlyError,
    InputError,
    StorageError,
)
from edge_embed_runtime.search import nearest
from edge_embed_runtime.storage.schema import UNKNOWN, ddl

LANGUAGES = [
    Document("en-1", "The cat sleeps on the warm windowsill.", {"lang": "en", "year": 2020, "draft": False}),
    Document("en-2", "Compound interest makes savings grow faster every year.", {"lang": "en", "year": 2021}),
    Document("en-3", "The train to the airport leaves every hour.", {"lang": "en", "year": 2021, "draft": True}),
    Document("de-1", "Der Zug zum Flughafen fährt alle zwanzig Minuten.", {"lang": "de", "note": None}),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.db"


@pytest.fixture
def index(path: Path, embedder: Embedder) -> Any:
    with Index.open(path, embedder) as opened:
        opened.add(LANGUAGES)
        yield opened


def keys(hits: list[Any]) -> list[str]:
    return [hit.key for hit in hits]


@pytest.mark.parametrize("mode", ["hybrid", "vector", "text"])
def test_search_finds_and_names(index: Index, mode: Any) -> None:
    """A hit has the document's key, text and metadata; the best comes first."""
    hits = index.search("how do I get to the airport by train", k=2, mode=mode)
    assert hits[0].key == "en-3"
    assert hits[0].text == LANGUAGES[2].text
    assert hits[0].metadata == LANGUAGES[2].metadata
    assert (hits[0].start, hits[0].end) == (0, len(LANGUAGES[2].text))
    assert hits[0].score >= hits[-1].score


def test_vector_score_is_the_cosine(index: Index, embedder: Embedder) -> None:
    """Scores of mode "vector" agree with float cosines to int8 precision, and meaning crosses words."""
    hits = index.search("a pet in the sun", k=4, mode="vector")
    query, *vectors = embedder.encode(["a pet in the sun", *[hit.text for hit in hits]])
    assert hits[0].key == "en-1"
    assert np.abs(np.array([hit.score for hit in hits]) - np.array(vectors) @ query).max() < 2e-3


def test_binary_proposals_equal_an_exact_scan(path: Path, embedder: Embedder) -> None:
    """With more documents than candidates, the first hits are those of float vectors."""
    documents = demo_documents()
    with Index.open(path, embedder) as index:
        index.add(documents)
        query = embedder.encode(["the machine kept my card"])[0]
        scores = embedder.encode([d.text for d in documents]) @ query
        exact = [documents[i].key for i in np.argsort(-scores)[:10]]
        assert len(set(exact) & set(keys(index.search("the machine kept my card", mode="vector")))) >= 9


def test_reopened_index_answers_the_same(path: Path, embedder: Embedder) -> None:
    """What add returned from is in the file."""
    with Index.open(path, embedder) as index:
        index.add(LANGUAGES)
        before = index.search("savings", k=3)
    with Index.open(path, embedder) as index:
        assert index.search("savings", k=3) == before
        assert len(index) == 4
        assert "de-1" in index
        assert index.get("de-1") == LANGUAGES[3]
        assert index.get("nobody") is None


def test_add_is_all_or_nothing(index: Index) -> None:
    """One duplicate or bad document among good ones and nothing is stored."""
    new = Document("new", "A new text.")
    for bad in (LANGUAGES[0], new, Document("blank", "  \n")):
        with pytest.raises((DuplicateKeyError, DocumentError)):
            index.add([new, bad])
        assert "new" not in index
    assert index.add([new]) == 1


def test_duplicate_keys_are_named(index: Index) -> None:
    """The message tells a key that is stored already from one that comes twice in a call."""
    with pytest.raises(DuplicateKeyError, match=r"already in the index: 'en-1'.*upsert"):
        index.add([LANGUAGES[0]])
    for method in (index.add, index.upsert):
        with pytest.raises(DuplicateKeyError, match="'x' comes twice"):
            method([Document("x", "one"), Document("x", "two")])


def test_upsert_replaces_and_skips(index: Index) -> None:
    """Changed text or metadata replaces the document; an unchanged one costs nothing."""
    generation = index.stats()["generation"]
    assert index.upsert(LANGUAGES) == 0
    assert index.stats()["generation"] == generation
    changed = [
        Document("en-1", "The dog barks at the postman.", {"lang": "en"}),
        LANGUAGES[1],
        Document("fr", "Le chat dort."),
    ]
    assert index.upsert(changed) == 2
    assert index.get("en-1") == changed[0]
    assert len(index) == 5
    assert keys(index.search("dog", k=1)) == ["en-1"]
    assert keys(index.search("windowsill", mode="text")) == []


def test_delete(index: Index) -> None:
    """Deleted documents are found in no mode; unknown keys are passed over; one key or several."""
    assert index.delete(["en-3", "nobody"]) == 1
    assert index.delete("de-1") == 1
    for mode in ("hybrid", "vector", "text"):
        assert "en-3" not in keys(index.search("train to the airport", mode=mode))  # type: ignore[arg-type]
    assert len(index) == 2
    index.add([LANGUAGES[2]])
    assert keys(index.search("train to the airport", k=1)) == ["en-3"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"lang": "de"}, {"de-1"}),
        ({"lang": "en", "year": 2021}, {"en-2", "en-3"}),
        ({"draft": True}, {"en-3"}),
        ({"note": None}, {"de-1"}),
        ({"lang": "xx"}, set()),
    ],
)
@pytest.mark.parametrize("mode", ["hybrid", "vector"])
def test_where(index: Index, where: dict[str, Any], expected: set[str], mode: Any) -> None:
    """Only documents that fit are found, all of them, and a shortfall says why there are fewer than k."""
    hits = index.search("the train to the airport", where=where, mode=mode)
    assert set(keys(hits)) == expected
    assert hits.shortfall is not None
    assert "where" in hits.shortfall


def test_where_on_unknown_field(index: Index) -> None:
    """A field that no document has is an error that lists those there are; an empty index has no fields to miss."""
    with pytest.raises(FilterError, match=r"no document has the field 'language'; fields:.*lang"):
        index.search("train", where={"language": "en"})
    index.delete([d.key for d in LANGUAGES])
    assert index.search("train", where={"language": "en"}) == []


def test_shortfall_reasons(index: Index) -> None:
    """Fewer than k hits always come with a reason, k hits with none."""
    assert index.search("train", k=4).shortfall is None
    assert index.search("train", k=10**9).shortfall == "only 4 documents are in the index"
    assert index.search("windowsill", mode="text").shortfall == "only 1 document holds a word of the query"
    assert index.search("the", mode="text").shortfall == "only 2 documents hold a word of the query"
    assert index.search("?!", k=1, mode="text") == []
    index.delete([d.key for d in LANGUAGES])
    assert index.search("train").shortfall == "the index is empty"


@pytest.mark.parametrize("k", [0, -1, 1.5, "3", None, True])
def test_bad_k(index: Index, k: Any) -> None:
    """k is a whole number of at least 1."""
    with pytest.raises(InputError, match="k is"):
        index.search("train", k=k)


@pytest.mark.parametrize("query", ["", "   ", "\n", None, 3, b"x", "\ud800"])
def test_bad_query(index: Index, query: Any) -> None:
    """An empty query, or what is no Unicode text, is an error."""
    with pytest.raises(InputError):
        index.search(query)


@pytest.mark.parametrize(
    "query", ['"', "a AND", "NEAR(", "col:x", "*", "x" * 100_000, "[SEP]", "\x00train", "🦆", "' OR 1=1"]
)
def test_odd_queries_are_only_text(index: Index, query: str) -> None:
    """Nothing typed by a user is an operator."""
    for mode in ("hybrid", "vector", "text"):
        index.search(query, mode=mode)  # type: ignore[arg-type]


def test_bad_mode(index: Index) -> None:
    """Modes are named in the error."""
    with pytest.raises(InputError, match=r"hybrid.*vector.*text"):
        index.search("train", mode="magic")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "document",
    [
        Document("", "text"),
        Document("a\x00b", "text"),
        Document("k" * 3000, "text"),
        Document("\ud800", "text"),
        Document(3, "text"),  # type: ignore[arg-type]
        Document("a", ""),
        Document("a", " \t"),
        Document("a", None),  # type: ignore[arg-type]
        Document("a", b"bytes"),  # type: ignore[arg-type]
        Document("a", "lone \udfff surrogate"),
        Document("a", "text", {"x": float("nan")}),
        Document("a", "text", {"x": object()}),
        Document("a", "text", {"x": "\ud800"}),
        Document("a", "text", {3: "x"}),  # type: ignore[dict-item]
        Document("a", "text", {"a\x00b": "x"}),
        Document("a", "text", ["x"]),  # type: ignore[arg-type]
        {"key": "a", "text": "b"},
        "text",
    ],
)
def test_bad_documents(index: Index, document: Any) -> None:
    """Each is refused by name, and the index is as it was."""
    for method in (index.add, index.upsert):
        with pytest.raises(DocumentError, match="document"):
            method([document])
    assert len(index) == 4


@pytest.mark.parametrize("documents", [Document("a", "b"), "text", None, 3, {"key": "a"}])
def test_documents_come_in_a_list(index: Index, documents: Any) -> None:
    """A single Document is refused with the way to write it."""
    with pytest.raises(InputError, match=r"list of Documents.*\[document\]"):
        index.add(documents)


def test_any_iterable_and_none_at_all(index: Index) -> None:
    """Generators are taken; an empty list stores nothing."""
    assert index.add([]) == 0
    assert index.add(Document(f"g{i}", f"text {i}") for i in range(3)) == 3


def test_odd_texts_come_back_as_they_were(index: Index) -> None:
    """NUL, emoji, right-to-left and nested metadata survive."""
    odd = [
        Document("nul", "before\x00after", {"deep": {"list": [1, 2.5, None, {"a": "ü"}]}}),
        Document("emoji 🦆", "👩‍👩‍👧 שלום\r\n\tworld", {"dots.and $": "ok", 'q"b\\n\n': 1}),
    ]
    index.add(odd)
    for document in odd:
        assert index.get(document.key) == document
    assert keys(index.search("שלום", k=1, mode="text")) == ["emoji 🦆"]
    assert keys(index.search("x", where={"dots.and $": "ok", 'q"b\\n\n': 1})) == ["emoji 🦆"]


def test_long_document_hits_name_the_passage(path: Path, embedder: Embedder) -> None:
    """A long document is found once, by its best passage, whose place in the document is given."""
    filler = "The committee met again and discussed the agenda at length. " * 60
    text = filler + "The password of the safe is hidden under the blue carpet. " + filler
    with Index.open(path, embedder) as index:
        index.add([Document("long", text, {"kind": "minutes"}), *LANGUAGES])
        assert index.stats()["passages"] > 8
        for mode in ("hybrid", "vector", "text"):
            hits = index.search("where is the safe's password hidden?", k=3, mode=mode)  # type: ignore[arg-type]
            best = next(hit for hit in hits if hit.key == "long")
            assert "blue carpet" in best.text
            assert best.text == text[best.start : best.end]
            assert keys(hits).count("long") == 1
        assert len(index.search("committee agenda", k=5, mode="vector")) == 5


def test_candidates_grow_until_there_are_enough_documents(
    path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many passages of one document near the query do not crowd out the others."""
    monkeypatch.setattr(nearest, "CANDIDATES", 2)
    monkeypatch.setattr(nearest, "CANDIDATES_PER_HIT", 1)
    monkeypatch.setattr(nearest, "MOST", 1.0)
    with Index.open(path, embedder) as index:
        index.add([Document("long", "The train to the airport is late again. " * 300), *LANGUAGES])
        assert len(index.search("the train to the airport is late", k=5, mode="vector")) == 5


def test_second_writer_is_refused(path: Path, index: Index, embedder: Embedder) -> None:
    """Also in the same process; a reader may come, and sees each commit."""
    with pytest.raises(IndexLockedError, match=f"process {os.getpid()}.*read_only"):
        Index.open(path, embedder)
    with Index.open(path, embedder, read_only=True) as reader:
        assert keys(reader.search("airport train", k=1)) == ["en-3"]
        index.delete("en-3")
        index.add([Document("bus", "The bus to the airport")])
        assert keys(reader.search("airport", k=1, mode="vector")) == ["bus"]
        assert len(reader) == 4
        for write in (lambda: reader.add([Document("x", "y")]), lambda: reader.delete("bus")):
            with pytest.raises(IndexReadOnlyError):
                write()
    index.close()
    Index.open(path, embedder).close()


def test_closed_index(index: Index) -> None:
    """Use after close is an error; closing twice is not."""
    index.close()
    index.close()
    for use in (lambda: len(index), lambda: index.search("x"), lambda: index.add([])):
        with pytest.raises(IndexClosedError):
            use()


def test_index_of_another_bundle_is_refused(path: Path, index: Index, tiny_bundle: Path) -> None:
    """Vectors of two models are never compared; another length of vectors is refused too."""
    index.close()
    before = path.read_bytes()
    for other in (Embedder(tiny_bundle), Embedder(truncate_dim=64)):
        with pytest.raises(BundleMismatchError, match="all-minilm-l6-v2"):
            Index.open(path, other)
    assert path.read_bytes() == before


def test_truncated_vectors(path: Path) -> None:
    """An index may hold truncated vectors of any length."""
    embedder = Embedder(truncate_dim=100)
    with Index.open(path, embedder) as index:
        index.add(LANGUAGES)
        assert keys(index.search("train to the airport", k=1, mode="vector")) == ["en-3"]
        assert index.stats()["dim"] == 100


def test_files_that_are_no_index(tmp_path: Path, embedder: Embedder) -> None:
    """Foreign and empty files are refused, named, and left as they are."""
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("hello " * 100)
    (tmp_path / "short").write_bytes(b"SQLite format 3\x00")
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE t (x)")
    other.commit()
    other.close()
    for name in ("empty", "text", "short", "other"):
        before = (tmp_path / name).read_bytes()
        for read_only in (False, True):
            with pytest.raises(IndexFormatError, match="not an edge_embed index"):
                Index.open(tmp_path / name, embedder, read_only=read_only)
        assert (tmp_path / name).read_bytes() == before
    for bad in (tmp_path, tmp_path / "none" / "x.db"):
        with pytest.raises(IndexFileError, match="folder"):
            Index.open(bad, embedder)
    with pytest.raises(IndexFileError, match="does not exist"):
        Index.open(tmp_path / "none.db", embedder, read_only=True)
    with pytest.raises(IndexFileError, match=r"Index\.create"):
        Index.open(tmp_path / "x.db", None)
    with pytest.raises(InputError, match="takes an Embedder"):
        Index.open(tmp_path / "x.db", "bundle")  # type: ignore[arg-type]


def test_foreign_schema_is_refused(path: Path, index: Index, embedder: Embedder) -> None:
    """A trigger planted in the file is never run."""
    index.close()
    alter(path, "CREATE TRIGGER evil AFTER INSERT ON doc BEGIN DELETE FROM doc; END")
    with pytest.raises(IndexFormatError, match="tables are not ours"):
        Index.open(path, embedder)


@pytest.mark.parametrize("keep", [50, 4096, 0.5, 0.9])
def test_cut_off_index(path: Path, index: Index, embedder: Embedder, keep: float) -> None:
    """A file that is cut in two is refused on open."""
    index.close()
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep < 1 else int(keep)])
    for read_only in (False, True):
        with pytest.raises((IndexDamagedError, IndexFormatError)):
            Index.open(path, embedder, read_only=read_only)


@pytest.mark.parametrize(
    ("table", "column", "value"), [("vec", "code", b"x"), ("vec", "start", 1), ("doc", "text", "y")]
)
def test_damaged_rows_are_left_out(
    path: Path, index: Index, embedder: Embedder, table: str, column: str, value: Any
) -> None:
    """A row whose checksum does not fit is reported and never returned; the others still are."""
    index.close()
    alter(path, f"UPDATE {table} SET {column} = ? WHERE id = 3", parameters=(value,))
    with Index.open(path, embedder) as reopened:
        for mode in ("hybrid", "vector", "text"):
            hits = reopened.search("train to the airport", k=4, mode=mode)  # type: ignore[arg-type]
            assert "en-3" not in keys(hits)
        hits = reopened.search("train to the airport", k=4)
        assert len(hits) == 3
        assert "damaged" in str(hits.shortfall)
        assert reopened.damaged == [3]
        if table == "doc":
            with pytest.raises(IndexDamagedError, match="'en-3'"):
                reopened.get("en-3")
        assert reopened.upsert([LANGUAGES[2]]) == 1
        assert keys(reopened.search("train to the airport", k=1)) == ["en-3"]


@pytest.mark.parametrize("flip", range(0, 40))
def test_flipped_byte_gives_the_same_or_an_error(path: Path, index: Index, embedder: Embedder, flip: int) -> None:
    """Whatever byte of the file is wrong: equal documents, or one of our errors."""
    index.close()
    data = bytearray(path.read_bytes())
    place = int(np.random.default_rng(flip).integers(len(data)))
    data[place] ^= 1 << (flip % 8)
    path.write_bytes(data)
    stored = {d.key: d for d in LANGUAGES}
    try:
        with Index.open(path, embedder, read_only=True) as damaged:
            for mode in ("vector", "text", "hybrid"):
                for hit in damaged.search("the train to the airport", mode=mode):  # type: ignore[arg-type]
                    assert hit.text == stored[hit.key].text
                    assert hit.metadata == stored[hit.key].metadata
            for key, document in stored.items():
                assert damaged.get(key) in (document, None)
    except EdgeEmbedError:
        pass


def test_full_disk_loses_nothing(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the file cannot grow, add says so, nothing of the call is stored, and it works again when space returns."""
    db = index._connections.writer._db  # type: ignore[union-attr]
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages}")
    batch = [Document(f"b{i}", "some more text " * 40) for i in range(20)]
    with pytest.raises(StorageError, match="full"):
        index.add(batch)
    assert len(index) == 4
    assert keys(index.search("airport train", k=1)) == ["en-3"]
    db.execute("PRAGMA max_page_count = 1000000")
    assert index.add(batch) == 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 200 KB, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)  # noqa: S607 - the system's


@pytest.mark.parametrize("taken", range(0, 200, 8))
def test_no_room_at_any_moment(small_disk: Path, embedder: Embedder, taken: int) -> None:
    """Wherever in making and filling an index the disk gets full: what was acknowledged stays, and it works again."""
    filler = small_disk / "filler"
    filler.write_bytes(bytes(1024 * taken))
    stored = []
    with contextlib.suppress(StorageError), Index.open(small_disk / "n.db", embedder) as index:
        for document in LANGUAGES:
            index.add([document])
            stored.append(document)
    filler.unlink()
    with Index.open(small_disk / "n.db", embedder) as index:
        assert all(index.get(document.key) == document for document in stored)
        index.upsert(LANGUAGES)
        assert keys(index.search("train to the airport", k=1)) == ["en-3"]
    assert taken < 160 or len(stored) < 4  # an empty index alone takes more than what is left then
    assert sorted(p.name for p in small_disk.iterdir()) == ["n.db", "n.db.lock"]


def test_failed_embedding_stores_nothing(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error or an interruption while embedding leaves the index as it was."""

    def interrupted(*_: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    for way in ("one", "encode"):  # of a model: one text, several
        monkeypatch.setattr(index._models.dense._model, way, interrupted)
    with pytest.raises(KeyboardInterrupt):
        index.upsert([Document("en-1", "changed"), Document("new", "text")])
    monkeypatch.undo()
    assert index.get("en-1") == LANGUAGES[0]
    assert len(index) == 4


def test_threads_share_an_index(path: Path, embedder: Embedder) -> None:
    """Searches and writes from many threads: no error, every search sees a committed state."""
    errors: list[BaseException] = []
    with Index.open(path, embedder) as index:
        index.add(LANGUAGES)

        def work(n: int) -> None:
            try:
                for i in range(5):
                    index.add([Document(f"t{n}-{i}", f"Text number {i} of thread {n}.")])
                    assert index.search(f"text number {i} of thread {n}", k=1, mode="text")[0].key.startswith("t")
                    index.delete(f"t{n}-{i}")
            except BaseException as error:  # noqa: BLE001 - reported by the main thread
                errors.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(index) == 4


WRITER = """
import sys
from edge_embed import Document, Embedder, Index
with Index.open(sys.argv[1], Embedder(threads=1)) as index:
    for i in range(len(index), 10_000):
        index.add([Document(f"d{i}", f"Document number {i} of the log.", {"n": i})])
        print(i, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_kill_loses_nothing_that_was_committed(path: Path, embedder: Embedder) -> None:
    """After kill -9 at any moment every document that add returned for is there and whole, in every mode."""
    acknowledged = -1
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(int(np.random.default_rng(acknowledged + 1).integers(1, 30))):
                acknowledged = int(process.stdout.readline())
            process.kill()
            rest = process.stdout.read().split()
        acknowledged = int(rest[-1]) if rest else acknowledged
        with Index.open(path, embedder) as index:
            assert len(index) in (acknowledged + 1, acknowledged + 2)  # the last may be stored but not yet printed
            for i in range(acknowledged + 1):
                document = index.get(f"d{i}")
                assert document is not None
                assert document.metadata == {"n": i}
            assert index.search(f"number {acknowledged}", k=1, where={"n": acknowledged})[0].key == f"d{acknowledged}"
            assert index.damaged == []


def read_loop(path: str, stop: Any, results: Any) -> None:
    embedder, seen = Embedder(threads=1), []
    with Index.open(path, embedder, read_only=True) as reader:
        while not stop.is_set():
            hits = reader.search("document number", k=1_000_000, mode="vector")
            seen.append(len(hits))
    results.put(seen)


def test_reader_process_sees_a_growing_index(path: Path, embedder: Embedder) -> None:
    """While one process adds, another searches: it sees only whole commits, never fewer documents than before."""
    context = multiprocessing.get_context("spawn")
    with Index.open(path, embedder) as index:
        index.add([Document("first", "Document number one")])
        stop, results = context.Event(), context.Queue()
        process = context.Process(target=read_loop, args=(str(path), stop, results))
        process.start()
        batch, until = 0, time.monotonic() + 4
        while time.monotonic() < until:
            index.add([Document(f"{batch}-{i}", f"Document number {i} of {batch}") for i in range(5)])
            batch += 1
        stop.set()
        seen = results.get(timeout=60)
        process.join()
    assert seen == sorted(seen)
    assert all(n % 5 == 1 for n in seen)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 warns of fork with threads: that is the point
def test_use_after_fork_is_refused(index: Index) -> None:
    """SQLite connections do not survive a fork."""
    assert refused_after_fork(lambda: len(index), IndexFileError)


def test_files_are_private(path: Path, index: Index) -> None:
    """Other users cannot read the index, its log or its lock."""
    if os.name == "nt":
        pytest.skip("POSIX file modes")
    beside = [p for p in path.parent.iterdir() if p.name.startswith(path.name)]
    assert len(beside) >= 3
    for file in beside:
        assert file.stat().st_mode & 0o077 == 0


def test_log_of_a_removed_index_is_not_replayed(path: Path, embedder: Embedder) -> None:
    """After kill -9 and removal of the index, a new one at the same path is empty."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(5):
            process.stdout.readline()
        process.kill()
    path.unlink()
    assert path.with_name("notes.db-wal").exists()
    with Index.open(path, embedder) as index:
        assert len(index) == 0
        index.add(LANGUAGES)
    with Index.open(path, embedder) as index:
        assert len(index) == 4


@pytest.mark.skipif(os.name == "nt", reason="links need rights")
def test_link_leads_to_the_same_index(path: Path, index: Index, embedder: Embedder) -> None:
    """A symbolic link is no way around the lock, and readers may come through it."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    with pytest.raises(IndexLockedError):
        Index.open(link, embedder)
    with Index.open(link, embedder, read_only=True) as reader:
        assert len(reader) == 4


def test_hybrid_gives_as_many_as_asked_for(path: Path, embedder: Embedder) -> None:
    """k over the fusion depth is no limit."""
    documents = demo_documents()
    with Index.open(path, embedder) as index:
        index.add(documents)
        assert len(index.search("my card", k=150)) == 150
        assert len(index.search("my card", k=10**30)) == len(documents)


@pytest.mark.parametrize("column", ["text", "metadata", "key"])
def test_document_that_is_no_longer_text(path: Path, index: Index, embedder: Embedder, column: str) -> None:
    """A row with broken UTF-8 or JSON ends no search; it can be deleted and stored again."""
    index.close()
    alter(path, f"UPDATE doc SET {column} = CAST(x'FF7B' || CAST({column} AS BLOB) AS TEXT) WHERE id = 3")
    with Index.open(path, embedder) as reopened:
        for mode in ("hybrid", "vector", "text"):
            hits = reopened.search("train to the airport", k=4, mode=mode)  # type: ignore[arg-type]
            assert "en-3" not in keys(hits)
        assert {"en-1", "en-2"} == set(keys(reopened.search("the train", where={"lang": "en"})))
        assert reopened.upsert([LANGUAGES[2]]) == 1
        assert keys(reopened.search("train to the airport", k=1)) == ["en-3"]
        assert reopened.damaged == ([3] if column == "key" else [])


@pytest.mark.parametrize("statement", ["DELETE FROM meta WHERE key = 'dim'", "UPDATE meta SET value = 'x'"])
def test_damaged_facts(path: Path, index: Index, embedder: Embedder, statement: str) -> None:
    """What the index says of itself has a checksum too."""
    index.close()
    alter(path, statement)
    with pytest.raises(IndexDamagedError, match="checksum"):
        Index.open(path, embedder)


@pytest.mark.parametrize(
    ("table", "column"), [("vec", "code"), ("vec", "start"), ("doc", "text"), ("doc", "metadata"), ("meta", "value")]
)
@pytest.mark.parametrize("value", ["NULL", "7", "x'00'", "'text'", "1.5"])
def test_damaged_types(path: Path, index: Index, embedder: Embedder, table: str, column: str, value: str) -> None:
    """SQLite does not enforce types when it reads; a value of another type is damage like any other."""
    index.close()
    loose = sqlite3.connect(path)
    loose.execute("PRAGMA writable_schema = ON")
    loose.execute("UPDATE sqlite_schema SET sql = replace(replace(sql, ' STRICT', ''), ' NOT NULL', '')")
    loose.execute(
        "UPDATE sqlite_schema SET sql = replace(sql, ', WITHOUT ROWID', ' WITHOUT ROWID') WHERE name = 'meta'"
    )
    loose.commit()
    loose.close()
    db = sqlite3.connect(path)
    with contextlib.suppress(sqlite3.IntegrityError):
        db.execute(f"UPDATE {table} SET {column} = {value}")
    db.execute("PRAGMA writable_schema = ON")
    for name, sql in sqlite3_schema().items():
        db.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (sql, name))
    db.commit()
    db.close()
    with contextlib.suppress(EdgeEmbedError), Index.open(path, embedder) as damaged:
        for mode in ("hybrid", "vector", "text"):
            assert damaged.search("train", mode=mode) == []  # type: ignore[arg-type]
        with contextlib.suppress(EdgeEmbedError):
            damaged.search("train", where={"unknown": 1})
        assert damaged.upsert(LANGUAGES) == 4
        assert keys(damaged.search("train to the airport", k=1)) == ["en-3"]


def sqlite3_schema() -> dict[str, str]:
    """The schema as an index has it."""
    db = sqlite3.connect(":memory:")
    for statement in ddl(UNKNOWN):
        db.execute(statement)
    rows = dict(db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))
    db.close()
    return rows


def test_damaged_look_up_table_gives_no_other_document(path: Path, index: Index, embedder: Embedder) -> None:
    """Where SQLite's table of keys leads to another document, that one is neither given nor deleted."""
    index.close()
    data, found = re.subn(rb"en-1(?!The)", b"en-0", path.read_bytes())
    assert found == 1  # in the table of keys; in the document's row the key comes right before the text
    path.write_bytes(data)
    with Index.open(path, embedder) as damaged:
        for use in (damaged.get, damaged.delete):
            with pytest.raises(IndexDamagedError):
                use("en-0")
        assert len(damaged) == 4
        assert "en-1" in keys(damaged.search("cat windowsill", k=4))


def test_deep_metadata_is_refused(index: Index) -> None:
    """What nests too deep could be stored but not read from deep inside a program."""
    deep: Any = "x"
    for _ in range(100):
        deep = [deep]
    with pytest.raises(DocumentError, match="nested more than 64"):
        index.add([Document("deep", "text", {"a": deep})])


def test_damaged_best_hit_gives_way_to_the_next(path: Path, index: Index, embedder: Embedder) -> None:
    """k=1 finds the best whole document, in every mode."""
    index.close()
    alter(path, "UPDATE doc SET text = 'damaged' WHERE key = 'en-3'")
    with Index.open(path, embedder) as damaged:
        for mode in ("hybrid", "vector", "text"):
            assert len(damaged.search("the train to the airport", k=1, mode=mode)) == 1  # type: ignore[arg-type]


def test_long_name_is_refused(tmp_path: Path, embedder: Embedder) -> None:
    """SQLite's log and the lock need room for their endings."""
    with pytest.raises(InputError, match="more than 200 bytes"):
        Index.open(tmp_path / ("x" * 245), embedder)
    assert list(tmp_path.iterdir()) == []


def test_lost_sequence_gives_no_id_twice(path: Path, index: Index, embedder: Embedder) -> None:
    """New passages get new ids even where SQLite's own counter is gone."""
    index.close()
    alter(path, "DELETE FROM sqlite_sequence")
    with Index.open(path, embedder) as reopened:
        reopened.add([Document("new", "A ferry across the lake")])
        assert keys(reopened.search("ferry", k=1)) == ["new"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_close_lets_go_while_a_forked_child_lives(path: Path, index: Index, embedder: Embedder) -> None:
    """A child that was forked while the index was open keeps no lock, and its exit closes nothing of the parent's."""
    wait, go = os.pipe()
    child = os.fork()
    if child == 0:
        index.close()
        os.read(wait, 1)
        os._exit(0)
    assert len(index) == 4
    index.close()
    Index.open(path, embedder).close()
    os.write(go, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(wait)
    os.close(go)


@pytest.mark.parametrize("bad", ["a\x00b", "x" * 5000, None, 3, b"bytes.db"])
def test_paths_that_are_none(embedder: Embedder, bad: Any) -> None:
    """What cannot be a path is an error of the input."""
    with pytest.raises(InputError, match="path"):
        Index.open(bad, embedder)


def test_special_files_are_no_index(tmp_path: Path, embedder: Embedder) -> None:
    """A named pipe does not hang, and no lock is put beside what is no index."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        for read_only in (False, True):
            with pytest.raises(IndexFormatError):
                Index.open(path, embedder, read_only=read_only)
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


def test_no_litter(path: Path, index: Index) -> None:
    """A closed index is one file and its lock."""
    index.close()
    assert sorted(p.name for p in path.parent.iterdir()) == ["notes.db", "notes.db.lock"]


@pytest.mark.skipif(os.name == "nt", reason="locks of POSIX")
def test_opening_twice_keeps_the_lock(path: Path, index: Index) -> None:
    """A process may open an index as often as it likes: another's writes never pull the log from under its readers.

    POSIX ends all locks of a process on a file when it closes any descriptor of that file.
    """
    index.close()
    script = """
import sys
from edge_embed import Index
with Index.open(sys.argv[1]) as writer:
    assert writer.delete(sys.argv[2]) == 1
"""
    with Index.open(path, read_only=True) as first:
        assert len(first) == 4
        for left, key in ((3, "en-1"), (2, "en-2")):
            Index.open(path, read_only=True).close()
            subprocess.run([sys.executable, "-c", script, path, key], check=True)
            assert (len(first), key in first) == (left, False)
