"""add --sync, killed at lines that are drawn by lot: the next run makes of the index what one whole run makes of it."""

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders.colours import picture
from builders.commands import added
from builders.killing import killed_at

from bench.mixed_folder import PLAIN_TYPES, build, change
from edge_embed import Document, Index
from edge_embed_runtime.maintenance.verify import verify_index
from edge_embed_runtime.storage.filerecords import FileRecord

FILES = 40

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An index, and its folder after changes of each kind: other texts, a dropped row, new, deleted, renamed files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", "static")
    monkeypatch.setattr("edge_embed.files.adding.ADD_BATCH", 5)
    monkeypatch.setattr("edge_embed.files.known.RECORDS", 7)
    monkeypatch.setattr("edge_embed.files.gone.GONE_BATCH", 3)
    made = build(Path("n"), FILES, words=12, types=PLAIN_TYPES)
    added("n")
    shutil.move("a.db", "start.db")
    change(made, 0.2, words=12)
    rows = [path for path in made if path.suffix == ".jsonl"]
    rows[0].write_text("".join(rows[0].read_text().splitlines(keepends=True)[1:]))
    texts = [path for path in made if path.suffix == ".txt"]
    for path in texts[:4]:
        path.unlink()
    for path in (*texts[4:7], rows[1]):
        path.rename(path.with_stem(f"{path.stem}-renamed"))
    Path("n/new.md").write_text("A new file.")
    for path in Path("n").rglob("*.*"):
        os.utime(path, (time.time() - 3600,) * 2)
    yield tmp_path / "start.db"
    assert verify_index("a.db").whole


def state() -> tuple[dict[str, Document | None], dict[str, FileRecord]]:
    with Index.open("a.db", read_only=True) as index:
        documents = {key: index.get(key) for key in list(index.keys())}
        files = {str(document.metadata["source"]) for document in documents.values() if document is not None}
        return documents, index.files.records(files)


@pytest.mark.parametrize("kills", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_killed_anywhere(start: Path, kills: int) -> None:
    shutil.copy(start, "a.db")
    lines = killed_at(None, "add", "a.db", "n", "--sync")
    expected = state()
    assert len(expected[0]) == len(expected[1]) + 2 * 8 - 1  # each of eight tables has three rows, and one two
    pick = random.Random(kills)  # noqa: S311 - drawn again by its seed
    for line in sorted(pick.sample(range(1, lines), kills)):
        for left in Path().glob("a.db*"):
            left.unlink()
        shutil.copy(start, "a.db")
        killed_at(line, "add", "a.db", "n", "--sync")
        done = added("n", "--sync")
        assert (line, state()) == (line, expected)
        assert done["documents"] == len(expected[0])
        again = added("n", "--sync")
        assert (again["known"], again["stored"], again["deleted"]) == (done["files"], 0, 0)


@pytest.mark.parametrize("kills", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_pictures_killed_anywhere(colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int) -> None:
    """With their captions, thumbnails and copies."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", str(colours))
    monkeypatch.setattr("edge_embed.files.adding.ADD_MEDIA", 4)
    Path("n").mkdir()
    for i in range(14):
        Path(f"n/{i}.png").write_bytes(picture("red" if i % 2 else "blue", size=(20 + i // 2, 20)))
        Path(f"n/{i}.txt").write_text(f"Number {i}")
        os.utime(f"n/{i}.png", (time.time() - 3600,) * 2)
    lines = killed_at(None, "add", "a.db", "n", "--sync")
    expected = state()
    assert len(expected[0]) == len(expected[1]) == 14
    pick = random.Random(kills)  # noqa: S311 - drawn again by its seed
    for line in sorted(pick.sample(range(1, lines), kills)):
        for left in Path().glob("a.db*"):
            left.unlink()
        killed_at(line, "add", "a.db", "n", "--sync")
        added("n", "--sync")
        assert (line, state()) == (line, expected)
        with Index.open("a.db", read_only=True) as index:
            assert all(index.thumbnail(key) for key in expected[0])
        assert verify_index("a.db").whole
