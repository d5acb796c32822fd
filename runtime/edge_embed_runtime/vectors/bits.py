"""One bit per dimension, and the scan over the bits.

Bits are compared with bits (Hamming distance) to find a few thousand codes of many, then with the float query, which
knows how much each bit matters: a document's bits against a query's numbers find what only four times as many
candidates by bits against bits would.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.vectors.types import Distances, Ids, Int8Codes, Places, Vectors, Words

# Codes are scanned block by block so that the buffers stay in the L2 cache (measured: 16 K to 256 K rows are equal).
BLOCK = 65_536

# Codes whose bits become numbers at a time: 0.4 MB at 384 dimensions.
SIGNS = 256

# Of so many codes and more, those that are far by the first half of their bits are not compared by the other half.
EARLY_OUT = 131_072

# The part of them that is: at a million vectors it holds 99.8 % of the ten nearest by all numbers.
KEPT = 1 / 32

# Every so manieth distance is looked at to find the one that keeps about that part.
SAMPLED = 16

# Of more distances than this a sample tells first which can be among the smallest.
FEW = 8192


def binarize(vectors: NDArray[np.float32] | Int8Codes) -> Words:
    """One bit per dimension (1 where positive) of [n, d], packed into [n, ceil(d / 64)] words.

    Index and query are packed by this function alone, so bit positions agree. Int8 codes have the signs of their
    vectors, except that values under half a step count as zero.
    """
    packed = np.packbits(vectors > 0, axis=1, bitorder="little")
    padded = np.zeros((len(vectors), -(-vectors.shape[1] // 64) * 8), np.uint8)
    padded[:, : packed.shape[1]] = packed
    return padded.view(np.uint64)


@dataclass(frozen=True)
class Pool:
    """Codes that a scan found nearest to a query.

    places:     where they are [n], in no order
    distances:  bits in which they differ from the query [n]
    halves:     the same of the first half of the bits; where `half_limit` says nothing, zeros
    limit:      all codes that differ in fewer bits are here; infinite where all codes are
    half_limit: that is, of those that differ in so many of the first half of the bits at the most
    """

    places: Places
    distances: Distances
    halves: Distances
    limit: float = math.inf
    half_limit: float = math.inf


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

    def nearest(self, query: Words, count: int, allowed: Places | None = None) -> Places:
        """Places of `pool`."""
        return self.pool(query, count, allowed).places

    def pool(self, query: Words, count: int, allowed: Places | None = None) -> Pool:
        """The `count` codes with the fewest bits different from the query [words].

        allowed: scan these places only, ascending; of equally distant codes the ones with the lowest ids are taken

        Of very many codes those that are far by the first half of their bits are left out unseen.
        """
        words = self._words[:, : self._size]
        if allowed is not None:
            if count >= len(allowed):
                return whole(allowed)
            return cut(allowed, hamming(words, query, allowed), count)
        if count >= self._size:
            return whole(np.arange(self._size))
        half = len(words) // 2
        if half and self._size >= max(EARLY_OUT, int(4 * count / KEPT)):
            distances = hamming(words[:half], query[:half])
            near, limit = _about_smallest(distances)
            if len(near) >= 2 * count:
                total = distances[near] + hamming(np.take(words[half:], near, axis=1), query[half:])
                best, within = _smallest(total, count)
                return Pool(near[best], total[best], distances[near[best]], within, limit + 0.5)
        return cut(None, hamming(words, query), count)

    def within(self, query: Words, limit: float, allowed: Places | None = None) -> Pool:
        """All codes that differ from the query [words] in fewer bits than `limit`."""
        words = self._words[:, : self._size]
        distances = hamming(words if allowed is None else np.take(words, allowed, axis=1), query)
        near = np.flatnonzero(distances < limit)
        places = near if allowed is None else allowed[near]
        return Pool(places, distances[near], np.zeros(len(near), np.uint16), limit)

    def distances(self, places: Places, query: Words) -> Distances:
        """Bits in which codes at places [n] differ from the query [words]."""
        return hamming(np.take(self._words, places, axis=1), query)

    def estimate(self, places: Places, query: Vectors) -> Vectors:
        """Dot products [n] of a float query [dim] with the signs (1 or -1) that the codes at n places stand for."""
        return signs_dot(np.ascontiguousarray(np.take(self._words, places, axis=1).T), query)


def positions(known: Ids, ids: Ids) -> Places:
    """Where in `known`, ascending, ids are; those that are not there are passed over."""
    wanted = np.unique(ids)
    places: Places = np.searchsorted(known, wanted)
    there = places < len(known)
    there[there] = known[places[there]] == wanted[there]
    return places[there]


def signs_dot(words: Words, query: Vectors) -> Vectors:
    """Dot products [n] of a float query [dim] with the signs (1 or -1) that codes [n, words] stand for."""
    products = np.empty(len(words), np.float32)
    for start in range(0, len(words), SIGNS):
        part = words[start : start + SIGNS].view(np.uint8)
        bits = np.unpackbits(part, axis=1, bitorder="little", count=len(query))
        products[start : start + SIGNS] = 2 * (bits.astype(np.float32) @ query) - query.sum()
    return products


def smallest(distances: Distances, count: int) -> Places:
    """Places of the `count` smallest of more distances; of equal ones the first; unequal ones in no order."""
    return _smallest(distances, count)[0]


def _smallest(distances: Distances, count: int) -> tuple[Places, float]:
    """`smallest`, and the limit below which all distances are among them: of the last one it may be a part only."""
    if len(distances) > FEW and (near := _under(distances, count)) is not None:
        places, limit = _smallest(distances[near], count)
        return near[places], limit
    last = np.partition(distances, count - 1)[count - 1]
    closer = np.flatnonzero(distances < last)
    ties = np.flatnonzero(distances == last)
    taken = count - len(closer)
    return np.concatenate([closer, ties[:taken]]), int(last) - 0.5 + taken / len(ties)


def _under(distances: Distances, count: int) -> Places | None:
    """Places, ascending, of all that are smaller than something that a sample says leaves more than `count`, but far
    from all; None where it does not. Ordering these takes a fraction of the time."""
    sample = distances[::SAMPLED]
    rank = 2 * (count // SAMPLED) + SAMPLED
    if 4 * rank >= len(sample):
        return None
    near = np.flatnonzero(distances < np.partition(sample, rank)[rank])
    return near if count < len(near) < len(distances) else None


def whole(places: Places) -> Pool:
    """Everything that there is, which needs no distances."""
    nothing = np.zeros(len(places), np.uint16)
    return Pool(places, nothing, nothing)


def cut(places: Places | None, distances: Distances, count: int) -> Pool:
    """The `count` of more codes with the smallest distances; places: where codes are, None where they are all."""
    best, limit = _smallest(distances, count)
    near = distances[best]
    return Pool(best if places is None else places[best], near, np.zeros_like(near), limit)


def _about_smallest(distances: NDArray[np.uint16]) -> tuple[Places, int]:
    """Places, ascending, of about the KEPT part of distances that are smallest, and the largest of these."""
    sample = distances[::SAMPLED]
    limit = np.partition(sample, int(len(sample) * KEPT))[int(len(sample) * KEPT)]
    return np.flatnonzero(distances <= limit), int(limit)


def hamming(words: Words, query: Words, places: Places | None = None) -> NDArray[np.uint16]:
    """Bits in which each code of [words, n], or each of those at some places, differs from the query [words]."""
    total = words.shape[1] if places is None else len(places)
    distances = np.empty(total, np.uint16)
    difference = np.empty(min(BLOCK, total), np.uint64)
    bits = np.empty(min(BLOCK, total), np.uint8)
    for start in range(0, total, BLOCK):
        stop = min(start + BLOCK, total)
        block = distances[start:stop]
        block[:] = 0
        for row, word in zip(words, query, strict=True):
            part = row[start:stop] if places is None else row[places[start:stop]]
            np.bitwise_xor(part, word, out=difference[: stop - start])
            np.bitwise_count(difference[: stop - start], out=bits[: stop - start])
            block += bits[: stop - start]
    return distances
