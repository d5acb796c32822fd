"""A published graph takes our inputs and gives one output: vectors of tokens, or of texts."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_embed_export.general.dequantize import to_float
from edge_embed_export.general.graph import PREFIX, EditableGraph, convert_opset, fold_shapes, input_infos, optimize
from edge_embed_export.general.unfuse import unfuse
from edge_embed_export.options import Pooling
from edge_embed_export.sources.onnxfile import Published, check_operators
from edge_embed_runtime.errors import ExportError, InputError
from edge_embed_runtime.extras import require
from edge_embed_runtime.model.session import make_session

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.float32]
Feed = dict[str, NDArray[Any]]

# What inputs are called, by what they are.
INPUTS = {
    "input_ids": ("input_ids", "input", "ids", "tokens"),
    "attention_mask": ("attention_mask", "input_mask", "mask"),
    "token_type_ids": ("token_type_ids", "segment_ids", "token_types"),
    "position_ids": ("position_ids", "positions"),
}
# What outputs are called; a pooler's is none of them, because it was made for another task.
OF_TEXTS = ("sentence_embedding", "sentence_embeddings", "text_embeds", "dense_vecs", "embedding", "embeddings")
OF_TOKENS = ("last_hidden_state", "token_embeddings", "hidden_states", "encoder_last_hidden_state")
IGNORED = ("pooler_output",)
# Texts x tokens of trial runs: no two numbers are alike, so that a shape says what its dimensions are.
SHAPES = ((2, 5), (3, 7))
# Numbers of two ways to compute one vector agree to this.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Prepared:
    """A model in float32, in our inputs.

    graph:   with one output
    pooling: of the output [batch, sequence, n]; None where it is [batch, dim]
    done:    what was done to the published graph, in words
    """

    graph: EditableGraph
    pooling: Pooling | None
    done: list[str]


def trial(batch: int, length: int) -> Feed:
    """Token ids that every vocabulary has, and a mask: all texts but the first are shorter than `length`."""
    random = np.random.default_rng(batch * 1000 + length)
    mask = np.ones((batch, length), np.int64)
    for i in range(1, batch):
        mask[i, length - i :] = 0
    return {"input_ids": random.integers(1, 10, (batch, length)) * mask, "attention_mask": mask}


def to_our_inputs(published: Published) -> EditableGraph:
    """The graph with `input_ids` and `attention_mask`, int64 [batch, sequence], and what else it asks for made of them.

    Raises ExportError that names an input which a text model does not have, or a fixed dimension.
    """
    onnx = require("onnx", "export")
    path, proto = published.path, published.model.graph
    stored = {tensor.name for tensor in proto.initializer}
    given = [value for value in proto.input if value.name not in stored]
    roles = {value.name: _role(value.name) for value in given}
    odd = [name for name, role in roles.items() if role is None]
    if odd:
        raise ExportError(
            f"{path}: the model takes {', '.join(map(repr, odd))}; a text model takes input_ids and attention_mask, "
            "and may take token_type_ids and position_ids"
        )
    if "input_ids" not in roles.values():
        raise ExportError(f"{path}: the model takes no input_ids; it takes {', '.join(map(repr, roles)) or 'nothing'}")
    graph = EditableGraph.of(convert_opset(published.model, path))
    nodes = []
    for value in given:
        kind, dims = value.type.tensor_type.elem_type, value.type.tensor_type.shape.dim
        fixed = [dim.dim_value for dim in dims if dim.dim_value > 0]
        if fixed or len(dims) not in (0, 2):
            raise ExportError(
                f"{path}: the input {value.name!r} has the fixed shape "
                f"{[dim.dim_value or dim.dim_param or '?' for dim in dims]}; export the model with a dynamic batch "
                "and a dynamic sequence length"
            )
        nodes += _input(graph, roles[value.name] or "", PREFIX + value.name, kind or onnx.TensorProto.INT64)
    graph.nodes[:0] = nodes
    graph.index()
    return graph


def _role(name: str) -> str | None:
    return next((role for role, names in INPUTS.items() if name.lower() in names), None)


def _input(graph: EditableGraph, role: str, name: str, kind: int) -> list[Any]:
    """Nodes that make the value of one of the model's own inputs, of the element type `kind`."""
    steps = []
    if role in ("token_type_ids", "position_ids"):
        steps.append(("Mul", graph.scalar(0, "int64")))
    if role == "position_ids":  # 0, 0, 0 -> 1, 1, 1 -> 1, 2, 3 -> 0, 1, 2
        steps += [(step, graph.scalar(1, "int64")) for step in ("Add", "CumSum", "Sub")]
    nodes, source = [], "input_ids" if steps else role
    for i, (step, other) in enumerate(steps):
        nodes.append(graph.node(step, [source, other], [f"{name}/{i}"]))
        source = nodes[-1].output[0]
    return [*nodes, graph.node("Cast", [source], [name], to=kind)]


