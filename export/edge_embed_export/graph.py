"""Writing an ONNX graph from arrays: a thin layer over onnx.helper that keeps names short and initializers in order."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_quantize.linear import Int8Linear, RowActivation
from edge_embed_runtime.extras import require

if TYPE_CHECKING:
    import onnx

# Fixed, so that the same arrays give the same bytes whatever onnx release writes them.
IR_VERSION = 10
OPSET = 17
MICROSOFT_OPSET = 1


class Graph:
    """Nodes and initializers of one graph. A value is known by its name (str)."""

    def __init__(self) -> None:
        self._onnx = require("onnx", "export")
        self._nodes: list[Any] = []
        self._initializers: dict[str, Any] = {}

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Store an initializer once under its name."""
        if name not in self._initializers:
            self._initializers[name] = self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def scalar(self, value: float, dtype: str = "float32") -> str:
        return self.constant(f"{dtype}:{value!r}", np.array(value, dtype))

    def shape(self, *dims: int) -> str:
        """An int64 vector: a shape, axes, starts or ends."""
        return self.constant("shape:" + ",".join(map(str, dims)), np.array(dims, np.int64))

    def op(self, op_type: str, *inputs: str, name: str | None = None, domain: str = "", **attributes: Any) -> str:
        """Append a node with one output and return the output's name."""
        output = name or f"{op_type}_{len(self._nodes)}"
        node = self._onnx.helper.make_node(op_type, list(inputs), [output], name=output, domain=domain, **attributes)
        self._nodes.append(node)
        return output

    def linear(self, x: str, name: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None) -> str:
        """x [..., n] @ weight [n, m] + bias [m] in float32."""
        y = self.op("MatMul", x, self.constant(f"{name}.weight", weight))
        return y if bias is None else self.op("Add", y, self.constant(f"{name}.bias", bias))

    def int8_input(self, x: str, layer: Int8Linear, name: str) -> tuple[str, str | None]:
        """Quantize x for one or several linear layers; gives (uint8 codes, row scales or None)."""
        if layer.smooth is not None:
            x = self.op("Mul", x, self.constant(f"{name}.smooth", (1 / layer.smooth).astype(np.float32)))
        activation = layer.activation
        zero_point = self.scalar(activation.zero_point, "uint8")
        if not isinstance(activation, RowActivation):
            return self.op("QuantizeLinear", x, self.scalar(activation.scale), zero_point), None
        magnitude = self.op("Abs", x) if activation.signed else x
        row = self.op("ReduceMax", magnitude, axes=[-1], keepdims=1)
        row = self.op("Max", row, self.scalar(1e-6))
        x = self.op("Div", x, row)
        return self.op("QuantizeLinear", x, self.scalar(1 / activation.levels), zero_point), row

    def int8_matmul(self, codes: str, row: str | None, layer: Int8Linear, name: str) -> str:
        """The product of quantized activations with an int8 weight, back in float32, with its bias."""
        activation = layer.activation
        scale = 1 / activation.levels if isinstance(activation, RowActivation) else activation.scale
        inputs = [
            codes,
            self.constant(f"{name}.weight", layer.weight),
            self.scalar(scale),
            self.constant(f"{name}.scale", layer.weight_scale),
            self.scalar(activation.zero_point, "uint8"),
        ]
        bias = None if layer.bias is None else self.constant(f"{name}.bias", layer.bias)
        if row is None and bias is not None:
            inputs += ["", bias]  # the empty name: weights have no zero point
        y = self.op("MatMulIntegerToFloat", *inputs, domain="com.microsoft")
        if row is not None:
            y = self.op("Mul", y, row)
            y = y if bias is None else self.op("Add", y, bias)
        return y

    def model(self, outputs: dict[str, list[str | int] | None], producer: str) -> "onnx.ModelProto":
        """The finished model: inputs `input_ids` and `attention_mask` (int64 [batch, sequence]), float outputs."""
        onnx = self._onnx
        tensor = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            self._nodes,
            "edge_embed",
            [tensor(name, onnx.TensorProto.INT64, ["batch", "sequence"]) for name in ("input_ids", "attention_mask")],
            [tensor(name, onnx.TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            list(self._initializers.values()),
        )
        opsets = [
            onnx.helper.make_opsetid("", OPSET),
            onnx.helper.make_opsetid("com.microsoft", MICROSOFT_OPSET),
        ]
        return onnx.helper.make_model(
            graph, ir_version=IR_VERSION, opset_imports=opsets, producer_name=producer, producer_version=""
        )
