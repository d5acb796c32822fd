"""A vector store of LlamaIndex in one index file."""

import os
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

from edge_embed.integrations.llamaindex.embedding import EdgeEmbedding
from edge_embed.integrations.llamaindex.filters import all_of, where_of
from edge_embed.integrations.metadata import stored_metadata
from edge_embed.integrations.stores import (
    EVERY,
    StoreIndex,
    Where,
    check_once,
    store_for,
    unless_unknown,
    with_documents,
)
from edge_embed.integrations.threads import in_thread
from edge_embed_runtime.checks import listed, unusable
from edge_embed_runtime.embed.encoder import Encoder
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.extras import require
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.search.query import Mode
from edge_embed_runtime.storage.documents import Document, Hit, Hits

require("llama_index.core", "llamaindex")
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import BaseNode, MetadataMode, TextNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
from pydantic import PrivateAttr

MODES: dict[VectorStoreQueryMode, Mode] = {
    VectorStoreQueryMode.DEFAULT: "vector",
    VectorStoreQueryMode.MMR: "vector",
    VectorStoreQueryMode.HYBRID: "hybrid",
    VectorStoreQueryMode.TEXT_SEARCH: "text",
    VectorStoreQueryMode.SPARSE: "sparse",
}
# What a query may say besides, which this store does not do; and how much MMR counts where it does not say.
REFUSED = ("alpha", "sparse_top_k", "output_fields", "embedding_field")
MMR = 0.5
# Field of the metadata that holds the node, and that with its source, as LlamaIndex's other stores have them.
NODE, SOURCE = "_node_content", "ref_doc_id"


