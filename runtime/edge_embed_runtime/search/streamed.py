"""Binary codes that stay in the index file: a search reads all of them, block by block, and holds a few.

For a memory budget that has no room for them: 8 bytes a passage instead of 56. A search then takes some 8 ms for each
100,000 passages, most of it spent on reading.
"""

from collections.abc import Iterator

import numpy as np

from edge_embed_runtime.storage.bitblocks import Blocks
from edge_embed_runtime.vectors.int8 import (
    Distances,
    Ids,
    Places,
    Pool,
    Vectors,
    Words,
    positions,
    signs_dot,
    smallest,
    whole,
)

# Factor over the number asked for at which candidates are reduced to that number.
CUT = 4


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
        places = np.empty(0, np.intp)
        distances: Distances = np.empty(0, np.uint16)
        for found, differences in self._scan(query, everything):
            places = np.concatenate([places, found])
            distances = np.concatenate([distances, differences])
            if len(places) > CUT * count:
                places, distances = _cut(places, distances, count)
        places, distances = _cut(places, distances, count)
        return Pool(places, distances, np.zeros_like(distances), float(distances.max()) - 0.5)

    def within(self, query: Words, limit: float, allowed: Places | None = None) -> Pool:
        """All codes that differ from the query [words] in fewer bits than `limit`."""
        near: list[tuple[Places, Distances]] = [(np.empty(0, np.intp), np.empty(0, np.uint16))]
        for found, differences in self._scan(query, np.arange(len(self)) if allowed is None else allowed):
            chosen = differences < limit
            near.append((found[chosen], differences[chosen]))
        places, distances = (np.concatenate(parts) for parts in zip(*near, strict=True))
        return Pool(places, distances, np.zeros_like(distances), limit)

    def _scan(self, query: Words, chosen: Places) -> Iterator[tuple[Places, Distances]]:
        """Places, of those that are chosen, and the bits in which their codes differ; a few blocks at a time."""
        stop = 0
        for ids, words in self._blocks.load(after=-1):
            start, stop = stop, stop + len(ids)
            found = chosen[slice(*np.searchsorted(chosen, (start, stop)))]
            some = words if len(found) == len(words) else words[found - start]
            yield found, np.bitwise_count(some ^ query).sum(axis=1, dtype=np.uint16)

    def estimate(self, places: Places, query: Vectors) -> Vectors:
        """Dot products [n] of a float query [dim] with the signs (1 or -1) that the codes at n places stand for."""
        order = np.argsort(places)
        ordered = places[order]
        estimates = np.empty(len(places), np.float32)
        stop = 0
        for ids, words in self._blocks.load(after=-1):
            start, stop = stop, stop + len(ids)
            part = slice(*np.searchsorted(ordered, (start, stop)))
            estimates[order[part]] = signs_dot(words[ordered[part] - start], query)
        return estimates


def _cut(places: Places, distances: Distances, count: int) -> tuple[Places, Distances]:
    """The `count` nearest of candidates, in the order they are in."""
    if len(places) <= count:
        return places, distances
    best = np.sort(smallest(distances, count))
    return places[best], distances[best]
