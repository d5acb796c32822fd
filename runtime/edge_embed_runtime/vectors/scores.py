"""Scores of int8 vectors for a query: by the native library where there is one, else in numpy, with the same bits."""

import numpy as np

from edge_embed_runtime.native.search import native_search
from edge_embed_runtime.vectors.types import Int8Codes, Vectors
from edge_embed_runtime.vectors.whole import Whole, for_int8

# Numbers of int8 codes that become floats at a time: 1 MB.
SCORED = 2**17


def score_int8(codes: Int8Codes, scales: Vectors, query: Vectors) -> Vectors:
    """Dot products [n] of a float query [d] with int8 vectors: the cosine, when both are of length 1.

    Equal vectors have equal scores, wherever they stand and whatever CPU adds them up: the sums are exact.
    """
    return exact_scores(codes, scales, for_int8(query))


def exact_scores(codes: Int8Codes, scales: Vectors, query: Whole) -> Vectors:
    """What `score_int8` gives, of a query that was made whole for it."""
    search = native_search(len(query.numbers))
    if search is not None:
        return search.int8_scores(codes, scales, query.numbers, query.step)
    scores, rows = np.empty(len(codes), np.float32), max(1, SCORED // max(1, len(query.numbers)))
    for start in range(0, len(codes), rows):
        part = slice(start, start + rows)
        scores[part] = (codes[part].astype(np.float64) @ query.numbers) * scales[part] * query.step
    return scores
