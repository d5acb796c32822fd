"""From float weights and calibration statistics to int8 layers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_quantize.linear import (
    Int8Linear,
    RowActivation,
    StaticActivation,
    quantize_weight,
    smoothing,
    snap,
)

Array = NDArray[np.float32]
Feed = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Recipe:
    """How one layer's input is quantized."""

    activation: str  # "static", "row" (signed) or "positive row"
    smooth: float | None = None  # SmoothQuant strength
    fold_into: str | None = None  # the layer that produces this input and can take the smoothing into its weights


def channel_maxima(
    run: Callable[[Sequence[str], Feed], Sequence[Array]], outputs: Sequence[str], feeds: Iterable[Feed]
) -> dict[str, Array]:
    """Largest magnitude per channel of each observed value [..., n] over all feeds; padding left out.

    Observed values have shape [sequence, batch, n] or [batch, n]; feeds must hold an `attention_mask`.
    """
    maxima: dict[str, Array] = {}
    for feed in feeds:
        real = feed["attention_mask"].T.astype(bool)
        for name, value in zip(outputs, run(outputs, feed), strict=True):
            rows = value[real] if value.ndim == 3 else value
            largest = np.abs(rows).max(axis=0)
            maxima[name] = np.maximum(maxima[name], largest) if name in maxima else largest
    return maxima


def quantize_layers(
    weights: Mapping[str, Array],
    recipes: Mapping[str, Recipe],
    maxima: Mapping[str, Array],
    source: Callable[[str], str],
) -> dict[str, Int8Linear]:
    """Quantize every layer that has a recipe.

    weights: `NAME.weight` [n, m] and, where there is one, `NAME.bias` [m]
    maxima:  largest magnitude per channel of each layer's input, by `source(NAME)`
    Layers with one source must have one smoothing, so theirs is found from their weights side by side.
    """
    matrices = {name: weights[f"{name}.weight"].copy() for name in recipes}
    biases = {name: weights[f"{name}.bias"].copy() for name in recipes if f"{name}.bias" in weights}
    groups: dict[str, list[str]] = {}
    for name in recipes:
        groups.setdefault(source(name), []).append(name)
    factors: dict[str, Array] = {}
    for value, names in groups.items():
        strength = recipes[names[0]].smooth
        if strength is None:
            continue
        factor = smoothing(maxima[value], np.hstack([matrices[name] for name in names]), strength)
        factors[value] = factor
        for name in names:
            matrices[name] *= factor[:, None]
        producer = recipes[names[0]].fold_into
        if producer is not None:
            matrices[producer] /= factor
            biases[producer] /= factor
    layers = {}
    for name, recipe in recipes.items():
        value = source(name)
        maximum = maxima[value] / factors[value] if value in factors else maxima[value]
        codes, scale = quantize_weight(matrices[name])
        layers[name] = Int8Linear(
            weight=codes,
            weight_scale=scale,
            bias=biases.get(name),
            activation=_activation(recipe, float(maximum.max())),
            smooth=None if recipe.fold_into else factors.get(value),
        )
    return layers


def _activation(recipe: Recipe, maximum: float) -> StaticActivation | RowActivation:
    if recipe.activation == "static":
        return StaticActivation(scale=float(snap(max(maximum, 1e-6) / 127)))
    return RowActivation(signed=recipe.activation == "row")
