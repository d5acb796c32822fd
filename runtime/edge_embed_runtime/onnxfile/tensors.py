"""Weights of a model as arrays that lie in its file: found by their names, mapped, not read.

For who multiplies with them without onnxruntime. Nothing else of the model is looked at, so what this refuses is what
could make an array of other numbers than the file says: a name that comes twice, numbers in two forms or in another
file, other bytes than the shape has.
"""

import mmap
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.errors import BundleFormatError
from edge_embed_runtime.onnxfile.wire import (
    DATA_LOCATION,
    DATA_TYPE,
    DIMS,
    GRAPH_FIELDS,
    INITIALIZER,
    MODEL_FIELDS,
    TENSOR_FIELDS,
    VARINT,
    MalformedError,
    Read,
    all_fields,
    bytes_reader,
    fields_of,
    from_here,
    numbers_of,
)

NAME, RAW_DATA, DOC_STRING = 8, 9, 12
MAX_TENSORS, MAX_RANK, MAX_NAME, MAX_ELEMENTS = 50_000, 8, 4096, 2**31 - 1
# By TensorProto.DataType.
TYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 2: np.dtype(np.uint8), 3: np.dtype(np.int8)}
# Of a tensor whose numbers are bytes in the file itself.
PLAIN = frozenset([DIMS, DATA_TYPE, NAME, RAW_DATA, DOC_STRING, DATA_LOCATION])


class Tensor(NamedTuple):
    """Where a tensor's numbers are in a file, in bytes, and what they are.

    kind: of TensorProto.DataType; plain: whether they are all there, as little-endian bytes
    """

    kind: int
    dims: tuple[int, ...]
    start: int
    size: int
    plain: bool


def mapped_tensors(model: Path | bytes, what: str) -> dict[str, NDArray[Any]]:
    """Tensors of float32, int8 and uint8 by name, read-only, as parts of one mapping of the file (or of bytes).

    what: names the model in the error. Raises BundleFormatError.
    """
    try:
        data: bytes | mmap.mmap = model if isinstance(model, bytes) else _map(model)
        found = tensors_of(bytes_reader(data), len(data))
    except (MalformedError, UnicodeDecodeError, ValueError, OSError, IndexError) as error:
        raise BundleFormatError(f"{what} {_sentence(error)}. Copy or export the bundle again") from error
    raw = np.frombuffer(data, np.uint8)
    return {
        name: raw[one.start : one.start + one.size].view(TYPES[one.kind]).reshape(one.dims)
        for name, one in found.items()
        if one.plain and one.kind in TYPES
    }


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, MalformedError) else f"cannot be read: {error}"


def _map(model: Path) -> mmap.mmap:
    with model.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def tensors_of(read: Read, size: int) -> dict[str, Tensor]:
    """The tensors of a model by name. Raises MalformedError."""
    found: dict[str, Tensor] = {}
    graphs = 0
    for _, wire, _, start, end in fields_of(read, size, MODEL_FIELDS):
        graphs += 1
        if graphs > 1 or wire == VARINT:
            raise MalformedError("is not an ONNX model: it has several graphs")
        graph = from_here(read, start)
        for number, kind, _, first, last in fields_of(graph, end - start, GRAPH_FIELDS):
            if number != INITIALIZER:
                continue
            if kind == VARINT or len(found) == MAX_TENSORS:
                raise MalformedError(f"has a weight that is none, or more than {MAX_TENSORS}")
            name, tensor = _tensor(from_here(graph, first), last - first, start + first)
            if name in found:
                raise MalformedError(f"has two weights with the name {name!r:.80}")
            found[name] = tensor
    return found


def _tensor(read: Read, size: int, base: int) -> tuple[str, Tensor]:
    """A tensor that begins at byte `base`, and its name."""
    dims: list[int] = []
    raw: list[tuple[int, int]] = []
    name, kind, plain = "", 0, True
    for field in fields_of(read, size, all_fields(TENSOR_FIELDS)):
        number, _, value, first, last = field
        plain = plain and number in PLAIN and not (number == DATA_LOCATION and value)
        if number == DIMS:
            dims += numbers_of(read, field)
            if len(dims) > MAX_RANK:
                raise MalformedError(f"has weights of more than {MAX_RANK} dimensions")
        elif number == DATA_TYPE:
            kind = value
        elif number == NAME:
            if last - first > MAX_NAME:
                raise MalformedError("has a weight with a name that is too long")
            name = read(first, last - first).decode()
        elif number == RAW_DATA:
            raw.append((first, last - first))
    if len(raw) > 1:
        raise MalformedError(f"has a weight {name!r:.80} with numbers twice")
    plain = plain and bool(raw)
    start, length = raw[0] if raw else (0, 0)
    if plain and kind in TYPES and not _fits(dims, length // TYPES[kind].itemsize, length, kind):
        raise MalformedError(f"has a weight {name!r:.80} of {dims} numbers in {length} bytes")
    return name, Tensor(kind, tuple(dims), base + start, length, plain)


def _fits(dims: list[int], elements: int, length: int, kind: int) -> bool:
    """Whether a tensor of these dims has so many bytes. A negative number reads as 2**63 or more."""
    if any(dim > MAX_ELEMENTS for dim in dims) or elements * TYPES[kind].itemsize != length:
        return False
    return prod(dims) == elements
