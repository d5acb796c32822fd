"""Which inputs of a layer stand next to each other, where their order is free.

The codes of two neighbours add up to PAIR_LIMIT at most (see linear.py). Where both are large the scale of their output
channel has to grow, and all its other codes lose precision. So inputs with large weights get neighbours with small
ones.
"""

import numpy as np
from numpy.typing import NDArray

# Inputs with small weights that are tried for each with large ones.
TRIED = 64


def pairing(weight: NDArray[np.floating]) -> NDArray[np.intp]:
    """An order of the inputs of a weight [n, m]; those at 2j and 2j + 1 of it fit each other."""
    # in 64 bits: last bits differ from CPU to CPU, and should decide nothing
    share = np.asarray(weight, np.float64) / np.maximum(np.abs(weight).max(axis=0), 1e-12)
    # the largest weights count, each as a share of the largest of its output channel: its eighth power
    order = np.argsort(-np.square(np.square(np.square(share))).sum(axis=1), kind="stable")
    small = order[len(order) // 2 :].tolist()
    pairs: list[int] = []
    for large in order[: len(order) // 2]:
        tried = small[-TRIED:]
        growth = np.maximum(np.abs(share[tried] + share[large]) - 1, 0)
        best = len(tried) - 1 - int(np.square(growth).sum(axis=1)[::-1].argmin())
        pairs += large, small.pop(len(small) - len(tried) + best)
    return np.array(pairs + small, np.intp)
