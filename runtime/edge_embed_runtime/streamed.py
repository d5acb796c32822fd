"""Binary codes that stay in the index file: a search reads all of them, block by block, and holds a few.

For a memory budget that has no room for them: 8 bytes a passage instead of 56. A search then takes some 8 ms for each
100,000 passages, most of it spent on reading.
"""

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.blocks import Blocks
from edge_embed_runtime.codes import Ids, Places, Vectors, Words, positions, signs_dot, smallest

Distances = NDArray[np.uint16]

# Candidates are cut down to those asked for when there are so many times more.
CUT = 4


class StreamedCodes:
    """`BinaryCodes` of one state of the file. `nearest` and `estimate` run inside the snapshot of that state."""

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

    def nearest(self, query: Words, count: int, allowed: Places | None = None) -> Places:
        """Places of the `count` codes with the fewest bits different from the query [words]; see `BinaryCodes`."""
        everything: Places = np.arange(len(self)) if allowed is None else allowed
        if count >= len(everything):
            return everything
        places = np.empty(0, np.intp)
        distances: Distances = np.empty(0, np.uint16)
        stop = 0
        for ids, words in self._blocks.load(after=-1):
            start, stop = stop, stop + len(ids)
            found = everything[slice(*np.searchsorted(everything, (start, stop)))]
            if allowed is not None:
                words = words[found - start]  # noqa: PLW2901
            differences = np.bitwise_count(words ^ query).sum(axis=1, dtype=np.uint16)
            places = np.concatenate([places, found])
            distances = np.concatenate([distances, differences])
            if len(places) > CUT * count:
                places, distances = _cut(places, distances, count)
        return _cut(places, distances, count)[0]

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
