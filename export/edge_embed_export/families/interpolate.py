"""Tables of positions for pictures of another size, as torch's interpolate(mode="bicubic", align_corners=False) makes
them."""

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.transformer.spec import Array

Numbers = NDArray[np.float64]
# The sharpness of torch's bicubic kernel (Keys 1981), which differs where it smooths.
PLAIN, SMOOTH = -0.75, -0.5


def bicubic(table: Array, size: tuple[int, int], *, antialias: bool = False) -> Array:
    """[rows, columns, n] -> [*size, n]. antialias: as torch's option of this name"""
    weights = _smooth if antialias else _plain
    rows, columns = (weights(have, want) for have, want in zip(table.shape[:2], size, strict=True))
    found = np.einsum("ir,jc,rcn->ijn", rows, columns, table.astype(np.float64), optimize=True)
    return np.asarray(found, np.float32)


def _plain(have: int, want: int) -> Numbers:
    """What each of `want` numbers takes of `have`, of the four next to it: [want, have]."""
    # torch computes places in float32
    places = np.float32(have / want) * (np.arange(want, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    first = np.floor(places)
    found = np.zeros((want, have))
    for step in (-1, 0, 1, 2):
        share = _kernel(np.abs(places - first - np.float32(step)).astype(np.float64), PLAIN)
        np.add.at(found, (np.arange(want), np.clip(first.astype(int) + step, 0, have - 1)), share)
    return found


def _smooth(have: int, want: int) -> Numbers:
    """`_plain` with a kernel as wide as what one number stands for: [want, have]."""
    scale = have / want
    stretch = max(scale, 1.0)
    centres = scale * (np.arange(want) + 0.5)
    first = np.maximum((centres - 2 * stretch + 0.5).astype(int), 0)
    end = np.minimum((centres + 2 * stretch + 0.5).astype(int), have)
    numbers = np.arange(have)
    inside = (numbers >= first[:, None]) & (numbers < end[:, None])
    found = np.where(inside, _kernel(np.abs(numbers - centres[:, None] + 0.5) / stretch, SMOOTH), 0.0)
    return np.asarray(found / found.sum(axis=1, keepdims=True), np.float64)


def _kernel(distance: Numbers, sharpness: float) -> Numbers:
    a, x = sharpness, distance
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
