"""Binary codes that stay in the index file: a search reads all of them, block by block, and holds a few.

For a memory budget that has no room for them: 8 bytes a passage instead of 56. A search then takes some 8 ms for each
100,000 passages, most of it spent on reading.
"""

from collections.abc import Iterator

import numpy as np

from edge_embed_runtime.storage.bitblocks import Blocks
from edge_embed_runtime.vectors.bits import positions, signs_dot, whole
from edge_embed_runtime.vectors.hamming import Pool, Selection, distances
from edge_embed_runtime.vectors.types import Distances, Ids, Places, Vectors, Words
from edge_embed_runtime.vectors.whole import Whole


class StreamedCodes:
    """`BinaryCodes` of one state of the file. What reads codes runs inside the snapshot of that state."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self.ids: Ids = np.empty(blocks.count(), np.int64)
        size = 0
        for ids, _ in blocks.load(after=-1):
            self.ids[size : size + len(ids)] = ids
            size += len(ids)
        self.ids = self.ids[:size]

    def __len__(self) -> int:
        return len(self.ids)

    def places(self, ids: Ids) -> Places:
        """Where ids are, ascending; ids that are not here are passed over."""
        return positions(self.ids, ids)

    def pool(self, query: Words, count: int, allowed: Places | None = None) -> Pool:
        """The `count` codes with the fewest bits different from the query [words]; see `BinaryCodes`."""
        everything: Places = np.arange(len(self)) if allowed is None else allowed
        if count >= len(everything):
            return whole(everything)
        selection, start = Selection(count), 0
        for found, differences in self._scan(query, everything):
            selection.add(start, differences)
            start += len(found)
        chosen = selection.nearest()
        return Pool(everything[chosen.places], chosen.distances, chosen.limit)

    def within(self, query: Words, limit: float, allowed: Places | None = None) -> Pool:
        """All codes that differ from the query [words] in fewer bits than `limit`."""
        near: list[tuple[Places, Distances]] = [(np.empty(0, np.intp), np.empty(0, np.uint16))]
        for found, differences in self._scan(query, np.arange(len(self)) if allowed is None else allowed):
            chosen = differences < limit
            near.append((found[chosen], differences[chosen]))
        places, differing = (np.concatenate(parts) for parts in zip(*near, strict=True))
        return Pool(places, differing, limit)

    def _scan(self, query: Words, chosen: Places) -> Iterator[tuple[Places, Distances]]:
        """Places, of those that are chosen, and the bits in which their codes differ; a few blocks at a time."""
        stop = 0
        for ids, words in self._blocks.load(after=-1):
            start, stop = stop, stop + len(ids)
            found = chosen[slice(*np.searchsorted(chosen, (start, stop)))]
            yield found, distances(np.ascontiguousarray(words[found - start].T), query)

    def estimate(self, places: Places, query: Whole) -> Vectors:
        """Dot products [n] of a query [dim] with the signs (1 or -1) that the codes at n places stand for."""
        order = np.argsort(places)
        ordered = places[order]
        estimates = np.empty(len(places), np.float32)
        stop = 0
        for ids, words in self._blocks.load(after=-1):
            start, stop = stop, stop + len(ids)
            part = slice(*np.searchsorted(ordered, (start, stop)))
            estimates[order[part]] = signs_dot(np.ascontiguousarray(words[ordered[part] - start].T), query)
        return estimates
