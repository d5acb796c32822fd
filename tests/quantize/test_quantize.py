"""quantize/: int8 layers, rounding by their outputs, tables in few bits, calibration and the receipt."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from builders.tables import rows_of, unpack
from numpy.typing import NDArray

from edge_embed_quantize.calibrate import (
    LARGEST_EXTRA,
    Input,
    Range,
    Recipe,
    Site,
    condition,
    grams,
    observe,
    quantize_layers,
    ranges,
    search,
)
from edge_embed_quantize.linear import (
    PAIR_LIMIT,
    RowActivation,
    StaticActivation,
    beside,
    product_scale,
    quantize_rows,
    quantize_weight,
    smoothing,
    snap,
    weight_scale,
)
from edge_embed_quantize.pairing import pairing
from edge_embed_quantize.receipt import cosine_receipt, rank_tiers
from edge_embed_quantize.rounding import LARGEST_MULTIPLIER, round_int4, round_int8
from edge_embed_quantize.table import compact_table, pack
from edge_embed_runtime.vectors.int8 import quantize_int8
from edge_embed_runtime.vectors.rotation import Frame

Array = NDArray[np.float32]


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def normal(random: np.random.Generator, *shape: int) -> Array:
    return random.standard_normal(shape).astype(np.float32)


def unit(vectors: Array) -> Array:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def gram(x: Array) -> NDArray[np.float64]:
    return (x.T @ x).astype(np.float64) / len(x)


# linear.py


def test_weight_error_is_half_a_step(random: np.random.Generator) -> None:
    """One scale per output channel; no weight is off by more than half of its channel's step."""
    weight = normal(random, 50, 8) * np.logspace(-3, 3, 8, dtype=np.float32)
    codes, scale = quantize_weight(weight)
    assert codes.dtype == np.int8
    assert (np.abs(codes).max(axis=0) == 127).all()
    assert (np.abs(codes * scale - weight) <= scale * 0.5001).all()


def test_zero_channel() -> None:
    """A channel of zeros stays zero."""
    codes, scale = quantize_weight(np.zeros((4, 2), np.float32))
    assert not codes.any()
    assert np.isfinite(scale).all()


def test_rows_have_their_own_scale(random: np.random.Generator) -> None:
    """An embedding table gets one scale per row."""
    table = normal(random, 6, 10) * np.logspace(-2, 2, 6, dtype=np.float32)[:, None]
    codes, scale = quantize_rows(table)
    assert scale.shape == (6, 1)
    assert (np.abs(codes * scale - table) <= scale * 0.5001).all()


def test_snap_rounds_up_to_the_grid() -> None:
    """Values go up to the next step, and last bits do not matter."""
    assert snap(0.9, 1) == 1
    assert snap(1.1, 1) == 2
    assert snap(1.0, 1) == 1
    values = np.array([0.3, 1.7, 20.0])
    assert (snap(values) >= values * 0.999).all()
    assert (snap(values) <= values * 2 ** (1 / 16) * 1.001).all()
    assert np.array_equal(snap(values), snap(values * (1 + 1e-6)))


def test_smoothing_moves_outliers_into_the_weight(random: np.random.Generator) -> None:
    """Outlier channels get a larger factor, a power of sqrt(2); strength 0 looks at the weight alone."""
    weight = normal(random, 4, 16)
    largest = np.array([1, 1, 100, 1], np.float32)
    factor = smoothing(largest, weight, 0.5)
    assert factor.argmax() == 2
    assert factor[2] / np.median(factor) == pytest.approx(10, rel=0.5)
    assert np.allclose(np.log2(factor) * 2, np.rint(np.log2(factor) * 2), atol=1e-5)
    assert np.array_equal(smoothing(largest, weight, 0), smoothing(np.ones(4, np.float32), weight, 0))


def test_static_activation_cuts_and_rounds() -> None:
    """With scale 0.5 and zero point 10 a code is round(x / 0.5) + 10, cut to 0..255."""
    x = np.array([[-6, -5, -0.3, 0.2, 0.3, 122.5, 200]], np.float32)
    seen = StaticActivation(0.5, 10).simulate(x)
    assert seen.dtype == np.float32
    assert seen.tolist() == [[-5, -5, -0.5, 0, 0.5, 122.5, 122.5]]


def test_row_activation_rounds_to_its_own_largest() -> None:
    """Each row's largest magnitude is 127 steps, whatever the other rows hold; a row of zeros stays zero."""
    x = np.array([[127, 0.4, -63.6], [0, 0, 0], [-12.7, 0.04, 6.36]], np.float32)
    expected = [[127, 0, -64], [0, 0, 0], [-12.7, 0, 6.4]]
    assert np.allclose(RowActivation().simulate(x), expected, atol=1e-6)
    assert np.array_equal(RowActivation().simulate(x[2:]), RowActivation().simulate(x)[2:])


