"""What a graph of unknown structure is made of: linear layers, norms and tables, and what quantization can do to each.

A published graph is nodes; here it becomes a list of Linear, Norm and Rows, with the nodes that stay as they are
between them. Weights get names as in transformer/spec.py (`NAME.weight`, `NAME.bias`, `embedding.word`), so that the
passes for known families serve here too.
"""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.general.graph import EditableGraph, attributes, given
from edge_embed_export.transformer.spec import CONTEXT_MARGIN
from edge_embed_quantize.calibrate import Site

Array = NDArray[np.float32]

# Smaller matrices stay in float32: quantizing what they read costs more than int8 products save.
LEAST_WEIGHTS = 1024
LEAST_OUTPUTS = 8
# Numbers of a table from which on its rows are stored in int8.
LEAST_TABLE = 2**16
WORDS = "embedding.word"
# What an input of one number for each token may go through before it is looked up.
UNCHANGED = frozenset({"Identity", "Cast"})
# Activation functions that are u for large u and 0 for small u (see calibrate.Site.split).
SPLITTABLE = frozenset({"Gelu", "FastGelu", "QuickGelu", "Relu"})
MOVING = frozenset({"Reshape", "Transpose"})


@dataclass(frozen=True)
class Linear:
    """y = x @ weight + bias; several may have one name, and so one weight."""

    name: str
    x: str
    y: str


@dataclass(frozen=True)
class Norm:
    """A layer norm, or, without a bias and with `rms`, one by the root mean square."""

    name: str
    x: str
    y: str
    epsilon: float
    rms: bool


@dataclass(frozen=True)
class Rows:
    """Rows of a table: of `embedding.word`, else of a smaller one."""

    name: str
    ids: str
    y: str


Part = Linear | Norm | Rows | Any  # Any: an onnx node


@dataclass
class Structure:
    """What a graph is made of.

    parts:   in the order in which they are computed
    weights: by name; further constants are in `graph`
    starts:  the first node of each linear layer, by id()
    """

    graph: EditableGraph
    parts: list[Part] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    starts: set[int] = field(default_factory=set)

    @property
    def linears(self) -> list[Linear]:
        return [part for part in self.parts if isinstance(part, Linear)]

    @cached_property
    def norms(self) -> dict[str, str]:
        """Names of norms, by their outputs."""
        return {part.y: part.name for part in self.parts if isinstance(part, Norm)}

    @cached_property
    def unshared(self) -> dict[str, str]:
        """Names of linear layers that share no weight, by their outputs."""
        count = Counter(linear.name for linear in self.linears)
        return {linear.y: linear.name for linear in self.linears if count[linear.name] == 1}

    def only_for(self, node: Any, value: str) -> str | None:
        """The unshared linear layer that gives a value which this node alone reads."""
        return self.unshared.get(value) if self.graph.only_reader(value) is node else None


def find_structure(graph: EditableGraph) -> Structure:
    """The parts of a graph in float32."""
    found = Structure(graph)
    names: dict[tuple[str, ...], str] = {}
    ends: dict[int, Linear] = {}
    inside: set[int] = set()
    for node in graph.nodes:
        chain = _linear(graph, node)
        if chain is not None:
            nodes, key, weight, bias = chain
            name = names.setdefault(key, f"linear.{len(names)}")
            found.weights[f"{name}.weight"] = weight
            if bias is not None:
                found.weights[f"{name}.bias"] = bias
            found.starts.add(id(node))
            inside |= {id(n) for n in nodes}
            ends[id(nodes[-1])] = Linear(name, node.input[0], nodes[-1].output[0])
    for node in graph.nodes:
        if id(node) in ends:
            found.parts.append(ends[id(node)])
        elif id(node) not in inside:
            found.parts.append(_norm(found, node) or _rows(found, node) or node)
    return found


