"""Merge: one index of the documents of several parts, whose vectors are copied as they are stored.

All parts are read twice: once to find out whether they fit together and are whole, and which part each key is taken
from; then to store. A new index is built in a file beside its place, and appears there when it is whole and on disk; to
an index that is there already all is added in one transaction.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from edge_embed_runtime.batches import batches
from edge_embed_runtime.errors import InputError, SourceError, StorageError
from edge_embed_runtime.maintenance import learn_rotation
from edge_embed_runtime.maintenance.mergefacts import merged_facts
from edge_embed_runtime.maintenance.mergenames import Named, merged_root
from edge_embed_runtime.maintenance.mergeparts import IndexPart, Part, Whole
from edge_embed_runtime.maintenance.mergesurvey import OnDuplicate, Survey
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.storage.create import create_index
from edge_embed_runtime.storage.database import check_header, log_files, wal_bytes
from edge_embed_runtime.storage.filerecords import drop_doubtful, read_records, write_records
from edge_embed_runtime.storage.root import Root, read_root, write_root
from edge_embed_runtime.storage.rows import Entry
from edge_embed_runtime.storage.schema import Facts
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.storage.writing import write, write_rows
from edge_embed_runtime.system.lock import WriterLock
from edge_embed_runtime.system.writing import sync_folder

# Documents that are looked at together, and that one transaction of a new file has; and about how many characters.
SEEN, STORED, CHARACTERS = 256, 4096, 2**22
RECORDS = 1024


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    documents, passages: that the index holds now
    stored:    documents that were stored
    unchanged: documents of a part that another part, or the index, has with the same text, metadata and vectors
    skipped:   documents of a part in whose place another one with the same key was taken
    replaced:  documents of the index that others took the place of
    created:   whether the index is new
    """

    documents: int
    passages: int
    stored: int
    unchanged: int
    skipped: int
    replaced: int
    created: bool


@dataclass(frozen=True)
class MergeOptions:
    """words, fields: of a new index; None for those of the parts."""

    on_duplicate: OnDuplicate = "error"
    words: str | None = None
    fields: tuple[str, ...] | None = None
    timeout: float = 0.0
    show_progress: bool = False


def merge(out: Path, parts: Sequence[Part], options: MergeOptions) -> Merged:
    """Merge parts into the index `out`, which is made where it is missing. The caller has looked up its path, and keeps
    the parts open. Nothing is written where this raises an error."""
    if not parts:
        raise InputError("there is nothing to merge: give files of vectors, or indexes")
    if not out.exists():
        merged_facts(None, parts, options.words, options.fields)  # before a lock file is made
    with _writing(out, options.timeout):
        if not out.exists():
            return _create(out, parts, options)
        with closing(Store(out, read_only=False)) as store:
            old = IndexPart(store)
            merged_facts(old, parts, options.words, options.fields)
            root = merged_root(out, old, parts)
            named = [Named.of(part, root) for part in parts]
            with _surveyed(old, named, options) as survey:
                replaced, documents = survey.replaced(), _taken(survey, named, options)
                with store.transaction(deletes=len(replaced) > 0):
                    write_rows(store, _entries(documents, store.dim), replaced)
                    _write_rest(store, survey, named, root)
                learn_rotation.when_grown(store)
                return _merged(store, survey, created=False)


@contextmanager
def _writing(out: Path, timeout: float) -> Iterator[None]:
    """Nobody else writes to the index, or makes it. Raises IndexLockedError."""
    if out.exists():
        check_header(out)
    lock = WriterLock(out, timeout)
    try:
        yield
    finally:
        lock.release()


def _create(out: Path, parts: Sequence[Part], options: MergeOptions) -> Merged:
    root = merged_root(out, None, parts)
    facts = merged_facts(None, parts, options.words, options.fields)
    named = [Named.of(part, root) for part in parts]
    with (
        _surveyed(None, named, options) as survey,
        _appearing(out, facts) as temporary,
        closing(Store(temporary, read_only=False)) as store,
    ):
        store.connection.execute("PRAGMA synchronous = OFF")  # it is synced as a whole
        # in many transactions: the log stays short, and nobody sees the file yet
        for some in batches(_taken(survey, named, options), STORED, (_length, CHARACTERS)):
            write(store, _entries(some, store.dim))
        with store.transaction(deletes=False):
            _write_rest(store, survey, named, root)
        learn_rotation.when_grown(store)
        return _merged(store, survey, created=True)


