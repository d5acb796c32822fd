"""Models of unknown structure: published ONNX files, float and quantized, and checkpoints converted through torch."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from builders.bert import TINY, WORDS, Checkpoints, bert_tensors, word_tokenizer
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from edge_embed import Embedder
from edge_embed.cli.main import main
from edge_embed.errors import (
    EdgeEmbedError,
    ExportError,
    InputError,
    MissingExtraError,
    SourceError,
    UnsupportedModelError,
)
from edge_embed_export import export_model
from edge_embed_export import from_graph as published
from edge_embed_export.calibration import texts as shipped
from edge_embed_export.general.dequantize import dequantize, to_float
from edge_embed_export.general.graph import EditableGraph
from edge_embed_export.general.signature import Original, pool, prepare
from edge_embed_export.general.structure import find_places, find_structure
from edge_embed_export.general.unfuse import FUSED, unfuse
from edge_embed_export.options import GraphOptions
from edge_embed_export.sources.onnxfile import find_onnx, read_published
from edge_embed_runtime.model.batching import batches, pad
from edge_embed_runtime.model.session import make_session

pytestmark = pytest.mark.usefixtures("short_receipt", "few_texts")

TEXTS = ["the cat is in the garden", "money at the bank of the river", "a dog", "", "red house and blue water at night"]
Change = Callable[[Any], None]


@pytest.fixture
def few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are calibrated on texts of the tests' own words."""
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, size)) for size in (3, 5, 8, 8, 12, 12, 16, 20) for _ in range(3)]
    for module in (shipped, published):
        monkeypatch.setattr(module, "calibration_texts", lambda _: texts)


