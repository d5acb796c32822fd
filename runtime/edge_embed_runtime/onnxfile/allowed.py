"""What a model file may hold, checked by reading its structure before onnxruntime parses it.

A bundle's hashes prove that it is what its maker wrote, not that the maker meant well. The rule: a model computes its
outputs from its inputs and its own weights. So an operator is allowed when it has no control flow, reads and writes no
file, draws no random numbers, makes no strings, sequences or maps, and is onnxruntime's own; weights lie in the file
itself, or within the one other file that a bundle may have for them. The numbers are bounded too. What is left is a
straight line of operators: it ends, and a deadline (see model/deadline.py) ends it between any two of them.

Scan is the one exception, which attention to long texts needs: it runs a straight line of operators, held to the same
rules and without another Scan in it, once for each row of its inputs. The deadline ends it between any two operators of
a row, so there must be some.

Weights are stepped over, not read (see wire.py).
"""

from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import NamedTuple, NoReturn

from edge_embed_runtime.errors import BundleFormatError
from edge_embed_runtime.onnxfile.wire import (
    ATTRIBUTE_FIELDS,
    BYTES,
    DATA_LOCATION,
    DATA_TYPE,
    DIMS,
    DOMAIN,
    EXTERNAL,
    EXTERNAL_DATA,
    GRAPH_FIELDS,
    INITIALIZER,
    MODEL_FIELDS,
    NODE,
    NODE_FIELDS,
    OP_TYPE,
    SMALL,
    TENSOR,
    TENSOR_FIELDS,
    Field,
    Fields,
    MalformedError,
    Read,
    all_fields,
    bytes_reader,
    fields_of,
    numbers_of,
    reader,
)

# Operators, and weights. The default bundle has 191 and 179, a large decoder in small pieces some thousands.
MAX_PARTS = 50_000
MAX_RANK = 8
MAX_ELEMENTS = 2**31 - 1  # of one tensor: protobuf, and so a model, ends at 2 GiB
MAX_NAME = 4096  # bytes of an operator's type or domain, and so of an error message

STANDARD = """
    Abs Add And ArgMax ArgMin Attention AveragePool BatchNormalization BitShift BitwiseAnd BitwiseNot BitwiseOr
    BitwiseXor Cast CastLike Ceil Celu Clip Compress Concat Constant ConstantOfShape Conv ConvInteger Cos Cosh
    CumSum DequantizeLinear Div DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU
    Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual
    GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization IsInf IsNaN LSTM LayerNormalization
    LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization MatMul MatMulInteger Max MaxPool Mean Min Mish Mod Mul
    Neg NonZero Not OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization RNN Range
    Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape ReverseSequence RotaryEmbedding Round ScatterElements ScatterND Selu Shape Sigmoid
    Sign Sin Sinh Size Slice Softmax Softplus Softsign Split Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu
    Tile TopK Transpose Trilu Unsqueeze Where Xor
    SimplifiedLayerNormalization SkipSimplifiedLayerNormalization
"""
REPEATING = "Scan"  # the only operator with a graph in it
MICROSOFT = """
    Attention BiasGelu DequantizeLinear DynamicQuantizeLSTM DynamicQuantizeMatMul EmbedLayerNormalization FastGelu
    FusedConv FusedGemm FusedMatMul GatherBlockQuantized Gelu GroupQueryAttention MatMulBnb4 MatMulIntegerToFloat
    MatMulNBits MoE MultiHeadAttention QAttention QEmbedLayerNormalization QGemm QLinearAdd QLinearConcat
    QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid QLinearSoftmax QLinearWhere QMoE QuantizeLinear
    QuickGelu RotaryEmbedding SkipLayerNormalization SkipSimplifiedLayerNormalization SimplifiedLayerNormalization
    TransposeMatMul
"""
# by domain; "" and "ai.onnx" are the same
OPERATORS = {
    "": frozenset([*STANDARD.split(), REPEATING]),
    "ai.onnx": frozenset([*STANDARD.split(), REPEATING]),
    "com.microsoft": frozenset(MICROSOFT.split()),
}
# TensorProto.DataType: all numbers and truth values; not strings (8) and complex numbers (14, 15)
DATA_TYPES = frozenset([1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, *range(16, 27)])

