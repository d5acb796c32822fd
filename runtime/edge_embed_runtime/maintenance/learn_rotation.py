"""The rotation of an index's binary codes is learned from its first vectors, and again as the index doubles.

Learning takes a sample, so no longer for a large index than for a small one; codes are made again where another
rotation is clearly better, which all in all takes time in proportion to what was added.
"""

import re
from contextlib import suppress
from dataclasses import replace

import numpy as np

from edge_embed_runtime.errors import StorageError
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.storage.notes import HEXADECIMAL
from edge_embed_runtime.storage.schema import LEARNED
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.vectors.int8 import dequantize
from edge_embed_runtime.vectors.rotation import LEAST_VECTORS, NONE, Frame, learn_frame, sample_size
from edge_embed_runtime.vectors.types import Ids, Vectors

GROWN = 2


def when_grown(store: Store) -> None:
    """Learn the rotation again where the index has grown enough since the last time. Runs after a commit.

    Where there is no room on the disk for other codes, the old ones stay, which are right; the next commit tries again.
    """
    if not store.dim:
        return
    last = _last_id(store)
    if last < LEAST_VECTORS or last < GROWN * _learned(store):
        return
    if store.gaps and store.blocks.count() < LEAST_VECTORS:  # documents without a vector have ids too
        return
    with suppress(StorageError):
        with store.snapshot():
            frame, _ = learn(store, store.frame)
        if frame.to_json() == store.frame.to_json():
            with store.transaction(deletes=False):
                _note(store, last)
        else:
            recode(store, frame)


def learn(store: Store, current: Frame = NONE) -> tuple[Frame, dict[str, float]]:
    """The rotation that fits what is stored, if not the current one, and what each finds; see `learn_frame`.

    Runs inside a snapshot. Few passages leave the rotation that the index has.
    """
    ids = passage_ids(store)
    if len(ids) < LEAST_VECTORS or not store.dim:
        return store.frame, {}
    chosen = np.linspace(0, len(ids) - 1, min(len(ids), sample_size(store.dim))).astype(int)
    return learn_frame(vectors_of(store, ids[chosen]), current)


def recode(store: Store, frame: Frame, *, show_progress: bool = False) -> None:
    """Make all binary codes again, in one transaction with the rotation that they are made by."""
    with store.transaction(deletes=True):
        store.set_facts(replace(store.facts, frame=frame))
        blocks = store.blocks.numbers()
        with progress_bar(len(blocks), show_progress, "making binary codes") as advance:
            for block in blocks:
                store.blocks.replace(block)
                advance(1)
        _note(store, _last_id(store))


def passage_ids(store: Store) -> Ids:
    """Ids of all passages that have a vector, ascending."""
    rows = store.connection.execute(f"SELECT id FROM vec{' WHERE length(code) > 0' if store.gaps else ''}")
    return np.sort(np.fromiter((id_ for (id_,) in rows), np.int64))


def vectors_of(store: Store, ids: Ids) -> Vectors:
    """Vectors [n, dim] of passages by id, ascending; damaged ones are left out."""
    found = store.passages(ids)
    return dequantize(found.codes, found.scales)


def _last_id(store: Store) -> int:
    """The largest id of a passage, 0 where there is none."""
    (last,) = store.connection.execute("SELECT ifnull(max(id), 0) FROM vec").fetchone()
    return int(last)


def _learned(store: Store) -> int:
    """The largest id at the last time; 0 where there was none, or the note is damaged."""
    number = HEXADECIMAL.read(store.note(LEARNED)) or ""
    return int(number) if re.fullmatch("[0-9]{1,19}", number) else 0


def _note(store: Store, last: int) -> None:
    store.set_note(LEARNED, HEXADECIMAL.write(str(last)))