class Nodes:
    """Nodes of a graph as an exporter of a torch model writes them, and their constants."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.arrays: dict[str, Any] = {}

    def op(self, kind: str, *inputs: Any, name: str = "", **attributes: Any) -> str:
        names = [self.const(x) if not isinstance(x, str) else x for x in inputs]
        output = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, [output], **attributes))
        return output

    def const(self, value: Any) -> str:
        array = np.asarray(value)
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        self.arrays[f"const_{len(self.arrays)}"] = array
        return f"const_{len(self.arrays) - 1}"


def bert_nodes(tensors: dict[str, Any], *, masked: bool = True, types: bool = True) -> Nodes:
    """TINY as a graph, its vectors of tokens named `last_hidden_state`."""
    g, heads, size = Nodes(), TINY["num_attention_heads"], 8
    shape = g.op("Shape", "input_ids")
    batch, length = (g.op("Unsqueeze", g.op("Gather", shape, i), [0]) for i in (0, 1))
    positions = g.op("Slice", np.arange(40)[None], [0], length, [1])
    x = g.op("Gather", tensors["embeddings.word_embeddings.weight"], "input_ids")
    if types:
        x = g.op("Add", x, g.op("Gather", tensors["embeddings.token_type_embeddings.weight"], "token_type_ids"))
    x = g.op("Add", x, g.op("Gather", tensors["embeddings.position_embeddings.weight"], positions))

    def norm(x: str, name: str) -> str:
        return g.op("LayerNormalization", x, *(tensors[f"{name}.{part}"] for part in ("weight", "bias")), axis=-1,
                    epsilon=1e-12)  # fmt: skip

    def linear(x: str, name: str) -> str:
        return g.op(
            "Add", tensors[f"{name}.bias"], g.op("MatMul", x, np.ascontiguousarray(tensors[f"{name}.weight"].T))
        )

    x = norm(x, "embeddings.LayerNorm")
    hidden = ""
    if masked:
        mask = g.op("Cast", g.op("Unsqueeze", "attention_mask", [1, 2]), to=TensorProto.FLOAT)
        hidden = g.op("Mul", g.op("Sub", 1.0, mask), float(np.finfo(np.float32).min))
    for i in range(TINY["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        split = g.op("Concat", batch, length, [heads], [size], axis=0)
        q, k, v = (
            g.op("Transpose", g.op("Reshape", linear(x, f"{layer}.attention.self.{part}"), split), perm=perm)
            for part, perm in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3]))
        )
        scores = g.op("Div", g.op("MatMul", q, k), float(np.sqrt(size)))
        scores = g.op("Add", scores, hidden) if masked else scores
        context = g.op("Transpose", g.op("MatMul", g.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        context = g.op("Reshape", context, g.op("Concat", batch, length, [heads * size], axis=0))
        x = norm(
            g.op("Add", linear(context, f"{layer}.attention.output.dense"), x), f"{layer}.attention.output.LayerNorm"
        )
        inner = linear(x, f"{layer}.intermediate.dense")
        erf = g.op("Add", g.op("Erf", g.op("Div", inner, float(np.sqrt(2)))), 1.0)
        inner = g.op("Mul", g.op("Mul", inner, erf), 0.5)
        x = norm(g.op("Add", linear(inner, f"{layer}.output.dense"), x), f"{layer}.output.LayerNorm")
    g.op("Identity", x, name="last_hidden_state")
    return g


def to_model(g: Nodes, inputs: tuple[str, ...], outputs: tuple[str, ...], *, opset: int = 17, kind: int = 7) -> Any:
    graph = helper.make_graph(
        g.nodes,
        "published",
        [helper.make_tensor_value_info(name, kind, ["batch", "sequence"]) for name in inputs],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in g.arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def bert_model(**options: Any) -> Any:
    """TINY as published: inputs INPUTS, output `last_hidden_state`."""
    return to_model(bert_nodes(bert_tensors(TINY)), INPUTS, ("last_hidden_state",), **options)


def with_mean(g: Nodes) -> Nodes:
    """The graph with an output `sentence_embedding`, the mean of the vectors of tokens."""
    mask = g.op("Cast", g.op("Unsqueeze", "attention_mask", [-1]), to=TensorProto.FLOAT)
    total = g.op("ReduceSum", g.op("Mul", "last_hidden_state", mask), [1], keepdims=0)
    g.op("Div", total, g.op("ReduceSum", mask, [1], keepdims=0), name="sentence_embedding")
    return g


Publish = Callable[..., Path]


@pytest.fixture
def publish(checkpoint: Checkpoints) -> Publish:
    """Writes a published folder around a model: the small random BERT's files, `onnx/model.onnx` for its weights."""

    def write(model: Any, name: str = "published", **options: Any) -> Path:
        folder = checkpoint(name, **options)
        (folder / "model.safetensors").unlink()
        (folder / "onnx").mkdir()
        onnx.save(model, folder / "onnx" / "model.onnx")
        return folder

    return write


def vectors(bundle: Path) -> Any:
    return Embedder(bundle, threads=1).encode(TEXTS)


def operators(bundle: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(bundle / "model.onnx").graph.node)


def same_in_batches(bundle: Path) -> bool:
    """Whether every text has the same bits alone, in a batch with padding, and in another order."""
    embedder = Embedder(bundle, threads=1)
    alone = np.vstack([embedder.encode([text]) for text in TEXTS])
    backwards = embedder.encode(TEXTS[::-1], batch_tokens=4096)[::-1]
    whole = np.array_equal(alone, embedder.encode(TEXTS, batch_tokens=4096))
    return whole and np.array_equal(alone, backwards) and np.array_equal(alone, embedder.encode(TEXTS, batch_tokens=1))


@pytest.mark.parametrize("dense", [None, "torch.nn.modules.activation.Tanh"])
def test_a_published_model_has_the_vectors_of_its_checkpoint(
    publish: Publish, checkpoint: Checkpoints, tmp_path: Path, dense: str | None
) -> None:
    """A folder with ONNX, tokenizer and modules becomes the bundle that its safetensors would become."""
    export_model(checkpoint(dense=dense), tmp_path / "family", precision="fp32")
    manifest = export_model(publish(bert_model(), dense=dense), tmp_path / "b", precision="fp32")
    assert np.abs(vectors(tmp_path / "b") - vectors(tmp_path / "family")).max() < 2e-6
    assert (manifest.pooling, manifest.max_tokens, manifest.provenance["licence"]) == ("mean", 24, "apache-2.0")
    assert manifest.architecture["batches"] == "padded"
    assert same_in_batches(tmp_path / "b")


