"""Bundles with a vector for each token: what a ColBERT model computes, markers, filled-up queries, MaxSim."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.bert import Checkpoints, bert
from builders.heads import multi_folder, rewrite
from safetensors.numpy import load_file

from edge_embed import Embedder
from edge_embed.errors import BundleFormatError, ExportError, GoldenError, InputError
from edge_embed_export import export_model
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.bundle.manifest import Golden
from edge_embed_runtime.vectors.maxsim import maxsim, maxsim_all

pytestmark = pytest.mark.usefixtures("short_receipt")
TEXTS = ["the river bank", "money at the bank and in the house", "a cat", "", "the dog is in the garden at night " * 9]
CLS, SEP, MASK, THE, A = 2, 3, 4, 5, 6


def unit(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def by_hand(source: Path, ids: list[int]) -> np.ndarray[Any, Any]:
    """A vector of length 1 for each token [n, dim], of tokens that all see each other."""
    config = json.loads((source / "config.json").read_text())
    weight = load_file(source / "1_Dense/model.safetensors")["linear.weight"]
    return unit(bert(load_file(source / "model.safetensors"), config, ids) @ weight.T.astype(np.float64))


@pytest.fixture
def source(checkpoint: Checkpoints) -> Path:
    return multi_folder(checkpoint())


@pytest.fixture
def fp32(source: Path, tmp_path: Path) -> Embedder:
    export_model(source, tmp_path / "fp32", precision="fp32")
    return Embedder(tmp_path / "fp32", threads=1)


def test_documents(source: Path, fp32: Embedder) -> None:
    """A document has its marker behind [CLS], is cut at its length, and does without the tokens of the skip list."""
    assert (fp32.kind, fp32.dim, fp32.max_tokens) == ("multi", 16, 24)
    vocabulary = fp32.tokenizer.vocabulary()
    skipped = {vocabulary["of"], vocabulary["is"]}
    for text, found in zip(TEXTS, fp32.encode_multi(TEXTS, role="document"), strict=True):
        content = fp32.tokenizer.encode(text).tolist()[1:-1][:21]
        ids = [CLS, THE, *content, SEP]
        expected = by_hand(source, ids)[[id_ not in skipped for id_ in ids]]
        assert np.abs(found - expected).max() < 1e-5


def test_queries_are_filled_up(source: Path, fp32: Embedder, tmp_path: Path, checkpoint: Checkpoints) -> None:
    """A query has 12 tokens, the last ones [MASK], which see others and are not seen, unless the settings say so."""
    queries = ["the bank of the river", "", "money " * 30]
    found = fp32.encode_multi(queries, role="query")
    assert [vectors.shape for vectors in found] == [(12, 16)] * 3
    whole = [CLS, A, *fp32.tokenizer.encode(queries[0]).tolist()[1:-1], SEP]
    assert np.abs(found[0][: len(whole)] - by_hand(source, whole)).max() < 1e-5  # as if there were no [MASK]
    seen = multi_folder(checkpoint("seen"), attend_to_expansion_tokens=True)
    export_model(seen, tmp_path / "out" / "seen", precision="fp32")
    (vectors,) = Embedder(tmp_path / "out" / "seen").encode_multi([queries[0]], role="query")
    assert np.abs(vectors - by_hand(seen, whole + [MASK] * (12 - len(whole)))).max() < 1e-5
    plain = multi_folder(checkpoint("plain"), do_query_expansion=False, query_prefix=None)
    export_model(plain, tmp_path / "out" / "plain", precision="fp32")
    (vectors,) = Embedder(tmp_path / "out" / "plain").encode_multi([queries[0]], role="query")
    assert np.abs(vectors - by_hand(plain, [CLS, *whole[2:]])).max() < 1e-5


def test_int8_stays_close_and_texts_have_one_result(source: Path, fp32: Embedder, tmp_path: Path) -> None:
    """int8 keeps a mean cosine of 0.985 at the tokens of a random model; the same bits alone and in any batch."""
    export_model(source, tmp_path / "int8")
    embedder = Embedder(tmp_path / "int8", threads=1)
    for role in ("query", "document"):
        vectors, expected = embedder.encode_multi(TEXTS, role=role), fp32.encode_multi(TEXTS, role=role)
        cosines = np.concatenate([(a * b).sum(axis=1) for a, b in zip(vectors, expected, strict=True)])
        assert cosines.mean() > 0.985
        for other in (
            [embedder.encode_multi([text], role=role)[0] for text in TEXTS],
            embedder.encode_multi(TEXTS[::-1], role=role, batch_tokens=9)[::-1],
            Embedder(tmp_path / "int8", threads=2).encode_multi(TEXTS * 20, role=role)[:5],
        ):
            assert all(np.array_equal(a, b) for a, b in zip(vectors, other, strict=True))
    receipt = embedder.manifest.receipt
    assert receipt["cosine_to_fp32"]["mean"] > 0.985
    assert 0 <= receipt["retrieval"]["same_top10"] <= 1
    assert receipt["vectors_per_text"] > 2


def test_colberts_own_folder(checkpoint: Checkpoints, source: Path, tmp_path: Path) -> None:
    """artifact.metadata and `linear.weight` among the model's tensors say the same as PyLate's files."""
    folder = checkpoint("colbert")
    (folder / "modules.json").unlink()
    rewrite(folder, {"linear.weight": load_file(source / "1_Dense/model.safetensors")["linear.weight"]})
    settings = {
        "query_maxlen": 12,
        "doc_maxlen": 24,
        "query_token_id": "a",
        "doc_token_id": "the",
        "attend_to_mask_tokens": False,
        "mask_punctuation": False,
    }
    (folder / "artifact.metadata").write_text(json.dumps(settings))
    config = json.loads((source / "config_sentence_transformers.json").read_text())
    (source / "config_sentence_transformers.json").write_text(json.dumps({**config, "skiplist_words": []}))
    for model in (folder, source):
        export_model(model, tmp_path / "out" / model.name, precision="fp32")
    one, other = (
        Embedder(tmp_path / "out" / model.name).encode_multi(TEXTS, role="query") for model in (folder, source)
    )
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_maxsim() -> None:
    """Each vector of the query counts with the nearest of the document; several documents at once give the same."""
    random = np.random.default_rng(0)
    query, documents = random.standard_normal((4, 8)), [random.standard_normal((n, 8)) for n in (3, 1, 5)]
    expected = [sum(max(float(q @ d) for d in document) for q in query) for document in documents]
    assert [maxsim(query, document) for document in documents] == pytest.approx(expected, rel=1e-5)
    together = np.concatenate(documents).astype(np.float32)
    assert maxsim_all(query.astype(np.float32), together, np.array([0, 3, 4])) == pytest.approx(expected, rel=1e-5)
    for wrong in (np.ones((2, 7)), np.ones(8), np.ones((0, 8))):
        with pytest.raises(InputError, match="maxsim compares"):
            maxsim(query, wrong)


def test_other_methods_name_the_right_one(fp32: Embedder) -> None:
    with pytest.raises(InputError, match="a vector for each token: call encode_multi"):
        fp32.encode(["a"])
    with pytest.raises(InputError, match="expected one of"):
        fp32.encode_multi(["a"], role="nobody")
    assert fp32.encode_multi([]) == []


def test_golden_vectors_of_tokens(fp32: Embedder) -> None:
    """A machine must reproduce the vectors of all tokens of the golden texts."""
    bundle = read_bundle(fp32.path)
    golden = bundle.manifest.golden[0]
    assert len(golden.vector) == 16 * len(fp32.tokenizer.encode(golden.text))
    for vector in (golden.vector[::-1], golden.vector[:16]):
        wrong = replace(bundle.manifest, golden=[Golden(golden.text, vector)])
        with pytest.raises(GoldenError):
            Embedder(replace(bundle, manifest=wrong))


@pytest.mark.parametrize("change", [{"skip": None}, {"query_length": 2}, {"query_length": 99}, {"expansion": "x"}])
def test_head_that_cannot_be(fp32: Embedder, change: dict[str, Any]) -> None:
    """A manifest without a sound head is named when texts are to be marked."""
    bundle = read_bundle(fp32.path)
    damaged = replace(bundle.manifest, head={**bundle.manifest.head, **change})
    with pytest.raises(BundleFormatError, match="the bundle 'fp32'"):
        Embedder(replace(bundle, manifest=damaged)).encode_multi(["a"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"query_prefix": "[Q] "}, "marker"),
        ({"query_length": 0}, "expected a whole number of 4 or more"),
        ({"query_length": 1000}, "tokens"),
        ({"document_length": "long"}, "document_length is 'long'"),
        ({"document_length": None}, "document_length is missing: PyLate takes 180"),
        ({"attend_to_expansion_tokens": "yes"}, "attend_to_expansion_tokens is 'yes'"),
        ({"skiplist_words": "."}, "expected a list of tokens"),
        ({"query_expansion": {"strategy": "min"}}, "query_expansion is known in sentence_bert_config"),
    ],
)
def test_settings_that_cannot_be(
    checkpoint: Checkpoints, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        export_model(multi_folder(checkpoint(), **settings), tmp_path / "refused")
