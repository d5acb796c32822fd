"""export/: the graph computes what the checkpoint means; what cannot be exported is refused by name."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from builders.bert import TINY, Checkpoints, bert, bert_tensors
from builders.checkpoints import read_checkpoint
from builders.tables import rows_of, unpack
from click.testing import CliRunner
from safetensors.numpy import save_file

from edge_embed import Embedder
from edge_embed.cli.main import main
from edge_embed.errors import (
    ExportError,
    FidelityError,
    InputError,
    MissingExtraError,
    SourceError,
    UnsupportedModelError,
)
from edge_embed_export import export_model
from edge_embed_export.calibration import material
from edge_embed_export.calibration.material import Texts
from edge_embed_export.calibration.quantizer import Quantizer
from edge_embed_export.calibration.recipes import Quantized, read_recipes
from edge_embed_export.calibration.texts import calibration_texts
from edge_embed_export.families.known import read_family
from edge_embed_export.options import FLOORS
from edge_embed_export.receipt import dense
from edge_embed_export.transformer.builder import FLOAT, Graph
from edge_embed_export.transformer.encoder import build
from edge_embed_export.transformer.spec import Spec, prepare
from edge_embed_export.transformer.workshop import Workshop
from edge_embed_quantize.calibrate import Recipe
from edge_embed_quantize.linear import Int8Linear, RowActivation, StaticActivation, quantize_weight
from edge_embed_quantize.table import compact_table
from edge_embed_runtime import extras
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.inputs.tokenizer import Tokenizer, sanitize
from edge_embed_runtime.model.session import make_session, products_saturate
from edge_embed_runtime.system.cpu import cpu_model

TEXTS = ["the river bank", "money at the bank and in the house", "a cat", "", "the dog is in the garden at night " * 9]
MORE_TEXTS = [text for text in TEXTS if text] + ["red", "night and day", "the the the"]

pytestmark = pytest.mark.usefixtures("short_receipt")

POOLING = {
    "mean_tokens": lambda x: x.mean(0),
    "cls_token": lambda x: x[0],
    "max_tokens": lambda x: x.max(0),
    "mean_sqrt_len_tokens": lambda x: x.sum(0) / math.sqrt(len(x)),
}


@pytest.mark.parametrize(
    ("hidden_act", "pooling", "dense"),
    [
        ("gelu", "mean_tokens", None),
        ("gelu_new", "cls_token", None),
        ("relu", "max_tokens", None),
        ("silu", "mean_sqrt_len_tokens", None),
        ("gelu", "mean_tokens", "torch.nn.modules.activation.Tanh"),
    ],
)
def test_float_graph_is_the_model(
    checkpoint: Checkpoints, tmp_path: Path, hidden_act: str, pooling: str, dense: str | None
) -> None:
    """The float32 bundle agrees with the model computed by hand to 1e-5, padded batch or not."""
    source = checkpoint(hidden_act=hidden_act, pooling=pooling, dense=dense)
    export_model(source, tmp_path / "fp32", precision="fp32")
    embedder = Embedder(tmp_path / "fp32")
    config = json.loads((source / "config.json").read_text())
    checkpoint_tensors = read_checkpoint(source)
    for text, vector in zip(TEXTS, embedder.encode(TEXTS), strict=True):
        ids = embedder.tokenizer.encode(text).tolist()
        expected = POOLING[pooling](bert(checkpoint_tensors.tensors, config, ids))
        for module in checkpoint_tensors.after:
            if module.step.kind == "linear":
                expected = np.tanh(expected @ module.tensors["weight"] + module.tensors["bias"])
        assert np.abs(vector - expected / np.linalg.norm(expected)).max() < 1e-5


@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "relu", "silu"])
def test_int8_stays_close_and_has_one_vector(checkpoint: Checkpoints, tmp_path: Path, hidden_act: str) -> None:
    """int8 keeps a cosine of 0.99 on a random model (trained ones do better), the same bits in any batch."""
    source = checkpoint(hidden_act=hidden_act, dense="torch.nn.modules.linear.Identity")
    export_model(source, tmp_path / "int8")
    export_model(source, tmp_path / "fp32", precision="fp32")
    assert_close_and_one_vector(tmp_path / "int8", tmp_path / "fp32", 0.99)


def assert_close_and_one_vector(bundle: Path, reference: Path, lowest: float) -> None:
    """Cosine to the reference at least `lowest` for each text; alone and in a batch its vector is the same."""
    embedder = Embedder(bundle)
    vectors = embedder.encode(MORE_TEXTS)
    assert (vectors * Embedder(reference).encode(MORE_TEXTS)).sum(axis=1).min() > lowest
    alone = np.vstack([embedder.encode([text]) for text in MORE_TEXTS])
    assert np.array_equal(vectors.view(np.uint32), alone.view(np.uint32))


@pytest.fixture
def few_frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the tiny vocabulary eight tokens are frequent, so that a table has rows of few bits to show."""
    monkeypatch.setattr(material, "FREQUENT_ROWS", {4: 8, 3: 8})