def _linear(graph: EditableGraph, node: Any) -> tuple[list[Any], tuple[str, ...], Array, Array | None] | None:
    """The nodes of a linear layer, what tells it from others, its weight [n, m] and bias [m]."""
    options = attributes(node)
    weight: Any = graph.numbers(node, 1)
    plain = node.op_type in ("MatMul", "Gemm", "FusedMatMul") and not any(
        options.get(name) for name in ("transA", "transBatchA", "transBatchB")
    )
    if not plain or weight is None or weight.ndim != 2 or weight.dtype != np.float32 or node.input[0] in graph.weights:
        return None
    weight = weight.T if options.get("transB") else weight
    n, m = weight.shape
    if n * m < LEAST_WEIGHTS or m < LEAST_OUTPUTS:
        return None
    weight = weight * np.float32(options.get("alpha", 1.0))
    bias: Array | None = None
    nodes, key = [node], [node.op_type, *node.input[1:], str(sorted((k, v) for k, v in options.items()))]
    if node.op_type == "Gemm" and given(node, 2):
        added = _per_output(graph, node.input[2], m)
        if added is None:
            return None
        bias = added * np.float32(options.get("beta", 1.0))
    while (after := graph.only_reader(nodes[-1].output[0])) is not None and after.op_type in ("Add", "Mul", "Div"):
        value = nodes[-1].output[0]
        other = after.input[1] if after.input[0] == value else after.input[0]
        found = None if other == value else _per_output(graph, other, m)
        if found is None or (after.op_type == "Div" and after.input[0] != value):
            break
        if after.op_type == "Add":
            bias = found if bias is None else bias + found
        else:
            factor: Any = found if after.op_type == "Mul" else 1 / found
            weight, bias = weight * factor, None if bias is None else bias * factor
        nodes.append(after)
        key += [after.op_type, other]
    return nodes, tuple(key), np.ascontiguousarray(weight, np.float32), bias


def _per_output(graph: EditableGraph, name: str, outputs: int) -> Array | None:
    """A constant that is one number, or one for each output of a layer, as [outputs]."""
    array = graph.weights.get(name)
    if array is None or array.dtype != np.float32 or array.size not in (1, outputs) or array.ndim > 3:
        return None
    if array.size > 1 and array.shape[-1] != outputs:
        return None
    return np.broadcast_to(array.reshape(-1), outputs).astype(np.float32)


def _norm(found: Structure, node: Any) -> Norm | None:
    if node.op_type not in ("LayerNormalization", "SimplifiedLayerNormalization") or len(node.output) > 1:
        return None
    weights = [found.graph.weights.get(name) for name in node.input[1:]]
    axis = attributes(node).get("axis", -1)
    if axis != -1 or any(w is None or w.ndim != 1 or w.size == 1 or w.dtype != np.float32 for w in weights):
        return None
    name = f"norm.{sum(isinstance(part, Norm) for part in found.parts)}"
    for part, weight in zip(("weight", "bias"), weights, strict=False):
        if weight is not None:
            found.weights[f"{name}.{part}"] = weight
    rms = node.op_type.startswith("Simplified")
    return Norm(name, node.input[0], node.output[0], attributes(node).get("epsilon", 1e-5), rms)


def _rows(found: Structure, node: Any) -> Rows | None:
    graph = found.graph
    table = graph.weights.get(node.input[0]) if node.op_type == "Gather" else None
    if table is None or table.ndim != 2 or table.dtype != np.float32 or attributes(node).get("axis", 0):
        return None
    if table.size < LEAST_TABLE and not _is_token(graph, node.input[1]):
        return None
    name = WORDS if _is_token(graph, node.input[1]) else node.input[0]
    if name in found.weights and found.weights[name] is not table:  # a second table of tokens
        name = node.input[0]
    found.weights[name] = table
    return Rows(name, node.input[1], node.output[0])


def _is_token(graph: EditableGraph, value: str) -> bool:
    while (node := graph.producer.get(value)) is not None and node.op_type in UNCHANGED:
        value = node.input[0]
    return value == "input_ids"