class EdgeVectorStore(BasePydanticVectorStore):
    """Nodes in one index file, which `edge-embed` and other stores may have open at the same time.

    path:      the file, made where it is missing
    embedding: None for the index's own bundle (of a new file the default one), an EdgeEmbedding for an index of its
               bundle: the index embeds texts and queries itself, and LlamaIndex need not (`MockEmbedding(embed_dim=1)`
               as its embed_model). Any other embedding, the embed_model itself: an index of the vectors that nodes and
               queries bring
    space:     names the model of another embedding in the file; None for its class and model
    options:   of `Index.open`, such as fields, words, timeout, max_rss_mb, read_only

    Can be pickled: a copy opens the same file. Raises what `Index.open` raises.
    """

    stores_text: bool = True
    is_embedding_query: bool = False
    path: str = ""
    _store: StoreIndex = PrivateAttr()
    _made: Any = PrivateAttr()
    _warned: bool = PrivateAttr(default=False)

    def __init__(
        self,
        path: str | os.PathLike[str],
        embedding: BaseEmbedding | Encoder | None = None,
        *,
        space: str | None = None,
        **options: Any,
    ) -> None:
        store = store_for(
            path, embedding, EdgeEmbedding, BaseEmbedding, space=space, options=options, new_fields=[SOURCE]
        )
        # an index of given vectors that is opened without their embedding can be asked with vectors all the same
        super().__init__(path=str(store.path), is_embedding_query=store.embedder is None)
        self._store = store
        self._made = partial(type(self), str(store.path), embedding, space=space, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._made, ()

    @classmethod
    def class_name(cls) -> str:
        return "EdgeVectorStore"

    @property
    def client(self) -> Index | None:
        """The index, for all that it can do besides; None where the first vectors of another embedding are missing."""
        return self._store.index

    def close(self) -> None:
        """Let go of the file; all that was added is on disk already."""
        self._store.close()

    def add(self, nodes: Sequence[BaseNode], **add_kwargs: Any) -> list[str]:
        """Store nodes, in place of those with the same ids, all or none: they are on disk when this returns.

        Raises DuplicateKeyError for an id that comes twice, DocumentError for a node without text and for metadata that
        JSON cannot hold (see edge_embed.integrations.metadata), InputError for vectors of another size, or none.
        """
        _refuse(add_kwargs)
        ids = [node.node_id for node in nodes]
        check_once(ids)
        documents = [_document(node) for node in nodes]
        if self._store.space is not None:
            self._store.upsert(documents, [_given(node) for node in nodes])
        else:
            self._check_own(nodes)
            self._store.upsert(documents)
        return ids

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete the nodes of a source document."""
        _refuse(delete_kwargs)
        self._delete({SOURCE: ref_doc_id})

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Delete nodes of these ids, those that fit the filters, or of these ids those that fit.

        Raises InputError where there are neither ids nor conditions: that would be all nodes.
        """
        _refuse(delete_kwargs)
        index = self._store.index
        if node_ids is None and filters is None:
            raise _all_nodes()
        if index is None:
            return
        where = where_of(filters, index)
        if node_ids is None and where in (None, EVERY):
            raise _all_nodes()
        if where is None:
            index.delete(node_ids or [])
        else:
            self._delete(all_of([_among(node_ids), where]))

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Nodes in the order of the ids, without those that are not there; or those that fit the filters, in the order
        of their ids; without either all. Of both, those of the ids that fit."""
        index = self._store.index
        if index is None:
            return []
        where = where_of(filters, index)
        if node_ids is None:
            nothing: list[Document] = []
            return [_node(document) for document in unless_unknown(where, lambda: list(index.find(where)), nothing)]
        if where is not None:
            both = all_of([_among(node_ids), where])
            none: set[str] = set()
            fitting = unless_unknown(both, lambda: {document.key for document in index.find(both)}, none)
            node_ids = [node_id for node_id in node_ids if node_id in fitting]
        return [_node(document) for document in index.get_many(node_ids) if document is not None]

    def clear(self) -> None:
        """Delete all nodes; the file stays."""
        self._delete(EVERY)

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nodes that fit best, best first. Modes: default (vectors), text_search (words), hybrid (both), mmr
        (`mmr_threshold`: 1 is the order of the scores, 0 the greatest diversity) and, of an index with a sparse bundle,
        sparse. Similarities are cosines, but of hybrid, sparse and text_search, which compare nodes of one query only.

        Raises InputError for other modes, and for what a query asks that is not done here.
        """
        threshold = kwargs.pop("mmr_threshold", query.mmr_threshold)
        _refuse(kwargs)
        _check(query)
        index = self._store.index
        if index is None:
            return VectorStoreQueryResult(nodes=[], similarities=[], ids=[])
        # of an index that keeps its nodes' texts, LlamaIndex gives an empty list for no restriction
        sources: Where | None = {SOURCE: {"$in": query.doc_ids}} if query.doc_ids else None
        where = all_of([_among(query.node_ids or None), sources, where_of(query.filters, index)])
        mmr = (MMR if threshold is None else threshold) if query.mode == VectorStoreQueryMode.MMR else None
        hits = unless_unknown(where, lambda: self._search(index, query, where, mmr), Hits())
        pairs = with_documents(index, hits)
        return VectorStoreQueryResult(
            nodes=[_node(document, hit) for hit, document in pairs],
            similarities=[hit.score for hit, _ in pairs],
            ids=[hit.key for hit, _ in pairs],
        )

    async_add = in_thread(add, "async_add")
    adelete = in_thread(delete, "adelete")
    adelete_nodes = in_thread(delete_nodes, "adelete_nodes")
    aget_nodes = in_thread(get_nodes, "aget_nodes")
    aclear = in_thread(clear, "aclear")
    aquery = in_thread(query, "aquery")

    def persist(self, persist_path: str, fs: Any = None) -> None:
        """Nothing to do: what is added is on disk."""

    def _search(self, index: Index, query: VectorStoreQuery, where: Where | None, mmr: float | None) -> Hits:
        mode, k = MODES[query.mode], query.similarity_top_k
        if query.mode == VectorStoreQueryMode.HYBRID and query.hybrid_top_k is not None:
            k = query.hybrid_top_k
        text, vector = query.query_str or None, query.query_embedding
        if mode in ("text", "sparse") or (self._store.embedder is not None and text is not None):
            vector = None  # the index makes its own
        elif vector is None:
            missing = "query_embedding" if self._store.embedder is None else "query_str"
            raise InputError(f"the query is empty: give its {missing}", option=missing)
        return index.search(text, k, where, mode, vector=vector, mmr=mmr)

    def _delete(self, where: Where | None) -> None:
        index = self._store.index
        if index is not None:
            unless_unknown(where, lambda: index.delete(where=where), 0)

    def _check_own(self, nodes: Sequence[BaseNode]) -> None:
        """Raise InputError for vectors that cannot be the bundle's, and warn of others: the index makes its own."""
        embedder = self._store.embedder
        if embedder is None:
            return
        sizes = {len(node.embedding): node.node_id for node in nodes if node.embedding is not None}
        other = next((size for size in sizes if size not in (1, embedder.dim)), None)
        if other is not None:
            raise InputError(
                f"node {sizes[other][:60]!r} brings a vector of {other} numbers; {self.path} embeds texts with its own "
                "bundle. To store the vectors of your embed_model, make the store with it: "
                "EdgeVectorStore(path, embed_model)"
            )
        if embedder.dim in sizes and embedder.dim > 1 and not self._warned:
            self._warned = True
            warnings.warn(
                f"nodes bring vectors of an embed_model, and {self.path} embeds their texts again, with its own "
                "bundle: embed_model=MockEmbedding(embed_dim=1) saves that work",
                stacklevel=3,
            )


def _document(node: BaseNode) -> Document:
    """A node as a document: its text, its metadata, and the rest of it as JSON in fields of LlamaIndex's own."""
    clean = node.model_copy(update={"metadata": stored_metadata(node.metadata, node.node_id)})
    metadata = node_to_metadata_dict(clean, remove_text=True)
    return Document(node.node_id, node.get_content(metadata_mode=MetadataMode.NONE), metadata)


def _node(document: Document, hit: Hit | None = None) -> BaseNode:
    """The node that was stored. Of a document that was no node, as `edge-embed add` stores them, the whole text or the
    passage that a query found."""
    metadata = dict(document.metadata)
    if isinstance(metadata.get(NODE), str):
        return metadata_dict_to_node(metadata, text=document.text)
    text, start = (document.text, 0) if hit is None else (hit.text, hit.start)
    return TextNode(
        id_=document.key, text=text, metadata=metadata, start_char_idx=start, end_char_idx=start + len(text)
    )


def _given(node: BaseNode) -> list[float]:
    """The vector that a node brings. Raises InputError where it brings none."""
    if node.embedding is None:
        raise InputError(f"node {node.node_id[:60]!r} has no embedding; nothing was stored", keys=[node.node_id])
    return node.embedding


def _among(ids: list[str] | None) -> Where | None:
    return None if ids is None else {"$key": {"$in": ids}}


def _all_nodes() -> InputError:
    return InputError("delete_nodes takes node_ids, or filters with a condition; clear() deletes all nodes")


def _refuse(options: dict[str, Any]) -> None:
    if options:
        raise InputError(f"unknown options: {listed(sorted(options))}", option=min(options))


def _check(query: VectorStoreQuery) -> None:
    """Raise InputError for what would be left out of account."""
    if query.mode not in MODES:
        mode = getattr(query.mode, "value", query.mode)
        raise unusable("mode", mode, f"one of {', '.join(mode.value for mode in MODES)}")
    for name in REFUSED:
        if getattr(query, name) is not None:
            raise InputError(f"{name} of a query does nothing in this store: leave it out", option=name)
