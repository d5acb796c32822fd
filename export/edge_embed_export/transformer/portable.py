"""A graph of standard ONNX operators alone, for engines that do not have onnxruntime's own (com.microsoft).

Int8 layers take the QDQ form: a standard Gemm of what DequantizeLinear makes of codes and of weights. Engines that know
the form multiply in int8 (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html), others in
float32, with the same result but for rounding.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.extras import require

# The first with LayerNormalization; engines on phones have many operators in the form before the next.
OPSET = 17
IR_VERSION = 8
OWN_DOMAIN = "com.microsoft"
UINT8 = 2  # onnx.TensorProto's number of it
# Where a row is all zeros its scale is too: what it is divided by instead.
LEAST_SCALE = 1e-30
# The tanh form of GELU (https://arxiv.org/abs/1606.08415)
TANH_SCALE, TANH_CUBE = math.sqrt(2 / math.pi), 0.044715


def standard(model: Any) -> Any:
    """An onnx.ModelProto of `builder.Graph`, as the same model in opset OPSET without operators of other domains.

    Weights are taken over, not copied, from `model`, which is not to be used any more. Raises ExportError for an
    operator that has no such form.
    """
    return _Standard(model).run()


class _Standard:
    """One model on its way; values keep their names, and new ones lie under the name of the value they are made for."""

    def __init__(self, model: Any) -> None:
        self._onnx = require("onnx", "export")
        self._model = model
        self._nodes: list[Any] = []
        self._made: dict[str, Any] = {}  # by value, the node that gives it
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._types = {value.name: value.type for value in model.graph.input}
        self._types |= {name: self._type(tensor.data_type, tensor.dims) for name, tensor in self._weights.items()}
        self._own = ""

    def run(self) -> Any:
        graph, helper = self._model.graph, self._onnx.helper
        self._rewrite(graph.node)
        used = self._used([value.name for value in graph.output])
        del graph.node[:]
        graph.node.extend(node for node in self._nodes if used.intersection(node.output))
        unused = [i for i, tensor in enumerate(graph.initializer) if tensor.name not in used]
        for i in reversed(unused):
            del graph.initializer[i]
        known = {tensor.name for tensor in graph.initializer}
        graph.initializer.extend(t for name, t in self._weights.items() if name in used and name not in known)
        del self._model.opset_import[:]
        self._model.opset_import.append(helper.make_opsetid("", OPSET))
        self._model.ir_version = IR_VERSION
        return self._model

    def _rewrite(self, nodes: Iterable[Any]) -> None:
        for node in nodes:
            self._own = node.output[0]
            rewrite = REWRITES.get((node.domain, node.op_type))
            if rewrite is None:
                self._append(node)
            else:
                rewrite(self, node)

    def scan(self, node: Any) -> None:
        """Append a node whose steps are a graph of their own, which reads values from outside."""
        (body,) = (attribute.g for attribute in node.attribute if attribute.name == "body")
        self._types |= {value.name: value.type for value in body.input}
        outer, self._nodes = self._nodes, []
        self._rewrite(body.node)
        del body.node[:]
        body.node.extend(self._nodes)
        self._nodes = outer
        self._keep(node)
        for name, step in zip(node.output, body.output, strict=True):
            of_step = step.type.tensor_type
            self._types[name] = self._type(of_step.elem_type, [None] * (1 + len(of_step.shape.dim)))

    def _used(self, wanted: list[str]) -> set[str]:
        """All values that some values are made of, and these."""
        used, waiting = set(wanted), list(wanted)
        while waiting:
            node = self._made.get(waiting.pop())
            for name in () if node is None else _read_by(node):
                if name not in used:
                    used.add(name)
                    waiting.append(name)
        return used

    def op(self, op_type: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Append a node; its value's name is `output`, or a new one."""
        name = output or f"{self._own}/{op_type}_{len(self._nodes)}"
        self._append(self._onnx.helper.make_node(op_type, list(inputs), [name], name=name, **attributes))
        return name

    def halves(self, x: str) -> list[str]:
        """Of the last axis."""
        names = [f"{self._own}/{half}" for half in ("first", "second")]
        self._append(self._onnx.helper.make_node("Split", [x], names, name=names[0], axis=-1))
        return names

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Store a weight once under its name."""
        if name not in self._weights:
            tensor = self._onnx.numpy_helper.from_array(array, name)
            self._weights[name], self._types[name] = tensor, self._type(tensor.data_type, tensor.dims)
        return name

    def number(self, value: float) -> str:
        return self.constant(f"number:{value!r}", np.array(value, np.float32))

    def axes(self, *axes: int) -> str:
        return self.constant("axes:" + ",".join(map(str, axes)), np.array(axes, np.int64))

    def value_of(self, name: str) -> NDArray[Any]:
        """A weight's numbers."""
        return np.asarray(self._onnx.numpy_helper.to_array(self._weights[name]))

    def number_of(self, name: str) -> float:
        """A weight of one number, that number."""
        return float(self.value_of(name).item())

    def scalar(self, name: str) -> str:
        """A weight of one number, as one without dimensions: [1] would be a scale for each of one channel."""
        return self.constant(f"{name}/scalar", self.value_of(name).reshape(()))

    def scalar_behind(self, name: str) -> float:
        """The number that a value was expanded from."""
        node = self._made.get(name)
        return self.number_of(name if node is None else node.input[0])

    def rank(self, name: str) -> int:
        """How many dimensions a value has. Raises ExportError where nobody knows."""
        known = self._types.get(name)
        if known is None or not known.tensor_type.HasField("shape"):
            raise ExportError(
                f"the portable form needs to know the dimensions of {name}, which no operator before it says"
            )
        return len(known.tensor_type.shape.dim)

    def _append(self, node: Any) -> None:
        """Take a node over. Raises ExportError for one that the standard of OPSET does not have like this."""
        defs = self._onnx.defs
        try:
            if node.domain not in ("", "ai.onnx"):
                raise defs.SchemaError(node.domain)
            schema = defs.get_schema(node.op_type, OPSET, "")
        except defs.SchemaError:
            raise ExportError(f"{self._refusal(node)}: ONNX opset {OPSET} does not have it") from None
        strange = {attribute.name for attribute in node.attribute} - set(schema.attributes)
        if strange or len(node.input) > schema.max_input or any(a.HasField("g") for a in node.attribute):
            raise ExportError(
                f"{self._refusal(node)} as it is used here ({', '.join(sorted(strange)) or 'its inputs'})"
            )
        self._keep(node)
        self._types |= self._inferred(schema, node)

    def _keep(self, node: Any) -> None:
        self._nodes.append(node)
        self._made |= dict.fromkeys(node.output, node)

    def _refusal(self, node: Any) -> str:
        domain = f"{node.domain}." if node.domain else ""
        return f"this model has no portable form: the operator {domain}{node.op_type} is not standard in opset {OPSET}"

    def _inferred(self, schema: Any, node: Any) -> dict[str, Any]:
        """Types of a node's outputs, with shapes where they are known."""
        types = {name: self._types[name] for name in node.input if name in self._types}
        if len(types) < len({name for name in node.input if name}):
            return {}
        data = {n: self._weights[n] for n in types if n in self._weights and math.prod(self._weights[n].dims) < 16}
        opsets = [self._onnx.helper.make_opsetid("", OPSET)]
        found = dict(self._onnx.shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=opsets))
        if node.op_type in ("Reshape", "Expand"):  # whose shape a node may give: then its length is known
            shape, (output,) = types[node.input[1]].tensor_type.shape, node.output
            if not found[output].tensor_type.HasField("shape") and len(shape.dim) and shape.dim[0].dim_value:
                ranks = [shape.dim[0].dim_value]
                if node.op_type == "Expand":
                    ranks.append(self.rank(node.input[0]))
                found[output] = self._type(found[output].tensor_type.elem_type, [None] * max(ranks))
        return found

    def _type(self, kind: int, dims: Sequence[int | None]) -> Any:
        return self._onnx.helper.make_tensor_type_proto(kind, list(dims))


