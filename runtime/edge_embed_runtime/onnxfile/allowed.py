"""What a model file may hold, checked by reading its structure before onnxruntime parses it.

A bundle's hashes prove that it is what its maker wrote, not that the maker meant well. The rule: a model computes its
outputs from its inputs and its own weights. So an operator is allowed when it has no control flow, reads and writes no
file, draws no random numbers, makes no strings, sequences or maps, and is onnxruntime's own; weights lie in the file
itself, or within the one other file that a bundle may have for them. The numbers are bounded too. What is left is a
straight line of operators: it ends, and a deadline (see model/deadline.py) ends it between any two of them.

Scan is the one exception, which attention to long texts needs: it runs a straight line of operators, held to the same
rules and without another Scan in it, once for each row of its inputs. The deadline ends it between any two operators of
a row, so there must be some.

The reader knows the messages of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3) and protobuf's
wire format (https://protobuf.dev/programming-guides/encoding/). Weights are stepped over, not read.
"""

from collections.abc import Callable, Iterable, Iterator
from io import RawIOBase
from math import prod
from mmap import mmap
from pathlib import Path
from typing import NamedTuple, NoReturn

from edge_embed_runtime.errors import BundleFormatError

# Operators, and weights. The default bundle has 191 and 179, a large decoder in small pieces some thousands.
MAX_PARTS = 50_000
MAX_RANK = 8
MAX_ELEMENTS = 2**31 - 1  # of one tensor: protobuf, and so a model, ends at 2 GiB
MAX_NAME = 4096  # bytes of an operator's type or domain, and so of an error message
SMALL = 2**16  # a message of so many bytes is read at once

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

VARINT, BYTES = 0, 2
NUMBERED = (VARINT, BYTES)
ONE_BYTE = 127  # the largest number that is stored in one byte, as nearly all are
SIZES = {VARINT: 0, 1: 8, 5: 4}  # bytes after the head of a field, by kind
LONGEST_HEAD = 20  # bytes of a field's number and length
WINDOW = 2048  # bytes read at a time where weights are stepped over

Read = Callable[[int, int], bytes]
Field = tuple[int, int, int, int, int]  # (number, kind, value of a number, where its bytes start, where they end)


class Fields(NamedTuple):
    """The fields of a message by number. wanted: looked at; skipped: names, texts, types, bare numbers, weights."""

    wanted: frozenset[int]
    skipped: frozenset[int]
    refused: dict[int, str]


GRAPH, OPSET_IMPORT = 7, 8
MODEL_FIELDS = Fields(
    frozenset([GRAPH]),
    frozenset([1, 2, 3, 4, 5, 6, OPSET_IMPORT, 14]),
    {20: "training steps", 25: "functions of its own", 26: "a distribution over devices"},
)
NODE, INITIALIZER = 1, 5
GRAPH_FIELDS = Fields(frozenset([NODE, INITIALIZER]), frozenset([2, 10, 11, 12, 13, 14, 16]), {15: "sparse weights"})
OP_TYPE, ATTRIBUTE, DOMAIN = 4, 5, 7
NODE_FIELDS = Fields(
    frozenset([OP_TYPE, ATTRIBUTE, DOMAIN]), frozenset([1, 2, 3, 6, 9]), {8: "an overload", 10: "a place on devices"}
)
TENSOR, BODY = 5, 6
ATTRIBUTE_FIELDS = Fields(
    frozenset([TENSOR, BODY]),
    frozenset([1, 2, 3, 4, 7, 8, 9, 13, 20]),
    {
        10: "several tensors in one attribute",
        11: "graphs inside an operator (control flow)",
        14: "a type as attribute",
        15: "types as attribute",
        21: "a reference to an attribute of a function",
        22: "sparse weights",
        23: "sparse weights",
    },
)
DIMS, DATA_TYPE, EXTERNAL_DATA, DATA_LOCATION, EXTERNAL = 1, 2, 13, 14, 1
TENSOR_FIELDS = Fields(
    frozenset([DIMS, DATA_TYPE, DATA_LOCATION]),
    frozenset([4, 5, 7, 8, 9, 10, 11, 12, 16]),
    {3: "weights in segments", 6: "strings as weights", 13: "weights in another file"},
)
# Those of a tensor whose numbers lie in another file: it has none itself.
BESIDE_FIELDS = Fields(frozenset([DIMS, DATA_TYPE, EXTERNAL_DATA, DATA_LOCATION]), frozenset([8, 12, 16]), {})
ENTRY_FIELDS = Fields(frozenset([1, 2]), frozenset(), {})
# Bytes of a number, by TensorProto.DataType, of types that another file may hold.
ITEM_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
DIGITS = 15  # of a place in that file


