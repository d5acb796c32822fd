"""Retrieval quality on a judged set in BEIR's layout, at every storage tier."""

import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import numpy as np

from edge_embed.measuring.judged import TEXT, JudgedSet
from edge_embed_quantize.receipt import DEPTH, Ranked, rank_tiers, score
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.embed.encoder import Encoder
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.index.additions import entries
from edge_embed_runtime.index.embedders import Models
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.maintenance import learn_rotation
from edge_embed_runtime.search.query import Mode
from edge_embed_runtime.storage.documents import Document, Record
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.storage.writing import write
from edge_embed_runtime.vectors.int8 import quantize_int8
from edge_embed_runtime.vectors.types import Vectors


def evaluate(
    judged: JudgedSet,
    embedder: Encoder,
    *,
    sparse: Embedder | None = None,
    multi: Embedder | None = None,
    show_progress: bool = False,
) -> dict[str, dict[str, float]]:
    """Figures of each tier: float, int8, binary, binary+int8, text, hybrid; each with `bytes_per_vector`.

    float, int8 and binary compare every document. binary+int8, text and hybrid are what `Index.search` returns in its
    modes, as are sparse and multi, with an embedder of that kind (see `Index.open`). Every document is one passage,
    truncated to the model's limit, as for published figures. Of a set with pictures or sounds see `evaluate_files`.
    """
    if judged.files:
        if sparse is not None or multi is not None or not isinstance(embedder, Embedder):
            raise InputError("pictures and sounds have vectors of one bundle only: leave sparse and multi out")
        return evaluate_files(judged, embedder, show_progress=show_progress)
    keys, queries = list(judged.documents), list(judged.queries)
    texts = [judged.documents[key] for key in keys]
    models = Models.of(embedder, sparse, multi)
    ranked: dict[str, tuple[Any, int]] = {}
    codes, scales, size = np.empty((len(keys), 0), np.int8), np.ones(len(keys), np.float32), 0
    if models.dense is not None:
        vectors = models.dense.encode_document(texts, show_progress=show_progress)
        asked = models.dense.encode_query([judged.queries[query] for query in queries])
        ranked = rank_tiers(keys, vectors, queries, asked, models.dense.frame)
        size = ranked["binary"][1] + ranked["int8"][1]
        codes, scales = quantize_int8(vectors)
    # the index refuses documents without text, which no query can find
    full = [i for i, text in enumerate(texts) if text]
    rows = models.rows([texts[i] for i in full])
    sizes = {name: sum(map(len, found)) // len(full) for name, found in rows.items()}
    tiers: dict[str, tuple[Mode, int]] = {"binary+int8": ("vector", size)} if models.dense else {}
    tiers |= {name: (cast("Mode", name), bytes_) for name, bytes_ in sizes.items()}
    tiers |= {"text": ("text", 0), "hybrid": ("hybrid", size + sizes.get("sparse", 0))}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "eval.db"
        Index.open(path, embedder, sparse=sparse, multi=multi).close()
        with closing(Store(path, read_only=False)) as store:
            whole = [(Record(keys[i], texts[i], "{}"), [(0, len(texts[i]))]) for i in full]
            write(store, entries(whole, codes[full], scales[full], rows))
            learn_rotation.when_grown(store)
        with Index.open(path, embedder, sparse=sparse, multi=multi, read_only=True) as index:
            ranked |= {tier: (_search(index, judged, mode), bytes_) for tier, (mode, bytes_) in tiers.items()}
    return _scored(ranked, judged)


def evaluate_files(
    judged: JudgedSet, embedder: Embedder, *, show_progress: bool = False
) -> dict[str, dict[str, float]]:
    """`rank_files`, in figures. Raises MediaError for a file that cannot be read."""
    return _scored(rank_files(judged, embedder, show_progress=show_progress), judged)


def rank_files(judged: JudgedSet, embedder: Embedder, *, show_progress: bool = False) -> dict[str, tuple[Ranked, int]]:
    """The keys that each query finds in a set with pictures or sounds, the best first, by tier, with bytes per vector.

    float, int8, binary and binary+int8 are those of `evaluate`: all documents are compared by their vectors, whatever
    they are. Where the set has texts too, "kinds" is an index of all that ranks each kind by itself, as `Index.search`
    does. Raises MediaError for a file that cannot be read.
    """
    keys, queries = list(judged.documents), list(judged.queries)
    vectors = _vectors(judged, keys, embedder, show_progress)
    asked = embedder.encode_query([judged.queries[query] for query in queries])
    ranked = dict(rank_tiers(keys, vectors, queries, asked, embedder.frame))
    size = ranked["binary"][1] + ranked["int8"][1]
    with tempfile.TemporaryDirectory() as folder:
        with Index.create(Path(folder) / "eval.db", space="eval", dim=vectors.shape[1]) as index:
            index.add_vectors([Document(key, judged.documents[key]) for key in keys], vectors)
            ranked["binary+int8"] = (_by_vectors(index, dict(zip(queries, asked, strict=True))), size)
        if len(judged.files) < len(keys):
            with Index.open(Path(folder) / "kinds.db", embedder) as index:
                index.add([_document(key, judged) for key in keys], show_progress=show_progress)
                ranked["kinds"] = (_search(index, judged, "vector"), size)
    return ranked


def _vectors(judged: JudgedSet, keys: list[str], embedder: Embedder, show: bool) -> Vectors:
    """Of all documents, [n, dim]: a file's own vector, or its text's."""
    encode: dict[str, Callable[..., Vectors]] = {
        TEXT: embedder.encode_document,
        "image": embedder.encode_image,
        "audio": embedder.encode_audio,
    }
    vectors = np.empty((len(keys), embedder.dim), np.float32)
    for modality, call in encode.items():
        places = [i for i, key in enumerate(keys) if modality == _modality(judged, key)]
        if places:
            given = [_given(judged, keys[i]) for i in places]
            vectors[places] = call(given, show_progress=show)
    return vectors


def _modality(judged: JudgedSet, key: str) -> str:
    return judged.files[key].modality if key in judged.files else TEXT


def _given(judged: JudgedSet, key: str) -> object:
    return judged.files[key].path if key in judged.files else judged.documents[key]


def _document(key: str, judged: JudgedSet) -> Document:
    file, text = judged.files.get(key), judged.documents[key]
    if file is None:
        return Document(key, text)
    return Document(key, text, image=file.path) if file.modality == "image" else Document(key, text, audio=file.path)


def _scored(ranked: dict[str, tuple[Any, int]], judged: JudgedSet) -> dict[str, dict[str, float]]:
    return {
        tier: {**score(result, judged.judgements), "bytes_per_vector": bytes_}
        for tier, (result, bytes_) in ranked.items()
    }


def _search(index: Index, judged: JudgedSet, mode: Mode) -> Ranked:
    """The keys that each query finds, the best first."""
    return {name: [hit.key for hit in index.search(text, DEPTH, mode=mode)] for name, text in judged.queries.items()}


def _by_vectors(index: Index, asked: dict[str, Any]) -> Ranked:
    return {name: [hit.key for hit in index.search(k=DEPTH, vector=vector)] for name, vector in asked.items()}