def _read_by(node: Any) -> list[str]:
    """Values that a node reads, those of the steps of a Scan among them."""
    inner = (part for attribute in node.attribute for part in attribute.g.node)
    return [*node.input, *(name for part in inner for name in part.input)]


def _attributes(node: Any) -> dict[str, Any]:
    onnx = require("onnx", "export")
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def _int8_matmul(s: _Standard, node: Any) -> None:
    """MatMulIntegerToFloat: codes, weights, both scales, both zero points, and a bias.

    With a bias it is a Gemm whose bias is int32 in steps of both scales, as engines expect of this form: onnxruntime
    makes a Gemm of MatMul and Add before it looks for products in int8, and then finds none.
    """
    codes, weights, scale, scales, zero_point, weights_zero_point, *bias = node.input
    # one for each product, of the same shape as its scales
    like = s.value_of(scales)
    zeros = s.constant(f"{weights_zero_point}/each", np.full_like(like, s.number_of(weights_zero_point), np.int8))
    x = s.op("DequantizeLinear", codes, s.scalar(scale), s.scalar(zero_point))
    w = s.op("DequantizeLinear", weights, scales, zeros, axis=1)
    if not bias:
        s.op("MatMul", x, w, output=node.output[0])
        return
    step = s.number_of(scale) * like.astype(np.float64)
    steps = np.rint(s.value_of(bias[0]) / step)
    if s.rank(codes) != 2 or np.abs(steps).max() >= 2**31:
        s.op("Add", s.op("MatMul", x, w), bias[0], output=node.output[0])
        return
    whole = s.constant(f"{bias[0]}/steps", steps.astype(np.int32))
    of_bias = s.constant(f"{bias[0]}/scale", step.astype(np.float32))
    s.op("Gemm", x, w, s.op("DequantizeLinear", whole, of_bias, axis=0), output=node.output[0])


