"""A linear layer in int8: weights per output channel, activations with a static scale or one scale per row.

Both kinds of activation scale depend on the layer or on the row alone, never on the batch, so a text gets the same
vector whatever it is batched with.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

# Scales found by calibration are rounded up to a multiple of 2^(1/16), so that the last bits of a float, which differ
# from CPU to CPU, do not change a bundle's bytes.
STEPS_PER_OCTAVE = 16


@dataclass(frozen=True)
class StaticActivation:
    """x is stored as round(x / scale) + 128 in uint8; `scale` comes from calibration."""

    scale: float
    zero_point: int = 128


@dataclass(frozen=True)
class RowActivation:
    """x is divided by its row's largest value, then stored as round(x * levels) + zero_point in uint8.

    Of `signed` rows the largest magnitude counts (zero point 128, 127 levels). The others come from an activation
    with a small negative part (GELU: never under -0.17), where the largest value counts and the zero point is low,
    which leaves 200 levels for the positive part.
    """

    signed: bool

    @property
    def levels(self) -> int:
        return 127 if self.signed else 200

    @property
    def zero_point(self) -> int:
        return 128 if self.signed else 55


@dataclass(frozen=True)
class Int8Linear:
    """y = dequantize(quantize(x / smooth) @ weight) + bias, shapes x [..., n], weight int8 [n, m], bias [m]."""

    weight: NDArray[np.int8]
    weight_scale: Array
    bias: Array | None
    activation: StaticActivation | RowActivation
    smooth: Array | None


def snap(values: Array | float, steps: int = STEPS_PER_OCTAVE) -> Array:
    """Round up to a power of 2^(1/steps): snap(0.9, 1) -> 1.0, snap(1.1, 1) -> 2.0."""
    exponents = np.ceil(np.log2(np.asarray(values, np.float64)) * steps - 1e-4) / steps
    return np.exp2(exponents).astype(np.float32)


def quantize_weight(weight: Array) -> tuple[NDArray[np.int8], Array]:
    """Quantize [n, m] to int8 with one scale per output channel [m], symmetric: -127..127.

    -128 is left out so that the range is the same on both sides.
    """
    scale = np.maximum(np.abs(weight).max(axis=0), 1e-12).astype(np.float32) / np.float32(127)
    codes = np.rint(weight / scale).astype(np.int8)
    return codes, scale


def smoothing(activation_max: Array, weight: Array, strength: float) -> Array:
    """Per-channel factors that move outliers of x [.., n] into the weight [n, m] (SmoothQuant,
    arXiv:2211.10438, eq. 4).

    factor = max|x_j|^strength / max|W_j|^(1 - strength), rounded to a power of two (see STEPS_PER_OCTAVE).
    """
    activation_max = np.maximum(activation_max, 1e-5)
    weight_max = np.maximum(np.abs(weight).max(axis=1), 1e-5)
    factor = activation_max**strength / weight_max ** (1 - strength)
    return snap(factor / np.exp(np.log(factor).mean()), steps=2)


def quantize_rows(table: Array) -> tuple[NDArray[np.int8], Array]:
    """Quantize an embedding table [n, m] to int8 with one scale per row [n, 1]."""
    codes, scale = quantize_weight(np.ascontiguousarray(table.T))
    return np.ascontiguousarray(codes.T), scale[:, None]
