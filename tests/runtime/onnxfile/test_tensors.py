"""Weights by name in the bytes of a model: what onnx reads, and hostile files."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edge_embed.errors import BundleFormatError
from edge_embed_runtime.onnxfile.tensors import mapped_tensors
from edge_embed_runtime.onnxfile.wire import message

GRAPH, INITIALIZER, DIMS, NAME, RAW = 7, 5, 1, 8, 9


def test_the_default_bundle(bundle: Path) -> None:
    """Every tensor of float32 and int8 as the onnx package reads it; the arrays are read-only."""
    found = mapped_tensors(bundle / "model.onnx", "the model")
    for tensor in onnx.load(bundle / "model.onnx").graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.int64:
            assert tensor.name not in found
        else:
            assert np.array_equal(found[tensor.name], array)
            assert found[tensor.name].dtype == array.dtype
            assert not found[tensor.name].flags.writeable


def tensor(*fields: bytes) -> bytes:
    return message(GRAPH, message(INITIALIZER, b"".join(fields)))


FLOATS = b"\x10\x01"  # data_type
TWO = b"\x08\x02"  # dims
NUMBERS = np.array([1.5, -2], "<f4").tobytes()


def test_fields_in_any_order() -> None:
    """Protobuf fixes none; a shape may be packed."""
    for fields in (
        (TWO, FLOATS, message(NAME, b"w"), message(RAW, NUMBERS)),
        (message(RAW, NUMBERS), message(NAME, b"w"), FLOATS, message(DIMS, b"\x02")),
    ):
        assert mapped_tensors(tensor(*fields), "m")["w"].tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (tensor(TWO, FLOATS, message(NAME, b"w"), message(RAW, NUMBERS), message(RAW, NUMBERS)), "numbers twice"),
        (tensor(TWO, FLOATS, message(NAME, b"w"), message(RAW, NUMBERS[:7])), "in 7 bytes"),
        (tensor(TWO, TWO, FLOATS, message(NAME, b"w"), message(RAW, NUMBERS)), "in 8 bytes"),
        (tensor(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", FLOATS, message(RAW, b"")), "in 0 bytes"),
        (tensor(*[TWO] * 9, FLOATS, message(NAME, b"w"), message(RAW, NUMBERS)), "more than 8 dimensions"),
        (tensor(TWO, FLOATS, message(NAME, b"w" * 5000), message(RAW, NUMBERS)), "too long"),
        (tensor(TWO, FLOATS, message(NAME, b"\xff"), message(RAW, NUMBERS)), "cannot be read"),
        (tensor(TWO, message(99, b"")), "field 99"),
        (2 * tensor(TWO, FLOATS, message(NAME, b"w"), message(RAW, NUMBERS)), "several graphs"),
        (message(GRAPH, b"\x28\x01"), "a weight that is none"),
        (b"\x38\x01", "several graphs"),
        (message(GRAPH, message(INITIALIZER, b""))[:-1], "is not an ONNX model"),
        (b"\xff" * 40, "cannot be read"),
        (b"\x3a", "ONNX|read"),
    ],
)
def test_hostile(model: bytes, why: str) -> None:
    """An error about the model, never another array."""
    with pytest.raises(BundleFormatError, match=why):
        mapped_tensors(model, "the model")


def test_two_with_one_name() -> None:
    one = message(INITIALIZER, b"".join((TWO, FLOATS, message(NAME, b"w"), message(RAW, NUMBERS))))
    with pytest.raises(BundleFormatError, match="two weights with the name 'w'"):
        mapped_tensors(message(GRAPH, one + one), "the model")


def test_numbers_elsewhere_are_no_arrays() -> None:
    """Of a field of floats, of text, of another type, and of no bytes: who needs them misses them by name."""
    for fields in (
        (TWO, FLOATS, message(NAME, b"w"), message(4, NUMBERS)),
        (TWO, FLOATS, message(NAME, b"w"), message(4, NUMBERS), message(RAW, NUMBERS)),
        (TWO, b"\x10\x07", message(NAME, b"w"), message(RAW, NUMBERS)),
        (TWO, FLOATS, message(NAME, b"w")),
    ):
        assert mapped_tensors(tensor(*fields), "m") == {}


def test_every_prefix(tmp_path: Path) -> None:
    """A file that is cut at any byte, as bytes and as a file."""
    whole = tensor(TWO, FLOATS, message(NAME, b"w"), message(RAW, NUMBERS))
    for size in range(len(whole)):
        (tmp_path / "m").write_bytes(whole[:size])
        for given in (whole[:size], tmp_path / "m"):
            with suppress(BundleFormatError):
                assert mapped_tensors(given, "m") == {}