def _quantize(s: _Standard, node: Any) -> None:
    """QuantizeLinear; with a scale for each row, which the standard has since opset 21, written out."""
    x, scale, zero_point = node.input
    if "block_size" not in _attributes(node):
        s.op("QuantizeLinear", x, s.scalar(scale), s.scalar(zero_point), output=node.output[0])
        return
    rounded = s.op("Round", s.op("Div", x, s.op("Max", scale, s.number(LEAST_SCALE))))
    moved = s.op("Add", rounded, s.number(s.scalar_behind(zero_point)))
    s.op("Cast", s.op("Clip", moved, s.number(0.0), s.number(255.0)), to=UINT8, output=node.output[0])


def _matmul(s: _Standard, node: Any) -> None:
    """FusedMatMul (https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md): transBatch makes of
    [m, ..., k] a batch of [..., m, k]."""
    given = _attributes(node)
    sides = []
    for name, side in zip(node.input, "AB", strict=True):
        order = list(range(s.rank(name)))
        if given.get(f"transBatch{side}"):
            order = [*order[1:-1], 0, order[-1]]
        if given.get(f"trans{side}"):
            order[-2:] = order[-1], order[-2]
        sides.append(name if order == sorted(order) else s.op("Transpose", name, perm=order))
    if (alpha := given.get("alpha", 1.0)) == 1.0:
        s.op("MatMul", *sides, output=node.output[0])
    else:
        s.op("Mul", s.op("MatMul", *sides), s.number(alpha), output=node.output[0])


def _gelu(s: _Standard, node: Any) -> None:
    (x,) = node.input
    erf = s.op("Erf", s.op("Div", x, s.number(math.sqrt(2))))
    s.op("Mul", s.op("Mul", x, s.op("Add", erf, s.number(1.0))), s.number(0.5), output=node.output[0])


def _fast_gelu(s: _Standard, node: Any) -> None:
    (x,) = node.input
    cube = s.op("Mul", s.op("Mul", s.op("Mul", x, x), x), s.number(TANH_CUBE))
    tanh = s.op("Tanh", s.op("Mul", s.op("Add", x, cube), s.number(TANH_SCALE)))
    s.op("Mul", s.op("Mul", x, s.op("Add", tanh, s.number(1.0))), s.number(0.5), output=node.output[0])


