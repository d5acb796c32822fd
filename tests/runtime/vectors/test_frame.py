"""The frame of binary codes: rotation, centre, what is learned, and its form as text."""

import json

import numpy as np
import pytest

from edge_embed_runtime.vectors.bits import BinaryCodes, binarize
from edge_embed_runtime.vectors.rotation import LEAST_VECTORS, Frame, learn_frame, turn
from edge_embed_runtime.vectors.types import Vectors
from edge_embed_runtime.vectors.whole import for_signs


def clustered(count: int, dim: int, seed: int = 0) -> Vectors:
    """Vectors of length 1 around 40 centres, as those of texts are."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((40, dim))[random.integers(0, 40, count)] + random.standard_normal((count, dim))
    return unit(rows)


def unit(rows: object) -> Vectors:
    array = np.asarray(rows, np.float32)
    return np.asarray(array / np.linalg.norm(array, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize("dim", [1, 2, 3, 50, 64, 100, 384, 768])
def test_turn_is_a_rotation(dim: int) -> None:
    """Lengths and angles stay, for any number of dimensions; the same rotation for one vector and for many."""
    vectors = clustered(20, dim)
    turned = turn(vectors)
    np.testing.assert_allclose(turned @ turned.T, vectors @ vectors.T, atol=1e-5)
    np.testing.assert_array_equal(turn(vectors[3:4])[0], turned[3])


def test_turn_spreads_one_number_over_all() -> None:
    """A vector with one number has many after it, and the rotation is the same on every machine."""
    turned = turn(np.eye(384, dtype=np.float32))
    assert (np.abs(turned) > 1e-4).mean() > 0.9
    assert turned[0, :4].tolist() == [0.017578125, -0.056640625, 0.009765625, 0.005859375]


def test_place_takes_the_centre_away_first() -> None:
    """(vector - centre), turned."""
    vectors, centre = clustered(5, 32), clustered(1, 32, seed=1)[0]
    assert Frame().place(vectors) is vectors
    np.testing.assert_array_equal(Frame(centre).place(vectors), vectors - centre)
    np.testing.assert_array_equal(Frame(centre, turned=True).place(vectors), turn(vectors - centre))


def test_even_vectors_need_no_frame() -> None:
    """No frame where none finds a hundredth more, and none for a handful of vectors."""
    frame, found = learn_frame(clustered(2000, 128))
    assert (frame.centre, frame.turned) == (None, False)
    assert set(found) == {"none", "centre", "rotation", "centre+rotation"}
    assert learn_frame(clustered(LEAST_VECTORS - 1, 128)) == (Frame(), {})


def test_vectors_in_a_narrow_cone_get_a_centre() -> None:
    """What all vectors share is taken away: it makes most signs equal."""
    cone = unit(clustered(2000, 128) + 3 * clustered(1, 128, seed=7))
    frame, found = learn_frame(cone)
    assert frame.centre is not None
    assert found["centre"] > found["none"] + 0.05
    np.testing.assert_allclose(frame.centre, cone.mean(axis=0), atol=0.02)


def test_uneven_numbers_are_turned() -> None:
    """Few large numbers say most: turned, all signs say some of it."""
    uneven = unit(clustered(2000, 128) * np.exp(1.5 * np.random.default_rng(3).standard_normal(128)))
    frame, found = learn_frame(uneven)
    assert frame.turned
    assert found["rotation"] > found["none"] + 0.05


def test_json_gives_the_same_frame() -> None:
    """To text and back, bit for bit."""
    frame = Frame(clustered(1, 48)[0], turned=True)
    again = Frame.from_json(frame.to_json(), 48)
    assert again.turned
    assert again.centre is not None
    assert frame.centre is not None
    np.testing.assert_array_equal(again.centre, frame.centre)
    assert Frame.from_json(Frame().to_json(), 48) == Frame()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"centre": null}',
        '{"centre": null, "turned": 1}',
        '{"centre": "AAAA", "turned": true}',
        '{"centre": "!!", "turned": true}',
        '{"centre": 3, "turned": true}',
        json.dumps({"centre": "AADAfwAAwH8=", "turned": False}),  # NaN
        "[" * 100_000,
    ],
)
def test_what_is_no_frame(text: str) -> None:
    """Anything else is a ValueError, which the callers translate."""
    with pytest.raises(ValueError, match="not a frame"):
        Frame.from_json(text, 2)


@pytest.mark.parametrize("dim", [5, 64, 100, 384])
def test_estimate_is_the_product_with_signs(dim: int) -> None:
    """The float query times 1 or -1 for each bit."""
    vectors, query = clustered(30, dim), clustered(1, dim, seed=2)[0]
    codes = BinaryCodes(dim)
    codes.append(np.arange(30), binarize(vectors))
    places = np.array([3, 17, 4])
    signs = np.where(vectors[places] > 0, 1, -1)
    np.testing.assert_allclose(codes.estimate(places, for_signs(query)), signs @ query, atol=1e-3)
