"""From float weights and calibration statistics to int8 layers.

Before weights are rounded, the activations they read are brought into a range that eight bits serve well. Each step
leaves the float model as it was, and all but one cost nothing when the model runs:

- offset: a channel is moved to the middle of its range. The norm or layer that produces it takes the offset into its
  bias; the readers' biases, and the residual's, take it out again.
- smoothing: outlier channels are scaled down, their weights up (SmoothQuant). The producer takes the factor where
  nothing else reads it; elsewhere it is one multiplication.
- split: a feed-forward channel that goes above the others' range is cut at the ceiling c, as eight bits cut it anyway,
  and continued in a new channel with the bias lowered by c: a(u) = min(a(u), c) + a(u - c) for an activation
  a(u) that is u above 0 and 0 below. For ReLU that is exact, for GELU off by at most 0.17 around u = c.
- order: channels inside a feed-forward layer are put in an order in which neighbours fit each other (see pairing.py).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_quantize.linear import (
    Array,
    Codes,
    Int4Storage,
    Int8Linear,
    RowActivation,
    StaticActivation,
    smoothing,
    snap,
)
from edge_embed_quantize.lowrank import follow_input, follow_order, follow_output, follow_split
from edge_embed_quantize.pairing import pairing
from edge_embed_quantize.rounding import Grams, parts_of

# More channels than this are no longer a few for outliers.
LARGEST_EXTRA = 1024

Feed = dict[str, NDArray[Any]]
Weights = Mapping[str, Array]
Rounded = tuple[Codes, Array, Int4Storage | None]
Run = Callable[[Sequence[str], Feed], Sequence[Array]]


@dataclass(frozen=True)
class Site:
    """A value that one or several linear layers read, and what around it can take over a change to it.

    producer: the norm or linear layer that gives the value; its bias takes an offset
    scalable: nothing but `readers` reads the value, so the producer can take a scale as well
    shiftable: the producer can take an offset; not where its output is multiplied by something else on the way here
    residual: the linear layer whose output is added to this value; its bias gives an offset back
    split:    the linear layer before an activation function whose output this value is
    inner:    the linear layers whose outputs this value is made of, number by number, and which nothing else reads: the
              order of its channels is free. Where there is `split`, that
    margin:   times what calibration texts show, a static scale reaches
    bounded:  what the value can be is known, so one scale for all rows is enough
    """

    name: str
    readers: tuple[str, ...]
    producer: str | None = None
    scalable: bool = False
    shiftable: bool = True
    residual: str | None = None
    split: str | None = None
    inner: tuple[str, ...] = ()
    margin: float = 1.0
    bounded: bool = False

    @property
    def makers(self) -> tuple[str, ...]:
        """The layers that give the value's channels, where their order is free."""
        return self.inner or ((self.split,) if self.split else ())


@dataclass(frozen=True)
class Recipe:
    """How a site is quantized.

    activation: "static" (one scale, from calibration) or "row" (one scale per row, for values after pooling)
    smooth:     SmoothQuant strength, 0 to 1; None for none
    extra:      channels that may be added for outliers (sites with `split`), 0 to LARGEST_EXTRA

    Raises ValueError for anything else: recipes are read from files.
    """

    activation: str = "static"
    smooth: float | None = None
    extra: int = 0

    def __post_init__(self) -> None:
        kind, smooth, extra = self.activation, self.smooth, self.extra
        smooth_fits = smooth is None or (isinstance(smooth, float | int) and 0 <= smooth <= 1)
        if not (kind in ("static", "row") and smooth_fits and isinstance(extra, int) and 0 <= extra <= LARGEST_EXTRA):
            raise ValueError(f"{self} is not a way to quantize")


@dataclass(frozen=True)
class Range:
    """Lowest and highest value per channel [n] over the calibration texts.

    peak: the largest magnitude in any row, in times of the median row's largest
    """

    low: Array
    high: Array
    peak: float = 1.0


@dataclass(frozen=True)
class Input:
    """A site's value as its readers see it: (x[:, source] - offset) / factor, cut and rounded by `activation`."""

    activation: StaticActivation | RowActivation
    source: NDArray[np.intp]
    offset: Array
    factor: Array
    smooth: Array | None = None

    def simulate(self, x: Array) -> Array:
        """Rows [k, n] of the float model -> [k, n + extra], as the integer products see them."""
        rows = (x[:, self.source] - self.offset) / self.factor
        if len(self.source) > x.shape[1]:  # the activation function of u - c, for u far above 0 or far below c
            rows[:, self.offset > 0] = np.maximum(rows[:, self.offset > 0], 0)
        return self.activation.simulate(rows)


