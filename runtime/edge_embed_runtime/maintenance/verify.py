"""Verify: read every row of an index and say what is wrong."""

import os
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_embed_runtime.errors import IndexDamagedError, IndexLockedError, StorageError
from edge_embed_runtime.maintenance.findings import Damage, Findings
from edge_embed_runtime.maintenance.media import check_media
from edge_embed_runtime.maintenance.scan import Row, document_row, grouped, shown_key
from edge_embed_runtime.maintenance.words import WordsCheck
from edge_embed_runtime.maintenance.workspace import own_folder
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.storage.database import locate
from edge_embed_runtime.storage.root import read_root
from edge_embed_runtime.storage.rows import MEDIA_STARTS, NO_VECTOR, StoredDocument, checked, is_whole
from edge_embed_runtime.storage.schema import UNKNOWN, Facts, ddl
from edge_embed_runtime.storage.sidetables import Attached
from edge_embed_runtime.storage.store import Store


@dataclass(frozen=True)
class Report:
    """What `verify` found: documents and passages read, damaged documents, and what is wrong with the file itself."""

    documents: int
    passages: int
    damaged: list[Damage]
    problems: list[str]

    @property
    def whole(self) -> bool:
        return not self.damaged and not self.problems


def verify_index(path: str | os.PathLike[str], *, show_progress: bool = False) -> Report:
    """Read every row of an index and say what is wrong; no embedder is needed, and a writer may go on meanwhile.

    Raises IndexFileError when the file is missing, IndexFormatError or IndexDamagedError when it cannot be opened as
    an index at all.
    """
    problems: list[str] = []
    with closing(Store(locate(path, must_exist=True), read_only=True, problems=problems)) as store:
        found = find_damage(store, show_progress)
        if store.changed:
            raise IndexLockedError(
                f"{store.path} was written while it was read; try again", path=store.path, code="index_busy"
            )
    every = {**found.places, **found.thumbnails, **found.broken, **found.lost}
    damaged = [damage for _, damage in sorted(every.items())]
    return Report(found.documents, found.passages, damaged, problems + found.problems())


