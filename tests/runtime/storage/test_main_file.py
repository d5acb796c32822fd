"""Tests of mainfile.py and of what Store does with it: the one file is the index."""

import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_embed import Document, Index
from edge_embed.errors import IndexDamagedError, IndexFileError
from edge_embed_runtime.maintenance.compact import compact_index
from edge_embed_runtime.maintenance.repair import accept_lost_log
from edge_embed_runtime.maintenance.verify import verify_index
from edge_embed_runtime.storage.database import log_files
from edge_embed_runtime.storage.mainfile import Content, Position, is_marked
from edge_embed_runtime.storage.store import Store

DIM = 8


def documents(*names: str) -> list[Document]:
    return [Document(name, f"the ferry {name} leaves the harbour") for name in names]


def vectors(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)


def add(index: Index, *names: str) -> None:
    index.add_vectors(documents(*names), vectors(len(names)))


def make(path: Path, *names: str) -> Index:
    index = Index.create(path, space="tests", dim=DIM)
    add(index, *names)
    return index


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.db"


def keys(path: Path) -> set[str]:
    """Of a copy of the file alone."""
    alone = path.with_name("alone.db")
    for file in (alone, *log_files(alone)):
        file.unlink(missing_ok=True)
    shutil.copyfile(path, alone)
    assert verify_index(alone).whole
    with Index.open(alone, read_only=True) as index:
        return {hit.key for hit in index.search("ferry", 100, mode="text")}


