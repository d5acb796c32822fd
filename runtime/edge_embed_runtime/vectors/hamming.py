"""Bits in which codes differ from a query, and the codes that differ least: by the native library where there is one,
else in numpy, with the same results.

Codes are word by word, [words, n], the fastest order to scan.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from edge_embed_runtime.native.search import native_search
from edge_embed_runtime.vectors.types import Distances, Places, Words

# Codes are compared block by block so that the buffers stay in the L2 cache (16 K to 64 K rows are equally fast); the
# nearest are chosen from many blocks at a time.
BLOCK, CHUNK = 32_768, 262_144
# Words of a code whose counts, 64 each at most, are added up in a byte.
BYTE_WORDS = 3
# Of more distances than this a sample, every so many-th of them, tells first which can be among the smallest.
FEW, SAMPLED = 8192, 16


@dataclass(frozen=True)
class Pool:
    """Codes that a scan found nearest to a query.

    places:    where they are [n]
    distances: bits in which they differ from the query [n]
    limit:     all codes that differ in fewer bits are here; infinite where all codes are. Its fraction, less a half,
               is the part that is here of those at the last distance: with 96.75 a quarter of those with 97
    """

    places: Places
    distances: Distances
    limit: float = math.inf


def distances(words: Words, query: Words, places: Places | None = None) -> Distances:
    """Bits in which each code of [words, n], or each of those at some places, differs from the query [words]."""
    search = native_search(64 * len(words))
    if search is not None:
        return search.distances(words, query, places)
    found = np.empty(words.shape[1] if places is None else len(places), np.uint16)
    for start, block in _scan(words, query, places):
        found[start : start + len(block)] = block
    return found


def nearest(words: Words, query: Words, count: int, places: Places | None = None) -> Pool:
    """The `count` codes of [words, n], or of those at some places, that differ least from the query [words]; of those
    that differ as much the first. There are more of them; places ascend."""
    search = native_search(64 * len(words))
    if search is not None:
        found = search.nearest(words, query, count, places)
        return Pool(found.places, found.distances, found.last - 0.5 + found.part)
    selection = Selection(count)
    for start, block in _scan(words, query, places):
        selection.add(start, block)
    chosen = selection.nearest()
    return chosen if places is None else replace(chosen, places=places[chosen.places])


def _scan(words: Words, query: Words, places: Places | None) -> Iterator[tuple[int, Distances]]:
    """Where a chunk of codes begins, and the bits in which they differ; the next chunk overwrites them."""
    total = words.shape[1] if places is None else len(places)
    buffers = Buffers(min(BLOCK, total))
    found = np.empty(min(CHUNK, total), np.uint16)
    for chunk in range(0, total, CHUNK):
        stop = min(chunk + CHUNK, total)
        for start in range(chunk, stop, BLOCK):
            part = slice(start, min(start + BLOCK, stop))
            block = words[:, part] if places is None else np.take(words, places[part], axis=1)
            buffers.compare(block, query, found[start - chunk : part.stop - chunk])
        yield chunk, found[: stop - chunk]


class Buffers:
    """Memory for comparing up to `size` codes with a query, word by word."""

    def __init__(self, size: int) -> None:
        self._difference = np.empty(size, np.uint64)
        self._bits, self._sums = np.empty(size, np.uint8), np.empty(size, np.uint8)

    def compare(self, words: Words, query: Words, distances: Distances) -> None:
        """Set the distances [n] of codes [words, n]."""
        count = len(distances)
        difference, bits, sums = self._difference[:count], self._bits[:count], self._sums[:count]
        distances[:] = 0
        for first in range(0, len(words), BYTE_WORDS):
            np.bitwise_xor(words[first], query[first], out=difference)
            np.bitwise_count(difference, out=sums)
            for k in range(first + 1, min(first + BYTE_WORDS, len(words))):
                np.bitwise_xor(words[k], query[k], out=difference)
                np.bitwise_count(difference, out=bits)
                np.add(sums, bits, out=sums)
            np.add(distances, sums, out=distances)


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
        near = self._sampled(distances) if len(distances) > FEW and not self._kept else None
        if near is None:
            near = np.flatnonzero(distances <= self._last)
        self._places.append(near + start if start else near)
        self._distances.append(distances[near])
        self._kept += len(near)
        if self._kept > 2 * self._count + FEW:
            self._tidy()

    def _sampled(self, distances: Distances) -> Places | None:
        """Places of those that are no larger than what a sample says leaves more than `count`, but far from all; None
        where it does not."""
        sample = distances[::SAMPLED]
        rank = 2 * (self._count // SAMPLED) + SAMPLED
        if 4 * rank >= len(sample):
            return None
        limit = int(np.partition(sample, rank)[rank])
        near = np.flatnonzero(distances <= limit)
        if len(near) < self._count:
            return None
        self._last = limit
        return near

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

    def nearest(self) -> Pool:
        """What was selected of all; there were more than `count`."""
        self._tidy()
        taken = np.count_nonzero(self._distances[0] == self._last)
        limit = self._last - 0.5 + taken / (taken + self._left_out)
        return Pool(self._places[0], self._distances[0], limit)
