"""What a bundle that gives something else than one vector is worth, and what its golden texts are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.sources.heads import Head
from edge_embed_export.transformer.spec import Spec
from edge_embed_quantize.receipt import DEPTH, cosine_receipt, score
from edge_embed_runtime.bundle.bundle import Golden
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.embed.multi import maxsim_all
from edge_embed_runtime.embed.sparse import SparseVector
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.vectors.normalize import normalize

# Tokens of a sparse vector that are compared with the float model's.
TOP = 32

Rows = Sequence[dict[str, Any]]


def describe(spec: Spec, head: Head) -> dict[str, Any]:
    """What the manifest says of the kind of a model."""
    if spec.kind == "dense":
        return {}
    weights = "a weight for each token" if spec.pooling == "token" else f"{spec.pooling} of log(1 + relu)"
    pooling = {"multi": "a vector for each token", "sparse": weights}[spec.kind]
    return {"kind": spec.kind, "head": _fitting(spec, head.facts), "pooling": pooling, "codes": {}}


def _fitting(spec: Spec, facts: dict[str, Any]) -> dict[str, Any]:
    """The head with queries of no more tokens than the model takes. Raises ExportError for filled up ones."""
    if facts.get("query_length", 0) <= spec.max_tokens:
        return facts
    if facts["expansion"] is not None:
        raise ExportError(
            f"queries are filled up to {facts['query_length']} tokens, and the model takes {spec.max_tokens}"
        )
    return {**facts, "query_length": spec.max_tokens}


def architecture(spec: Spec) -> dict[str, Any]:
    """What a sparse model says of its shape besides."""
    return {"decoded": True} if spec.kind == "sparse" else {}


def golden(embedder: Embedder, texts: Sequence[str]) -> list[Golden]:
    """What the model gives for texts as they stand: of a sparse one pairs of tokens and weights, before log(1 + x); of
    one with a vector for each token all of them, one after the other."""
    if embedder.kind == "dense":
        rows = zip(texts, embedder.encode(texts, prompt=""), strict=True)
        return [Golden(text, [round(float(x), 6) for x in row]) for text, row in rows]
    found = []
    for text in texts:
        numbers = embedder.network.run([embedder.tokenizer.encode(text)])[0]
        if embedder.manifest.kind == "sparse":
            ids = np.flatnonzero(numbers > 0)
            vector = [x for id_ in ids.tolist() for x in (float(id_), round(float(numbers[id_]), 4))]
        else:
            vector = [round(float(x), 4) for x in numbers.ravel()]
        found.append(Golden(text, vector))
    return found


def check_usable(embedder: Embedder, texts: Sequence[str], source: Any) -> None:
    """Raise ExportError for a model that gives nothing for a text."""
    kind = embedder.manifest.kind
    if kind == "sparse":
        empty = not all(len(vector) for vector in embedder.encode_sparse(texts))
    else:
        lengths = np.concatenate([np.linalg.norm(v, axis=1) for v in embedder.encode_multi(texts)])
        empty = not np.abs(lengths - 1).max() < 1e-3
    if empty:
        raise ExportError(f"{source}: the model gives nothing for a text; its weights are not usable")


def receipt(reference: Embedder, embedder: Embedder, texts: list[str], rows: Rows) -> dict[str, Any]:
    """Fidelity to the float model, and retrieval by dot product or MaxSim.

    texts: what is compared
    rows:  a small judged set (see `texts.records`)
    """
    measure = _sparse if embedder.manifest.kind == "sparse" else _multi
    documents = [row for row in rows if "relevant" not in row]
    queries = [row for row in rows if "relevant" in row]
    judgements = {row["id"]: dict.fromkeys(row["relevant"], 1) for row in queries}
    keys = [row["id"] for row in documents]

    def ranked(model: Embedder) -> dict[str, list[str]]:
        scores = _scores(model, [row["text"] for row in queries], [row["text"] for row in documents])
        return {
            row["id"]: [keys[j] for j in np.argsort(-of, kind="stable")[:DEPTH]]
            for row, of in zip(queries, scores, strict=True)
        }

    found, expected = ranked(embedder), ranked(reference)
    agreement = np.mean([len(set(found[q]) & set(expected[q])) / max(1, len(expected[q])) for q in expected])
    return {
        **measure(reference, embedder, texts),
        "retrieval": {
            "set": f"XQuAD, English: {len(documents)} paragraphs, {len(queries)} questions",
            "ndcg@10": round(score(found, judgements)["ndcg@10"], 4),
            "ndcg@10_fp32": round(score(expected, judgements)["ndcg@10"], 4),
            "same_top10": round(float(agreement), 4),
        },
        "bytes": sum(record.size for record in embedder.manifest.files.values()),
    }


def _sparse(reference: Embedder, embedder: Embedder, texts: list[str]) -> dict[str, Any]:
    expected, found = reference.encode_sparse(texts), embedder.encode_sparse(texts)
    same = [len(np.intersect1d(_top(a), _top(b))) / max(1, len(_top(a))) for a, b in zip(expected, found, strict=True)]
    dim = embedder.manifest.dim
    return {
        **cosine_receipt(_unit(expected, dim), _unit(found, dim)),
        f"same_top{TOP}_tokens": round(float(np.mean(same)), 4),
        "tokens_per_text": round(float(np.mean([len(vector) for vector in found])), 1),
        "tokens_per_text_fp32": round(float(np.mean([len(vector) for vector in expected])), 1),
    }


def _multi(reference: Embedder, embedder: Embedder, texts: list[str]) -> dict[str, Any]:
    expected, found = reference.encode_multi(texts), embedder.encode_multi(texts)
    return {
        **cosine_receipt(np.concatenate(expected), np.concatenate(found)),
        "texts": len(texts),
        "vectors_per_text": round(float(np.mean([len(vectors) for vectors in found])), 1),
    }


def _top(vector: SparseVector) -> NDArray[np.int32]:
    return vector.ids[np.argsort(-vector.weights, kind="stable")[:TOP]]


def _unit(vectors: Sequence[SparseVector], dim: int) -> NDArray[np.float32]:
    return normalize(_rows(vectors, dim))


def _scores(model: Embedder, queries: list[str], documents: list[str]) -> list[NDArray[np.float32]]:
    """The scores of all documents, query by query."""
    if model.manifest.kind == "sparse":
        rows = _rows(model.encode_sparse(documents, role="document"), model.manifest.dim)
        asked = model.encode_sparse(queries, role="query")
        return [rows[:, vector.ids] @ vector.weights for vector in asked]
    vectors = model.encode_multi(documents, role="document")
    starts = np.cumsum([0, *map(len, vectors[:-1])])  # none is empty: special tokens are there in any text
    together = np.concatenate(vectors)
    return [maxsim_all(query, together, starts) for query in model.encode_multi(queries, role="query")]


def _rows(vectors: Sequence[SparseVector], dim: int) -> NDArray[np.float32]:
    """Vectors as rows [n, dim]."""
    rows = np.zeros((len(vectors), dim), np.float32)
    for row, vector in zip(rows, vectors, strict=True):
        row[vector.ids] = vector.weights
    return rows
