"""Small ONNX graphs of one block of a transformer, in MiniLM's shapes."""

import zlib
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edge_embed_quantize.linear import quantize_weight
from edge_embed_runtime.model.session import make_session

Array = NDArray[Any]
MS = "com.microsoft"
HIDDEN, INTERMEDIATE, HEADS, SIZE = 384, 1536, 12, 32
SHAPES = {"12": (1, 12), "52": (1, 52), "208": (4, 52), "832": (16, 52)}  # tokens: (batch, length)
STEP, U8_ZERO = np.array(0.02, np.float32), np.array(128, np.uint8)  # scale and zero point of the activations


class Run:
    """A session behind bound inputs and outputs, so that nothing is copied to and from Python."""

    def __init__(self, session: onnxruntime.InferenceSession, feeds: dict[str, Array]) -> None:
        self._session, self._binding = session, session.io_binding()
        for name, array in feeds.items():
            self._binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        for value in session.get_outputs():
            self._binding.bind_output(value.name)

    def __call__(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def output(self) -> Array:
        result: Array = self._binding.copy_outputs_to_cpu()[0]
        return result


class Block:
    """A small graph for one shape. A value is known by its name; `feed` makes an input."""

    def __init__(self, batch: int, length: int) -> None:
        self.batch, self.length, self.tokens = batch, length, batch * length
        self._feeds: dict[str, Array] = {}
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def feed(self, array: Array) -> str:
        self._feeds[name := f"in_{len(self._feeds)}"] = array
        return name

    def const(self, array: Array | np.generic) -> str:
        name = f"const_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def dims(self, *dims: int) -> str:
        """A shape that only the run knows, as in the whole graph, where it depends on the batch."""
        return self.feed(np.array(dims, np.int64))

    def ops(self, op_type: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Append a node with several outputs."""
        names = [f"{op_type}_{len(self._nodes)}_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(op_type, list(inputs), names, **attributes))
        return names

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        return self.ops(op_type, 1, *inputs, **attributes)[0]

    def run(self, *outputs: str) -> Run:
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim)
            for name, array in self._feeds.items()
        ]
        results = [helper.make_empty_tensor_value_info(name) for name in outputs]
        graph = helper.make_graph(self._nodes, "block", inputs, results, self._constants)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MS, 1)]
        model = helper.make_model(graph, ir_version=10, opset_imports=opsets)
        return Run(make_session(model.SerializeToString(), 1), self._feeds)


def values(name: str, *shape: int) -> NDArray[np.float32]:
    """Normal numbers, the same ones for the same name in every form."""
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)


def codes(name: str, *shape: int) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = np.clip(np.rint(values(name, *shape) / STEP) + 128, 0, 255).astype(np.uint8)
    return found


def weight(name: str, n: int, m: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    return quantize_weight(values(name, n, m) / np.float32(n**0.5))


def quantize(b: Block, x: str) -> str:
    return b.op("QuantizeLinear", x, b.const(STEP), b.const(U8_ZERO))


def linear(
    b: Block, x: str, w: Array, scale: Array, bias: Array | None, zero: Array = U8_ZERO, w_zero: str = ""
) -> str:
    """MatMulIntegerToFloat; zero, w_zero: zero points."""
    inputs = [b.const(w), b.const(STEP), b.const(scale), b.const(zero), w_zero]
    return b.op("MatMulIntegerToFloat", x, *inputs, "" if bias is None else b.const(bias), domain=MS)


def product(b: Block, n: int, m: int, x: str = "u8", w: str = "s8", y: str = "float", bias: str = "inside") -> str:
    """x [tokens, n] @ w [n, m] + bias [m]; x, w, y: their types."""
    x8: Array = codes("x", b.tokens, n)
    zero, w_zero, shift = U8_ZERO, "", values("bias", m)
    w8: Array
    w8, scale = weight("w", n, m)
    if x == "s8":
        x8, zero = (x8 ^ 128).view(np.int8), np.array(0, np.int8)
    if w == "u8":
        w8, w_zero = w8.view(np.uint8) ^ 128, b.const(np.full(m, 128, np.uint8))
    source = quantize(b, b.feed(values("x", b.tokens, n))) if x == "float" else b.feed(x8)
    if y == "int32":
        return b.op("MatMulInteger", source, b.const(w8), b.const(zero))
    found = linear(b, source, w8, scale, shift if bias == "inside" else None, zero, w_zero)
    return b.op("Add", found, b.const(shift)) if bias == "after" else found


def qgemm(b: Block, n: int, m: int, y: str) -> str:
    w8, scale = weight("w", n, m)
    x, step, zero = b.feed(codes("x", b.tokens, n)), b.const(STEP), b.const(U8_ZERO)
    bias = b.const(np.rint(values("bias", m) / (STEP * scale)).astype(np.int32))
    inputs = [x, step, zero, b.const(w8), b.const(scale), b.const(np.zeros(m, np.int8)), bias]
    return b.op("QGemm", *inputs, *([step, zero] if y == "u8" else []), domain=MS)


def nbits(b: Block, n: int, m: int, bits: int, size: int) -> str:
    """Weights with a scale for each block of `size` along n; the operator quantizes the activations itself."""
    w8, scale = weight("w", n, m)
    blocks, top = (w8 * scale).T.reshape(m, n // size, size), 2 ** (bits - 1)
    scales = np.abs(blocks).max(axis=2) / np.float32(top - 1)
    packed = (np.rint(blocks / scales[:, :, None]) + top).astype(np.uint8)
    packed = packed[:, :, ::2] | packed[:, :, 1::2] << 4 if bits == 4 else packed
    inputs = [b.feed(values("x", b.tokens, n)), b.const(packed), b.const(scales), "", "", b.const(values("bias", m))]
    return b.op("MatMulNBits", *inputs, domain=MS, K=n, N=m, bits=bits, block_size=size, accuracy_level=4)


def float_gemm(b: Block, n: int, m: int) -> str:
    w8, scale = weight("w", n, m)
    return b.op("Gemm", b.feed(values("x", b.tokens, n)), b.const(w8 * scale), b.const(values("bias", m)))


def attend(b: Block, q: str, k: str, v: str, mask: str) -> str:
    """Attention of [s, b * heads, size], where transBatch reads [b * heads, s, size]."""
    scores = b.op("FusedMatMul", q, k, domain=MS, transB=1, transBatchA=1, transBatchB=1, alpha=1.0)
    if mask == "4-D":
        scores = b.op("Reshape", scores, b.dims(b.batch, HEADS, b.length, b.length))
        weights = b.op("Softmax", b.op("Add", scores, b.feed(padding(b)[:, None, None])), axis=-1)
        weights = b.op("Reshape", weights, b.dims(-1, b.length, b.length))
    elif mask == "3-D":
        weights = b.op("Softmax", b.op("Add", scores, b.feed(padding(b).repeat(HEADS, axis=0)[:, None])), axis=-1)
    else:
        weights = b.op("Softmax", scores, axis=-1)
    return b.op("FusedMatMul", weights, v, domain=MS, transBatchB=1)


def padding(b: Block) -> NDArray[np.float32]:
    """What is added to scores [batch, length]: the last two tokens of every text are hidden."""
    return np.where(np.arange(b.length) < b.length - 2, 0, -1e9).astype(np.float32)[None].repeat(b.batch, axis=0)


def qkv(b: Block, form: str) -> str:
    """Products and attention without a mask, sequence first."""
    x, layers = b.feed(codes("x", b.tokens, HIDDEN)), []
    for part in "qkv":
        w, scale = weight(part, HIDDEN, HIDDEN)
        layers.append((w, scale / np.float32(SIZE**0.25), values(part, HIDDEN)))
    if form == "heads":  # columns q0 k0 v0 q1 k1 v1 ..., 32 of each
        stacked = [np.stack([a.reshape(-1, HEADS, SIZE) for a in like], axis=2) for like in zip(*layers, strict=True)]
        w, scale, bias = (a.reshape(-1, 3 * HIDDEN) for a in stacked)
        y = b.op("Reshape", linear(b, x, w, scale[0], bias[0]), b.dims(b.length, b.batch * HEADS, 3 * SIZE))
        q, k, v = b.ops("Split", 3, y, b.const(np.array([SIZE] * 3)), axis=2)
        return attend(b, q, k, v, mask="none")
    if form == "columns":
        w, scale, bias = (np.concatenate(arrays, axis=-1) for arrays in zip(*layers, strict=True))
        parts = b.ops("Split", 3, linear(b, x, w, scale, bias), b.const(np.array([HIDDEN] * 3)), axis=1)
    else:
        parts = [linear(b, x, *layer) for layer in layers]
    q, k, v = (b.op("Reshape", part, b.dims(b.length, b.batch * HEADS, SIZE)) for part in parts)
    return attend(b, q, k, v, mask="none")


def attention(b: Block, form: str, mask: str = "3-D") -> str:
    """q, k, v [tokens, hidden] to the codes of the context [tokens, hidden]."""
    q, k, v = (b.feed(values(part, b.tokens, HIDDEN) / np.float32(SIZE**0.25)) for part in "qkv")
    if form == "operator":
        q, k, v = (b.op("Reshape", part, b.dims(b.batch, b.length, HIDDEN)) for part in (q, k, v))
        mask = b.feed((padding(b) == 0).astype(np.int32))
        x = quantize(b, b.op("MultiHeadAttention", q, k, v, "", mask, domain=MS, num_heads=HEADS, scale=1.0))
    elif form == "transposes":
        q, k, v = (b.op("Reshape", part, b.dims(b.batch, b.length, HEADS, SIZE)) for part in (q, k, v))
        q, v = (b.op("Transpose", part, perm=[0, 2, 1, 3]) for part in (q, v))
        scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 2, 3, 1]))
        weights = b.op("Softmax", b.op("Add", scores, b.feed(padding(b)[:, None, None])), axis=-1)
        x = b.op("Transpose", quantize(b, b.op("MatMul", weights, v)), perm=[0, 2, 1, 3])
    else:
        q, k, v = (b.op("Reshape", part, b.dims(b.length, b.batch * HEADS, SIZE)) for part in (q, k, v))
        x = attend(b, q, k, v, mask)
        x = b.op("Transpose", quantize(b, x) if form == "codes first" else x, perm=[1, 0, 2])
        x = x if form == "codes first" else quantize(b, x)
    return b.op("Reshape", x, b.dims(-1, HIDDEN))


def activation(b: Block, op_type: str, domain: str = "", bias: bool = False, **attributes: Any) -> str:
    inputs = [b.feed(values("x", b.tokens, INTERMEDIATE))]
    inputs += [b.const(np.zeros(INTERMEDIATE, np.float32))] if bias else []
    return b.op(op_type, *inputs, domain=domain, **attributes)


def norm(b: Block, form: str) -> str:
    x, residual = (b.feed(values(name, b.tokens, HIDDEN)) for name in ("x", "residual"))
    scale, bias = b.const(values("scale", HIDDEN)), b.const(values("bias", HIDDEN))
    if form == "skip":
        return b.op("SkipLayerNormalization", residual, x, scale, bias, domain=MS, epsilon=1e-12)
    total = b.op("Add", residual, x)
    if form == "simplified":
        return b.op("SimplifiedLayerNormalization", total, scale, axis=-1, epsilon=1e-12)
    return b.op("LayerNormalization", total, scale, bias, axis=-1, epsilon=1e-12)


def quantizing(b: Block, form: str) -> list[str]:
    """[tokens, 1536] to uint8, and what a row's scale does to the product [tokens, 384] afterwards."""
    x, zero = b.feed(np.maximum(values("x", b.tokens, INTERMEDIATE), 0)), b.const(np.uint8(55))
    if form == "static":
        return [b.op("QuantizeLinear", x, b.const(STEP), zero)]
    if form == "tensor":
        return b.ops("DynamicQuantizeLinear", 3, x)
    largest, step = b.op("ReduceMax", x, b.const(np.array([-1])), keepdims=1), b.const(np.float32(1 / 200))
    row = b.op("Mul", largest, step)
    if form == "block":
        zeros = b.op("Expand", zero, b.op("Shape", row))
        quantized = b.op("QuantizeLinear", x, row, zeros, axis=1, block_size=INTERMEDIATE)
    elif form == "axis":
        vector = b.op("Reshape", row, b.const(np.array([-1])))
        quantized = b.op("QuantizeLinear", x, vector, b.op("Expand", zero, b.op("Shape", vector)), axis=0)
    else:
        row = b.op("Max", largest, b.const(np.float32(1e-6)))
        quantized = b.op("QuantizeLinear", b.op("Div", x, row), step, zero)
    return [quantized, b.op("Mul", b.feed(values("y", b.tokens, HIDDEN)), row)]


def smoothing(b: Block, form: str) -> str:
    """[tokens, 384] to uint8, with one factor per channel, a power of two."""
    x, factor = b.feed(values("x", b.tokens, HIDDEN)), np.exp2(np.rint(values("factor", HIDDEN)))
    if form == "channel":
        return b.op("QuantizeLinear", x, b.const(STEP / factor), b.const(np.full(HIDDEN, 128, np.uint8)), axis=1)
    return quantize(b, b.op("Mul", x, b.const(factor)) if form == "mul" else x)