def test_int8_products_and_table(publish: Publish, tmp_path: Path) -> None:
    """All linear layers and the table of tokens are int8, a text has one vector, and what stays float is said."""
    manifest = export_model(publish(bert_model()), tmp_path / "b")
    assert operators(tmp_path / "b")["MatMulIntegerToFloat"] == 12
    assert operators(tmp_path / "b")["Gelu"] == 2
    assert same_in_batches(tmp_path / "b")
    assert manifest.receipt["cosine_to_fp32"]["min"] > 0.995
    assert manifest.quantization["kept_in_float32"].startswith("4 products of two activations")
    table = next(t for t in onnx.load(tmp_path / "b" / "model.onnx").graph.initializer if t.name == "embedding.word")
    assert table.data_type == TensorProto.INT8


@pytest.mark.parametrize(("precision", "table"), [("int4", "int8"), ("int8", "int4")])
def test_four_bits(publish: Publish, tmp_path: Path, precision: str, table: str) -> None:
    """Weights and rows are stored in four bits where asked for."""
    manifest = export_model(publish(bert_model()), tmp_path / "b", precision=precision, table=table, floor=0.9)
    assert "4 bits" in manifest.quantization["weights" if precision == "int4" else "embedding_table"]
    assert same_in_batches(tmp_path / "b")


def test_search_and_recipes(publish: Publish, tmp_path: Path) -> None:
    """The recipes that a search found give the same model again, to the byte."""
    folder = publish(bert_model())
    searched = export_model(folder, tmp_path / "searched", search=True)
    export_model(folder, tmp_path / "again", recipes=tmp_path / "searched")
    assert (tmp_path / "again" / "model.onnx").read_bytes() == (tmp_path / "searched" / "model.onnx").read_bytes()
    assert len(searched.quantization["recipes"]) == 8


def test_what_a_site_can_take_over_is_found_in_the_graph(publish: Publish) -> None:
    """Norms, residuals, attention's values and activation functions are seen as in a known family."""
    folder = publish(bert_model())
    prepared = prepare(read_published(folder, folder / "onnx" / "model.onnx"))
    sites = [place.site for place in find_places(find_structure(prepared.graph))]
    assert [site.producer for site in sites[:4]] == ["norm.0", "linear.2", "norm.1", None]
    assert [site.residual for site in sites[:4]] == ["linear.3", None, "linear.5", None]
    assert [site.split for site in sites[:4]] == [None, None, None, "linear.4"]
    assert sites[0].readers == ("linear.0", "linear.1", "linear.2")


def test_weights_that_layers_share_are_stored_once(publish: Publish, tmp_path: Path) -> None:
    """Two layers with one weight are quantized as one, from what both read."""
    tensors = bert_tensors(TINY)
    g = bert_nodes(tensors)
    first = {array.tobytes(): name for name, array in reversed(g.arrays.items())}
    shared = next(n for n, a in g.arrays.items() if np.array_equal(a, tensors["encoder.layer.0.output.dense.weight"].T))
    other = next(n for n, a in g.arrays.items() if np.array_equal(a, tensors["encoder.layer.1.output.dense.weight"].T))
    bias = {part: first[tensors[f"encoder.layer.{part}.output.dense.bias"].tobytes()] for part in (0, 1)}
    for node in g.nodes:
        node.input[:] = [{other: shared, bias[1]: bias[0]}.get(name, name) for name in node.input]
    folder = publish(to_model(g, INPUTS, ("last_hidden_state",)))
    export_model(folder, tmp_path / "b", floor=0.9)
    stored = [t.name for t in onnx.load(tmp_path / "b" / "model.onnx").graph.initializer if t.name.endswith(".weight")]
    assert len([name for name in stored if name.startswith("linear.")]) == 11
    assert same_in_batches(tmp_path / "b")


def external(model: Any, folder: Path) -> None:
    onnx.save(
        model, folder / "onnx" / "model.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=0
    )


