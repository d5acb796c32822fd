"""Files into an index. Documents that the index already has unchanged are skipped, and need no embedder."""

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from edge_embed.files.documents import read_rows
from edge_embed.files.finding import Found, FoundFile, find, holds_nothing
from edge_embed.files.naming import Naming, is_under, naming_of
from edge_embed.files.problems import Problem, refuse, shown
from edge_embed.files.rows import Reading, Row
from edge_embed.files.seen import Place, Seen
from edge_embed_runtime.batches import Limit, batches
from edge_embed_runtime.errors import InputError, MemoryBudgetError
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.storage.database import locate
from edge_embed_runtime.storage.documents import Document, document_bytes
from edge_embed_runtime.system.headroom import Bounds

# Documents and characters of a commit: so much an interruption can lose, and so much is held in memory.
ADD_BATCH = 256
ADD_CHARACTERS = 1_000_000
# Keys that are looked at, and deleted, at once where files no longer exist.
GONE_BATCH = 1024
# Problems that are kept; further ones are only counted.
MAX_PROBLEMS = 100_000
# Stands for the file that a document comes from, where the index has no such document.
NOT_STORED: Any = object()
NOT_THERE = (errno.ENOENT, errno.ENOTDIR)


@dataclass(frozen=True)
class Order:
    """What to add, and how.

    root:         the folder that keys are relative to; None for the one recorded in the index, or the index's folder
    follow_links: follow symbolic links inside folders
    sync:         delete documents whose files under `paths` no longer exist
    strict:       raise SourceError for the first file or row that cannot be read
    """

    paths: tuple[str, ...]
    reading: Reading = field(default_factory=Reading)
    root: str | None = None
    follow_links: bool = False
    sync: bool = False
    strict: bool = False


