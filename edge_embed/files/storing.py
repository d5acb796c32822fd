"""Documents of a run into the index: which have to be stored, which only moved, and which must not be."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_embed.files.finding import Found
from edge_embed.files.gone import Gone
from edge_embed.files.known import Candidate, Known
from edge_embed.files.naming import Naming
from edge_embed.files.opening import Opening
from edge_embed.files.problems import CHANGED, Problem, refuse, shown
from edge_embed.files.rows import Row, known_file
from edge_embed.files.seen import FileState, Seen
from edge_embed.files.task import Added, AddTask, Change, ChangeKind
from edge_embed_runtime.errors import MediaError, MemoryBudgetError, SourceError
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.storage.documents import Document
from edge_embed_runtime.storage.media import Media

# Stands for the file that a document comes from, where the index has no such document.
NOT_STORED: Any = object()


@dataclass
class File:
    """A file that is read.

    number:  in the run
    old_key: of the file that this one was before it was renamed; None where it was not
    whole:   whether all of it could be read and stored so far
    ended:   whether all its documents were read; waiting: how many of them are not stored yet
    """

    number: int
    candidate: Candidate
    old_key: str | None = None
    whole: bool = True
    ended: bool = False
    waiting: int = 0
    documents: int = 0
    stored: int = 0
    new: bool = True

    @property
    def key(self) -> str:
        return self.candidate.key


Item = tuple[Row, File]


def upsert(
    index: Index, documents: Sequence[Document], *, thumbnails: bool = False
) -> tuple[int, list[tuple[Document, str]]]:
    """`Index.upsert`; one by one where a memory budget has no room for all of them together.

    Returns the number of documents that changed, and those that do not fit into the budget, or whose picture or sound
    cannot be read, each with the reason.
    """
    refused = list[tuple[Document, str]]()

    def refuse_media(document: Document, error: MediaError) -> None:
        refused.append((document, CHANGED if _has_changed(document) else _without_path(error)))

    try:
        return index.upsert(documents, thumbnails=thumbnails, refused=refuse_media), refused
    except MemoryBudgetError as error:
        if len(documents) == 1:
            return 0, [(documents[0], str(error))]
    changed, refused = 0, []
    for document in documents:
        stored, without = upsert(index, [document], thumbnails=thumbnails)
        changed += stored
        refused += without
    return changed, refused


def _has_changed(document: Document) -> bool:
    """Whether the file of a picture or a sound is another one than when it was read."""
    given = document.image or document.audio
    if not isinstance(given, Media):
        return False
    try:
        return known_file(given.kind, given.source).sha256 != given.sha256
    except SourceError:
        return True


def _without_path(error: MediaError) -> str:
    """Its message without the file, which is named anyway."""
    said = str(error)
    for name in () if error.path is None else (f"{error.path}: ", f"{error.path} is ", f"{error.path} "):
        said = said.replace(name, "")
    return said


@dataclass
class Run:
    """What the parts of a run share. changes: by the key of the file"""

    task: AddTask
    opening: Opening
    added: Added
    seen: Seen
    naming: Naming
    found: Found
    known: Known
    gone: Gone
    changes: dict[str, Change] = field(default_factory=dict)

    def report(self, problem: Problem) -> None:
        report(self.task, self.added, problem)

    def note_stored(self, file: File) -> None:
        if file.stored and self.task.changes is not None:
            record = file.candidate.record
            kind: ChangeKind = "added" if file.new and (record is None or not record.documents) else "changed"
            self.changes[file.key] = Change(kind, shown(file.candidate.file.path), file.stored, 0)

    def note_deleted(self, origin: str) -> None:
        if self.task.changes is None:
            return
        before = self.changes.get(origin)
        if before is None:
            kind: ChangeKind = "changed" if self.seen.states([origin]) else "removed"
            before = Change(kind, self.found.shown(self.naming.place(origin)), 0, 0)
        self.changes[origin] = before._replace(deleted=before.deleted + 1)


def report(task: AddTask, added: Added, problem: Problem) -> None:
    """Raises SourceError with `strict`."""
    if task.strict:
        refuse(problem)
    added.report(problem)


class Storing:
    """Stores the documents of one run."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def store(self, batch: list[Item]) -> None:
        run, added = self._run, self._run.added
        index = run.opening.index
        documents = {row.document.key: row.document for row, _ in batch}
        same = index.unchanged(documents.values()) if index is not None else set()
        changed = [(row, file) for row, file in batch if row.document.key not in same]
        changed = self._move(changed)
        fresh = self._fresh(changed)
        stored, refused = 0, list[tuple[Document, str]]()
        if fresh:
            stored, refused = upsert(run.opening.write(run.naming), fresh, thumbnails=run.task.thumbnails)
        reasons = {document.key: reason for document, reason in refused}
        for row, file in changed if reasons else ():
            if row.document.key in reasons:
                self._refuse(row, file, reasons[row.document.key])
        added.read += len(batch)
        added.stored += stored
        added.unchanged += len(same) + len(fresh) - len(refused) - stored
        kept = {document.key for document in fresh} - set(reasons)
        for row, file in batch:
            file.waiting -= 1
            file.stored += row.document.key in kept
            file.new = file.new and row.document.key not in same
            self.settle(file)

    def settle(self, file: File) -> None:
        """Once all documents of a file are stored: write down what is known of it."""
        if not file.ended or file.waiting:
            return
        if file.whole:
            self._run.known.read_whole(file.candidate, file.documents)
        self._run.note_stored(file)

    def _fresh(self, changed: list[Item]) -> list[Document]:
        """The documents that may be stored; the others are reported."""
        index = self._run.opening.index
        origins = index.origins(row.document.key for row, _ in changed) if index is not None else {}
        fresh = []
        for row, file in changed:
            origin = origins.get(row.document.key, NOT_STORED)
            problem = None if origin is NOT_STORED else self._clash(row.document.key, origin, file)
            file.new = file.new and origin is NOT_STORED
            if problem is None:
                fresh.append(row.document)
            else:
                self._refuse(row, file, problem)
        return fresh

    def _refuse(self, row: Row, file: File, reason: str) -> None:
        file.whole = False
        self._run.seen.set_state(file.key, FileState.PARTLY)
        self._run.report(problem_of(file, row, reason))

    def _clash(self, key: str, origin: str | None, file: File) -> str | None:
        """Why a document must not replace the one that has its key and comes from `origin`; None if it may."""
        own, root = file.key, self._run.naming.root
        if origin == own or (origin is None and (key == own or key.startswith((f"{own}#", f"{own}:")))):
            return None
        if origin is None:
            return f"the key {key!r} belongs to a document that comes from no file"
        if root is None and os.path.realpath(origin) == file.candidate.file.real:
            return None  # the same file, by another path
        gone = root is not None and self._run.gone.is_gone(origin)
        if gone and self._run.task.sync:
            return None
        hint = ", which no longer exists (--sync deletes its documents)" if gone else ""
        return f"the key {key!r} belongs to a document of {origin}{hint}"

    def _move(self, changed: list[Item]) -> list[Item]:
        """Give documents of renamed files their new keys. Returns the others, which have to be embedded."""
        moves = []
        for row, file in changed:
            if file.old_key is not None:
                key = row.document.key
                inside = key.startswith(file.key)
                moves.append((file.old_key + key[len(file.key) :] if inside else key, row.document))
        if not moves:
            return changed
        try:
            moved = self._run.opening.write(self._run.naming, embed=False).files.move(moves)
        except MemoryBudgetError:
            return changed
        self._run.added.moved += len(moved)
        for row, file in changed:
            if file.old_key is not None and row.document.key in moved:
                file.stored += 1
                self._run.note_deleted(file.old_key)
        return [(row, file) for row, file in changed if row.document.key not in moved]


def problem_of(file: File, row: Row, reason: str) -> Problem:
    path = shown(file.candidate.file.path)
    if row.line is None and reason == CHANGED:
        return Problem(path, None, reason)
    return Problem(path, row.line, reason if row.line is not None else f"cannot be stored: {reason}")