def halves(model: Any, folder: Path) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            array = np.clip(numpy_helper.to_array(tensor), -65504, 65504).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to":
                attribute.i = TensorProto.FLOAT16
    onnx.save(model, folder / "onnx" / "model.onnx")


def int32_inputs(_: Any, folder: Path) -> None:
    onnx.save(bert_model(kind=TensorProto.INT32), folder / "onnx" / "model.onnx")


@pytest.mark.parametrize(("change", "error"), [(external, 2e-6), (halves, 5e-3), (int32_inputs, 2e-6)])
def test_ways_to_publish(publish: Publish, tmp_path: Path, change: Callable[[Any, Path], None], error: float) -> None:
    """Weights in a file of their own, in float16, and inputs of other integers make no other model."""
    folder = publish(bert_model())
    export_model(folder, tmp_path / "plain", precision="fp32")
    change(bert_model(), folder)
    export_model(folder, tmp_path / "b", precision="fp32")
    assert np.abs(vectors(tmp_path / "b") - vectors(tmp_path / "plain")).max() < error


def test_position_ids_are_made_in_the_graph(publish: Publish, tmp_path: Path) -> None:
    """A model that asks for positions gets 0, 1, 2, ..."""
    folder = publish(bert_model())
    export_model(folder, tmp_path / "plain", precision="fp32")
    g = bert_nodes(bert_tensors(TINY))
    made = next(node for node in g.nodes if node.op_type == "Slice").output[0]
    for node in g.nodes:
        node.input[:] = ["position_ids" if name == made else name for name in node.input]
    onnx.save(to_model(g, (*INPUTS, "position_ids"), ("last_hidden_state",)), folder / "onnx" / "model.onnx")
    export_model(folder, tmp_path / "b", precision="fp32")
    assert np.abs(vectors(tmp_path / "b") - vectors(tmp_path / "plain")).max() < 2e-6


def test_a_graph_that_pools_itself(publish: Publish, tmp_path: Path) -> None:
    """Where vectors of texts are pooled vectors of tokens, ours is the pooling; else the graph's own is taken."""
    both = ("last_hidden_state", "sentence_embedding")
    folder = publish(to_model(with_mean(bert_nodes(bert_tensors(TINY))), INPUTS, both))
    (folder / "modules.json").unlink()
    (folder / "1_Pooling" / "config.json").unlink()
    assert export_model(folder, tmp_path / "seen", precision="fp32").pooling == "mean"
    alone = export_model(folder, tmp_path / "own", precision="fp32", graph=GraphOptions(output="sentence_embedding"))
    assert (alone.pooling, alone.architecture["batches"]) == ("the graph's own", "single")
    assert np.abs(vectors(tmp_path / "seen") - vectors(tmp_path / "own")).max() < 2e-6
    assert same_in_batches(tmp_path / "seen")
    assert same_in_batches(tmp_path / "own")


def test_a_model_without_a_mask_has_one_vector_for_a_text(publish: Publish, tmp_path: Path) -> None:
    """Where attention sees padding, batches hold texts of one length, and the manifest says so."""
    g = bert_nodes(bert_tensors(TINY), masked=False, types=False)
    folder = publish(to_model(g, ("input_ids",), ("last_hidden_state",)))
    manifest = export_model(folder, tmp_path / "b")
    assert manifest.architecture["batches"] == "equal"
    assert "one length" in manifest.provenance["conversion"]
    assert same_in_batches(tmp_path / "b")


def test_batches_of_one_length() -> None:
    """Without padding no batch holds texts of two lengths, and every text is in one batch."""
    lengths = [3, 9, 4, 4, 3, 4]
    found = list(batches(lengths, 100, padded=False))
    assert sorted(map(sorted, found)) == [[0, 4], [1], [2, 3, 5]]
    assert len(list(batches(lengths, 100))) < 3