def prepare(published: Published, *, pooling: Pooling | None = None, output: str | None = None) -> Prepared:
    """The published model in float32 with one output.

    pooling: how vectors of tokens become one; None means what the folder says
    output:  the name of the output to take; None means what its name or shape says

    Raises ExportError where the model is none of texts, or works for some shapes only.
    """
    path = published.path
    graph = to_our_inputs(published)
    done = to_float(graph) + unfuse(graph)
    fold_shapes(graph)
    graph = optimize(graph, path)
    model = graph.model(input_infos())
    check_operators(model, path)
    found = _run_trials(model, path)
    named = {name.removeprefix(PREFIX): values for name, values in found.items()}
    chosen, own = _choose(named, path, pooling or published.pooling, pooling is not None, output)
    how = None if own == "whole" else own
    graph.outputs = [PREFIX + chosen]
    graph.drop_unused()
    return Prepared(graph, how, done)


def _run_trials(model: "onnx.ModelProto", path: Path) -> dict[str, list[NDArray[Any]]]:
    """All outputs for each of SHAPES."""
    try:
        session = make_session(model.SerializeToString(), threads=1)
        names = [value.name for value in session.get_outputs()]
        runs = [session.run(names, trial(*shape)) for shape in SHAPES]
    except Exception as error:  # onnxruntime's errors have no common type
        raise ExportError(
            f"{path}: the model fails for {SHAPES[0][0]} texts of {SHAPES[0][1]} tokens: {error}. It may work only for "
            "the shapes that it was exported with: export it with a dynamic batch and sequence length"
        ) from error
    return dict(zip(names, zip(*runs, strict=True), strict=True))


def _choose(
    found: dict[str, list[NDArray[Any]]], path: Path, pooling: Pooling | None, asked: bool, output: str | None
) -> tuple[str, Any]:
    """The output to take, and how it is pooled, or "whole" where it is the vector of a text.

    pooling: what the caller, where it was `asked`, or the model's folder says
    """
    if output is not None and output not in found:
        raise InputError(f"{path} has no output {output!r}; it has {', '.join(map(repr, found))}")
    kinds = {name: _kind(runs) for name, runs in found.items() if output in (None, name)}
    tokens = [name for name, kind in kinds.items() if kind == "tokens"]
    texts = [name for name, kind in kinds.items() if kind == "texts" and (output or name not in IGNORED)]
    each, whole = _usual(tokens, OF_TOKENS), _usual(texts, OF_TEXTS)
    if each and whole:
        # a graph that pools itself: our own pooling adds in an order that does not depend on padding
        ways = (*POOLED, pooling) if pooling and pooling not in POOLED else POOLED
        same = [how for how in ways if _is_pooled(found[each], found[whole], how)]
        if same and (not asked or pooling in same):
            return each, pooling if pooling in same else same[0]
    if whole and not asked and (whole in OF_TEXTS or not tokens):
        return whole, "whole"
    if each and pooling and (asked or each in OF_TOKENS or not texts):
        return each, pooling
    if each and not texts:
        raise InputError(
            f"{path}: nothing says how its vectors of tokens become one; say it with --pooling", option="pooling"
        )
    shapes = ", ".join(f"{name!r} {list(runs[0].shape)}" for name, runs in found.items())
    given = f"for {SHAPES[0][0]} texts of {SHAPES[0][1]} tokens it gives {shapes}"
    if not tokens and not texts:
        raise ExportError(f"{path}: none of its outputs is a vector for each text or for each token; {given}")
    raise InputError(f"{path}: several outputs may be meant, say which with --output; {given}", option="output")


