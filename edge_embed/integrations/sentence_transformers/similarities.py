"""How alike vectors are, in numpy: the four functions that sentence-transformers has, by its names."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.checks import listed, unusable
from edge_embed_runtime.errors import InputError

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
    """A name of SIMILARITIES, also as the member of an enum that has it as its value; None is "cosine". Raises
    InputError."""
    plain = "cosine" if name is None else getattr(name, "value", name)
    if not isinstance(plain, str) or plain not in SIMILARITIES:
        raise unusable("similarity_fn_name", plain, f"one of {listed(list(SIMILARITIES))}")
    return plain


def as_floats(vectors: Any) -> Floats:
    """A vector or several, as an array, a torch tensor, or a list of arrays, tensors or numbers: an array [dim] or
    [n, dim] of float32, or float64 where they are. Raises InputError for anything else."""
    if isinstance(vectors, list | tuple) and len(vectors) and hasattr(vectors[0], "detach"):
        vectors = [as_floats(vector) for vector in vectors]
    elif hasattr(vectors, "detach"):
        dense = vectors.to_dense() if vectors.is_sparse else vectors
        vectors = (dense if str(dense.dtype) == "torch.float64" else dense.float()).detach().cpu().numpy()
    try:
        array = np.asarray(vectors)
    except ValueError as error:
        raise InputError(f"vectors to compare: {error}") from error
    if array.dtype.kind not in "fiub" or array.ndim not in (1, 2):
        raise InputError(f"vectors to compare are {array.dtype} {array.shape}, expected numbers [dim] or [n, dim]")
    numbers = isinstance(vectors, list | tuple) and not any(isinstance(vector, np.ndarray) for vector in vectors[:1])
    return array if array.dtype == np.float64 and not numbers else array.astype(np.float32, copy=False)


def comparable(one: Any, other: Any) -> tuple[Floats, Floats]:
    """Both as `as_floats` has them. Raises InputError where they differ in the numbers of a vector."""
    a, b = as_floats(one), as_floats(other)
    if a.shape[-1] != b.shape[-1]:
        raise InputError(f"vectors of {a.shape[-1]} and of {b.shape[-1]} numbers cannot be compared")
    return a, b
