"""Compact: give the space of deleted documents back to the file system."""

import os
from dataclasses import dataclass

from edge_embed_runtime.errors import IndexDamagedError
from edge_embed_runtime.maintenance import workspace
from edge_embed_runtime.storage.database import bytes_on_disk, translated
from edge_embed_runtime.storage.mainfile import checkpoint
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.storage.words import reading_words


@dataclass(frozen=True)
class Compaction:
    """Bytes on disk before and after, the log included.

    pending: a reader still uses the old state; the file shrinks when the next writer closes the index after it
    """

    before: int
    after: int
    pending: bool


def compact_index(path: str | os.PathLike[str]) -> Compaction:
    """`Index.compact` of a file, without its embedder. Raises IndexLockedError when another has it open for writing."""
    with workspace.writing(path) as store:
        return compact(store)


def compact(store: Store) -> Compaction:
    """See `Index.compact`."""
    before = bytes_on_disk(store.path)
    try:
        with translated(store.path, writing=True):
            _check_space(store)
            # Words of deleted passages stay in the table, marked as deleted, until its parts are merged.
            with reading_words(store.path):
                store.connection.execute("INSERT INTO fts (fts) VALUES ('optimize')")
        pending = vacuum(store)
    except IndexDamagedError as error:
        why = error.__cause__ or error
        raise IndexDamagedError(
            f"{store.path} is damaged ({why}): repair it, then compact it", path=store.path
        ) from error
    return Compaction(before, bytes_on_disk(store.path), pending)


def vacuum(store: Store) -> bool:
    """Copy everything that is in use to the start of the file; gives whether a reader keeps the file from shrinking."""
    with translated(store.path, writing=True):
        store.open_file.check()
        store.connection.execute("VACUUM")
    with store.transaction(deletes=False):
        pass  # so that a copy without the log tells that the log has something that it lacks
    if not store.pending:
        with translated(store.path):
            checkpoint(store.connection, 0.0, empty=True)
    return store.pending


def _check_space(store: Store) -> None:
    """VACUUM writes what is in use twice: to a temporary file, and to the log next to the index."""
    pages, free, size = workspace.pragmas(store.connection, "page_count", "freelist_count", "page_size")
    used = (pages - free) * size
    folder, temporary = store.path.parent, workspace.temporary_folder()
    # merged words may come to lie behind the old ones; a page in the log has a header, and the log an index
    needed = {folder: int(1.01 * (used + workspace.word_bytes(store.connection))) + workspace.LOG_BYTES}
    if temporary.stat().st_dev == folder.stat().st_dev:
        needed[folder] += used
    else:
        needed[temporary] = used
    for folder, wanted in needed.items():
        workspace.require_space(folder, wanted, f"{store.path}: compacting")
