"""Files into an index. Files that are as they were, and documents that the index already has, need no embedder."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain, islice

from edge_embed.files.captiontables import CaptionTables
from edge_embed.files.documents import read_rows
from edge_embed.files.finding import VANISHED, FoundFile, Search, find, holds_nothing
from edge_embed.files.formats.filetypes import TEXT, modality_of
from edge_embed.files.gone import Gone
from edge_embed.files.known import Candidate, Known
from edge_embed.files.naming import naming_of
from edge_embed.files.opening import Opening
from edge_embed.files.problems import Problem, shown
from edge_embed.files.rows import Reading, Row
from edge_embed.files.seen import FileState, Place, Seen
from edge_embed.files.storing import File, Item, Run, Storing, problem_of, report
from edge_embed.files.task import MAX_PROBLEMS, Added, AddTask
from edge_embed_runtime.batches import Limit, batches
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.storage.documents import document_bytes

# Documents and characters of a commit: so much an interruption can lose, and so much is held in memory.
ADD_BATCH = 256
ADD_CHARACTERS = 1_000_000
# Pictures and sounds of a commit: embedding one takes as long as some ten texts.
ADD_MEDIA = 64


def add_files(task: AddTask, opening: Opening, added: Added, *, show_progress: bool = False) -> None:
    """Store the documents of files. `added` is filled during the run, so it is there after an error, too.

    Raises SourceError with `strict`, InputError where the index cannot take the documents, and what `Index.open` and
    `Index.upsert` raise. What was committed before an error is stored.
    """
    with closing(opening), closing(Seen()) as seen:
        naming = naming_of(opening.path, task.root, free=task.reading.key is not None)
        if task.sync and naming.root is None:
            raise InputError(
                f"{opening.path} has keys that are paths as they were typed; --sync needs a new index",
                path=opening.path,
            )
        media = tuple(sorted(task.modalities - {TEXT}))
        reading = replace(task.reading, scoped=naming.root is not None, media=media)

        def reported(problem: Problem) -> None:
            report(task, added, problem)

        known = Known(naming, opening, seen, reading, CaptionTables(reading.encoding, reported))
        search = Search(task.follow_links, str(opening.path), task.selection, task.only, task.modalities)
        found = find(task.paths, reported, search)
        gone = Gone(naming, opening, seen, found, reported, sync=task.sync, allow_empty=task.allow_empty)
        run = Run(task, opening, added, seen, naming, found, known, gone)
        _add(run, _Rows(run, reading), show_progress)


def _add(run: Run, rows: "_Rows", show_progress: bool) -> None:
    added, found, opening = run.added, run.found, run.opening
    if not run.task.sync:
        for folder in found.empty:
            run.report(holds_nothing(folder))
    added.files = len(found.files)
    added.bytes = sum(file.size for file in found.files)
    added.passed_over = found.passed_over
    opening.look()
    with progress_bar(added.bytes, show_progress, "adding") as advance:
        for batch in rows.batches(advance):
            rows.storing.store(batch)
            del batch  # or it would be in memory while the next is read
        advance(added.bytes)  # what was counted are characters of texts
    if opening.index is None and found.files and not added.problems:
        opening.write(run.naming)  # an index without documents
    if opening.index is not None:
        _look_for_gone(run)
        added.documents = len(opening.index)
        if run.task.root is not None and run.naming.new:
            opening.write(run.naming, embed=False)
        run.known.write()
    if run.task.changes is not None:
        for change in run.changes.values():
            run.task.changes(change)


def _look_for_gone(run: Run) -> None:
    """Delete, or without `sync` count, documents that are no longer in their files, or whose files are gone."""
    files: set[str] = set()
    for block in run.gone.documents():
        origins = {origin for _, origin in block}
        files |= origins
        run.added.gone += len(block)
        if run.task.sync:
            index = run.opening.write(run.naming, embed=False)
            run.added.deleted += index.delete([key for key, _ in block])
            for _, origin in block:
                run.note_deleted(origin)
        else:
            for origin in origins:  # it has more documents than those that it would have now
                run.seen.set_state(origin, FileState.PARTLY)
    run.added.gone_files = len(files)


class _Rows:
    """The rows of all files of a run that have to be read."""

    def __init__(self, run: Run, reading: Reading) -> None:
        self._run, self._reading, self.storing = run, reading, Storing(run)

    def batches(self, advance: Callable[[int], None]) -> Iterator[list[Item]]:
        """advance: called with the number of characters that were stored"""
        rows = self._rows()
        first = list(islice(rows, 1))  # once it is there, the bounds of a memory budget are known
        limits: list[Limit[Item]] = [
            (lambda item: len(item[0].document.text), ADD_CHARACTERS),
            (lambda item: item[0].document.image is not None or item[0].document.audio is not None, ADD_MEDIA),
        ]
        if (bounds := self._run.opening.bounds) is not None:
            limits.append((lambda item: document_bytes(item[0].document), bounds.batch))
        for batch in batches(chain(first, rows), ADD_BATCH, *limits):
            first.clear()
            pending = sum(len(row.document.text) for row, _ in batch)
            yield batch
            del batch
            advance(pending)

    def _rows(self) -> Iterator[Item]:
        run = self._run
        candidates = run.known.candidates(run.found.files, read_all=run.task.read_all)
        for number, candidate in enumerate(candidates):
            if candidate.same and candidate.record is not None:
                documents = candidate.record.documents
                run.seen.set_state(candidate.key, FileState.SAME)
                run.added.known += 1
                run.added.unchanged += documents
                if not documents:
                    run.added.passed_over["empty"] += 1
                run.known.read_whole(candidate, documents)
            else:
                run.opening.prepare(run.naming, modality_of(candidate.file.name) or TEXT)
                file = File(number, candidate, self._old_key(candidate))
                for row in self._read(file):
                    file.waiting += 1
                    file.documents += 1
                    yield row, file
                file.ended = True
                self.storing.settle(file)

    def _read(self, file: File) -> Iterator[Row]:
        """The rows of a file, without those whose keys came before."""
        path, key, count, run = file.candidate.file.path, file.key, 0, self._run

        def reported(problem: Problem) -> None:
            if not count and _has_vanished(file):
                run.seen.forget(key)
                run.added.passed_over[VANISHED] += 1
            else:
                run.seen.set_state(key, FileState.PARTLY)
                run.report(problem)
            file.whole = False

        def note(text: str) -> None:
            if len(run.added.notes) < MAX_PROBLEMS:
                run.added.notes.setdefault(shown(path), []).append(text)

        run.seen.set_state(key, FileState.WHOLE)
        reading, beside = run.opening.bounded(self._reading), file.candidate.beside
        for row in read_rows(path, key, reading, reported, note=note, beside=beside):
            count += 1
            before = run.seen.add(row.document.key, Place(file.number, row.line))
            if before is None:
                yield row
            else:
                where = _where(run.found.files[before.file], before.line)
                reported(problem_of(file, row, f"the key {row.document.key!r} comes twice: here and in {where}"))
        if file.whole and not count:
            run.added.passed_over["empty"] += 1

    def _old_key(self, candidate: Candidate) -> str | None:
        """The key of the file that this one was before it was renamed; None where there is no such file."""
        if not self._run.task.sync:
            return None
        for record in self._run.known.renamed(candidate):
            if self._run.gone.may_delete(record):
                return record.key
        return None


def _has_vanished(file: File) -> bool:
    """Whether a file of a folder is gone since the folder was listed. One that was given itself is to be there."""
    found = file.candidate.file
    return bool(found.folder.real) and not os.path.lexists(found.path)


def _where(file: FoundFile, line: int | None) -> str:
    return shown(file.path) if line is None else f"{shown(file.path)}, line {line}"
