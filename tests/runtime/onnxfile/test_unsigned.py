"""Weights that are turned to uint8 before onnxruntime reads a model, for x86 CPUs whose int8 products saturate."""

import os
import platform
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, load, numpy_helper, save

from edge_embed import Embedder
from edge_embed_runtime.model.session import make_session
from edge_embed_runtime.onnxfile import uint8 as unsigned
from edge_embed_runtime.onnxfile.uint8 import unsigned_model
from edge_embed_runtime.system.background import Background

RELEASE = tuple(map(int, onnxruntime.__version__.split(".")[:2]))
turns = pytest.mark.skipif(
    RELEASE < unsigned.LEAST_RELEASE or not hasattr(os, "memfd_create"), reason="onnxruntime turns weights here"
)
TEXTS = ["", "a cat", "the bank of the river " * 30]


def is_turned(model: Path) -> bool:
    with unsigned_model(model) as path:
        return path is not None


@turns
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="elsewhere onnxruntime turns none")
def test_the_same_bits_as_onnxruntimes_own(older_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turned here or by onnxruntime, a bundle's vectors do not differ."""
    ours = Embedder(older_bundle, exact=True).encode(TEXTS)
    monkeypatch.setattr(unsigned, "LEAST_RELEASE", (99, 0))
    assert not is_turned(older_bundle / "model.onnx")
    theirs = Embedder(older_bundle, exact=True).encode(TEXTS)
    assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32))


@turns
def test_what_the_file_in_memory_holds(older_bundle: Path) -> None:
    """Weights of products and their zero points are 128 higher; nothing else differs, and nothing stays open."""
    descriptors = set(Path("/proc/self/fd").iterdir())
    original = {tensor.name: tensor for tensor in load(older_bundle / "model.onnx").graph.initializer}
    with unsigned_model(older_bundle / "model.onnx") as path:
        assert path is not None
        model = load(path, load_external_data=False)
    assert set(Path("/proc/self/fd").iterdir()) == descriptors
    products = [node for node in model.graph.node if node.op_type == "MatMulIntegerToFloat"]
    turned = {name for node in products for name in (node.input[1], node.input[5])}
    assert len(turned) == 2 * len(products) == 24
    for tensor in model.graph.initializer:
        if tensor.name in turned:
            assert tensor.data_type == TensorProto.UINT8
            before, after = numpy_helper.to_array(original[tensor.name]), numpy_helper.to_array(tensor)
            assert np.array_equal(after.astype(int), before.astype(int) + 128)
        else:
            assert tensor.data_type == original[tensor.name].data_type
            assert tensor.dims == original[tensor.name].dims


def product(weight: NDArray[np.int8], zero_point: NDArray[np.int8], *more: object) -> list[object]:
    """A graph's nodes and weights: x [m, 4] uint8 by `weight`, and whatever else."""
    inputs = ["x", "w", "one", "one", "zero", "zero_w"]
    return [
        helper.make_node("MatMulIntegerToFloat", inputs, ["y"], domain="com.microsoft"),
        numpy_helper.from_array(weight, "w"),
        numpy_helper.from_array(zero_point, "zero_w"),
        numpy_helper.from_array(np.array(1, np.float32), "one"),
        numpy_helper.from_array(np.array(0, np.uint8), "zero"),
        *more,
    ]


def write(path: Path, parts: list[object]) -> Path:
    graph = helper.make_graph(
        [part for part in parts if isinstance(part, NodeProto)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["m", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", 3])],
        [part for part in parts if isinstance(part, TensorProto)],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


@turns
def test_any_weight_and_zero_point(tmp_path: Path) -> None:
    """The product is that of the int8 weights, the lowest and the highest among them."""
    weight = np.array([[-128, 127, 0], [1, -1, 5], [7, 8, 9], [-3, 2, 100]], np.int8)
    model = write(tmp_path / "m.onnx", product(weight, np.array([2, -3, 0], np.int8)))
    assert is_turned(model)
    x = np.array([[1, 2, 3, 4], [0, 0, 0, 255]], np.uint8)
    expected = x.astype(int) @ (weight.astype(int) - [2, -3, 0])
    assert np.array_equal(make_session(model, 1, exact=True).run(None, {"x": x})[0], expected)


@turns
def test_models_that_are_left_to_onnxruntime(tmp_path: Path) -> None:
    """Weights that are computed, are read by something else, or belong to other kinds of products."""
    weight, zero = np.ones((4, 3), np.int8), np.zeros(1, np.int8)
    assert is_turned(write(tmp_path / "plain.onnx", product(weight, zero)))
    computed = product(weight, zero, helper.make_node("Identity", ["stored"], ["w"]))
    computed[1] = numpy_helper.from_array(weight, "stored")
    assert not is_turned(write(tmp_path / "computed.onnx", computed))
    shared = product(weight, zero, helper.make_node("Shape", ["w"], ["s"]))
    assert not is_turned(write(tmp_path / "shared.onnx", shared))
    other = product(weight, zero, helper.make_node("MatMulInteger", ["x", "w"], ["z"]))
    assert not is_turned(write(tmp_path / "other.onnx", other))
    unsigned_already = product(weight, zero)
    unsigned_already[1] = numpy_helper.from_array(weight.view(np.uint8), "w")
    assert not is_turned(write(tmp_path / "unsigned.onnx", unsigned_already))


def test_work_beside() -> None:
    """The result of the call, or its error, whenever it is asked for."""
    done = Background(lambda: sum(range(10)))
    assert (done.result(), done.result()) == (45, 45)
    calls: list[int] = []
    once = Background(lambda: calls.append(1))
    assert not calls
    once.begin()
    once.begin()
    once.result()
    assert calls == [1]
    failing = Background(lambda: os.environ["EDGE_EMBED_MISSING"])
    with pytest.raises(KeyError, match="EDGE_EMBED_MISSING"):
        failing.result()
