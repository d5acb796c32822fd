"""Weights stored in int8, computed in float32."""

import numpy as np
import onnx
import pytest
from builders.convtowers import SIZE, conv_graph
from onnx import TensorProto, helper, numpy_helper

from edge_embed_export.general.weightonly import LARGEST, int8_weights, quantize_channels
from edge_embed_runtime.model.session import make_session


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """The model's output."""
    session = make_session(model.SerializeToString(), 1)
    (found,) = session.run(None, {session.get_inputs()[0].name: x})
    return np.asarray(found)


def test_a_quarter_of_the_bytes_and_nearly_the_same_vectors() -> None:
    """Large weights are a quarter as large and vectors nearly the same; a batch gives the same bits as one by one."""
    model = conv_graph(dim=384)
    small = int8_weights(model)
    onnx.checker.check_model(small, full_check=True)
    assert small.ByteSize() < 0.4 * model.ByteSize()
    x = np.random.default_rng(0).normal(size=(4, 3, SIZE, SIZE)).astype(np.float32)
    expected, found = run(model, x), run(small, x)
    assert (expected * found).sum(axis=1).min() > 0.999
    assert not np.array_equal(expected, found)


def test_weights_are_what_their_codes_say() -> None:
    """Each channel has its own scale: a weight is at most half a step away, zeros stay zeros."""
    sizes = np.array([[1e-3], [1], [50], [0], [2], [3]])
    weight = (np.random.default_rng(1).normal(size=(6, 50)) * sizes).astype(np.float32)
    weight[1, 7] = 0
    codes, scales = quantize_channels(weight, 0)
    assert codes.dtype == np.int8
    assert scales.shape == (6, 1)
    assert np.abs(codes).max() == LARGEST
    assert (np.abs(codes * scales - weight) <= scales * 0.501).all()
    assert codes[1, 7] == 0
    assert not codes[3].any()


@pytest.mark.parametrize("use", ["shared", "added", "output"])
def test_weights_that_others_read_stay(use: str) -> None:
    """A weight that is read in another way, too, or is an output, is not touched: its other reader wants the floats."""
    weight = np.random.default_rng(2).normal(size=(64, 64)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    if use == "shared":
        nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Gemm", ["z", "w"], ["y"], transB=1)]
    if use == "added":
        nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Add", ["z", "w"], ["y"])]
    outputs = ["y", "w"] if use == "output" else ["y"]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [64, 64])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [64, 64]) for name in outputs],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    assert int8_weights(model).SerializeToString() == model.SerializeToString()


def test_small_weights_stay() -> None:
    """Depthwise kernels of a few hundred numbers are not worth two operators."""
    kept = {each.name for each in int8_weights(conv_graph()).graph.initializer if each.data_type == TensorProto.FLOAT}
    assert {"each", "stem_bias"} <= kept
    assert "point" not in kept