def quantized(folder: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    file = folder / "onnx" / "model.onnx"
    quantize_dynamic(file, folder / "onnx" / "model_quantized.onnx")
    file.unlink()


def test_a_published_quantized_model_keeps_its_weights_and_gets_one_vector(publish: Publish, tmp_path: Path) -> None:
    """Scales of the whole batch go, weights stay exactly what they were, and both are said."""
    folder = publish(bert_model())
    quantized(folder)
    file = folder / "onnx" / "model_quantized.onnx"
    source = read_published(folder, file)
    prepared = prepare(source)
    kinds = Counter(node.op_type for node in prepared.graph.nodes)
    assert not any("Quantize" in kind or "Integer" in kind for kind in kinds)
    original = Original(source, prepared)
    embedder_rows = [[2, 7, 9, 3], [2, *range(5, 23), 3]]
    apart = np.vstack([original.encode(pad([np.array(row)])) for row in embedder_rows])
    together = original.encode(pad([np.array(row) for row in embedder_rows]))
    assert np.abs(apart - together).max() > 1e-5
    manifest = export_model(folder, tmp_path / "b")
    assert "back to float32" in manifest.provenance["conversion"]
    assert "the published file gives a text another vector" in manifest.provenance["conversion"]
    assert same_in_batches(tmp_path / "b")
    export_model(folder, tmp_path / "float", precision="fp32")
    ours = Embedder(tmp_path / "float", threads=1).network.session.run(None, pad([np.array(embedder_rows[1])]))[0]
    assert float((ours * apart[1]).sum()) > 0.99


def run_nodes(nodes: list[Any], arrays: dict[str, Any], x: Any, output: str) -> Any:
    """A graph of one input x, by onnxruntime."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), list(x.shape))],
        [helper.make_empty_tensor_value_info(output)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return make_session(model.SerializeToString(), threads=1).run(None, {"x": x})[0], EditableGraph.of(model)


@pytest.mark.parametrize(
    ("axis", "block", "shape"), [(0, 0, ()), (1, 0, (6,)), (0, 0, (4,)), (1, 3, (4, 2)), (0, 2, (2, 6))]
)
def test_dequantizing_is_onnxs_own(axis: int, block: int, shape: tuple[int, ...]) -> None:
    """Scales of one number, of an axis and of blocks give what DequantizeLinear gives."""
    random = np.random.default_rng(0)
    codes = random.integers(-128, 127, (4, 6)).astype(np.int8)
    scale = random.random(shape).astype(np.float32)
    zero = random.integers(-5, 5, shape).astype(np.int8)
    options = {"block_size": block} if block else {}
    node = helper.make_node("DequantizeLinear", ["x", "s", "z"], ["y"], axis=axis, **options)
    expected, _ = run_nodes([node], {"s": np.asarray(scale), "z": np.asarray(zero)}, codes, "y")
    assert np.array_equal(dequantize(codes, np.asarray(scale), np.asarray(zero), axis, block), expected)


@pytest.mark.parametrize("zeros", [False, True])
def test_weights_of_four_bits_are_unpacked(zeros: bool) -> None:
    """MatMulNBits becomes a product with the weights that onnxruntime computes with."""
    random = np.random.default_rng(0)
    n, m, block = 40, 8, 16
    arrays = {
        "w": random.integers(0, 255, (m, 3, 8)).astype(np.uint8),
        "s": random.random(m * 3).astype(np.float32),
        "z": random.integers(0, 255, m * 2).astype(np.uint8),
    }
    inputs = ["x", "w", "s", "z"] if zeros else ["x", "w", "s"]
    node = helper.make_node("MatMulNBits", inputs, ["y"], domain="com.microsoft", K=n, N=m, bits=4, block_size=block)
    x = random.standard_normal((3, n)).astype(np.float32)
    expected, net = run_nodes([node], {name: arrays[name] for name in inputs[1:]}, x, "y")
    assert to_float(net) == ["1 weights of four bits: back to float32"]
    (product,) = net.nodes
    assert np.abs(x @ net.weights[product.input[1]] - expected).max() < 1e-4


def fused(kind: str) -> tuple[Any, dict[str, Any], Any]:
    """A fused operator, its constants and its input."""
    random = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return random.standard_normal(shape).astype(np.float32)

    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32)
    x, micro = normal(2, 5, 16), {"domain": "com.microsoft"}
    if kind == "EmbedLayerNormalization":
        arrays = {"types": np.zeros((2, 5), np.int32), "w": normal(9, 16), "p": normal(12, 16), "t": normal(2, 16)}
        arrays |= {"g": normal(16), "b": normal(16)}
        node = helper.make_node(kind, ["x", *arrays], ["y", "lengths"], epsilon=1e-6, **micro)
        return node, arrays, random.integers(0, 9, (2, 5)).astype(np.int32)
    if kind in ("BiasGelu", "FastGelu"):
        return helper.make_node(kind, ["x", "b"], ["y"], **micro), {"b": normal(16)}, x
    if kind == "SkipLayerNormalization":
        arrays = {"skip": normal(2, 5, 16), "g": normal(16), "b": normal(16), "bias": normal(16)}
        return helper.make_node(kind, ["x", *arrays], ["y"], epsilon=1e-6, **micro), arrays, x
    if kind == "SkipSimplifiedLayerNormalization":
        arrays = {"skip": normal(2, 5, 16), "g": normal(16)}
        return helper.make_node(kind, ["x", *arrays], ["y"], epsilon=1e-6, **micro), arrays, x
    if kind == "Attention":
        arrays = {"w": normal(16, 48) / 4, "b": normal(48), "mask": mask}
        return helper.make_node(kind, ["x", *arrays], ["y"], num_heads=4, **micro), arrays, x
    arrays = {"k": normal(2, 5, 16), "v": normal(2, 5, 16), "b": normal(48), "mask": mask}
    return helper.make_node(kind, ["x", *arrays], ["y"], num_heads=4, **micro), arrays, x


@pytest.mark.parametrize("kind", sorted(FUSED))
def test_fused_operators_are_plain_ones(kind: str) -> None:
    """What onnxruntime's optimizer fused gives the same as the operators that take its place."""
    node, arrays, x = fused(kind)
    expected, net = run_nodes([node], arrays, x, "y")
    net.outputs = ["m/y"]
    assert unfuse(net) == [f"1 {kind}: back to plain operators"]
    assert not {part.op_type for part in net.nodes} & (FUSED.keys() - {"FastGelu"})
    given = helper.make_tensor_value_info("m/x", helper.np_dtype_to_tensor_dtype(x.dtype), list(x.shape))
    found = make_session(net.model([given]).SerializeToString(), threads=1).run(None, {"m/x": x})[0]
    assert np.abs(found - expected).max() < 2e-5


@pytest.mark.parametrize("how", ["mean", "cls", "max", "last", "mean_sqrt_len", "weighted_mean"])
def test_every_pooling(publish: Publish, tmp_path: Path, how: Any) -> None:
    """`pooling` says how vectors of tokens become one, whatever the folder says."""
    folder = publish(bert_model())
    export_model(folder, tmp_path / "b", precision="fp32", graph=GraphOptions(pooling=how))
    session = make_session((folder / "onnx" / "model.onnx").read_bytes(), threads=1)
    embedder = Embedder(tmp_path / "b", threads=1)
    feed = pad([embedder.tokenizer.encode(text) for text in TEXTS])
    tokens = session.run(None, {**feed, "token_type_ids": np.zeros_like(feed["input_ids"])})[0]
    expected = pool(tokens, feed["attention_mask"], how)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(embedder.encode(TEXTS) - expected).max() < 2e-6


def test_command(publish: Publish, tmp_path: Path) -> None:
    """A bare file, its tokenizer elsewhere and its pooling said on the command line."""
    folder = publish(bert_model())
    bare = tmp_path / "bare.onnx"
    (folder / "onnx" / "model.onnx").rename(bare)
    run = CliRunner()
    arguments = ["export", str(bare), str(tmp_path / "b"), "--precision", "fp32", "--json"]
    refused = run.invoke(main, arguments)
    assert refused.exit_code == 1
    assert "--tokenizer" in refused.output
    arguments += ["--tokenizer", str(folder / "tokenizer.json"), "--pooling", "cls", "--max-tokens", "16"]
    result = run.invoke(main, arguments)
    assert result.exit_code == 0, result.output
    shown = json.loads(result.output)
    assert (shown["pooling"], shown["max_tokens"], shown["architecture"]["graph"]) == ("cls", 16, "general")


def rename_input(model: Any) -> None:
    model.graph.input[0].name = "pixel_values"
    for node in model.graph.node:
        node.input[:] = ["pixel_values" if name == "input_ids" else name for name in node.input]


def fix_batch(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def custom_domain(model: Any) -> None:
    model.graph.node[5].domain = "ai.custom"


def not_allowed(model: Any) -> None:
    model.graph.node.append(helper.make_node("RandomNormalLike", ["last_hidden_state"], ["noise"]))


def nan_weight(model: Any) -> None:
    table = find_array(model, (25, 32))
    array = numpy_helper.to_array(table).copy()
    array[7, 3] = np.nan
    table.CopyFrom(numpy_helper.from_array(array, table.name))


def find_array(model: Any, shape: tuple[int, ...]) -> Any:
    return next(t for t in model.graph.initializer if tuple(t.dims) == shape)


def small_table(model: Any) -> None:
    table = find_array(model, (25, 32))
    table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table)[:12], table.name))


