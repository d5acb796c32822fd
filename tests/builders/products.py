"""The weights that a bundle's int8 products are made with."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

PRODUCT, WEIGHT = "MatMulIntegerToFloat", 1


def product_weights(bundle: Path) -> dict[str, NDArray[np.int8]]:
    """Every weight [n, m] as it is multiplied with, by the name of its value: onnxruntime unpacks those that are
    stored in another form."""
    model = onnx.load(bundle / "model.onnx")
    names = [node.input[WEIGHT] for node in model.graph.node if node.op_type == PRODUCT]
    found: dict[str, Any] = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name in names
    }
    made = [name for name in dict.fromkeys(names) if name not in found]
    if made:
        del model.graph.output[:]
        model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.INT8, None) for name in made)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        feed = {value.name: np.ones((1, 2), np.int64) for value in session.get_inputs()}
        found |= dict(zip(made, session.run(made, feed), strict=True))
    return found


def largest_pair(weight: NDArray[np.int8]) -> int:
    """Of inputs 2j and 2j + 1 of one output channel [n, m], the largest sum of codes, on either side of 0."""
    whole = weight[: len(weight) // 2 * 2].astype(int)
    return int(np.abs(whole[0::2] + whole[1::2]).max(initial=0))
