"""How many of the nearest a search has not seen: estimated in each search, from a sample of all passages.

A search scores passages whose codes lie within limits: a largest number of bits that differ from the query, and a
least estimate. Whether a passage with some score would have
been seen depends on how codes scatter around scores. That is looked up in a sample of all passages, not in those that
were found, which are the lucky ones: a straight line through the sample's codes says what a score leads to, and their
distances from the line say how far off a code can be. If passages like those found are seen with a probability of p,
then for each that was found (1 - p) / p were not (Horvitz and Thompson, 1952).

Where the line does not fit, the estimate errs to the safe side: the further a score is from those of the sample, the
wider codes scatter; and where those found lie on the bad side of the line, or scatter more, that counts.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.vectors.bits import binarize, signs_dot
from edge_embed_runtime.vectors.hamming import Pool, distances
from edge_embed_runtime.vectors.int8 import dequantize
from edge_embed_runtime.vectors.rotation import Frame
from edge_embed_runtime.vectors.scores import exact_scores
from edge_embed_runtime.vectors.types import Int8Codes, Vectors, Words
from edge_embed_runtime.vectors.whole import for_int8, for_signs

# Passages in the sample, fewer of long vectors: 0.2 MB at 384 dimensions.
SAMPLE, LEAST_SAMPLE, SAMPLE_NUMBERS = 512, 192, 2**17
# Bytes that one number of it takes at most: its codes, and what comparing a query with them makes of these.
NUMBER_BYTES = 24
# Passages of those that were found whose codes are looked at.
TELLING = 10
# What no passage of the sample shows may happen all the same: it counts as so much of one passage.
UNSEEN = 0.25
TINY = 1e-12

# What is measured of codes, less being nearer: different bits, and the estimate.
BITS, ESTIMATE = range(2)

Numbers = NDArray[np.float64]


def sample_size(dim: int) -> int:
    return min(SAMPLE, max(LEAST_SAMPLE, SAMPLE_NUMBERS // max(dim, 1)))


def sample_bytes(dim: int) -> int:
    """What a sample takes at most, and comparing a query with it."""
    return NUMBER_BYTES * dim * sample_size(dim)


class Asked:
    """A query [dim] in the forms in which codes are compared with it.

    numbers: for int8 codes
    signed:  placed as binary codes are, for their signs
    words:   in bits, as they are [words]
    """

    def __init__(self, query: Vectors, frame: Frame) -> None:
        placed = frame.place(query[None, :])
        self.numbers, self.signed, self.words = for_int8(query), for_signs(placed[0]), binarize(placed)[0]


class Sample:
    """Passages taken from all of an index: int8 codes [n, dim] with their scales [n], and binary codes."""

    def __init__(self, codes: Int8Codes, scales: Vectors, frame: Frame) -> None:
        self._codes, self._scales = codes, scales
        words = binarize(frame.place(dequantize(codes, scales)))
        self._words: Words = np.ascontiguousarray(words.T)

    def __len__(self) -> int:
        return len(self._codes)

    def relation(self, asked: "Asked") -> "Relation":
        """How codes scatter around scores for one query."""
        measures = np.empty((2, len(self)))
        measures[BITS] = distances(self._words, asked.words)
        np.negative(signs_dot(self._words, asked.signed), out=measures[ESTIMATE])
        return Relation(exact_scores(self._codes, self._scales, asked.numbers).astype(np.float64), measures)


@dataclass(frozen=True)
class Found:
    """Passages that were found, best first: scores [n], and what their codes say [2, n]; the first `count` of them are
    hits, others only tell how codes scatter."""

    scores: Numbers
    measures: Numbers
    count: int

    @staticmethod
    def of(scores: Numbers, measures: Numbers, count: int) -> "Found":
        """Of many hits some, evenly over their ranks."""
        if count <= TELLING:
            return Found(scores[:TELLING], measures[:, :TELLING], min(count, len(scores)))
        some = np.linspace(0, min(count, len(scores)) - 1, TELLING).astype(int)
        return Found(scores[some], measures[:, some], TELLING)


class Relation:
    """Scores [m] of a sample for one query, and what is measured of their codes [2, m]: a straight line, and how far
    codes are from it."""

    def __init__(self, scores: Numbers, measures: Numbers) -> None:
        self.count = len(scores)
        self._mean = float(np.add.reduce(scores)) / self.count
        centred = scores - self._mean
        squares = float(centred @ centred)
        self._spread = max(math.sqrt(squares / self.count), TINY)
        self._means = np.add.reduce(measures, axis=1, keepdims=True) / self.count
        self._slopes = (measures @ centred)[:, None] / max(squares, TINY)
        self.residuals = measures - (self._means + self._slopes * centred)
        self._deviations = np.sqrt(np.einsum("mn,mn->m", self.residuals, self.residuals) / self.count) + TINY

    def seen(self, found: Found) -> "Seen":
        """How far codes of passages with the scores of those found are from the line, if they scatter as these do."""
        count = len(found.scores)
        centred = found.scores - self._mean
        expected = self._means + self._slopes * centred
        residuals = found.measures - expected
        noise = 1 / math.sqrt(count)
        mean = np.add.reduce(residuals, axis=1) / count
        variance = np.einsum("mn,mn->m", residuals, residuals) / count - mean * mean
        scatter = np.maximum(np.sqrt(np.maximum(variance, 0.0)) / self._deviations - noise, 1.0)
        worse = np.maximum(mean - noise * self._deviations, 0.0)
        wider = np.sqrt(1 + (centred / self._spread) ** 2 / self.count)
        nearest, scale = worse[:, None] + expected, scatter[:, None] * wider
        return Seen(self, nearest[:, : found.count, None], scale[:, : found.count, None])


@dataclass(frozen=True)
class Seen:
    """For each hit [n] that tells: the mean of what is measured of codes with its score [2, n, 1], and by how much
    these scatter more than those of the sample [2, n, 1]."""

    relation: Relation
    means: Numbers
    scales: Numbers

    def missed(self, limits: tuple[float, float]) -> float:
        """How many passages were not seen for each hit, if all were seen that measure up to `limits` [2]."""
        seen = None
        for residuals, mean, scale, limit in zip(self.relation.residuals, self.means, self.scales, limits, strict=True):
            if math.isfinite(limit):
                within = residuals <= (limit - mean) / scale
                seen = within if seen is None else seen & within
        if seen is None:
            return 0.0
        few, most = UNSEEN, self.relation.count - UNSEEN
        counts = np.minimum(np.maximum(np.add.reduce(seen, axis=1, dtype=np.float64), few), most)
        return float(np.add.reduce((self.relation.count - counts) / counts)) / len(counts)


def limits(pool: Pool, estimate: float) -> tuple[float, float]:
    """Of a search that scored those in the pool with an estimate of so much or more."""
    return pool.limit, -estimate + 1e-5 * (1 + abs(estimate))
