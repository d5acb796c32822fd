"""Relevance feedback: a query that moves towards documents and away from others (Rocchio, 1971).

    moved = query + 0.75 * mean of the liked - 0.15 * mean of the unliked, brought to length 1

with vectors of length 1; a document's vector is the mean of its passages' vectors, brought to length 1. The weights are
those that Manning, Raghavan and Schuetze call reasonable (Introduction to Information Retrieval, 9.1.1). Without a
query its part is 0. Documents that are given as examples are no hits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.errors import InputError
from edge_embed_runtime.search.query import Mode, Query, Wanted
from edge_embed_runtime.storage.store import Store, damaged_document
from edge_embed_runtime.vectors.int8 import dequantize
from edge_embed_runtime.vectors.types import Vectors

LIKED, UNLIKED = 0.75, 0.15
# Passages of a document that are read at a time.
READ = 512
# A sum of vectors of length 1 that is shorter says nothing.
SHORTEST = 1e-5


def moved(store: Store, query: Query, mode: Mode, wanted: Wanted) -> tuple[Query, frozenset[int]]:
    """A query that examples have moved, and the ids of documents that are no hits. Runs inside a snapshot."""
    examples = wanted.like or wanted.unlike or wanted.shift is not None
    if not examples:
        return query, frozenset(store.ids_of(wanted.without).values())
    if mode not in ("vector", "hybrid"):
        raise InputError(
            f"examples (like, unlike, a session) move a dense vector, which mode {mode!r} does not compare; use "
            "'vector' or 'hybrid'",
            option="mode",
        )
    check_dense(store)
    known = {what: store.known_ids(keys, what) for what, keys in (("like", wanted.like), ("unlike", wanted.unlike))}
    steps: list[NDArray[Any]] = [
        weight * np.mean(list(document_vectors(store, ids).values()), axis=0)
        for weight, ids in ((LIKED, known["like"]), (-UNLIKED, known["unlike"]))
        if ids
    ]
    steps += [] if wanted.shift is None else [wanted.shift]
    left_out = {**known["like"], **known["unlike"], **store.ids_of(wanted.without)}
    vector = _moved(np.zeros(store.dim) if query.vector is None else query.vector, steps)
    others = tuple(_moved(other, steps) for other in query.others)
    return replace(query, vector=vector, others=others), frozenset(left_out.values())


def _moved(vector: NDArray[Any], steps: Sequence[NDArray[Any]]) -> Vectors:
    moved = vector.astype(np.float64)
    for step in steps:
        moved += step
    length = float(np.linalg.norm(moved))
    if length < SHORTEST:
        raise InputError("the query and the examples cancel each other: nothing is left to look for", option="unlike")
    found: Vectors = (moved / length).astype(np.float32)
    return found


def check_dense(store: Store) -> None:
    """Raises InputError where there are no dense vectors."""
    store.counters()  # the facts of what is committed now
    if not store.dim:
        raise InputError(f"examples move a dense vector, and {store.path} holds none", path=store.path, option="like")


def document_vectors(store: Store, ids: Mapping[str, int]) -> dict[str, NDArray[np.float64]]:
    """The vectors [dim] of documents by key, each of length 1, as float64. Raises InputError for those without any."""
    found = {}
    for key, doc in ids.items():
        passages = np.array(sorted(store.passage_ids([doc])), np.int64)
        total = np.zeros(store.dim)
        for start in range(0, len(passages), READ):
            rows = store.passages(passages[start : start + READ])
            if rows.damaged:
                raise damaged_document(store.path, key)
            total += dequantize(rows.codes, rows.scales).sum(axis=0, dtype=np.float64)
        length = float(np.linalg.norm(total))
        if length < SHORTEST:
            raise InputError(f"the document {key!r:.80} has no vector", path=store.path, option="like", keys=[key])
        found[key] = total / length
    return found