@pytest.mark.usefixtures("few_frequent")
@pytest.mark.parametrize(
    ("precision", "table", "lowest"),
    [("int4", "int8", 0.97), ("int8", "int4", 0.985), ("int8", "int3", 0.985), ("int4", "int3", 0.965)],
)
def test_few_bits_stay_close_and_have_one_vector(
    checkpoint: Checkpoints, tmp_path: Path, precision: str, table: str, lowest: float
) -> None:
    """Four bits a weight, four or three a row of the table; the manifest says so, and the files hold it."""
    source = checkpoint()
    manifest = export_model(source, tmp_path / "small", precision=precision, table=table)
    export_model(source, tmp_path / "fp32", precision="fp32")
    assert_close_and_one_vector(tmp_path / "small", tmp_path / "fp32", lowest)
    described = manifest.quantization
    assert ("stored in 4 bits" in described["weights"]) == (precision == "int4")
    bits = {"int4": "4 bits", "int3": "3 bits"}.get(table)
    assert described["embedding_table"] == (
        f"int8 for 8 frequent tokens, {bits} for the others" if bits else "int8, one scale per row"
    )
    names = [value.name for value in initializers(tmp_path / "small")]
    assert ("layers.0.query.weight.4bit" in names, "layers.0.query.weight" in names) == (
        (True, False) if precision == "int4" else (False, True)
    )
    planes = {"int8": [], "int4": ["embedding.word.4bit"], "int3": ["embedding.word.2bit", "embedding.word.1bit"]}
    assert [name for name in names if name.startswith("embedding.word.")] == planes[table]


def initializers(bundle: Path) -> list[Any]:
    import onnx

    return list(onnx.load(bundle / "model.onnx").graph.initializer)


