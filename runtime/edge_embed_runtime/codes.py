"""Vector codes: int8 with one scale per vector, and one bit per dimension, with the scan over the bits."""

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Int8Codes = NDArray[np.int8]
Words = NDArray[np.uint64]
Ids = NDArray[np.int64]

# Codes are scanned block by block so that the buffers stay in the L2 cache (measured: 16 K to 256 K rows are equal).
BLOCK = 65_536


def quantize_int8(vectors: Vectors) -> tuple[Int8Codes, Vectors]:
    """[n, d] float32 -> codes [n, d] in -127..127 and scales [n]: vector = code * scale."""
    scales = np.maximum(np.abs(vectors).max(axis=1), 1e-12).astype(np.float32) / np.float32(127)
    return np.rint(vectors / scales[:, None]).astype(np.int8), scales


def score_int8(codes: Int8Codes, scales: Vectors, query: Vectors) -> Vectors:
    """Dot products [n] of a float query [d] with int8 vectors: the cosine, when both are of length 1."""
    scores: Vectors = (codes.astype(np.float32) @ query) * scales
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

    def __init__(self, dim: int) -> None:
        self._words: Words = np.empty((-(-dim // 64), 0), np.uint64)
        self._ids: Ids = np.empty(0, np.int64)
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
        keep = np.isin(self.ids, ids, invert=True)
        self._ids = self.ids[keep]
        self._words = np.ascontiguousarray(self._words[:, : self._size][:, keep])
        self._size = len(self._ids)

    def nearest(self, query: Words, count: int, allowed: Ids | None = None) -> Ids:
        """Ids of the `count` codes with the fewest bits different from the query [words], in no order.

        allowed: scan these ids only; of equally distant codes the ones with the lowest ids are taken
        """
        words, ids = self._words[:, : self._size], self.ids
        if allowed is not None:
            places = np.searchsorted(ids, allowed)
            places = places[places < len(ids)]
            places = np.unique(places[np.isin(ids[places], allowed)])
            words, ids = words[:, places], ids[places]
        if count >= len(ids):
            return ids.copy()
        distances = hamming(words, query)
        limit = np.partition(distances, count - 1)[count - 1]
        closer = np.flatnonzero(distances < limit)
        ties = np.flatnonzero(distances == limit)[: count - len(closer)]
        chosen: Ids = ids[np.concatenate([closer, ties])]
        return chosen


def hamming(words: Words, query: Words) -> NDArray[np.uint16]:
    """Bits in which each code of [words, n] differs from the query [words]."""
    total = words.shape[1]
    distances = np.empty(total, np.uint16)
    difference = np.empty(min(BLOCK, total), np.uint64)
    bits = np.empty(min(BLOCK, total), np.uint8)
    for start in range(0, total, BLOCK):
        stop = min(start + BLOCK, total)
        block = distances[start:stop]
        block[:] = 0
        for row, word in zip(words, query, strict=True):
            np.bitwise_xor(row[start:stop], word, out=difference[: stop - start])
            np.bitwise_count(difference[: stop - start], out=bits[: stop - start])
            block += bits[: stop - start]
    return distances
