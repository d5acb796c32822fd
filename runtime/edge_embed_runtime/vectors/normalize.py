"""Vectors of length 1, and checks of those that users hand in."""

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.errors import InputError
from edge_embed_runtime.vectors.types import Vectors


def normalize(vectors: Vectors) -> Vectors:
    """Rows [n, d] brought to length 1; a row of zeros stays one."""
    normalized: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return normalized


def cut(vectors: Vectors, dim: int, how: str = "") -> Vectors:
    """The first `dim` numbers of rows [n, d], brought to length 1; `how` is `Manifest.truncation`.

    A layer norm over all numbers before the cut takes the row's mean from each and divides by what the row has in
    common: of that only the mean changes a direction.
    """
    if how == "layer_norm" and dim < vectors.shape[1]:
        vectors = vectors - vectors.mean(axis=1, keepdims=True)
    return normalize(vectors[:, :dim])


def check_vectors(given: object, dim: int, what: str) -> Vectors:
    """float32 [n, dim] of length 1 each. Raises InputError for another shape, for what are no real numbers, and for
    rows with NaN, infinity, or nothing but zeros."""
    try:
        array = np.asarray(given)
    except (ValueError, TypeError) as error:
        raise InputError(f"{what}: not an array of numbers: {error}", option=what) from error
    if array.ndim != 2 and array.size == 0:
        array = array.reshape(0, dim)
    if array.ndim != 2 or array.shape[1] != dim:
        shape = array.shape[1:] if what == "vector" else array.shape
        raise InputError(
            f"{what}: the shape is {shape}, expected {(dim,) if what == 'vector' else ('n', dim)}", option=what
        )
    if array.dtype.kind not in "fiu":
        raise InputError(f"{what}: expected real numbers, got {array.dtype}", option=what)
    rows = array.astype(np.float64)
    largest = np.abs(rows).max(axis=1)
    if not ((largest > 0) & (largest < np.inf)).all():
        raise _no_direction(largest, what)
    rows /= largest[:, None]  # so that squares neither overflow nor vanish
    normalized: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return normalized


def _no_direction(largest: NDArray[np.float64], what: str) -> InputError:
    """What to raise for rows of which some have no direction, by the largest number of each [n]."""
    endless = ~np.isfinite(largest)
    bad, reason = (endless, "NaN or infinity") if endless.any() else (largest == 0, "nothing but zeros")
    if what == "vector":
        return InputError(f"{what}: it holds {reason}", option=what)
    return InputError(f"{what}: row {int(np.argmax(bad))} holds {reason}; nothing was stored", option=what)