def reader_of(path: Path) -> sqlite3.Connection:
    """A connection that holds the state of now."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    db.execute("BEGIN")
    db.execute("SELECT count(*) FROM doc").fetchone()
    return db


def test_every_writing_call_leaves_all_in_the_file(path: Path) -> None:
    """A copy of the one file, made between two calls of an open index, has what the first acknowledged."""
    with make(path, "a", "b", "c") as index:
        assert keys(path) == {"a", "b", "c"}
        index.upsert_vectors(documents("a", "d"), vectors(2, 1))
        assert keys(path) == {"a", "b", "c", "d"}
        index.delete(["a", "b"])
        assert keys(path) == {"c", "d"}
        index.compact()
        assert keys(path) == {"c", "d"}
        index.rebuild()
        assert keys(path) == {"c", "d"}
        index.repair(drop=True)
        assert keys(path) == {"c", "d"}


def test_moved_file_after_close(path: Path) -> None:
    """Nothing is left behind that an index at the old path would read."""
    index = make(path, "a")
    moved = path.with_name("moved.db")
    path.rename(moved)
    index.close()
    assert not any(file.exists() for file in log_files(path))
    make(path, "other").close()
    assert keys(moved) == {"a"}
    assert keys(path) == {"other"}


def test_reader_holds_up_nothing_but_the_copying(path: Path) -> None:
    """While a reader needs the old pages, the file says that it lacks commits; the next write brings all."""
    with make(path, "a") as index:
        reader = reader_of(path)
        add(index, "b")
        assert is_marked(path)
        assert len(index) == 2
        reader.execute("ROLLBACK")
        add(index, "c")
        assert not is_marked(path)
        assert keys(path) == {"a", "b", "c"}
        reader.close()


def test_end_of_a_search_brings_commits_into_the_file(path: Path) -> None:
    """A search of the same object that ends after a commit copies what the commit had to leave in the log."""
    with make(path, "a") as index:
        reader = reader_of(path)
        add(index, "b")
        reader.execute("ROLLBACK")
        index.search("ferry", mode="text")
        assert not is_marked(path)
        assert keys(path) == {"a", "b"}
        reader.close()


def test_copy_that_outlasts_the_lack_says_so(path: Path) -> None:
    """Begun while the file lacked commits, ended when it had them: older pages, and an end that does not fit them. The
    file itself is whole, also when a later commit has taken that end back."""
    copy = path.with_name("copy.db")
    with make(path, "a") as index:
        reader = reader_of(path)
        add(index, "b")
        begun = path.read_bytes()
        reader.execute("ROLLBACK")
        index.search("ferry", mode="text")  # brings the commit into the file
        assert keys(path) == {"a", "b"}
        ended = path.stat().st_size
        pages = len(begun) // 512 * 512
        assert pages < ended < pages + 512
        copy.write_bytes(begun[:pages] + bytes(ended - pages))
        add(index, "c")
        assert path.stat().st_size % 512 == 0
        assert keys(path) == {"a", "b", "c"}
        reader.close()
    with pytest.raises(IndexDamagedError, match="was copied while they were written"):
        Index.open(copy, read_only=True)
    assert not verify_index(copy).whole
    assert accept_lost_log(copy)
    assert keys(copy) == {"a"}


def test_copy_without_its_log_says_so(path: Path) -> None:
    """Opening for reading and for writing, and verify; `accept_lost_log` takes what is there."""
    copy = path.with_name("copy.db")
    with make(path, "a") as index:
        reader = reader_of(path)
        add(index, "b")
        shutil.copyfile(path, copy)
        reader.close()
    for read_only in (True, False):
        with pytest.raises(IndexDamagedError, match=r"lacks its last commits.*edge-embed repair"):
            Index.open(copy, read_only=read_only)
    report = verify_index(copy)
    assert not report.whole
    assert report.documents == 1
    assert "lacks its last commits" in report.problems[0]
    assert accept_lost_log(copy)
    assert not accept_lost_log(copy)
    assert keys(copy) == {"a"}


@pytest.mark.parametrize("log", [b"", b"\x37\x7f\x06\x82" + bytes(5000)], ids=["empty", "nothing in it"])
def test_log_without_commits_is_none(path: Path, log: bytes) -> None:
    """A log that SQLite would find empty does not hide that commits are missing."""
    copy = path.with_name("copy.db")
    with make(path, "a") as index:
        reader = reader_of(path)
        add(index, "b")
        shutil.copyfile(path, copy)
        reader.close()
    log_files(copy)[0].write_bytes(log)
    with pytest.raises(IndexDamagedError, match="lacks its last commits"):
        Index.open(copy)


def test_whole_after_a_kill(path: Path) -> None:
    """The file and its log together are the index, also where a reader kept them apart; opening unites them."""
    folder = path.parent / "killed"
    folder.mkdir()
    with make(path, "a") as index:
        reader = reader_of(path)
        add(index, "b")
        add(index, "c")
        for file in (path, log_files(path)[0]):
            shutil.copyfile(file, folder / file.name)
        reader.close()
    killed = folder / path.name
    assert verify_index(killed).whole
    Index.open(killed).close()
    assert keys(killed) == {"a", "b", "c"}


def test_log_of_another_index_is_refused(path: Path) -> None:
    """It would be read into the file: nothing is opened, and the file is as it was."""
    other = path.with_name("other.db")
    make(other, "x", "y").close()
    with make(path, "a") as index:
        add(index, "b")
        shutil.copyfile(log_files(path)[0], log_files(other)[0])
    before = other.read_bytes()
    for read_only in (True, False):
        with pytest.raises(IndexDamagedError, match="belongs to another file"):
            Index.open(other, read_only=read_only)
    report = verify_index(other)
    assert (report.documents, len(report.problems)) == (2, 1)
    assert "belongs to another file" in report.problems[0]
    assert other.read_bytes() == before
    log_files(other)[0].unlink()
    log_files(other)[1].unlink(missing_ok=True)
    assert keys(other) == {"x", "y"}


def test_older_copy_under_a_newer_log_is_refused(path: Path) -> None:
    """A restore that forgets the log."""
    old = path.with_name("old.db")
    with make(path, "a") as index:
        shutil.copyfile(path, old)
        add(index, "b")
        add(index, "c")
        shutil.copyfile(log_files(path)[0], log_files(old)[0])
    with pytest.raises(IndexDamagedError, match="belongs to another file"):
        Index.open(old)


@pytest.mark.parametrize("upgrade", [True, False])
def test_index_of_an_older_release(path: Path, upgrade: bool) -> None:
    """It has no row that says where it stands: it opens, with its log too, and has one from the first commit on."""
    make(path, "a").close()
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM meta WHERE key = 'log'")
    db.close()
    with Index.open(path) as index:
        reader = reader_of(path)
        if upgrade:
            add(index, "b")
        else:
            db = sqlite3.connect(path)
            db.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")
            db.commit()
            db.close()
        folder = path.parent / "killed"
        folder.mkdir()
        for file in (path, log_files(path)[0]):
            shutil.copyfile(file, folder / file.name)
        reader.close()
    assert verify_index(folder / path.name).whole
    with Index.open(folder / path.name) as index:
        assert len(index) == 1 + upgrade


def test_position_reads_what_it_wrote() -> None:
    """And nothing else."""
    first = Position("0" * 16, 0, "-").following(all_copied=True)
    second = first.following(all_copied=False)
    third = second.following(all_copied=True)
    for position in (first, second, third):
        assert Position.from_text(position.to_text()) == position
        assert Position.from_text(position.to_text() + "1") is None
    assert Position.from_text(None) is None
    assert second.lies_on(first)
    assert third.lies_on(second)
    assert not third.lies_on(first)
    assert not first.lies_on(second)


@pytest.mark.parametrize("how", ["moved", "deleted", "replaced", "folder"])
def test_writes_notice_what_became_of_the_file(tmp_path: Path, how: str) -> None:
    """Every writing call raises before it stores anything; searches go on."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "notes.db"
    other = tmp_path / "other.db"
    make(other, "other").close()
    index = make(path, "a")
    if how == "moved":
        path.rename(tmp_path / "moved.db")
    elif how == "deleted":
        path.unlink()
    elif how == "replaced":
        other.replace(path)
    else:
        shutil.rmtree(folder)
    calls = (
        lambda: add(index, "b"),
        lambda: index.upsert_vectors(documents("a"), vectors(1, 3)),
        lambda: index.delete("a"),
        index.compact,
        index.rebuild,
        index.repair,
    )
    for call in calls:
        with pytest.raises(IndexFileError, match="was replaced" if how == "replaced" else "was moved or deleted"):
            call()
    assert [hit.key for hit in index.search("ferry", mode="text")] == ["a"]
    if how == "replaced":
        index.close()
        with Index.open(path) as found:
            assert "other" in found
            assert len(found) == 1
        return
    with pytest.raises(IndexFileError, match="no longer there"):
        index.stats()
    index.close()
    if how == "moved":
        assert keys(tmp_path / "moved.db") == {"a"}


