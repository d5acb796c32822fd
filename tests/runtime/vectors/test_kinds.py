"""Each kind of vector knows its shape, its golden vectors, and how an index stores it."""

import numpy as np
import pytest

from edge_embed_runtime.vectors.kinds import DENSE, KINDS, MULTI, SPARSE, Kind
from edge_embed_runtime.vectors.maxsim import unpack
from edge_embed_runtime.vectors.sparse import SparseVector


def test_names_are_those_that_files_hold() -> None:
    """Manifests and tables name kinds so since they exist."""
    assert list(KINDS) == ["dense", "sparse", "multi", "rerank"]
    assert [kind.name for kind in KINDS.values() if kind.apart] == ["sparse", "multi"]


@pytest.mark.parametrize(
    ("kind", "shape", "numbers", "wrong"), [(DENSE, (3, 4), 4, 8), (SPARSE, (3, 4), 6, 3), (MULTI, (3, 7, 4), 8, 6)]
)
def test_shapes(kind: Kind, shape: tuple[int, ...], numbers: int, wrong: int) -> None:
    """Three texts of at most 7 tokens, of dim 4; a golden vector has as many numbers as the kind needs."""
    assert kind.shape(3, 7, 4) == shape
    assert kind.has_length(numbers, 4)
    assert not kind.has_length(wrong, 4)


def test_golden_vectors() -> None:
    """Dense ones are cut, sparse ones are pairs of a token and its weight, those of tokens stay as they are."""
    numbers = np.array([[0, 0.5, 2, 0.25]], np.float32)
    assert DENSE.golden(numbers, 2).tolist() == [[0, 0.5]]
    assert SPARSE.golden(numbers, 3).tolist() == [[0.5, 0, 0.25]]
    assert SPARSE.golden(numbers, 2).tolist() == [[0, 0]]  # a token that is not there
    assert MULTI.golden(numbers, 2) is numbers


def test_packing() -> None:
    """What an index stores of a vector has a length that the kind knows, and one byte less has not."""
    rows = np.eye(4, dtype=np.float32)[:2]
    sparse = SparseVector(np.array([1, 3], np.int32), np.array([1.0, 0.5], np.float32))
    for kind, vector in ((DENSE, rows[0]), (SPARSE, sparse), (MULTI, rows)):
        code = kind.pack(vector, 4)
        assert kind.is_packed(code, 4)
        assert not kind.is_packed(code[:-1], 4)
        assert not kind.is_packed(b"", 4)
    assert np.array_equal(unpack([MULTI.pack(rows, 4)], 4)[0], rows)
    assert SPARSE.array(sparse, 4).tolist() == [0, 1, 0, 0.5]
    assert np.array_equal(MULTI.array(rows, 4), rows)


def test_largest_weights() -> None:
    """Of equal weights the first are kept, in the order of their tokens."""
    vector = SparseVector(np.array([1, 3, 5], np.int32), np.array([0.5, 1.0, 0.5], np.float32))
    assert vector.largest(2) == SparseVector(np.array([1, 3], np.int32), np.array([0.5, 1.0], np.float32))
    assert vector.largest(9) == vector
