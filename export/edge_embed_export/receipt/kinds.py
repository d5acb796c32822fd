"""What a bundle of each kind is measured by, and what it keeps to be checked by: one object for each kind."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.options import FLOORS
from edge_embed_export.sources.heads import Head
from edge_embed_export.transformer.spec import Spec
from edge_embed_quantize.receipt import DEPTH, cosine_receipt, score
from edge_embed_runtime.bundle.manifest import Golden
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.vectors.kinds import SPARSE
from edge_embed_runtime.vectors.maxsim import maxsim_all
from edge_embed_runtime.vectors.normalize import normalize
from edge_embed_runtime.vectors.sparse import SparseVector

# Tokens of a sparse vector that are compared with the float model's.
TOP = 32
NOTHING = "the model gives nothing for a text"

Floats = NDArray[np.float32]


class Judged:
    """A small judged set: documents, and queries with the documents that answer them (see `records`)."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        documents = [row for row in rows if "relevant" not in row]
        queries = [row for row in rows if "relevant" in row]
        self.texts = [row["text"] for row in rows]
        self.documents, self.keys = [row["text"] for row in documents], [row["id"] for row in documents]
        self.queries, self.names = [row["text"] for row in queries], [row["id"] for row in queries]
        self.title = f"XQuAD, English: {len(documents)} paragraphs, {len(queries)} questions"
        self._relevant = {row["id"]: dict.fromkeys(row["relevant"], 1) for row in queries}

    def ndcg(self, ranked: Mapping[str, Sequence[str]]) -> float:
        return round(score(ranked, self._relevant)["ndcg@10"], 4)


@dataclass(frozen=True)
class Sample:
    """The texts that bundles are measured on.

    calibration: what a model was quantized with
    measured:    what it has not seen
    """

    calibration: list[str]
    measured: list[str]
    judged: Judged


Loaded_contra = TypeVar("Loaded_contra", contravariant=True)


class KindReceipt(Protocol[Loaded_contra]):
    """What is to know about bundles of a kind when they are made.

    fidelity: what `reached` is
    floors:   the lowest that is written, by precision, where the caller says nothing
    """

    fidelity: str
    floors: Mapping[str, float]

    def describe(self, spec: Spec, head: Head) -> dict[str, Any]:
        """Fields of the manifest that such a model has besides."""

    def golden(self, embedder: Loaded_contra, texts: Sequence[str]) -> list[Golden]:
        """What the model gives for texts as they stand (see `Kind.golden`)."""

    def problem(self, embedder: Loaded_contra, texts: Sequence[str]) -> str:
        """Why a model's vectors of texts are no vectors; "" where they are."""

    def measure(self, reference: Loaded_contra, embedder: Loaded_contra, sample: Sample) -> dict[str, Any]:
        """The receipt: how much of the float model `reference` the bundle keeps."""

    def reached(self, receipt: dict[str, Any]) -> float:
        """The figure of a receipt that a floor is about."""


class CosineReceipt:
    """Of vectors: the mean cosine to those of the float model, of the adapter that lost most where there are some."""

    fidelity = "mean cosine"
    floors: Mapping[str, float] = FLOORS

    def reached(self, receipt: dict[str, Any]) -> float:
        adapters = receipt.get("adapters", {}).values()
        return float(min(receipt["cosine_to_fp32"]["mean"], *(adapter["mean"] for adapter in adapters), 1.0))


def _described(spec: Spec, head: Head, pooling: str) -> dict[str, Any]:
    return {"kind": spec.kind.name, "head": _fitting(spec, head.facts), "pooling": pooling, "codes": {}}


def _outputs(embedder: Embedder, texts: Sequence[str]) -> Iterator[tuple[str, Floats]]:
    """Texts, and what the model itself gives for each."""
    network = embedder.network
    return ((text, network.run([network.tokenizer.encode(text)])[0]) for text in texts)


def _fitting(spec: Spec, facts: dict[str, Any]) -> dict[str, Any]:
    """The head with queries of no more tokens than the model takes. Raises ExportError for filled up ones."""
    if facts.get("query_length", 0) <= spec.max_tokens:
        return facts
    if facts["expansion"] is not None:
        raise ExportError(
            f"queries are filled up to {facts['query_length']} tokens, and the model takes {spec.max_tokens}"
        )
    return {**facts, "query_length": spec.max_tokens}