class _MalformedError(Exception):
    """What is wrong with the file, as the end of a sentence that begins with "it"."""


class Beside(NamedTuple):
    """The file of a bundle that has the weights for which the model's own file is too small: name and bytes."""

    name: str
    size: int


def check_model(model: Path | bytes, what: str, beside: Beside | None = None) -> None:
    """Refuse a model with anything that an encoder does not need, in about 2 ms and without reading its weights.

    what:   names the model in the error
    beside: where its weights may lie besides

    Raises BundleFormatError that names the operator, or what else is not allowed.
    """

    def refuse(why: str) -> NoReturn:
        raise BundleFormatError(
            f"{what} {why}; a bundle's model may hold weights and operators without control flow, files or random "
            "numbers only. Use a bundle whose maker you trust, or make one with edge-embed export"
        ) from None

    try:
        if isinstance(model, bytes):
            _check(bytes_reader(model), len(model), beside)
            return
        with model.open("rb", buffering=0) as file:
            _check(reader(file), file.seek(0, 2), beside)
    except _MalformedError as error:
        refuse(str(error))


def reader(file: RawIOBase) -> Read:
    def read(position: int, size: int) -> bytes:
        file.seek(position)
        return file.read(size) or b""

    return read


def bytes_reader(data: bytes | mmap) -> Read:
    return lambda position, size: data[position : position + size]


def _check(read: Read, size: int, beside: Beside | None) -> None:
    if read(0, 8)[4:] == b"ORTM":
        raise _MalformedError("is in onnxruntime's own format, not ONNX")
    graphs, counts = 0, {NODE: 0, INITIALIZER: 0}
    for field in fields_of(read, size, MODEL_FIELDS):
        graphs += 1
        _check_graph(*_part(read, field), counts, beside=beside)
    if graphs != 1:
        raise _MalformedError(f"is not an ONNX model: it has {graphs} graphs")


def _check_graph(
    read: Read, size: int, counts: dict[int, int], *, inner: bool = False, beside: Beside | None = None
) -> None:
    """counts: of operators and weights so far, in all graphs; inner: whether this is what a Scan repeats"""
    before = counts[NODE]
    for field in fields_of(read, size, GRAPH_FIELDS):
        counts[field[0]] += 1
        if counts[field[0]] > MAX_PARTS:
            raise _MalformedError(f"has more than {MAX_PARTS} operators or weights")
        if field[0] == NODE:
            _check_node(*_part(read, field), counts, inner=inner)
        else:
            part = _part(read, field)
            if beside is None or not _check_beside(*part, beside):
                _check_tensor(*part)
    if inner and counts[NODE] == before:
        raise _MalformedError(f"has a {REPEATING} that repeats no operator, so that no deadline would end it")


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
                    raise _MalformedError("holds several graphs inside an operator (control flow)")
                _check_graph(*_part(part, held), counts, inner=True)
    # of a field that comes twice, parsers take the last
    if len(kinds) != 1 or len(domains) > 1:
        raise _MalformedError(f"has an operator with {len(kinds)} types and {len(domains)} domains")
    (kind,), domain = kinds, (domains or [""])[0]
    if domain not in OPERATORS:
        raise _MalformedError(f"has the operator {kind!r} of the unknown domain {domain!r}")
    if kind not in OPERATORS[domain]:
        raise _MalformedError(f"has the operator {kind!r}{f' of {domain}' if domain else ''}, which is not allowed")
    if bodies != (kind == REPEATING):
        raise _MalformedError(f"holds {bodies} graphs inside the operator {kind!r} (control flow)")


def _check_elements(dims: Iterable[int]) -> None:
    elements = 1
    for rank, dim in enumerate(dims, start=1):
        elements *= dim
        # a negative number reads as 2**63 or more
        if max(elements, dim) > MAX_ELEMENTS or rank > MAX_RANK:
            raise _MalformedError(f"has weights of more than {MAX_ELEMENTS} numbers or {MAX_RANK} dimensions")


def _check_tensor(read: Read, size: int) -> None:
    dims: list[int] = []
    for field in fields_of(read, size, TENSOR_FIELDS):
        if field[0] == DIMS:
            dims += numbers_of(read, field)
            _check_elements(dims)
        elif field[0] == DATA_TYPE and field[2] not in DATA_TYPES:
            raise _MalformedError(f"has weights of data type {field[2]}, which are no numbers")
        elif field[0] == DATA_LOCATION and field[2]:
            raise _MalformedError("has weights in another file")