def outside(model: Any) -> None:
    table = find_array(model, (25, 32))
    table.ClearField("raw_data")
    table.data_location = TensorProto.EXTERNAL
    table.external_data.add(key="location", value="../../secret.bin")


def two_outputs(model: Any) -> None:
    model.graph.node[-1].output[0] = "a"
    model.graph.node.append(helper.make_node("Neg", ["a"], ["b"]))
    model.graph.output[0].name = "a"
    model.graph.output.append(helper.make_empty_tensor_value_info("b"))


def no_vectors(model: Any) -> None:
    model.graph.node.append(helper.make_node("Shape", ["last_hidden_state"], ["shape"]))
    model.graph.output[0].name = "shape"


def old_operators(model: Any) -> None:
    model.opset_import[0].version = 10**6


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (rename_input, "'pixel_values'"),
        (fix_batch, "fixed shape"),
        (custom_domain, "domain 'ai.custom'"),
        (not_allowed, "'RandomNormalLike'"),
        (nan_weight, "NaN"),
        (small_table, "they do not belong together"),
        (outside, "outside the model's folder"),
        (two_outputs, "--output"),
        (no_vectors, "none of its outputs"),
        (old_operators, "operator set 1000000"),
    ],
)
def test_bad_models_are_named_and_nothing_is_written(
    publish: Publish, tmp_path: Path, change: Change, named: str
) -> None:
    """Each is refused with what is wrong, before anything is written."""
    model = bert_model()
    folder = publish(model)
    (tmp_path / "secret.bin").write_bytes(bytes(10**5))
    change(model)
    (folder / "onnx" / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(EdgeEmbedError) as caught:
        export_model(folder, tmp_path / "b", precision="fp32")
    assert named in str(caught.value)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 0.999])