def _retrieval(
    reference: Embedder, embedder: Embedder, judged: Judged, scores: Callable[[Embedder, Judged], list[Floats]]
) -> dict[str, Any]:
    """What scores of all documents, query by query, find; and the bundle's size."""

    def ranked(model: Embedder) -> dict[str, list[str]]:
        return {
            name: [judged.keys[j] for j in np.argsort(-of, kind="stable")[:DEPTH]]
            for name, of in zip(judged.names, scores(model, judged), strict=True)
        }

    found, expected = ranked(embedder), ranked(reference)
    agreement = np.mean([len(set(found[q]) & set(expected[q])) / max(1, len(expected[q])) for q in expected])
    return {
        "retrieval": {
            "set": judged.title,
            "ndcg@10": judged.ndcg(found),
            "ndcg@10_fp32": judged.ndcg(expected),
            "same_top10": round(float(agreement), 4),
        },
        "bytes": sum(record.size for record in embedder.manifest.files.values()),
    }


class SparseReceipt(CosineReceipt):
    """Of weights of tokens."""

    def describe(self, spec: Spec, head: Head) -> dict[str, Any]:
        token = spec.pooling == "token"
        return _described(spec, head, "a weight for each token" if token else f"{spec.pooling} of log(1 + relu)")

    def golden(self, embedder: Embedder, texts: Sequence[str]) -> list[Golden]:
        found = []
        for text, row in _outputs(embedder, texts):
            pairs = ((float(id_), round(float(row[id_]), 4)) for id_ in np.flatnonzero(row > 0).tolist())
            found.append(Golden(text, [x for pair in pairs for x in pair]))
        return found

    def problem(self, embedder: Embedder, texts: Sequence[str]) -> str:
        return "" if all(len(vector) for vector in embedder.encode_sparse(texts)) else NOTHING

    def measure(self, reference: Embedder, embedder: Embedder, sample: Sample) -> dict[str, Any]:
        expected, found = reference.encode_sparse(sample.measured), embedder.encode_sparse(sample.measured)
        pairs = [(_top(a), _top(b)) for a, b in zip(expected, found, strict=True)]
        same = [len(np.intersect1d(a, b)) / max(1, len(a)) for a, b in pairs]
        dim = embedder.manifest.dim
        return {
            **cosine_receipt(normalize(_rows(expected, dim)), normalize(_rows(found, dim))),
            f"same_top{TOP}_tokens": round(float(np.mean(same)), 4),
            "tokens_per_text": round(float(np.mean([len(vector) for vector in found])), 1),
            "tokens_per_text_fp32": round(float(np.mean([len(vector) for vector in expected])), 1),
            **_retrieval(reference, embedder, sample.judged, _dot_products),
        }


def _dot_products(model: Embedder, judged: Judged) -> list[Floats]:
    rows = _rows(model.encode_sparse(judged.documents, role="document"), model.manifest.dim)
    asked = model.encode_sparse(judged.queries, role="query")
    return [rows[:, vector.ids] @ vector.weights for vector in asked]


def _top(vector: SparseVector) -> NDArray[np.int32]:
    return vector.ids[np.argsort(-vector.weights, kind="stable")[:TOP]]


def _rows(vectors: Sequence[SparseVector], dim: int) -> Floats:
    """Vectors as rows [n, dim]."""
    return np.stack([SPARSE.array(vector, dim) for vector in vectors])


class MultiReceipt(CosineReceipt):
    """Of a vector for each token."""

    def describe(self, spec: Spec, head: Head) -> dict[str, Any]:
        return _described(spec, head, "a vector for each token")

    def golden(self, embedder: Embedder, texts: Sequence[str]) -> list[Golden]:
        return [Golden(text, [round(float(x), 4) for x in row.ravel()]) for text, row in _outputs(embedder, texts)]

    def problem(self, embedder: Embedder, texts: Sequence[str]) -> str:
        lengths = np.concatenate([np.linalg.norm(v, axis=1) for v in embedder.encode_multi(texts)])
        return "" if np.abs(lengths - 1).max() < 1e-3 else NOTHING

    def measure(self, reference: Embedder, embedder: Embedder, sample: Sample) -> dict[str, Any]:
        expected, found = reference.encode_multi(sample.measured), embedder.encode_multi(sample.measured)
        return {
            **cosine_receipt(np.concatenate(expected), np.concatenate(found)),
            "texts": len(sample.measured),
            "vectors_per_text": round(float(np.mean([len(vectors) for vectors in found])), 1),
            **_retrieval(reference, embedder, sample.judged, _maxsims),
        }


def _maxsims(model: Embedder, judged: Judged) -> list[Floats]:
    vectors = model.encode_multi(judged.documents, role="document")
    starts = np.cumsum([0, *map(len, vectors[:-1])])  # none is empty: special tokens are there in any text
    together = np.concatenate(vectors)
    return [maxsim_all(query, together, starts) for query in model.encode_multi(judged.queries, role="query")]