def test_move_in_the_middle_of_a_write(path: Path) -> None:
    """What is moved between the first look and the commit gets nothing."""
    moved = path.with_name("moved.db")
    make(path, "a").close()
    store = Store(path, read_only=False)
    with pytest.raises(IndexFileError, match="nothing was stored"), store.transaction(deletes=False):
        path.rename(moved)
    store.close()
    assert keys(moved) == {"a"}


def test_documents_of_another_time_are_noticed(path: Path) -> None:
    """A document that is gone from every table, as in a copy of pages of several times; `repair` takes the rest."""
    with make(path, "a", "b", "c") as index:
        index.delete("a")
        index.upsert_vectors(documents("b", "d"), vectors(2, 5))
        assert verify_index(path).whole
        index.delete("b")
    with sqlite3.connect(path) as db:
        (text,) = db.execute("SELECT value FROM meta WHERE key = 'content'").fetchone()
        (generation,) = db.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()
        content = Content.from_text(text)
        assert content is not None
        assert (content.generation, content.documents) == (int(generation), 2)
        other = content.changed(1, 12345)
        db.execute("UPDATE meta SET value = ? WHERE key = 'content'", (other.to_text(),))
    db.close()
    assert "2 documents are not those of the last commit, which left 3" in verify_index(path).problems[0]
    with Index.open(path) as index:
        assert index.repair().rebuilt == ["count of documents"]
    assert verify_index(path).whole


