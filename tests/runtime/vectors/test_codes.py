import numpy as np
import pytest

from edge_embed_runtime.native import search
from edge_embed_runtime.vectors import bits as codes
from edge_embed_runtime.vectors import hamming
from edge_embed_runtime.vectors.bits import BinaryCodes, binarize
from edge_embed_runtime.vectors.int8 import quantize_int8
from edge_embed_runtime.vectors.scores import score_int8


def gaussian(*shape: int, seed: int = 0) -> codes.Vectors:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def random_words(count: int, words: int, seed: int = 0) -> codes.Words:
    return np.random.default_rng(seed).integers(0, 2**64, (count, words), np.uint64)


def naive_distances(rows: codes.Words, query: codes.Words) -> list[int]:
    return [sum((int(a) ^ int(b)).bit_count() for a, b in zip(row, query, strict=True)) for row in rows]


def nearest_ids(binary: BinaryCodes, query: codes.Words, count: int, allowed: list[int] | None = None) -> list[int]:
    """Ids of the nearest, ascending."""
    places = None if allowed is None else binary.places(np.array(allowed, np.int64))
    return sorted(binary.ids[binary.nearest(query, count, places)].tolist())


def filled(rows: codes.Words, dim: int = 128) -> BinaryCodes:
    """Codes with the ids 10, 20, 30, ..."""
    binary = BinaryCodes(dim)
    binary.append(np.arange(1, len(rows) + 1) * 10, rows)
    return binary


def test_int8_error_is_about_half_a_step() -> None:
    """A vector of length 1 comes back of length 1, each number to within half a 127th of the largest, and a little."""
    vectors = gaussian(50, 100)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    quantized, scales = quantize_int8(vectors)
    again = quantized * scales[:, None]
    assert quantized.dtype == np.int8
    assert scales.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(again, axis=1), 1, rtol=1e-6)
    step = np.abs(vectors).max(axis=1, keepdims=True) / 127
    assert (np.abs(again - vectors) <= 0.75 * step).all()


def test_int8_of_int8_is_the_same() -> None:
    """What codes stand for gives the same codes and scales, bit for bit."""
    vectors = gaussian(200, 384)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    quantized, scales = quantize_int8(vectors)
    again, again_scales = quantize_int8(quantized * scales[:, None])
    np.testing.assert_array_equal(again, quantized)
    np.testing.assert_array_equal(again_scales, scales)


def test_int8_range_is_symmetric() -> None:
    """The largest number of a vector becomes 127 or -127."""
    quantized, _ = quantize_int8(np.array([[0.366, -0.93, 0.01], [1.0, 0.0, -0.008]], np.float32))
    assert quantized.tolist() == [[50, -127, 1], [127, 0, -1]]


def test_int8_of_zero_is_zero() -> None:
    """The zero vector, which no model gives, has zero codes and a finite scale."""
    quantized, scales = quantize_int8(np.zeros((1, 8), np.float32))
    assert not quantized.any()
    assert scales.tolist() == [1.0]


def test_int8_of_no_vectors() -> None:
    """No vectors give no codes."""
    quantized, scales = quantize_int8(np.empty((0, 8), np.float32))
    assert (quantized.shape, scales.shape) == ((0, 8), (0,))


