"""A bundle that scores pairs beside the CrossEncoder whose methods it has, on the same weights in float."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from builders.pairfolders import PAIRS

from edge_embed.errors import InputError
from edge_embed.integrations.sentence_transformers import CrossEncoder
from edge_embed_export import export_model
from edge_embed_export.calibration import pairs as calibrated
from edge_embed_export.receipt import pairs as measured

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("sentence_transformers")

from builders.pairfolders import cross_encoder
from sentence_transformers.cross_encoder import evaluation

pytestmark = pytest.mark.frameworks


class Both(NamedTuple):
    ours: CrossEncoder
    real: Any


@pytest.fixture(scope="module", params=[1, 3])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """A small random model with one number for a pair, or three."""
    folder = tmp_path_factory.mktemp("pairs")
    source = cross_encoder(folder / "model", labels=request.param)
    with pytest.MonkeyPatch.context() as patch:
        for module in (calibrated, measured):
            patch.setattr(module, "QUESTIONS", 4)
        patch.setattr(calibrated, "CUT_TEXTS", 32)
        export_model(source, folder / "bundle", precision="fp32", floor=-1.0, verify="skip")
    return Both(CrossEncoder(folder / "bundle", threads=1), theirs.CrossEncoder(str(source), device="cpu"))


def shape(value: Any) -> Any:
    if isinstance(value, list):
        return [shape(one) for one in value]
    return type(value), tuple(value.shape), str(value.dtype)


@pytest.mark.parametrize("options", [
    {}, {"convert_to_tensor": True}, {"convert_to_numpy": False}, {"apply_softmax": True},
    {"activation_fn": torch.nn.Identity()}, {"activation_fn": torch.nn.Tanh(), "convert_to_tensor": True},
])  # fmt: skip
@pytest.mark.parametrize("inputs", [PAIRS, PAIRS[0], list(PAIRS[1]), [], np.array(PAIRS[:2])], ids=str)
def test_predict_gives_the_same(both: Both, options: dict[str, Any], inputs: Any) -> None:
    """Type, shape, dtype and numbers; one pair is no list of pairs."""
    found, expected = (model.predict(inputs, **options) for model in both)
    assert shape(found) == shape(expected)
    if len(inputs):
        found, expected = (torch.stack(v) if isinstance(v, list) else v for v in (found, expected))
        np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=2e-4)
    assert both.ours.num_labels == both.real.num_labels


@pytest.mark.parametrize("both", [1], indirect=True)
def test_rank_gives_the_same(both: Both) -> None:
    """Places, scores and texts, best first."""
    query, texts = PAIRS[0][0], [second for _, second in PAIRS]
    found, expected = (model.rank(query, texts, top_k=5, return_documents=True) for model in both)
    assert [hit["text"] for hit in found] == [hit["text"] for hit in expected]
    assert [set(map(type, hit.values())) for hit in found] == [set(map(type, hit.values())) for hit in expected]
    np.testing.assert_allclose([hit["score"] for hit in found], [hit["score"] for hit in expected], atol=2e-4)
    assert all("text" not in hit for hit in both.ours.rank(query, texts))
    for options in ({"convert_to_tensor": True}, {"sentences": []}, {"pool": {}}):
        with pytest.raises(InputError, match=next(iter(options))):
            both.ours.rank(query, texts, **options)


@pytest.mark.parametrize("both", [3], indirect=True)
def test_several_numbers_rank_nothing(both: Both) -> None:
    for model, said in zip(both, ("do not rank", "num_labels=1"), strict=True):
        with pytest.raises(ValueError, match=said):
            model.rank("the river bank", ["the cat"])


@pytest.mark.parametrize("both", [1], indirect=True)
def test_reranking_evaluator_runs(both: Both) -> None:
    samples = [{"query": PAIRS[0][0], "positive": [PAIRS[1][1]], "negative": [PAIRS[0][1], PAIRS[2][1]]}]
    found, expected = (
        evaluation.CrossEncoderRerankingEvaluator(samples, show_progress_bar=False)(model) for model in both
    )
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"pool": {"a": 1}}, "'pool'"), ({"device": "cuda"}, "cuda"), ({"batch_size": 0}, "batch_size is 0"),
     ({"prompt_name": "none"}, "prompt_name is 'none'"), ({"processing_kwargs": {}}, "'processing_kwargs'")],
)  # fmt: skip
def test_unknown_is_refused_by_name(both: Both, options: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        both.ours.predict(PAIRS, **options)


@pytest.mark.parametrize("inputs", [None, "text", ["a", "b", "c"], [("a",)], [("a", None)], {"a": "b"}])
def test_inputs_that_are_no_pairs(both: Both, inputs: Any) -> None:
    with pytest.raises(InputError):
        both.ours.predict(inputs)


def test_parameters_of_the_hub_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'trust_remote_code'"):
        CrossEncoder(tmp_path, trust_remote_code=True)
