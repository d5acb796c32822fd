"""The part of a model that gives some of its inner values, cut out of the file's bytes.

onnxruntime runs every operator of a model, whether or not its result is asked for. So the states of tokens behind a
layer come from a model that ends there: these values are its outputs, and what they do not need is not in it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from edge_embed_runtime.errors import BundleFormatError
from edge_embed_runtime.onnxfile.nodes import nodes_of
from edge_embed_runtime.onnxfile.wire import (
    GRAPH,
    GRAPH_FIELDS,
    INITIALIZER,
    MODEL_FIELDS,
    NODE,
    TENSOR_FIELDS,
    Fields,
    all_fields,
    bytes_reader,
    fields_of,
    message,
    whole_field,
)

# Numbers of fields in onnx.proto3: NodeProto, TensorProto, GraphProto, ValueInfoProto, TypeProto, AttributeProto.
TENSOR_NAME = 8
GRAPH_INPUT, GRAPH_OUTPUT, GRAPH_VALUES = 11, 12, 13
VALUE_NAME, VALUE_TYPE, TENSOR_TYPE, ELEMENT = 1, 2, 1, b"\x08\x01"  # float32
# a tensor whose numbers lie in another file (see mapped.py) is one too
VALUES = Fields(frozenset([1, 2, 3, 4]), frozenset(), {})
TENSORS = Fields(TENSOR_FIELDS.wanted | {13}, TENSOR_FIELDS.skipped, {})


ORDERING = ("Reshape", "Transpose")


def part(model: bytes, values: Sequence[str]) -> bytes:
    """The part of a checked model (see `check_model`) that gives these values, as its outputs in this order.

    Raises BundleFormatError for a value that it has not.
    """
    nodes = nodes_of(model)
    makers = {output: i for i, node in enumerate(nodes) for output in node.outputs}
    for value in values:
        if value not in makers:
            raise BundleFormatError(f"the model has no value {value!r:.80}")
    needed, names, pending = set[int](), set[str](), list(values)
    while pending:
        name = pending.pop()
        if name not in names:
            names.add(name)
            maker = makers.get(name)
            if maker is not None:
                needed.add(maker)
                pending += nodes[maker].inputs
    return _rewritten(model, lambda graph: _cut(graph, needed, names, values))


def pooled_value(model: bytes) -> str | None:
    """The value that pooling reads, of a model that this package's exporter wrote: [tokens, hidden] (see `Layer`), or
    [batch, sequence, hidden] of a graph of unknown structure. None where there is none.

    Pooling begins with a Reshape or a Transpose to [sequence, batch, hidden], and has none behind it: so it is the
    nearest one on the way back from the output by first inputs.
    """
    nodes = nodes_of(model)
    makers = {output: node for node in nodes for output in node.outputs}
    node = nodes[-1] if nodes else None
    for _ in nodes:
        if node is None or node.kind in ORDERING:
            break
        node = makers.get(node.inputs[0]) if node.inputs else None
    return node.inputs[0] if node is not None and node.kind in ORDERING and node.inputs[0] in makers else None


def _parts(data: bytes, fields: Fields) -> Iterator[tuple[int, bytes, bytes]]:
    """Each field of a message: number, content, and the field as it stands."""
    for number, wire, value, start, end in fields_of(bytes_reader(data), len(data), all_fields(fields)):
        yield number, data[start:end], whole_field(number, wire, value, data[start:end])


def _rewritten(model: bytes, change: Callable[[bytes], Iterable[bytes]]) -> bytes:
    return b"".join(
        message(GRAPH, b"".join(change(content))) if number == GRAPH else whole
        for number, content, whole in _parts(model, MODEL_FIELDS)
    )


def _cut(graph: bytes, needed: set[int], names: set[str], values: Sequence[str]) -> Iterator[bytes]:
    # inputs stay, so that callers need not know which are read; some have a weight as their default
    inputs = {_name(c, VALUES) for number, c, _ in _parts(graph, GRAPH_FIELDS) if number == GRAPH_INPUT}
    place = 0
    for number, content, whole in _parts(graph, GRAPH_FIELDS):
        if number == NODE:
            if place in needed:
                yield whole
            place += 1
        elif number == INITIALIZER:
            if _name(content, TENSORS) in names | inputs:
                yield whole
        elif number not in (GRAPH_OUTPUT, GRAPH_VALUES):
            yield whole
    kind = message(VALUE_TYPE, message(TENSOR_TYPE, ELEMENT))
    for value in values:
        yield message(GRAPH_OUTPUT, message(VALUE_NAME, value.encode()) + kind)


def _name(data: bytes, fields: Fields) -> str:
    """Of a tensor, or of an input."""
    wanted = TENSOR_NAME if fields is TENSORS else VALUE_NAME
    return next((c.decode() for number, c, _ in _parts(data, fields) if number == wanted), "")
