"""The table of words as maintenance sees it: whether it says what the texts say, and making it again from them."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_embed_runtime.maintenance.scan import grouped
from edge_embed_runtime.storage.damagedwords import RAISED, SHADOWS, check_pages, empty_table
from edge_embed_runtime.storage.rows import checked
from edge_embed_runtime.storage.schema import ddl
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.storage.words import NO_DAMAGE


class WordsCheck:
    """Whether the table of words says what the texts say, found out in a temporary database.

    FTS5 can check itself only where it may write, and a contentless table knows nothing of the texts.
    """

    def __init__(self, folder: Path | None, statement: str) -> None:
        self._path = None if folder is None else folder / "words.db"
        self.known: set[int] = set()
        self._db = self._open()
        for name in ("fts", "expected"):
            self._db.execute(statement.replace("TABLE fts ", f"TABLE {name} "))
        self._db.execute("BEGIN")

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path or ":memory:", isolation_level=None)
        db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        return db

    def close(self) -> None:
        self._db.close()

    def expect(self, words: Iterable[tuple[int, str]]) -> None:
        """The words of a document's passages, as `WordTable.of_passages` gives them, are expected."""
        self._db.executemany("INSERT INTO expected (rowid, text) VALUES (?, ?)", words)

    def compare(self, source: sqlite3.Connection) -> list[str]:
        """What is wrong with the table of words of an index whose passages were all given to `expect`."""
        try:
            return self._compare(source)
        except (sqlite3.Error, *RAISED) as error:
            if (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in NO_DAMAGE:
                raise
            return [f"the table of words cannot be read: {error or 'out of memory'}"]

    def _compare(self, source: sqlite3.Connection) -> list[str]:
        for table in SHADOWS:
            self._db.execute(f"DELETE FROM {table}")
            rows = source.execute(f"SELECT * FROM {table}")
            marks = ", ".join("?" * len(rows.description))
            self._db.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        self._db.execute("COMMIT")
        if self._path is None:  # no room on the disk for a file that another process could check
            with closing(self._db) as before:  # FTS5 keeps in memory what it wrote itself
                self._db = self._open()
                before.backup(self._db)
            self._db.execute("INSERT INTO fts (fts) VALUES ('integrity-check')")
        else:
            self._db.close()
            if problem := check_pages(self._path):
                return [f"the table of words cannot be read: {problem}"]
            self._db = self._open()
        stored, expected = self._sums("fts"), self._sums("expected")
        differing = sum(stored.get(passage) != words for passage, words in expected.items())
        orphans = len(stored.keys() - self.known)
        # only where no row is damaged: the words of those that are damaged are not known
        averages = stored.keys() == expected.keys() and self._averages("fts") != self._averages("expected")
        return [
            *([f"the words of {differing} passages are not those of their texts"] if differing else []),
            *([f"the table of words has {orphans} passages that are not there"] if orphans else []),
            *(["the table of words has wrong lengths of passages"] if averages else []),
            *(["the table of words does not lead to all of its words"] if self._unreached() else []),
        ]

    def _sums(self, table: str) -> dict[int, int]:
        """Passage id -> checksum over its length, its words and their places."""
        sums = {id_: hash(lengths) for id_, lengths in self._db.execute(f"SELECT id, sz FROM {table}_docsize")}
        self._db.execute(f"CREATE VIRTUAL TABLE vocab_{table} USING fts5vocab({table}, instance)")
        for passage, term, place in self._db.execute(f"SELECT doc, term, offset FROM vocab_{table}"):
            sums[passage] = sums.get(passage, 0) ^ hash((term, place))
        return sums

    def _averages(self, table: str) -> bytes:
        """What BM25 takes the mean length from: the record 1 of FTS5, empty or zeros without passages."""
        row = self._db.execute(f"SELECT block FROM {table}_data WHERE id = 1").fetchone()
        return row[0].rstrip(b"\0") if row is not None and isinstance(row[0], bytes) else b""

    def _unreached(self) -> bool:
        """Whether a word that a walk over the table meets is not found when it is looked up."""
        self._db.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(fts, row)")
        query = "SELECT 1 FROM terms AS a LEFT JOIN terms AS b ON b.term = a.term WHERE b.doc IS NOT a.doc LIMIT 1"
        return self._db.execute(query).fetchone() is not None


def empty_words(store: Store) -> None:
    """Empty a damaged table of words, so that FTS5 reads nothing of it when it is made again."""
    with store.transaction(deletes=True):
        empty_table(store.connection, ddl(store.facts)[-1])
    store.interrupted = True  # FTS5 has read it
    store.recover()


def rebuild_words(store: Store, lost: list[int], strays: list[int], form: str) -> None:
    """Make the table of words again from whole rows, without the documents and passages that are to go.

    form: one of inputs.words.FORMS
    """
    db = store.connection
    with store.transaction(deletes=True):
        marks = ",".join("?" * len(lost))
        gone = [*strays, *(id_ for (id_,) in db.execute(f"SELECT id FROM vec WHERE doc IN ({marks})", lost))]
        db.executemany("DELETE FROM vec WHERE id = ?", [(id_,) for id_ in strays])
        db.executemany("DELETE FROM vec WHERE doc = ?", [(id_,) for id_ in lost])
        db.executemany("DELETE FROM doc WHERE id = ?", [(id_,) for id_ in lost])
        store.blocks.remove(np.array(gone, np.int64))
        store.recount()
        db.execute("INSERT INTO fts (fts) VALUES ('delete-all')")
        if form != store.facts.normal:
            store.set_facts(replace(store.facts, normal=form))
        for _, row, passages in grouped(db):
            document = None if row is None else checked(row)
            if document is not None:
                texts = store.words.of_passages(document, passages)
                db.executemany("INSERT INTO fts (rowid, text) VALUES (?, ?)", texts)
