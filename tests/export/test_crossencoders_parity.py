"""Cross-encoders beside sentence-transformers' CrossEncoder, on small random models of every family."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.kindfolders import change
from builders.pairfolders import PAIRS, cross_encoder

from edge_embed import Reranker
from edge_embed_export import export_model

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not find_spec("sentence_transformers"), reason="needs sentence-transformers (extra parity)"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("short_receipt"),
]
FAMILIES = [
    *("Bert", "Roberta", "XLMRoberta", "Camembert", "DistilBert", "Electra", "MPNet", "Albert", "Ernie"),
    *("MegatronBert", "Deberta", "DebertaV2", "ModernBert"),
]


def made(source: Path, **options: Any) -> Reranker:
    target = source.parent / f"{source.name}-bundle"
    export_model(source, target, **{"precision": "fp32", "floor": -1.0, "overwrite": True, "verify": "skip", **options})
    return Reranker(target, threads=1)


def predicted(source: Path, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of PAIRS by CrossEncoder, and scores."""
    import torch
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(source), device="cpu", **options)
    scores = model.predict(PAIRS)
    return model.predict(PAIRS, activation_fn=torch.nn.Identity()), scores


def check(reranker: Reranker, expected: tuple[np.ndarray, np.ndarray]) -> None:
    """Within 1e-4, long pairs among them, and a pair alone as among others."""
    raw, scores = reranker.scores(PAIRS, raw=True), reranker.scores(PAIRS)
    assert raw.shape == expected[0].shape
    assert np.abs(raw - expected[0]).max() < 1e-4
    assert np.abs(scores - expected[1]).max() < 1e-4
    assert np.array_equal(raw, np.array([reranker.scores([pair], raw=True)[0] for pair in PAIRS]))


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("kind", FAMILIES)
def test_families(tmp_path: Path, kind: str, labels: int) -> None:
    """A folder of transformers, and what CrossEncoder saves of it."""
    from sentence_transformers import CrossEncoder

    source, saved = cross_encoder(tmp_path / kind, kind, labels), tmp_path / "saved"
    expected = predicted(source)
    assert expected[0].std() > 0.02
    if labels == 1:
        check(made(source), expected)
    CrossEncoder(str(source), device="cpu").save_pretrained(str(saved))
    check(made(saved), expected)


@pytest.mark.parametrize("activation", ["Identity", "Sigmoid"])
@pytest.mark.parametrize("labels", [1, 3])
def test_activations_and_limits_that_are_saved(tmp_path: Path, activation: str, labels: int) -> None:
    import torch
    from sentence_transformers import CrossEncoder

    source, saved = cross_encoder(tmp_path / "model", labels=labels), tmp_path / "saved"
    own = getattr(torch.nn, activation)()
    CrossEncoder(str(source), device="cpu", max_length=23, activation_fn=own).save_pretrained(str(saved))
    reranker = made(saved)
    assert (reranker.activation, reranker.max_tokens) == (activation.lower(), 23)
    check(reranker, predicted(saved))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_modernbert_poolings(tmp_path: Path, pooling: str) -> None:
    source = cross_encoder(tmp_path / "model", "ModernBert", classifier_pooling=pooling)
    reranker = made(source)
    assert reranker.manifest.pooling == pooling
    check(reranker, predicted(source))


@pytest.mark.parametrize(("kind", "types"), [("Bert", 1), ("Electra", 2), ("DebertaV2", 2), ("Deberta", 0)])
def test_types_of_tokens(tmp_path: Path, kind: str, types: int) -> None:
    """Tables of one type, of two, and none."""
    from transformers import AutoTokenizer

    source = cross_encoder(tmp_path / "model", kind, type_vocab_size=types)
    if types == 1:  # torch cannot look type 1 up
        change(source / "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"])
    reranker = made(source)
    named = AutoTokenizer.from_pretrained(source).model_input_names
    assert reranker.manifest.head["types"] == (types == 2 and "token_type_ids" in named)
    check(reranker, predicted(source))


def test_prompts(tmp_path: Path) -> None:
    """A default prompt stands before the first text, as release 6 does it."""
    from sentence_transformers import CrossEncoder

    source, saved = cross_encoder(tmp_path / "model"), tmp_path / "saved"
    try:
        model = CrossEncoder(str(source), device="cpu", prompts={"q": "what is "}, default_prompt_name="q")
    except TypeError:
        pytest.skip("release 5 has no prompts")
    model.save_pretrained(str(saved))
    check(made(saved), predicted(saved))


@pytest.mark.parametrize(
    ("kind", "least"), [("Bert", 0.985), ("ModernBert", 0.99), ("DebertaV2", 0.99), ("XLMRoberta", 0.985)]
)
def test_int8_ranks_as_float32(tmp_path: Path, kind: str, least: float, whole_receipt: None) -> None:
    """Of random models that are wide enough for int8."""
    source = cross_encoder(tmp_path / "model", kind, hidden_size=128, intermediate_size=256)
    manifest = made(source, precision="int8").manifest
    assert manifest.receipt["pairs"] == 240
    assert manifest.receipt["rank_correlation"]["spearman"] >= least


def test_the_reference_is_asked(tmp_path: Path, with_reference: None) -> None:
    """--verify compares pairs, and refuses a bundle with other scores."""
    source = cross_encoder(tmp_path / "model")
    verified = made(source, verify="require").manifest.provenance["verified"]
    assert verified["texts"] == 64
    assert verified["largest_difference"] < 1e-4
