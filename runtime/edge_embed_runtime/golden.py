"""Texts that a bundle comes with, and the vectors that any machine must make of them."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.bundle import Golden
from edge_embed_runtime.vectors import normalize

# Golden vectors of another CPU agree to about 0.9997; a kernel that saturates gives 0.995.
GOLDEN_COSINE = 0.999


def golden_cosine(golden: Sequence[Golden], dim: int, encode: Callable[[str], NDArray[np.float32]]) -> float:
    """The lowest cosine of a golden text's vector to the exporter's; 1 where the bundle has no golden texts.

    encode: gives one text's vector [1, dim or more]. Together the texts would need more memory than the query that most
            processes start with
    """
    if not golden:
        return 1.0
    expected = normalize(np.array([g.vector[:dim] for g in golden], np.float32))
    found = normalize(np.concatenate([encode(g.text)[:, :dim] for g in golden]))
    return float((found * expected).sum(axis=1).min())