def test_compact_tells_a_copy_without_the_log(path: Path) -> None:
    """Compacting writes every page anew: while a reader keeps them in the log, the file says that it is not all."""
    copy = path.with_name("copy.db")
    make(path, *(f"n{i}" for i in range(50))).close()
    with Index.open(path) as index:
        index.delete([f"n{i}" for i in range(40)])
        reader = reader_of(path)
        assert index.compact().pending
        shutil.copyfile(path, copy)
        reader.close()
    with pytest.raises(IndexDamagedError, match="lacks its last commits"):
        Index.open(copy)
    assert not compact_index(path).pending
    assert len(keys(path)) == 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 warns of fork with threads
def test_open_again_after_a_fork(path: Path) -> None:
    """A child that opens the index itself sees what others commit, also after its parent closed it."""
    index = make(path, "a")
    index.search("ferry", mode="text")
    there, go, seen = os.pipe(), os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            own = Index.open(path, read_only=True)
            first = len(own)
            os.write(there[1], b"1")
            os.read(go[0], 1)
            found = {hit.key for hit in own.search("ferry", 100, mode="text")}
            os.write(seen[1], f"{first} {len(own)} {len(found)}".encode())
            status = 0
        finally:
            os._exit(status)
    os.close(there[1])
    os.close(seen[1])
    assert os.read(there[0], 1) == b"1"
    index.close()
    with Index.open(path) as writer:
        add(writer, *(f"b{i}" for i in range(300)))
        writer.delete("a")
        writer.compact()
    os.write(go[1], b"1")
    assert os.read(seen[0], 100) == b"1 300 100"
    assert os.waitpid(child, 0)[1] == 0
    for descriptor in (there[0], go[0], go[1], seen[0]):
        os.close(descriptor)
    assert verify_index(path).whole


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork_in_the_middle_of_a_write_is_told(path: Path) -> None:
    """A child that was forked inside a transaction cannot use the file, and is told why."""
    make(path, "a").close()
    with Index.open(path) as index, index._connections.writing() as store, store.transaction(deletes=False):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                Index.open(path, read_only=True)
            except IndexFileError as error:
                status = 0 if "forked" in str(error) else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
    assert keys(path) == {"a"}


def test_secure_delete_leaves_no_text(path: Path) -> None:
    """Neither in the file nor in the log, nor its words in the table of words; without the option they stay."""
    secret = "zebrafish quixotic wombat " * 400
    kept = path.with_name("kept.db")
    for file, secure in ((path, True), (kept, False)):
        make(file, "a").close()
        with Index.open(file, secure_delete=secure) as index:
            index.add_vectors([Document("s", secret), Document("t", secret)], vectors(2))
            index.delete("s")
            index.upsert_vectors([Document("t", "nothing")], vectors(1))
            content = b"".join(part.read_bytes() for part in (file, log_files(file)[0]))
            words = [word in content for word in (b"quixotic", b"wombat", b"zebrafish", b"quixot")]
            assert words == [not secure] * 4
    assert keys(path) == {"a"}


def test_leftovers_of_a_killed_create_go(path: Path) -> None:
    """Old ones of this index; neither young ones nor other files."""
    names = {
        f".{path.name}.abcd1234": b"",
        f".{path.name}.abcd1235": b"SQLite format 3\0 and more",
        f".{path.name}.abcd1235-journal": b"anything",
        f".{path.name}.abcd1236": b"a text of somebody else",
        f".{path.name}.abc": b"",
        ".other.db.abcd1234": b"",
    }
    for name, content in names.items():
        (path.parent / name).write_bytes(content)
        os.utime(path.parent / name, (0, 0))
    young = path.parent / f".{path.name}.abcd1237"
    young.write_bytes(b"")
    (path.parent / f".{path.name}.abcd1238").symlink_to(young)
    make(path, "a").close()
    left = {file.name for file in path.parent.iterdir() if file.name.startswith(".")}
    expected = {f".{path.name}.abcd1236", f".{path.name}.abc", ".other.db.abcd1234", young.name}
    assert left == {*expected, f".{path.name}.abcd1238"}
