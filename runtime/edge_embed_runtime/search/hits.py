"""From a ranking to hits: texts and metadata are read, under a memory budget only as far as there is room for them."""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_embed_runtime.inputs.words import Span
from edge_embed_runtime.search.query import Ranking
from edge_embed_runtime.storage.documents import Hit
from edge_embed_runtime.storage.filters import Condition
from edge_embed_runtime.storage.pieces import parsed_bytes
from edge_embed_runtime.storage.rows import StoredDocument
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.headroom import Room

if TYPE_CHECKING:
    from edge_embed_runtime.storage.media import Media

# Under a budget, documents that are asked for at a time, and bytes: of a hit with what its text and metadata take as a
# rule while they are read. Larger ones ask for more, for several at a time where there is enough.
PAGE = 64
USUAL_BYTES = 2048
HIT_BYTES = 512 + USUAL_BYTES
CREDIT_BYTES = 1 << 20
# Characters of a caption that a hit by picture or sound shows.
CAPTION = 1000
# Copies of a passage and of metadata from the file to the caller, and to what the caller makes of them.
COPIES = 4

Head = tuple[int, str, int]  # see Store.heads


class Reader:
    """Reads the hits of one search, inside its snapshot.

    room:    where there is a budget, what the search has reserved memory of: HIT_BYTES for each hit
    damaged: gets the ids of passages that are damaged, or whose documents are
    """

    def __init__(self, store: Store, room: Room | None, damaged: set[int]) -> None:
        self._store, self._room, self._damaged = store, room, damaged
        self._places, self._media = store.places, store.media
        self._root: str | None = None
        self._credit = 0  # bytes that are reserved for texts and metadata and not used

    def hits(self, ranking: Ranking, k: int, condition: Condition) -> list[Hit]:
        """The best k whose rows are whole; a damaged look-up table lets nothing in that does not fit the condition."""
        found: list[Hit] = []
        pending = list(ranking.items())
        self._credit = USUAL_BYTES * min(k, len(pending))
        while pending and len(found) < k:
            page = k - len(found) if self._room is None else min(PAGE, k - len(found))
            chosen, pending = pending[:page], pending[page:]
            passages = {doc: passage for doc, (_, passage) in chosen}
            rows = self._rows(passages, condition)
            media = {} if self._media is None else self._media.of(passages)
            for doc, (score, passage) in chosen:
                row = rows.get((doc, passage))
                hit = None if row is None else self._hit(*row, score, len(found))
                if hit is not None and row is not None and (doc in media or row[1][0] < 0):
                    hit = self._with_media(hit, media.get(doc))
                if hit is None:
                    self._damaged.add(passage)
                else:
                    found.append(hit)
        return found

    def _rows(
        self, passages: dict[int, int], condition: Condition
    ) -> Mapping[tuple[int, int], tuple[StoredDocument | Head, Span]]:
        """Documents, each with the span of its passage in {document: passage}; damaged ones are left out."""
        if self._room is None:
            return self._store.with_documents(passages.values(), condition)
        heads, spans = self._store.heads(passages, condition), self._store.spans(passages.values())
        whole = (pair for pair in passages.items() if pair[0] in heads and pair[1] in spans)
        return {(doc, passage): (heads[doc], spans[passage]) for doc, passage in whole}

    def _hit(self, stored: StoredDocument | Head, span: Span, score: float, before: int) -> Hit | None:
        """None where the document is damaged. Under a budget it is read in pieces, and raises MemoryBudgetError before
        there is too much of them. before: hits that were read"""
        if span[0] < 0:  # of a picture or sound
            span = 0, CAPTION
        if isinstance(stored, StoredDocument):
            span = span[0], min(span[1], len(stored.text))
            text = stored.text[slice(*span)]
            place, whole = self._place(stored.id, text, span[0])
            return Hit(stored.key, score, text, stored.metadata, *span, place) if whole else None
        try:
            with closing(self._store.row(stored)) as row:
                shown = f"{stored[1]!r:.80} has {row.text_bytes:,} bytes of text and {row.metadata_bytes:,} of metadata"
                shown += f"; k={before} works" if before else "; a `where` that leaves it out works"
                passage = min(row.text_bytes, 4 * (span[1] - span[0]))
                self._afford(COPIES * (passage + row.metadata_bytes), shown)
                found = row.read(span)
                if found is None:
                    return None
                text, metadata = found
                self._afford(parsed_bytes(metadata), shown)
                place, whole = self._place(stored[0], text, span[0])
                span = span[0], span[0] + len(text)
                return Hit(stored[1], score, text, json.loads(metadata), *span, place) if whole else None
        except sqlite3.OperationalError:  # damaged: no text
            return None

    def _with_media(self, hit: Hit, media: "Media | None") -> Hit | None:
        """A hit that says what its document is; None where that is damaged."""
        if media is None:
            return None
        source = media.source
        if source and not Path(source).is_absolute():
            from edge_embed_runtime.storage.root import root_folder

            self._root = self._root or root_folder(self._store) or ""
            source = str(Path(self._root, source))
        return replace(hit, kind=media.kind, source=source)

    def _place(self, doc: int, text: str, start: int) -> tuple[str | None, bool]:
        """Label of the place in which a passage begins, and whether it is whole."""
        return (None, True) if self._places is None else self._places.of_passage(doc, text, start)

    def _afford(self, size: int, shown: str) -> None:
        """Reserve memory for a part of a hit. Raises MemoryBudgetError."""
        room = self._room
        if room is not None and size > self._credit:
            some = CREDIT_BYTES if room.left() > 2 * (CREDIT_BYTES + size) else 0
            room.add(size + some, lambda left: f"among the hits the document {shown}; {room.least(size, left)}")
            self._credit += size + some
        self._credit -= size
