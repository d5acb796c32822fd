"""`mmr`: the order is that of the formula as LangChain has it, scores stay, all modes with dense vectors know it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_embed import Document, Embedder, Index
from edge_embed.errors import InputError
from edge_embed_runtime.search.diversity import mmr_order, spread
from edge_embed_runtime.search.query import DIVERSE_LEAST, DIVERSE_MOST
from edge_embed_runtime.vectors.int8 import dequantize, quantize_int8
from edge_embed_runtime.vectors.normalize import normalize

DIM = 32


def reference(query: Any, vectors: Any, lambda_mult: float, k: int) -> list[int]:
    """Maximal marginal relevance as langchain_core.vectorstores.utils defines it: the most similar first, then the
    largest lambda_mult * similarity to the query - (1 - lambda_mult) * largest similarity to those chosen."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = unit @ (query / np.linalg.norm(query))
    chosen = [int(np.argmax(near))]
    while len(chosen) < min(k, len(vectors)):
        best, best_score = -1, -np.inf
        for i in range(len(vectors)):
            if i in chosen:
                continue
            score = lambda_mult * near[i] - (1 - lambda_mult) * max(float(unit[i] @ unit[j]) for j in chosen)
            if score > best_score:
                best, best_score = i, score
        chosen.append(best)
    return chosen


def groups(seed: int, count: int = 40) -> Any:
    """Vectors in a few groups, so that the nearest are alike."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((6, DIM))
    return normalize((centres[random.integers(0, 6, count)] + 0.4 * random.standard_normal((count, DIM))).astype("f4"))


@pytest.mark.parametrize("mmr", [0.0, 0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_order_is_that_of_the_reference(tmp_path: Path, seed: int, mmr: float) -> None:
    """Over the vectors that are stored, of 40 documents, which are all candidates; each hit keeps its cosine."""
    vectors = groups(seed)
    query = groups(seed + 100, 1)[0]
    stored = dequantize(*quantize_int8(vectors)).astype(np.float64)
    with Index.create(tmp_path / "v.db", space="s", dim=DIM) as index:
        index.add_vectors([Document(str(i), "") for i in range(len(vectors))], vectors)
        hits = index.search(vector=query, mmr=mmr)
        plain = {hit.key: hit.score for hit in index.search(vector=query, k=len(vectors))}
    assert [int(hit.key) for hit in hits] == reference(query.astype(np.float64), stored, mmr, 10)
    assert all(hit.score == plain[hit.key] for hit in hits)


def test_candidates_are_the_best_four_for_each_hit(tmp_path: Path) -> None:
    """And 50 at the least: with `mmr=0` the hits come from the best 80 for k = 20, from the best 50 for k = 10."""
    vectors, query = groups(7, 400), groups(8, 1)[0]
    with Index.create(tmp_path / "v.db", space="s", dim=DIM) as index:
        index.add_vectors([Document(str(i), "") for i in range(len(vectors))], vectors)
        order = [hit.key for hit in index.search(vector=query, k=400, recall=1)]
        for k, candidates in ((10, DIVERSE_LEAST), (20, 80)):
            hits = [hit.key for hit in index.search(vector=query, k=k, mmr=0.0, recall=1)]
            assert len(set(hits)) == k
            assert max(map(order.index, hits)) < candidates
            assert max(map(order.index, hits)) >= k


def test_equal_vectors_come_last() -> None:
    """Copies of the best hit give way to anything else; of equal candidates the earlier comes first."""
    vectors = np.array([[1, 0], [1, 0], [1, 0], [0.6, 0.8], [0.6, 0.8]], np.float64)
    assert mmr_order(vectors[:, 0], vectors, 0.3, 5) == [0, 3, 1, 2, 4]
    assert mmr_order(vectors[:, 0], vectors, 1.0, 3) == [0, 1, 2]
    assert mmr_order(np.empty(0), np.empty((0, 2)), 0.5, 3) == []


def test_scores_of_other_modes_are_spread() -> None:
    assert spread(np.array([2.0, 6.0, 4.0])).tolist() == [0, 1, 0.5]
    assert spread(np.array([3.0, 3.0])).tolist() == [1, 1]
    assert spread(np.empty(0)).tolist() == []


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Path:
    path = tmp_path_factory.mktemp("index") / "docs.db"
    texts = [f"How to bake bread with {what} at home" for what in ("rye", "rye flour", "rye meal", "wheat", "yeast")]
    texts += ["Bread riots in the city", "The price of bread rises", "A train to the bread museum", "Snow in April"]
    with Index.open(path, embedder) as index:
        index.add([Document(f"d{i}", text, {"even": i % 2 == 0}) for i, text in enumerate(texts)])
    return path


@pytest.mark.parametrize("mode", ["vector", "hybrid", "text"])
def test_every_mode_has_it(path: Path, embedder: Embedder, mode: Any) -> None:
    """1 gives the order of the scores; 0.3 other hits, with the scores that they had; `where` holds."""
    with Index.open(path, embedder, read_only=True) as index:
        plain = index.search("baking bread with rye", k=4, mode=mode)
        assert index.search("baking bread with rye", k=4, mode=mode, mmr=1.0) == plain
        diverse = index.search("baking bread with rye", k=4, mode=mode, mmr=0.3)
        assert diverse[0] == plain[0]
        assert diverse != plain
        scores = {hit.key: hit.score for hit in index.search("baking bread with rye", k=9, mode=mode)}
        assert all(hit.score == pytest.approx(scores[hit.key], abs=1e-6) for hit in diverse)
        even = index.search("baking bread with rye", k=4, where={"even": True}, mode=mode, mmr=0.3)
        assert all(hit.metadata["even"] for hit in even)


def test_a_budget_leaves_the_order(path: Path, embedder: Embedder) -> None:
    with Index.open(path, embedder, read_only=True) as index:
        expected = index.search("bread", mmr=0.4)
    with Index.open(path, embedder, read_only=True, max_rss_mb=3000) as index:
        assert index.search("bread", mmr=0.4) == expected


@pytest.mark.parametrize("mmr", [-0.1, 1.1, "0.5", True, float("nan")])
def test_what_is_no_part_is_refused(path: Path, embedder: Embedder, mmr: Any) -> None:
    with Index.open(path, embedder, read_only=True) as index:
        with pytest.raises(InputError, match=r"mmr is .*, expected a number from 0 to 1"):
            index.search("bread", mmr=mmr)
        with pytest.raises(InputError, match=f"mmr is for at most {DIVERSE_MOST} hits"):
            index.search("bread", k=DIVERSE_MOST + 1, mmr=0.5)


def test_a_document_without_a_vector_is_like_no_other(tmp_path: Path) -> None:
    """Words find it, and it is no less a hit than others."""
    with Index.create(tmp_path / "v.db", space="s", dim=2) as index:
        documents = [Document(key, "bread") for key in "abc"]
        index.add_vectors(documents, [[1, 0], [1, 0], None])
        assert [hit.key for hit in index.search("bread", mode="text", mmr=0.5)] == ["a", "c", "b"]
        assert index.damaged == []