@dataclass(frozen=True)
class Place:
    """A site and the values, more than one where layers share weights, that its readers read.

    mixed: a weighted mean of a linear layer's outputs, as attention makes it
    """

    site: Site
    values: tuple[str, ...]
    mixed: bool = False


def find_places(found: Structure) -> list[Place]:
    """Every value that linear layers read, in the order in which the graph computes them."""
    groups: list[tuple[list[str], list[str]]] = []
    for linear in found.linears:
        values, names = [linear.x], [linear.name]
        for group in [g for g in groups if linear.x in g[0] or linear.name in g[1]]:
            groups.remove(group)
            values, names = group[0] + values, group[1] + names
        groups.append((list(dict.fromkeys(values)), list(dict.fromkeys(names))))
    return [_place(found, values, names) for values, names in groups]


def _place(found: Structure, values: list[str], names: list[str]) -> Place:  # noqa: PLR0911 - one for each pattern
    name, readers = f"{names[0]}.input", tuple(names)
    alone = Place(Site(name, readers), tuple(values))
    if len(values) > 1:
        return alone
    graph, (value,) = found.graph, values
    others = [node for node in graph.readers.get(value, []) if id(node) not in found.starts]
    read_by = [node for node in others if node.op_type != "Shape"]  # which a change of numbers does not touch
    private = not read_by and value not in graph.outputs
    norm = found.norms.get(value)
    if norm is not None:
        if private:
            return Place(Site(name, readers, norm, scalable=True), (value,))
        residual = _residual(found, value, read_by)
        if residual is not None and value not in graph.outputs:
            return Place(Site(name, readers, norm, residual=residual), (value,))
        return alone
    node = graph.producer.get(value)
    if node is None or not private:
        return alone
    if node.op_type in SPLITTABLE and len(readers) == 1:
        up = found.only_for(node, node.input[0])
        if up is not None:
            return Place(Site(name, readers, split=up), (value,))
    if node.op_type == "Mul" and len(set(node.input)) == 2:  # gated
        up = found.only_for(node, node.input[0]) or found.only_for(node, node.input[1])
        if up is not None:
            return Place(Site(name, readers, up, scalable=True, shiftable=False), (value,))
    mixed = _mixed(found, value)
    if mixed is None:
        return alone
    return Place(Site(name, readers, mixed, scalable=True, margin=CONTEXT_MARGIN), (value,), mixed=True)


def _residual(found: Structure, value: str, readers: list[Any]) -> str | None:
    """The linear layer whose output is added to a value, where nothing else happens to it."""
    if len(readers) != 1 or readers[0].op_type != "Add" or len(set(readers[0].input)) != 2:
        return None
    (other,) = (name for name in readers[0].input if name != value)
    return found.unshared.get(other)


def _mixed(found: Structure, value: str) -> str | None:
    """The linear layer that made the values of attention, whose context this value is: head by head, in their order."""
    graph = found.graph
    product = graph.producer.get(_moved(graph, value) or "")
    if product is None or product.op_type not in ("MatMul", "FusedMatMul") or attributes(product).get("transB"):
        return None
    weights = graph.producer.get(product.input[0])
    if weights is None or weights.op_type != "Softmax" or attributes(weights).get("axis", -1) not in (-1, 3):
        return None
    values = _moved(graph, product.input[1])
    return found.unshared.get(values) if values and graph.only_reader(product.input[1]) is product else None


def _moved(graph: EditableGraph, value: str) -> str | None:
    """What a value was before a Reshape and a swap of heads and tokens, in any order, where nothing else reads it."""
    kinds: list[str] = []
    while (node := graph.producer.get(value)) is not None and node.op_type in MOVING and len(kinds) < 2:
        kinds.append(node.op_type)
        value = node.input[0]
        usual = node.op_type == "Reshape" or list(attributes(node).get("perm", [])) == [0, 2, 1, 3]
        if not usual or graph.only_reader(value) is not node:
            return None
    return value if sorted(kinds) == sorted(MOVING) else None
