"""quantize/: weights, activations and smoothing."""

import numpy as np
import pytest

from edge_embed_quantize.calibrate import Recipe, channel_maxima, quantize_layers
from edge_embed_quantize.linear import (
    RowActivation,
    StaticActivation,
    quantize_rows,
    quantize_weight,
    smoothing,
    snap,
)
from edge_embed_quantize.receipt import cosine_receipt


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_weight_error_is_half_a_step(random: np.random.Generator) -> None:
    """One scale per output channel; no weight is off by more than half of its channel's step."""
    weight = random.standard_normal((50, 8)).astype(np.float32) * np.logspace(-3, 3, 8, dtype=np.float32)
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
    table = random.standard_normal((6, 10)).astype(np.float32) * np.logspace(-2, 2, 6, dtype=np.float32)[:, None]
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
    """Outlier channels get a larger factor; strength 0 looks at the weight alone."""
    weight = random.standard_normal((4, 16)).astype(np.float32)
    factor = smoothing(np.array([1, 1, 100, 1], np.float32), weight, 0.5)
    assert factor.argmax() == 2
    assert factor[2] / np.median(factor) == pytest.approx(10, rel=0.5)


def test_channel_maxima_skip_padding() -> None:
    """Values at padded places do not count."""
    value = np.array([[[1.0, -2.0], [3.0, 0.0]], [[0.5, 0.5], [99.0, 99.0]]], np.float32)  # [sequence, batch, 2]
    feed = {"attention_mask": np.array([[1, 1], [1, 0]])}
    pooled = np.array([[-5.0, 1.0]], np.float32)
    maxima = channel_maxima(lambda _names, _feed: [value, pooled], ["a", "b"], [feed, feed])
    assert maxima["a"].tolist() == [3, 2]
    assert maxima["b"].tolist() == [5, 1]


def test_quantized_layers_compute_the_same(random: np.random.Generator) -> None:
    """Smoothing, folded or not, leaves the layers' function as it was, up to int8 rounding."""
    x = random.standard_normal((200, 12)).astype(np.float32) * np.array([30, *[1] * 11], np.float32)
    weights = {
        "value.weight": random.standard_normal((12, 8)).astype(np.float32),
        "value.bias": random.standard_normal(8).astype(np.float32),
        "out.weight": random.standard_normal((8, 6)).astype(np.float32),
    }
    hidden = x @ weights["value.weight"] + weights["value.bias"]
    expected = hidden @ weights["out.weight"]
    recipes = {"value": Recipe("static", 0.5), "out": Recipe("static", 0.5, fold_into="value")}
    maxima = {"value": np.abs(x).max(axis=0), "out": np.abs(hidden).max(axis=0)}
    layers = quantize_layers(weights, recipes, maxima, lambda name: name)

    def run(values: np.ndarray, name: str) -> np.ndarray:
        layer = layers[name]
        assert isinstance(layer.activation, StaticActivation)
        smoothed = values if layer.smooth is None else values / layer.smooth
        codes = np.clip(np.rint(smoothed / layer.activation.scale) + 128, 0, 255) - 128
        product = (codes * layer.activation.scale) @ (layer.weight * layer.weight_scale)
        return product if layer.bias is None else product + layer.bias

    assert layers["out"].smooth is None
    assert layers["out"].bias is None
    got = run(run(x, "value"), "out")
    assert np.abs(got - expected).max() < 0.03 * np.abs(expected).max()


def test_row_activation_ranges() -> None:
    """Signed rows use 127 levels on both sides; one-sided rows 200 above and 55 below zero."""
    assert (RowActivation(signed=True).levels, RowActivation(signed=True).zero_point) == (127, 128)
    one_sided = RowActivation(signed=False)
    assert one_sided.levels + one_sided.zero_point == 255


def test_receipt() -> None:
    """Mean, 5th percentile and minimum of the cosines."""
    reference = np.eye(3, dtype=np.float32)
    vectors = np.array([[1, 0, 0], [0.6, 0.8, 0], [0, 0, 1]], np.float32)
    receipt = cosine_receipt(reference, vectors)
    assert receipt["texts"] == 3
    assert receipt["cosine_to_fp32"] == {"mean": 0.9333, "p5": 0.82, "min": 0.8}
