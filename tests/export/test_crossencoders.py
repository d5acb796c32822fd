"""Cross-encoders: from a folder with a sequence classification head to a bundle that scores pairs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.bert import TINY, pair_folder, pair_logits
from builders.kindfolders import change

from edge_embed import Embedder, Reranker
from edge_embed.errors import ExportError, FidelityError, InputError, UnsupportedModelError
from edge_embed_export import GraphOptions, export_model
from edge_embed_export.calibration import layerwise
from edge_embed_export.calibration.pairs import calibration_pairs, questions
from edge_embed_export.transformer import builder as graph
from edge_embed_quantize.receipt import kendall, spearman
from edge_embed_runtime.bundle.manifest import WEIGHTS

pytestmark = pytest.mark.usefixtures("short_receipt")
PAIRS = [("the river bank", "a cat"), ("", ""), ("a", "the dog is in the garden " * 9), ("red", "blue")]
ST = "config_sentence_transformers.json"


def made(source: Path, **options: Any) -> Reranker:
    target = source.parent / f"{source.name}-bundle"
    export_model(source, target, **{"precision": "fp32", "floor": -1.0, "overwrite": True, **options})
    return Reranker(target, threads=1)


def without(source: Path, name: str) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(source / "model.safetensors")
    del tensors[name]
    save_file(tensors, source / "model.safetensors")


@pytest.mark.parametrize("labels", [1, 3])
def test_scores_are_those_of_bert_by_hand(tmp_path: Path, labels: int) -> None:
    """Types of tokens, pooler and classifier, in float64 from the paper."""
    from safetensors.numpy import load_file

    source = pair_folder(tmp_path / "model", labels=labels)
    reranker, tensors = made(source), load_file(source / "model.safetensors")
    for pair, found in zip(PAIRS, reranker.scores(PAIRS, raw=True), strict=True):
        ids, types = reranker.row(*pair).T.tolist()
        assert np.abs(found - pair_logits(tensors, TINY, ids, types)).max() < 1e-5


def test_int8_ranks_as_the_float_model(tmp_path: Path) -> None:
    """What the receipt says is what the bundles do; the float head stays as it is."""
    source = pair_folder(tmp_path / "model")
    exact, int8 = made(source), None
    manifest = export_model(source, tmp_path / "int8", floor=-1.0)
    int8 = Reranker(tmp_path / "int8", threads=1)
    pairs = [pair for question in questions("receipt") for pair in question.pairs]
    receipt = manifest.receipt
    expected, found = exact.scores(pairs, raw=True), int8.scores(pairs, raw=True)
    assert receipt["pairs"] == len(pairs)
    assert receipt["rank_correlation"]["spearman"] == pytest.approx(spearman(expected, found), abs=1e-4)
    assert receipt["rank_correlation"]["kendall"] == pytest.approx(kendall(expected, found), abs=1e-4)
    assert manifest.quantization["head"] == "float32"
    assert not any(name.startswith("projection") for name in manifest.quantization["recipes"])
    assert 0 < np.abs(expected - found).max() < 0.2


@pytest.mark.parametrize("options", [{"precision": "int4"}, {"table": "int4"}, {"search": True}])
def test_smaller_forms(tmp_path: Path, options: dict[str, Any]) -> None:
    reranker = made(pair_folder(tmp_path / "model"), **{"precision": "int8", **options})
    assert np.isfinite(reranker.scores(PAIRS)).all()
    assert reranker.manifest.receipt["rank_correlation"]["spearman"] > 0.5


def test_a_bundle_below_the_floor_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(FidelityError, match="rank correlation"):
        export_model(pair_folder(tmp_path / "model"), tmp_path / "out", floor=1.0, precision="int4")
    assert not (tmp_path / "out").exists()


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    source = pair_folder(tmp_path / "model")
    first, second = (export_model(source, tmp_path / name, name="x", floor=-1.0) for name in "ab")
    assert first.fingerprint == second.fingerprint
    assert first.golden == second.golden


def test_layer_by_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model too large for memory gives the same scores as one that is run as a whole."""
    source = pair_folder(tmp_path / "model")
    whole = [made(source, precision=precision).scores(PAIRS, raw=True) for precision in ("fp32", "int8")]
    monkeypatch.setattr(graph, "APART_BYTES", 512)
    monkeypatch.setattr(graph, "LARGEST", 10_000)
    assert layerwise.graph is graph
    for precision, expected in zip(("fp32", "int8"), whole, strict=True):
        reranker = made(source, precision=precision)
        assert WEIGHTS in reranker.manifest.files
        assert "speed" not in reranker.manifest.receipt
        assert np.array_equal(reranker.scores(PAIRS, raw=True), expected)


