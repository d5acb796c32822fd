"""`export --portable`: standard ONNX operators alone, the same vectors, and a receipt against the fast form."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from builders.architectures import MODELS, Model, decoder, write
from builders.bert import WORDS, bert_folder, pair_folder
from builders.heads import multi_folder
from click.testing import CliRunner
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from edge_embed import Embedder
from edge_embed.cli.main import main
from edge_embed.errors import ExportError, InputError
from edge_embed_export import export_model, from_checkpoint
from edge_embed_export.calibration import texts as shipped
from edge_embed_export.receipt import finish
from edge_embed_export.transformer import blockwise, builder, spec
from edge_embed_export.transformer.builder import Graph
from edge_embed_export.transformer.portable import OPSET, REWRITES, standard
from edge_embed_quantize.linear import Int8Linear, RowActivation, StaticActivation, quantize_weight
from edge_embed_runtime.model.batching import pad
from edge_embed_runtime.model.session import make_session

TEXTS = ["the river bank", "money at the bank and in the house", "a cat", "", "the dog is in the garden at night " * 9]

pytestmark = pytest.mark.usefixtures("short_receipt")


@pytest.fixture
def known_words(monkeypatch: pytest.MonkeyPatch, short_receipt: None) -> None:
    """Calibration and receipt on words that the tiny tokenizer knows."""

    def some_texts(part: str) -> list[str]:
        random = np.random.default_rng(len(part))
        return [" ".join(random.choice(WORDS, size)) for size in random.integers(0, 23, 96)]

    monkeypatch.setattr(shipped, "calibration_texts", some_texts)
    monkeypatch.setattr(finish, "calibration_texts", lambda part: some_texts(part)[::8])


def checked(bundle: Path) -> onnx.ModelProto:
    """The graph of a portable bundle, which onnx's own checker takes and which has no operators but the standard's."""
    model = onnx.load(bundle / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert {node.domain for node in model.graph.node} == {""}
    return model


def portable(source: Path, **options: Any) -> Path:
    target = source.parent / f"{source.name}-portable"
    export_model(source, target, portable=True, **options)
    return target


def manifest_of(bundle: Path) -> dict[str, Any]:
    return json.loads((bundle / "manifest.json").read_text())  # type: ignore[no-any-return]


def test_the_command_writes_standard_operators(tmp_path: Path) -> None:
    """A bundle that says what it is, runs in onnxruntime, and whose receipt compares it with both other forms."""
    source, target = bert_folder(tmp_path / "model"), tmp_path / "bundle"
    run = CliRunner().invoke(main, ["export", str(source), str(target), "--portable"])
    assert run.exit_code == 0, run.output
    assert "operators: standard, opset 17" in run.output
    checked(target)
    manifest = manifest_of(target)
    assert "engine" not in manifest
    assert manifest["receipt"]["cosine_to_fast_form"]["min"] > 0.999
    assert 0 < manifest["receipt"]["speed_to_fast_form"] < 100
    assert 0.5 < manifest["receipt"]["bytes_to_fast_form"] < 2
    assert manifest["receipt"]["cosine_to_fp32"]["mean"] > 0.995
    embedder = Embedder(target, threads=1)
    export_model(source, tmp_path / "fast", engine="onnxruntime")
    fast = Embedder(tmp_path / "fast", threads=1)
    assert (embedder.encode(TEXTS) * fast.encode(TEXTS)).sum(axis=1).min() > 0.999
    alone = np.vstack([embedder.encode([text]) for text in TEXTS])
    assert np.array_equal(embedder.encode(TEXTS).view(np.uint32), alone.view(np.uint32))


class DequantizeLinear(OpRun):  # type: ignore[misc]
    """That of opset 13, of which onnx has no implementation in Python."""

    def _run(self, x: Any, scale: Any, zero_point: Any = 0, axis: int = 1, **_: Any) -> tuple[Any]:
        shape = [-1 if i == axis else 1 for i in range(x.ndim)] if np.ndim(scale) else []
        scale, zero_point = (np.reshape(part, shape) if np.ndim(part) else part for part in (scale, zero_point))
        return (((x.astype(np.int32) - zero_point) * scale).astype(np.float32),)


def test_onnx_itself_gives_the_vectors(tmp_path: Path) -> None:
    """The reference implementation of the standard, which knows no operator of onnxruntime's own and computes in
    float32 what others do in int8."""
    bundle = portable(bert_folder(tmp_path / "model"))
    evaluator, embedder = (
        ReferenceEvaluator(checked(bundle), new_ops=[DequantizeLinear]),
        Embedder(bundle, threads=1),
    )
    for text in TEXTS:
        (found,) = evaluator.run(None, pad([embedder.tokenizer.encode(text)]))
        assert float(found[0] @ embedder.encode([text])[0]) > 0.999


def test_onnxruntime_computes_its_products_in_int8(tmp_path: Path) -> None:
    """Each quantized product becomes one of onnxruntime's own when the bundle is loaded: none stays in float32."""
    bundle = portable(bert_folder(tmp_path / "model"))
    plain = [node for node in checked(bundle).graph.node if node.op_type == "Gemm"]
    assert len(plain) == 12
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(bundle / "model.onnx", options)
    level = Embedder(bundle).network.session.get_session_options().graph_optimization_level
    assert level == options.graph_optimization_level
    fused = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert fused.count("QGemm") == 12
    assert "DequantizeLinear" not in fused