@dataclass
class Added:
    """The result.

    files, bytes, read:  files found, their total size, and documents read from them
    stored, unchanged:   documents that are new or changed, and documents that the index already had
    documents:           in the index now
    deleted, gone:       documents whose files no longer exist: deleted with `sync`, otherwise only counted; gone_files:
                         the number of these files
    passed_over:         what was not read, by reason
    notes:               what is worth saying of files that were read, by file: "read as windows-1252"
    problems:            what could not be read or stored; above MAX_PROBLEMS they are counted in problems_left_out
    """

    files: int = 0
    bytes: int = 0
    read: int = 0
    stored: int = 0
    unchanged: int = 0
    documents: int = 0
    deleted: int = 0
    gone: int = 0
    gone_files: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)
    notes: dict[str, list[str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    problems_left_out: int = 0


class Opening:
    """The index: opened for reading, without an embedder, until something has to be stored.

    models:  makes the embedders, as arguments of `Index.open`
    options: the other arguments of `Index.open`
    """

    def __init__(self, path: str, models: Callable[[], dict[str, Any]], options: dict[str, Any]) -> None:
        self.path = locate(path, must_exist=False)
        self._models, self._options = models, options
        self._writing = False
        self.index: Index | None = None

    @property
    def bounds(self) -> Bounds | None:
        """How much of files can be read and stored under a memory budget; None without one."""
        return None if self.index is None else self.index.bounds

    def bounded(self, reading: Reading) -> Reading:
        """A `Reading` that reads no more than the memory budget allows."""
        bounds = self.bounds
        return reading if bounds is None else replace(reading, max_bytes=bounds.row)

    def read(self, naming: Naming) -> None:
        if self._options.get("max_rss_mb") is not None:
            self.write(naming)  # the memory that is left is known once the models are loaded
        elif self.path.exists():
            asked: dict[str, Any] = {name: self._options.get(name) for name in ("words", "fields", "late_chunking")}
            self.index = Index.open(self.path, read_only=True, **asked)

    def write(self, naming: Naming, *, embed: bool = True) -> Index:
        """The index opened for writing, and created if missing; embed: with the embedders."""
        if self.index is None or not self._writing:
            self.close()
            asked: dict[str, Any] = {"timeout": self._options.get("timeout", 0.0)}
            self.index = Index.open(self.path, **({**self._models(), **self._options} if embed else asked))
            self._writing = True
            if naming.new and naming.root is not None:
                self.index.root = naming.root
        return self.index

    def close(self) -> None:
        if self.index is not None:
            self.index.close()
        self.index = None


def add_files(order: Order, opening: Opening, added: Added, *, show_progress: bool = False) -> None:
    """Store the documents of files. `added` is filled during the run, so it is there after an error, too.

    Raises SourceError with `strict`, InputError where the index cannot take the documents, and what `Index.open` and
    `Index.upsert` raise. What was committed before an error is stored.
    """
    with closing(opening), closing(Seen()) as seen:
        _Run(order, opening, added, seen).run(show_progress)


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


class _Run:
    def __init__(self, order: Order, opening: Opening, added: Added, seen: Seen) -> None:
        self._order, self._opening, self._added, self._seen = order, opening, added, seen
        self._naming = naming_of(opening.path, order.root, free=order.reading.key is not None)
        if order.sync and self._naming.root is None:
            raise InputError(
                f"{opening.path} has keys that are paths as they were typed; --sync needs a new index",
                path=opening.path,
            )
        self._reading = replace(order.reading, scoped=self._naming.root is not None)
        self._files: list[FoundFile] = []
        self._whole: dict[str, bool] = {}  # by key of a file: whether all of it could be read

    def run(self, show_progress: bool) -> None:
        links, index = self._order.follow_links, str(self._opening.path)
        found = find(self._order.paths, self._report, follow_links=links, index=index)
        if not self._order.sync:
            for folder in found.empty:
                self._report(holds_nothing(folder))
        self._files = found.files
        self._added.files = len(found.files)
        self._added.bytes = sum(file.size for file in found.files)
        self._added.passed_over = found.passed_over
        self._opening.read(self._naming)
        with progress_bar(self._added.bytes, show_progress, "adding") as advance:
            for batch in self._batches(advance):
                self._store(batch)
                del batch  # or it would be in memory while the next is read
            advance(self._added.bytes)  # what was counted are characters of texts
        if self._opening.index is None and found.files and not self._added.problems:
            self._opening.write(self._naming)  # an index without documents
        if self._opening.index is not None:
            self._look_for_gone(found)
            if self._order.root is not None and self._naming.new:
                self._opening.write(self._naming, embed=False)
        if self._opening.index is not None:
            self._added.documents = len(self._opening.index)

    def _report(self, problem: Problem) -> None:
        if self._order.strict:
            refuse(problem)
        if len(self._added.problems) < MAX_PROBLEMS:
            self._added.problems.append(problem)
        else:
            self._added.problems_left_out += 1

    def _batches(self, advance: Callable[[int], None]) -> Iterator[list[tuple[Row, int]]]:
        """Rows with the numbers of their files."""
        rows = ((row, number) for number, file in enumerate(self._files) for row in self._rows(number, file))
        limits: list[Limit[tuple[Row, int]]] = [(lambda item: len(item[0].document.text), ADD_CHARACTERS)]
        if (bounds := self._opening.bounds) is not None:
            limits.append((lambda item: document_bytes(item[0].document), bounds.batch))
        for batch in batches(rows, ADD_BATCH, *limits):
            pending = sum(len(row.document.text) for row, _ in batch)
            yield batch
            del batch
            advance(pending)

    def _rows(self, number: int, file: FoundFile) -> Iterator[Row]:
        """The rows of a file, without those whose keys came before."""
        key, count, whole = self._naming.key(file.path, file.real), 0, True

        def report(problem: Problem) -> None:
            nonlocal whole
            whole = self._whole[key] = False
            self._report(problem)

        def note(text: str) -> None:
            if len(self._added.notes) < MAX_PROBLEMS:
                self._added.notes.setdefault(shown(file.path), []).append(text)

        self._whole[key] = True
        for row in read_rows(file.path, key, self._opening.bounded(self._reading), report, note=note):
            count += 1
            before = self._seen.add(row.document.key, Place(number, row.line))
            if before is None:
                yield row
            else:
                where = _where(self._files[before.file], before.line)
                report(_of(file, row, f"the key {row.document.key!r} comes twice: here and in {where}"))
        if whole and not count:
            self._added.passed_over["empty"] += 1

    def _store(self, batch: list[tuple[Row, int]]) -> None:
        index = self._opening.index
        documents = {row.document.key: row.document for row, _ in batch}
        same = index.unchanged(documents.values()) if index is not None else set()
        changed = [(row, number) for row, number in batch if row.document.key not in same]
        origins = index.origins(row.document.key for row, _ in changed) if index is not None else {}
        fresh = []
        for row, number in changed:
            file, origin = self._files[number], origins.get(row.document.key, NOT_STORED)
            problem = None if origin is NOT_STORED else self._clash(row.document.key, origin, file)
            if problem is None:
                fresh.append(row.document)
            else:
                self._refuse(row, file, problem)
        stored, refused = upsert(self._opening.write(self._naming), fresh) if fresh else (0, [])
        reasons = {document.key: reason for document, reason in refused}
        for row, number in changed if reasons else ():
            if row.document.key in reasons:
                self._refuse(row, self._files[number], reasons[row.document.key])
        self._added.read += len(batch)
        self._added.stored += stored
        self._added.unchanged += len(same) + len(fresh) - len(refused) - stored

    def _refuse(self, row: Row, file: FoundFile, reason: str) -> None:
        self._whole[self._naming.key(file.path, file.real)] = False
        self._report(_of(file, row, reason))

    def _clash(self, key: str, origin: str | None, file: FoundFile) -> str | None:
        """Why a document must not replace the one that has its key and comes from `origin`; None if it may."""
        own = self._naming.key(file.path, file.real)
        if origin == own or (origin is None and (key == own or key.startswith((f"{own}#", f"{own}:")))):
            return None
        if origin is None:
            return f"the key {key!r} belongs to a document that comes from no file"
        if self._naming.root is None and os.path.realpath(origin) == file.real:
            return None  # the same file, by another path
        gone = self._naming.root is not None and self._is_gone(origin)
        if gone and self._order.sync:
            return None
        hint = ", which no longer exists (--sync deletes its documents)" if gone else ""
        return f"the key {key!r} belongs to a document of {origin}{hint}"

    def _is_gone(self, origin: str) -> bool:
        """Whether a file surely no longer exists. False where that cannot be found out."""
        try:
            os.lstat(self._naming.place(origin))
        except (OSError, ValueError) as error:
            return getattr(error, "errno", None) in NOT_THERE
        return False

    def _look_for_gone(self, found: Found) -> None:
        """Delete, or without `sync` count, documents that are no longer in their files, or whose files are gone."""
        files: set[str] = set()
        documents = self._gone(found.places)
        while block := list(islice(documents, GONE_BATCH)):
            files.update(origin for _, origin in block)
            self._added.gone += len(block)
            if self._order.sync:
                index = self._opening.write(self._naming, embed=False)
                self._added.deleted += index.delete([key for key, _ in block])
        self._added.gone_files = len(files)

    def _gone(self, places: Iterable[str]) -> Iterator[tuple[str, str]]:
        """(key, file) of documents under the places whose file no longer exists, or was read whole without them."""
        places = [p for p in dict.fromkeys(places) if not any(p != q and is_under(p, q) for q in places)]
        for place in places:
            for prefix in self._naming.prefixes(place):
                keys = self._keys(prefix)
                while block := list(islice(keys, GONE_BATCH)):
                    missing = self._seen.missing(block)
                    index = self._opening.index
                    origins = index.origins(missing) if index is not None and missing else {}
                    for key, origin in origins.items():
                        if origin is None or not is_under(os.path.normpath(self._naming.place(origin)), place):
                            continue
                        if self._whole.get(origin, False) or (origin not in self._whole and self._is_gone(origin)):
                            yield key, origin

    def _keys(self, prefix: str) -> Iterator[str]:
        """Keys of the index, which may be closed and opened again for writing during the iteration."""
        last = ""
        while self._opening.index is not None:
            block = list(islice(self._opening.index.keys(prefix, after=last), GONE_BATCH))
            yield from block
            if len(block) < GONE_BATCH:
                return
            last = block[-1]


def _where(file: FoundFile, line: int | None) -> str:
    return shown(file.path) if line is None else f"{shown(file.path)}, line {line}"


def _of(file: FoundFile, row: Row, reason: str) -> Problem:
    return Problem(shown(file.path), row.line, reason if row.line is not None else f"cannot be stored: {reason}")