def test_int8_score_is_near_the_float_dot() -> None:
    """The score differs from the float dot product by at most half a step for every number of the query."""
    vectors, query = gaussian(40, 384), gaussian(384, seed=1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    query /= np.linalg.norm(query)
    quantized, scales = quantize_int8(vectors)
    difference = np.abs(score_int8(quantized, scales, query) - vectors @ query)
    assert (difference <= scales * 0.51 * np.abs(query).sum()).all()
    assert difference.max() < 0.002


@pytest.mark.parametrize("dim", [1, 8, 64, 100, 384])
def test_binarize_sets_a_bit_per_positive_number(dim: int) -> None:
    """Bit d % 64 of word d // 64 stands for dimension d; bits past the last dimension are 0."""
    vectors = gaussian(5, dim)
    vectors[0] = 0
    naive = [
        [sum(1 << d for d, number in enumerate(row[i : i + 64]) if number > 0) for i in range(0, dim, 64)]
        for row in vectors
    ]
    assert binarize(vectors).tolist() == naive


def test_binarize_takes_int8_codes() -> None:
    """Int8 codes give the bits of their vectors, except for numbers that were rounded to zero."""
    vectors = gaussian(20, 100)
    quantized, _ = quantize_int8(vectors)
    assert (quantized == 0).any()
    vectors[quantized == 0] = 0
    assert (binarize(quantized) == binarize(vectors)).all()


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 30])
def test_hamming_counts_bits(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances are right in every block, the last and shorter one too."""
    monkeypatch.setattr(search, "loaded_search", lambda: None)
    monkeypatch.setattr(hamming, "BLOCK", 8)
    rows, query = random_words(count, 7), random_words(1, 7, seed=1)[0]
    assert hamming.distances(rows.T, query).tolist() == naive_distances(rows, query)


def test_hamming_of_opposites() -> None:
    """Distances above 255 are counted in full."""
    query = random_words(1, 64)[0]
    assert hamming.distances(np.stack([query, ~query], axis=1), query).tolist() == [0, 4096]


@pytest.mark.parametrize("count", [1, 5, 24, 25])
def test_nearest_takes_the_fewest_different_bits(count: int) -> None:
    """As many ids as asked for; those of the smallest distances, and of equal distances the lowest ids."""
    rows = np.random.default_rng(0).integers(0, 4, (25, 2), np.uint64)  # many ties
    binary, query = filled(rows), np.array([1, 2], np.uint64)
    expected = sorted(zip(naive_distances(rows, query), binary.ids.tolist(), strict=True))[:count]
    assert nearest_ids(binary, query, count) == sorted(id_ for _, id_ in expected)


def test_nearest_with_equal_codes_takes_the_lowest_ids() -> None:
    """All codes are equally far: the first ids are taken."""
    binary = filled(np.ones((9, 2), np.uint64))
    assert nearest_ids(binary, np.zeros(2, np.uint64), 3) == [10, 20, 30]


@pytest.mark.parametrize("count", [4, 5, 1000])
def test_nearest_beyond_the_size(count: int) -> None:
    """All ids where as many or more are asked for than there are, and none of no codes."""
    query = random_words(1, 2)[0]
    assert nearest_ids(filled(random_words(4, 2)), query, count) == [10, 20, 30, 40]
    assert len(BinaryCodes(128).nearest(query, count)) == 0


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        ([20, 30, 40], [20, 30]),
        ([40, 30, 20, 20, 30], [20, 30]),  # in any order, more than once
        ([5, 15, 30, 99], [30]),  # 5, 15 and 99 are not here, 20 and 10 would be nearer
        ([40], [40]),
        ([5, 99], []),
        ([], []),
    ],
)
def test_nearest_scans_allowed_ids_only(allowed: list[int], expected: list[int]) -> None:
    """Ids that are not allowed are never found; allowed ids that are not here are passed over."""
    binary = filled(np.array([[0b0], [0b1], [0b11], [0b111]], np.uint64), dim=64)
    assert nearest_ids(binary, np.zeros(1, np.uint64), max(1, len(expected)), allowed) == expected


def test_append_and_remove_keep_codes_with_their_ids() -> None:
    """After growing in many steps, with removals between, every id still has its own code."""
    rows = random_words(300, 2)
    binary, kept = BinaryCodes(128), dict[int, int]()
    for start in range(0, 300, 7):
        ids = np.arange(start, min(start + 7, 300))
        binary.append(ids, rows[ids])
        kept |= {int(i): int(i) for i in ids}
        gone = [start, start // 2, 10_000]  # 10,000 was never here
        binary.remove(np.array(gone))
        for id_ in gone:
            kept.pop(id_, None)
    assert binary.ids.tolist() == sorted(kept)
    assert len(binary) == len(kept)
    assert all(nearest_ids(binary, rows[i], 1) == [i] for i in kept)


def test_capacity_grows_by_an_eighth() -> None:
    """Appending one by one copies the codes few times, not at every append."""
    binary, buffers = filled(random_words(1000, 2)), set()
    for i in range(200):
        binary.append(np.array([100_000 + i]), random_words(1, 2))
        buffers.add(len(binary._ids))
    assert len(binary) == 1200
    assert buffers == {1125, 1265}


def test_remove_all_and_start_again() -> None:
    """Emptied codes take new ones."""
    binary = filled(random_words(3, 2))
    binary.remove(np.array([10, 20, 30]))
    assert len(binary) == 0
    binary.append(np.array([40]), random_words(1, 2, seed=1))
    assert nearest_ids(binary, random_words(1, 2)[0], 1) == [40]