@pytest.mark.parametrize("activation", [StaticActivation(0.03125, 100), RowActivation()])
def test_simulation_is_the_integer_product(
    random: np.random.Generator, activation: StaticActivation | RowActivation
) -> None:
    """simulate(x) @ (codes * scale) is what integers give: sums of (uint8 code - zero point) * int8 code, scaled."""
    x, weight = normal(random, 30, 12), normal(random, 12, 5)
    codes, scale = quantize_weight(weight)
    step: Any = np.abs(x).max(axis=1, keepdims=True) / 127
    if isinstance(activation, StaticActivation):
        step = activation.scale
    unsigned = np.clip(np.rint(x / step) + activation.zero_point, 0, 255).astype(np.uint8)
    exact = (unsigned.astype(np.int64) - activation.zero_point) @ codes.astype(np.int64)
    assert np.abs(activation.simulate(x) @ (codes * scale) - exact * step * scale).max() < 1e-5


def test_what_may_stand_beside_a_code() -> None:
    """255 times both codes of a pair fits 16 bits, and 255 times one code more does not."""
    first = np.arange(-127, 128)
    low, high = beside(first)
    assert (low[first == 100], high[first == 100]) == (-127, 28)
    assert (low[first == -50], high[first == -50]) == (-78, 127)
    worst = 255 * np.maximum(np.abs(first + low), np.abs(first + high))
    assert worst.max() <= 2**15 - 1
    assert (255 * (first + high + 1)[high < 127] > 2**15 - 1).all()
    assert (255 * (first + low - 1)[low > -127] < -(2**15)).all()


def test_rows_of_a_table_that_is_multiplied_with(random: np.random.Generator) -> None:
    """Their pairs keep the limit; a scale grows only where a pair needs it."""
    table = normal(random, 40, 12)
    table[0, :2] = 10, 9.99
    table[1, :2] = 10, -9
    codes, scale = quantize_rows(table, multiplied=True)
    assert largest_pair(codes.T) == PAIR_LIMIT
    assert (codes[1, 0], codes[0].tolist()[:2]) == (127, [64, 64])
    assert (np.abs(codes * scale - table) <= scale * 1.0001).all()
    odd, _ = quantize_rows(table[:, :11], multiplied=True)
    assert largest_pair(odd.T) <= PAIR_LIMIT


# rounding.py