# Those of a tensor whose numbers lie in another file: it has none itself.
SIDECAR_FIELDS = Fields(frozenset([DIMS, DATA_TYPE, EXTERNAL_DATA, DATA_LOCATION]), frozenset([8, 12, 16]), {})
ENTRY_FIELDS = Fields(frozenset([1, 2]), frozenset(), {})
# Bytes of a number, by TensorProto.DataType, of types that another file may hold.
ITEM_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
DIGITS = 15  # of a place in that file


class Sidecar(NamedTuple):
    """The file of a bundle that has the weights for which the model's own file is too small: name and bytes."""

    name: str
    size: int


def check_model(model: Path | bytes, what: str, sidecar: Sidecar | None = None) -> None:
    """Refuse a model with anything that an encoder does not need, in about 2 ms and without reading its weights.

    what:   names the model in the error
    sidecar: where its weights may lie as well

    Raises BundleFormatError that names the operator, or what else is not allowed.
    """

    def refuse(why: str) -> NoReturn:
        raise BundleFormatError(
            f"{what} {why}; a bundle's model may hold weights and operators without control flow, files or random "
            "numbers only. Use a bundle whose maker you trust, or make one with edge-embed export"
        ) from None

    try:
        if isinstance(model, bytes):
            _check(bytes_reader(model), len(model), sidecar)
            return
        with model.open("rb", buffering=0) as file:
            _check(reader(file), file.seek(0, 2), sidecar)
    except MalformedError as error:
        refuse(str(error))


def _check(read: Read, size: int, sidecar: Sidecar | None) -> None:
    if read(0, 8)[4:] == b"ORTM":
        raise MalformedError("is in onnxruntime's own format, not ONNX")
    graphs, counts = 0, {NODE: 0, INITIALIZER: 0}
    for field in fields_of(read, size, MODEL_FIELDS):
        graphs += 1
        _check_graph(*_part(read, field), counts, sidecar=sidecar)
    if graphs != 1:
        raise MalformedError(f"is not an ONNX model: it has {graphs} graphs")


def _check_graph(
    read: Read, size: int, counts: dict[int, int], *, inner: bool = False, sidecar: Sidecar | None = None
) -> None:
    """counts: of operators and weights so far, in all graphs; inner: whether this is what a Scan repeats"""
    before = counts[NODE]
    for field in fields_of(read, size, GRAPH_FIELDS):
        counts[field[0]] += 1
        if counts[field[0]] > MAX_PARTS:
            raise MalformedError(f"has more than {MAX_PARTS} operators or weights")
        if field[0] == NODE:
            _check_node(*_part(read, field), counts, inner=inner)
        else:
            part = _part(read, field)
            if sidecar is None or not _check_sidecar(*part, sidecar):
                _check_tensor(*part)
    if inner and counts[NODE] == before:
        raise MalformedError(f"has a {REPEATING} that repeats no operator, so that no deadline would end it")


def _check_node(read: Read, size: int, counts: dict[int, int], *, inner: bool) -> None:
    kinds, domains, bodies = [], [], 0
    for field in fields_of(read, size, NODE_FIELDS):
        if field[0] == OP_TYPE:
            kinds.append(_name(read, field))
        elif field[0] == DOMAIN:
            domains.append(_name(read, field))
        else:
            part, length = _part(read, field)
            for held in fields_of(part, length, ATTRIBUTE_FIELDS):
                if held[0] == TENSOR:
                    _check_tensor(*_part(part, held))
                    continue
                bodies += 1
                if inner or bodies > 1:
                    raise MalformedError("holds several graphs inside an operator (control flow)")
                _check_graph(*_part(part, held), counts, inner=True)
    # of a field that comes twice, parsers take the last
    if len(kinds) != 1 or len(domains) > 1:
        raise MalformedError(f"has an operator with {len(kinds)} types and {len(domains)} domains")
    (kind,), domain = kinds, (domains or [""])[0]
    if domain not in OPERATORS:
        raise MalformedError(f"has the operator {kind!r} of the unknown domain {domain!r}")
    if kind not in OPERATORS[domain]:
        raise MalformedError(f"has the operator {kind!r}{f' of {domain}' if domain else ''}, which is not allowed")
    if bodies != (kind == REPEATING):
        raise MalformedError(f"holds {bodies} graphs inside the operator {kind!r} (control flow)")


