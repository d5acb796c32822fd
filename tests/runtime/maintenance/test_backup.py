"""Tests of backup.py and of the command."""

import json
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edge_embed import Document, Index
from edge_embed.cli.main import main
from edge_embed.errors import IndexFileError, IndexLockedError, InputError, StorageError
from edge_embed_runtime.maintenance import backup as backups
from edge_embed_runtime.maintenance.backup import backup_index
from edge_embed_runtime.maintenance.verify import verify_index
from edge_embed_runtime.storage.database import log_files

DIM = 8
COUNT = 500


def add(index: Index, *names: str) -> None:
    vectors = np.random.default_rng(len(names)).standard_normal((len(names), DIM))
    index.add_vectors([Document(name, f"the ferry {name} " * 9) for name in names], vectors)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.db"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder / "copy.db"


@pytest.fixture
def index(path: Path) -> Any:
    with Index.create(path, space="tests", dim=DIM) as made:
        add(made, *(f"n{i}" for i in range(COUNT)))
        yield made


def test_copy_is_an_index(index: Index, out: Path) -> None:
    """Whole, of this user alone, with what was there, and no other file with it; it can be written to."""
    made = index.backup(out)
    assert (made.path, made.bytes, made.generation) == (out, out.stat().st_size, index.stats()["generation"])
    assert [file.name for file in out.parent.iterdir()] == [out.name]
    if os.name != "nt":
        assert out.stat().st_mode & 0o777 == 0o600
    assert verify_index(out).whole
    with Index.open(out) as copy:
        assert len(copy) == COUNT
        add(copy, "new")
        assert [hit.key for hit in copy.search("ferry n7", 1, mode="text")] == ["n7"]
    assert len(index) == COUNT


def test_compact_copy(index: Index, out: Path) -> None:
    """Smaller, without the words of what was deleted; the index itself stays as it is."""
    index.delete([f"n{i}" for i in range(COUNT - 10)])
    before = index.path.read_bytes()
    plain, small = index.backup(out), index.backup(out.with_name("small.db"), compact=True)
    assert small.bytes < plain.bytes / 2
    assert verify_index(small.path).whole
    with Index.open(small.path, read_only=True) as copy:
        assert len(copy) == 10
    assert index.path.read_bytes() == before
    assert sorted(file.name for file in out.parent.iterdir() if "-" not in file.name) == ["copy.db", "small.db"]


def test_log_of_the_index_is_none_of_the_copy(index: Index, out: Path) -> None:
    """A log that is put next to a copy is noticed, though the copy and its index began as the same."""
    index.backup(out)
    add(index, "new")
    shutil.copyfile(log_files(index.path)[0], log_files(out)[0])
    with pytest.raises(IndexFileError, match="belongs to another file"):
        Index.open(out)


def test_copy_while_another_writes(index: Index, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits during the copy neither begin it again nor come into it in part."""
    monkeypatch.setattr(backups, "STEP", 1)
    commits = 0
    copying = backups._copy

    class Beside:
        """A connection that commits something after each step of the copy."""

        def __init__(self, db: sqlite3.Connection) -> None:
            self.execute = db.execute
            self._db = db

        def backup(self, copy: sqlite3.Connection, *, pages: int, progress: Any) -> None:
            def step(*numbers: int) -> None:
                nonlocal commits
                if commits < 20:
                    add(index, f"during{commits}")
                    commits += 1
                progress(*numbers)

            self._db.backup(copy, pages=pages, progress=step)

    class Source:
        def __init__(self, store: Any) -> None:
            self.connection = Beside(store.connection)

    monkeypatch.setattr(backups, "_copy", lambda store, *rest: copying(Source(store), *rest))  # type: ignore[arg-type]
    index.backup(out)
    assert commits > 10
    assert verify_index(out).whole
    with Index.open(out, read_only=True) as copy:
        assert len(copy) == COUNT
    assert len(index) == COUNT + commits


def test_what_is_there_is_kept(index: Index, out: Path) -> None:
    """Unless it is to be replaced; never the index itself, a link, a folder, or an index that is open for writing."""
    out.write_text("precious")
    with pytest.raises(InputError, match="is there already"):
        index.backup(out)
    link, folder = out.with_name("link.db"), out.with_name("folder")
    folder.mkdir()
    link.symlink_to(out)
    for target, why in ((link, "symbolic link"), (folder, "no file"), (index.path, "the index itself")):
        with pytest.raises(InputError, match=why):
            index.backup(target, overwrite=True)
    with pytest.raises(InputError, match="does not exist"):
        index.backup(out.parent / "none" / "x.db")
    assert out.read_text() == "precious"
    other = out.with_name("other.db")
    with Index.create(other, space="tests", dim=DIM) as made:
        add(made, "other")
        with pytest.raises(IndexLockedError):
            index.backup(other, overwrite=True)
        assert len(made) == 1
    index.backup(out, overwrite=True)
    index.backup(other, overwrite=True)
    for copy in (out, other):
        with Index.open(copy, read_only=True) as opened:
            assert len(opened) == COUNT


def test_too_little_room_or_a_failing_disk(index: Index, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One error, and nothing is left where the copy was to be."""
    usage = shutil.disk_usage(out.parent)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(StorageError, match="needs"):
            index.backup(out)

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StorageError, match="the index was not touched"):
            index.backup(out)
    assert list(out.parent.iterdir()) == []


def test_command(index: Index, out: Path) -> None:
    """Beside the process that has the index open for writing; --force replaces, --compact compacts."""
    index.delete([f"n{i}" for i in range(COUNT - 10)])

    def run(*options: str) -> Any:
        return CliRunner().invoke(main, ["backup", str(index.path), str(out), *options])

    assert run().exit_code == 0
    first = out.stat().st_size
    again = run()
    assert again.exit_code == 1
    assert "--force" in again.output
    done = run("--force", "--compact", "--json")
    generation = index.stats()["generation"]
    assert json.loads(done.output) == {"path": str(out), "bytes": out.stat().st_size, "generation": generation}
    assert out.stat().st_size < first / 2
    assert verify_index(out).documents == 10


def test_backup_of_a_file_without_its_embedder(index: Index, out: Path, tmp_path: Path) -> None:
    """The function takes a path; where none is, it says so."""
    assert backup_index(index.path, str(out)).path == out
    with pytest.raises(IndexFileError, match="does not exist"):
        backup_index(tmp_path / "none.db", out)
