"""Tests of the files that an index has beside it: links, folders that cannot be written, full disks."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_embed import Document, Index
from edge_embed.errors import EdgeEmbedError, IndexFileError, IndexReadOnlyError, StorageError
from edge_embed_runtime.index.stats import read_stats
from edge_embed_runtime.maintenance import workspace
from edge_embed_runtime.maintenance.compact import compact_index
from edge_embed_runtime.maintenance.reembed import discard_staging
from edge_embed_runtime.maintenance.staging import create_staging, staging_path
from edge_embed_runtime.maintenance.verify import verify_index
from edge_embed_runtime.storage.database import connect_reader, is_immutable, log_files
from edge_embed_runtime.system import lock as filelock

DIM = 8
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
NOBODY = 65534


def add(index: Index, *names: str) -> None:
    vectors = np.random.default_rng(len(names)).standard_normal((len(names), DIM))
    index.add_vectors([Document(name, f"the ferry {name}") for name in names], vectors)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "notes.db"
    path.parent.mkdir()
    with Index.create(path, space="tests", dim=DIM) as made:
        add(made, "a", "b", "c")
    return path


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
@pytest.mark.parametrize("ending", [".lock", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("dangling", [False, True])
def test_no_file_is_written_through_a_link(path: Path, tmp_path: Path, ending: str, dangling: bool) -> None:
    """Opening refuses it by name; what it points to stays as it is, or away."""
    victim = tmp_path / "victim"
    if not dangling:
        victim.write_text("precious")
    link = path.with_name(path.name + ending)
    link.unlink(missing_ok=True)
    link.symlink_to(victim)
    with pytest.raises(IndexFileError, match=r"is a symbolic link.*remove it"):
        Index.open(path)
    with pytest.raises(IndexFileError, match="is a symbolic link"):
        compact_index(path)
    if ending != ".lock":
        with pytest.raises(IndexFileError, match="is a symbolic link"):
            Index.open(path, read_only=True)
    assert (victim.read_text() if victim.exists() else None) == (None if dangling else "precious")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_fifo_in_the_place_of_the_lock(path: Path) -> None:
    """It is refused instead of waited for."""
    lock = path.with_name(path.name + ".lock")
    lock.unlink()
    os.mkfifo(lock)
    with pytest.raises(IndexFileError, match="not a regular file"):
        Index.open(path)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
@pytest.mark.parametrize("ending", ["", "-wal", "-journal"])
def test_staging_is_not_written_through_a_link(path: Path, tmp_path: Path, ending: str) -> None:
    """The file of `reembed`; discarding removes the link alone."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    link = staging_path(path).with_name(staging_path(path).name + ending)
    link.symlink_to(victim)
    with pytest.raises(EdgeEmbedError):
        create_staging(path, ("a", "b"))
    discard_staging(path)
    assert victim.read_text() == "precious"


def remove_log(path: Path) -> None:
    """What readers leave of a log that has nothing in it."""
    for file in log_files(path):
        file.unlink(missing_ok=True)


@pytest.fixture
def other_user(path: Path, tmp_path: Path) -> Iterator[None]:
    """Somebody who may read everything here and write nothing."""
    if not ROOT:
        pytest.skip("needs to be root, to become another user")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder.stat().st_mode & 0o055 != 0o055:
            folder.chmod(folder.stat().st_mode | 0o055)
    path.chmod(0o644)
    verify_index(path)  # what is imported late is, while this user may
    with Index.open(path, read_only=True) as index:
        index.search("ferry", mode="text")
    remove_log(path)
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    yield
    os.seteuid(0)
    os.setegid(0)


def as_root(call: Any) -> Any:
    """What a call gives to the user who may write."""
    os.seteuid(0)
    os.setegid(0)
    try:
        return call()
    finally:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)


@pytest.mark.usefixtures("other_user")
def test_folder_that_cannot_be_written(path: Path) -> None:
    """An index at rest in it is searched, verified and described; writing is refused with what can be done."""
    assert verify_index(path).whole
    assert read_stats(path)["documents"] == 3
    with Index.open(path, read_only=True) as index:
        assert {hit.key for hit in index.search("ferry", mode="text")} == {"a", "b", "c"}
    with pytest.raises(IndexReadOnlyError, match="read_only=True"):
        Index.open(path)


