"""Files that are as they were are not read again; what could make that wrong."""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from builders.commands import added, run

from edge_embed import Document, Embedder, Index
from edge_embed.files import documents, known

HOUR = 3600


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that are an hour old."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", "static")
    write("n/ferry.md", "The ferry leaves at nine.")
    write("n/rows.jsonl", '{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n')
    write("n/empty.txt", "\n")
    return tmp_path


def write(name: str, content: str, *, age: float = HOUR) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(content)
    then = time.time() - age
    os.utime(name, (then, then))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that were opened, to be hashed or read."""
    names: list[str] = []
    for module in (known, documents):
        really = module.open_regular

        def open_regular(path: Any, really: Callable[..., Any] = really) -> Any:
            names.append(Path(path).name)
            return really(path)

        monkeypatch.setattr(module, "open_regular", open_regular)
    return names


def keys() -> list[str]:
    with Index.open("a.db", read_only=True) as index:
        return list(index.keys())


def test_the_same_size_and_time_is_not_opened(opened: list[str]) -> None:
    first = added("n")
    assert (first["stored"], first["known"], sorted(set(opened))) == (3, 0, ["empty.txt", "ferry.md", "rows.jsonl"])
    opened.clear()
    again = added("n", "--sync")
    assert (again["known"], again["read"], again["unchanged"], opened) == (3, 0, 3, [])
    assert again["passed_over"] == first["passed_over"] == {"empty": 1}


def test_another_time_is_hashed_and_written_down(opened: list[str]) -> None:
    """Neither read nor embedded; the next time it is not opened."""
    added("n")
    os.utime("n/ferry.md", (1_000_000_000, 1_000_000_000))
    opened.clear()
    assert (added("n")["known"], opened) == (3, ["ferry.md"])
    opened.clear()
    assert (added("n")["known"], opened) == (3, [])


def test_another_content_of_the_same_size_and_time(opened: list[str]) -> None:
    """The time of the change of the file's entry, which nobody can set back, gives it away."""
    added("n")
    before = Path("n/ferry.md").stat()
    Path("n/ferry.md").write_text("The ferry leaves at four.")
    os.utime("n/ferry.md", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (before.st_size, before.st_mtime_ns) == (Path("n/ferry.md").stat().st_size, before.st_mtime_ns)
    assert added("n")["stored"] == 1


def test_a_file_that_was_just_written_is_looked_into_again(opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the steps in which times count it may change and show none of it; that is over after two seconds."""
    write("n/new.md", "Now.", age=0)
    written = Path("n/new.md").stat().st_mtime_ns
    monkeypatch.setattr(time, "time_ns", lambda: written + known.RACY_NANOSECONDS - 1)
    added("n")
    opened.clear()
    assert (added("n")["known"], opened) == (4, ["new.md"])
    with Index.open("a.db", read_only=True) as index:
        assert index.files.records(["n/new.md"])["n/new.md"].mtime == 0
    monkeypatch.setattr(time, "time_ns", lambda: written + known.RACY_NANOSECONDS)
    assert added("n")["known"] == 4
    opened.clear()
    assert (added("n")["known"], opened) == (4, [])


def test_other_options_read_again() -> None:
    write("n/rows.jsonl", '{"id": 1, "text": "one", "body": "a body"}\n')
    added("n/rows.jsonl")
    assert added("n/rows.jsonl", "--text", "body")["stored"] == 1
    assert added("n/rows.jsonl", "--text", "body")["known"] == 1
    assert added("n/rows.jsonl")["stored"] == 1


def test_another_release_reads_again(monkeypatch: pytest.MonkeyPatch) -> None:
    added("n")
    monkeypatch.setattr(known, "READERS", known.READERS + 1)
    again = added("n")
    assert (again["known"], again["read"], again["stored"]) == (0, 3, 0)
    assert added("n")["known"] == 3


CHANGES: dict[str, Callable[[Index], object]] = {
    "deleted": lambda index: index.delete("n/rows.jsonl#2"),
    "replaced": lambda index: index.upsert([Document("n/rows.jsonl#2", "x", {"source": "n/rows.jsonl"})]),
    "replaced by one of no file": lambda index: index.upsert([Document("n/rows.jsonl#2", "x")]),
    "moved": lambda index: index.files.move([("n/rows.jsonl#2", Document("other", "two"))]),
}


@pytest.mark.parametrize("how", CHANGES)
def test_documents_that_others_changed_are_read_again(how: str) -> None:
    """Whoever deletes, replaces or moves a document takes away what is known of its file."""
    added("n")
    with Index.open("a.db", Embedder("static")) as index:
        CHANGES[how](index)
    again = added("n")
    assert (again["known"], again["stored"]) == (2, 1)
    assert set(keys()) >= {"n/ferry.md", "n/rows.jsonl#1", "n/rows.jsonl#2"}


def test_rows_that_were_dropped_without_sync_are_deleted_with_it() -> None:
    """A file that has more documents in the index than in itself is not known."""
    added("n")
    write("n/rows.jsonl", '{"id": 1, "text": "one"}\n', age=HOUR - 1)
    assert added("n")["gone"] == 1
    assert added("n")["gone"] == 1
    assert added("n", "--sync")["deleted"] == 1
    assert added("n", "--sync")["known"] == 3


def test_what_could_not_be_read_whole_is_read_again() -> None:
    write("n/rows.jsonl", '{"id": 1, "text": "one"}\noops\n')
    assert len(added("n", status=1)["problems"]) == len(added("n", status=1)["problems"]) == 1


def test_an_older_index_works_and_gets_the_table() -> None:
    """One without it: it is read, nothing is embedded, and the next time nothing is read."""
    added("n")
    with closing(sqlite3.connect("a.db")) as db:
        for kind, name in (("TRIGGER", "file_deleted"), ("TRIGGER", "file_moved"), ("TABLE", "file")):
            db.execute(f"DROP {kind} {name}")
        db.commit()
    assert run("verify", "a.db").exit_code == 0
    again = added("n")
    assert (again["known"], again["read"], again["stored"]) == (0, 3, 0)
    assert added("n")["known"] == 3


def test_a_changed_table_is_refused() -> None:
    """Half of it, or a trigger that does something else, is not ours."""
    added("n")
    with closing(sqlite3.connect("a.db")) as db:
        db.execute("DROP TRIGGER file_moved")
        db.commit()
    assert "its tables are not ours" in run("info", "a.db").stderr


def test_maintenance_keeps_the_table() -> None:
    """backup, compact, rebuild, repair and reembed carry it along."""
    added("n")
    for command in (["compact"], ["rebuild"], ["repair"], ["verify"], ["reembed", "--bundle", "minilm"]):
        assert run(command[0], "a.db", *command[1:]).exit_code == 0
    assert added("n")["known"] == 3
    run("backup", "a.db", "b.db")
    shutil.move("b.db", "a.db")
    assert added("n")["known"] == 3


def test_another_writer_costs_only_the_record() -> None:
    """Where the lock is taken, what is known now is not written down; nothing fails."""
    added("n")
    os.utime("n/ferry.md", (1_000_000_000, 1_000_000_000))
    with Index.open("a.db", Embedder("static")):
        assert added("n")["known"] == 3
    assert added("n")["known"] == 3


def test_renamed_files_keep_their_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --sync: no embedding, also of rows and of folders; without it both are there."""
    added("n")
    Path("n/ferry.md").rename("n/boat.md")
    Path("n/rows.jsonl").rename("n/table.jsonl")
    with monkeypatch.context() as patched:
        patched.setattr(Index, "upsert", lambda *_: pytest.fail("embedded"))
        done = added("n", "--sync")
    assert (done["moved"], done["stored"], done["deleted"]) == (3, 0, 0)
    assert keys() == ["n/boat.md", "n/table.jsonl#1", "n/table.jsonl#2"]
    with Index.open("a.db", Embedder("static")) as index:
        hits = index.search("When does the ferry leave?", 1)
        assert (hits[0].key, hits[0].metadata) == ("n/boat.md", {"source": "n/boat.md"})
        assert index.verify().whole
    assert added("n", "--sync")["known"] == 3
    Path("n/boat.md").rename("n/ship.md")
    assert added("n")["stored"] == 1
    assert "n/boat.md" in keys()


def test_a_renamed_file_that_comes_back() -> None:
    """What was known of the old name went with its documents."""
    added("n")
    Path("n/ferry.md").rename("n/boat.md")
    added("n", "--sync")
    Path("n/boat.md").rename("n/ferry.md")
    added("n", "--sync")
    assert keys() == ["n/ferry.md", "n/rows.jsonl#1", "n/rows.jsonl#2"]


def test_a_copy_is_no_rename() -> None:
    """The old file is there, or lies where this run does not look."""
    added("n")
    shutil.copy("n/ferry.md", "n/copy.md")
    assert added("n", "--sync")["moved"] == 0
    write("m/other.md", "Another folder.")
    Path("n/copy.md").rename("m/copy.md")
    assert added("m", "--sync")["moved"] == 0
    assert {"m/copy.md", "n/copy.md"} < set(keys())


def test_a_missing_disk_deletes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder inside on which a disk was mounted: its files are gone, and the folder is there, empty."""
    write("n/disk/a.md", "On a disk.")
    mounted = {os.path.realpath("n/disk")}
    really = os.stat

    def stat(path: Any, **options: Any) -> Any:
        found = really(path, **options)
        if str(path) == "n/disk" and mounted:
            return os.stat_result((*found[:2], found.st_dev + 1, *found[3:]))
        return found

    monkeypatch.setattr("edge_embed.files.finding.os.stat", stat)
    monkeypatch.setattr(os.path, "ismount", lambda path: os.path.realpath(path) in mounted)
    added("n")
    shutil.move("n/disk/a.md", "a.md")
    mounted.clear()
    kept = added("n", "--sync", status=1)
    assert (kept["deleted"], "had a disk mounted, and has none now" in kept["problems"][0]["reason"]) == (0, True)
    assert "n/disk/a.md" in keys()
