"""The projection and how it is fitted: kernel ridge regression, from a tower's features to vectors in the texts' space.

A file is placed by how near it is to the files that were learnt from, and its vector is a weighted sum of theirs. The
weights have a closed form: no passes, no rate of learning, and the same rows give the same projection. On concepts held
out of the emoji that train, it finds more than two layers trained by gradients, one or several of them, with a
contrastive loss or without (docs/pictures-and-sounds.md).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.align.backbone import Features
from edge_embed_runtime.vectors.normalize import normalize

Array = NDArray[np.float32]

# A feature that is nearly the same everywhere says nothing: it is not blown up beyond this share of the mean spread.
LEAST_SPREAD = 0.1
# How fast nearness, exp(SHARPNESS * (cosine - 1)), falls with the cosine of two rows.
SHARPNESS = 2.0
# Of the regression: larger weights are held back so much.
PENALTY = 0.1
# Rows that others are compared with, at most: this bounds the size of the head.
MOST_CENTRES = 4096
# What a tower's own vector, where it lies in the texts' space, counts beside the head's.
OWN = np.float32(0.5)
# Rows compared at a time.
PART = 4096


class Head(NamedTuple):
    """unit((exp(unit((root(x) - mean) * scale) @ first) - 1) @ second + bias): root(x) is the square root of |x| with
    the sign of x, unit brings to length 1. 1 is taken away since weights in int8 would blur sums of large numbers.

    mean, scale: [features]
    first:       [features, centres], SHARPNESS times the centres
    second:      [centres, dim]
    bias:        [dim]
    """

    mean: Array
    scale: Array
    first: Array
    second: Array
    bias: Array

    def apply(self, rows: Array, own: Array) -> Array:
        """The vectors of rows [n, features], with the tower's own added, of length 1."""
        places = normalize((root(rows) - self.mean) * self.scale)
        vectors = normalize((np.exp(places @ self.first) - 1) @ self.second + self.bias)
        return normalize(vectors + OWN * own) if own.shape[1] else vectors


def root(rows: Array) -> Array:
    """The square root of |x| with the sign of x: large activations count less."""
    found: Array = np.sign(rows) * np.sqrt(np.abs(rows))
    return found


def fit_head(features: Features, targets: Array, seed: int) -> Head:
    """The head whose vectors are nearest to targets: [n, dim], of each row.

    seed: which plain rows are compared with, where there are more than MOST_CENTRES
    """
    rows = root(features.rows)
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    scale = np.float32(1) / np.maximum(spread, np.float32(LEAST_SPREAD * spread.mean()) or np.float32(1))
    places = normalize((rows - mean) * scale)
    plain = np.flatnonzero(features.plain)
    penalty = PENALTY * len(places) / len(plain)
    if len(plain) > MOST_CENTRES:
        plain = np.sort(np.random.default_rng(seed).choice(plain, MOST_CENTRES, replace=False))
    centres, middle = places[plain], targets.mean(axis=0)
    left, right = np.zeros((len(centres), len(centres))), np.zeros((len(centres), targets.shape[1]))
    for start in range(0, len(places), PART):
        near = _near(places[start : start + PART], centres)
        left += near.T @ near
        right += near.T @ (targets[start : start + PART] - middle)
    left += penalty * _near(centres, centres)
    left[np.diag_indices_from(left)] += 1e-6 * np.trace(left) / len(left)  # centres may be the same
    second = np.exp(-SHARPNESS) * np.linalg.solve(left, right)
    bias = (middle + second.sum(axis=0)).astype(np.float32)
    return Head(mean, scale, np.float32(SHARPNESS) * centres.T, second.astype(np.float32), bias)


def _near(rows: Array, centres: Array) -> Array:
    found: Array = np.exp(np.float32(SHARPNESS) * (rows @ centres.T - np.float32(1)))
    return found
