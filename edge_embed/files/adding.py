"""Files into an index. Files that are as they were, and documents that the index already has, need no embedder."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

from edge_embed.files.documents import read_rows
from edge_embed.files.finding import VANISHED, FoundFile, Search, find, holds_nothing
from edge_embed.files.gone import Gone
from edge_embed.files.known import Candidate, Known
from edge_embed.files.naming import naming_of
from edge_embed.files.opening import Opening
from edge_embed.files.problems import Problem, refuse, shown
from edge_embed.files.rows import Row
from edge_embed.files.seen import FileState, Place, Seen
from edge_embed.files.task import MAX_PROBLEMS, Added, AddTask, Change, ChangeKind
from edge_embed_runtime.batches import Limit, batches
from edge_embed_runtime.errors import InputError, MemoryBudgetError
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.storage.documents import Document, document_bytes

# Documents and characters of a commit: so much an interruption can lose, and so much is held in memory.
ADD_BATCH = 256
ADD_CHARACTERS = 1_000_000
# Stands for the file that a document comes from, where the index has no such document.
NOT_STORED: Any = object()


def add_files(task: AddTask, opening: Opening, added: Added, *, show_progress: bool = False) -> None:
    """Store the documents of files. `added` is filled during the run, so it is there after an error, too.

    Raises SourceError with `strict`, InputError where the index cannot take the documents, and what `Index.open` and
    `Index.upsert` raise. What was committed before an error is stored.
    """
    with closing(opening), closing(Seen()) as seen:
        _Run(task, opening, added, seen).run(show_progress)


def upsert(index: Index, documents: Sequence[Document]) -> tuple[int, list[tuple[Document, str]]]:
    """`Index.upsert`; one by one where a memory budget has no room for all of them together.

    Returns the number of documents that changed, and those that do not fit into the budget, each with the reason.
    """
    try:
        return index.upsert(documents), []
    except MemoryBudgetError as error:
        if len(documents) == 1:
            return 0, [(documents[0], str(error))]
    changed, refused = 0, list[tuple[Document, str]]()
    for document in documents:
        stored, without = upsert(index, [document])
        changed += stored
        refused += without
    return changed, refused


@dataclass
class _File:
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


_Item = tuple[Row, _File]


class _Run:
    def __init__(self, task: AddTask, opening: Opening, added: Added, seen: Seen) -> None:
        self._task, self._opening, self._added, self._seen = task, opening, added, seen
        self._naming = naming_of(opening.path, task.root, free=task.reading.key is not None)
        if task.sync and self._naming.root is None:
            raise InputError(
                f"{opening.path} has keys that are paths as they were typed; --sync needs a new index",
                path=opening.path,
            )
        self._reading = replace(task.reading, scoped=self._naming.root is not None)
        self._known = Known(self._naming, opening, seen, self._reading)
        index = str(opening.path)
        search = Search(task.follow_links, index, task.selection, task.only)
        self._found = find(task.paths, self._report, search)
        self._gone = Gone(
            self._naming, opening, seen, self._found, self._report, sync=task.sync, allow_empty=task.allow_empty
        )
        self._changes: dict[str, Change] = {}

    def run(self, show_progress: bool) -> None:
        added, found, opening = self._added, self._found, self._opening
        if not self._task.sync:
            for folder in found.empty:
                self._report(holds_nothing(folder))
        added.files = len(found.files)
        added.bytes = sum(file.size for file in found.files)
        added.passed_over = found.passed_over
        opening.look()
        with progress_bar(added.bytes, show_progress, "adding") as advance:
            for batch in self._batches(advance):
                self._store(batch)
                del batch  # or it would be in memory while the next is read
            advance(added.bytes)  # what was counted are characters of texts
        if opening.index is None and found.files and not added.problems:
            opening.write(self._naming)  # an index without documents
        if opening.index is not None:
            self._look_for_gone()
            added.documents = len(opening.index)
            if self._task.root is not None and self._naming.new:
                opening.write(self._naming, embed=False)
            self._known.write()
        if self._task.changes is not None:
            for change in self._changes.values():
                self._task.changes(change)

    def _report(self, problem: Problem) -> None:
        if self._task.strict:
            refuse(problem)
        self._added.report(problem)

    def _batches(self, advance: Callable[[int], None]) -> Iterator[list[_Item]]:
        rows = self._rows()
        first = list(islice(rows, 1))  # once it is there, the bounds of a memory budget are known
        limits: list[Limit[_Item]] = [(lambda item: len(item[0].document.text), ADD_CHARACTERS)]
        if (bounds := self._opening.bounds) is not None:
            limits.append((lambda item: document_bytes(item[0].document), bounds.batch))
        for batch in batches(chain(first, rows), ADD_BATCH, *limits):
            first.clear()
            pending = sum(len(row.document.text) for row, _ in batch)
            yield batch
            del batch
            advance(pending)

    def _rows(self) -> Iterator[_Item]:
        """The rows of all files that have to be read."""
        candidates = self._known.candidates(self._found.files, read_all=self._task.read_all)
        for number, candidate in enumerate(candidates):
            if candidate.same and candidate.record is not None:
                documents = candidate.record.documents
                self._seen.set_state(candidate.key, FileState.SAME)
                self._added.known += 1
                self._added.unchanged += documents
                if not documents:
                    self._added.passed_over["empty"] += 1
                self._known.read_whole(candidate, documents)
            else:
                self._opening.prepare(self._naming)
                file = _File(number, candidate, self._old_key(candidate))
                for row in self._read(file):
                    file.waiting += 1
                    file.documents += 1
                    yield row, file
                file.ended = True
                self._settle(file)

    def _read(self, file: _File) -> Iterator[Row]:
        """The rows of a file, without those whose keys came before."""
        path, key, count = file.candidate.file.path, file.key, 0

        def report(problem: Problem) -> None:
            if not count and self._has_vanished(file):
                self._seen.forget(key)
                self._added.passed_over[VANISHED] += 1
            else:
                self._seen.set_state(key, FileState.PARTLY)
                self._report(problem)
            file.whole = False

        def note(text: str) -> None:
            if len(self._added.notes) < MAX_PROBLEMS:
                self._added.notes.setdefault(shown(path), []).append(text)

        self._seen.set_state(key, FileState.WHOLE)
        for row in read_rows(path, key, self._opening.bounded(self._reading), report, note=note):
            count += 1
            before = self._seen.add(row.document.key, Place(file.number, row.line))
            if before is None:
                yield row
            else:
                where = _where(self._found.files[before.file], before.line)
                report(_of(file, row, f"the key {row.document.key!r} comes twice: here and in {where}"))
        if file.whole and not count:
            self._added.passed_over["empty"] += 1

    def _has_vanished(self, file: _File) -> bool:
        """Whether a file of a folder is gone since the folder was listed. One that was given itself is to be there."""
        found = file.candidate.file
        return bool(found.folder.real) and not os.path.lexists(found.path)

    def _settle(self, file: _File) -> None:
        """Once all documents of a file are stored: write down what is known of it."""
        if not file.ended or file.waiting:
            return
        if file.whole:
            self._known.read_whole(file.candidate, file.documents)
        if file.stored and self._task.changes is not None:
            record = file.candidate.record
            kind: ChangeKind = "added" if file.new and (record is None or not record.documents) else "changed"
            self._changes[file.key] = Change(kind, shown(file.candidate.file.path), file.stored, 0)

    def _store(self, batch: list[_Item]) -> None:
        index = self._opening.index
        documents = {row.document.key: row.document for row, _ in batch}
        same = index.unchanged(documents.values()) if index is not None else set()
        changed = [(row, file) for row, file in batch if row.document.key not in same]
        changed = self._move(changed)
        fresh = self._fresh(changed)
        stored, refused = upsert(self._opening.write(self._naming), fresh) if fresh else (0, [])
        reasons = {document.key: reason for document, reason in refused}
        for row, file in changed if reasons else ():
            if row.document.key in reasons:
                self._refuse(row, file, reasons[row.document.key])
        self._added.read += len(batch)
        self._added.stored += stored
        self._added.unchanged += len(same) + len(fresh) - len(refused) - stored
        kept = {document.key for document in fresh} - set(reasons)
        for row, file in batch:
            file.waiting -= 1
            file.stored += row.document.key in kept
            file.new = file.new and row.document.key not in same
            self._settle(file)

    def _fresh(self, changed: list[_Item]) -> list[Document]:
        """The documents that may be stored; the others are reported."""
        index = self._opening.index
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

    def _refuse(self, row: Row, file: _File, reason: str) -> None:
        file.whole = False
        self._seen.set_state(file.key, FileState.PARTLY)
        self._report(_of(file, row, reason))

    def _clash(self, key: str, origin: str | None, file: _File) -> str | None:
        """Why a document must not replace the one that has its key and comes from `origin`; None if it may."""
        own = file.key
        if origin == own or (origin is None and (key == own or key.startswith((f"{own}#", f"{own}:")))):
            return None
        if origin is None:
            return f"the key {key!r} belongs to a document that comes from no file"
        if self._naming.root is None and os.path.realpath(origin) == file.candidate.file.real:
            return None  # the same file, by another path
        gone = self._naming.root is not None and self._gone.is_gone(origin)
        if gone and self._task.sync:
            return None
        hint = ", which no longer exists (--sync deletes its documents)" if gone else ""
        return f"the key {key!r} belongs to a document of {origin}{hint}"

    def _old_key(self, candidate: Candidate) -> str | None:
        """The key of the file that this one was before it was renamed; None where there is no such file."""
        if not self._task.sync:
            return None
        for record in self._known.renamed(candidate):
            if self._gone.may_delete(record):
                return record.key
        return None

    def _move(self, changed: list[_Item]) -> list[_Item]:
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
            moved = self._opening.write(self._naming, embed=False).files.move(moves)
        except MemoryBudgetError:
            return changed
        self._added.moved += len(moved)
        for row, file in changed:
            if file.old_key is not None and row.document.key in moved:
                file.stored += 1
                self._note_deleted(file.old_key)
        return [(row, file) for row, file in changed if row.document.key not in moved]

    def _look_for_gone(self) -> None:
        """Delete, or without `sync` count, documents that are no longer in their files, or whose files are gone."""
        files: set[str] = set()
        for block in self._gone.documents():
            origins = {origin for _, origin in block}
            files |= origins
            self._added.gone += len(block)
            if self._task.sync:
                index = self._opening.write(self._naming, embed=False)
                self._added.deleted += index.delete([key for key, _ in block])
                for _, origin in block:
                    self._note_deleted(origin)
            else:
                for origin in origins:  # it has more documents than those that it would have now
                    self._seen.set_state(origin, FileState.PARTLY)
        self._added.gone_files = len(files)

    def _note_deleted(self, origin: str) -> None:
        if self._task.changes is None:
            return
        before = self._changes.get(origin)
        if before is None:
            kind: ChangeKind = "changed" if self._seen.states([origin]) else "removed"
            before = Change(kind, self._found.shown(self._naming.place(origin)), 0, 0)
        self._changes[origin] = before._replace(deleted=before.deleted + 1)


def _where(file: FoundFile, line: int | None) -> str:
    return shown(file.path) if line is None else f"{shown(file.path)}, line {line}"


def _of(file: _File, row: Row, reason: str) -> Problem:
    path = shown(file.candidate.file.path)
    return Problem(path, row.line, reason if row.line is not None else f"cannot be stored: {reason}")
