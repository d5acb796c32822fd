"""How well an index finds, against bytes and against time."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed.report.sample import Sample
from edge_embed.report.svg import Point
from edge_embed.report.tiers import TIERS
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.vectors.int8 import dequantize, quantize_int8
from edge_embed_runtime.vectors.normalize import normalize
from edge_embed_runtime.vectors.types import Vectors

NEAREST = 10
Rows = list[list[Any]]
# Searches of the plots, and how long the slow ones may go on.
ASKED = 40
MOST_SECONDS = 10
PARTS = (1, 2, 4)
RECALLS = (0.8, 0.9, 0.95, 0.99, 1.0)


def tiers(sample: Sample) -> tuple[list[Point], Rows]:
    """Points and rows: of vectors cut to their first numbers and stored as int8 or signs, the part that stays of the 10
    nearest by the whole vectors."""
    if len(sample.vectors) <= NEAREST:
        return [], []
    asked = sample.vectors[:ASKED]
    right = _nearest(asked, sample.vectors)
    dim, points, rows = sample.vectors.shape[1], [], []
    for size in sorted({dim // part for part in PARTS} - {0}, reverse=True):
        short = normalize(np.ascontiguousarray(sample.vectors[:, :size]))
        signs = np.where(short > 0, np.float32(1), np.float32(-1))
        stored = {"float": short, "int8": dequantize(*quantize_int8(short)), "binary": signs}
        for group, (tier, vectors) in enumerate(stored.items()):
            kept = _overlap(_nearest(vectors[:ASKED], vectors), right)
            taken = TIERS[tier](size)
            points.append(Point(taken, kept, f"{tier} {size}", group))
            rows.append([size, tier, taken, kept])
    return points, rows


def recalls(index: Index, sample: Sample) -> tuple[list[Point], Rows]:
    """Points and rows: for each `recall`, the part of the 10 nearest that comes, and a search's median milliseconds."""
    if len(sample.vectors) <= NEAREST:
        return [], []
    index.search(vector=sample.vectors[0], k=NEAREST)  # reads what searches share
    asked = _Asked(index, sample.vectors[:ASKED], time.monotonic() + MOST_SECONDS)
    right, seconds = asked.search(1.0)
    points, rows = [], []
    for recall in RECALLS:
        found, took = (right, seconds) if recall == 1.0 else asked.search(recall)
        pairs = [len(best & got) / max(1, len(best)) for best, got in zip(right, found, strict=False)]
        middle, share = float(np.median(took)) * 1000, float(np.mean(pairs))
        points.append(Point(middle, share, f"recall {recall}"))
        rows.append([recall, share, middle])
    return points, rows


@dataclass
class _Asked:
    """Vectors to search for, one at least, and the time when no further search begins."""

    index: Index
    vectors: Vectors
    until: float

    def search(self, recall: float) -> tuple[list[set[str]], list[float]]:
        """Keys that each search finds, and its seconds."""
        found, seconds = [], []
        for vector in self.vectors:
            begun = time.perf_counter()
            hits = self.index.search(vector=vector, k=NEAREST, recall=recall)
            seconds.append(time.perf_counter() - begun)
            found.append({hit.key for hit in hits})
            if time.monotonic() > self.until:
                break
        return found, seconds


def _nearest(asked: Vectors, vectors: Vectors) -> NDArray[np.int64]:
    """Rows of the nearest vectors, themselves left out, [asked, NEAREST]. The asked ones are the first of all."""
    scores = asked @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, :NEAREST].astype(np.int64)


def _overlap(found: NDArray[np.int64], right: NDArray[np.int64]) -> float:
    return float(np.mean([len(set(a) & set(b)) / NEAREST for a, b in zip(found.tolist(), right.tolist(), strict=True)]))