# what folders say


@pytest.mark.parametrize(
    ("file", "said", "expected"),
    [
        ("config.json", {}, "sigmoid"),
        ("config.json", {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, "identity"),
        ("config.json", {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, "identity"),
        (ST, {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.linear.Identity"}, "identity"),
        (ST, {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.activation.Sigmoid"}, "sigmoid"),
    ],
)
def test_activation(tmp_path: Path, file: str, said: dict[str, Any], expected: str) -> None:
    source = pair_folder(tmp_path / "model")
    change(source / file, **said)
    assert made(source).activation == expected


@pytest.mark.parametrize("name", ["torch.nn.modules.activation.Tanh", "mine.Sigmoid", "torch.nn.Softmax"])
def test_other_activations_are_refused_by_name(tmp_path: Path, name: str) -> None:
    source = pair_folder(tmp_path / "model")
    change(source / ST, model_type="CrossEncoder", activation_fn=name)
    with pytest.raises(ExportError, match=name):
        made(source)


def test_folders_of_todays_release(tmp_path: Path) -> None:
    """modules.json, sentence_bert_config.json and a default prompt, which stands before the first text."""
    source = pair_folder(tmp_path / "model")
    plain = made(source)
    module = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
    (source / "modules.json").write_text(json.dumps([module]))
    change(
        source / "sentence_bert_config.json",
        transformer_task="sequence-classification",
        modality_config={"text": {"method": "forward", "method_output_name": "logits"}},
        module_output_name="scores",
    )
    prompts = {"q": "the cat "}
    change(source / ST, model_type="CrossEncoder", prompts=prompts, default_prompt_name="q")
    reranker = made(source)
    assert reranker.prompts["q"] == "the cat "
    asked = [("river", "a bank")]
    assert np.array_equal(reranker.scores(asked), plain.scores([("the cat river", "a bank")]))
    assert np.array_equal(reranker.scores(asked, prompt=""), plain.scores(asked))


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("sentence_transformers.cross_encoder.modules.logit_score.LogitScore", "LogitScore"),
        ("sentence_transformers.base.modules.dense.Dense", "Dense"),
    ],
)
def test_modules_behind_the_classifier_are_refused(tmp_path: Path, kind: str, named: str) -> None:
    source = pair_folder(tmp_path / "model")
    transformer = "sentence_transformers.base.modules.transformer.Transformer"
    rows = [(transformer, ""), (kind, "1_X")]
    listed = [{"idx": i, "name": str(i), "path": path, "type": type_} for i, (type_, path) in enumerate(rows)]
    (source / "modules.json").write_text(json.dumps(listed))
    change(source / ST, model_type="CrossEncoder")
    with pytest.raises(UnsupportedModelError, match=named):
        made(source)


def test_tasks_that_score_nothing_are_refused(tmp_path: Path) -> None:
    source = pair_folder(tmp_path / "model")
    change(source / "sentence_bert_config.json", transformer_task="text-generation")
    with pytest.raises(ExportError, match="text-generation"):
        made(source)


def test_a_decoder_that_scores_by_words_is_refused(tmp_path: Path) -> None:
    source = pair_folder(tmp_path / "model", architectures=["Qwen3ForCausalLM"])
    change(source / ST, model_type="CrossEncoder")
    with pytest.raises(UnsupportedModelError, match="Qwen3ForCausalLM"):
        made(source)


@pytest.mark.parametrize("name", ["classifier.weight", "classifier.bias", "bert.pooler.dense.weight"])
def test_a_missing_tensor_is_refused(tmp_path: Path, name: str) -> None:
    source = pair_folder(tmp_path / "model")
    without(source, name)
    with pytest.raises(ExportError, match="not complete"):
        made(source)


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    source = pair_folder(tmp_path / "model", id2label={"0": "no", "1": "yes"})
    with pytest.raises(ExportError, match="2 labels, and the classifier 1"):
        made(source)


def test_a_head_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    source = pair_folder(
        tmp_path / "model", model_type="nomic_bert", architectures=["NomicBertForSequenceClassification"]
    )
    with pytest.raises(UnsupportedModelError, match="nomic_bert"):
        made(source)


def test_a_classifier_that_gives_the_same_for_all_pairs_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    source = pair_folder(tmp_path / "model")
    tensors = load_file(source / "model.safetensors")
    tensors["classifier.weight"] = np.zeros_like(tensors["classifier.weight"])
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(ExportError, match="all pairs alike"):
        made(source)


def test_types_are_no_input_where_the_tokenizer_gives_none(tmp_path: Path) -> None:
    """A folder whose model_input_names leave them out: all tokens are of type 0, as in the reference."""
    source = pair_folder(tmp_path / "model")
    typed = made(source)
    change(source / "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"])
    untyped = made(source)
    assert (typed.manifest.head["types"], untyped.manifest.head["types"]) == (True, False)
    assert not np.array_equal(typed.scores(PAIRS), untyped.scores(PAIRS))
    from safetensors.numpy import load_file

    tensors = load_file(source / "model.safetensors")
    ids, _ = untyped.row(*PAIRS[0]).T.tolist()
    expected = pair_logits(tensors, TINY, ids, [0] * len(ids))
    assert np.abs(untyped.scores(PAIRS[:1], raw=True) - expected).max() < 1e-5


# what is asked


def test_the_encoder_of_a_cross_encoder_is_had_by_asking(tmp_path: Path) -> None:
    source = pair_folder(tmp_path / "model")
    manifest = export_model(source, tmp_path / "dense", kind="dense", precision="fp32")
    assert "not trained for" in manifest.provenance["notes"]
    assert Embedder(tmp_path / "dense").encode(["a cat"]).shape == (1, 32)


def test_kind_rerank_needs_a_head(tmp_path: Path, checkpoint: Any) -> None:
    with pytest.raises(UnsupportedModelError, match="no sequence classification head"):
        export_model(checkpoint(), tmp_path / "out", kind="rerank")


@pytest.mark.parametrize("options", [{"graph": GraphOptions(convert=True)}, {"kind": "sparse"}])
def test_other_ways_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ExportError, match=r"cross-encoder"):
        export_model(pair_folder(tmp_path / "model"), tmp_path / "out", **options)


def test_options_of_vectors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="similarity is for models that give vectors"):
        export_model(pair_folder(tmp_path / "model"), tmp_path / "out", similarity="cosine")


def test_calibration_and_receipt_share_no_paragraph() -> None:
    """And every question has the paragraph that answers it at its place."""
    asked = questions("receipt")
    measured = {paragraph for question in asked for paragraph in question.paragraphs}
    assert measured.isdisjoint(second for _, second in calibration_pairs())
    assert all(len(question.paragraphs) == len(set(question.paragraphs)) for question in asked)
    assert all(first.strip() and second.strip() for first, second in calibration_pairs())


def test_rank_correlations() -> None:
    """Spearman and Kendall of small lists, with ties, by hand."""
    a = np.array([1.0, 2, 3, 4])
    assert spearman(a, a**3) == pytest.approx(1)
    assert spearman(a, -a) == pytest.approx(-1)
    assert spearman(a, np.array([1, 3, 2, 4])) == pytest.approx(0.8)
    assert kendall(a, np.array([1, 3, 2, 4])) == pytest.approx(4 / 6)
    assert kendall(a, np.array([1, 1, 2, 2])) == pytest.approx(4 / np.sqrt(6 * 4))
    assert spearman(np.ones(3), np.arange(3)) == kendall(np.ones(3), np.arange(3)) == 0.0