def run_graph(make: Callable[[Graph, str], str], ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What a piece of a graph gives for `ids` [batch, sequence]."""
    graph = Graph()
    output = graph.op("Identity", make(graph, "input_ids"), name="found")
    session = make_session(
        graph.model({output: None}, "test").SerializeToString(), threads=1, exact=products_saturate()
    )
    found: np.ndarray[Any, Any] = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
    return found


@pytest.mark.parametrize("activation", [StaticActivation(0.03125, 100), RowActivation()])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("smoothed", [False, True])
def test_int8_layer_is_what_calibration_simulates(
    activation: StaticActivation | RowActivation, biased: bool, smoothed: bool
) -> None:
    """The nodes of a layer give simulate(x / smooth) @ (codes * scale) + bias, the bias alone for a row of zeros."""
    random = np.random.default_rng(0)
    ids = random.integers(-300, 300, (9, 12))
    ids[:, 0], ids[4] = 301, 0  # the largest is odd, so that no row has a value half way between two codes
    codes, scale = quantize_weight(random.standard_normal((12, 8)).astype(np.float32))
    bias = random.standard_normal(8).astype(np.float32) if biased else None
    smooth = np.where(np.arange(12) % 3 == 1, np.float32(4), np.float32(1)) if smoothed else None
    layer = Int8Linear(codes, scale, bias, activation, smooth)

    def make(g: Graph, name: str) -> str:
        x = g.op("Mul", g.op("Cast", name, to=FLOAT), g.scalar(0.01))
        quantized, row = g.int8_input(x, layer, "x")
        return g.int8_matmul(quantized, row, layer, "layer")

    x = ids.astype(np.float32) * np.float32(0.01)
    seen = activation.simulate(x if smooth is None else x / smooth)
    expected = seen @ (codes * scale) + (0 if bias is None else bias)
    found = run_graph(make, ids)
    assert np.abs(found - expected).max() < 1e-4
    assert np.allclose(found[4], 0 if bias is None else bias, atol=1e-6)


@pytest.mark.parametrize("bits", [4, 3])
def test_table_of_few_bits_unpacks_in_the_graph(bits: int) -> None:
    """Every token's row is what `unpack` and the scales say, frequent, few bits or unused; ids of any shape."""
    random = np.random.default_rng(0)
    table = random.standard_normal((40, 16)).astype(np.float32)
    compact = compact_table(table, bits, frequent=[4, 39, 0, 11], unused=[7, 8])
    ids = random.permutation(40).reshape(5, 8)
    found = run_graph(lambda g, name: g.compact_rows(compact, name), ids)
    assert np.array_equal(found, rows_of(compact)[ids])


def quantizer_of(source: Path, **changes: Any) -> tuple[Spec, dict[str, Any], Quantizer]:
    read = read_checkpoint(source)
    spec, raw = read_family(read)
    spec = dataclasses.replace(spec, **changes)
    weights = prepare(spec, raw)
    shop = Workshop(source.with_name("made"))
    texts = Texts(spec, weights, Tokenizer(sanitize(read.tokenizer), spec.max_tokens))
    return spec, weights, Quantizer(texts, weights, shop)


def embed(model: Any, rows: Sequence[Sequence[int]]) -> np.ndarray[Any, Any]:
    session = make_session(model.SerializeToString(), threads=1, exact=products_saturate())
    ids = np.array(rows)
    vectors: np.ndarray[Any, Any] = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
    return vectors


ROWS = [[2, 5, 9, 7, 3], [2, 24, 1, 11, 3], [2, 6, 6, 20, 3]]


def test_four_bit_weights_unpack_in_the_graph(checkpoint: Checkpoints) -> None:
    """They are how int8 weights are stored: vectors are the same bits as with those weights stored in eight."""
    spec, _, quantizer = quantizer_of(checkpoint())
    made = quantizer.quantize(quantizer.default_recipes(), int4=True)
    groups = set()
    for layer in made.layers.values():
        assert layer.stored is not None
        codes = unpack(layer.stored.planes).astype(int) - 8
        group = len(codes) // len(layer.stored.multipliers)
        assert np.array_equal(codes * np.repeat(layer.stored.multipliers, group, axis=0), layer.weight)
        groups.add((len(codes), group))
    # of two layers one has activations so large that channels are added for them
    assert groups == {(32, 32), (64, 64), (64 + 16, 16)}
    whole = {name: dataclasses.replace(layer, stored=None) for name, layer in made.layers.items()}
    found, expected = (embed(build(spec, made.weights, layers), ROWS) for layers in (made.layers, whole))
    assert np.array_equal(found.view(np.uint32), expected.view(np.uint32))
    assert not np.array_equal(found, embed(quantized_graph(spec, quantizer), ROWS))


def quantized_graph(spec: Spec, quantizer: Quantizer) -> Any:
    made = quantizer.quantize(quantizer.default_recipes())
    return build(spec, made.weights, made.layers, made.table)


@pytest.mark.parametrize("bits", [4, 3])
def test_table_of_few_bits_is_a_float_table(checkpoint: Checkpoints, bits: int) -> None:
    """A float graph on such a table gives the vectors of one on the rows that it stands for."""
    spec, raw = read_family(read_checkpoint(checkpoint()))
    weights = prepare(spec, raw)
    compact = compact_table(weights["embedding.word"], bits, frequent=[2, 3], unused=[])
    found = embed(build(spec, weights, None, compact), ROWS)
    rows = {**weights, "embedding.word": rows_of(compact)}
    assert np.allclose(found, embed(build(spec, rows), ROWS), atol=1e-6)
    assert np.abs(found - embed(build(spec, weights), ROWS)).max() > 1e-3


@pytest.mark.usefixtures("few_frequent")
def test_frequent_tokens_are_those_of_calibration(checkpoint: Checkpoints) -> None:
    """No token whose row has few bits is more frequent in the calibration texts than one whose row has eight."""
    _, _, quantizer = quantizer_of(checkpoint())
    table = quantizer.quantize(quantizer.default_recipes(), table="int3").table
    assert table is not None
    seen = np.bincount(np.concatenate(quantizer._material.rows), minlength=25)
    assert np.count_nonzero(seen) > 8
    assert seen[table.place < 8].min() > seen[table.place >= 8].max()


@pytest.mark.usefixtures("few_frequent")
def test_placeholders_share_a_row(checkpoint: Checkpoints) -> None:
    """[unused1] that no text gives has no row of its own; one that is an added token can come, and has."""
    source = checkpoint(vocab_size=28)
    definition = json.loads((source / "tokenizer.json").read_text())
    for i in range(3):
        definition["model"]["vocab"][f"[unused{i}]"] = 25 + i
    added = {**definition["added_tokens"][0], "id": 27, "content": "[unused2]", "special": False}
    definition["added_tokens"].append(added)
    (source / "tokenizer.json").write_text(json.dumps(definition))
    _, weights, quantizer = quantizer_of(source)
    table = quantizer.quantize(quantizer.default_recipes(), table="int4").table
    assert table is not None
    assert table.scale.shape == (26, 1)
    off = np.linalg.norm(rows_of(table) - weights["embedding.word"], axis=1)
    own = off / np.linalg.norm(weights["embedding.word"], axis=1) < 0.2
    assert own.tolist() == [True] * 25 + [False, False, True]


def test_odd_widths(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Weights that no group divides stay in eight bits; a table that cannot be packed is refused by name."""
    source = checkpoint(hidden_size=36, intermediate_size=47)
    save_file(bert_tensors({**TINY, "hidden_size": 36, "intermediate_size": 47}), source / "model.safetensors")
    (source / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 36, "pooling_mode_mean_tokens": True})
    )
    assert "4 bits" not in export_model(source, tmp_path / "b", precision="int4").quantization["weights"]
    assert Embedder(tmp_path / "b").dim == 36
    with pytest.raises(ExportError, match="3 bits needs a hidden size that is a multiple of 8, this one is 36"):
        export_model(source, tmp_path / "c", table="int3")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_smoothing_costs_nothing_where_the_norm_is_read_by_layers_alone(checkpoint: Checkpoints, norm: str) -> None:
    """Pre-norm: the norm takes the factors, and no multiplication is left; post-norm: the residual reads it too."""
    spec, weights, quantizer = quantizer_of(checkpoint(), norm=norm)
    recipes = quantizer.default_recipes()
    assert all(recipe.smooth for name, recipe in recipes.items() if not name.endswith("down.input"))
    made = quantizer.quantize(recipes)
    graph = build(spec, made.weights, made.layers, made.table)
    smooth = {name for node in graph.graph.node for name in node.input if name.endswith(".smooth")}
    expected = {f"layers.{i}.{part}.input.smooth" for i in range(2) for part in ("query", "up")}
    assert smooth == (expected if norm == "post" else set())
    assert (embed(graph, ROWS) * embed(build(spec, weights), ROWS)).sum(axis=1).min() > 0.99


def test_pre_norm_graph_runs_as_written(checkpoint: Checkpoints) -> None:
    """Norm placement is a parameter: with identity layers, pre-norm leaves the residual as it is."""
    spec, weights = read_family(read_checkpoint(checkpoint()))
    zero = {name: np.zeros_like(a) for name, a in weights.items() if ".out." in name or ".down." in name}
    pre = Spec(**{**vars(spec), "norm": "pre"})
    model = build(pre, prepare(pre, {**weights, **zero}))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ids = np.array([[2, 5, 6, 3]])
    (vector,) = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
    x = weights["embedding.word"][ids[0]] + weights["embedding.position"][:4]
    x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    pooled = (x * weights["embedding.norm.weight"] + weights["embedding.norm.bias"]).mean(0)
    assert np.abs(vector - pooled / np.linalg.norm(pooled)).max() < 1e-5


def without_speed(bundle: Path) -> str:
    """The manifest's text, but for the speed of this machine and the hash over it."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["receipt"].pop("speed")
    assert manifest.pop("manifest_sha256")
    return json.dumps(manifest, indent=1)


@pytest.mark.usefixtures("whole_receipt")
def test_same_checkpoint_same_bytes(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Two exports are equal byte for byte but for measured speed; the manifest says where the weights came from."""
    source = checkpoint()
    first = export_model(source, tmp_path / "a", name="tiny")
    manifest = export_model(source, tmp_path / "b", name="tiny", source_name="checkpoint")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["manifest.json", "model.onnx", "tokenizer.json"]
    for name in ("model.onnx", "tokenizer.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert without_speed(tmp_path / "a") == without_speed(tmp_path / "b")
    assert first.fingerprint == manifest.fingerprint
    assert manifest.provenance["source"] == "checkpoint"
    assert manifest.provenance["licence"] == "apache-2.0"
    assert manifest.max_tokens == 24
    assert read_bundle(tmp_path / "b").manifest == manifest


@pytest.mark.usefixtures("whole_receipt")
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_receipt_is_in_the_manifest(checkpoint: Checkpoints, tmp_path: Path, precision: str) -> None:
    """Fidelity, retrieval at each storage tier beside float32's, binary codes, bytes on disk, speed with its CPU."""
    bundle = tmp_path / "b"
    export_model(checkpoint(), bundle, precision=precision)
    receipt = json.loads((bundle / "manifest.json").read_text())["receipt"]
    assert receipt["texts"] == 128
    cosine, retrieval, speed = receipt["cosine_to_fp32"], receipt["retrieval"], receipt["speed"]
    assert 0.99 < cosine["min"] <= cosine["p5"] <= cosine["mean"] <= 1
    assert (cosine["min"] == 1) == (precision == "fp32")
    assert retrieval["set"] == "XQuAD, English: 240 paragraphs, 300 questions"
    figures = retrieval["ndcg@10"]
    assert list(figures) == ["float", "int8", "binary"]
    # a random model finds little, but something; each tier something else
    assert all(0 < figure < 0.2 for figure in (*figures.values(), retrieval["ndcg@10_fp32"]))
    assert len(set(figures.values())) > 1
    assert list(receipt["binary_codes"]) == ["none", "centre", "rotation", "centre+rotation"]
    assert all(0 < found <= 1 for found in receipt["binary_codes"].values())
    assert (figures["float"] == retrieval["ndcg@10_fp32"]) == (precision == "fp32")
    assert receipt["bytes"] == sum((bundle / name).stat().st_size for name in ("model.onnx", "tokenizer.json"))
    assert (speed["threads"], speed["cpu"]) == (1, cpu_model())
    for figure in (speed["tokens_per_cpu_second"], speed["tokens_per_cpu_second_fp32"]):
        assert isinstance(figure, int)
        assert figure > 0


def test_speed_is_tokens_by_the_median_of_cpu_seconds(
    checkpoint: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three rounds of 2, 0.25 and 0.5 seconds count as 0.5; the figure has three digits."""
    export_model(checkpoint(), tmp_path / "b", precision="fp32")
    embedder = Embedder(tmp_path / "b")
    clock = iter([0, 2, 10, 10.25, 20, 20.5])
    monkeypatch.setattr(dense, "SPEED_ROUNDS", 3)
    monkeypatch.setattr(dense.time, "process_time", lambda: next(clock))
    texts = [" ".join(["bank"] * 15)] * 73  # 17 tokens each: 1241 in all, 2482 a second
    vectors, speed = dense._timed(embedder, texts)
    assert speed == 2480
    assert np.array_equal(vectors, embedder.encode(texts))


def test_floor(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A bundle below the floor is not written, not over one that is there either; the message says how far it is."""
    source, bundle = checkpoint(), tmp_path / "b"
    with pytest.raises(FidelityError, match=r"int8 bundle has a mean cosine of 0\.99\d+ .* floor is 1\.0"):
        export_model(source, bundle, floor=1.0)
    assert not bundle.exists()
    manifest = export_model(source, bundle, floor=0.9)
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    with pytest.raises(FidelityError):
        export_model(source, bundle, floor=1.0, precision="int4", overwrite=True)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    reached = manifest.receipt["cosine_to_fp32"]["mean"]
    assert export_model(source, bundle, floor=reached, overwrite=True) is not None


@pytest.mark.parametrize(("precision", "mean"), [("int8", 0.9949), ("int4", 0.9499), ("int8", math.nan)])
def test_floor_without_being_asked(
    checkpoint: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, mean: float
) -> None:
    """int8 has to reach 0.995, int4 0.95; a model that gives NaN reaches nothing."""
    monkeypatch.setattr(dense, "cosine_receipt", lambda *_: {"cosine_to_fp32": {"mean": mean}})
    source = checkpoint()
    with pytest.raises(FidelityError, match=f"cosine of {mean}"):
        export_model(source, tmp_path / "b", precision=precision)
    assert not (tmp_path / "b").exists()
    if not math.isnan(mean):
        monkeypatch.setattr(dense, "cosine_receipt", lambda *_: {"cosine_to_fp32": {"mean": mean + 0.0001}})
        export_model(source, tmp_path / "b", precision=precision)


def test_search_is_reproduced_from_recipes(
    checkpoint: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipes that a search found give the same bytes without one, read from a bundle or its manifest."""
    source, searched = checkpoint(), tmp_path / "searched"
    lines: list[str] = []
    export_model(source, searched, search=True, progress=lines.append)
    assert sum(line.startswith("search ") for line in lines) == 6  # two layers: attention, context, feed-forward
    export_model(source, tmp_path / "default")
    assert read_recipes(searched) != read_recipes(tmp_path / "default")
    model = (searched / "model.onnx").read_bytes()
    assert model != (tmp_path / "default" / "model.onnx").read_bytes()
    monkeypatch.setattr(Quantizer, "search", None)
    for number, recipes in enumerate((searched, str(searched / "manifest.json"))):
        manifest = export_model(source, tmp_path / f"again{number}", recipes=recipes)
        assert (tmp_path / f"again{number}" / "model.onnx").read_bytes() == model
        assert manifest.quantization == read_bundle(searched).manifest.quantization


def test_search_never_ends_below_the_default(checkpoint: Checkpoints) -> None:
    """The recipes found have a mean cosine over the calibration texts that the default ones do not exceed."""
    spec, weights, quantizer = quantizer_of(checkpoint())
    found = quantizer.search(lambda _: None)
    rows = [row for row in (quantizer._material.rows) if len(row) == spec.max_tokens]
    assert len(rows) > 20
    expected = embed(build(spec, weights), rows)

    def cosine(recipes: Mapping[str, Recipe]) -> float:
        made: Quantized = quantizer.quantize(recipes)
        return float((embed(build(spec, made.weights, made.layers), rows) * expected).sum(axis=1).mean())

    assert cosine(found) > cosine(quantizer.default_recipes())


def test_recipes_of_another_model_are_refused(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Recipes name the values of one model; those of another, or none at all, do not fit."""
    other = checkpoint("other", num_hidden_layers=1)
    export_model(other, tmp_path / "other-bundle")
    none = tmp_path / "none.json"
    none.write_text('{"quantization": {"recipes": {}}}')
    for recipes in (tmp_path / "other-bundle", none):
        with pytest.raises(ExportError, match="recipes are for another model: this one has 8 values"):
            export_model(checkpoint(f"for-{recipes.stem}"), tmp_path / "b", recipes=recipes)
    assert not (tmp_path / "b").exists()


def test_recipe_with_scales_that_the_graph_has_not(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Scales per row have a form in the graph where the default uses them, and nowhere else."""
    manifest = export_model(checkpoint(), tmp_path / "a")
    recipes = {**manifest.quantization["recipes"], "layers.0.out.input": {"activation": "row"}}
    (tmp_path / "odd.json").write_text(json.dumps({"quantization": {"recipes": recipes}}))
    with pytest.raises(ExportError, match=r"layers\.0\.out\.input has 'row' scales, 'static' is needed"):
        export_model(checkpoint("again"), tmp_path / "b", recipes=tmp_path / "odd.json")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "3",
        "[]",
        "{}",
        '{"quantization": "int8"}',
        '{"quantization": {"recipes": [1]}}',
        '{"quantization": {"recipes": {"x": 3}}}',
        '{"quantization": {"recipes": {"x": {"smoothing": 0.5}}}}',
        '{"quantization": {"recipes": {"x": {"smooth": "0.5"}}}}',
        '{"quantization": {"recipes": {"x": {"extra": -1}}}}',
        "[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_malformed_recipes(checkpoint: Checkpoints, tmp_path: Path, content: str | bytes) -> None:
    """A file without recipes is named, whatever it holds."""
    path = tmp_path / "recipes.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SourceError, match=r"recipes\.json holds no recipes"):
        export_model(checkpoint(), tmp_path / "b", recipes=path)


def test_recipes_from_where_there_are_none(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A float bundle has none, nor has a folder or file that is not there."""
    source = checkpoint()
    export_model(source, tmp_path / "fp32", precision="fp32")
    for recipes in (tmp_path / "fp32", tmp_path, tmp_path / "missing"):
        with pytest.raises(SourceError, match="holds no recipes of an int8 bundle"):
            export_model(source, tmp_path / "b", recipes=recipes)


def test_plain_transformers_folder(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Without sentence-transformers' files: mean pooling, the limit of the position table, a head's prefix in names."""
    source = checkpoint()
    for name in ("modules.json", "sentence_bert_config.json", "README.md"):
        (source / name).unlink()
    save_file({f"bert.{k}": v for k, v in bert_tensors(TINY).items()}, source / "model.safetensors")
    manifest = export_model(source, tmp_path / "b", precision="fp32")
    assert (manifest.pooling, manifest.max_tokens) == ("mean", 40)
    assert manifest.provenance["licence"] is None


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_unknown_architecture_is_named(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """The message names the architecture, those that are known, and the general path."""
    with pytest.raises(UnsupportedModelError, match=r"'xlnet'.*bert.*edge-embed\[general\]"):
        export_model(checkpoint(model_type="xlnet"), tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_act": "typo"}, "activation 'typo'"),
        ({"position_embedding_type": "relative_key"}, "'relative_key' positions"),
        ({"is_decoder": True}, "decoder"),
        ({"num_attention_heads": 5}, "heads"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_hidden_layers": "two"}, "num_hidden_layers"),
        ({"num_hidden_layers": -1}, "num_hidden_layers"),
        ({"layer_norm_eps": -1}, "layer_norm_eps"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps"),
    ],
)
def test_unsupported_config(checkpoint: Checkpoints, tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    """What the family cannot express is refused by name."""
    source = checkpoint()
    change(source / "config.json", **fields)
    with pytest.raises(ExportError, match=message):
        export_model(source, tmp_path / "b")


def test_missing_or_odd_tensors(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A missing tensor, a wrong shape and NaN are named."""
    source = checkpoint()
    name, ours = "encoder.layer.1.output.dense.weight", "layers.1.down.weight"
    whole = bert_tensors(TINY)
    broken = {
        "no tensor": {k: v for k, v in whole.items() if k != name},
        "shape": {**whole, name: np.zeros((3, 3), np.float32)},
        "NaN": {**whole, name: np.full_like(whole[name], np.nan)},
    }
    for message, tensors in broken.items():
        save_file(tensors, source / "model.safetensors")
        with pytest.raises(ExportError, match=rf"{message} '{name}|{ours} has {message}|{name}' holds {message}"):
            export_model(source, tmp_path / "b")


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5])
def test_cut_off_weights(checkpoint: Checkpoints, tmp_path: Path, keep: float) -> None:
    """A safetensors file that is cut off is refused."""
    source = checkpoint()
    data = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(data[: int(keep * len(data)) if keep < 1 else int(keep)])
    with pytest.raises(ExportError, match="not a whole safetensors"):
        export_model(source, tmp_path / "b")


def test_pickle_is_refused(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Weights that could run code are never read, and the message says why."""
    source = checkpoint()
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(ExportError, match="pickle"):
        export_model(source, tmp_path / "b")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_missing_file_is_named(checkpoint: Checkpoints, tmp_path: Path, name: str) -> None:
    """Every file that is needed is named when it is missing."""
    source = checkpoint()
    (source / name).unlink()
    with pytest.raises(SourceError, match=f"{name}.*missing"):
        export_model(source, tmp_path / "b")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "modules.json"])
def test_malformed_json_is_named(checkpoint: Checkpoints, tmp_path: Path, name: str) -> None:
    """So is a file that is not JSON, or holds something else."""
    for content in ("{", "3", '"text"', "[3]"):
        source = checkpoint(f"with-{name}-{ord(content[0])}")
        (source / name).write_text(content)
        with pytest.raises((SourceError, ExportError), match=name):
            export_model(source, tmp_path / "b")


def test_tokenizer_must_fit_the_table(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A tokenizer with more tokens than the table has rows belongs to another model."""
    source = checkpoint(vocab_size=10)
    with pytest.raises(ExportError, match=r"25 tokens.*10 rows"):
        export_model(source, tmp_path / "b")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("sentence_bert_config.json", {"max_seq_length": "x"}),
        ("sentence_bert_config.json", {"max_seq_length": 0}),
        ("1_Pooling/config.json", {"pooling_mode": "sum"}),
        ("config_sentence_transformers.json", {"prompts": "query: "}),
        ("config_sentence_transformers.json", {"prompts": {"query": 3}}),
    ],
)
def test_malformed_settings_are_named(checkpoint: Checkpoints, tmp_path: Path, file: str, content: Any) -> None:
    """Settings of sentence-transformers that make no sense are errors that name their file."""
    source = checkpoint()
    (source / file).write_text(json.dumps(content))
    with pytest.raises(ExportError, match=file.split("/", maxsplit=1)[0]):
        export_model(source, tmp_path / "b")


def test_weights_without_a_use(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A model that gives no vector is not exported."""
    source = checkpoint()
    save_file({k: np.zeros_like(v) for k, v in bert_tensors(TINY).items()}, source / "model.safetensors")
    for precision in ("int8", "fp32"):
        with pytest.raises(ExportError, match="not usable"):
            export_model(source, tmp_path / "b", precision=precision)


def test_module_that_is_not_supported(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Modules of sentence-transformers that the graph has no form for are named."""
    source = checkpoint()
    modules = [
        *json.loads((source / "modules.json").read_text()),
        {"type": "sentence_transformers.models.CNN", "path": "x"},
    ]
    (source / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ExportError, match=r"module 3, 'sentence_transformers\.models\.CNN', is not supported"):
        export_model(source, tmp_path / "b")


def test_bad_arguments(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A missing source, an unknown precision, and a target that is there already."""
    with pytest.raises(SourceError, match="not a folder"):
        export_model(tmp_path / "none", tmp_path / "b")
    source = checkpoint()
    with pytest.raises(InputError, match="'int3'"):
        export_model(source, tmp_path / "b", precision="int3")
    with pytest.raises(InputError, match="table is 'fp32', expected one of"):
        export_model(source, tmp_path / "b", table="fp32")
    for useless in ({"table": "int4"}, {"search": True}, {"recipes": tmp_path}):
        with pytest.raises(InputError, match="fp32 quantizes nothing"):
            export_model(source, tmp_path / "b", precision="fp32", **useless)
    with pytest.raises(InputError, match="choose one"):
        export_model(source, tmp_path / "b", search=True, recipes=tmp_path)
    with pytest.raises(InputError, match="exists"):
        export_model(source, source)
    assert not (tmp_path / "b").exists()


def test_command_names_its_options() -> None:
    """`edge-embed export --help` tells every way to quantize, and the floors."""
    result = CliRunner().invoke(main, ["export", "--help"])
    assert result.exit_code == 0
    for option in ("--precision [int8|int4|fp32]", "--table [int8|int4|int3]", "--search", "--recipes FOLDER|minilm"):
        assert option in result.output
    shown = " ".join(result.output.split())
    assert ", ".join(f"{FLOORS[precision]} for {precision}" for precision in ("int8", "int4")) in shown


def test_command_passes_its_options_on(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """What the command is told is what is exported; below the floor it ends in one line and status 1."""
    source = str(checkpoint())
    run = CliRunner().invoke
    searched = run(main, ["export", source, str(tmp_path / "a"), "--search", "--json"])
    assert searched.exit_code == 0, searched.output
    options = ["--precision", "int4", "--table", "int3", "--recipes", str(tmp_path / "a"), "--json"]
    small = run(main, ["export", source, str(tmp_path / "b"), *options])
    assert small.exit_code == 0, small.output
    facts, found = json.loads(small.output)["quantization"], json.loads(searched.output)["quantization"]
    assert "4 bits" in facts["weights"]
    assert "3 bits" in facts["embedding_table"]
    assert facts["recipes"] == found["recipes"]
    refused = run(main, ["export", source, str(tmp_path / "c"), "--floor", "1"])
    assert (refused.exit_code, refused.output.count("\n")) == (1, 1)
    assert "floor is 1.0" in refused.output


def test_missing_extra_names_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without onnx the error says what to install."""
    with pytest.raises(MissingExtraError, match=r"pip install 'edge-embed\[export\]'"):
        extras.require("a_package_that_is_not_there", "export")


def test_calibration_and_receipt_texts_differ() -> None:
    """What sets the ranges does not also measure the loss."""
    calibration, receipt = calibration_texts("calibration"), calibration_texts("receipt")
    assert len(calibration) == len(receipt) == 128
    assert not set(calibration) & set(receipt)