def _check_elements(dims: Iterable[int]) -> None:
    elements = 1
    for rank, dim in enumerate(dims, start=1):
        elements *= dim
        # a negative number reads as 2**63 or more
        if max(elements, dim) > MAX_ELEMENTS or rank > MAX_RANK:
            raise MalformedError(f"has weights of more than {MAX_ELEMENTS} numbers or {MAX_RANK} dimensions")


def _check_tensor(read: Read, size: int) -> None:
    dims: list[int] = []
    for field in fields_of(read, size, TENSOR_FIELDS):
        if field[0] == DIMS:
            dims += numbers_of(read, field)
            _check_elements(dims)
        elif field[0] == DATA_TYPE and field[2] not in DATA_TYPES:
            raise MalformedError(f"has weights of data type {field[2]}, which are no numbers")
        elif field[0] == DATA_LOCATION and field[2]:
            raise MalformedError("has weights in another file")


def _check_sidecar(read: Read, size: int, sidecar: Sidecar) -> bool:
    """Whether the numbers of a tensor lie in the other file; then they must lie within it."""
    if size > SMALL or not any(tag[0] == EXTERNAL_DATA for tag in fields_of(read, size, all_fields(TENSOR_FIELDS))):
        return False
    place = place_of(read, size)
    name, start, length = place.entries.get("location"), place.number("offset"), place.number("length")
    if place.entries.keys() != {"location", "offset", "length"} or name != sidecar.name:
        raise MalformedError(f"has weights in another file than {sidecar.name}")
    item = ITEM_BYTES.get(place.kind, 0)
    if item == 0 or start % item or length != item * place.elements or start + length > sidecar.size:
        raise MalformedError(f"has weights that do not lie in {sidecar.name} as it says")
    _check_elements(place.dims)
    return True


class Place(NamedTuple):
    """What a tensor says of its numbers in another file."""

    dims: list[int]
    kind: int
    entries: dict[str, str]

    @property
    def elements(self) -> int:
        return prod(self.dims)

    def number(self, key: str) -> int:
        digits = self.entries.get(key, "")
        if not (digits.isascii() and digits.isdecimal() and len(digits) <= DIGITS):
            raise MalformedError(f"has weights in another file with the {key} {digits!r:.40}")
        return int(digits)


def place_of(read: Read, size: int) -> Place:
    """Of a tensor with external data."""
    dims: list[int] = []
    kind = location = 0
    entries: dict[str, str] = {}
    for field in fields_of(read, size, SIDECAR_FIELDS):
        number, _, value, _, _ = field
        if number == DIMS:
            dims += numbers_of(read, field)
        elif number == DATA_TYPE:
            kind = value
        elif number == DATA_LOCATION:
            location = value
        else:
            part, length = _part(read, field)
            key, entry = ([_name(part, f) for f in fields_of(part, length, ENTRY_FIELDS) if f[0] == n] for n in (1, 2))
            if len(key) != 1 or len(entry) != 1 or key[0] in entries:
                raise MalformedError("has weights in another file and says twice where")
            entries[key[0]] = entry[0]
    if location != EXTERNAL:
        raise MalformedError("has weights of which it does not say where they are")
    return Place(dims, kind, entries)


def _part(read: Read, field: Field) -> tuple[Read, int]:
    """A reader of a message inside another, positions counted from its start; a small one is read now."""
    number, wire, _, start, end = field
    if wire != BYTES:
        raise MalformedError(f"is not an ONNX model: field {number} is not a message")
    if end - start <= SMALL:
        return bytes_reader(read(start, end - start)), end - start
    return lambda position, size: read(start + position, size), end - start


def _name(read: Read, field: Field) -> str:
    _, wire, _, start, end = field
    if wire != BYTES or end - start > MAX_NAME:
        raise MalformedError("has an operator without a proper name")
    return read(start, end - start).decode(errors="backslashreplace")
