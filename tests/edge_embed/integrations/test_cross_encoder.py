"""A bundle that scores pairs beside the CrossEncoder whose methods it has, on the same weights in float."""

from collections.abc import Iterator
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
    {"activation_fn": lambda logits: logits * torch.nn.Parameter(torch.tensor(2.0))},
    {"activation_fn": lambda logits: (logits > 0).bfloat16()},
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
    assert both.ours.max_seq_length == both.ours.max_length == both.real.max_seq_length


@pytest.fixture
def changed(both: Both) -> Iterator[Both]:
    """Both, whose attributes are put back."""
    before = [(model, dict(model.prompts), model.default_prompt_name, model.activation_fn) for model in both]
    yield both
    for model, prompts, name, function in before:
        model.prompts, model.default_prompt_name, model.activation_fn = prompts, name, function


def test_attributes_count(changed: Both) -> None:
    """A prompt by name, the one that is the default, and an activation, where a call gives none."""
    for model in changed:
        model.prompts["about"], model.activation_fn = "the river ", torch.nn.Identity()
    for options in ({"prompt_name": "about"}, {}):
        found, expected = (model.predict(PAIRS, **options) for model in changed)
        np.testing.assert_allclose(found, expected, atol=2e-4)
    for model in changed:
        model.default_prompt_name = "about"
    prompted, expected = (model.predict(PAIRS) for model in changed)
    np.testing.assert_allclose(prompted, expected, atol=2e-4)
    assert not np.allclose(prompted, found, atol=2e-4)
    assert np.allclose(changed.ours.predict(PAIRS, prompt=""), found)
    changed.ours.default_prompt_name = "none"
    with pytest.raises(InputError, match="prompt_name is 'none', expected one of about"):
        changed.ours.predict(PAIRS)


def test_parameters_of_the_constructor(both: Both) -> None:
    """What may be set later may be given at once; the length is the bundle's."""
    options = {"prompts": {"about": "the river "}, "default_prompt_name": "about", "activation_fn": torch.nn.Tanh()}
    made = CrossEncoder(both.ours.reranker.path, threads=1, max_length=both.ours.max_seq_length, **options)
    expected = both.ours.predict(PAIRS, prompt="the river ", activation_fn=torch.nn.Tanh())
    np.testing.assert_array_equal(made.predict(PAIRS), expected)
    with pytest.raises(InputError, match="max_seq_length is 512, expected"):
        CrossEncoder(both.ours.reranker.path, max_length=512)
    with pytest.raises(InputError, match="default_prompt_name is 'none'"):
        CrossEncoder(both.ours.reranker.path, default_prompt_name="none")


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


@pytest.mark.parametrize("both", [1], indirect=True)
@pytest.mark.parametrize("documents", ["the river bank", {"a"}, None, ["a", None]], ids=str)
def test_rank_takes_a_list_of_texts(both: Both, documents: Any) -> None:
    """The letters of one text are no documents."""
    with pytest.raises(InputError, match=r"rank takes a list of texts|text 1 is NoneType"):
        both.ours.rank("the river bank", documents)


@pytest.mark.parametrize("both", [3], indirect=True)
def test_several_numbers_rank_nothing(both: Both) -> None:
    for model, said in zip(both, ("do not rank", "num_labels=1"), strict=True):
        with pytest.raises(ValueError, match=said):
            model.rank("the river bank", ["the cat"])


@pytest.mark.parametrize("both", [1], indirect=True)
def test_evaluators_of_theirs_run(both: Both) -> None:
    """Those that need no network measure what they measure on the model itself."""
    samples = [{"query": PAIRS[0][0], "positive": [PAIRS[1][1]], "negative": [PAIRS[0][1], PAIRS[2][1]]}]
    for evaluator in (
        evaluation.CrossEncoderRerankingEvaluator(samples, show_progress_bar=False),
        evaluation.CrossEncoderCorrelationEvaluator(PAIRS[:4], [0.1, 0.9, 0.4, 0.3]),
        evaluation.CrossEncoderClassificationEvaluator(PAIRS[:4], [0, 1, 1, 0], show_progress_bar=False),
    ):
        found, expected = (model.evaluate(evaluator) for model in both)
        assert found == pytest.approx(expected, abs=1e-3)
        assert dict(found) in both.ours.model_card_data.metrics.values()


@pytest.mark.parametrize("both", [3], indirect=True)
def test_classes_are_evaluated(both: Both) -> None:
    evaluator = evaluation.CrossEncoderClassificationEvaluator(PAIRS[:4], [0, 1, 2, 0], show_progress_bar=False)
    assert both.ours.evaluate(evaluator) == pytest.approx(both.real.evaluate(evaluator))


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