@contextmanager
def _noted(problems: list[str], what: str) -> Iterator[None]:
    """SQLite's complaints about what it reads, as a problem; any other error, such as a failing disk, is raised."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise
        problems.append(f"{what}: {error}")


def find_damage(store: Store, show_progress: bool) -> Findings:
    """Everything that is wrong in one committed state.

    What has to be remembered goes into a temporary file; where there is no room for one, into memory.
    """
    try:
        with own_folder() as folder:
            return _find(store, folder, show_progress)
    except (OSError, StorageError):
        return _find(store, None, show_progress)


def _find(store: Store, folder: Path | None, show_progress: bool) -> Findings:
    """folder: for temporary files; None: there is no room for them."""
    found = Findings()
    with store.snapshot():
        facts = None
        try:
            facts = store.facts
            store.counters()
            read_root(store)
        except IndexDamagedError as error:
            found.facts.append(str(error))
        db, words = store.connection, WordsCheck(folder, ddl(facts or UNKNOWN)[-1])
        try:
            with _noted(found.unreadable, "rows cannot be read"):
                _check_rows(store, facts, found, words, show_progress)
            with _noted(found.unreadable, "other rows cannot be read"):
                if not found.unreadable and facts is not None:
                    for table in store.attached.values():
                        _check_attached(db, table, found)
                if not found.unreadable:
                    _check_places(store, found)
                    if store.media is not None:
                        check_media(store, store.media, found)
                if not (found.unreadable or found.lost or found.strays or facts is None):
                    _check_content(store, found)
            with _noted(found.tables, "SQLite's check"):
                wrong = (row[0] for row in db.execute("PRAGMA integrity_check(20)") if row[0] != "ok")
                found.tables += [f"SQLite's check: {what}" for what in wrong]
            if not found.unreadable and facts is not None:
                found.words += words.compare(db)
            with _noted(found.unreadable, "binary codes cannot be read"):
                if not found.unreadable and facts is not None:
                    found.blocks += [block for block in store.blocks.numbers() if not store.blocks.fits(block)]
        finally:
            words.close()
    return found


def _check_content(store: Store, found: Findings) -> None:
    """Whether the documents are those that the last commit left."""
    said = store.content()
    _, total = store.counted()
    if said is not None and (said.documents, said.sum) != (found.documents, total):
        found.content.append(
            f"{found.documents} documents are not those of the last commit, which left {said.documents}: a copy made "
            "while others wrote, or damage"
        )


def _check_rows(store: Store, facts: Facts | None, found: Findings, words: WordsCheck, show_progress: bool) -> None:
    db, seen = store.connection, set[Any]()
    sizes = None if facts is None else (facts.dim + 4, *([len(NO_VECTOR)] if store.gaps else []))
    (expected,) = db.execute("SELECT count(*) FROM vec").fetchone()
    with progress_bar(expected, show_progress, "verifying") as advance:
        for doc, row, passages in grouped(db):
            found.passages += len(passages)
            seen.add(doc)
            document = None if row is None else checked(row)
            if row is None:
                found.strays += [passage[0] for passage in passages]
            elif document is None:
                found.lost[doc] = Damage(shown_key(row), "its checksum does not fit")
            else:
                what = _passage_damage(document, passages, sizes)
                if what is not None:
                    found.broken[doc] = Damage(document.key, what)
                if facts is not None:  # they are whole, and say how
                    words.expect(store.words.of_passages(document, passages))
            words.known.update(passage[0] for passage in passages)
            advance(len(passages))
    for (doc,) in db.execute("SELECT id FROM doc NOT INDEXED ORDER BY id"):
        found.documents += 1
        if doc not in seen:
            row = document_row(db, doc)
            if row is not None and checked(row) is not None:
                found.broken[doc] = Damage(row[1], "it has no passages")
            else:
                found.lost[doc] = Damage(shown_key(row or (doc, None)), "its checksum does not fit")
    (documents,) = db.execute("SELECT count(*) FROM doc").fetchone()
    for name, read, counted in (("documents", found.documents, documents), ("passages", found.passages, expected)):
        if read != counted:
            found.tables.append(f"{read} {name} were read, SQLite counts {counted}")


def _check_attached(db: sqlite3.Connection, table: Attached, found: Findings) -> None:
    """Documents whose passages have no row in a table of other vectors, or a damaged one."""
    whole: set[int] = set()
    damaged: set[int] = set()
    for ids, _, bad in table.load(after=-1):
        whole.update(ids)
        damaged.update(bad)
    missing: dict[Any, int] = {}
    for id_, doc in db.execute("SELECT id, doc FROM vec NOT INDEXED WHERE start >= 0"):
        if id_ not in whole:
            missing[doc] = missing.get(doc, 0) + 1
        whole.discard(id_)
        damaged.discard(id_)
    for doc, count in missing.items():
        row = document_row(db, doc)
        if row is not None and doc not in found.lost:
            found.broken.setdefault(doc, Damage(shown_key(row), f"{count} of its {table.title} are missing or damaged"))
    if whole or damaged:
        found.orphans.append((table.name, f"{len(whole) + len(damaged)} {table.title} belong to no passage"))


def _check_places(store: Store, found: Findings) -> None:
    """Documents whose places are damaged or do not fit their text, and places of no document."""
    for doc, places in store.places.all() if store.places is not None else ():
        row = document_row(store.connection, doc)
        document = None if row is None else checked(row)
        if document is None:
            found.stray_places += row is None
        elif places is None or any(not 0 <= start <= len(document.text) for start, _ in places):
            found.places[doc] = Damage(document.key, "its places are damaged")


def _passage_damage(document: StoredDocument, passages: list[Row], sizes: Collection[int] | None) -> str | None:
    """What is wrong with a document's passages, or None. sizes: bytes that a code may have"""
    text = document.text
    bad = sum(
        not is_whole(row)
        or not (0 <= row[2] < row[3] <= len(text) or _is_nowhere(row, text))
        or (sizes is not None and len(row[4]) not in sizes)
        for row in passages
    )
    if bad:
        return f"{bad} of its {len(passages)} passages are damaged"
    first, last = passages[0], passages[-1]
    hole = last[0] - first[0] != len(passages) - 1
    of_text = [row for row in passages if row[2] >= 0]
    start, stop = (of_text[0][2], of_text[-1][3]) if of_text else (len(text), len(text))
    # Before, between and after a document's passages there is only what a tokenizer leaves out.
    if hole or any(map(str.isalnum, text[:start])) or any(map(str.isalnum, text[stop:])):
        return "passages of it are missing"
    return None


def _is_nowhere(row: Row, text: str) -> bool:
    """Whether a row is one of a picture or sound, or of a document without text."""
    return row[2] == row[3] and (row[2] in MEDIA_STARTS.values() or (text == "" and row[2] == 0))
