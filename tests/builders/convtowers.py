"""Small convolutional networks with random weights, as ONNX graphs: a stem, a depthwise and a pointwise convolution."""

from pathlib import Path
from typing import Any

import numpy as np

from builders.pictures import front
from edge_embed_export.align.backbone import FEATURES
from edge_embed_export.towers.made import FLOATS, Made, Sample, bundle_of, finished
from edge_embed_runtime.bundle.bundle import write_bundle
from edge_embed_runtime.bundle.manifest import TOWER_FILES
from edge_embed_runtime.bundle.towers import Tower

SIZE, CHANNELS = 32, 48
FRONT = front(SIZE, "squash", "bilinear", mean=[0.5] * 3, std=[0.5] * 3)


def conv_graph(dim: int | None = None, seed: int = 0) -> Any:
    """pixel_values [batch, 3, 32, 32] -> embedding of length 1: the mean over places of 48 channels, or `dim` numbers
    made of them. The mean is the inner value "pooled"."""
    from onnx import TensorProto, checker, helper, numpy_helper

    random = np.random.default_rng(seed)

    def weights(*shape: int) -> Any:
        return random.normal(0, np.prod(shape[1:]) ** -0.5, shape).astype(np.float32)

    arrays = {
        "stem": weights(32, 3, 3, 3),
        "stem_bias": weights(32),
        "each": weights(32, 1, 3, 3),
        "point": weights(CHANNELS, 32, 1, 1),
        "point_bias": weights(CHANNELS),
        **({"last": weights(dim, CHANNELS)} if dim else {}),
    }
    nodes = [
        helper.make_node("Conv", ["pixel_values", "stem", "stem_bias"], ["a"], strides=[2, 2], pads=[0, 0, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "each"], ["c"], group=32, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "point", "point_bias"], ["d"]),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("GlobalAveragePool", ["e"], ["f"]),
        helper.make_node("Flatten", ["f"], ["pooled"]),
    ]
    last = "pooled"
    if dim:
        nodes.append(helper.make_node("Gemm", ["pooled", "last"], ["wide"], transB=1))
        last = "wide"
    nodes.append(helper.make_node("LpNormalization", [last], ["embedding"], axis=-1, p=2))
    graph = helper.make_graph(
        nodes,
        "conv",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", dim or CHANNELS])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


def write_conv_tower(target: Path, *, dim: int | None = None, space: str = "", features: bool = True) -> Path:
    """`conv_graph` as a bundle with a tower for pictures. features: whether it names its inner value for `align`."""
    graph = conv_graph(dim)
    facts = {"graph": "general", "activation_bytes": 0, **({FEATURES: "pooled"} if features else {})}
    tower = Tower(front=FRONT, architecture=facts, quantization=dict(FLOATS))
    made = Made("image", dim or CHANNELS, {TOWER_FILES["image"][0]: graph.SerializeToString()}, tower)
    made = finished(made, None, Sample("nothing"), target, 0.0)
    write_bundle(target, bundle_of(target.name, made.dim, space, [made]), made.contents)
    return target