@pytest.mark.usefixtures("other_user")
def test_reader_without_a_log_follows_a_writer(path: Path) -> None:
    """A reader that cannot share the log sees what others commit: while they have the index open, and after that."""
    with Index.open(path, read_only=True) as index:
        assert is_immutable(index._store.connection)
        assert len(index) == 3
        writer = as_root(lambda: Index.open(path))
        as_root(lambda: add(writer, "d"))
        assert len(index) == 4
        assert not is_immutable(index._store.connection)
        as_root(lambda: writer.delete(["a", "b"]))
        assert {hit.key for hit in index.search("ferry", mode="text")} == {"c", "d"}
        as_root(writer.close)
        assert len(index) == 2
    as_root(lambda: remove_log(path))
    with Index.open(path, read_only=True) as index:
        assert is_immutable(index._store.connection)

        def write() -> None:
            with Index.open(path) as other:
                other.delete("c")

        assert len(index) == 2
        as_root(write)
        assert {hit.key for hit in index.search("ferry", mode="text")} == {"d"}


@pytest.mark.usefixtures("other_user")
def test_file_that_cannot_be_read(path: Path) -> None:
    """The error is the system's word for it."""
    as_root(lambda: path.chmod(0o600))
    for call in (lambda: Index.open(path, read_only=True), lambda: Index.open(path), lambda: verify_index(path)):
        with pytest.raises(IndexFileError, match="Permission denied"):
            call()
    as_root(lambda: path.chmod(0o644))
    as_root(lambda: path.parent.chmod(0o600))
    with pytest.raises(EdgeEmbedError, match="Permission denied"):
        Index.open(path, read_only=True)


@pytest.mark.usefixtures("other_user")
def test_commits_in_a_log_that_cannot_be_shared(path: Path, tmp_path: Path) -> None:
    """Reading past it would miss them: refused."""

    def crash() -> None:
        with Index.open(path) as index:
            reader = sqlite3.connect(path, isolation_level=None)
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM doc").fetchone()
            add(index, "d")
            for file in (path, path.with_name(path.name + "-wal")):
                shutil.copy(file, path.parent / f"x{file.name}")
            reader.close()

    as_root(crash)
    with pytest.raises(IndexReadOnlyError, match="commits lie in its log"):
        Index.open(path.with_name(f"x{path.name}"), read_only=True)


def test_immutable_is_told_from_shared(path: Path) -> None:
    """In a folder that can be written, a reader shares the log."""
    db = connect_reader(path)
    assert not is_immutable(db)
    db.close()


def test_verify_without_room_for_temporary_files(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It remembers in memory what it has to, and finds the same."""
    with Index.open(path) as index:
        add(index, *(f"n{i}" for i in range(300)))
        index.delete(["n1", "n2"])
    with sqlite3.connect(path) as db:
        db.execute("UPDATE fts_docsize SET sz = x'05' WHERE id = 3")
    db.close()
    expected = verify_index(path)
    assert not expected.whole

    monkeypatch.setattr(workspace, "temporary_folder", lambda: path / "none can be made here")
    assert verify_index(path) == expected


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 96 MB that can be filled up."""
    folder, mount = tmp_path / "disk", shutil.which("mount")
    folder.mkdir()
    command = [mount or "", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)  # noqa: S607 - the system's


def fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def test_deletes_on_a_full_disk(small_disk: Path) -> None:
    """The lock keeps what they need; then there is room for others in the file. Reading needs none."""
    path = small_disk / "notes.db"
    with Index.create(path, space="tests", dim=DIM) as index:
        add(index, *(f"n{i}" for i in range(2000)))
    fill(small_disk)
    assert verify_index(path).whole
    with Index.open(path, read_only=True) as index:
        assert index.search("ferry n7", 1, mode="text")[0].key == "n7"
    with Index.open(path) as index:
        assert index.delete("n1") == 1
        assert index.delete([f"n{i}" for i in range(100, 140)]) == 40
        assert len(index) == 1959
    assert verify_index(path).whole
    fill(small_disk)
    assert verify_index(path).documents == 1959


def test_full_disk_without_reserve_says_so(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is stored or deleted, and the error says that the disk is full."""
    monkeypatch.setattr(filelock, "RESERVE_PART", 10**6)
    path = small_disk / "notes.db"
    with Index.create(path, space="tests", dim=DIM) as index:
        add(index, *(f"n{i}" for i in range(200)))
        fill(small_disk)
        with pytest.raises(StorageError, match=r"full.*nothing of this call was stored"):
            add(index, *(f"m{i}" for i in range(20_000)))
        assert len(index) == 200
    assert verify_index(path).whole
