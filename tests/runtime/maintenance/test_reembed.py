"""reembed.py and staging.py: an index gets the vectors of another bundle, and at no moment it has neither."""

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from builders.bert import WORDS, Checkpoints
from builders.files import alter
from click.testing import CliRunner, Result

from edge_embed import Document, Embedder, Hits, Index
from edge_embed.cli.main import Commands
from edge_embed.cli.reembed import reembed as command
from edge_embed.errors import (
    BundleMismatchError,
    IndexDamagedError,
    IndexFileError,
    IndexFormatError,
    IndexLockedError,
    InputError,
    StorageError,
)
from edge_embed_export import export_model
from edge_embed_runtime.maintenance import reembed, scan
from edge_embed_runtime.maintenance.reembed import Reembedded, discard_staging, reembed_index
from edge_embed_runtime.maintenance.verify import verify_index
from edge_embed_runtime.search.hnswfile import graph_path

MANY = 200
BATCH = 8


class Watched(Embedder):
    """Counts the passages that it embeds, and calls `hook` before each batch of them."""

    def __init__(self, bundle: Path, hook: Callable[[int], object] = lambda _: None) -> None:
        super().__init__(bundle, threads=1)
        self.hook, self.passages = hook, 0

    def encode_document(self, texts: Any, **options: Any) -> Any:
        self.hook(self.passages)
        self.passages += len(texts)
        return super().encode_document(texts, **options)


def make_documents() -> list[Document]:
    """d0 and on: texts of one to three passages."""
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, random.integers(3, 50))) for _ in range(MANY)]
    return [Document(f"d{i}", f"{text} Straße {i}", {"n": i}) for i, text in enumerate(texts)]


DOCUMENTS = make_documents()
QUERY = "the red house at the river"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reembed")


@pytest.fixture
def bundles(folder: Path, checkpoint: Checkpoints, short_receipt: None) -> dict[str, Path]:
    """Of 32, 16 and 32 dimensions: three models."""
    found = {name: folder / name for name in ("old", "new", "other")}
    if not found["other"].exists():
        export_model(checkpoint("a"), found["old"])
        export_model(checkpoint("b", dense="torch.nn.modules.linear.Identity"), found["new"])
        export_model(checkpoint("c", pooling="cls_token"), found["other"])
    return found


@pytest.fixture
def old(bundles: dict[str, Path]) -> Embedder:
    return Embedder(bundles["old"], threads=1)


@pytest.fixture
def new(bundles: dict[str, Path]) -> Embedder:
    return Embedder(bundles["new"], threads=1)