@contextmanager
def _appearing(out: Path, facts: Facts) -> Iterator[Path]:
    """An empty index beside `out` that takes its place when the block ends well. The caller holds the lock of `out`, so
    what lies there is left of a merge that was killed; `remove_leftovers` knows the name, too."""
    temporary = out.with_name(f".{out.name}.merging_")
    files = (temporary, *log_files(temporary))
    try:
        unmade = out.parent.glob(f"{escape(f'.{temporary.name}.')}*")  # what `create_index` makes it of
        for leftover in (*files, *unmade):
            leftover.unlink(missing_ok=True)
        create_index(temporary, facts)
        yield temporary
        if wal_bytes(temporary):  # closing it copies its log into it, and says nothing where that fails
            raise StorageError(f"{temporary}: the disk is full, or it failed", code="disk_full")
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        for orphan in log_files(out):  # the log of an index that was removed would be replayed into this one
            orphan.unlink(missing_ok=True)
        if out.exists():  # since it was looked for
            raise InputError(f"{out} is there by now; run it again to add to it", path=out, code="output_exists")
        temporary.rename(out)
        sync_folder(out.parent)
    except StorageError as error:
        raise StorageError(f"{out} could not be written ({error})", code=error.code, path=out) from error
    except OSError as error:
        raise StorageError(f"{out} could not be written: {error.strerror}", path=out, cause=error) from error
    finally:
        for leftover in files:
            with suppress(OSError):  # the first error says why it failed
                leftover.unlink(missing_ok=True)


@contextmanager
def _surveyed(old: IndexPart | None, parts: Sequence[Named], options: MergeOptions) -> Iterator[Survey]:
    """All parts, read once. Raises an error for the first that is damaged, and for keys that come twice."""
    paths = [named.part.path for named in parts]
    with Survey.begun(paths, old, options.on_duplicate) as survey:
        with progress_bar(_count(parts), options.show_progress, "reading") as advance:
            for number, named in enumerate(parts):
                for some in batches(named.documents(), SEEN, (_length, CHARACTERS)):
                    survey.see(number, some)
                    advance(len(some))
        survey.check()
        yield survey


def _count(parts: Sequence[Named]) -> int:
    return sum(named.part.count for named in parts)


def _length(whole: Whole) -> int:
    return len(whole.record.text)


def _taken(survey: Survey, parts: Sequence[Named], options: MergeOptions) -> Iterator[Whole]:
    """The documents that are to be stored."""
    taken = 0
    with progress_bar(_count(parts), options.show_progress, "merging") as advance:
        for number, named in enumerate(parts):
            for whole in named.documents():
                advance(1)
                if survey.takes(number, whole):
                    taken += 1
                    yield whole
            named.part.check_unchanged()
    if taken != survey.counts.stored:
        raise SourceError("what is merged was changed while it was read; nothing was written: run it again")


def _entries(documents: Iterable[Whole], dim: int) -> Iterator[Entry]:
    return (entry for whole in documents for entry in whole.entries(dim))


def _write_rest(store: Store, survey: Survey, parts: Iterable[Named], root: Root | None) -> None:
    """What is no document: the root, and records of files. The caller holds the transaction."""
    if root is not None and root != read_root(store):
        write_root(store, root)
    for named in parts:
        for some in batches(named.records(), RECORDS):
            there = read_records(store, [record.key for record in some])
            if new := [record for record in some if record.key not in there]:
                write_records(store, new)
    drop_doubtful(store, survey.is_unsure)


def _merged(store: Store, survey: Survey, *, created: bool) -> Merged:
    counts = survey.counts
    return Merged(*store.counts(), counts.stored, counts.unchanged, counts.skipped, counts.replaced, created)
