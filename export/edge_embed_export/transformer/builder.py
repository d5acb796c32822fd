"""Writing an ONNX graph from arrays: a thin layer over onnx.helper that keeps names short and initializers in order."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.files.stored import as_stored
from edge_embed_export.transformer.aligned import align
from edge_embed_quantize.linear import Int8Linear, RowActivation
from edge_embed_quantize.panels import pack_panels
from edge_embed_quantize.table import CompactTable
from edge_embed_runtime.bundle.manifest import MAX_FILE_BYTES
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.extras import require

if TYPE_CHECKING:
    import onnx

# Fixed, so that the same arrays give the same bytes whatever onnx release writes them.
IR_VERSION = 10
OPSET = 21  # the first with QuantizeLinear in blocks, here one block per row
MICROSOFT_OPSET = 1

# Bytes of weights in a file with the graph itself, which has a few hundred kilobytes: protobuf ends at 2 GiB.
LARGEST = MAX_FILE_BYTES - 2**24
# Where the weights of a model are kept apart, smaller ones stay in the graph all the same.
APART_BYTES = 2**16

# onnx.TensorProto's numbers of types, for Cast
FLOAT, INT8, INT32, INT64, BOOL, DOUBLE = 1, 3, 6, 7, 9, 11


Planes = Sequence[tuple[int, NDArray[np.uint8]]]


class Apart(Protocol):
    """Takes the large weights of a model whose weights have more than `least` bytes.

    Called with a weight and its name, it says where that is: the entries of ONNX's TensorProto.external_data.
    """

    least: int

    def __call__(self, name: str, array: NDArray[Any], /) -> dict[str, str]: ...


class Graph:
    """Nodes and initializers of one graph. A value is known by its name (str).

    around: the graph that this one is inside of, whose initializers it shares
    packed: int8 weights are stored in the order in which the native engine multiplies with them
    """

    def __init__(self, around: "Graph | None" = None) -> None:
        self._onnx = require("onnx", "export")
        self.packed = False
        self._nodes: list[Any] = []
        self._initializers: dict[str, NDArray[Any]] = {} if around is None else around._initializers
        self._by_token: list[str] = ["input_ids", "attention_mask"]
        self._optional: list[str] = []
        self._states: dict[str, list[str | int]] = {}
        self._scope = ""

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Store an initializer once under its name."""
        if name not in self._initializers:
            # what lies in a file is read when the model is put together
            self._initializers[name] = array if as_stored(array) is not None else np.ascontiguousarray(array)
        return name

    def keep(self, name: str, array: NDArray[Any]) -> None:
        """Store an array as it is: `constant` gives one without dimensions one."""
        self._initializers[name] = array

    def copy(self, node: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Append a node of another graph, its values renamed."""
        own = self._onnx.NodeProto(op_type=node.op_type, domain=node.domain, name=outputs[0], attribute=node.attribute)
        own.input.extend(inputs)
        own.output.extend(outputs)
        self._nodes.append(own)

    def optional(self, name: str, default: NDArray[np.int64]) -> str:
        """An input of fixed shape that a caller may leave out."""
        if name not in self._initializers:
            self._optional.append(name)
        return self.constant(name, default)

    def of_tokens(self, name: str) -> str:
        """One more input [batch, sequence]."""
        if name not in self._by_token:
            self._by_token.append(name)
        return name

    def state(self, name: str, width: int) -> str:
        """A float input [tokens, width]."""
        self._states[name] = ["tokens", width]
        return name

    def feed(self, name: str, shape: list[str | int]) -> str:
        """The float input of a model that reads no token ids."""
        self._by_token.clear()
        self._states[name] = shape
        return name

    def scalar(self, value: float, dtype: str = "float32") -> str:
        return self.constant(f"{dtype}:{value!r}", np.array(value, dtype))

    def shape(self, *dims: int) -> str:
        """An int64 vector: a shape, axes, starts or ends."""
        return self.constant("shape:" + ",".join(map(str, dims)), np.array(dims, np.int64))

    def op(
        self,
        op_type: str,
        *inputs: str,
        name: str | None = None,
        domain: str = "",
        also: Sequence[str] = (),
        **attributes: Any,
    ) -> str:
        """Append a node and return the name of its first output; `also` names those that follow."""
        output = name or f"{self._scope}{op_type}_{len(self._nodes)}"
        outputs = [output, *also]
        node = self._onnx.helper.make_node(op_type, list(inputs), outputs, name=output, domain=domain, **attributes)
        self._nodes.append(node)
        return output

    def scan(self, step: Callable[..., str], inputs: Sequence[str], shape: Sequence[str | int]) -> str:
        """What `step` gives for the rows of each of `inputs` [steps, ...], one after the other: [steps, *shape].

        step:  takes one row of each, and may read all values made so far; gives a float value
        shape: of which numbers are fixed and names are not
        """
        helper, kind, name = self._onnx.helper, self._onnx.TensorProto, f"Scan_{len(self._nodes)}"
        rows = [f"{name}/input_{i}" for i in range(len(inputs))]
        outer, self._nodes, self._scope = self._nodes, [], f"{name}/"
        output = step(*rows)
        nodes, self._nodes, self._scope = self._nodes, outer, ""
        inner = [helper.make_tensor_value_info(row, kind.INT64, None) for row in rows]
        body = helper.make_graph(nodes, name, inner, [helper.make_tensor_value_info(output, kind.FLOAT, shape)])
        return self.op("Scan", *inputs, name=name, body=body, num_scan_inputs=len(inputs))

    def linear(self, x: str, name: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None) -> str:
        """x [tokens, n] @ weight [n, m] + bias [m] in float32."""
        inputs = [x, self.constant(f"{name}.weight", weight)]
        return self.op("Gemm", *inputs, *([] if bias is None else [self.constant(f"{name}.bias", bias)]))

    def int8_input(self, x: str, layer: Int8Linear, name: str, axis: int = 1) -> tuple[str, str | None]:
        """Quantize x for one or several linear layers; gives (uint8 codes, row scales [tokens, 1] or None).

        axis: the last of x; -1 where nobody knows how many x has
        """
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
        return self.op("QuantizeLinear", x, row, zero_points, axis=axis, block_size=len(layer.weight)), row

    def int8_matmul(self, codes: str, row: str | None, layer: Int8Linear, name: str, use: int = 0) -> str:
        """The product of quantized activations with an int8 weight, back in float32, with its bias.

        use: which of several products with this weight it is
        """
        activation = layer.activation
        scale = 1.0 if isinstance(activation, RowActivation) else activation.scale
        inputs = [
            codes,
            self.int8_weight(layer, name) if use == 0 else self.int8_copy(layer, name, use),
            self.scalar(scale),
            self.constant(f"{name}.scale", layer.weight_scale),
            self.scalar(activation.zero_point, "uint8"),
            # one for each product: onnxruntime before 1.30 turns weights to uint8 only where there is such a tensor
            self.constant(f"{name}.zero_point{f'.{use}' if use else ''}", np.zeros(1, np.int8)),
        ]
        bias = None if layer.bias is None else self.constant(f"{name}.bias", layer.bias)
        if row is None and bias is not None:
            inputs.append(bias)
        y = self.op("MatMulIntegerToFloat", *inputs, domain="com.microsoft")
        if row is not None:
            y = self.op("Mul", y, row)
            y = y if bias is None else self.op("Add", y, bias)
        return y

    def int8_weight(self, layer: Int8Linear, name: str) -> str:
        """The weight [n, m]; from another order, or from four bits, onnxruntime makes it when it loads the model."""
        n, m = layer.weight.shape
        if layer.stored is None and self.packed:
            panels = self.constant(f"{name}.weight", pack_panels(layer.weight))
            return self.op("Reshape", self.op("Transpose", panels, perm=[1, 3, 0, 2]), self.shape(n, m))
        if layer.stored is None:
            return self.constant(f"{name}.weight", layer.weight)
        groups = len(layer.stored.multipliers)
        codes = self.unpack(f"{name}.weight", layer.stored.planes, 4)
        codes = self.op("Reshape", codes, self.shape(groups, n // groups, m))
        multipliers = self.constant(f"{name}.multipliers", layer.stored.multipliers[:, None, :])
        return self.op("Reshape", self.op("Mul", codes, multipliers), self.shape(n, m))

    def int8_copy(self, layer: Int8Linear, name: str, use: int) -> str:
        """The weight once more: onnxruntime turns it to uint8 for some CPUs, and fails at one that two products read.

        It is stored once; what makes the copy, when a model is loaded, differs from use to use, or it would be undone.
        """
        ones = np.ones((1, layer.weight.shape[1]), np.int8)
        return self.op("Mul", self.int8_weight(layer, name), self.constant(f"{name}.use.{use}", ones))

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

    @property
    def bytes(self) -> int:
        """Of all weights."""
        return sum(array.nbytes for array in self._initializers.values())

    def _fill(self, tensor: Any, name: str, array: NDArray[Any], apart: Apart | None) -> None:
        """Make an empty TensorProto this weight: in its place, for a copy of it would be as large."""
        tensor.name, tensor.data_type = name, self._onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor.dims.extend(array.shape)
        if apart is None or array.nbytes < APART_BYTES:
            tensor.raw_data = np.asarray(array).tobytes()
            return
        tensor.data_location = tensor.EXTERNAL
        for key, value in apart(name, array).items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value

    def model(
        self, outputs: dict[str, list[str | int] | None], producer: str, apart: Apart | None = None
    ) -> "onnx.ModelProto":
        """The finished model: int64 inputs `input_ids`, `attention_mask` and those of `of_tokens` [batch, sequence],
        those of `optional`, and float outputs.

        apart: without it a model that no file could hold is refused
        """
        onnx = self._onnx
        if self.bytes > LARGEST and apart is None:
            raise ExportError(
                f"the model has {self.bytes / 2**30:.1f} GiB of weights; without a second file a bundle holds at most 2"
            )
        tensor = onnx.helper.make_tensor_value_info
        inputs: dict[str, Any] = {name: ["batch", "sequence"] for name in self._by_token}
        inputs |= {name: self._initializers[name].shape for name in self._optional}
        graph = onnx.helper.make_graph(
            self._nodes,
            "edge_embed",
            [tensor(name, onnx.TensorProto.INT64, shape) for name, shape in inputs.items()]
            + [tensor(name, onnx.TensorProto.FLOAT, shape) for name, shape in self._states.items()],
            [tensor(name, onnx.TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        )
        opsets = [
            onnx.helper.make_opsetid("", OPSET),
            onnx.helper.make_opsetid("com.microsoft", MICROSOFT_OPSET),
        ]
        model = onnx.helper.make_model(
            graph, ir_version=IR_VERSION, opset_imports=opsets, producer_name=producer, producer_version=""
        )
        used = apart if apart is not None and self.bytes > apart.least else None
        for name, array in self._initializers.items():
            self._fill(model.graph.initializer.add(), name, array, used)
        align(model)
        return model