def alike(random: np.random.Generator, rows: int = 400, width: int = 48) -> Array:
    """Inputs [rows, width] of which a quarter says nearly everything, as in a real model."""
    return normal(random, rows, width // 4) @ normal(random, width // 4, width) + 0.1 * normal(random, rows, width)


def output_error(x: Array, weight: Array, rounded: NDArray[Any]) -> float:
    return float(np.linalg.norm(x @ (weight - rounded)))


def eight_bits(weight: Array, product: NDArray[np.float64]) -> Array:
    codes, scale = round_int8(weight, [product])
    assert codes.dtype == np.int8
    assert codes.min() >= -127
    assert largest_pair(codes) <= PAIR_LIMIT
    return codes * scale


def largest_pair(codes: NDArray[Any]) -> int:
    """Of inputs 2j and 2j + 1 of one output channel, the largest sum of codes, on either side of 0."""
    whole = codes[: len(codes) // 2 * 2].astype(int)
    return int(np.abs(whole[0::2] + whole[1::2]).max())


def apart(weight: Array) -> Array:
    """The weight with pairs so small, beside one weight of each channel, that no limit for pairs is felt."""
    weight[0] = 4 * np.abs(weight).max(axis=0)
    weight[1] = -weight[1]
    weight[1, weight[1] > 0] *= -1
    return weight


def four_bits(weight: Array, product: NDArray[np.float64], group: int = 16) -> Array:
    """The weight that four bits stand for; codes and multipliers keep their bounds."""
    codes, multipliers, scale = round_int4(weight, [product], group)
    assert codes.dtype == multipliers.dtype == np.int8
    assert multipliers.shape == (len(weight) // group, weight.shape[1])
    assert (codes.min() >= -8, codes.max() <= 7) == (True, True)
    assert (multipliers.min() >= 1, multipliers.max() <= LARGEST_MULTIPLIER) == (True, True)
    eight = codes.astype(int) * np.repeat(multipliers.astype(int), group, axis=0)
    assert (eight.min() >= -128, eight.max() <= 127) == (True, True)
    assert largest_pair(eight) <= PAIR_LIMIT
    return np.asarray(eight * scale, np.float32)


def test_int8_rounding_keeps_outputs(random: np.random.Generator) -> None:
    """Where inputs are alike, outputs are off by less than half of what nearest codes give; the same every time."""
    x, weight = alike(random), normal(random, 48, 20)
    codes, scale = quantize_weight(weight)
    rounded = eight_bits(weight, gram(x))
    assert output_error(x, weight, rounded) < 0.5 * output_error(x, weight, codes * scale)
    assert (np.abs(rounded - weight) < 8 * scale).all()
    assert np.array_equal(rounded, eight_bits(weight, gram(x)))


def test_int8_rounding_takes_the_nearest_code_for_unrelated_inputs(random: np.random.Generator) -> None:
    """Nothing stands in for anything else, so there is nothing to make up for."""
    weight = apart(normal(random, 100, 7))
    codes, scale = quantize_weight(weight)
    for product in (np.diag(np.arange(1.0, 101)), np.zeros((100, 100))):
        found, found_scale = round_int8(weight, [product])
        assert np.array_equal(found, codes)
        assert np.array_equal(found_scale, scale)


@pytest.mark.parametrize("width", [48, 64, 80, 130])
def test_rounding_in_blocks_is_the_whole(random: np.random.Generator, width: int) -> None:
    """Rounded block by block, the errors of every row reach all rows after it, as when each is written out."""
    x, weight = alike(random, width=width), apart(normal(random, width, 3))
    order = np.argsort(-np.diag(gram(x)), kind="stable")
    product = gram(x)[np.ix_(order, order)]
    damped = product + 0.02 * np.diag(product).mean() * np.eye(width)
    rest, scale = weight[order].astype(np.float64), np.abs(weight).max(axis=0) / 127
    expected = np.empty_like(rest)
    for i in range(width):  # the closed form of optimal brain compression: no Cholesky factor, no blocks
        inverse = np.linalg.inv(damped[i:, i:])
        expected[i] = np.clip(np.rint(rest[i] / scale), -127, 127) * scale
        rest[i:] -= np.outer(inverse[:, 0] / inverse[0, 0], rest[i] - expected[i])
    assert np.abs(eight_bits(weight, gram(x))[order] - expected).max() < 1e-5


def test_rounding_of_singular_inputs(random: np.random.Generator) -> None:
    """A channel that is never anything but 0, and fewer rows than channels, are no obstacle."""
    x, weight = alike(random, rows=10), normal(random, 48, 20)
    x[:, 5] = 0
    codes, scale = quantize_weight(weight)
    assert output_error(x, weight, eight_bits(weight, gram(x))) < 0.5 * output_error(x, weight, codes * scale)
    plain = four_bits(weight, np.eye(48))
    assert output_error(x, weight, four_bits(weight, gram(x))) < 0.8 * output_error(x, weight, plain)
    for rounded in (eight_bits(weight, np.zeros((48, 48))), plain):
        assert np.isfinite(rounded).all()


def test_int4_rounding_keeps_outputs(random: np.random.Generator) -> None:
    """Outputs are nearer to the float layer's than without making up for errors; the same every time."""
    x, weight = alike(random), normal(random, 48, 20)
    rounded = four_bits(weight, gram(x))
    assert output_error(x, weight, rounded) < 0.6 * output_error(x, weight, four_bits(weight, np.eye(48)))
    assert output_error(x, weight, rounded) < 0.1 * np.linalg.norm(x @ weight)
    assert np.array_equal(rounded, four_bits(weight, gram(x)))


def test_int4_groups_have_their_own_step(random: np.random.Generator) -> None:
    """A group of small weights keeps its accuracy next to one of large weights, when it is a group of its own."""
    weight = normal(random, 32, 40)
    weight[16:] /= 20
    small = [np.abs(four_bits(weight, np.eye(32), group)[16:] - weight[16:]).max() for group in (16, 32)]
    assert small[0] < 0.5 * small[1]
    assert small[0] <= np.abs(weight).max() / 127  # multipliers are whole numbers: an int8 step at the least


# table.py


@pytest.mark.parametrize("bits", [3, 4])
def test_packed_codes_come_back(random: np.random.Generator, bits: int) -> None:
    """Every code comes back, in as few bytes as its bits need."""
    codes = random.integers(0, 2**bits, (5, 24)).astype(np.uint8)
    codes[0, : 2**bits] = np.arange(2**bits)
    planes = pack(codes, bits)
    assert [width for width, _ in planes] == {3: [2, 1], 4: [4]}[bits]
    assert sum(packed.nbytes for _, packed in planes) == codes.size * bits // 8
    assert np.array_equal(unpack(planes), codes)


@pytest.mark.parametrize(("bits", "relative"), [(4, 0.14), (3, 0.26)])
def test_compact_table(random: np.random.Generator, bits: int, relative: float) -> None:
    """Frequent rows are as accurate as int8, the others as their bits allow; a frequent id named twice is one row."""
    table = normal(random, 30, 64) * np.logspace(-2, 1, 30, dtype=np.float32)[:, None]
    frequent, unused = [7, 3, 29, 7, 11], [2, 11, 20]
    compact = compact_table(table, bits, frequent, unused)
    assert (compact.place.dtype, compact.scale.dtype, compact.bits) == (np.uint16, np.float16, bits)
    assert compact.frequent.shape == (3, 64)
    assert compact.scale.shape == (27, 1)
    rows, step = rows_of(compact), np.abs(table).max(axis=1) / 127
    kept = [7, 3, 29]
    assert compact.place[kept].tolist() == [0, 1, 2]
    assert (np.abs(rows - table)[kept].max(axis=1) <= 0.6 * step[kept]).all()
    others = [i for i in range(30) if i not in (*kept, *unused)]
    errors = np.linalg.norm(rows - table, axis=1) / np.linalg.norm(table, axis=1)
    assert errors[others].max() < relative
    assert errors[others].min() > errors[kept].max()
    assert len(set(compact.place[unused].tolist())) == 1
    assert sorted({*compact.place[kept].tolist(), *compact.place[others].tolist()}) == list(range(27))


@pytest.mark.parametrize("frequent", [[], range(6)])
def test_table_has_rows_of_both_kinds(random: np.random.Generator, frequent: Sequence[int]) -> None:
    """Whatever is frequent, the graph finds a row of each kind to read."""
    compact = compact_table(normal(random, 6, 8), 4, frequent, [])
    assert len(compact.frequent) in {1, 5}
    assert len(compact.frequent) + len(compact.planes[0][1]) == 6


@pytest.mark.parametrize("bits", [4, 3])
def test_table_scale_has_the_least_error(random: np.random.Generator, bits: int) -> None:
    """No other scale of a row would be much better, where one number of it is far larger than the rest too."""
    table, half = normal(random, 3, 256), 2 ** (bits - 1)
    table[1, 0] = 6
    rows = rows_of(compact_table(table, bits, [0], []))
    for row, kept in zip(table[1:], rows[1:], strict=True):
        steps = np.linspace(0.2, 1, 400) * np.abs(row).max() / half
        errors = [np.linalg.norm(np.clip(np.rint(row / step), -half, half - 1) * step - row) for step in steps]
        assert np.linalg.norm(kept - row) < 1.02 * min(errors)


def test_large_vocabulary_has_wide_places(random: np.random.Generator) -> None:
    """Above 65536 tokens a place does not fit sixteen bits."""
    table = normal(random, 2**16 + 1, 8)
    assert compact_table(table[:-1], 3, [5], []).place.dtype == np.uint16
    compact = compact_table(table, 3, [5], [])
    assert compact.place.dtype == np.int32
    assert compact.place[-1] == 2**16


# calibrate.py


def test_padding_is_not_observed() -> None:
    """Row t * batch + i is token t of text i; padded rows are left out, pooled values are taken as they are."""
    # two texts: the first has three tokens, the second one
    value = np.array([[1, -2], [0.5, 0.5], [3, 0], [99, 99], [4, 4], [99, 99]], np.float32)
    pooled = np.array([[-5, 1], [2, 0]], np.float32)
    feed = {"attention_mask": np.array([[1, 1, 1], [1, 0, 0]])}
    asked = []

    def run(names: Sequence[str], given: Mapping[str, Any]) -> list[Array]:
        asked.append((tuple(names), given is feed))
        return [value, pooled]

    (batch,) = observe(run, ["a", "b"], [feed])
    assert asked == [(("a", "b"), True)]
    assert batch["a"].tolist() == [[1, -2], [0.5, 0.5], [3, 0], [4, 4]]
    assert batch["b"].tolist() == pooled.tolist()


def test_ranges_span_all_batches() -> None:
    """Lowest and highest value per channel."""
    batches = [{"a": np.array([[1.0, -2], [3, 0]], np.float32)}, {"a": np.array([[2.0, 5]], np.float32)}]
    found = ranges(batches)["a"]
    assert (found.low.tolist(), found.high.tolist()) == ([1, -2], [3, 5])


def test_grams_are_of_what_the_products_see(random: np.random.Generator) -> None:
    """x^T x per token over batches of any size, of values moved, scaled, cut and rounded as the layer sees them."""
    x = normal(random, 30, 6)
    offset, factor = normal(random, 6), np.exp2(normal(random, 6))
    read = Input(StaticActivation(0.02, 120), np.arange(6), offset, factor)
    seen = np.clip(np.rint((x - offset) / factor / np.float32(0.02)), -120, 135) * np.float32(0.02)
    (found,) = grams([{"a": x[:10]}, {"a": x[10:]}], {"a": read})["a"]
    assert found.dtype == np.float64
    assert np.allclose(found, seen.T @ seen / 30, rtol=1e-5, atol=1e-5)
    assert np.abs(found - x.T @ x / 30).max() > 0.1


def test_grams_of_a_split_value(random: np.random.Generator) -> None:
    """A channel beside the others holds what a value has above the ceiling, 0 for one below."""
    x = np.array([[1, 5], [-0.25, 0.5]], np.float32)
    read = Input(StaticActivation(1 / 64, 55), np.array([0, 1, 1]), np.array([0, 0, 3], np.float32), np.ones(3))
    assert read.simulate(x).tolist() == [[1, 200 / 64, 2], [-0.25, 0.5, 0]]


@pytest.mark.parametrize(
    "fields",
    [
        {"activation": "rows"},
        {"activation": None},
        {"smooth": -0.1},
        {"smooth": 1.1},
        {"smooth": float("nan")},
        {"smooth": "0.5"},
        {"smooth": [0.5]},
        {"extra": -1},
        {"extra": LARGEST_EXTRA + 1},
        {"extra": 1.5},
        {"extra": None},
    ],
)
def test_recipes_are_checked(fields: dict[str, Any]) -> None:
    """What no calibration could carry out is refused where the recipe is made."""
    with pytest.raises(ValueError, match="not a way to quantize"):
        Recipe(**fields)


Weights = Mapping[str, Any]


def linear(x: NDArray[Any], weights: Weights, name: str) -> NDArray[Any]:
    return np.asarray(x @ weights[f"{name}.weight"] + weights.get(f"{name}.bias", 0))


def random_layers(random: np.random.Generator, biases: bool = True, **shapes: tuple[int, int]) -> dict[str, Array]:
    weights = {f"{name}.weight": normal(random, *shape) for name, shape in shapes.items()}
    return weights | {f"{name}.bias": normal(random, shape[1]) for name, shape in shapes.items() if biases}


def conditioned(
    weights: Weights, site: Site, recipe: Recipe, value: NDArray[Any]
) -> tuple[dict[str, Array], Input, NDArray[Any]]:
    """Changed weights, input and the site's value as the readers see it, before it is rounded."""
    before = {name: array.copy() for name, array in weights.items()}
    found = {site.name: Range(value.min(axis=0), value.max(axis=0))}
    changed, inputs = condition(weights, [site], {site.name: recipe}, found)
    for name, array in before.items():
        assert np.array_equal(weights[name], array), f"{name} was changed in place"
    read = inputs[site.name]
    return changed, read, (value[:, read.source] - read.offset) / read.factor


@pytest.mark.parametrize("smooth", [None, 0.5])
@pytest.mark.parametrize("scalable", [False, True])
@pytest.mark.parametrize("biases", [True, False])
def test_value_after_a_norm_is_centred(
    random: np.random.Generator, smooth: float | None, scalable: bool, biases: bool
) -> None:
    """The norm gives x - offset, its readers and the residual the same as before; smoothing is folded where it can be.

    Without a bias somewhere there is nothing that could take the offset, and it stays 0.
    """
    units = normal(random, 300, 12)
    weights = random_layers(random, biases, query=(12, 8), key=(12, 4), out=(4, 12))
    weights |= {"norm.weight": 1 + normal(random, 12), "norm.bias": 3 * normal(random, 12)}

    def norm(given: Weights) -> NDArray[Any]:
        return np.asarray(units * given["norm.weight"] + given["norm.bias"])

    x, inner = norm(weights), normal(random, 300, 4)
    # nothing else reads the value where it can be scaled, the residual neither
    site = Site("x", ("query", "key"), producer="norm", scalable=scalable, residual=None if scalable else "out")
    changed, read, seen = conditioned(weights, site, Recipe(smooth=smooth), x)
    assert isinstance(read.activation, StaticActivation)
    assert np.any(read.offset) == biases
    assert (read.smooth is None) == (scalable or smooth is None)
    assert np.any(read.factor != 1) == (smooth is not None)

    after = norm(changed)
    given = after if read.smooth is None else after / read.smooth
    assert np.allclose(given, seen, atol=1e-5)
    for reader in ("query", "key"):
        assert np.allclose(linear(given, changed, reader), linear(x, weights, reader), atol=1e-3)
    if not scalable:
        assert np.allclose(after + linear(inner, changed, "out"), x + linear(inner, weights, "out"), atol=1e-4)
    if biases:
        assert np.allclose(after.max(axis=0), -after.min(axis=0), atol=1e-4)
    # eight bits hold the range, and it is not wider than a step of the grid of scales
    assert np.abs(seen - read.activation.simulate(seen)).max() <= 0.51 * read.activation.scale
    assert np.abs(seen).max() >= 127 * read.activation.scale / 2 ** (1 / 16) * 0.999


@pytest.mark.parametrize("smooth", [None, 0.5])
def test_context_of_attention_is_centred_by_the_value_layer(random: np.random.Generator, smooth: float | None) -> None:
    """Rows of weights that add up to 1 pass an offset of the values on, so `value` takes it, and the factor too."""
    x = normal(random, 40, 12)
    weights = random_layers(random, value=(12, 8), out=(8, 12))
    mixing = random.random((300, 40))
    mixing = (mixing**8 / (mixing**8).sum(axis=1, keepdims=True)).astype(np.float32)

    context = mixing @ linear(x, weights, "value")
    site = Site("context", ("out",), producer="value", scalable=True)
    changed, read, seen = conditioned(weights, site, Recipe(smooth=smooth), context)
    after = mixing @ linear(x, changed, "value")
    assert read.smooth is None
    assert np.abs(read.offset).min() > 0
    assert np.allclose(after, seen, atol=1e-5)
    assert np.allclose(after.max(axis=0), -after.min(axis=0), atol=1e-4)
    assert np.allclose(linear(after, changed, "out"), linear(context, weights, "out"), atol=1e-4)


def test_margin_of_a_value(random: np.random.Generator) -> None:
    """A static scale reaches further than the texts of calibration show."""
    weights = random_layers(random, value=(12, 12), out=(12, 8))
    context = linear(normal(random, 50, 12), weights, "value")
    reach = []
    for margin in (1.0, 1.5):
        site = Site("context", ("out",), producer="value", scalable=True, margin=margin)
        read = conditioned(weights, site, Recipe(), context)[1]
        assert isinstance(read.activation, StaticActivation)
        reach.append(read.activation.scale)
    assert reach[1] / reach[0] == pytest.approx(1.5, rel=0.05)


def test_pooled_value_is_left_as_it_is(random: np.random.Generator) -> None:
    """A row has its own scale: no weight changes, whatever the range."""
    weights = random_layers(random, projection=(12, 8))
    changed, read, seen = conditioned(weights, Site("x", ("projection",)), Recipe("row"), x := normal(random, 20, 12))
    assert isinstance(read.activation, RowActivation)
    assert np.array_equal(seen, x)
    assert all(np.array_equal(changed[name], weights[name]) for name in weights)


def relu(u: NDArray[Any]) -> NDArray[Any]:
    return np.maximum(u, 0)


def gelu(u: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(u * 0.5 * (1 + np.vectorize(math.erf)(u / math.sqrt(2))))


def feed_forward(random: np.random.Generator, outliers: dict[int, float]) -> tuple[Array, dict[str, Array]]:
    """x [300, 12] and a feed-forward block of 16 channels, some of them louder than the others."""
    weights = random_layers(random, up=(12, 16), down=(16, 12))
    for channel, factor in outliers.items():
        weights["up.weight"][:, channel] *= factor
    return normal(random, 300, 12), weights


FEED_FORWARD = Site("inner", ("down",), split="up")


def test_split_is_exact_for_relu(random: np.random.Generator) -> None:
    """Channels that go above the ceiling are continued in new ones: after the cut nothing is missing."""
    x, weights = feed_forward(random, {3: 8, 9: 4})
    inner = relu(linear(x, weights, "up"))
    changed, read, seen = conditioned(weights, FEED_FORWARD, Recipe(extra=6), inner)
    assert isinstance(read.activation, StaticActivation)
    assert changed["up.weight"].shape == (12, 22)
    assert changed["up.bias"].shape == (22,)
    assert changed["down.weight"].shape == (22, 12)
    assert set(read.source[read.offset > 0].tolist()) == {3, 9}
    ceiling = (255 - read.activation.zero_point) * read.activation.scale
    assert inner.max() > 2 * ceiling  # one channel is continued more than once
    assert ceiling < 1.2 * np.delete(inner, [3, 9], axis=1).max()
    after = relu(linear(x, changed, "up"))
    assert np.allclose(linear(np.minimum(after, ceiling), changed, "down"), linear(inner, weights, "down"), atol=1e-3)
    assert np.allclose(after, relu(seen), atol=1e-4)
    cut = np.minimum(after, ceiling)
    assert np.abs(read.simulate(inner) - cut).max() <= 0.51 * read.activation.scale


def test_split_is_close_for_gelu(random: np.random.Generator) -> None:
    """A continued channel adds an error of 0.17 times its weight at most; codes reach below 0 as far as GELU does."""
    x, weights = feed_forward(random, {3: 8, 9: 4})
    inner = gelu(linear(x, weights, "up"))
    changed, read, _ = conditioned(weights, FEED_FORWARD, Recipe(extra=6), inner)
    assert isinstance(read.activation, StaticActivation)
    scale, zero_point = read.activation.scale, read.activation.zero_point
    assert zero_point * scale >= -inner.min() > 0.16
    cut = np.minimum(gelu(linear(x, changed, "up")), (255 - zero_point) * scale)
    off = np.abs(linear(cut, changed, "down") - linear(inner, weights, "down"))
    assert (off <= 0.1701 * np.abs(changed["down.weight"][read.offset > 0]).sum(axis=0) + 1e-3).all()
    assert off.max() > 0.01


def test_split_keeps_its_width(random: np.random.Generator) -> None:
    """Where channels reach equally far there is nothing to split: the new ones have no weight behind them."""
    x, weights = feed_forward(random, {})
    inner = relu(linear(x, weights, "up"))
    even = np.vstack([inner, np.full((1, 16), inner.max())])
    changed, read, _ = conditioned(weights, FEED_FORWARD, Recipe(extra=5), even)
    assert changed["up.weight"].shape == (12, 21)
    assert changed["down.weight"].shape == (21, 12)
    kept = changed["down.weight"].any(axis=1)
    assert np.count_nonzero(~kept) == 5
    assert read.simulate(inner).shape == (300, 21)
    assert np.array_equal(changed["down.weight"][kept], weights["down.weight"][read.source[kept]])


def nearest(_site: Site, weight: Array) -> Any:
    return *quantize_weight(weight), None


def test_quantized_layers_compute_the_same(random: np.random.Generator) -> None:
    """Offset, smoothing and integers together stay close to the float layers; a layer without a bias has none after."""
    x = normal(random, 200, 12) * np.array([30, *[1] * 11], np.float32)
    weights = {**random_layers(random, value=(12, 8)), "out.weight": normal(random, 8, 6)}
    context = linear(x, weights, "value")
    expected = context @ weights["out.weight"]
    sites = [Site("x", ("value",)), Site("context", ("out",), producer="value", scalable=True)]
    recipes = {"x": Recipe(smooth=0.5), "context": Recipe(smooth=0.5)}
    changed, inputs = condition(weights, sites, recipes, ranges([{"x": x, "context": context}]))
    layers = quantize_layers(changed, sites, inputs, nearest)

    def run(values: NDArray[Any], name: str) -> NDArray[Any]:
        layer = layers[name]
        assert isinstance(layer.activation, StaticActivation)
        smoothed = values if layer.smooth is None else values / layer.smooth
        codes = np.clip(np.rint(smoothed / layer.activation.scale) + 128, 0, 255) - 128
        product = (codes * layer.activation.scale) @ (layer.weight * layer.weight_scale)
        return np.asarray(product if layer.bias is None else product + layer.bias)

    assert layers["value"].smooth is not None
    assert (layers["out"].smooth, layers["out"].bias) == (None, None)
    got = run(run(x, "value"), "out")
    assert np.abs(got - expected).max() < 0.03 * np.abs(expected).max()


def test_search_keeps_the_best_of_every_site() -> None:
    """Site by site, on top of what the sites before got; what is as good as the best so far does not replace it."""
    worth = {"a": {0.1: 1.0, 0.2: 3.0, 0.3: 2.0}, "b": {0.1: 5.0, 0.2: 5.0}, "c": {0.1: 0.0, 0.2: -1.0}}
    tried: list[dict[str, float | None]] = []

    def score(recipes: Mapping[str, Recipe]) -> float:
        tried.append({name: recipe.smooth for name, recipe in recipes.items()})
        return sum(worth[name][recipe.smooth or 0] for name, recipe in recipes.items())

    start = {name: Recipe(smooth=0.1) for name in worth}
    choices = {name: [Recipe(smooth=strength) for strength in worth[name]] for name in worth}
    lines: list[str] = []
    best = search(start, choices, score, lines.append)
    assert {name: recipe.smooth for name, recipe in best.items()} == {"a": 0.2, "b": 0.1, "c": 0.1}
    # the start, two other strengths of a, one of b and of c
    assert [row["a"] for row in tried] == [0.1, 0.2, 0.3, 0.2, 0.2]
    assert [row["b"] for row in tried] == [0.1, 0.1, 0.1, 0.2, 0.1]
    assert len(lines) == 3
    assert start == {name: Recipe(smooth=0.1) for name in worth}


def test_search_without_an_improvement_ends_where_it_began() -> None:
    """The first recipes are kept when all others score lower."""
    start = {"a": Recipe(smooth=0.5), "b": Recipe("row")}
    score = {0.5: 1.0, 0.25: 0.5, 0.75: 0.9}
    choices = {"a": [Recipe(smooth=0.25), Recipe(smooth=0.75)]}
    assert search(start, choices, lambda recipes: score[recipes["a"].smooth or 0]) == start


# receipt.py


def test_receipt() -> None:
    """Mean, 5th percentile and minimum of the cosines."""
    reference = np.eye(3, dtype=np.float32)
    vectors = np.array([[1, 0, 0], [0.6, 0.8, 0], [0, 0, 1]], np.float32)
    receipt = cosine_receipt(reference, vectors)
    assert receipt["texts"] == 3
    assert receipt["cosine_to_fp32"] == {"mean": 0.9333, "p5": 0.82, "min": 0.8}


def test_tiers_rank_by_what_they_store(random: np.random.Generator) -> None:
    """Three orders of the same documents: by the vectors, by what int8 codes keep of them, and by their signs."""
    vectors, asked = unit(normal(random, 400, 64)), unit(normal(random, 1, 64))
    keys = [f"d{i}" for i in range(400)]
    codes, scales = quantize_int8(vectors)
    kept = {
        "float": (vectors @ asked[0], 256),
        "int8": ((codes * scales[:, None]) @ asked[0], 68),
        "binary": (np.where(codes > 0, 1, -1) @ asked[0], 8),
    }
    best = {tier: [keys[i] for i in np.argsort(-scores)[:10]] for tier, (scores, _) in kept.items()}
    ranked = rank_tiers(keys, vectors, ["q"], asked, Frame())
    assert ranked == {tier: ({"q": best[tier]}, size) for tier, (_, size) in kept.items()}
    assert best["binary"] != best["float"]


def test_binary_tier_is_in_the_frame() -> None:
    """What the centre moves has other signs: around it the first two documents differ, around zero they do not."""
    vectors, asked = unit(np.array([[0.5, 0.6], [0.6, 0.5], [0.9, 0.1]])), unit(np.array([[0.1, 0.9]]))
    centred = rank_tiers(["c", "b", "a"], vectors[::-1], ["q"], asked, Frame(np.array([0.7, 0.7], np.float32)))
    assert centred["binary"][0]["q"][0] == "a"
    assert rank_tiers(["c", "b", "a"], vectors[::-1], ["q"], asked, Frame())["binary"][0]["q"][0] == "c"


def test_tiers_keep_ten(random: np.random.Generator) -> None:
    """Ten documents of each query, each query its own."""
    vectors = normal(random, 12, 384)
    keys = [f"d{i}" for i in range(12)]
    tiers = rank_tiers(keys, vectors, ["a", "b"], vectors[[11, 3]], Frame())
    assert {tier: size for tier, (_, size) in tiers.items()} == {"float": 1536, "int8": 388, "binary": 48}
    for ranked, _ in tiers.values():
        assert (ranked["a"][0], ranked["b"][0]) == ("d11", "d3")
        assert [len(set(ranked[query])) for query in ("a", "b")] == [10, 10]


# pairing.py


def test_pairing_keeps_scales(random: np.random.Generator) -> None:
    """Strong channels get weak neighbours: scales grow by a tenth of what they grow in any order."""
    weight = normal(random, 257, 40).clip(-1, 1)
    weight[random.permutation(257)[:129]] *= np.float32(0.05)
    order = pairing(weight)
    assert sorted(order.tolist()) == list(range(257))
    before, after = (float((product_scale(w) / weight_scale(w)).mean()) for w in (weight, weight[order]))
    assert before > 1.9
    assert after < 1 + (before - 1) / 10
    assert np.array_equal(order, pairing(weight * np.float32(2)))


def test_order_of_channels_changes_nothing(random: np.random.Generator) -> None:
    """Gate and up give their channels in another order, adapters too, and the layer behind them reads them so."""
    weights = random_layers(random, up=(12, 16), gate=(12, 16), down=(16, 12))
    for name, shape in (("up.lora_b", (3, 16)), ("gate.lora_b", (3, 16)), ("down.lora_a", (16, 3))):
        weights[f"{name}.weight"] = normal(random, *shape)
    weights["down.lora_a.bias"] = np.zeros(3, np.float32)
    x = normal(random, 30, 12)

    def layer(of: Any) -> Any:
        inner = relu(linear(x, of, "gate")) * linear(x, of, "up")
        low = [x[:, :3] @ of[f"{name}.lora_b.weight"] for name in ("up", "gate")]
        return inner, linear(inner, of, "down"), (low[0] * low[1]) @ of["down.lora_a.weight"]

    inner, expected, adapted = layer(weights)
    site = Site("inner", ("down",), producer="up", scalable=True, shiftable=False, inner=("up", "gate"))
    changed, read, _ = conditioned(weights, site, Recipe("row"), inner)
    assert not np.array_equal(read.source, np.arange(16))
    found = layer(changed)
    assert np.allclose(found[0], inner[:, read.source], atol=1e-5)
    for one, other in zip(found[1:], (expected, adapted), strict=True):
        assert np.allclose(one, other, atol=1e-4)
