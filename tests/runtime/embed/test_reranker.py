"""reranker.py: pairs of texts to scores."""

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.bert import pair_folder

from edge_embed import Embedder, Ranked, Reranker
from edge_embed.errors import (
    BundleError,
    BundleFormatError,
    DeadlineError,
    GoldenError,
    InputError,
    MemoryBudgetError,
)
from edge_embed_export import export_model
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.bundle.manifest import read_manifest
from edge_embed_runtime.model import deadline

WORDS = "the river bank", "money at the bank", "a cat", "", "the dog is in the garden at night " * 9, "red blue"
PAIRS = [(first, second) for first in WORDS for second in WORDS]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles of a small random cross-encoder: with one label, in int8 and float32, and with three."""
    base = tmp_path_factory.mktemp("rerank")
    made = {"int8": 1, "fp32": 1, "three": 3}
    with pytest.MonkeyPatch.context() as patch:
        from edge_embed_export.calibration import pairs as calibrated
        from edge_embed_export.receipt import pairs as measured

        for module in (calibrated, measured):
            patch.setattr(module, "QUESTIONS", 4)
        patch.setattr(calibrated, "CUT_TEXTS", 32)
        for name, labels in made.items():
            source = pair_folder(base / f"{name}-source", labels=labels)
            precision = "int8" if name == "int8" else "fp32"
            export_model(source, base / name, precision=precision, floor=-1.0, verify="skip")
    return {name: base / name for name in made}


@pytest.fixture(scope="module")
def reranker(folders: dict[str, Path]) -> Reranker:
    return Reranker(folders["int8"], threads=1)


def test_a_pair_has_one_score(folders: dict[str, Path]) -> None:
    """The same bits alone, in any order and batch, and on two threads; in int8, float32 and with three labels."""
    for folder in folders.values():
        model = Reranker(folder, threads=1)
        whole = model.scores(PAIRS, raw=True)
        alone = np.array([model.scores([pair], raw=True)[0] for pair in PAIRS])
        assert np.array_equal(whole, alone)
        assert np.array_equal(model.scores(PAIRS[::-1], raw=True), whole[::-1])
        assert np.array_equal(model.scores(PAIRS, raw=True, batch_tokens=1), whole)
        assert np.array_equal(Reranker(folder, threads=2).scores(PAIRS, raw=True), whole)


def test_the_order_of_a_pair_matters(reranker: Reranker) -> None:
    first, second = "the river bank", "a cat"
    assert reranker.scores([(first, second)]) != reranker.scores([(second, first)])


def test_rerank_is_the_order_of_scores(reranker: Reranker) -> None:
    """Best first, of equal scores the first given; a score is a number of its own."""
    texts = [*WORDS, *WORDS]
    found = reranker.rerank("the bank", texts)
    scores = reranker.scores([("the bank", text) for text in texts])
    assert [ranked.index for ranked in found] == np.argsort(-scores, kind="stable").tolist()
    assert all(type(ranked.score) is float and ranked.score == scores[ranked.index] for ranked in found)
    assert reranker.rerank("the bank", texts, top_k=3) == found[:3]
    assert reranker.rerank("the bank", texts, top_k=99) == found
    assert reranker.rerank("the bank", []) == []
    assert isinstance(found[0], Ranked)


def test_activation(reranker: Reranker, folders: dict[str, Path]) -> None:
    """One label: a sigmoid where nothing else is said; several stay as they are."""
    raw = reranker.scores(PAIRS, raw=True)
    assert reranker.activation == "sigmoid"
    assert np.abs(reranker.scores(PAIRS) - 1 / (1 + np.exp(-raw.astype(np.float64)))).max() < 1e-7
    three = Reranker(folders["three"])
    assert three.activation == "identity"
    assert three.scores(PAIRS).shape == (len(PAIRS), 3)
    assert np.array_equal(three.scores(PAIRS), three.scores(PAIRS, raw=True))
    assert three.labels == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_several_labels_rank_nothing(folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="3 numbers for a pair"):
        Reranker(folders["three"]).rerank("a", ["b"])


def test_extreme_numbers_have_scores() -> None:
    from edge_embed_runtime.embed.reranker import sigmoid

    with np.errstate(over="raise", invalid="raise", divide="raise"):
        found = sigmoid(np.array([-1e30, -90, 0, 90, 1e30], np.float32))
    assert found.dtype == np.float32
    assert found[[0, 2, 4]].tolist() == [0, 0.5, 1]


def test_prompts(reranker: Reranker) -> None:
    """A prompt stands before the first text alone."""
    expected = reranker.scores([("the river bank", "a cat")])
    assert np.array_equal(reranker.scores([("bank", "a cat")], prompt="the river "), expected)
    assert not np.array_equal(reranker.scores([("bank", "a cat")]), expected)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("ab", "list of pairs"),
        (7, "list of pairs"),
        ({"a": "b"}, "list of pairs"),
        (["ab"], "pair 0 is 'ab'"),
        ([("a", "b"), ("a",)], "pair 1"),
        ([("a", 7)], "text 1 of pair 0"),
        ([("a\ud800", "b")], "lone surrogate"),
    ],
)
def test_what_is_no_pair_is_refused(reranker: Reranker, pairs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        reranker.scores(pairs)


@pytest.mark.parametrize(
    ("query", "texts", "options", "message"),
    [
        (b"q", ["a"], {}, "the query"),
        ("q", "a", {}, "rerank takes a list of texts"),
        ("q", [None], {}, "text 0"),
        ("q", ["a"], {"top_k": 0}, "top_k"),
        ("q", ["a"], {"top_k": True}, "top_k"),
        ("q", ["a"], {"prompt": 3}, "the prompt"),
    ],
)
def test_what_cannot_be_reranked_is_refused(
    reranker: Reranker, query: Any, texts: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        reranker.rerank(query, texts, **options)


def test_bundles_of_another_kind_are_refused(folders: dict[str, Path], bundle: Path) -> None:
    """Either way, by name, and also where an index or a command would embed."""
    with pytest.raises(InputError, match="load it with Embedder"):
        Reranker(bundle)
    with pytest.raises(InputError, match="load it with Reranker"):
        Embedder(folders["int8"])


def test_pickled(reranker: Reranker, folders: dict[str, Path], tmp_path: Path) -> None:
    """It is its path and options; another bundle in that place is refused."""
    copied = pickle.loads(pickle.dumps(reranker))  # noqa: S301 - our own
    assert copied.threads == 1
    assert np.array_equal(copied.scores(PAIRS), reranker.scores(PAIRS))
    folders["int8"].rename(tmp_path / "away")
    stored = pickle.dumps(reranker)
    folders["fp32"].rename(folders["int8"])
    try:
        with pytest.raises(BundleError, match="is another here"):
            pickle.loads(stored)  # noqa: S301 - our own
    finally:
        folders["int8"].rename(folders["fp32"])
        (tmp_path / "away").rename(folders["int8"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_told(reranker: Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(InputError, match="before a fork") as caught:
        reranker.scores([("a", "b")])
    assert caught.value.code == "forked"


def test_a_budget_changes_no_score(reranker: Reranker, folders: dict[str, Path]) -> None:
    limited = Reranker(folders["int8"], threads=1, max_rss_mb=2000)
    assert limited.predicted_peak > 0
    assert np.array_equal(limited.scores(PAIRS), reranker.scores(PAIRS))
    with pytest.raises(MemoryBudgetError, match="cannot be kept"):
        Reranker(folders["int8"], max_rss_mb=1)


def test_a_model_that_hangs_is_ended(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = Reranker(folders["int8"], threads=1)

    def late(*_: Any) -> Any:
        raise DeadlineError("the model gave no vectors within 60 s and was ended", limit_seconds=60)

    monkeypatch.setattr(deadline, "run", late)
    with pytest.raises(DeadlineError, match="was ended"):
        model.scores([("a", "b")])


def test_golden_pairs_are_checked(folders: dict[str, Path]) -> None:
    """A machine that gets other numbers says so; scores that differ by less than they are apart pass."""
    loaded = read_bundle(folders["int8"])
    golden = loaded.manifest.golden
    assert len(golden) == 12
    assert Reranker(loaded).golden_cosine > 0.999999
    wrong = [replace(one, vector=[x + 0.3 * (-1) ** i for x in one.vector]) for i, one in enumerate(golden)]
    with pytest.raises(GoldenError, match="does not reproduce"):
        Reranker(replace(loaded, manifest=replace(loaded.manifest, golden=wrong)))


@pytest.mark.parametrize(
    "head",
    [
        {},
        {"activation": "softmax", "types": True, "labels": ["x"]},
        {"activation": "sigmoid", "types": 1, "labels": ["x"]},
        {"activation": "sigmoid", "types": True, "labels": ["x", "y"]},
    ],
)
def test_heads_that_say_nothing_are_refused(folders: dict[str, Path], head: dict[str, Any]) -> None:
    loaded = read_bundle(folders["int8"])
    with pytest.raises(BundleFormatError):
        Reranker(replace(loaded, manifest=replace(loaded.manifest, head=head)))


def test_types_that_the_model_does_not_take_are_refused(folders: dict[str, Path]) -> None:
    loaded = read_bundle(folders["int8"])
    head = {**loaded.manifest.head, "types": False}
    with pytest.raises(BundleFormatError, match="token_type_ids"):
        Reranker(replace(loaded, manifest=replace(loaded.manifest, head=head)))


def test_manifest(folders: dict[str, Path], tmp_path: Path) -> None:
    """It has pairs, survives reading, and a head with what it does not know is refused."""
    stored = json.loads((folders["int8"] / "manifest.json").read_text())
    assert stored["kind"] == "rerank"
    assert stored["head"] == {"activation": "sigmoid", "types": True, "labels": ["LABEL_0"]}
    assert {"text", "second", "vector"} == stored["golden"][0].keys()
    manifest = read_manifest(folders["int8"] / "manifest.json")
    assert manifest.to_json() == (folders["int8"] / "manifest.json").read_bytes()
    odd = replace(manifest, head={**manifest.head, "expansion": 3})
    (tmp_path / "manifest.json").write_bytes(odd.to_json())
    with pytest.raises(BundleFormatError, match="expansion"):
        read_manifest(tmp_path / "manifest.json")
