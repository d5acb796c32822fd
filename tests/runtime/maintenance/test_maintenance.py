"""An index is verified, repaired and compacted, and nothing whole is lost on the way."""

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from builders.files import alter
from click.testing import CliRunner, Result

from edge_embed import Document, Embedder, Index
from edge_embed.cli.main import main
from edge_embed.errors import (
    IndexClosedError,
    IndexDamagedError,
    IndexFileError,
    IndexFormatError,
    IndexLockedError,
    IndexReadOnlyError,
    InputError,
    StorageError,
)
from edge_embed_runtime.maintenance import compact
from edge_embed_runtime.maintenance.compact import compact_index
from edge_embed_runtime.maintenance.repair import Repair
from edge_embed_runtime.maintenance.verify import Damage, Report, verify_index

LONG = "The committee met again and discussed the agenda at length. " * 120
DOCUMENTS = [
    Document("cat", "The cat sleeps on the warm windowsill.", {"lang": "en"}),
    Document("long", LONG + "The password is under the blue carpet. " + LONG, {"kind": "minutes"}),
    Document("train", "The train to the airport leaves every hour.", {"lang": "en"}),
    Document("marks", "?!? … !!", {}),
    Document("de-1", "Der Zug zum Flughafen fährt\x00 alle zwanzig Minuten. 🦆", {"lang": "de"}),
]
MANY = 2000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Path:
    """A closed index of DOCUMENTS."""
    path = tmp_path_factory.mktemp("made") / "notes.db"
    with Index.open(path, embedder) as index:
        index.add(DOCUMENTS)
    return path


