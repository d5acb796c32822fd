"""How alike vectors are, in numpy: the four functions that sentence-transformers has, by its names."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.checks import listed, unusable

Floats = NDArray[np.floating[Any]]
SMALLEST = 1e-12  # length by which a zero vector is divided


class Similarity(NamedTuple):
    """matrix: [n, d] and [m, d] to [n, m]; pairs: [n, d] and [n, d] to [n]. Larger is more alike."""

    matrix: Callable[[Floats, Floats], Floats]
    pairs: Callable[[Floats, Floats], Floats]


def unit(vectors: Floats) -> Floats:
    """Each row at length 1; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, SMALLEST))


def _distances(order: int) -> Similarity:
    """Negative distances: 1 sums the differences, 2 is Euclid's."""

    def pairs(a: Floats, b: Floats) -> Floats:
        return np.asarray(-np.linalg.norm(a - b, ord=order, axis=-1))

    def matrix(a: Floats, b: Floats) -> Floats:
        return np.stack([pairs(row, b) for row in a]) if len(a) else np.empty((0, len(b)), a.dtype)

    return Similarity(matrix, pairs)


SIMILARITIES = {
    "cosine": Similarity(lambda a, b: unit(a) @ unit(b).T, lambda a, b: (unit(a) * unit(b)).sum(-1)),
    "dot": Similarity(lambda a, b: a @ b.T, lambda a, b: (a * b).sum(-1)),
    "euclidean": _distances(2),
    "manhattan": _distances(1),
}


def check_similarity(name: object) -> str:
    """A name of SIMILARITIES, also as the member of an enum that has it as its value. Raises InputError."""
    plain = getattr(name, "value", name)
    if not isinstance(plain, str) or plain not in SIMILARITIES:
        raise unusable("similarity_fn_name", plain, f"one of {listed(list(SIMILARITIES))}")
    return plain


def as_floats(vectors: Any) -> Floats:
    """An array, a torch tensor, or a list of either, as an array of float32 or float64."""
    if isinstance(vectors, list | tuple) and vectors and hasattr(vectors[0], "detach"):
        vectors = [as_floats(vector) for vector in vectors]
    elif hasattr(vectors, "detach"):
        dense = vectors.to_dense() if vectors.is_sparse else vectors
        vectors = (dense if str(dense.dtype) == "torch.float64" else dense.float()).detach().cpu().numpy()
    array = np.asarray(vectors)
    return array if array.dtype == np.float64 else array.astype(np.float32, copy=False)
