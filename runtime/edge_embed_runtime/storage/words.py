"""The table of words, `fts`: FTS5 over the passages' texts, without a copy of them."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from heapq import nsmallest
from pathlib import Path
from typing import Any

from edge_embed_runtime.errors import IndexDamagedError
from edge_embed_runtime.inputs.words import folded, normal
from edge_embed_runtime.storage.filters import EVERY, Condition
from edge_embed_runtime.storage.rows import PassageRow, StoredDocument, is_text, is_whole

# Primary result codes that say something of the disk, of other processes or of a memory budget, not of what is stored.
NO_DAMAGE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_TOOBIG,
)
ADVICE = "the other searches work, all documents can be read, and `repair` makes the words again from their texts"


@contextmanager
def reading_words(path: Path) -> Iterator[None]:
    """What FTS5 says or does about damaged pages, as IndexDamagedError."""
    try:
        yield
    except sqlite3.Error as error:
        if (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in NO_DAMAGE:
            raise
        raise IndexDamagedError(f"{path}: the table of words is damaged ({error}); {ADVICE}", path=path) from error
    except MemoryError as error:
        raise IndexDamagedError(
            f"{path}: SQLite asked for more memory than there is. Where memory is not short, the table of words is "
            f"damaged: verify tells; {ADVICE}",
            path=path,
        ) from error
    except (TypeError, OverflowError, UnicodeDecodeError) as error:
        raise IndexDamagedError(f"{path}: the table of words is damaged; {ADVICE}", path=path) from error


class WordTable:
    """That of one connection. The caller holds the transaction.

    form: the Unicode form of its words
    """

    def __init__(self, db: sqlite3.Connection, path: Path, form: str) -> None:
        self._db, self._path, self._form = db, path, form

    def normal(self, text: str) -> str:
        """A text as it goes into the table."""
        return normal(text, self._form)

    def of_passages(self, document: StoredDocument, passages: Iterable[PassageRow]) -> Iterator[tuple[int, str]]:
        """(id, text as in the table) of those passages whose rows are whole: the words of others are not known."""
        whole = (row for row in passages if is_whole(row) and is_text(row))
        return ((row[0], self.normal(document.text[row[2] : row[3]])) for row in whole)

    def insert(self, texts: Iterable[tuple[int, str]]) -> None:
        """Texts of passages by id, in the form of the table."""
        with reading_words(self._path):
            self._db.executemany("INSERT INTO fts (rowid, text) VALUES (?, ?)", texts)

    def remove(self, texts: Iterable[tuple[int, str]]) -> None:
        """Take out passages; their texts must be those that were inserted."""
        with reading_words(self._path):
            self._db.executemany("INSERT INTO fts (fts, rowid, text) VALUES ('delete', ?, ?)", texts)

    def frequencies(self, phrases: Iterable[str]) -> tuple[list[tuple[int, str]], int]:
        """FTS5 phrases that some passage holds, with the number of these, and the number of all passages."""
        query = "SELECT count(*) FROM fts WHERE fts MATCH ?"
        with reading_words(self._path):
            counted = [(self._db.execute(query, (phrase,)).fetchone()[0], phrase) for phrase in phrases]
            (passages,) = self._db.execute("SELECT count(*) FROM fts_docsize").fetchone()
        return [entry for entry in counted if entry[0]], passages

    def any(self) -> bool:
        """Whether there is a passage in the table."""
        with reading_words(self._path):
            return self._db.execute("SELECT 1 FROM fts_docsize LIMIT 1").fetchone() is not None

    def match(self, expression: str, where: Condition | None, count: int) -> Iterator[tuple[int, int, float]]:
        """The first `count` passages that fit an FTS5 expression, (passage id, document id, BM25), best first."""
        if where is None:
            query = """
                SELECT best.id, vec.doc, -best.score FROM
                (SELECT rowid AS id, bm25(fts) AS score FROM fts WHERE fts MATCH ? ORDER BY score, id LIMIT ?) AS best
                LEFT JOIN vec ON vec.id = best.id ORDER BY best.score, best.id
            """
            values: tuple[Any, ...] = (expression, count)
        else:
            query = f"""
                SELECT vec.id, vec.doc, -bm25(fts) AS score FROM fts JOIN vec ON vec.id = fts.rowid
                JOIN doc ON doc.id = vec.doc WHERE fts MATCH ? AND {where[0]} ORDER BY score DESC, vec.id LIMIT ?
            """
            values = (expression, *where[1], count)
        with reading_words(self._path):
            for row in self._db.execute(query, values):
                if not isinstance(row[2], float) or row[2] < 0:  # of lengths that no passage has
                    raise TypeError("a score is no number, or negative")
                yield row

    def holding(self, words: Sequence[str], where: Condition | None, count: int) -> Iterator[tuple[int, int, float]]:
        """`match` for words that are too short for a table of trigrams: every text is read. The score adds n / (n + 1)
        for each word that a passage holds n times."""
        return iter(nsmallest(count, self._holding(words, where or EVERY), key=lambda row: (-row[2], row[0])))

    def _holding(self, words: Sequence[str], where: Condition) -> Iterator[tuple[int, int, float]]:
        wanted = [folded(word) for word in words]
        for doc, text in self._db.execute(f"SELECT id, text FROM doc WHERE {where[0]}", where[1]):
            if not isinstance(text, str) or not any(map(folded(text).__contains__, wanted)):
                continue
            for id_, start, stop in self._db.execute("SELECT id, start, stop FROM vec WHERE doc = ?", (doc,)):
                part = folded(text[start:stop])
                score = sum(n / (n + 1) for n in map(part.count, wanted))
                if score:
                    yield id_, doc, score
