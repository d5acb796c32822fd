"""How many of the nearest a search has not seen: estimated in each search, from a sample of all passages.

A search scores passages whose codes lie within limits: so many bits different from the query at the most (also of the
first half of them, where codes are left out by it), and an estimate of so much at the least. Whether a passage with
some score would have been seen depends on how codes scatter around scores, and that is looked up in a sample of all
passages, not in those that were found, which are the lucky ones: the sample's scores are known, a straight line
through its codes says what a score leads to, and what lies beside the line says how far off a code can be. If passages
like those found are seen with a probability of p, then for each that was found (1 - p) / p were not (Horvitz and
Thompson, 1952).

Where the line does not fit, the estimate errs to the safe side: the further a score is from those of the sample, the
wider codes scatter; and where those found lie on the bad side of the line, or scatter more, that counts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.codes import Pool, Vectors, Words, binarize, hamming
from edge_embed_runtime.frame import Frame

# Passages in the sample, fewer of long vectors: with their signs 1.6 MB at 384 dimensions.
SAMPLE, LEAST_SAMPLE, SAMPLE_NUMBERS = 512, 128, 2**19
# Of the passages found, so many at the most are looked at, evenly over their ranks.
LOOKED_AT = 16
# What is never seen in a sample may happen all the same: so much of one passage of it.
UNSEEN = 0.25
TINY = 1e-12

Numbers = NDArray[np.float64]


def sample_size(dim: int) -> int:
    return min(SAMPLE, max(LEAST_SAMPLE, SAMPLE_NUMBERS // max(dim, 1)))


class Sample:
    """Vectors [n, dim] of passages taken from all of an index, and their binary codes."""

    def __init__(self, vectors: Vectors, frame: Frame) -> None:
        words = binarize(frame.place(vectors))
        self._vectors = vectors
        self._words: Words = np.ascontiguousarray(words.T)
        bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little", count=vectors.shape[1])
        self._signs = 2 * bits.astype(np.float32) - 1

    def __len__(self) -> int:
        return len(self._vectors)

    def relation(self, query: Vectors, placed: Vectors, words: Words) -> "Relation":
        """How codes scatter around scores for one query [dim], as it is, in the frame, and in bits."""
        half = hamming(self._words[: len(words) // 2], words[: len(words) // 2])
        rest = hamming(self._words[len(words) // 2 :], words[len(words) // 2 :])
        return Relation(
            (self._vectors @ query).astype(np.float64),
            np.stack([half.astype(np.float64) + rest, half.astype(np.float64), -(self._signs @ placed)]),
        )


@dataclass(frozen=True)
class Found:
    """Passages that were found, best first: scores [n], and what their codes say [3, n], as in `Relation`."""

    scores: Numbers
    measures: Numbers


class Relation:
    """Scores [m] of a sample for one query, and what is measured of their codes [3, m]: different bits, those of the
    first half, and the estimate, negative, so that less is nearer in all three."""

    def __init__(self, scores: Numbers, measures: Numbers) -> None:
        self._scores = scores
        centred = scores - scores.mean()
        self._spread = max(float(scores.std()), TINY)
        self._mean, self._means = float(scores.mean()), measures.mean(axis=1)
        self._slopes = (measures @ centred) / max(float(centred @ centred), TINY)
        self._beside = measures - self._line(scores)
        self._deviations = np.maximum(self._beside.std(axis=1), TINY)

    def _line(self, scores: Numbers) -> Numbers:
        """What passages with these scores [n] can be expected to measure [3, n]."""
        line: Numbers = self._means[:, None] + self._slopes[:, None] * (scores - self._mean)
        return line

    def missed(self, found: Found, limits: Numbers) -> float:
        """How many passages were not seen for each that was found, if all were seen that measure up to `limits` [3]."""
        if len(found.scores) > LOOKED_AT:
            some = np.linspace(0, len(found.scores) - 1, LOOKED_AT).astype(int)
            found = Found(found.scores[some], found.measures[:, some])
        expected = self._line(found.scores)
        beside = found.measures - expected
        count = len(self._scores)
        wider = np.sqrt(1 + ((found.scores - self._mean) / self._spread) ** 2 / count)
        worse = np.maximum(beside.mean(axis=1), 0)
        scatter = np.maximum(beside.std(axis=1) / self._deviations, 1)
        room = (limits[:, None] - expected - worse[:, None]) / (wider * scatter[:, None])
        seen = np.all(self._beside[:, None, :] <= room[:, :, None], axis=0).sum(axis=1)
        if np.isfinite(limits).any():
            seen = np.clip(seen, UNSEEN, count - UNSEEN)
        return float(np.mean((count - seen) / seen))


def limits(pool: Pool, estimate: float) -> Numbers:
    """Of a search that scored those in the pool with an estimate of so much or more."""
    # sums in another order give other last digits
    return np.array([pool.limit, pool.half_limit, -estimate + 1e-5 * (1 + abs(estimate))])