@pytest.fixture(scope="module")
def made_many(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Path:
    """A closed index of many short documents, d0 and on."""
    path = tmp_path_factory.mktemp("many") / "many.db"
    with Index.open(path, embedder) as index:
        index.add(Document(f"d{i}", f"Row {i} of the log: sensor {i * 7919 % 1009} is warm.") for i in range(MANY))
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return shutil.copy(made, tmp_path / "notes.db")


@pytest.fixture
def many(made_many: Path, tmp_path: Path) -> Path:
    return shutil.copy(made_many, tmp_path / "many.db")


def spoil_passages(path: Path) -> bytes:
    """Overwrite the page that leads to all passages; gives the file's bytes."""
    db = sqlite3.connect(path)
    (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'vec'").fetchone()
    (size,) = db.execute("PRAGMA page_size").fetchone()
    db.close()
    data = bytearray(path.read_bytes())
    data[(root - 1) * size : root * size] = b"\xff" * size
    path.write_bytes(data)
    return bytes(data)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def check_whole(path: Path, embedder: Embedder, documents: list[Document]) -> None:
    """The index verifies, holds exactly these documents, and finds them by meaning and by word."""
    report = verify_index(path)
    assert report.whole, report
    assert report.documents == len(documents)
    with Index.open(path, embedder, read_only=True) as index:
        assert all(index.get(document.key) == document for document in documents)
        for mode in ("vector", "text", "hybrid"):
            keys = [hit.key for hit in index.search("train to the airport", k=1, mode=mode)]  # type: ignore[arg-type]
            assert keys == (["train"] if DOCUMENTS[2] in documents else keys)
        assert index.damaged == []


def test_whole_index(path: Path, embedder: Embedder) -> None:
    """Nothing is wrong, nothing is changed, and neither reading nor repairing finds something to do."""
    with Index.open(path, embedder) as index:
        passages = index.stats()["passages"]
    before = path.read_bytes()
    report = verify_index(path)
    assert report == Report(5, passages, [], [])
    assert passages > 10
    with Index.open(path, embedder) as index:
        assert index.verify() == report
        assert index.repair() == Repair([], [], [], [], [])
        assert index.stats()["generation"] == 1
    assert path.read_bytes() == before


def test_whole_after_deletes_and_changes(path: Path, embedder: Embedder) -> None:
    """What add, upsert and delete leave behind is whole."""
    with Index.open(path, embedder) as index:
        index.delete(["long", "de-1"])
        index.upsert([Document("cat", "The dog barks."), Document("long", LONG)])
        assert index.verify().whole
        index.delete([document.key for document in DOCUMENTS])
        assert index.verify() == Report(0, 0, [], [])


RESTORABLE = [
    ("UPDATE vec SET code = zeroblob(388) WHERE id = {middle}", "long", "1 of its"),
    ("UPDATE vec SET code = x'00' WHERE id = {middle}", "long", "1 of its"),
    ("UPDATE vec SET crc = crc + 1 WHERE id = {middle}", "long", "1 of its"),
    ("UPDATE vec SET start = start + 1 WHERE id = {middle}", "long", "1 of its"),
    ("DELETE FROM vec WHERE id = {middle}", "long", "missing"),
    ("DELETE FROM vec WHERE id = 2", "long", "missing"),
    ("DELETE FROM vec WHERE id = {last}", "long", "missing"),
    ("DELETE FROM vec WHERE id = 1", "cat", "no passages"),
    ("UPDATE vec SET doc = 1 WHERE id = {middle}", "long", "missing"),
]


@pytest.mark.parametrize(("statement", "key", "what"), RESTORABLE)
@pytest.mark.slow
def test_damaged_passages_are_embedded_again(
    path: Path, embedder: Embedder, statement: str, key: str, what: str
) -> None:
    """A passage that is damaged or gone is named by its document, restored from the text, and stays so."""
    db = sqlite3.connect(path)
    first, last = db.execute("SELECT min(id), max(id) FROM vec WHERE doc = 2").fetchone()
    db.close()
    alter(path, statement.format(middle=(first + last) // 2, last=last))
    report = verify_index(path)
    assert not report.whole
    assert any(damage.key == key and what in damage.what for damage in report.damaged)
    with Index.open(path, embedder) as index:
        index.search("committee", mode="vector")
        done = index.repair()
        assert key in done.restored
        assert (done.lost, done.dropped, done.problems) == ([], [], [])
        assert index.damaged == []
        assert index.repair() == Repair([], [], [], [], [])
        assert "blue carpet" in index.search("where is the password?", k=1)[0].text
    check_whole(path, embedder, DOCUMENTS)


@pytest.mark.parametrize("column", ["text", "metadata", "key", "crc"])
def test_damaged_documents_go_only_when_told(path: Path, embedder: Embedder, column: str) -> None:
    """A document whose own row is damaged is listed, kept, and deleted with drop; the others are untouched."""
    changed = "crc + 1" if column == "crc" else f"CAST(x'FF7B' || CAST({column} AS BLOB) AS TEXT)"
    alter(path, f"UPDATE doc SET {column} = {changed} WHERE id = 1")
    lost = [Damage("?{cat" if column == "key" else "cat", "its checksum does not fit")]
    assert verify_index(path).damaged == lost
    with Index.open(path, embedder) as index:
        for _ in range(2):
            assert index.repair() == Repair([], lost, [], [], [])
        assert len(index) == 5
        done = index.repair(drop=True)
        assert (done.dropped, done.lost, done.whole) == (lost, [], True)
        assert index.repair(drop=True) == Repair([], [], [], [], [])
    check_whole(path, embedder, DOCUMENTS[1:])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE fts_data SET block = zeroblob(length(block)) WHERE id > 10",
        "UPDATE fts_data SET block = x'00' WHERE id = 10",
        "UPDATE fts_data SET block = CAST(replace(CAST(block AS TEXT), 'carpet', 'carpxt') AS BLOB) WHERE id > 10"
        " AND instr(block, CAST('carpet' AS BLOB)) > 1",
        "DELETE FROM fts_data WHERE id > 10",
        "DELETE FROM fts_docsize WHERE id = 1",
        "INSERT INTO fts (rowid, text) VALUES (1000, 'ghost')",
        "INSERT INTO fts (fts, rowid, text) VALUES ('delete', 1, 'The cat')",
        "INSERT INTO fts (fts) VALUES ('delete-all')",
        "UPDATE fts_data SET block = x'0505' WHERE id = 1",
    ],
)
def test_damaged_words_are_made_again(path: Path, embedder: Embedder, statement: str) -> None:
    """Whatever is wrong with the table of words, inside or against the texts, is found and mended from the texts."""
    alter(path, statement)
    report = verify_index(path)
    assert report.damaged == []
    assert any("words" in problem for problem in report.problems)
    with Index.open(path, embedder) as index:
        assert index.repair() == Repair([], [], [], ["words"], [])
        assert index.repair().rebuilt == []
        assert [hit.key for hit in index.search("windowsill", mode="text")] == ["cat"]
    check_whole(path, embedder, DOCUMENTS)


def test_lost_look_up_table_of_words(many: Path, embedder: Embedder) -> None:
    """Words that are stored but not found are damage too."""
    alter(many, "DELETE FROM fts_idx")
    assert verify_index(many).problems == ["the table of words does not lead to all of its words"]
    with Index.open(many, embedder) as index:
        assert index.repair() == Repair([], [], [], ["words"], [])
        assert index.search("warm", mode="text") != []
    assert verify_index(many).whole


def test_passages_of_no_document(path: Path, embedder: Embedder) -> None:
    """When a document's row is gone its passages are of no use: said, and removed."""
    alter(path, "DELETE FROM doc WHERE id = 1")
    assert verify_index(path).problems == ["1 passages belong to no document"]
    with Index.open(path, embedder) as index:
        assert index.repair().whole
    check_whole(path, embedder, DOCUMENTS[1:])


def test_damaged_look_up_table_is_made_again(path: Path, embedder: Embedder) -> None:
    """A key that SQLite's table of keys has wrong is found again."""
    data, found = re.subn(rb"de-1(?!Der)", b"de-0", path.read_bytes())
    assert found == 1  # in the document's row the key comes right before the text
    path.write_bytes(data)
    report = verify_index(path)
    assert any("sqlite_autoindex_doc_1" in problem for problem in report.problems)
    with Index.open(path, embedder) as index:
        assert "de-1" not in index
        done = index.repair()
        assert (done.rebuilt, done.whole) == (["tables"], True)
        assert index.get("de-1") == DOCUMENTS[4]
    check_whole(path, embedder, DOCUMENTS)


def test_damaged_facts_are_a_finding(path: Path) -> None:
    """verify reads on where an index could not be opened."""
    alter(path, "DELETE FROM meta WHERE key = 'dim'")
    report = verify_index(path)
    assert (report.documents, report.damaged, len(report.problems)) == (5, [], 1)
    assert "facts" in report.problems[0]


@pytest.mark.parametrize("flip", range(24))
@pytest.mark.slow
def test_any_flipped_byte(path: Path, embedder: Embedder, flip: int) -> None:
    """Verified whole means equal documents; a repair ends whole, or refuses, or lists what is lost."""
    data = bytearray(path.read_bytes())
    data[int(np.random.default_rng(flip).integers(len(data)))] ^= 1 << (flip % 8)
    path.write_bytes(data)
    try:
        whole = verify_index(path).whole
        with Index.open(path, embedder) as index:
            done = index.repair(drop=True)
            stored = {document.key: index.get(document.key) for document in DOCUMENTS}
    except (IndexDamagedError, IndexFormatError):
        return
    assert done.whole
    assert all(stored[document.key] in (document, None) for document in DOCUMENTS)
    assert sum(value is None for value in stored.values()) <= len(done.dropped) + (not whole)
    assert verify_index(path).whole


def test_unreadable_rows_are_not_repaired(path: Path, embedder: Embedder) -> None:
    """Where pages cannot be read, repair changes nothing and says to restore a copy."""
    data = spoil_passages(path)
    assert any("cannot be read" in problem for problem in verify_index(path).problems)
    with Index.open(path, embedder) as index, pytest.raises(IndexDamagedError, match="restore it from a copy"):
        index.repair()
    assert path.read_bytes() == data


def test_backup(path: Path, embedder: Embedder, tmp_path: Path) -> None:
    """The copy is the index as it was, damage included; what is there is not replaced."""
    alter(path, "UPDATE doc SET text = 'x' WHERE id = 1")
    with Index.open(path, embedder) as index:
        index.repair(drop=True, backup=tmp_path / "old.db")
        assert len(index) == 4
        for bad in ("old.db", "none/old.db"):
            with pytest.raises(InputError):
                index.repair(backup=tmp_path / bad)
    assert [damage.key for damage in verify_index(tmp_path / "old.db").damaged] == ["cat"]
    assert (tmp_path / "old.db").stat().st_mode & 0o077 == 0
    assert not list(tmp_path.glob(".old*"))


def test_verify_while_another_writes(path: Path, embedder: Embedder) -> None:
    """While one thread adds and deletes, every verification sees a committed, whole state."""
    stop, counts = threading.Event(), []
    with Index.open(path, embedder) as index:

        def write() -> None:
            for i in range(10_000):
                if stop.is_set():
                    return
                index.upsert([Document(f"w{i % 7}-{n}", f"Text {i} number {n}") for n in range(3)])
                index.delete([f"w{(i + 3) % 7}-{n}" for n in range(3)])

        writer = threading.Thread(target=write)
        writer.start()
        until = time.monotonic() + 3
        while time.monotonic() < until:
            report = verify_index(path)
            assert report.whole, report
            counts.append(report.documents)
        stop.set()
        writer.join()
    assert all(count % 3 == 5 % 3 for count in counts)
    assert len(set(counts)) > 1


def test_files_that_are_no_index(tmp_path: Path) -> None:
    """Missing, empty, foreign and other things give the errors of the tree, and no lock is left next to them."""
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("hello " * 100)
    (tmp_path / "folder").mkdir()
    alter(tmp_path / "other", "CREATE TABLE t (x)")
    for use in (verify_index, compact_index):
        for name in ("empty", "text", "other"):
            with pytest.raises(IndexFormatError):
                use(tmp_path / name)
        for name, message in (("none.db", "does not exist"), ("folder", "folder"), ("none/x.db", "folder")):
            with pytest.raises(IndexFileError, match=message):
                use(tmp_path / name)
        with pytest.raises(InputError):
            use(None)  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*.lock"))


def test_closed_and_read_only(path: Path, embedder: Embedder) -> None:
    """Only verify works on an index opened for reading, nothing on a closed one, and a second writer is refused."""
    with Index.open(path, embedder, read_only=True) as index:
        assert index.verify().whole
        for use in (index.repair, index.compact):
            with pytest.raises(IndexReadOnlyError):
                use()
    for use in (index.verify, index.repair, index.compact):
        with pytest.raises(IndexClosedError):
            use()
    with Index.open(path, embedder), pytest.raises(IndexLockedError):
        compact_index(path)


def test_compact_gives_space_back(many: Path, embedder: Embedder) -> None:
    """After nine tenths of the documents are deleted the file is at most 15 % of what it was, and whole."""
    full = many.stat().st_size
    with Index.open(many, embedder) as index:
        index.delete([f"d{i}" for i in range(MANY) if i % 10])
        index.search("sensor", k=1)
        done = index.compact()
        assert not done.pending
        assert index.search("row 770 of the log", k=1, mode="text")[0].key == "d770"
        assert index.add([Document("new", "A ferry across the lake")]) == 1
        assert index.search("a ferry", k=1)[0].key == "new"
        assert index.delete("new") == 1
    assert done.before >= full
    assert done.after <= 0.15 * full
    again = compact_index(many)
    assert again.after <= again.before <= 0.15 * full + 200_000
    assert verify_index(many) == Report(MANY // 10, MANY // 10, [], [])
    with Index.open(many, embedder) as index:
        assert all((index.get(f"d{i}") is None) == bool(i % 10) for i in range(MANY))


def test_compact_while_another_reads(many: Path, embedder: Embedder) -> None:
    """A reader that is open follows; one in the middle of reading keeps the old state, and compact says so."""
    with Index.open(many, embedder) as index, Index.open(many, embedder, read_only=True) as reader:
        index.delete([f"d{i}" for i in range(100, MANY)])
        assert len(reader.search("sensor", k=200, mode="vector")) == 100
        index._store._db.execute("PRAGMA busy_timeout = 50")
        with reader._store.snapshot():
            assert reader._store.counts()[0] == 100
            assert index.compact().pending
            assert reader._store.counts()[0] == 100
        assert not index.compact().pending
        assert len(reader.search("sensor", k=200, mode="vector")) == 100
    assert verify_index(many).whole


def test_compact_of_an_unreadable_index(path: Path) -> None:
    """What SQLite cannot read it does not copy: the error says to repair first, and nothing is changed."""
    before = spoil_passages(path)
    with pytest.raises(IndexDamagedError, match="repair it, then compact it"):
        compact_index(path)
    assert path.read_bytes() == before


def test_compact_says_what_it_needs(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little free space is said before anything is done."""
    before = many.read_bytes()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(StorageError, match=r"needs up to [\d,]+ bytes of free space in .* there are 1,000"):
        compact_index(many)
    assert many.read_bytes() == before


@pytest.fixture
def small_disk(many: Path, tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A file system with `many` and some bytes of room: small_disk(room), again to change it; where one may mount."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(*options: str) -> bool:
        command = ["mount", *options, "tmpfs", str(disk)]
        return bool(shutil.which("mount")) and not subprocess.run(command, capture_output=True, check=False).returncode

    def make(room: int) -> Path:
        size = f"size={many.stat().st_size + room}"
        if not os.path.ismount(disk):
            if not mount("-t", "tmpfs", "-o", size):
                pytest.skip("needs the right to mount a tmpfs")
            shutil.copy(many, disk / "many.db")
        else:
            assert mount("-o", f"remount,{size}")
        return disk / "many.db"

    yield make
    if os.path.ismount(disk):
        subprocess.run(["umount", str(disk)], check=True)  # noqa: S607 - the system's


@pytest.mark.parametrize("room", [100_000, 400_000, 900_000])
def test_full_disk_while_compacting(
    small_disk: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """When the disk gets full all the same the old state is whole, and compact works once there is room."""
    path = small_disk(room)
    with monkeypatch.context() as patch:
        patch.setattr(compact, "_check_space", lambda _: None)
        with pytest.raises(StorageError, match="full"):
            compact_index(path)
    assert verify_index(path) == Report(MANY, MANY, [], [])
    small_disk(10_000_000)
    compact_index(path)
    assert verify_index(path) == Report(MANY, MANY, [], [])


@pytest.mark.parametrize("same", [False, True])
def test_the_space_that_compact_asks_for_is_enough(small_disk: Callable[[int], Path], same: bool) -> None:
    """With the bytes that the message names, be SQLite's temporary folder on the same disk or not, it works."""
    path = small_disk(200_000)
    environment = {**os.environ, **({"SQLITE_TMPDIR": str(path.parent)} if same else {})}
    command = [sys.executable, "-m", "edge_embed", "compact", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    found = re.search(r"needs up to ([\d,]+) bytes", done.stderr)
    assert found is not None, done.stderr
    small_disk(int(found[1].replace(",", "")) + 49_152)  # the lock, the folder, SQLite's shared memory
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert verify_index(path).whole


CHILD = """
import sys
from edge_embed import Embedder, Index
from edge_embed_runtime.maintenance import scan
scan.BATCH = 4
with Index.open(sys.argv[1], Embedder(threads=1)) as index:
    print("ready", flush=True)
    while True:
        getattr(index, sys.argv[2])()
        print("done", flush=True)
"""


def killed(path: Path, method: str, delay: float) -> None:
    """A child process that repairs or compacts, killed after some seconds of it."""
    arguments = [sys.executable, "-c", CHILD, str(path), method]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)  # the moment of the kill is what is tried
        assert process.returncode is None
        process.kill()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_repair(many: Path, embedder: Embedder) -> None:
    """After kill -9 at any moment a document is as it was or repaired, and the next repair does the rest."""
    left = MANY // 5
    alter(many, "UPDATE vec SET code = zeroblob(388) WHERE id % 5 = 0", "DELETE FROM fts_data WHERE id > 10")
    for delay in (0.05, 0.2, 0.35, 0.6):
        killed(many, "repair", delay)
        report = verify_index(many)
        assert report.documents == MANY
        assert len(report.damaged) <= left
        assert all("passages are damaged" in damage.what for damage in report.damaged)
        left = len(report.damaged)
    with Index.open(many, embedder) as index:
        assert len(index.repair().restored) == left
        texts = {f"d{i}": f"Row {i} of the log: sensor {i * 7919 % 1009} is warm." for i in range(MANY)}
        assert all(index.get(key) == Document(key, text) for key, text in texts.items())
    assert verify_index(many).whole


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_compact(many: Path, embedder: Embedder) -> None:
    """After kill -9 at any moment of compacting everything is there."""
    with Index.open(many, embedder) as index:
        index.delete([f"d{i}" for i in range(0, MANY, 2)])
    for delay in (0.005, 0.02, 0.04, 0.07, 0.1, 0.15):
        killed(many, "compact", delay)
        assert verify_index(many) == Report(MANY // 2, MANY // 2, [], [])
    compact_index(many)
    assert verify_index(many).whole


def test_commands(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """verify, repair and compact as a user types them: what they say, and their exit statuses."""
    monkeypatch.chdir(tmp_path)
    assert run("verify", "notes.db").stdout.endswith("passages, whole\n")
    shown = run("verify", "notes.db", "--json")
    assert json.loads(shown.stdout)["whole"] is True
    alter(path, "UPDATE vec SET crc = 1 WHERE id = 1", "UPDATE doc SET text = 'x' WHERE key = 'train'")
    result = run("verify", "notes.db")
    assert (result.exit_code, "damaged  cat: 1 of its 1 passages are damaged" in result.stdout) == (1, True)
    result = run("verify", "notes.db", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["damaged"][1] == {"key": "train", "what": "its checksum does not fit"}
    result = run("repair", "notes.db", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["restored"] == ["cat"]
    assert [damage["key"] for damage in json.loads(result.stdout)["lost"]] == ["train"]
    result = run("repair", "notes.db", "--drop", "--backup", "old.db")
    assert (result.exit_code, "dropped  train" in result.stdout) == (0, True)
    assert run("repair", "notes.db").stdout == "notes.db: 0 restored, 0 dropped, 0 left damaged\n"
    assert run("verify", "old.db").exit_code == 1
    assert "bytes before" in run("compact", "notes.db").stdout
    done = json.loads(run("compact", "notes.db", "--json").stdout)
    assert done == {"before": path.stat().st_size, "after": path.stat().st_size, "pending": False}
    for name in ("verify", "repair", "compact"):
        result = run(name, "none.db")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "does not exist" in result.stderr
    assert not os.path.lexists("none.db")


def test_verify_loads_no_model(path: Path) -> None:
    """The command verifies an index on a machine that lacks its bundle, and without onnxruntime."""
    program = (
        "import sys; from click.testing import CliRunner; from edge_embed.cli.main import main\n"
        "result = CliRunner().invoke(main, ['verify', sys.argv[1]])\n"
        "print(result.exit_code, 'onnxruntime' in sys.modules)"
    )
    environment = {**os.environ, "EDGE_EMBED_BUNDLE": "nowhere"}
    arguments = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "0 False\n"
