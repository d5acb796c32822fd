"""Vector codes: int8 with one scale per vector, and one bit per dimension, with the scan over the bits.

Bits are compared with bits (Hamming distance) to find a few thousand codes of many, then with the float query, which
knows how much each bit matters: a document's bits against a query's numbers find what only four times as many
candidates by bits against bits would.
"""

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Int8Codes = NDArray[np.int8]
Words = NDArray[np.uint64]
Ids = NDArray[np.int64]
Places = NDArray[np.intp]

# Codes are scanned block by block so that the buffers stay in the L2 cache (measured: 16 K to 256 K rows are equal).
BLOCK = 65_536
# Codes whose bits become numbers at a time: 0.4 MB at 384 dimensions.
SIGNS = 256
# Codes whose int8 numbers become floats at a time: 1.5 MB at 384 dimensions.
SCORED = 1024
# Of so many codes and more, those that are far by the first half of their bits are not compared by the other half.
EARLY_OUT = 131_072
# The part of them that is: at a million vectors it holds 99.8 % of the ten nearest by all numbers.
KEPT = 1 / 32
# Every so manieth distance is looked at to find the one that keeps about that part.
SAMPLED = 16


def quantize_int8(vectors: Vectors) -> tuple[Int8Codes, Vectors]:
    """[n, d] float32 of length 1 -> codes [n, d] in -127..127, scales [n]: vector = code * scale, of length 1 too.

    Codes count steps of a 127th of the largest number, but that is not the scale: rounding changes lengths, and the
    scale mends it. Scores then err 40 % less, cosines are never over 1, and a vector that was quantized gives its
    codes again.
    """
    steps = np.maximum(np.abs(vectors).max(axis=1, keepdims=True), 1e-12).astype(np.float32) / np.float32(127)
    codes = np.rint(vectors / steps).astype(np.int8)
    lengths = np.sqrt(np.einsum("nd,nd->n", codes, codes, dtype=np.int64))
    return codes, (1 / np.maximum(lengths, 1)).astype(np.float32)


def dequantize(codes: Int8Codes, scales: Vectors) -> Vectors:
    """Vectors [n, d] that codes [n, d] and scales [n] stand for."""
    vectors: Vectors = codes * scales[:, None]
    return vectors


def score_int8(codes: Int8Codes, scales: Vectors, query: Vectors) -> Vectors:
    """Dot products [n] of a float query [d] with int8 vectors: the cosine, when both are of length 1."""
    scores = np.empty(len(codes), np.float32)
    for start in range(0, len(codes), SCORED):
        part = slice(start, start + SCORED)
        scores[part] = (codes[part].astype(np.float32) @ query) * scales[part]
    return scores


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

    def nearest(self, query: Words, count: int, allowed: Places | None = None) -> Places:
        """Places of the `count` codes with the fewest bits different from the query [words], in no order.

        allowed: scan these places only, ascending; of equally distant codes the ones with the lowest ids are taken

        Of very many codes those that are far by the first half of their bits are left out unseen.
        """
        words = self._words[:, : self._size]
        if allowed is not None:
            if count >= len(allowed):
                return allowed
            chosen: Places = allowed[smallest(hamming(words, query, allowed), count)]
            return chosen
        if count >= self._size:
            return np.arange(self._size)
        half = len(words) // 2
        if half and self._size >= max(EARLY_OUT, int(4 * count / KEPT)):
            distances = hamming(words[:half], query[:half])
            near = _about_smallest(distances)
            if len(near) >= 2 * count:
                whole = distances[near] + hamming(np.take(words[half:], near, axis=1), query[half:])
                return near[smallest(whole, count)]
        return smallest(hamming(words, query), count)

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


def smallest(distances: NDArray[np.uint16], count: int) -> Places:
    """Places of the `count` smallest of more distances; of equal ones the first."""
    limit = np.partition(distances, count - 1)[count - 1]
    closer = np.flatnonzero(distances < limit)
    ties = np.flatnonzero(distances == limit)[: count - len(closer)]
    return np.concatenate([closer, ties])


def _about_smallest(distances: NDArray[np.uint16]) -> Places:
    """Places, ascending, of about the KEPT part of distances that are smallest."""
    sample = distances[::SAMPLED]
    limit = np.partition(sample, int(len(sample) * KEPT))[int(len(sample) * KEPT)]
    return np.flatnonzero(distances <= limit)


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
