"""A linear layer in int8: weights per output channel, activations with a static scale or one scale per row.

Both kinds of activation scale depend on the layer or on the row alone, never on the batch, so a text gets the same
vector whatever it is batched with.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Codes = NDArray[np.int8]

# Scales found by calibration are rounded up to a multiple of 2^(1/16), so that the last bits of a float, which differ
# from CPU to CPU, do not change them.
STEPS_PER_OCTAVE = 16
# CPUs without VNNI add the products of two neighbouring inputs in 16 bits: 255 * 128 fits, 255 * 129 does not. So the
# codes of each pair of inputs, 2j and 2j + 1 of one output channel, add up to at most this, on either side of 0.
PAIR_LIMIT = 128
# Rows of a table that are looked at together: tables are the largest part of multilingual models.
ROWS = 4096


@dataclass(frozen=True)
class StaticActivation:
    """x is stored as round(x / scale) + zero_point in uint8; both come from calibration."""

    scale: float
    zero_point: int = 128

    def simulate(self, x: Array) -> Array:
        """x as the integer product sees it."""
        codes = np.clip(np.rint(x / self.scale) + self.zero_point, 0, 255)
        return np.asarray((codes - self.zero_point) * self.scale, np.float32)


@dataclass(frozen=True)
class RowActivation:
    """x is divided by its row's largest magnitude, then stored as round(x * 127) + 128 in uint8."""

    levels: int = 127
    zero_point: int = 128

    def simulate(self, x: Array) -> Array:
        """x as the integer product sees it."""
        row = np.maximum(np.abs(x).max(axis=-1, keepdims=True), 1e-12) / self.levels
        return np.asarray(np.rint(x / row) * row, np.float32)


@dataclass(frozen=True)
class Int4Storage:
    """An int8 weight [n, m] as it is stored: codes of four bits, packed, times multipliers int8 [n / group, m]."""

    planes: list[tuple[int, NDArray[np.uint8]]]
    multipliers: Codes


@dataclass(frozen=True)
class Int8Linear:
    """y = dequantize(quantize(x / smooth) @ weight) + bias, shapes x [..., n], weight int8 [n, m], bias [m]."""

    weight: Codes
    weight_scale: Array
    bias: Array | None
    activation: StaticActivation | RowActivation
    smooth: Array | None = None
    stored: Int4Storage | None = None


def snap(values: Array | float, steps: int = STEPS_PER_OCTAVE) -> Array:
    """Round up to a power of 2^(1/steps): snap(0.9, 1) -> 1.0, snap(1.1, 1) -> 2.0."""
    exponents = np.ceil(np.log2(np.asarray(values, np.float64)) * steps - 1e-4) / steps
    return np.exp2(exponents).astype(np.float32)


def weight_scale(weight: Array) -> Array:
    """Scale per output channel [m] of a weight [n, m] in -127..127: -128 is left out, so both sides are alike."""
    return np.asarray(np.maximum(np.abs(weight).max(axis=0), 1e-12) / 127, np.float32)


def product_scale(weight: Array) -> Array:
    """Scale per output channel [m] of a weight [n, m] whose pairs of inputs keep PAIR_LIMIT as well."""
    pairs = np.abs(weight[0:-1:2] + weight[1::2]).max(axis=0, initial=0.0)
    return np.asarray(np.maximum(weight_scale(weight), pairs / PAIR_LIMIT), np.float32)


def beside(codes: NDArray[Any], least: int = -127) -> tuple[NDArray[Any], NDArray[Any]]:
    """Lowest and highest code that may stand in a pair with each of these: 100 -> (-127, 28), -50 -> (-78, 127)."""
    low = np.maximum(-PAIR_LIMIT - np.minimum(codes, 0), least)
    return low, np.minimum(PAIR_LIMIT - np.maximum(codes, 0), 127)


def quantize_weight(weight: Array) -> tuple[Codes, Array]:
    """Quantize [n, m] to int8 with one scale per output channel [m], each weight to its nearest code."""
    scale = weight_scale(weight)
    return np.rint(weight / scale).astype(np.int8), scale


def quantize_rows(table: Array, *, multiplied: bool = False) -> tuple[Codes, Array]:
    """Quantize an embedding table [n, m] to int8 with one scale per row [n, 1]; only some rows are float at a time.

    multiplied: products are made with the rows too, so that their pairs keep PAIR_LIMIT
    """
    codes, scales = np.empty(table.shape, np.int8), np.empty((len(table), 1), np.float32)
    for start in range(0, len(table), ROWS):
        rows = np.asarray(table[start : start + ROWS])
        scale = (product_scale if multiplied else weight_scale)(rows.T)[:, None]
        nearest = np.rint(rows / scale)
        if multiplied:  # two halves that were both rounded up go beyond the limit by one
            nearest[:, 1::2] = np.clip(nearest[:, 1::2], *beside(nearest[:, 0:-1:2]))
        codes[start : start + ROWS] = nearest
        scales[start : start + ROWS] = scale
    return codes, scales


def smoothing(activation_max: Array, weight: Array, strength: float) -> Array:
    """Per-channel factors that move outliers of x [.., n] into the weight [n, m] (SmoothQuant,
    arXiv:2211.10438, eq. 4).

    factor = max|x_j|^strength / max|W_j|^(1 - strength), rounded to a power of two (see STEPS_PER_OCTAVE).
    """
    activation_max = np.maximum(activation_max, 1e-5)
    weight_max = np.maximum(np.abs(weight).max(axis=1), 1e-5)
    factor = activation_max**strength / weight_max ** (1 - strength)
    return snap(factor / np.exp(np.log(factor).mean()), steps=2)
