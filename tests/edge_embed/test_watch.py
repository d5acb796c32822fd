"""add --watch: a process that follows a folder, seen by what it prints."""

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from builders.colours import picture
from builders.commands import run

from edge_embed import Embedder, Index

# Seconds until a line has to be there, on a machine that does other things, too.
PATIENCE = 60
# Ctrl-C ends it also where it is started by a shell that ignores that for programs behind a `&`.
PROGRAM = (
    "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from edge_embed.cli.main import main\nmain(sys.argv[1:])"
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals")
pytest.importorskip("watchfiles")


class Watch:
    """`edge-embed add a.db PATH... --watch --json` and its lines."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-c", PROGRAM, "add", "a.db", *arguments, "--watch", "--json"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def next(self) -> dict[str, Any]:
        """The next event, without its time."""
        event: dict[str, Any] = json.loads(self._lines.get(timeout=PATIENCE))
        assert "T" in event.pop("time")
        return event

    def until(self, name: str) -> dict[str, Any]:
        """The next event that has this field."""
        while name not in (event := self.next()):
            pass
        return event

    def changes(self, count: int) -> set[tuple[str, str, int, int]]:
        events = [self.next() for _ in range(count)]
        return {(event["change"], event["path"], event["stored"], event["deleted"]) for event in events}

    def stop(self) -> tuple[int, str]:
        """Ctrl-C. Returns the exit status and what went to stderr."""
        self._process.send_signal(signal.SIGINT)
        _, said = self._process.communicate(timeout=PATIENCE)
        return self._process.returncode, said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", "static")
    Path("n/sub").mkdir(parents=True)
    Path("n/ferry.md").write_text("The ferry leaves at nine.")
    Path("n/rows.jsonl").write_text('{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n')
    return tmp_path


def keys() -> list[str]:
    with Index.open("a.db", read_only=True) as index:
        return list(index.keys())


def test_it_follows_changes_and_ends_with_ctrl_c() -> None:
    """New, changed, replaced as editors do, emptied by a row, renamed with its folder, removed; the index may lie in
    the folder, and nothing in it waits for the end."""
    with Watch("n", ".") as watch:
        assert watch.changes(2) == {("added", "n/ferry.md", 1, 0), ("added", "n/rows.jsonl", 2, 0)}
        assert watch.next() == {"watching": ["n", "."], "documents": 3}
        Path("n/sub/bread.md").write_text("Bread with rye.")
        assert watch.changes(1) == {("added", "n/sub/bread.md", 1, 0)}
        assert "n/sub/bread.md" in keys()
        Path("n/.ferry.md.swp").write_text("The ferry leaves at ten.")
        Path("n/.ferry.md.swp").replace("n/ferry.md")
        assert watch.changes(1) == {("changed", "n/ferry.md", 1, 0)}
        Path("n/rows.jsonl").write_text('{"id": 2, "text": "deux"}\n')
        assert watch.changes(1) == {("changed", "n/rows.jsonl", 1, 1)}
        Path("n/sub").rename("n/baking")
        assert watch.changes(2) == {("removed", "n/sub/bread.md", 0, 1), ("added", "n/baking/bread.md", 1, 0)}
        Path("n/ferry.md").unlink()
        assert watch.changes(1) == {("removed", "n/ferry.md", 0, 1)}
        assert watch.stop() == (0, "")
    assert keys() == ["n/baking/bread.md", "n/rows.jsonl#2"]


def test_it_follows_pictures_and_their_captions(colours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caption that comes or goes away concerns its picture; a text that a picture comes to is its caption."""
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", str(colours))
    Path("n/a.png").write_bytes(picture("red"))
    with Watch("n") as watch:
        watch.until("watching")
        Path("n/a.txt").write_text("A barn")
        assert watch.changes(1) == {("changed", "n/a.png", 1, 0)}
        Path("n/metadata.csv").write_text("file_name,text\na.png,in May\n")
        assert watch.changes(1) == {("changed", "n/a.png", 1, 0)}
        with Index.open("a.db", read_only=True) as index:
            assert [document.text for document in index.find({"$key": "n/a.png"})] == ["A barn\nin May"]
        Path("n/noon.txt").write_text("At noon")
        assert watch.changes(1) == {("added", "n/noon.txt", 1, 0)}
        Path("n/noon.png").write_bytes(picture("blue"))
        assert watch.changes(2) == {("added", "n/noon.png", 1, 0), ("removed", "n/noon.txt", 0, 1)}
        Path("n/a.png").unlink()
        assert watch.changes(2) == {("removed", "n/a.png", 0, 1), ("added", "n/a.txt", 1, 0)}
        assert watch.stop() == (0, "")
    assert keys() == ["n/a.txt", "n/ferry.md", "n/noon.png", "n/rows.jsonl#1", "n/rows.jsonl#2"]


def test_a_folder_that_disappears_is_waited_for() -> None:
    """Its documents are kept; when it is back, what has changed meanwhile is stored."""
    with Watch("n") as watch:
        watch.until("watching")
        Path("n").rename("away")
        assert "n is not there: waiting for it" in watch.next()["waiting"]
        assert len(keys()) == 3
        Path("away/ferry.md").unlink()
        Path("away").rename("n")
        assert watch.changes(1) == {("removed", "n/ferry.md", 0, 1)}
        assert watch.next() == {"watching": ["n"], "documents": 2}
        shutil.rmtree("n")
        watch.until("waiting")
        Path("n").mkdir()
        assert "is empty, as where a disk is not mounted" in watch.next()["problem"]["reason"]


def test_changes_wait_for_another_writer() -> None:
    with Watch("n") as watch:
        watch.until("watching")
        with Index.open("a.db", Embedder("static"), timeout=PATIENCE):
            Path("n/bread.md").write_text("Bread with rye.")
            assert "is open for writing in process" in watch.next()["waiting"]
        assert watch.changes(1) == {("added", "n/bread.md", 1, 0)}
        with Index.open("a.db", Embedder("static"), timeout=PATIENCE) as index:  # it is open only while it stores
            index.delete("n/bread.md")


def test_files_that_are_given_and_bad_ones() -> None:
    """A file is followed by itself, also when it is replaced; what cannot be read is said, and watching goes on."""
    with Watch("n/ferry.md", "n/sub") as watch:
        assert watch.until("watching") == {"watching": ["n/ferry.md", "n/sub"], "documents": 1}
        Path("new").write_text("The ferry leaves at ten.")
        Path("new").replace("n/ferry.md")
        assert watch.changes(1) == {("changed", "n/ferry.md", 1, 0)}
        Path("n/sub/bad.md").write_bytes(b"no\x00text")
        assert watch.next()["problem"]["path"] == "n/sub/bad.md"
        Path("n/sub/bad.md").write_text("café")
        assert watch.changes(1) == {("added", "n/sub/bad.md", 1, 0)}


def test_a_changed_gitignore_counts_for_all_files() -> None:
    Path("n/notes.md").write_text("Notes.")
    with Watch("n", "--gitignore") as watch:
        watch.until("watching")
        Path("n/.gitignore").write_text("ferry.md\n")
        assert watch.changes(1) == {("removed", "n/ferry.md", 0, 1)}
        assert watch.until("watching")["documents"] == 3


@pytest.mark.slow
def test_a_burst_of_a_thousand_files() -> None:
    """And all of them removed at once."""
    with Watch("n") as watch:
        watch.until("watching")
        for number in range(1000):
            Path(f"n/sub/{number}.txt").write_text(f"Text {number}.")
        assert watch.changes(1000) == {("added", f"n/sub/{number}.txt", 1, 0) for number in range(1000)}
        shutil.rmtree("n/sub")
        assert watch.changes(1000) == {("removed", f"n/sub/{number}.txt", 0, 1) for number in range(1000)}


def test_lines_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line a change; Ctrl-C is no error."""

    def interrupted(*_: object, **__: object) -> Iterator[set[str]]:
        yield set()
        raise KeyboardInterrupt

    Path("n/bad.md").write_bytes(b"no\x00text")
    monkeypatch.setattr("edge_embed.files.watching._events", interrupted)
    result = run("add", "a.db", "n", "nowhere", "--watch")
    assert result.exit_code == 0
    assert [line.split(" ", 1)[1] for line in result.stdout.splitlines()] == [
        "added n/ferry.md: 1 stored", "added n/rows.jsonl: 2 stored", "watching n: 3 documents in a.db", "stopped"
    ]  # fmt: skip
    assert [line[:34] for line in result.stderr.splitlines()] == [
        "edge-embed: nowhere is not there: ", "edge-embed: n/bad.md holds NUL, as"[:34]
    ]  # fmt: skip


def test_without_watchfiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    assert "pip install 'edge-embed[files]'" in run("add", "a.db", "n", "--watch").stderr
