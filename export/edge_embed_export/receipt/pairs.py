"""What a bundle that scores pairs of texts is measured by: whether it ranks them as the float model does."""

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.calibration.layerwise import Remembered
from edge_embed_export.calibration.pairs import PARAGRAPHS, QUESTIONS, Question, questions
from edge_embed_export.options import RANK_FLOORS
from edge_embed_export.receipt.kinds import Sample
from edge_embed_export.sources.heads import Head
from edge_embed_export.transformer.spec import Spec
from edge_embed_quantize.receipt import kendall, score, spearman
from edge_embed_runtime.bundle.manifest import Golden, GoldenPair
from edge_embed_runtime.embed.reranker import Reranker
from edge_embed_runtime.system.cpu import cpu_model

Floats = NDArray[np.float32]
SPEED_PAIRS, SPEED_ROUNDS = 40, 3


class RerankReceipt:
    """Of scores of pairs of texts."""

    fidelity = "rank correlation (Spearman's)"
    floors: Mapping[str, float] = RANK_FLOORS

    def describe(self, spec: Spec, head: Head) -> dict[str, Any]:
        labels = head.facts["labels"] or [f"LABEL_{i}" for i in range(spec.dim)]
        activation = head.facts["activation"] or ("sigmoid" if spec.dim == 1 else "identity")
        facts = {"activation": activation, "types": spec.types, "labels": labels}
        return {"kind": spec.kind.name, "head": facts, "codes": {}}

    def golden(self, reranker: Reranker, texts: Sequence[str]) -> list[Golden]:
        """Each text with the next one, and questions of the exporter's with a paragraph that answers them, and not."""
        pairs = golden_pairs(texts)
        found = reranker.scores(pairs, raw=True, prompt="").reshape(len(pairs), -1)
        rounded = [[float(f"{x:.7g}") for x in row] for row in found]
        return [GoldenPair(first, row, second) for (first, second), row in zip(pairs, rounded, strict=True)]

    def problem(self, reranker: Reranker, texts: Sequence[str]) -> str:
        found = reranker.scores(golden_pairs(texts), raw=True, prompt="")
        return "" if np.ptp(found.reshape(len(found), -1), axis=0).max() > 0 else "the model scores all pairs alike"

    def measure(self, reference: Reranker, reranker: Reranker, sample: Sample) -> dict[str, Any]:  # noqa: ARG002 - as of every kind
        asked = questions("receipt")
        pairs = [pair for question in asked for pair in question.pairs]
        expected = reference.scores(pairs, raw=True).reshape(len(pairs), -1)
        found = expected if reranker is reference else reranker.scores(pairs, raw=True).reshape(len(pairs), -1)
        return {
            "pairs": len(pairs),
            "rank_correlation": {
                "spearman": _rounded(spearman(a, b) for a, b in zip(expected.T, found.T, strict=True)),
                "kendall": _rounded(kendall(a, b) for a, b in zip(expected.T, found.T, strict=True)),
            },
            "largest_difference": float(f"{np.abs(found - expected).max():.3g}"),
            "spread": float(f"{expected.std(axis=0).min():.3g}"),
            **(_retrieval(asked, expected[:, 0], found[:, 0]) if found.shape[1] == 1 else {}),
            "bytes": sum(record.size for record in reranker.manifest.files.values()),
            **_speed(reference, reranker),
        }

    def reached(self, receipt: dict[str, Any]) -> float:
        return float(receipt["rank_correlation"]["spearman"])


def golden_pairs(texts: Sequence[str]) -> list[tuple[str, str]]:
    neighbours = list(zip(texts, [*texts[1:], texts[0]], strict=True))
    asked = questions("receipt")[:4]
    return neighbours + [
        (question.text, question.paragraphs[place % PARAGRAPHS])
        for question in asked
        for place in (question.answer, question.answer + 1)
    ]


def _rounded(figures: Any) -> float:
    """The lowest, of a model with several labels."""
    return round(float(min(figures)), 4)


def _retrieval(asked: Sequence[Question], expected: Floats, found: Floats) -> dict[str, Any]:
    relevant = {question.name: {str(question.answer): 1} for question in asked}

    def ranked(scores: Floats) -> dict[str, list[str]]:
        rows = scores.reshape(len(asked), -1)
        return {
            question.name: [str(i) for i in np.argsort(-row, kind="stable")]
            for question, row in zip(asked, rows, strict=True)
        }

    ours, theirs = ranked(found), ranked(expected)
    return {
        "retrieval": {
            "set": f"XQuAD, English: {QUESTIONS} questions, {PARAGRAPHS} paragraphs for each",
            "ndcg@10": round(score(ours, relevant)["ndcg@10"], 4),
            "ndcg@10_fp32": round(score(theirs, relevant)["ndcg@10"], 4),
            "same_first": round(sum(ours[q][0] == theirs[q][0] for q in ours) / len(asked), 4),
        }
    }


def _speed(reference: Reranker, reranker: Reranker) -> dict[str, Any]:
    """Pairs per second of CPU time, to three digits; not of a model that was run before, layer by layer."""
    pairs = [pair for question in questions("receipt") for pair in question.pairs]
    pairs = pairs[:: max(1, len(pairs) // SPEED_PAIRS)]
    named = {"pairs_per_cpu_second": reranker, "pairs_per_cpu_second_fp32": reference}
    found = {name: _pairs_per_second(model, pairs) for name, model in named.items()}
    measured = {name: rate for name, rate in found.items() if rate}
    tokens = statistics.mean(len(reranker.row(*pair)) for pair in pairs)
    return (
        {"speed": {**measured, "tokens_per_pair": round(tokens), "threads": 1, "cpu": cpu_model()}} if measured else {}
    )


def _pairs_per_second(model: Reranker, pairs: list[tuple[str, str]]) -> float:
    if isinstance(model.network.session, Remembered):
        return 0.0
    seconds = []
    for _ in range(SPEED_ROUNDS):
        start = time.process_time()
        model.scores(pairs)
        seconds.append(time.process_time() - start)
    return float(f"{len(pairs) / max(statistics.median(seconds), 1e-9):.3g}")
