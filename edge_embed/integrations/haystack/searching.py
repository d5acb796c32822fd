"""Documents of an index that fit a plan: all of them, or those nearest to a query."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from haystack import Document

from edge_embed.integrations.haystack.documents import from_index
from edge_embed.integrations.haystack.filters import Plan
from edge_embed.integrations.stores import unless_unknown, with_documents
from edge_embed_runtime.batches import batches
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.storage import documents
from edge_embed_runtime.storage.documents import Hit
from edge_embed_runtime.storage.filters import MAX_VALUES

# Documents that are read at a time.
PAGE = 256
# Of a search whose hits are looked through afterwards: how many times as many are asked for, each time.
GROWTH = 4


def matching(index: Index, plan: Plan, *, vectors: bool = True) -> Iterator[Document]:
    """In the order in which they were stored. Some hundred are in memory at a time."""
    none: Iterator[documents.Document] = iter(())
    found = unless_unknown(plan.where, lambda: index.find(plan.where, order="stored"), none)
    asked = plan.embeddings and bool(index.stats()["space"])
    for part in batches(found, PAGE):
        read = [from_index(stored, vectors=vectors or asked) for stored in part]
        for document in with_embeddings(index, read) if asked else read:
            if plan.rest is None or plan.rest(document):
                yield document


def count(index: Index, plan: Plan) -> int:
    if plan.rest is None:
        return unless_unknown(plan.where, lambda: index.count(plan.where), 0)
    return sum(1 for _ in matching(index, plan, vectors=False))


def ids(index: Index, plan: Plan) -> list[str]:
    return [document.id for document in matching(index, plan, vectors=False)]


def delete(index: Index, plan: Plan) -> int:
    where = plan.where
    if plan.rest is None and where is not None:  # in one step, whatever others write meanwhile
        return unless_unknown(where, lambda: index.delete(where=where), 0)
    return index.delete(ids(index, plan))


def with_embeddings(index: Index, given: Iterable[Document]) -> list[Document]:
    """Documents of given vectors that were kept as codes alone get what these stand for, of length 1."""
    found = list(given)
    bare = [document.id for document in found if document.embedding is None]
    if not bare:
        return found
    codes = index.vectors(bare)
    return [
        replace(document, embedding=codes[document.id][0].tolist())
        if document.embedding is None and len(codes.get(document.id, ()))
        else document
        for document in found
    ]


def search(index: Index, plan: Plan, top_k: int, *, vectors: bool, **query: Any) -> list[tuple[Hit, Document]]:
    """The best documents that fit a plan, best first.

    vectors: give embeddings that were kept
    query:   what `Index.search` takes
    """
    try:
        found = _hits(index, plan, top_k, query)
    except InputError:
        if query.get("vector") is None or not _without_vectors(index):
            raise
        # no embedding says yet how many numbers they have
        text = query.get("query")
        found = _hits(index, plan, top_k, {"query": text, "mode": "text"}) if text else []
    return [(hit, from_index(stored, vectors=vectors)) for hit, stored in with_documents(index, found)]


def _hits(index: Index, plan: Plan, top_k: int, query: dict[str, Any]) -> list[Hit]:
    where, hits = plan.where, list[Hit]()
    if top_k == 0:
        return []
    if plan.rest is None:
        hits = unless_unknown(where, lambda: list(index.search(k=top_k, where=where, **query)), hits)
    else:
        fitting = ids(index, plan)
        if not fitting:
            return []
        if len(fitting) > MAX_VALUES:
            return _looked_through(index, plan, set(fitting), top_k, query)
        hits = list(index.search(k=top_k, where={"$key": {"$in": fitting}}, **query))
    return hits


def _without_vectors(index: Index) -> bool:
    stats = index.stats()
    return bool(stats["space"]) and stats.get("without_vector", 0) == stats["passages"]


def _looked_through(index: Index, plan: Plan, fitting: set[str], top_k: int, query: dict[str, Any]) -> list[Hit]:
    """The hits that are among more documents than a condition can name."""
    k = GROWTH * top_k
    while True:
        found = list(index.search(k=k, where=plan.where, **query))
        hits = [hit for hit in found if hit.key in fitting][:top_k]
        if len(hits) == top_k or len(found) < k:
            return hits
        k *= GROWTH
