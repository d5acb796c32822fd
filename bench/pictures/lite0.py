"""EfficientNet-Lite0 (Tan and Le, 2019; TensorFlow's `tpu` repository) as an ONNX graph, made of its tensors.

Batch normalisation is folded into the convolutions, which changes nothing but rounding.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

# (blocks, stride of the first block); widths and kernels are those of the weights
STAGES = [(1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1)]
EPSILON = 1e-3  # of batch normalisation
DIM = 1280


def backbone(tensors: Mapping[str, Array]) -> Any:
    """pixel_values [batch, 3, 224, 224] (pixel - 127) / 128 -> embedding [batch, 1280], the mean over places."""
    from onnx import helper

    nodes: list[Any] = []
    weights: dict[str, Array] = {"zero": np.float32(0), "six": np.float32(6)}  # type: ignore[dict-item]

    def conv(x: str, name: str, norm: str, stride: int = 1, *, depthwise: bool = False, clip: bool = True) -> str:
        kernel, bias = folded(tensors, name, norm)
        weights[name], weights[f"{name}.bias"] = kernel, bias
        size = kernel.shape[-1]
        # TensorFlow's "same": what is odd goes to the end
        pad = size - stride if stride > 1 else size - 1
        nodes.append(
            helper.make_node(
                "Conv",
                [x, name, f"{name}.bias"],
                [f"{name}.out"],
                kernel_shape=[size, size],
                strides=[stride, stride],
                pads=[pad // 2, pad // 2, pad - pad // 2, pad - pad // 2],
                group=len(kernel) if depthwise else 1,
            )
        )
        if not clip:
            return f"{name}.out"
        nodes.append(helper.make_node("Clip", [f"{name}.out", "zero", "six"], [f"{name}.relu6"]))
        return f"{name}.relu6"

    x = conv("pixel_values", "_conv_stem", "_bn0", 2)
    number = 0
    for blocks, first in STAGES:
        for i in range(blocks):
            block, y = f"_blocks.{number}", x
            if f"{block}._expand_conv.weight" in tensors:
                y = conv(y, f"{block}._expand_conv", f"{block}._bn0")
            y = conv(y, f"{block}._depthwise_conv", f"{block}._bn1", first if i == 0 else 1, depthwise=True)
            y = conv(y, f"{block}._project_conv", f"{block}._bn2", clip=False)
            if i:
                nodes.append(helper.make_node("Add", [y, x], [f"{block}.sum"]))
                y = f"{block}.sum"
            x, number = y, number + 1
    x = conv(x, "_conv_head", "_bn1")
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["embedding"], axis=1))
    return _model(nodes, weights)


def _model(nodes: list[Any], weights: Mapping[str, Array]) -> Any:
    from onnx import TensorProto, checker, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "efficientnet-lite0",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, 224, 224])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIM])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


def folded(tensors: Mapping[str, Array], name: str, norm: str) -> tuple[Array, Array]:
    """A convolution's kernel and bias with its batch normalisation inside."""
    kernel = np.asarray(tensors[f"{name}.weight"], np.float64)
    gain = tensors[f"{norm}.weight"] / np.sqrt(np.asarray(tensors[f"{norm}.running_var"], np.float64) + EPSILON)
    bias = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * gain
    return (kernel * gain[:, None, None, None]).astype(np.float32), bias.astype(np.float32)


def read_tensors() -> dict[str, Array]:
    """The published checkpoint's tensors by name; torch reads it."""
    from bench.pictures.packages import lite0_weights
    from edge_embed_runtime.extras import require

    torch = require("torch", "general")
    return {name: tensor.numpy() for name, tensor in torch.load(lite0_weights(), "cpu", weights_only=True).items()}
