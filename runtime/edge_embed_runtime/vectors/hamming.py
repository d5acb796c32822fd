"""Bits in which codes differ from a query, and the codes that differ least: by the native library where there is one,
else in numpy, with the same results.

Codes are word by word, [words, n], the fastest order to scan.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from edge_embed_runtime.native.search import native_search
from edge_embed_runtime.vectors.types import Distances, Places, Words

# Codes are compared block by block so that the buffers stay in the L2 cache (measured: 16 K to 64 K rows are equal).
BLOCK = 32_768
# Words of a code whose counts, 64 each at most, are added up in a byte.
BYTE_WORDS = 3
# Of more distances than this a sample, every so many-th of them, tells first which can be among the smallest.
FEW, SAMPLED = 8192, 16


class Nearest(NamedTuple):
    """Codes that differ least from a query.

    places:    where they are [n], ascending
    distances: bits in which they differ [n]
    limit:     all codes that differ in fewer bits are here. Its fraction, less a half, is the part that is here of
               those at the last distance: with 96.75 a quarter of those that differ in 97 bits
    """

    places: Places
    distances: Distances
    limit: float


def distances(words: Words, query: Words, places: Places | None = None) -> Distances:
    """Bits in which each code of [words, n], or each of those at some places, differs from the query [words]."""
    search = native_search(64 * len(words))
    if search is not None:
        return search.distances(words, query, places)
    found = np.empty(words.shape[1] if places is None else len(places), np.uint16)
    for start, block in _scan(words, query, places):
        found[start : start + len(block)] = block
    return found


def nearest(words: Words, query: Words, count: int, places: Places | None = None) -> Nearest:
    """The `count` codes of [words, n], or of those at some places, that differ least from the query [words]; of those
    that differ as much the first. There are more of them; places ascend."""
    search = native_search(64 * len(words))
    if search is not None:
        found, near, last, part = search.nearest(words, query, count, places)
        return Nearest(found, near, last - 0.5 + part)
    selection = Selection(count)
    for start, block in _scan(words, query, places):
        selection.add(start, block)
    chosen = selection.nearest()
    return chosen if places is None else chosen._replace(places=places[chosen.places])


def _scan(words: Words, query: Words, places: Places | None) -> Iterator[tuple[int, Distances]]:
    """Where a block of codes begins, and the bits in which they differ; the next block overwrites them."""
    total = words.shape[1] if places is None else len(places)
    size = min(BLOCK, total)
    difference, bits, few = np.empty(size, np.uint64), np.empty(size, np.uint8), np.empty(size, np.uint8)
    sums = np.empty(size, np.uint16)
    for start in range(0, total, BLOCK):
        part: slice | Places = slice(start, start + BLOCK) if places is None else places[start : start + BLOCK]
        count = min(BLOCK, total - start)
        for k in range(len(words)):
            np.bitwise_xor(words[k][part], query[k], out=difference[:count])
            to = bits if k % BYTE_WORDS else few
            np.bitwise_count(difference[:count], out=to[:count])
            if k % BYTE_WORDS:
                np.add(few[:count], bits[:count], out=few[:count])
            if k % BYTE_WORDS == BYTE_WORDS - 1 or k == len(words) - 1:
                if k < BYTE_WORDS:
                    sums[:count] = few[:count]
                else:
                    np.add(sums[:count], few[:count], out=sums[:count])
        yield start, sums[:count]


class Selection:
    """The `count` smallest of distances that come part by part; of equal ones the first."""

    def __init__(self, count: int) -> None:
        self._count = count
        # of all so far; the count-th smallest of them is no larger than `last`
        self._last = np.iinfo(np.uint16).max
        self._places: list[Places] = []
        self._distances: list[Distances] = []
        self._kept = self._left_out = 0  # left out: of those that are as large as `last`

    def add(self, start: int, distances: Distances) -> None:
        """The distances of codes at start, start + 1, ..."""
        if len(distances) > FEW and not self._kept:
            self._look(distances)
        near = np.flatnonzero(distances <= self._last)
        self._places.append(near + start)
        self._distances.append(distances[near])
        self._kept += len(near)
        if self._kept > 2 * self._count + FEW:
            self._tidy()

    def _look(self, distances: Distances) -> None:
        """Take a limit from a sample, where more than `count` distances are under it, but few of all."""
        sample = distances[::SAMPLED]
        rank = 2 * (self._count // SAMPLED) + SAMPLED
        if 4 * rank < len(sample):
            limit = int(np.partition(sample, rank)[rank])
            if np.count_nonzero(distances <= limit) >= self._count:
                self._last = limit

    def _tidy(self) -> None:
        """Keep `count`."""
        places, distances = np.concatenate(self._places), np.concatenate(self._distances)
        last = int(np.partition(distances, self._count - 1)[self._count - 1])
        if last < self._last:
            self._last, self._left_out = last, 0
        near = np.flatnonzero(distances <= last)
        surplus = len(near) - self._count
        if surplus:
            near = np.delete(near, np.flatnonzero(distances[near] == last)[-surplus:])
        self._places, self._distances, self._kept = [places[near]], [distances[near]], len(near)
        self._left_out += surplus

    def nearest(self) -> Nearest:
        """What was selected of all; there were more than `count`."""
        self._tidy()
        taken = np.count_nonzero(self._distances[0] == self._last)
        limit = self._last - 0.5 + taken / (taken + self._left_out)
        return Nearest(self._places[0], self._distances[0], limit)
