"""The first reading of all parts of a merge: that every document is whole, and which part each key is taken from.

What has to be remembered lies in a temporary database of SQLite's, which no killed process leaves behind: memory stays
bounded.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from edge_embed_runtime.checks import listed, unusable
from edge_embed_runtime.errors import DuplicateKeyError
from edge_embed_runtime.maintenance.mergeparts import IndexPart, Whole
from edge_embed_runtime.maintenance.workspace import temporary_folder
from edge_embed_runtime.storage.database import translated
from edge_embed_runtime.vectors.types import Ids

OnDuplicate = Literal["error", "first", "last"]

# Numbers that stand for no part: the index that is there already, and a document that was taken from its part.
THERE, TAKEN = -1, -2
CACHE_KIB = 16_384
SHOWN = 5
TABLES = (
    # old: the id of the document that the index has under this key; twice: whether its part has several
    "CREATE TABLE known (key TEXT PRIMARY KEY, part INTEGER NOT NULL, digest BLOB NOT NULL, old INTEGER,"
    " twice INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    # files of documents that were left out for others with their keys
    "CREATE TABLE unsure (file TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
)


def check_choice(on_duplicate: object) -> OnDuplicate:
    for choice in get_args(OnDuplicate):
        if on_duplicate == choice:
            return choice  # type: ignore[no-any-return]
    raise unusable("on_duplicate", on_duplicate, f"one of {', '.join(get_args(OnDuplicate))}")


@dataclass
class Counts:
    """Documents that the parts have: to be stored; unchanged, because another part or the index has the same; and
    skipped, because another with the same key is taken. replaced: those of the index that others take the place of."""

    stored: int = 0
    unchanged: int = 0
    skipped: int = 0
    replaced: int = 0


@dataclass
class Survey:
    """Which part each key is taken from.

    old:    the index that is there already, None for a new one
    paths:  of the parts, for messages
    """

    db: sqlite3.Connection
    paths: Sequence[Path]
    old: IndexPart | None
    on_duplicate: OnDuplicate
    counts: Counts = field(default_factory=Counts)
    twice: int = 0
    examples: list[tuple[str, int, int]] = field(default_factory=list)

    @staticmethod
    @contextmanager
    def begun(paths: Sequence[Path], old: IndexPart | None, on_duplicate: OnDuplicate) -> Iterator["Survey"]:
        lost = translated(temporary_folder(), writing=True)
        with lost, closing(sqlite3.connect("", isolation_level=None)) as db:
            for pragma in ("synchronous = OFF", "journal_mode = OFF", f"cache_size = -{CACHE_KIB}"):
                db.execute(f"PRAGMA {pragma}")
            for statement in TABLES:
                db.execute(statement)
            yield Survey(db, paths, old, on_duplicate)

    def see(self, part: int, documents: Sequence[Whole]) -> None:
        """The next documents of a part, some at a time."""
        there = self._there([one.record.key for one in documents])
        self.db.execute("BEGIN")
        for one in documents:
            self._see(part, one, there.get(one.record.key))
        self.db.execute("COMMIT")

    def _there(self, keys: Sequence[str]) -> dict[str, tuple[int, bytes]]:
        """Ids and digests of documents that the index has already."""
        if self.old is None:
            return {}
        with translated(self.old.path):
            ids = self.old.store.ids_of(keys)
            found = {doc: one.digest() for doc, one in self.old.of(ids.values())}
        return {key: (doc, found[doc]) for key, doc in ids.items()}

    def _see(self, part: int, whole: Whole, there: tuple[int, bytes] | None) -> None:
        key, digest = whole.record.key, whole.digest()
        row = self.db.execute("SELECT part, digest, old FROM known WHERE key = ?", (key,)).fetchone()
        if row is None and there is not None:
            row = (THERE, there[1], there[0])
        if row is None:
            self._take(key, part, digest, None, twice=False)
            self.counts.stored += 1
            return
        before, known, old = row
        if known == digest:
            self.counts.unchanged += 1
            if before == part:
                self.db.execute("UPDATE known SET twice = 1 WHERE key = ?", (key,))
        elif self.on_duplicate == "error":
            self.twice += 1
            self.examples += [(key, before, part)] * (self.twice <= SHOWN)
        else:
            self._choose(whole, part, digest, before, old)

    def _choose(self, whole: Whole, part: int, digest: bytes, before: int, old: int | None) -> None:
        """Another document with the same key was seen before."""
        self._unsure(whole)
        if self.on_duplicate == "first":
            self.counts.skipped += 1
            return
        self._take(whole.record.key, part, digest, old, twice=before == part)
        if before == THERE:
            self.counts.replaced += 1
            self.counts.stored += 1
        else:
            self.counts.skipped += 1

    def _unsure(self, whole: Whole) -> None:
        """What is known of the file of a document is not known any more."""
        query = (
            "INSERT OR IGNORE INTO unsure SELECT file FROM (SELECT coalesce(json_extract(?1, '$.source_file'),"
            " json_extract(?1, '$.source')) AS file) WHERE typeof(file) = 'text'"
        )
        self.db.execute(query, (whole.record.metadata,))

    def _take(self, key: str, part: int, digest: bytes, old: int | None, *, twice: bool) -> None:
        self.db.execute("INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?, ?)", (key, part, digest, old, twice))

    def check(self) -> None:
        """After all parts. Raises DuplicateKeyError where keys come in several, and that is an error."""
        if not self.twice:
            return
        key, *parts = self.examples[0]
        one, other = (self.old.path if self.old and part == THERE else self.paths[part] for part in parts)
        places = f"twice in {other}" if one == other else f"in {one} and in {other}"
        keys = [key for key, _, _ in self.examples]
        count = "1 key has" if self.twice == 1 else f"{self.twice} keys have"
        raise DuplicateKeyError(
            f"{count} different documents ({listed(keys, SHOWN, quoted=True)}; {key!r} is {places}); nothing was "
            "written. --on-duplicate first or last (on_duplicate=) chooses one",
            path=self.paths[parts[1]],
            keys=keys,
        )

    def takes(self, part: int, whole: Whole) -> bool:
        """Whether a document is to be stored from this part. To be asked once for each."""
        key = whole.record.key
        row = self.db.execute("SELECT part, digest, twice FROM known WHERE key = ?", (key,)).fetchone()
        if row is None or row[0] != part or row[1] != whole.digest():
            return False
        if row[2]:
            self.db.execute("UPDATE known SET part = ? WHERE key = ?", (TAKEN, key))
        return True

    def replaced(self) -> Ids:
        """Ids of the documents of the index that others take the place of."""
        rows = self.db.execute(f"SELECT old FROM known WHERE old IS NOT NULL AND part > {THERE}")
        return np.fromiter((doc for (doc,) in rows), np.int64)

    def is_unsure(self, file: str) -> bool:
        return self.db.execute("SELECT 1 FROM unsure WHERE file = ?", (file,)).fetchone() is not None