def test_a_file_that_was_cut_off(publish: Publish, tmp_path: Path, part: float) -> None:
    """No part of a file is taken for the whole."""
    folder = publish(bert_model())
    file = folder / "onnx" / "model.onnx"
    content = file.read_bytes()
    file.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ExportError, match=r"model\.onnx"):
        export_model(folder, tmp_path / "b", precision="fp32")
    assert not (tmp_path / "b").exists()


def test_external_data_that_was_cut_off(publish: Publish, tmp_path: Path) -> None:
    """Weights that their file does not hold are named; so is a file that is missing."""
    folder = publish(bert_model())
    external(bert_model(), folder)
    data = folder / "onnx" / "model.onnx_data"
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(ExportError, match="cut off"):
        export_model(folder, tmp_path / "b", precision="fp32")
    data.unlink()
    with pytest.raises(SourceError, match=r"model\.onnx_data is missing"):
        export_model(folder, tmp_path / "b", precision="fp32")


def test_options_that_do_not_fit(publish: Publish, checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Options of graphs and of checkpoints are not mixed up in silence."""
    folder = publish(bert_model())
    with pytest.raises(InputError, match="need a checkpoint"):
        export_model(folder, tmp_path / "b", task="retrieval")
    with pytest.raises(InputError, match="holds no graph"):
        export_model(checkpoint(), tmp_path / "b", graph=GraphOptions(pooling="cls"))
    with pytest.raises(ExportError, match="at most 40"):
        export_model(folder, tmp_path / "b", max_tokens=41, precision="fp32")
    (folder / "modules.json").unlink()
    (folder / "1_Pooling" / "config.json").unlink()
    with pytest.raises(InputError, match="--pooling"):
        export_model(folder, tmp_path / "b", precision="fp32")
    onnx.save(bert_model(), folder / "onnx" / "model_a.onnx")
    (folder / "onnx" / "model.onnx").rename(folder / "onnx" / "model_b.onnx")
    with pytest.raises(InputError, match=r"model_a\.onnx, onnx/model_b\.onnx"):
        find_onnx(folder)
    assert find_onnx(folder, "model_a.onnx") == folder / "onnx" / "model_a.onnx"


def test_an_unknown_architecture_is_told_the_general_path(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """The error names the option."""
    with pytest.raises(UnsupportedModelError, match="--general"):
        export_model(checkpoint(model_type="squeezebert"), tmp_path / "b")


def test_torch_is_asked_for_where_it_is_needed(
    checkpoint: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Converting without torch says which extra brings it."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"edge-embed\[general\]"):
        export_model(checkpoint(model_type="squeezebert"), tmp_path / "b", graph=GraphOptions(convert=True))


# with torch

SMALL = {
    "vocab_size": TINY["vocab_size"],
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 48,
    "pad_token_id": 0,
}
XLNET = {"vocab_size": TINY["vocab_size"], "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}
GPT2 = {"vocab_size": TINY["vocab_size"], "n_positions": 48, "n_embd": 32, "n_layer": 2, "n_head": 4}


@pytest.mark.parity
@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("megatron-bert", SMALL),
        ("squeezebert", {**SMALL, "embedding_size": 32}),
        ("convbert", {**SMALL, "embedding_size": 32, "conv_kernel_size": 3}),
        ("xlnet", XLNET),
        ("gpt2", GPT2),
    ],
)
def test_parity_through_torch(tmp_path: Path, kind: str, config: dict[str, Any]) -> None:
    """Architectures that no family maps have transformers' vectors, and one for each text in int8."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind, **config)).eval()
    model.save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "tokenizer.json").write_text(json.dumps(word_tokenizer()))
    (tmp_path / "m" / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    options = GraphOptions(convert=True, pooling="mean")
    export_model(tmp_path / "m", tmp_path / "float", precision="fp32", graph=options, max_tokens=24)
    embedder = Embedder(tmp_path / "float", threads=1)
    for text, vector in zip(TEXTS, embedder.encode(TEXTS), strict=True):
        ids = torch.tensor(embedder.tokenizer.encode(text)[None])
        with torch.no_grad():
            mean = model(input_ids=ids, attention_mask=torch.ones_like(ids))[0].mean(dim=1)[0].numpy()
        assert np.abs(mean / np.linalg.norm(mean) - vector).max() < 1e-5
    export_model(tmp_path / "m", tmp_path / "int8", graph=options, max_tokens=24, floor=0.9)
    assert same_in_batches(tmp_path / "int8")


@pytest.mark.parity
def test_code_and_unknown_architectures_are_refused(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Code in a folder is never run; what transformers does not know, or torch cannot export, is named."""
    pytest.importorskip("torch")
    options = GraphOptions(convert=True)
    own = checkpoint("own", model_type="my-own", auto_map={"AutoModel": "model.MyModel"})
    (own / "model.py").write_text("raise SystemExit('this was run')")
    with pytest.raises(UnsupportedModelError, match="never run"):
        export_model(own, tmp_path / "b", graph=options)
    with pytest.raises(UnsupportedModelError, match="my-own"):
        export_model(checkpoint("other", model_type="my-own"), tmp_path / "b", graph=options)
