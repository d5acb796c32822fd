"""What quantization lost, in figures that go into the manifest."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.vectors.int8 import dequantize, quantize_int8
from edge_embed_runtime.vectors.rotation import Frame
from edge_embed_runtime.vectors.scores import score_int8

Vectors = NDArray[np.float32]
Qrels = Mapping[str, Mapping[str, int]]
Ranked = Mapping[str, Sequence[str]]

DEPTH = 10
FIGURES = ("ndcg@10", "recall@10", "mrr@10")


def cosine_receipt(reference: Vectors, vectors: Vectors) -> dict[str, Any]:
    """Cosine of each vector [n, d] to its reference: mean, 5th percentile and minimum, to four places."""
    cosines = (reference * vectors).sum(axis=1)
    figures = {"mean": cosines.mean(), "p5": np.percentile(cosines, 5), "min": cosines.min()}
    return {
        "texts": len(cosines),
        "cosine_to_fp32": {key: round(float(value), 4) for key, value in figures.items()},
    }


def spearman(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Spearman's rank correlation of two lists of numbers [n]; equal numbers share the mean of their ranks."""
    a, b = _ranks(first), _ranks(second)
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size else 0.0


def kendall(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Kendall's tau-b of two lists of numbers [n]: the share of pairs in the same order, less that in the other."""
    a, b = (np.sign(x[:, None] - x[None, :]) for x in (first.astype(np.float64), second.astype(np.float64)))
    size = math.sqrt(float((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size else 0.0


def _ranks(numbers: NDArray[Any]) -> NDArray[np.float64]:
    """[3, 1, 3] -> [1.5, 0, 1.5]."""
    _, places, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2)[places]


def score(ranked: Ranked, judgements: Qrels) -> dict[str, float]:
    """nDCG@10 (gain = grade, as trec_eval has it), recall@10 and MRR@10, each the mean over the queries."""
    totals = dict.fromkeys(FIGURES, 0.0)
    for query, grades in judgements.items():
        # some collections judge with negative grades: as much worth as none
        gains = [max(0, grades.get(document, 0)) for document in ranked[query][:DEPTH]]
        ideal = sorted((max(0, grade) for grade in grades.values()), reverse=True)[:DEPTH]
        relevant = sum(grade > 0 for grade in grades.values())
        first = next((rank for rank, gain in enumerate(gains, start=1) if gain > 0), None)
        totals["ndcg@10"] += _dcg(gains) / _dcg(ideal)
        totals["recall@10"] += sum(gain > 0 for gain in gains) / relevant
        totals["mrr@10"] += 1 / first if first else 0.0
    return {name: total / len(judgements) for name, total in totals.items()}


def _dcg(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))


def rank_tiers(
    keys: Sequence[str], vectors: Vectors, queries: Sequence[str], asked: Vectors, frame: Frame
) -> dict[str, tuple[Ranked, int]]:
    """The best documents of each query by storage tier - float, int8, binary - with bytes per vector.

    keys, vectors:  the documents, [n] and [n, dim]
    queries, asked: the queries, [q] and [q, dim]
    frame:          how binary codes are made; the query's numbers are compared with the documents' bits
    """
    dim = vectors.shape[1]
    codes, scales = quantize_int8(vectors)
    signs = np.where(frame.place(dequantize(codes, scales)) > 0, np.float32(1), np.float32(-1))
    placed = frame.place(asked)

    def best(scores: Callable[[int], NDArray[Any]]) -> Ranked:
        return {q: [keys[j] for j in np.argsort(-scores(i), kind="stable")[:DEPTH]] for i, q in enumerate(queries)}

    return {
        "float": (best(lambda i: vectors @ asked[i]), 4 * dim),
        "int8": (best(lambda i: score_int8(codes, scales, asked[i])), dim + 4),
        "binary": (best(lambda i: signs @ placed[i]), 8 * -(-dim // 64)),
    }
