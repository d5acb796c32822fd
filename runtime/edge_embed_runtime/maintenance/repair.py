"""Repair: restore what the stored texts allow."""

import os
import sqlite3
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from edge_embed_runtime.errors import IndexDamagedError
from edge_embed_runtime.maintenance.backup import backup_index
from edge_embed_runtime.maintenance.compact import vacuum
from edge_embed_runtime.maintenance.findings import Damage, Findings
from edge_embed_runtime.maintenance.media import drop_thumbnails, named, without_file
from edge_embed_runtime.maintenance.scan import batches, document_row
from edge_embed_runtime.maintenance.verify import find_damage
from edge_embed_runtime.maintenance.words import empty_words, rebuild_words
from edge_embed_runtime.maintenance.workspace import locked
from edge_embed_runtime.storage.database import RESTORE, translated
from edge_embed_runtime.storage.documents import Record
from edge_embed_runtime.storage.mainfile import accept_loss
from edge_embed_runtime.storage.media import Given
from edge_embed_runtime.storage.store import Store

# Stores records after deleting documents by key, in one transaction; shows progress or not.
Write = Callable[[list[Record], list[str], bool], object]


@dataclass(frozen=True)
class Repair:
    """What `repair` did.

    restored: keys of documents that were embedded again from their texts
    lost:     documents that cannot be restored; they are still stored, but no search returns them
    dropped:  those of them that were deleted, with drop=True
    rebuilt:  what was made again: "tables" (SQLite's look-up tables), "codes" (binary codes), "words" (full-text
              search), "other vectors" (sparse ones and those of tokens that belong to no passage are deleted), "places"
              and "thumbnails" (damaged ones are deleted), "pictures" (what is known of those of no document is
              deleted) or "count of documents" (those that are there are taken for those of the last
              commit)
    problems: what is still wrong with the file
    unplaced: keys of documents whose places were damaged and are deleted; other damage to them is listed above
    """

    restored: list[str]
    lost: list[Damage]
    dropped: list[Damage]
    rebuilt: list[str]
    problems: list[str]
    unplaced: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        return not self.lost and not self.problems


def accept_lost_log(path: str | os.PathLike[str]) -> bool:
    """Take an index whose log is missing as it is, without the commits that were in the log; gives whether it was one.

    Raises IndexLockedError when another has it open for writing.
    """
    with locked(path) as index:
        return accept_loss(index)


def repair(
    store: Store,
    write: Write | None,
    *,
    embeds: Collection[str] = (),
    drop: bool,
    backup: str | os.PathLike[str] | None,
    show_progress: bool,
) -> Repair:
    """See `Index.repair`. embeds: the kinds of documents that `write` can embed"""
    if backup is not None:
        backup_index(store.path, backup)
    found, rebuilt = find_damage(store, show_progress), []
    if found.unreadable:
        raise IndexDamagedError(f"{store.path} cannot be repaired ({found.unreadable[0]}); {RESTORE}", path=store.path)
    if found.tables:
        _reindex(store)
        rebuilt.append("tables")
        found = find_damage(store, show_progress)
    if write is None:
        found.lost.update(found.broken)
        found.broken.clear()
    reasons = without_file(store, found.broken, embeds)
    found.lost.update((doc, found.broken.pop(doc)) for doc in reasons)
    rebuilt += _derive(store, found)
    dropped = found.lost if drop else {}
    if found.broken or found.strays or found.words or dropped:
        # Before anything else is written: only what stands in the table of words correctly can be deleted from it.
        if found.words:
            empty_words(store)
        rebuild_words(store, list(dropped), found.strays, store.facts.normal)
        rebuilt.append("words")
    if write is not None:
        for records in batches(_records(store, list(found.broken)), lambda record: len(record.text)):
            write(records, [record.key for record in records], show_progress)
    unplaced = [damage.key for damage in found.places.values()]
    restored = [damage.key for damage in found.broken.values()]
    if rebuilt:
        found = find_damage(store, show_progress)
    if found.tables and rebuilt:  # lost or doubly used pages, which only a new copy of everything cures
        vacuum(store)
        found = find_damage(store, show_progress)
    left = {**found.places, **found.thumbnails, **found.broken, **found.lost}
    lost = [named(damage, reasons.get(doc)) for doc, damage in left.items()]
    gone = [named(damage, reasons.get(doc)) for doc, damage in dropped.items()]
    return Repair(restored, lost, gone, rebuilt, found.problems(), unplaced)


def _derive(store: Store, found: Findings) -> list[str]:
    """Correct what follows from other rows, each in a transaction; gives what was corrected."""
    corrected = []
    if found.blocks:
        with store.transaction(deletes=True):
            for block in found.blocks:
                store.blocks.replace(block)
        corrected.append("codes")
    if found.orphans:
        with store.transaction(deletes=True):
            for name, _ in found.orphans:
                store.connection.execute(f"DELETE FROM vec_{name} WHERE id NOT IN (SELECT id FROM vec)")
        corrected.append("other vectors")
    if (found.thumbnails or found.stray_media) and store.media is not None:
        with store.transaction(deletes=True):
            drop_thumbnails(store, store.media, found.thumbnails)
            store.media.delete(())
            store.recount()
        corrected += ["thumbnails"] * bool(found.thumbnails) + ["pictures"] * bool(found.stray_media)
    if (found.places or found.stray_places) and store.places is not None:
        with store.transaction(deletes=True):
            store.places.rebuild(found.places)
            store.recount()
        corrected.append("places")
    elif found.content:
        with store.transaction(deletes=True):
            store.recount()
        corrected.append("count of documents")
    return corrected


def _reindex(store: Store) -> None:
    with store.transaction(deletes=True):
        try:
            for table in ("doc", "vec", *(["media"] if store.has_optional("media") else [])):
                store.connection.execute(f"REINDEX {table}")
        except sqlite3.IntegrityError as error:
            raise IndexDamagedError(
                f"{store.path} is damaged (two documents have the same key); {RESTORE}", path=store.path
            ) from error


def _records(store: Store, ids: list[int]) -> Iterator[Record]:
    """Documents by id, as they are stored."""
    for id_ in ids:
        with translated(store.path):
            row = document_row(store.connection, id_)
        if row is not None:
            key, text, metadata = row[1:4]
            media = store.media_of([id_]).get(id_)
            given = None if media is None else Given(media)
            yield Record(key, text, metadata, store.places_of([id_]).get(id_) or (), given)