def _quick_gelu(s: _Standard, node: Any) -> None:
    (x,) = node.input
    sigmoid = s.op("Sigmoid", s.op("Mul", x, s.number(_attributes(node).get("alpha", 1.702))))
    s.op("Mul", x, sigmoid, output=node.output[0])


def _rms_norm(s: _Standard, node: Any) -> None:
    """SimplifiedLayerNormalization, which onnxruntime has in the standard's own domain, over the last axis."""
    given = _attributes(node)
    if given.get("axis", -1) != -1 or len(node.output) > 1:
        raise ExportError("this model has no portable form: it normalises over other axes than the last")
    x, scale = node.input
    mean = s.op("ReduceMean", s.op("Pow", x, s.number(2.0)), axes=[-1], keepdims=1)
    length = s.op("Sqrt", s.op("Add", mean, s.number(given.get("epsilon", 1e-5))))
    s.op("Mul", s.op("Div", x, length), scale, output=node.output[0])


def _rotate(s: _Standard, node: Any) -> None:
    """RotaryEmbedding of x [b, heads, s, size], with places [b, s] and tables [places, size / 2]."""
    x, places, cosines, sines = node.input
    if s.rank(x) != 4 or node.attribute:
        raise ExportError("this model has no portable form: its rotary positions are not of the usual form")
    cos, sin = (s.op("Unsqueeze", s.op("Gather", table, places), s.axes(1)) for table in (cosines, sines))
    first, second = s.halves(x)
    left = s.op("Sub", s.op("Mul", first, cos), s.op("Mul", second, sin))
    right = s.op("Add", s.op("Mul", second, cos), s.op("Mul", first, sin))
    s.op("Concat", left, right, axis=-1, output=node.output[0])


def _pad(s: _Standard, node: Any) -> None:
    """The axes of Pad are an input since opset 18; before, all were meant."""
    x, pads, *value = node.input[:3]
    rank = s.rank(x)
    axes = s.value_of(node.input[3]).tolist() if len(node.input) > 3 else list(range(rank))
    if axes != list(range(rank)):
        none = 2 * len(axes)  # behind the numbers that there are: a zero
        places = [side + axes.index(i) if i in axes else none for side in (0, len(axes)) for i in range(rank)]
        pads = s.op("Gather", s.op("Concat", pads, s.axes(0), axis=0), s.axes(*places), axis=0)
    s.op("Pad", x, pads, *filter(None, value), output=node.output[0], **_attributes(node))


def _scatter(s: _Standard, node: Any) -> None:
    """ScatterElements finds the largest since opset 18."""
    given = _attributes(node)
    if given.get("reduction", b"none") not in (b"none", b"add", b"mul"):
        raise ExportError(f"this model has no portable form: ScatterElements takes no maximum in opset {OPSET}")
    s.op("ScatterElements", *node.input, output=node.output[0], **given)


def _reduce(s: _Standard, node: Any) -> None:
    """Axes of reductions are inputs since opset 18, but of sums, and were attributes before."""
    given = {name: value for name, value in _attributes(node).items() if name != "noop_with_empty_axes"}
    if len(node.input) > 1:
        given["axes"] = s.value_of(node.input[1]).ravel().tolist()
    s.op(node.op_type, node.input[0], output=node.output[0], **given)


REWRITES: dict[tuple[str, str], Callable[[_Standard, Any], None]] = {
    (OWN_DOMAIN, "MatMulIntegerToFloat"): _int8_matmul,
    (OWN_DOMAIN, "FusedMatMul"): _matmul,
    (OWN_DOMAIN, "Gelu"): _gelu,
    (OWN_DOMAIN, "FastGelu"): _fast_gelu,
    (OWN_DOMAIN, "QuickGelu"): _quick_gelu,
    (OWN_DOMAIN, "RotaryEmbedding"): _rotate,
    ("", "Pad"): _pad,
    ("", "QuantizeLinear"): _quantize,
    ("", "Scan"): _Standard.scan,
    ("", "ScatterElements"): _scatter,
    ("", "SimplifiedLayerNormalization"): _rms_norm,
    **{("", f"Reduce{kind}"): _reduce for kind in ("Max", "Min", "Mean", "L1", "L2", "Prod", "LogSumExp", "SumSquare")},
}
