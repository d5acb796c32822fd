"""Rows of the tables that a bundle looks its tokens up in, taken out without touching the others' bits."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.transformer.aligned import align
from edge_embed_export.transformer.builder import LARGEST
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.extras import require
from edge_embed_runtime.model.static import read_table, write_table

if TYPE_CHECKING:
    import onnx

Ids = NDArray[np.int64]

IDS = "input_ids"
# Operators that give the token ids on, in another shape or type.
SAME_IDS = ("Identity", "Cast", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Flatten")
# Operators that put an id where none is (see transformer/filled.py), by the place of the ids among what they read.
FILLING = {"Where": 1, "Pad": 0}
# Operators that look at their shape alone.
SHAPE_ALONE = ("Shape", "Size")
# Where rows lie in a table of few bits (see `Graph.compact_rows`), and which operators compare a place with how many
# rows are frequent.
PLACE, WORD, SCALE = "embedding.place", "embedding.word", "embedding.scale"
PLANE = re.compile(rf"{re.escape(WORD)}\.\d+bit")
COMPARED = {"Min": -1, "Sub": 0, "Less": 0}


def cut_table(table: Path | bytes, kept: Ids) -> bytes:
    """The table file of a static bundle with the rows of these tokens, in this order, and the one for texts without."""
    tensors = read_table(table, "the table")
    rows, place = tensors["rows"], tensors.get("place")
    used, places = np.unique(kept if place is None else place[kept], return_inverse=True)
    if len(used) == len(kept):  # every token has a row of its own: in their order no places are needed
        order = kept if place is None else place[kept]
        return write_table({"scale": tensors["scale"], "rows": np.concatenate([rows[order], rows[-1:]])})
    cut = np.concatenate([rows[used], rows[-1:]])
    return write_table({"place": places.astype(np.int32), "scale": tensors["scale"], "rows": cut})


def cut_model(model: Path | bytes, kept: Ids) -> bytes:
    """An ONNX model with the rows of these tokens, in this order, in every table that is looked up by token ids.

    Raises ExportError for a model that does anything else with token ids, or with such a table.
    """
    onnx = require("onnx", "export")
    loaded = onnx.load_model_from_string(model) if isinstance(model, bytes) else onnx.load(str(model))
    graph = loaded.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for name in dict.fromkeys(_tables(graph, stored, kept)):
        array = onnx.numpy_helper.to_array(stored[name])
        if kept.max() >= len(array):
            raise ExportError(f"the model's table {name!r} has {len(array)} rows, fewer than the tokenizer has tokens")
        _replace(stored[name], array[kept])
    if PLACE in stored:
        _cut_compact(graph, stored)
    del graph.value_info[:]  # shapes that are no longer true
    for tensor in graph.initializer:
        tensor.ClearField("doc_string")
    align(loaded)
    size = sum(len(tensor.raw_data) for tensor in graph.initializer)
    if size > LARGEST:
        raise ExportError(f"with these tokens the model still has {size / 2**30:.1f} GiB, more than a file can hold")
    return bytes(loaded.SerializeToString())


def _tables(graph: "onnx.GraphProto", stored: dict[str, Any], kept: Ids) -> Iterable[str]:
    """The initializers that are looked up by token ids."""
    same = {IDS}
    found: list[str] = []
    for node in graph.node:
        if not same.intersection(node.input):
            continue
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        place = FILLING.get(node.op_type)
        filled = place is not None and node.input[place] in same and _says_the_same(node, stored, kept)
        if filled or (node.op_type in SAME_IDS and node.input[0] in same):
            same.update(node.output)
        elif node.op_type == "Gather" and axis == 0 and node.input[1] in same and node.input[0] in stored:
            found.append(node.input[0])
        elif node.op_type not in SHAPE_ALONE and not _says_the_same(node, stored, kept):
            raise ExportError(
                f"the model does more with token ids than look up their rows ({node.op_type} {node.name!r}): "
                "its vocabulary cannot be pruned"
            )
    if not found:
        raise ExportError(f"the model looks up no table by {IDS!r}: its vocabulary cannot be pruned")
    for node in graph.node:
        if set(found).intersection(node.input) and not (node.op_type == "Gather" and node.input[1] in same):
            raise ExportError(
                f"the model reads its table of token vectors in {node.op_type} {node.name!r} as well: "
                "its vocabulary cannot be pruned"
            )
    return found


def _says_the_same(node: Any, stored: dict[str, Any], kept: Ids) -> bool:
    """Whether a node gives the same for new ids as for old ones: it makes zeros, or reads an id that stays what it is.

    Equal(ids, 1) finds padding, where the tokens 0 and 1 are kept.
    """
    numbers = [require("onnx", "export").numpy_helper.to_array(stored[x]) for x in node.input if x in stored]
    if len(numbers) != 1:
        return False
    (number,) = numbers
    if node.op_type == "Mul":
        return not number.any()
    return node.op_type in ("Equal", *FILLING) and all(int(x) < len(kept) and kept[int(x)] == x for x in number.ravel())


def _cut_compact(graph: "onnx.GraphProto", stored: dict[str, Any]) -> None:
    """Leave out rows that no place names. Of both kinds, int8 and few bits, one stays: the graph reads each."""
    array = require("onnx", "export").numpy_helper.to_array
    places, count = array(stored[PLACE]), len(array(stored[WORD]))
    used = np.unique(places)
    frequent, rare = used[used < count], used[used >= count]
    frequent = frequent if len(frequent) else np.array([0], used.dtype)
    rare = rare if len(rare) else np.array([count], used.dtype)
    rows = np.concatenate([frequent, rare])
    new = np.zeros(int(rows.max()) + 1, places.dtype)
    new[rows] = np.arange(len(rows))
    _replace(stored[PLACE], new[places])
    _replace(stored[WORD], array(stored[WORD])[frequent])
    _replace(stored[SCALE], array(stored[SCALE])[rows])
    for name in [name for name in stored if PLANE.fullmatch(name)]:
        _replace(stored[name], array(stored[name])[rare - count])
    _set_count(graph, len(frequent))


def _set_count(graph: "onnx.GraphProto", count: int) -> None:
    """Say how many rows are frequent, wherever a place is compared with their number.

    The numbers get initializers of their own: those that are there may be read by other operators.
    """
    numpy_helper = require("onnx", "export").numpy_helper
    same = {next(node.output[0] for node in graph.node if PLACE in node.input)}
    for node in graph.node:
        if not same.intersection(node.input):
            continue
        if node.op_type == "Cast":
            same.update(node.output)
        elif node.op_type in COMPARED:
            number = count + COMPARED[node.op_type]
            node.input[1] = f"{PLACE}:{node.op_type}"
            graph.initializer.append(numpy_helper.from_array(np.array(number, np.int32), node.input[1]))


def _replace(tensor: Any, array: NDArray[Any]) -> None:
    tensor.CopyFrom(require("onnx", "export").numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))
