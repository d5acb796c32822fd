"""Weights that stay in the model's file: the system maps them, and processes with the same bundle share them.

onnxruntime copies weights that lie inside a model, and holds the model it parsed as well: 22 MB of weights took
57 MB. Weights in another file it maps. So it is given a model without its large weights, which says that they lie in
another file; that file is the one the model came from. Weights for which that is too small do lie in another.
"""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edge_embed_runtime.onnxfile.allowed import place_of
from edge_embed_runtime.onnxfile.wire import (
    DATA_LOCATION,
    DATA_TYPE,
    DIMS,
    EXTERNAL,
    EXTERNAL_DATA,
    GRAPH,
    GRAPH_FIELDS,
    INITIALIZER,
    MODEL_FIELDS,
    TENSOR_FIELDS,
    Read,
    all_fields,
    bytes_reader,
    every_field,
    fields_of,
    from_here,
    head,
    message,
    numbers_of,
    reader,
    whole_field,
)

# Weights of fewer bytes are copied: they would not fill a page of memory.
LEAST_BYTES = 4096
NAME, RAW_DATA = 8, 9
UINT8, INT8 = 2, 3  # of TensorProto.DataType
# Bytes of a number, by TensorProto.DataType; kernels may want float32 numbers at addresses that are multiples of 4.
ITEM_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2, 21: 1, 22: 1}


class Turned:
    """int8 numbers in a file, as uint8 and 128 higher; read when they are needed."""

    def __init__(self, read: Read, start: int, size: int) -> None:
        self._read, self._start, self._size = read, start, size

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return (np.frombuffer(self._read(self._start, self._size), np.uint8) ^ 128).tobytes()


Piece = bytes | Turned


class Weight(NamedTuple):
    """Dimensions and size of a tensor in a model's file."""

    dims: tuple[int, ...]
    bytes: int


def without_weights(model: Path) -> bytes:
    """A checked model (see `check_model`) whose large weights are said to lie in another file: `model` itself."""
    with model.open("rb", buffering=0) as file:
        read = reader(file)
        return b"".join(bytes(part) for part in model_parts(read, file.seek(0, 2), model.name))


def weights_of(model: Path | bytes) -> list[Weight]:
    """The tensors of a checked model."""
    if isinstance(model, bytes):
        return _weights(bytes_reader(model), len(model))
    with model.open("rb", buffering=0) as file:
        return _weights(reader(file), file.seek(0, 2))


def _weights(read: Read, size: int) -> list[Weight]:
    found = []
    for _, _, _, start, end in fields_of(read, size, MODEL_FIELDS):
        graph = from_here(read, start)
        for number, _, _, first, last in fields_of(graph, end - start, GRAPH_FIELDS):
            if number == INITIALIZER:
                found.append(_weight(from_here(graph, first), last - first))
    return found


def _weight(read: Read, size: int) -> Weight:
    dims: list[int] = []
    for field in fields_of(read, size, all_fields(TENSOR_FIELDS)):
        if field[0] == EXTERNAL_DATA:
            place = place_of(read, size)
            return Weight(tuple(place.dims), place.number("length"))
        if field[0] == DIMS:
            dims += numbers_of(read, field)
    return Weight(tuple(dims), size)


def model_parts(
    read: Read, size: int, name: str, turn: Collection[str] = (), turned: set[str] | None = None
) -> list[Piece]:
    """The pieces of a model whose large weights are said to lie in the file of this name.

    turn: int8 weights that become uint8, each 128 higher; those that were there are added to `turned`
    """
    parts: list[Piece] = []
    for number, content, start, end in every_field(read, 0, size, MODEL_FIELDS):
        if number == GRAPH:
            graph: list[Piece] = []
            for inner, part, first, last in every_field(read, start, end, GRAPH_FIELDS):
                if inner != INITIALIZER:
                    graph.append(part)
                elif weight := _turned(read, first, last, turn, turned):
                    graph += head(INITIALIZER, weight), *weight
                else:
                    graph.append(message(INITIALIZER, _tensor(read, first, last, name)))
            parts += head(GRAPH, graph), *graph
        else:
            parts.append(content)
    return parts


def _turned(read: Read, start: int, end: int, turn: Collection[str], turned: set[str] | None) -> list[Piece]:
    """The pieces of a tensor in uint8, or none where it is not one of `turn`, int8 and stored in one piece."""
    if not turn:
        return []
    parts: list[Piece] = []
    name, raw = "", None
    for number, wire, value, first, last in fields_of(from_here(read, start), end - start, all_fields(TENSOR_FIELDS)):
        content = b""
        if number == RAW_DATA:
            raw = start + first, last - first
            continue
        if number == DATA_TYPE:
            if value != INT8:
                return []
            parts.append(whole_field(number, wire, UINT8, b""))
            continue
        content = read(start + first, last - first) if number in (NAME, DIMS) else b""
        name = content.decode() if number == NAME else name
        parts.append(whole_field(number, wire, value, content))
    if raw is None or name not in turn or turned is None:
        return []
    turned.add(name)
    numbers = Turned(read, *raw)
    return [*parts, head(RAW_DATA, [numbers]), numbers]


def _tensor(read: Read, start: int, end: int, name: str) -> bytes:
    """A tensor, its numbers by the place in the file where they are."""
    if end - start < LEAST_BYTES:
        return read(start, end - start)
    parts, raw, size = [], None, 1
    for number, wire, value, first, last in fields_of(from_here(read, start), end - start, all_fields(TENSOR_FIELDS)):
        if number == RAW_DATA:
            raw = start + first, last - first
            continue
        if number == DATA_TYPE:
            size = ITEM_BYTES.get(value, 0)
        parts.append(whole_field(number, wire, value, read(start + first, last - first)))
    if raw is None or size == 0 or raw[0] % size:  # also where they lie in another file already
        return read(start, end - start)
    offset, length = raw
    for key, entry in (("location", name), ("offset", str(offset)), ("length", str(length))):
        parts.append(message(EXTERNAL_DATA, message(1, key.encode()) + message(2, entry.encode())))
    return b"".join(parts) + whole_field(DATA_LOCATION, 0, EXTERNAL, b"")
