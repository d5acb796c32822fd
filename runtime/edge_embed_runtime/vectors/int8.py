"""Vectors in int8 with one scale each, and their scores."""

import numpy as np

from edge_embed_runtime.native.search import native_search
from edge_embed_runtime.vectors.types import Int8Codes, Vectors
from edge_embed_runtime.vectors.whole import Whole, for_int8

# Numbers of int8 codes that become floats at a time: 1 MB.
SCORED = 2**17


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
