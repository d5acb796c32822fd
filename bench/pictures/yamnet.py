"""YAMNet (TensorFlow's `models` repository) as a float32 ONNX graph, of Qualcomm's int8 one.

Its weights are float numbers that int8 codes stand for exactly; what rounds activations is left out here.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.pictures.packages import yamnet_model

Array = NDArray[np.float32]

DIM = 1024
ROUNDING = {"QuantizeLinear", "DequantizeLinear"}
CLASSIFIER = ("model.classifier.weight", "model.classifier.bias")


def backbone() -> Any:
    """input_features [batch, 1, 96, 64] (log-mel) -> embedding [batch, 1024], the mean over places."""
    import onnx
    from onnx import TensorProto, checker, helper

    old = yamnet_model().graph
    names = {old.input[0].name: "input_features"}
    nodes: list[Any] = []
    for node in old.node:
        if node.op_type in ROUNDING:
            names[node.output[0]] = names.get(node.input[0], node.input[0])
        elif node.op_type == "Reshape":
            nodes.append(helper.make_node("Flatten", [names[node.input[0]]], ["embedding"], axis=1))
        elif node.op_type != "Gemm":  # the classifier
            copy = onnx.NodeProto.FromString(node.SerializeToString())
            copy.input[:] = [names.get(name, name) for name in node.input]
            nodes.append(copy)
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "yamnet",
        [helper.make_tensor_value_info("input_features", TensorProto.FLOAT, ["batch", 1, 96, 64])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIM])],
        [each for each in old.initializer if each.name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


def classifier() -> tuple[Array, Array]:
    """Weight [521, 1024] and bias [521] from features to raw scores of the classes."""
    from onnx import numpy_helper

    found = {each.name: each for each in yamnet_model().graph.initializer if each.name in CLASSIFIER}
    weight, bias = (numpy_helper.to_array(found[name]) for name in CLASSIFIER)
    return weight, bias
