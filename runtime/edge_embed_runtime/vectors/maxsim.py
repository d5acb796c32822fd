"""Several vectors for a text, one for each token, compared by MaxSim: each of the query's with the nearest of the
document's (ColBERT, arXiv:2004.12832)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.errors import InputError
from edge_embed_runtime.vectors.int8 import Vectors


def maxsim(query: Vectors, document: Vectors) -> float:
    """The sum over the query's vectors [n, dim] of the largest dot product with one of the document's [m, dim].

    Raises InputError for what are no two lists of vectors of one length.
    """
    query, document = np.asarray(query, np.float32), np.asarray(document, np.float32)
    if query.ndim != 2 or document.ndim != 2 or query.shape[1] != document.shape[1] or not len(document):
        raise InputError(f"maxsim compares [n, dim] with [m, dim], got {query.shape} and {document.shape}")
    return float((query @ document.T).max(axis=1).sum())


def maxsim_all(query: Vectors, vectors: Vectors, starts: NDArray[np.int64]) -> Vectors:
    """`maxsim` with several documents: their vectors one after the other [m, dim], and where each begins."""
    best = np.maximum.reduceat(vectors @ query.T, starts, axis=0)
    scores: Vectors = best.sum(axis=1)
    return scores


def unpack(codes: Sequence[bytes], dim: int) -> tuple[Vectors, NDArray[np.int64]]:
    """Vectors of all rows one after the other [m, dim], and where those of each row begin [n]."""
    numbers = np.frombuffer(b"".join(codes), np.int8).reshape(-1, dim).astype(np.float32)
    lengths = np.sqrt(np.einsum("nd,nd->n", numbers, numbers))
    starts = np.cumsum([0, *(len(code) // dim for code in codes[:-1])])
    return numbers / np.maximum(lengths, 1)[:, None], starts
