"""A damaged table of words: every call works or says so, verify tells, and repair makes it again."""

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge_embed import Document, Embedder, Index
from edge_embed.errors import IndexDamagedError
from edge_embed_runtime.maintenance.verify import verify_index
from edge_embed_runtime.storage.damagedwords import check_pages
from edge_embed_runtime.storage.words import reading_words

WORDS = [
    "harbour",
    "ferry",
    "island",
    "cat",
    "window",
    "river",
    "bank",
    "money",
    "tree",
    "lake",
    "stone",
    "bread",
    "winter",
    "summer",
]
LONG = 24  # mutations of the pages; the whole set has been run by hand in the thousands

Change = Callable[[sqlite3.Connection], object]


@pytest.fixture(scope="module")
def static() -> Embedder:
    return Embedder("static", threads=1)


@pytest.fixture(scope="module")
def start(static: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents in several segments of FTS5, some deleted."""
    path, rng = tmp_path_factory.mktemp("words") / "start.db", random.Random("words")  # noqa: S311 - test data
    with Index.open(path, static) as index:
        for part in range(3):
            texts = [" ".join(rng.choices(WORDS, k=rng.choice([5, 40, 150]))) for _ in range(20)]
            index.add([Document(f"k{part}.{i}", f"{text} u{part}x{i}") for i, text in enumerate(texts)])
        index.delete(["k0.1", "k1.3"])
    return path


def damaged(start: Path, path: Path, change: Change) -> Path:
    shutil.copy(start, path)
    with closing(sqlite3.connect(path)) as db:
        change(db)
        db.commit()
    return path


def check_and_repair(path: Path, static: Embedder) -> list[str]:
    """Every call gives a result or IndexDamagedError; the words are as before after a repair. Gives what was said."""
    said = verify_index(path).problems
    with Index.open(path, static) as index:
        count = len(index)
        calls: list[Callable[[], Any]] = [
            lambda: index.search("ferry bank", mode="text"),
            lambda: index.search("u1x4", mode="text"),
            lambda: index.search("ferry"),
            lambda: index.upsert([Document("k1.1", "another ferry")]),
            lambda: index.delete("k2.7"),
            lambda: index.add([Document("new", "a new ferry")]),
            lambda: index.delete("new"),
            index.compact,
        ]
        for call in calls:
            try:
                call()
            except IndexDamagedError as error:
                said.append(str(error))
        assert len(index.search("ferry", k=100, mode="vector")) == len(index)
        assert index.repair().whole
        assert len(index) in (count, count - 1, count + 1)
        index.upsert([Document("extra", "zinc")])
        assert [hit.key for hit in index.search("zinc", mode="text")] == ["extra"]
        assert [hit.key for hit in index.search("u1x4", mode="text")] == ["k1.4"]
    assert verify_index(path).whole
    return said


def set_block(db: sqlite3.Connection, number: int, change: Callable[[bytearray], object]) -> None:
    """Change one of the pages of FTS5, counted from 0."""
    rows = db.execute("SELECT id, block FROM fts_data ORDER BY id").fetchall()
    id_, block = rows[number % len(rows)]
    content = bytearray(block)
    change(content)
    db.execute("UPDATE fts_data SET block = ? WHERE id = ?", (bytes(content), id_))


CHANGES: dict[str, Change] = {
    "no format": lambda db: db.execute("UPDATE fts_config SET v = 0"),
    "a format of text": lambda db: db.execute("UPDATE fts_config SET v = 'x'"),
    "no structure": lambda db: db.execute("DELETE FROM fts_data WHERE id = 10"),
    "a structure of a number": lambda db: db.execute("UPDATE fts_data SET block = 7 WHERE id = 10"),
    "no averages": lambda db: db.execute("DELETE FROM fts_data WHERE id = 1"),
    "averages of ones": lambda db: db.execute("UPDATE fts_data SET block = ? WHERE id = 1", (b"\xff" * 9,)),
    "negative averages": lambda db: db.execute("UPDATE fts_data SET block = ? WHERE id = 1", (b"\xff" * 18,)),
    "lengths of ones": lambda db: db.execute("UPDATE fts_docsize SET sz = ?", (b"\xff" * 9,)),
    "no lengths": lambda db: db.execute("DELETE FROM fts_docsize"),
    "an index to nowhere": lambda db: db.execute("UPDATE fts_idx SET pgno = 99999"),
    "no pages": lambda db: db.execute("DELETE FROM fts_data WHERE id > 10"),
    "a page of zeros": lambda db: set_block(db, 2, lambda b: b.__setitem__(slice(4, None), bytes(len(b) - 4))),
    "a page of ones": lambda db: set_block(db, 2, lambda b: b.__setitem__(slice(4, None), b"\xff" * (len(b) - 4))),
    "a page cut off": lambda db: set_block(db, 3, lambda b: b.__delitem__(slice(30, None))),
}


@pytest.mark.parametrize("name", CHANGES)
def test_damage_of_each_kind_is_told_and_repaired(name: str, start: Path, static: Embedder, tmp_path: Path) -> None:
    """Configuration, structure, averages, lengths, look-up and pages."""
    said = check_and_repair(damaged(start, tmp_path / "x.db", CHANGES[name]), static)
    assert said
    assert any("words" in text for text in said)


@pytest.mark.parametrize("seed", range(LONG))
def test_bytes_of_a_page_that_are_damaged(seed: int, start: Path, static: Embedder, tmp_path: Path) -> None:
    """Set to 0, 127, 128, 255 or anything, alone or eight in a row: never another error, never a crash."""
    rng = random.Random(f"pages {seed}")  # noqa: S311 - test data

    def change(block: bytearray) -> None:
        for _ in range(rng.choice([1, 2, 8])):
            block[rng.randrange(len(block))] = rng.choice([0, 127, 128, 255, rng.randrange(256)])
        if seed % 3 == 0:
            place = rng.randrange(len(block))
            block[place : place + 8] = b"\xff" * 8

    check_and_repair(damaged(start, tmp_path / "x.db", lambda db: set_block(db, rng.randrange(50), change)), static)


def test_an_error_says_what_still_works(start: Path, static: Embedder, tmp_path: Path) -> None:
    """And what to do; nothing of the call was stored."""
    path = damaged(start, tmp_path / "x.db", CHANGES["no format"])
    with Index.open(path, static) as index:
        for call in (lambda: index.search("ferry", mode="text"), lambda: index.delete("k0.2")):
            with pytest.raises(IndexDamagedError, match=r"table of words is damaged.*other searches work.*repair"):
                call()
        assert "k0.2" in index


def test_memory_that_is_short_may_be_no_damage() -> None:
    """SQLite gives one code for both, so the message says both."""
    with (
        pytest.raises(IndexDamagedError, match=r"more memory than there is.*verify tells"),
        reading_words(Path("x.db")),
    ):
        raise MemoryError


def test_a_crash_of_the_check_is_a_finding(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check runs in another process; a whole table passes there, and without such a process as well."""
    from edge_embed_runtime.storage import damagedwords

    path = Path(shutil.copy(start, tmp_path / "x.db"))
    assert check_pages(path) is None
    monkeypatch.setattr(damagedwords, "CHECK", "import os; os.abort()")
    assert check_pages(path) == "SQLite crashes in its check"
    monkeypatch.setattr(damagedwords, "CHECK", "raise SystemExit(3)")
    assert check_pages(path) is None
    monkeypatch.setattr(damagedwords.sys, "executable", "")
    assert check_pages(path) is None
    damaged(start, path, CHANGES["no structure"])
    assert check_pages(path)