def _usual(names: list[str], usual: tuple[str, ...]) -> str | None:
    """The first with a usual name, or the only one."""
    return next((name for name in usual if name in names), names[0] if len(names) == 1 else None)


def _kind(runs: list[NDArray[Any]]) -> str | None:
    """Whether an output is a vector for each token or for each text, by its shapes for SHAPES."""
    if any(run.dtype != np.float32 for run in runs) or len({run.shape[-1:] for run in runs}) != 1:
        return None
    shapes = [run.shape[:-1] for run in runs]
    if shapes == [tuple(shape) for shape in SHAPES]:
        return "tokens"
    return "texts" if shapes == [shape[:1] for shape in SHAPES] else None


POOLED: tuple[Pooling, ...] = ("mean", "cls", "max", "last", "mean_sqrt_len")


def _is_pooled(tokens: list[NDArray[Any]], texts: list[NDArray[Any]], how: Pooling) -> bool:
    """Whether vectors of texts are those of tokens, pooled so, L2-normalised or not."""
    for (batch, length), whole, given in zip(SHAPES, tokens, texts, strict=True):
        vectors = unit(pool(whole, trial(batch, length)["attention_mask"], how))
        if vectors.shape != given.shape:
            return False
        if np.abs(vectors - unit(given)).max() > TOLERANCE:
            return False
    return True


def pool(x: NDArray[Any], mask: NDArray[np.int64], how: Pooling) -> Array:
    """[b, s, n] -> [b, n], as sentence-transformers does it; the graph's own form is in transformer/pooling.py."""
    if "+" in how:
        return np.concatenate([pool(x, mask, one) for one in how.split("+")], axis=1)
    real = mask[..., None].astype(np.float32)
    if how == "cls":
        return np.asarray(x[:, 0], np.float32)
    if how == "last":
        return np.asarray(x[np.arange(len(x)), mask.sum(axis=1) - 1], np.float32)
    if how == "max":
        return np.asarray(np.where(real > 0, x, -np.inf).max(axis=1), np.float32)
    if how == "weighted_mean":
        real = real * np.arange(1, x.shape[1] + 1, dtype=np.float32)[None, :, None]
    count = real.sum(axis=1)
    return np.asarray((x * real).sum(axis=1) / (np.sqrt(count) if how == "mean_sqrt_len" else count), np.float32)


def unit(vectors: NDArray[Any]) -> Array:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12), np.float32)


class Foreign:
    """A graph that is not ours, unchanged, in onnxruntime."""

    def __init__(self, model: "onnx.ModelProto", output: str) -> None:
        self._output = output
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[Any]:
        """The output for texts [batch, sequence]; what else the graph asks for is made of them."""
        made = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(ids),
            "position_ids": np.broadcast_to(np.arange(ids.shape[1]), ids.shape).copy(),
        }
        kinds = {"tensor(int32)": np.int32, "tensor(float)": np.float32, "tensor(int64)": np.int64}
        inputs = {v.name: made[_role(v.name) or ""].astype(kinds[v.type]) for v in self._session.get_inputs()}
        (found,) = self._session.run([self._output], inputs)
        return np.asarray(found)


class Original(Foreign):
    """The published file: what others get from it."""

    def __init__(self, published: Published, prepared: Prepared) -> None:
        super().__init__(published.model, prepared.graph.outputs[0].removeprefix(PREFIX))
        self._how = prepared.pooling

    def encode(self, feed: Feed) -> Array:
        """Unit vectors [batch, n] of texts, before any dense layer that follows pooling."""
        found, mask = self.run(feed["input_ids"], feed["attention_mask"]), feed["attention_mask"]
        return unit(found if self._how is None else pool(found, mask, self._how))
