"""Writing an ONNX graph from arrays: a thin layer over onnx.helper that keeps names short and initializers in order."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_quantize.linear import Int8Linear, RowActivation
from edge_embed_quantize.table import CompactTable
from edge_embed_runtime.extras import require

if TYPE_CHECKING:
    import onnx

# Fixed, so that the same arrays give the same bytes whatever onnx release writes them.
IR_VERSION = 10
OPSET = 21  # the first with QuantizeLinear in blocks, here one block per row
MICROSOFT_OPSET = 1

# onnx.TensorProto's numbers of types, for Cast
FLOAT, INT8, INT32 = 1, 3, 6


Planes = Sequence[tuple[int, NDArray[np.uint8]]]


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
        """x [tokens, n] @ weight [n, m] + bias [m] in float32."""
        inputs = [x, self.constant(f"{name}.weight", weight)]
        return self.op("Gemm", *inputs, *([] if bias is None else [self.constant(f"{name}.bias", bias)]))

    def int8_input(self, x: str, layer: Int8Linear, name: str) -> tuple[str, str | None]:
        """Quantize x for one or several linear layers; gives (uint8 codes, row scales [tokens, 1] or None)."""
        if layer.smooth is not None:
            x = self.op("Mul", x, self.constant(f"{name}.smooth", (1 / layer.smooth).astype(np.float32)))
        activation = layer.activation
        zero_point = self.scalar(activation.zero_point, "uint8")
        if not isinstance(activation, RowActivation):
            return self.op("QuantizeLinear", x, self.scalar(activation.scale), zero_point), None
        largest = self.op("ReduceMax", self.op("Abs", x), self.shape(-1), keepdims=1)
        # a row of zeros has scale 0 and so codes without meaning, which int8_matmul multiplies by 0
        row = self.op("Mul", largest, self.scalar(1 / activation.levels))
        zero_points = self.op("Expand", zero_point, self.op("Shape", row))
        return self.op("QuantizeLinear", x, row, zero_points, axis=1, block_size=len(layer.weight)), row

    def int8_matmul(self, codes: str, row: str | None, layer: Int8Linear, name: str) -> str:
        """The product of quantized activations with an int8 weight, back in float32, with its bias."""
        activation = layer.activation
        scale = 1.0 if isinstance(activation, RowActivation) else activation.scale
        inputs = [
            codes,
            self.int8_weight(layer, name),
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

    def int8_weight(self, layer: Int8Linear, name: str) -> str:
        """The weight [n, m]; one stored in four bits is turned to int8 by onnxruntime when it loads the model."""
        if layer.stored is None:
            return self.constant(f"{name}.weight", layer.weight)
        n, m = layer.weight.shape
        groups = len(layer.stored.multipliers)
        codes = self.unpack(f"{name}.weight", layer.stored.planes, 4)
        codes = self.op("Reshape", codes, self.shape(groups, n // groups, m))
        multipliers = self.constant(f"{name}.multipliers", layer.stored.multipliers[:, None, :])
        return self.op("Reshape", self.op("Mul", codes, multipliers), self.shape(n, m))

    def unpack(self, name: str, planes: Planes, bits: int, ids: str | None = None) -> str:
        """Codes of a few bits, packed by `table.pack`, as int8 around 0; with `ids` only those rows."""
        codes, shift = "", 0
        for width, packed in planes:
            plane = self.constant(f"{name}.{width}bit", packed)
            plane = plane if ids is None else self.op("Gather", plane, ids)
            parts = []
            for start in range(0, 8, width):
                part = plane
                if start:
                    part = self.op("BitShift", part, self.scalar(start, "uint8"), direction="RIGHT")
                if start + width < 8:
                    part = self.op("BitwiseAnd", part, self.scalar(2**width - 1, "uint8"))
                parts.append(part)
            whole = self.op("Concat", *parts, axis=-1)
            if shift:
                whole = self.op("BitShift", whole, self.scalar(shift, "uint8"), direction="LEFT")
            codes = self.op("BitwiseOr", codes, whole) if codes else whole
            shift += width
        return self.op("Sub", self.op("Cast", codes, to=INT8), self.scalar(2 ** (bits - 1), "int8"))

    def compact_rows(self, table: CompactTable, ids: str) -> str:
        """Rows of an embedding table, float [..., n], of ids of any shape."""
        place = self.op("Cast", self.op("Gather", self.constant("embedding.place", table.place), ids), to=INT32)
        count = self.scalar(len(table.frequent), "int32")
        last = self.scalar(len(table.frequent) - 1, "int32")
        frequent = self.op("Gather", self.constant("embedding.word", table.frequent), self.op("Min", place, last))
        beyond = self.op("Max", self.op("Sub", place, count), self.scalar(0, "int32"))
        other = self.unpack("embedding.word", table.planes, table.bits, beyond)
        is_frequent = self.op("Unsqueeze", self.op("Less", place, count), self.shape(-1))
        # not every onnxruntime that we support has Where for int8
        rows = self.op("Where", is_frequent, self.op("Cast", frequent, to=FLOAT), self.op("Cast", other, to=FLOAT))
        scale = self.op("Gather", self.constant("embedding.scale", table.scale), place)
        return self.op("Mul", rows, self.op("Cast", scale, to=FLOAT))

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
