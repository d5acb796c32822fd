"""YAMNet (TensorFlow's `models` repository) as a float32 ONNX graph, of Qualcomm's int8 one.

That file holds the float weights and rounds them when it runs; what rounds is left out here, so both weights and
activations stay float32.
"""

from typing import Any

DIM = 1024
ROUNDING = {"QuantizeLinear", "DequantizeLinear"}


def backbone(*, classes: bool = False) -> Any:
    """input_features [batch, 1, 96, 64] (log-mel) -> embedding [batch, 1024], the mean over places; or, with classes,
    [batch, 521] raw scores of the classes."""
    import onnx
    from onnx import TensorProto, checker, helper

    from bench.pictures.packages import yamnet_model

    old = onnx.load_from_string(yamnet_model())
    names = {"audio": "input_features"}
    nodes: list[Any] = []
    for node in old.graph.node:
        if node.op_type in ROUNDING:
            names[node.output[0]] = names.get(node.input[0], node.input[0])
            continue
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        copy.input[:] = [names.get(name, name) for name in node.input]
        if node.op_type == "Reshape":
            copy = helper.make_node("Flatten", [copy.input[0]], list(copy.output), axis=1)
        if node.op_type != "Gemm" or classes:
            nodes.append(copy)
    last = nodes[-1].output[0]
    nodes[-1].output[0] = "embedding"
    assert last  # noqa: S101 - a model has nodes
    used = {name for node in nodes for name in node.input}
    width = len(next(each for each in old.graph.initializer if each.name == "model.classifier.bias").dims) and 521
    graph = helper.make_graph(
        nodes,
        "yamnet",
        [helper.make_tensor_value_info("input_features", TensorProto.FLOAT, ["batch", 1, 96, 64])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", width if classes else DIM])],
        [each for each in old.graph.initializer if each.name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model