@pytest.mark.parametrize("name", ["albert", "deberta", "modernbert", "nomic_moe", "nvembed", "qwen3", "t5"])
def test_families(known_words: None, tmp_path: Path, name: str) -> None:
    of_family(tmp_path, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_family(known_words: None, tmp_path: Path, name: str) -> None:
    of_family(tmp_path, name)


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention of long texts, over blocks of queries, in texts of more than four tokens."""
    monkeypatch.setattr(spec, "WHOLE", 8)
    for name, number in (("ROWS", 4), ("ROWS_WITH_HEADS", 4), ("APART", 8)):
        monkeypatch.setattr(blockwise, name, number)


@pytest.mark.parametrize("name", ["jina_v2", "modernbert", "qwen3"])
def test_models_of_long_texts(known_words: None, blocks: None, tmp_path: Path, name: str) -> None:
    of_family(tmp_path, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "gemma2", "gemma3", "gritlm", "gte", "jina_v3", "mpnet", "nvembed", "umt5"])
def test_more_models_of_long_texts(known_words: None, blocks: None, tmp_path: Path, name: str) -> None:
    of_family(tmp_path, name)


def test_long_texts_in_onnxruntime(tmp_path: Path) -> None:
    """A model of more than 1,024 tokens, whose attention is one Scan a layer: up to its last token both forms agree."""
    model = Model(*decoder("mistral", max_position_embeddings=1100, sliding_window=200), pooling=None)
    source = write(model, tmp_path / "model")
    bundle = portable(source, precision="fp32")
    assert "Scan" in {node.op_type for node in checked(bundle).graph.node}
    export_model(source, tmp_path / "fast", precision="fp32", engine="onnxruntime")
    texts = [*TEXTS, "the river " * 300, "the cat " * 1100]
    found, expected = (Embedder(folder, threads=1).encode(texts) for folder in (bundle, tmp_path / "fast"))
    assert np.abs(found - expected).max() < 1e-5


def of_family(folder: Path, name: str) -> None:
    """Standard operators alone, as near to the fast form as int8 is to float32, and texts have their own vectors."""
    model = MODELS[name]()
    bundle = portable(write(model, folder / name), **model.options)
    checked(bundle)
    receipt = manifest_of(bundle)["receipt"]
    assert receipt["cosine_to_fast_form"]["mean"] > 0.999
    assert receipt["cosine_to_fp32"]["min"] > 0.99
    embedder = Embedder(bundle, threads=1)
    alone = np.vstack([embedder.encode([text]) for text in TEXTS])
    assert (alone * embedder.encode(TEXTS)).sum(axis=1).min() > 0.9999


def test_float32_has_a_portable_form(tmp_path: Path) -> None:
    """Without int8 both forms give the same to the last bits."""
    bundle = portable(bert_folder(tmp_path / "model"), precision="fp32")
    assert "DequantizeLinear" not in {node.op_type for node in checked(bundle).graph.node}
    assert manifest_of(bundle)["receipt"]["cosine_to_fast_form"]["min"] == 1


def test_scores_of_pairs_and_vectors_of_tokens(tmp_path: Path) -> None:
    """Cross-encoders and ColBERT models have one, too."""
    pairs = portable(pair_folder(tmp_path / "pairs"))
    checked(pairs)
    assert manifest_of(pairs)["receipt"]["largest_difference_to_fast_form"] < 0.05
    tokens = bert_folder(tmp_path / "tokens")
    multi_folder(tokens)
    bundle = portable(tokens)
    checked(bundle)
    assert manifest_of(bundle)["receipt"]["cosine_to_fast_form"]["mean"] > 0.999


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"engine": "native"}, "no use for --engine native"),
        ({"precision": "int4"}, "four or three bits"),
        ({"table": "int3"}, "four or three bits"),
    ],
)
def test_what_cannot_be_portable_is_refused(tmp_path: Path, options: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        export_model(bert_folder(tmp_path / "model"), tmp_path / "bundle", portable=True, **options)
    assert not (tmp_path / "bundle").exists()


def test_models_in_two_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "APART_BYTES", 512)
    monkeypatch.setattr(builder, "LARGEST", 10_000)
    with pytest.raises(InputError, match="too large for a portable bundle"):
        portable(bert_folder(tmp_path / "model"))


def test_what_has_no_portable_form_is_refused_before_it_is_quantized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(REWRITES, ("com.microsoft", "Gelu"))
    monkeypatch.setattr(from_checkpoint, "_quantized", lambda *_: pytest.fail("it was quantized"))
    with pytest.raises(ExportError, match=r"com.microsoft.Gelu is not standard"):
        portable(bert_folder(tmp_path / "model"))


def test_sources_without_a_checkpoint_are_refused(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("cat 0.1 0.2 0.3\ndog 0.2 0.1 0.4\n")
    with pytest.raises(InputError, match="Leave --portable out"):
        export_model(tmp_path / "words.txt", tmp_path / "bundle", portable=True)


# What graphs of single operators are fed with: rows of numbers, one of them all zeros.
ROWS = np.vstack([np.random.default_rng(0).normal(size=(5, 8)), np.zeros(8)]).astype(np.float32)


def graph_of(make: Callable[[Graph, str], str], dims: int = 2) -> onnx.ModelProto:
    graph = Graph()
    feed = graph.feed("x", ["rows", 8])
    return graph.model({graph.op("Identity", make(graph, feed), name="y"): [*"abcd"[:dims]]}, "test")


def both_forms(make: Callable[[Graph, str], str], dims: int = 2) -> tuple[Any, Any]:
    """What a graph gives for ROWS as it is, and in standard operators. dims: of what it gives"""
    models = graph_of(make, dims), standard(graph_of(make, dims))
    onnx.checker.check_model(models[1], full_check=True)
    found = [make_session(model.SerializeToString(), 1).run(None, {"x": ROWS})[0] for model in models]
    return found[0], found[1]


@pytest.mark.parametrize("op_type", ["Gelu", "FastGelu", "QuickGelu"])
def test_activations(op_type: str) -> None:
    ours, others = both_forms(lambda g, x: g.op(op_type, x, domain="com.microsoft"))
    assert np.abs(ours - others).max() < 1e-6


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", [StaticActivation(0.03125, 100), RowActivation()])
def test_int8_layers(activation: StaticActivation | RowActivation, bias: bool) -> None:
    """Both ways to quantize what a layer reads; of a row of zeros the bias is left."""
    random = np.random.default_rng(1)
    codes, scale = quantize_weight(random.normal(size=(8, 6)).astype(np.float32))
    layer = Int8Linear(codes, scale, random.normal(size=6).astype(np.float32) if bias else None, activation, None)
    ours, others = both_forms(lambda g, x: g.int8_matmul(*g.int8_input(x, layer, "x"), layer, "layer"))
    most = 3e-4  # half a step of the bias, 0.03125 times a scale of the weights
    assert np.abs(ours - others).max() < most
    assert np.allclose(others[-1], 0 if layer.bias is None else layer.bias, atol=most)


@pytest.mark.parametrize("flags", [{"transB": 1}, {"transB": 1, "transBatchA": 1, "transBatchB": 1, "alpha": 0.5}])
@pytest.mark.parametrize("shape", [(2, 3, 8), (1, 2, 3, 8)])
def test_products_of_turned_matrices(flags: dict[str, Any], shape: tuple[int, ...]) -> None:
    def make(g: Graph, x: str) -> str:
        reshaped = g.op("Reshape", x, g.shape(*shape))
        return g.op("FusedMatMul", reshaped, reshaped, domain="com.microsoft", **flags)

    ours, others = both_forms(make, len(shape))
    assert ours.shape == others.shape
    assert np.abs(ours - others).max() < 1e-6


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda g, x: g.op("BiasGelu", x, g.constant("b", ROWS[0]), domain="com.microsoft"), "com.microsoft.BiasGelu"),
        (lambda g, x: g.op("Gelu", x), "the operator Gelu is not standard in opset 17"),
    ],
)
def test_other_operators_are_named(make: Callable[[Graph, str], str], why: str) -> None:
    with pytest.raises(ExportError, match=why):
        standard(graph_of(make))