@pytest.fixture
def path(folder: Path, tmp_path: Path, old: Embedder) -> Path:
    """A closed index of DOCUMENTS with vectors of the old bundle; some others were deleted from it."""
    made = folder / "made.db"
    if not made.exists():
        with Index.open(made, old, words="plain", fields=["n"]) as index:
            index.add([Document("gone", "a cat"), *DOCUMENTS[: MANY // 2]])
            index.add(DOCUMENTS[MANY // 2 :])
            index.delete("gone")
    return shutil.copy(made, tmp_path / "notes.db")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "BATCH", BATCH)
    monkeypatch.setattr(reembed, "MOVED", 2 * BATCH)


def stored(path: Path) -> list[tuple[Any, ...]]:
    """Every passage: its document's key, its place and its code."""
    db = sqlite3.connect(path)
    query = "SELECT key, start, stop, code FROM vec JOIN doc ON doc.id = vec.doc ORDER BY vec.id"
    rows = db.execute(query).fetchall()
    db.close()
    return rows


def found(index: Index) -> list[Hits]:
    return [index.search(QUERY, 20, mode=mode) for mode in ("vector", "text", "hybrid")]  # type: ignore[arg-type]


def check_like_new(path: Path, embedder: Embedder, documents: list[Document]) -> None:
    """An index is whole, no other file is left, and it is that of the same documents that was made anew."""
    fresh = path.with_name("fresh.db")
    with Index.open(path, read_only=True) as index:
        words = index.stats()["words"]
    with Index.open(fresh, embedder, words=words) as index:
        index.add(documents)
    assert verify_index(path).whole
    assert list(path.parent.glob("*.reembed*")) == []
    assert sorted(stored(path)) == sorted(stored(fresh))
    with Index.open(path, embedder, read_only=True) as index, Index.open(fresh, embedder, read_only=True) as same:
        assert [index.get(document.key) for document in documents] == documents
        assert [found_key_scores(hits) for hits in found(index)] == [found_key_scores(hits) for hits in found(same)]
        assert index.stats()["documents"] == len(documents)
        assert index.damaged == []
    fresh.unlink()


def found_key_scores(hits: Hits) -> set[tuple[str, float, int, int]]:
    """Hits without their order, which ids decide among equal scores."""
    return {(hit.key, round(hit.score, 6), hit.start, hit.end) for hit in hits if hit.score > hits[-1].score}


def staged(path: Path) -> int:
    """Documents that are done in the file next to an index."""
    db = sqlite3.connect(f"{path}.reembed")
    (count,) = db.execute("SELECT count(*) FROM doc").fetchone()
    db.close()
    return int(count)


def interrupt(path: Path, bundle: Path, batches: int) -> None:
    """A run that ends after so many batches."""

    def hook(_: int) -> None:
        calls.append(1)
        if len(calls) > batches:
            raise KeyboardInterrupt

    calls: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        reembed_index(path, Watched(bundle, hook))
    assert staged(path) == batches * BATCH


def test_vectors_of_another_bundle(path: Path, new: Embedder) -> None:
    """Another dim and other passages; ids go on, the counters too, and the index is like any other afterwards."""
    with Index.open(path, read_only=True) as index:
        before = index.stats()
    ((deletions,),) = rows_of(path, "SELECT value FROM meta WHERE key = 'deletions'")
    last = max(row[0] for row in rows_of(path, "SELECT id FROM vec"))
    done = reembed_index(path, new)
    assert done == Reembedded(MANY, len(stored(path)), MANY, 0, True)
    check_like_new(path, new, DOCUMENTS)
    assert min(row[0] for row in rows_of(path, "SELECT id FROM vec")) == last + 1
    assert rows_of(path, "SELECT value FROM meta WHERE key = 'deletions'") == [(str(int(deletions) + 1),)]
    with Index.open(path, new) as index:
        stats = index.stats()
        assert (stats["dim"], stats["bundle"], stats["fingerprint"]) == (16, "new", new.fingerprint)
        assert (stats["generation"], stats["words"], stats["fields"]) == (before["generation"] + 1, "plain", ["n"])
        index.upsert([Document("d0", "another text"), Document("more", "the night")])
        index.delete("d1")
        assert len(index) == MANY
        assert index.search("Straße", 3, {"n": 7}, mode="text")[0].key == "d7"
    assert verify_index(path).whole


def rows_of(path: Path, query: str) -> list[Any]:
    db = sqlite3.connect(path)
    rows = db.execute(query).fetchall()
    db.close()
    return rows


def test_the_old_bundle_is_refused_then(path: Path, old: Embedder, new: Embedder) -> None:
    with pytest.raises(BundleMismatchError):
        Index.open(path, new)
    reembed_index(path, new)
    with pytest.raises(BundleMismatchError):
        Index.open(path, old)


def test_nothing_to_do(path: Path, bundles: dict[str, Path], old: Embedder) -> None:
    """Vectors of this bundle stay, whatever lies next to it; fewer of their numbers are other vectors."""
    before, told = path.read_bytes(), []
    assert reembed_index(path, Watched(bundles["old"]), notify=told.append) == Reembedded(
        MANY, len(stored(path)), 0, 0, False
    )
    assert (path.read_bytes(), len(told)) == (before, 1)
    assert "nothing to do" in told[0]
    short = Embedder(bundles["old"], threads=1, truncate_dim=8)
    with Index.open(path, old, read_only=True) as reader:
        reader.search(QUERY)
        assert reembed_index(path, short).embedded == MANY
        with pytest.raises(BundleMismatchError):
            reader.search(QUERY)
    check_like_new(path, short, DOCUMENTS)


def test_a_run_is_taken_up(path: Path, bundles: dict[str, Path], new: Embedder, old: Embedder) -> None:
    """What an interrupted run embedded is not embedded again; meanwhile the old vectors are found."""
    with Index.open(path, old, read_only=True) as index:
        before = found(index)
    interrupt(path, bundles["new"], 3)
    assert Path(f"{path}.reembed").stat().st_mode & 0o077 == 0
    with Index.open(path, old) as index:
        assert found(index) == before
        assert index.verify().whole
    told: list[str] = []
    second = Watched(bundles["new"])
    done = reembed_index(path, second, notify=told.append)
    assert (done.embedded, done.kept) == (MANY - 3 * BATCH, 3 * BATCH)
    assert told == [f"{path}: {MANY - 3 * BATCH} of {MANY} documents to embed with 'new', {3 * BATCH} are done already"]
    check_like_new(path, new, DOCUMENTS)
    whole = Watched(bundles["other"])
    reembed_index(path, whole)
    kept = [row for row in stored(path) if int(row[0][1:]) < 3 * BATCH]
    assert second.passages == whole.passages - len(kept)


def test_documents_that_change_between_runs(path: Path, bundles: dict[str, Path], old: Embedder, new: Embedder) -> None:
    """Changed and new documents are embedded, also under an id that was used before; deleted ones are left out."""
    interrupt(path, bundles["new"], MANY // BATCH - 1)
    changed = [Document(document.key, f"another {document.text}", {}) for document in DOCUMENTS[:5]]
    replacement = Document("last", DOCUMENTS[-1].text, DOCUMENTS[-1].metadata)
    with Index.open(path, old) as index:
        ids = dict(rows_of(path, "SELECT key, id FROM doc"))
        index.delete([document.key for document in DOCUMENTS[MANY - 2 * BATCH :]])
        index.add([replacement])
        assert rows_of(path, "SELECT id FROM doc WHERE key = 'last'") == [(ids[f"d{MANY - 2 * BATCH}"],)]
        index.upsert(changed)
        index.delete("d7")
    documents = [*changed, *(d for d in DOCUMENTS[5 : MANY - 2 * BATCH] if d.key != "d7"), replacement]
    done = reembed_index(path, new)
    assert (done.embedded, done.kept) == (6, MANY - 2 * BATCH - 6)
    check_like_new(path, new, documents)


READER = """
import sys
from edge_embed import Embedder, Index
from edge_embed.errors import BundleMismatchError
with Index.open(sys.argv[1], Embedder(sys.argv[2], threads=1), read_only=True) as index:
    for line in sys.stdin:
        try:
            print([(hit.key, hit.score) for hit in index.search(line.strip(), 5)], flush=True)
        except BundleMismatchError:
            print("mismatch", flush=True)
"""


def test_with_readers_and_writers(path: Path, bundles: dict[str, Path], old: Embedder, new: Embedder) -> None:
    """Until the transaction has ended all readers find what they found before, then they are told to open again."""
    arguments = [sys.executable, "-c", READER, str(path), str(bundles["old"])]
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True) as process,
        Index.open(path, old, read_only=True) as reader,
    ):

        def asked() -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            print(QUERY, file=process.stdin, flush=True)
            return process.stdout.readline()

        before, elsewhere, calls = found(reader), asked(), []

        def look(_: object) -> None:
            calls.append(1)
            if len(calls) % 4:
                return
            assert found(reader) == before
            assert asked() == elsewhere
            for write in (lambda: Index.open(path, old), lambda: reembed_index(path, new)):
                with pytest.raises(IndexLockedError):
                    write()

        move = reembed._move
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reembed, "_move", lambda *arguments: (look(0), move(*arguments))[1])
            reembed_index(path, Watched(bundles["new"], look))
        assert len(calls) > MANY // BATCH + 8
        assert (elsewhere.count("d"), asked()) == (5, "mismatch\n")
        for mode in ("vector", "hybrid"):
            with pytest.raises(BundleMismatchError, match="'new'"):
                reader.search(QUERY, mode=mode)  # type: ignore[arg-type]
        # words need no vectors, and a reader that is open finds them all the same
        assert {hit.key for hit in reader.search("Straße", MANY, mode="text")} == {d.key for d in DOCUMENTS}
        assert process.stdin is not None
        process.stdin.close()
    check_like_new(path, new, DOCUMENTS)


def test_a_writer_keeps_it_out(path: Path, old: Embedder, new: Embedder) -> None:
    with Index.open(path, old) as index:
        for use in (lambda: reembed_index(path, new), lambda: discard_staging(path)):
            with pytest.raises(IndexLockedError):
                use()
        assert found(index)[0]
    assert not Path(f"{path}.reembed").exists()


CHILD = """
import os, signal, sys
from edge_embed import Embedder
from edge_embed_runtime.maintenance import reembed, scan, staging
from edge_embed_runtime.maintenance.reembed import Staging, Store
scan.BATCH, reembed.MOVED = 8, 16
calls = 0
def dying(function, before, last):
    def call(*arguments, **options):
        global calls
        calls += 1
        if before and calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **options)
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call
embedder = Embedder(sys.argv[2], threads=1)
if len(sys.argv) > 3:
    holder, name = {"reembed": reembed, "Staging": Staging, "Store": Store}[sys.argv[3]], sys.argv[4]
    setattr(holder, name, dying(getattr(holder, name), sys.argv[5] == "before", int(sys.argv[6])))
print("ready", flush=True)
reembed.reembed_index(sys.argv[1], embedder)
print("done", flush=True)
"""
needs_kill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


@needs_kill
@pytest.mark.parametrize(
    ("where", "switched", "kept"),
    [
        ("reembed create_staging before 1", False, 0),
        ("reembed create_staging after 1", False, 0),
        ("Staging add before 1", False, 0),
        ("Staging add after 1", False, BATCH),
        ("Staging add after 7", False, 7 * BATCH),
        (f"Staging add after {MANY // BATCH}", False, MANY),
        ("reembed _move before 1", False, MANY),
        ("reembed _move after 1", False, MANY),
        ("reembed _move after 9", False, MANY),
        ("Store last_ids after 1", False, MANY),
        ("reembed remove_staging before 2", True, None),
        ("reembed remove_staging after 2", True, None),
    ],
)
@pytest.mark.slow
def test_killed_at(
    path: Path, bundles: dict[str, Path], old: Embedder, where: str, switched: bool, kept: int | None
) -> None:
    """kill -9 at a point: the index is whole, of the one bundle or the other; the next run embeds what is missing."""
    before = stored(path)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(bundles["new"]), *where.split()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("ready\n", -signal.SIGKILL), done.stderr
    assert verify_index(path).whole
    new = Watched(bundles["new"])
    with Index.open(path, new if switched else old) as index:
        assert all(found(index))
    assert (stored(path) == before) != switched
    told: list[str] = []
    again = reembed_index(path, new, notify=told.append)
    assert not any("thrown away" in what for what in told)
    if kept is None:
        assert (again.switched, new.passages) == (False, 0)
    else:
        assert (again.switched, again.kept, again.embedded) == (True, kept, MANY - kept)
        assert (new.passages == 0) == (kept == MANY)
    check_like_new(path, new, DOCUMENTS)


@pytest.mark.slow
@needs_kill
def test_killed_at_any_moment(path: Path, bundles: dict[str, Path], old: Embedder, new: Embedder) -> None:
    """Run after run is killed after some milliseconds more, until one gets to its end."""
    with Index.open(path, old, read_only=True) as index:
        hits = found(index)
    before, progress, delay = stored(path), [0], 0.002
    while True:
        arguments = [sys.executable, "-c", CHILD, str(path), str(bundles["new"])]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(delay)  # the moment of the kill is what is tried
            process.kill()
            if process.stdout.read() == "done\n":
                break
        assert verify_index(path).whole
        if stored(path) == before:
            with Index.open(path, old, read_only=True) as index:
                assert found(index) == hits
            if Path(f"{path}.reembed").exists():
                with contextlib.suppress(sqlite3.Error):  # killed before it had tables
                    progress.append(staged(path))
        else:
            with Index.open(path, new, read_only=True) as index:
                assert all(found(index))
        delay += 0.015
    assert progress == sorted(progress)
    assert len(set(progress)) > 1
    check_like_new(path, new, DOCUMENTS)


def spoil_file(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda staging: (staging.write_bytes(change(staging.read_bytes())), None)[1]


LONG = "FROM doc WHERE count > 1 ORDER BY id LIMIT 1"
SPOILED: dict[str, tuple[Callable[[Path], object], int]] = {
    # what is done to the file, and how many of its documents are embedded again
    "empty": (spoil_file(lambda _: b""), 5 * BATCH),
    "text": (spoil_file(lambda _: b"hello " * 999), 5 * BATCH),
    "cut off": (spoil_file(lambda data: data[: len(data) // 2]), 5 * BATCH),
    "its pages lost": (spoil_file(lambda data: data[:8192] + b"\xff" * (len(data) - 8192)), 5 * BATCH),
    "another program's": (lambda staging: alter(staging, "PRAGMA application_id = 7"), 5 * BATCH),
    "a later release's": (lambda staging: alter(staging, "PRAGMA user_version = 2"), 5 * BATCH),
    "a trigger": (
        lambda staging: alter(staging, "CREATE TRIGGER t AFTER DELETE ON doc BEGIN SELECT 1; END"),
        5 * BATCH,
    ),
    "a table": (lambda staging: alter(staging, "CREATE TABLE t (x)"), 5 * BATCH),
    "no identity": (lambda staging: alter(staging, "DELETE FROM meta"), 5 * BATCH),
    "two identities": (lambda staging: alter(staging, "INSERT INTO meta SELECT * FROM meta"), 5 * BATCH),
    "other old vectors": (lambda staging: alter(staging, "UPDATE meta SET source = 'x'"), 5 * BATCH),
    "a code": (lambda staging: alter(staging, "UPDATE vec SET code = zeroblob(20) WHERE id = 1"), 1),
    "a span": (lambda staging: alter(staging, "UPDATE vec SET stop = 0 WHERE doc = 9"), 1),
    "a passage of another": (lambda staging: alter(staging, "UPDATE vec SET doc = 3 WHERE doc = 9"), 1),
    "passages lost": (lambda staging: alter(staging, "DELETE FROM vec WHERE doc < 10"), 8),
    "a passage lost": (lambda staging: alter(staging, f"DELETE FROM vec WHERE id = (SELECT first {LONG})"), 1),
    "fewer passages": (lambda staging: alter(staging, f"UPDATE doc SET count = 1 WHERE id = (SELECT id {LONG})"), 1),
    "too many passages": (lambda staging: alter(staging, "UPDATE doc SET count = count + 1 WHERE id = 10"), 1),
    "no passages": (lambda staging: alter(staging, "UPDATE doc SET count = 0, crc = 1 WHERE id = 10"), 1),
    "documents lost": (lambda staging: alter(staging, "DELETE FROM doc WHERE id > 11"), 5 * BATCH - 10),
    "another text": (lambda staging: alter(staging, "UPDATE doc SET source = 1 WHERE id < 5"), 3),
}


@pytest.mark.parametrize("how", SPOILED)
@pytest.mark.slow
def test_damaged_staging(path: Path, bundles: dict[str, Path], new: Embedder, how: str) -> None:
    """What is damaged of an interrupted run's work is embedded again, said where that is all of it; never used."""
    spoil, lost = SPOILED[how]
    interrupt(path, bundles["new"], 5)
    spoil(Path(f"{path}.reembed"))
    told: list[str] = []
    done = reembed_index(path, new, notify=told.append)
    assert (done.embedded, done.kept) == (MANY - 5 * BATCH + lost, 5 * BATCH - lost)
    assert any("thrown away" in what for what in told) == (lost == 5 * BATCH)
    check_like_new(path, new, DOCUMENTS)


@pytest.mark.parametrize("flip", range(16))
@pytest.mark.slow
def test_any_flipped_byte_of_the_staging(path: Path, bundles: dict[str, Path], new: Embedder, flip: int) -> None:
    interrupt(path, bundles["new"], 5)
    staging = Path(f"{path}.reembed")
    data = bytearray(staging.read_bytes())
    data[int(np.random.default_rng(flip).integers(len(data)))] ^= 1 << (flip % 8)
    staging.write_bytes(data)
    assert reembed_index(path, new).switched
    check_like_new(path, new, DOCUMENTS)


def test_staging_that_is_damaged_while_it_is_used(
    path: Path, bundles: dict[str, Path], new: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is switched then, and the next run embeds again what is lost."""
    before, switch = stored(path), reembed._switch

    def spoiled(*arguments: Any) -> int:
        alter(Path(f"{path}.reembed"), "UPDATE vec SET crc = 0 WHERE id = 99")
        return switch(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(reembed, "_switch", spoiled)
        with pytest.raises(IndexDamagedError, match="run it again"):
            reembed_index(path, new)
    assert stored(path) == before
    assert verify_index(path).whole
    assert reembed_index(path, new).embedded == 1
    check_like_new(path, new, DOCUMENTS)


def test_work_towards_another_bundle(path: Path, bundles: dict[str, Path], old: Embedder, new: Embedder) -> None:
    """It is thrown away for a third bundle, kept where nothing is to do, and never mixed up."""
    interrupt(path, bundles["other"], 5)
    told: list[str] = []
    assert not reembed_index(path, old, notify=told.append).switched
    assert (staged(path), "--discard" in told[1]) == (5 * BATCH, True)
    done = reembed_index(path, new, notify=told.append)
    assert (done.kept, "another bundle or another index: it is thrown away" in told[2]) == (0, True)
    check_like_new(path, new, DOCUMENTS)


def test_work_towards_other_dimensions(path: Path, bundles: dict[str, Path]) -> None:
    interrupt(path, bundles["new"], 5)
    short, told = Embedder(bundles["new"], threads=1, truncate_dim=8), []
    assert reembed_index(path, short, notify=told.append).kept == 0
    assert "another bundle or another index: it is thrown away" in told[0]
    check_like_new(path, short, DOCUMENTS)


def test_discard(path: Path, bundles: dict[str, Path], old: Embedder) -> None:
    interrupt(path, bundles["new"], 2)
    Path(f"{path}.reembed-wal").touch()  # as kill -9 leaves it
    assert discard_staging(path)
    assert not discard_staging(path)
    assert sorted(file.name for file in path.parent.glob("notes*")) == ["notes.db", "notes.db.lock"]
    with Index.open(path, old) as index:
        assert found(index)[0]


def test_a_log_without_its_file(path: Path, bundles: dict[str, Path], new: Embedder) -> None:
    """What SQLite wrote next to a file that was removed is not replayed into the next one."""
    interrupt(path, bundles["new"], 2)
    db = sqlite3.connect(f"{path}.reembed", isolation_level=None)
    db.execute("UPDATE doc SET source = 1")
    log = Path(f"{path}.reembed-wal").read_bytes()
    db.close()
    assert log
    Path(f"{path}.reembed").unlink()
    Path(f"{path}.reembed-wal").write_bytes(log)
    told: list[str] = []
    assert reembed_index(path, new, notify=told.append).embedded == MANY
    assert len(told) == 1
    check_like_new(path, new, DOCUMENTS)


def test_a_folder_or_a_link_in_the_way(path: Path, new: Embedder, tmp_path: Path) -> None:
    """A folder is an error, and a link is not followed."""
    Path(f"{path}.reembed").mkdir()
    with pytest.raises(IndexFileError):
        reembed_index(path, new)
    with pytest.raises(StorageError):
        discard_staging(path)
    Path(f"{path}.reembed").rmdir()
    (tmp_path / "other.txt").write_text("mine")
    Path(f"{path}.reembed").symlink_to(tmp_path / "other.txt")
    assert reembed_index(path, new).embedded == MANY
    assert (tmp_path / "other.txt").read_text() == "mine"
    check_like_new(path, new, DOCUMENTS)


def test_damaged_documents(path: Path, new: Embedder, old: Embedder) -> None:
    """They are named before anything is done; what is damaged besides texts is made again."""
    alter(path, "UPDATE doc SET text = 'x' WHERE id % 100 = 3", "UPDATE doc SET key = x'ff' || 'k' WHERE id = 5")
    damaged = path.read_bytes()
    with pytest.raises(IndexDamagedError, match=r"damaged documents: 3 \('d1', .*repair --drop"):
        reembed_index(path, Watched(new.path, lambda _: pytest.fail("embeds")))
    assert path.read_bytes() == damaged
    with Index.open(path, old) as index:
        dropped = index.repair(drop=True).dropped
    documents = [d for d in DOCUMENTS if d.key not in ("d1", "d3", "d101")]
    assert len(dropped) == 3
    alter(path, "UPDATE vec SET code = zeroblob(36) WHERE id % 7 = 1", "UPDATE bits SET crc = 1", "DELETE FROM fts_idx")
    assert not verify_index(path).whole
    assert reembed_index(path, new).embedded == MANY - 3
    check_like_new(path, new, documents)


def test_given_vectors(tmp_path: Path, new: Embedder) -> None:
    """An index of given vectors becomes one of a bundle where every document has a text."""
    path = tmp_path / "notes.db"
    with Index.create(path, space="an API", dim=8) as index:
        index.add_vectors([*DOCUMENTS[:20], Document("a", ""), Document("b", " \n")], np.eye(22, 8) + 1)
    with pytest.raises(InputError, match="2 of 22 documents have no text"):
        reembed_index(path, new)
    with Index.open(path) as index:
        assert index.search(vector=np.eye(8)[0], k=1)[0].key == "d0"
        index.delete(["a", "b"])
    assert reembed_index(path, new).documents == 20
    check_like_new(path, new, DOCUMENTS[:20])
    with Index.open(path, new) as index:
        assert index.add([Document("c", "a cat")]) == 1


def test_an_index_without_documents(tmp_path: Path, old: Embedder, new: Embedder) -> None:
    path = tmp_path / "notes.db"
    Index.open(path, old).close()
    assert reembed_index(path, new) == Reembedded(0, 0, 0, 0, True)
    check_like_new(path, new, [])


def test_commits_have_a_limit_of_characters(path: Path, new: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long documents come few at a time: what memory holds is bounded."""
    monkeypatch.setattr(scan, "CHARACTERS", 300)
    sizes, add = [], reembed.Staging.add
    monkeypatch.setattr(
        reembed.Staging, "add", lambda *arguments: (sizes.append(len(arguments[1])), add(*arguments))[1]
    )
    reembed_index(path, new)
    longest = max(len(document.text) for document in DOCUMENTS)
    assert MANY // len(sizes) <= 3
    assert sum(len(document.text) for document in DOCUMENTS) <= len(sizes) * (300 + longest)
    check_like_new(path, new, DOCUMENTS)


def test_what_is_no_index(path: Path, tmp_path: Path, new: Embedder) -> None:
    (tmp_path / "text").write_text("hello " * 99)
    for use in (lambda name: reembed_index(tmp_path / name, new), lambda name: discard_staging(tmp_path / name)):
        for name, kind in (("none", IndexFileError), (".", IndexFileError), ("text", IndexFormatError)):
            with pytest.raises(kind):
                use(name)
    for bad in ("bundle", None):
        with pytest.raises(InputError, match="takes an Embedder"):
            reembed_index(path, bad)  # type: ignore[arg-type]
    assert list(tmp_path.glob("*.lock")) == list(tmp_path.glob("*.reembed")) == []


def test_it_says_what_it_needs(path: Path, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little free space is said before anything is embedded, and again before the transaction."""
    left = iter([1000])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=next(left)))
    nothing = Watched(bundles["new"], lambda _: pytest.fail("embeds"))
    with pytest.raises(StorageError, match=r"needs up to [\d,]+ bytes of free space in .* there are 1,000"):
        reembed_index(path, nothing)
    left = iter([10**12, 1000])
    with pytest.raises(StorageError, match="there are 1,000"):
        reembed_index(path, Watched(bundles["new"]))
    left = iter([10**12, 10**12])
    assert reembed_index(path, nothing).kept == MANY


Disk = Callable[[int], Path]


@pytest.fixture
def small_disk(path: Path, tmp_path: Path) -> Iterator[Disk]:
    """A file system with the index and some bytes of room: small_disk(room); where one may mount."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(*options: str) -> bool:
        arguments = ["mount", *options, "tmpfs", str(disk)]
        return (
            bool(shutil.which("mount")) and not subprocess.run(arguments, capture_output=True, check=False).returncode
        )

    def make(room: int) -> Path:
        size = f"size={path.stat().st_size + room}"
        if not os.path.ismount(disk):
            if not mount("-t", "tmpfs", "-o", size):
                pytest.skip("needs the right to mount a tmpfs")
            shutil.copy(path, disk / "notes.db")
        else:
            assert mount("-o", f"remount,{size}")
        return disk / "notes.db"

    yield make
    if os.path.ismount(disk):
        subprocess.run(["umount", str(disk)], check=True)  # noqa: S607 - the system's


@pytest.mark.parametrize("room", [40_000, 125_000, 150_000, 190_000])
def test_full_disk(
    small_disk: Disk, path: Path, new: Embedder, old: Embedder, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """When the disk gets full all the same the old vectors are whole, and what was embedded is kept."""
    before, path = stored(path), small_disk(room)
    with monkeypatch.context() as patch:
        patch.setattr(reembed, "_check_space", lambda *_: None)
        with pytest.raises(StorageError):
            reembed_index(path, new)
    small_disk(10_000_000)
    assert stored(path) == before
    assert verify_index(path).whole
    with Index.open(path, old, read_only=True) as index:
        assert all(found(index))
    done = reembed_index(path, new)
    assert done.switched
    assert (done.kept > 0) == (room > 100_000)
    check_like_new(path, new, DOCUMENTS)


@pytest.mark.parametrize("target", ["new", "other"])
def test_the_space_that_it_asks_for_is_enough(small_disk: Disk, bundles: dict[str, Path], target: str) -> None:
    """With the bytes that the message names it works, SQLite's temporary folder on the same disk."""
    path = small_disk(150_000)
    program = "import sys; from edge_embed.cli.reembed import reembed; reembed(sys.argv[1:])"
    arguments = [sys.executable, "-c", program, str(path), "--bundle", str(bundles[target])]
    environment = {**os.environ, "SQLITE_TMPDIR": str(path.parent)}
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    asked = re.search(r"needs up to ([\d,]+) bytes", done.stderr)
    assert asked is not None, done.stderr
    small_disk(int(asked[1].replace(",", "")) + 131_072)  # what is there already when it looks
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    small_disk(10_000_000)
    check_like_new(path, Embedder(bundles[target], threads=1), DOCUMENTS)


def run(*arguments: object) -> Result:
    group = Commands("edge-embed", commands={"reembed": command})
    return CliRunner().invoke(group, ["reembed", *map(str, arguments)])


def test_command(path: Path, bundles: dict[str, Path], old: Embedder, new: Embedder) -> None:
    """As a user types it: what it says on stdout and stderr, and its exit status."""
    interrupt(path, bundles["new"], 2)
    result = run(path, "--bundle", bundles["new"], "--threads", 1)
    passages = len(stored(path))
    assert (result.exit_code, result.stdout) == (
        0,
        f"{path}: {MANY - 2 * BATCH} documents embedded, {2 * BATCH} by earlier runs; {MANY} documents, {passages} "
        "passages of new\n",
    )
    assert f"{MANY - 2 * BATCH} of {MANY} documents to embed with 'new'" in result.stderr
    check_like_new(path, new, DOCUMENTS)
    result = run(path, "--bundle", bundles["new"], "--json")
    assert json.loads(result.stdout) == {
        "documents": MANY, "passages": passages, "embedded": 0, "kept": 0, "switched": False,
        "bundle": "new", "fingerprint": new.fingerprint,
    }  # fmt: skip
    assert "nothing to do" in result.stderr
    interrupt(path, bundles["old"], 2)
    assert json.loads(run(path, "--discard", "--json").stdout) == {"discarded": True}
    assert run(path, "--discard").stdout == f"{path}: no run was interrupted\n"
    for arguments, what in (((path.parent / "none",), "does not exist"), ((path, "--bundle", "none"), "none")):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert what in result.stderr
    with Index.open(path, new):
        assert "is open for writing" in run(path, "--bundle", bundles["old"]).stderr
    assert run("--help").exit_code == 0


def test_the_command_discards_without_a_model(path: Path, bundles: dict[str, Path]) -> None:
    interrupt(path, bundles["new"], 2)
    environment = {**os.environ, "EDGE_EMBED_BUNDLE": "nowhere"}
    program = "import sys; from edge_embed.cli.reembed import reembed; reembed(sys.argv[1:])"
    arguments = [sys.executable, "-c", program, str(path), "--discard"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
    assert "was removed" in done.stdout
    assert not Path(f"{path}.reembed").exists()


@pytest.mark.slow
def test_the_graph_goes(path: Path, old: Embedder, new: Embedder) -> None:
    """A graph over the old binary codes, and what is known of it, are removed with them."""
    with Index.open(path, old) as index:
        index.rebuild("always")
    assert graph_path(path).exists()
    reembed_index(path, new)
    assert not graph_path(path).exists()
    assert rows_of(path, "SELECT value FROM meta WHERE key = 'graph'") == []
    check_like_new(path, new, DOCUMENTS)
