"""The operators of a model, read from its bytes."""

from collections.abc import Iterator
from typing import NamedTuple

from edge_embed_runtime.onnxfile.wire import (
    ATTRIBUTE,
    ATTRIBUTE_FIELDS,
    BODY,
    GRAPH,
    GRAPH_FIELDS,
    MODEL_FIELDS,
    NODE,
    NODE_FIELDS,
    OP_TYPE,
    Read,
    bytes_reader,
    every_field,
)

INPUT, OUTPUT = 1, 2  # of NodeProto


class Node(NamedTuple):
    """An operator. inputs: also what a graph inside it may read from around it."""

    kind: str
    inputs: list[str]
    outputs: list[str]


def nodes_of(model: bytes) -> list[Node]:
    return list(read_nodes(bytes_reader(model), len(model)))


def read_nodes(read: Read, size: int) -> Iterator[Node]:
    """Of a checked model (see `check_model`), in their order; its weights are not read."""
    for number, _, start, end in every_field(read, 0, size, MODEL_FIELDS):
        if number == GRAPH:
            yield from _graph_nodes(read, start, end)


def _graph_nodes(read: Read, start: int, end: int) -> Iterator[Node]:
    for number, _, first, last in every_field(read, start, end, GRAPH_FIELDS):
        if number == NODE:
            yield _node(read, first, last)


def _node(read: Read, start: int, end: int) -> Node:
    kind = ""
    inputs: list[str] = []
    outputs: list[str] = []
    for number, _, first, last in every_field(read, start, end, NODE_FIELDS):
        if number == ATTRIBUTE:
            inputs += _body_inputs(read, first, last)
        elif number in (INPUT, OUTPUT, OP_TYPE):
            name = read(first, last - first).decode()
            if number == OP_TYPE:
                kind = name
            else:
                (inputs if number == INPUT else outputs).append(name)
    return Node(kind, inputs, outputs)


def _body_inputs(read: Read, start: int, end: int) -> Iterator[str]:
    for number, _, first, last in every_field(read, start, end, ATTRIBUTE_FIELDS):
        if number == BODY:
            for node in _graph_nodes(read, first, last):
                yield from node.inputs