def observe(run: Run, outputs: Sequence[str], feeds: Iterable[Feed]) -> Iterator[dict[str, Array]]:
    """Values of the model by name, [tokens, n], a batch at a time; padding left out.

    Values have shape [k * sequence * batch, n], k > 1 where layers share weights, or, after pooling, [batch, n]; feeds
    of texts hold an `attention_mask` [batch, sequence]. Without one there is no padding.
    """
    for feed in feeds:
        real = feed["attention_mask"].T.ravel().astype(bool) if "attention_mask" in feed else np.empty(0, bool)
        values = list(run(outputs, feed))[::-1]
        found = {}
        for name in outputs:
            value = values.pop()  # with padding it is not needed any more
            padded = 0 < len(real) <= len(value) and not real.all()
            found[name] = value[np.tile(real, len(value) // len(real))] if padded else value
        yield found


def ranges(values: Iterable[Mapping[str, Array]]) -> dict[str, Range]:
    """The range of every channel over batches of values [tokens, n]."""
    lows: dict[str, Array] = {}
    highs: dict[str, Array] = {}
    largest: dict[str, list[Array]] = {}
    for batch in values:
        for name, rows in batch.items():
            low, high = rows.min(axis=0), rows.max(axis=0)
            lows[name] = np.minimum(low, lows.get(name, low))
            highs[name] = np.maximum(high, highs.get(name, high))
            largest.setdefault(name, []).append(np.abs(rows).max(axis=1))
    peaks = {name: np.concatenate(found) for name, found in largest.items()}
    return {
        name: Range(lows[name], highs[name], float(peak.max() / max(float(np.median(peak)), 1e-12)))
        for name, peak in peaks.items()
    }


def grams(values: Iterable[Mapping[str, Array]], inputs: Mapping[str, Input]) -> dict[str, Grams]:
    """x^T x [n, n] per token of what the integer products will see, of each part of the channels (see `parts_of`)."""
    totals: dict[str, Grams] = {}
    tokens = dict.fromkeys(inputs, 0)
    for batch in values:
        for name, rows in batch.items():
            seen = inputs[name].simulate(rows)
            parts = parts_of(seen.shape[1])
            sums = totals.setdefault(name, [np.zeros((part.stop - part.start,) * 2) for part in parts])
            for i, part in enumerate(parts):
                sums[i] += seen[:, part].T @ seen[:, part]
            tokens[name] += len(rows)
    for name, sums in totals.items():
        for i in range(len(sums)):
            sums[i] /= tokens[name]
    return totals


def condition(
    weights: Weights, sites: Sequence[Site], recipes: Mapping[str, Recipe], found: Mapping[str, Range]
) -> tuple[dict[str, Array], dict[str, Input]]:
    """Offset, smooth and split: the changed weights, and how each site is to be quantized.

    weights: `NAME.weight` [n, m] and `NAME.bias` [m] of linear layers, `NAME.weight` and `NAME.bias` [n] of norms
    found:   the range of each site's value
    """
    changed = {name: array.astype(np.float64) for name, array in weights.items() if _is_layer(name)}
    inputs = {}
    for site in sites:
        recipe = recipes[site.name]
        low, high = found[site.name].low.astype(np.float64), found[site.name].high.astype(np.float64)
        if site.split is not None and recipe.activation == "static":
            inputs[site.name] = _split(changed, site, recipe, low, high)
        else:
            inputs[site.name] = _shift_and_smooth(changed, site, recipe, low, high)
        if site.makers and len(site.readers) == 1:
            inputs[site.name] = _order(changed, site, inputs[site.name])
    return {**weights, **{name: changed.pop(name).astype(np.float32) for name in list(changed)}}, inputs


def _is_layer(name: str) -> bool:
    return name.endswith((".weight", ".bias"))


def _shift_and_smooth(weights: dict[str, Any], site: Site, recipe: Recipe, low: Any, high: Any) -> Input:
    offset, factor = np.zeros_like(low), np.ones_like(low)
    biased = [name for name in (*site.readers, site.producer, site.residual) if name is not None]
    if site.producer is not None and site.shiftable and all(f"{name}.bias" in weights for name in biased):
        offset = (low + high) / 2
        weights[f"{site.producer}.bias"] -= offset
        for reader in site.readers:
            weights[f"{reader}.bias"] += offset @ weights[f"{reader}.weight"]
        if site.residual is not None:
            weights[f"{site.residual}.bias"] += offset
    largest = np.maximum(np.abs(low - offset), np.abs(high - offset)) * site.margin
    folded = site.scalable and site.producer is not None
    if recipe.smooth is not None:
        side_by_side = np.hstack([weights[f"{reader}.weight"] for reader in site.readers])
        factor = smoothing(largest, side_by_side, recipe.smooth).astype(np.float64)
        for reader in site.readers:
            weights[f"{reader}.weight"] *= factor[:, None]
        if folded:
            for part in ("weight", "bias"):
                if f"{site.producer}.{part}" in weights:
                    weights[f"{site.producer}.{part}"] /= factor
            follow_output(weights, str(site.producer), factor)
    follow_input(weights, site.readers, offset, factor if folded else None)
    activation: StaticActivation | RowActivation = RowActivation()
    if recipe.activation == "static":
        activation = StaticActivation(scale=float(snap(max(float((largest / factor).max()), 1e-6) / 127)))
    as_float = factor.astype(np.float32)
    smooth = None if folded or recipe.smooth is None else as_float
    return Input(activation, np.arange(len(low)), offset.astype(np.float32), as_float, smooth)


def _split(weights: dict[str, Any], site: Site, recipe: Recipe, low: Any, high: Any) -> Input:
    (reader,) = site.readers
    top = max(float(high.max()), 1e-6)
    ceiling = top
    for candidate in np.geomspace(top, max(np.median(high), 1e-6), 200):
        if (np.ceil(high / candidate - 1e-9) - 1).clip(0).sum() <= recipe.extra:
            ceiling = float(candidate)
    floor = max(0.0, -float(low.min()))
    scale = float(snap((ceiling + floor) / 254, steps=64))
    zero_point = int(np.ceil(floor / scale))
    ceiling = (255 - zero_point) * scale
    counts = (np.ceil(high / ceiling - 1e-9) - 1).clip(0).astype(int)
    channels = np.repeat(np.arange(len(high)), counts)
    steps = np.concatenate([np.arange(1, count + 1) for count in counts]) * ceiling
    # the layer keeps one width whatever was found; a channel of its own that has no weight behind it adds nothing
    unused = recipe.extra - len(channels)
    channels, steps = np.append(channels, [0] * unused).astype(int), np.append(steps, [0.0] * unused)
    into, out_of = weights[f"{site.split}.weight"], weights[f"{reader}.weight"]
    bias = weights.get(f"{site.split}.bias", np.zeros(into.shape[1]))
    continued = out_of[channels]
    continued[recipe.extra - unused :] = 0
    weights[f"{site.split}.weight"] = np.hstack([into, into[:, channels]])
    weights[f"{site.split}.bias"] = np.append(bias, bias[channels] - steps)
    weights[f"{reader}.weight"] = np.vstack([out_of, continued])
    follow_split(weights, str(site.split), reader, channels)
    source = np.append(np.arange(len(high)), channels)
    offset = np.append(np.zeros(len(high)), steps).astype(np.float32)
    return Input(StaticActivation(scale, zero_point), source, offset, np.ones(len(source), np.float32))


def _order(weights: dict[str, Any], site: Site, found: Input) -> Input:
    (reader,) = site.readers
    order = pairing(weights[f"{reader}.weight"])
    weights[f"{reader}.weight"] = weights[f"{reader}.weight"][order]
    for maker in site.makers:
        for part in ("weight", "bias"):
            if f"{maker}.{part}" in weights:
                weights[f"{maker}.{part}"] = weights[f"{maker}.{part}"][..., order]
    follow_order(weights, site.makers, reader, order)
    smooth = None if found.smooth is None else found.smooth[order]
    return replace(
        found, source=found.source[order], offset=found.offset[order], factor=found.factor[order], smooth=smooth
    )


def quantize_layers(
    weights: Weights, sites: Sequence[Site], inputs: Mapping[str, Input], round_weight: Callable[[Site, Array], Rounded]
) -> dict[str, Int8Linear]:
    """Quantize the layers that read the sites.

    weights:      as `condition` returns them
    round_weight: a weight [n, m] that reads a site -> its codes, scales and how they are stored
    """
    layers = {}
    for site in sites:
        used = inputs[site.name]
        for reader in site.readers:
            codes, scale, stored = round_weight(site, weights[f"{reader}.weight"])
            bias = weights.get(f"{reader}.bias")
            layers[reader] = Int8Linear(codes, scale, bias, used.activation, used.smooth, stored)
    return layers


def search(
    recipes: Mapping[str, Recipe],
    choices: Mapping[str, Sequence[Recipe]],
    score: Callable[[Mapping[str, Recipe]], float],
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Recipe]:
    """Coordinate ascent: site by site, in the order of `choices`, the recipe with the best score is kept.

    score: what is to be maximised, for one recipe per site
    """
    best = dict(recipes)
    highest = score(best)
    for number, (name, candidates) in enumerate(choices.items(), start=1):
        for candidate in candidates:
            if candidate == best[name]:
                continue
            reached = score({**best, name: candidate})
            if reached > highest:
                best, highest = {**best, name: candidate}, reached
        progress(f"search {number} of {len(choices)}: {name} {best[name]}, {highest:.6f}")
    return best
