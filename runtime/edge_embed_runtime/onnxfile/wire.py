"""Messages of onnx.proto3 in a file's bytes, field by field: read without parsing weights, and written.

Messages: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
Bytes: https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Callable, Iterator, Sequence, Sized
from io import RawIOBase
from mmap import mmap
from typing import NamedTuple

SMALL = 2**16  # a message of so many bytes is read at once
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


class MalformedError(Exception):
    """What is wrong with the file, as the end of a sentence that begins with "it"."""


def reader(file: RawIOBase) -> Read:
    def read(position: int, size: int) -> bytes:
        file.seek(position)
        return file.read(size) or b""

    return read


def bytes_reader(data: bytes | mmap) -> Read:
    return lambda position, size: data[position : position + size]


def all_fields(fields: Fields) -> Fields:
    """The same fields, all of them looked at, and those of another file."""
    more = {EXTERNAL_DATA} if fields is TENSOR_FIELDS else set[int]()
    return Fields(fields.wanted | fields.skipped | more, frozenset(), fields.refused)


def numbers_of(read: Read, field: Field) -> Iterator[int]:
    """The values of a repeated number: one, or several packed in bytes."""
    _, wire, value, start, end = field
    if wire == VARINT:
        yield value
        return
    if wire != BYTES or end - start > SMALL:
        raise MalformedError("has weights whose shape cannot be read")
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
                raise MalformedError("is cut off")
        tag, offset = _varint(window, offset) if window[offset] > ONE_BYTE else (window[offset], offset + 1)
        number, wire, value = tag >> 3, tag & 7, 0
        if wire in NUMBERED:
            short = offset < len(window) and window[offset] <= ONE_BYTE
            value, offset = (window[offset], offset + 1) if short else _varint(window, offset)
        start = base + offset
        end = start + (value if wire == BYTES else SIZES.get(wire, size))
        if end > size or (number not in skipped and number not in wanted):
            if number in refused:
                raise MalformedError(f"holds {refused[number]}")
            raise MalformedError(f"is not an ONNX model: field {number} of kind {wire} at byte {position}")
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
    raise MalformedError("is not an ONNX model: it holds a number that cannot be read")


def every_field(read: Read, start: int, end: int, fields: Fields) -> Iterator[tuple[int, bytes, int, int]]:
    """Each field of a message: number, its bytes (not of graph and weights), where its content starts and ends."""
    large = {GRAPH} if fields is MODEL_FIELDS else {INITIALIZER} if fields is GRAPH_FIELDS else set[int]()
    for number, wire, value, first, last in fields_of(from_here(read, start), end - start, all_fields(fields)):
        whole = b"" if number in large else whole_field(number, wire, value, read(start + first, last - first))
        yield number, whole, start + first, start + last


def from_here(read: Read, start: int) -> Read:
    return lambda position, size: read(start + position, size)


def whole_field(number: int, wire: int, value: int, content: bytes) -> bytes:
    """A field as it stands in a file."""
    if wire == BYTES:
        return message(number, content)
    return _bytes_of(number << 3 | wire) + (_bytes_of(value) if wire == 0 else content)


def message(number: int, content: bytes) -> bytes:
    """A field that holds bytes: a text, a message."""
    return head(number, [content]) + content


def head(number: int, parts: Sequence[Sized]) -> bytes:
    """What comes before the pieces of such a field."""
    return _bytes_of(number << 3 | BYTES) + _bytes_of(sum(map(len, parts)))


def _bytes_of(value: int) -> bytes:
    """300 -> b"\\xac\\x02"."""
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)
