"""One bit per dimension, and the scan over the bits.

Bits are compared with bits (Hamming distance) to find a few thousand codes of many, then with the float query, which
knows how much each bit matters: a document's bits against a query's numbers find what only four times as many
candidates by bits against bits would.
"""

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.native.search import native_search
from edge_embed_runtime.vectors import hamming
from edge_embed_runtime.vectors.hamming import Pool
from edge_embed_runtime.vectors.types import Distances, Ids, Int8Codes, Places, Vectors, Words
from edge_embed_runtime.vectors.whole import Whole

# Codes whose bits become numbers at a time: 0.8 MB at 384 dimensions.
SIGNS = 512


def binarize(vectors: NDArray[np.float32] | Int8Codes) -> Words:
    """One bit per dimension (1 where positive) of [n, d], packed into [n, ceil(d / 64)] words.

    Index and query are packed by this function alone, so bit positions agree. Int8 codes have the signs of their
    vectors, except that values under half a step count as zero.
    """
    packed = np.packbits(vectors > 0, axis=1, bitorder="little")
    padded = np.zeros((len(vectors), -(-vectors.shape[1] // 64) * 8), np.uint8)
    padded[:, : packed.shape[1]] = packed
    return padded.view(np.uint64)


class BinaryCodes:
    """Binary codes in memory, ordered by id, stored word by word ([words, n]): the fastest order to scan.

    Takes 8 bytes per 64 dimensions and 8 bytes for the id: 56 bytes a vector at 384 dimensions.
    """

    def __init__(self, dim: int, capacity: int = 0) -> None:
        self._words: Words = np.empty((-(-dim // 64), capacity), np.uint64)
        self._ids: Ids = np.empty(capacity, np.int64)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def ids(self) -> Ids:
        """Ids [n], ascending."""
        return self._ids[: self._size]

    def append(self, ids: Ids, words: Words) -> None:
        """Add codes [m, words] with ids [m] that are ascending and larger than all that are here."""
        size = self._size + len(ids)
        if size > len(self._ids):  # grow by an eighth, so that appending stays linear without much slack
            capacity = max(size, len(self._ids) + len(self._ids) // 8)
            self._ids = np.concatenate([self.ids, np.empty(capacity - self._size, np.int64)])
            slack = np.empty((len(self._words), capacity - self._size), np.uint64)
            self._words = np.concatenate([self._words[:, : self._size], slack], axis=1)
        self._ids[self._size : size] = ids
        self._words[:, self._size : size] = words.T
        self._size = size

    def remove(self, ids: Ids) -> None:
        """Forget codes by id; ids that are not here are passed over."""
        keep = np.ones(self._size, bool)
        keep[self.places(ids)] = False
        size = int(np.count_nonzero(keep))
        for row in (self._ids, *self._words):  # in place, so that there is no second copy
            row[:size] = row[: self._size][keep]
        self._size = size

    def places(self, ids: Ids) -> Places:
        """Where ids are, ascending; ids that are not here are passed over."""
        return positions(self.ids, ids)

    @property
    def _codes(self) -> Words:
        """[words, n]."""
        return self._words[:, : self._size]

    def nearest(self, query: Words, count: int, allowed: Places | None = None) -> Places:
        """Places of `pool`."""
        return self.pool(query, count, allowed).places

    def pool(self, query: Words, count: int, allowed: Places | None = None) -> Pool:
        """The `count` codes with the fewest bits different from the query [words]; of equally distant ones those with
        the lowest ids.

        allowed: scan these places only, ascending
        """
        if count >= (self._size if allowed is None else len(allowed)):
            return whole(np.arange(self._size) if allowed is None else allowed)
        return hamming.nearest(self._codes, query, count, allowed)

    def within(self, query: Words, limit: float, allowed: Places | None = None) -> Pool:
        """All codes that differ from the query [words] in fewer bits than `limit`."""
        distances = hamming.distances(self._codes, query, allowed)
        near = np.flatnonzero(distances < limit)
        return Pool(near if allowed is None else allowed[near], distances[near], limit)

    def distances(self, places: Places, query: Words) -> Distances:
        """Bits in which codes at places [n] differ from the query [words]."""
        return hamming.distances(self._codes, query, places)

    def estimate(self, places: Places, query: Whole) -> Vectors:
        """Dot products [n] of a query [dim] with the signs (1 or -1) that the codes at n places stand for."""
        return signs_dot(self._codes, query, places)


def positions(known: Ids, ids: Ids) -> Places:
    """Where in `known`, ascending, ids are; those that are not there are passed over."""
    wanted = np.unique(ids)
    places: Places = np.searchsorted(known, wanted)
    there = places < len(known)
    there[there] = known[places[there]] == wanted[there]
    return places[there]


def signs_dot(words: Words, query: Whole, places: Places | None = None) -> Vectors:
    """Dot products [n] of a query [dim], see `whole.for_signs`, with the signs (1 or -1) that codes of [words, n] stand
    for, all of them or those at some places."""
    search = native_search(64 * len(words))
    if search is not None:
        sums: Vectors = (search.signs(words, query.numbers.astype(np.int16), places) * query.step).astype(np.float32)
        return sums
    codes = np.ascontiguousarray((words if places is None else np.take(words, places, axis=1)).T)
    numbers, dim = query.numbers.astype(np.float32), len(query.numbers)
    products = np.empty(len(codes), np.float32)
    for start in range(0, len(codes), SIGNS):
        part = codes[start : start + SIGNS].view(np.uint8)
        bits = np.unpackbits(part, axis=1, bitorder="little", count=dim)
        products[start : start + SIGNS] = bits.astype(np.float32) @ numbers
    found: Vectors = ((2.0 * products - query.numbers.sum()) * query.step).astype(np.float32)
    return found


def whole(places: Places) -> Pool:
    """Everything that there is, which needs no distances."""
    return Pool(places, np.zeros(len(places), np.uint16))