def _check_beside(read: Read, size: int, beside: Beside) -> bool:
    """Whether the numbers of a tensor lie in the other file; then they must lie within it."""
    if size > SMALL or not any(tag[0] == EXTERNAL_DATA for tag in fields_of(read, size, all_fields(TENSOR_FIELDS))):
        return False
    place = place_of(read, size)
    name, start, length = place.entries.get("location"), place.number("offset"), place.number("length")
    if place.entries.keys() != {"location", "offset", "length"} or name != beside.name:
        raise _MalformedError(f"has weights in another file than {beside.name}")
    item = ITEM_BYTES.get(place.kind, 0)
    if item == 0 or start % item or length != item * place.elements or start + length > beside.size:
        raise _MalformedError(f"has weights that do not lie in {beside.name} as it says")
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
            raise _MalformedError(f"has weights in another file with the {key} {digits!r:.40}")
        return int(digits)


def place_of(read: Read, size: int) -> Place:
    """Of a tensor with external data."""
    dims: list[int] = []
    kind = location = 0
    entries: dict[str, str] = {}
    for field in fields_of(read, size, BESIDE_FIELDS):
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
                raise _MalformedError("has weights in another file and says twice where")
            entries[key[0]] = entry[0]
    if location != EXTERNAL:
        raise _MalformedError("has weights of which it does not say where they are")
    return Place(dims, kind, entries)


def all_fields(fields: Fields) -> Fields:
    """The same fields, all of them looked at, and those of another file."""
    more = {EXTERNAL_DATA} if fields is TENSOR_FIELDS else set[int]()
    return Fields(fields.wanted | fields.skipped | more, frozenset(), fields.refused)


def _part(read: Read, field: Field) -> tuple[Read, int]:
    """A reader of a message inside another, positions counted from its start; a small one is read now."""
    number, wire, _, start, end = field
    if wire != BYTES:
        raise _MalformedError(f"is not an ONNX model: field {number} is not a message")
    if end - start <= SMALL:
        return bytes_reader(read(start, end - start)), end - start
    return lambda position, size: read(start + position, size), end - start


def _name(read: Read, field: Field) -> str:
    _, wire, _, start, end = field
    if wire != BYTES or end - start > MAX_NAME:
        raise _MalformedError("has an operator without a proper name")
    return read(start, end - start).decode(errors="backslashreplace")


def numbers_of(read: Read, field: Field) -> Iterator[int]:
    """The values of a repeated number: one, or several packed in bytes."""
    _, wire, value, start, end = field
    if wire == VARINT:
        yield value
        return
    if wire != BYTES or end - start > SMALL:
        raise _MalformedError("has weights whose shape cannot be read")
    data, position = read(start, end - start), 0
    while position < len(data):
        value, position = _varint(data, position)
        yield value


def fields_of(read: Read, size: int, fields: Fields) -> Iterator[Field]:
    """The fields of a message of so many bytes that are looked at. Those that onnx.proto3 does not have are refused."""
    wanted, skipped, refused = fields
    position = base = 0
    window = read(0, size if size <= SMALL else WINDOW)
    while position < size:
        offset = position - base
        if offset + LONGEST_HEAD > len(window) and base + len(window) < size:
            base, offset, window = position, 0, read(position, min(size - position, WINDOW))
            if not window:
                raise _MalformedError("is cut off")
        tag, offset = _varint(window, offset) if window[offset] > ONE_BYTE else (window[offset], offset + 1)
        number, wire, value = tag >> 3, tag & 7, 0
        if wire in NUMBERED:
            short = offset < len(window) and window[offset] <= ONE_BYTE
            value, offset = (window[offset], offset + 1) if short else _varint(window, offset)
        start = base + offset
        end = start + (value if wire == BYTES else SIZES.get(wire, size))
        if end > size or (number not in skipped and number not in wanted):
            if number in refused:
                raise _MalformedError(f"holds {refused[number]}")
            raise _MalformedError(f"is not an ONNX model: field {number} of kind {wire} at byte {position}")
        if number in wanted:
            yield number, wire, value, start, end
        position = end


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number of one to ten bytes, and where it ends."""
    value = shift = 0
    for index in range(position, min(position + 10, len(data))):
        byte = data[index]
        value |= (byte & 127) << shift
        if byte < 128 and value < 2**64:
            return value, index + 1
        shift += 7
    raise _MalformedError("is not an ONNX model: it holds a number that cannot be read")
