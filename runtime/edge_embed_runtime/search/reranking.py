"""Hits in the order of a cross-encoder's scores: it reads the query with the best passage of each of the first ones."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edge_embed_runtime.checks import check_count, unusable
from edge_embed_runtime.embed.reranker import Reranker
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.search.query import Wanted
from edge_embed_runtime.storage.documents import Hit, Hits

# Documents that are scored again where the caller says nothing, or k where that is more. Each costs as much as the
# embedding of a passage.
DEPTH = 50


@dataclass(frozen=True)
class Reranking:
    """How hits are put into another order.

    depth: documents that are looked for and scored
    k:     of which so many become hits
    """

    reranker: Reranker
    query: str
    depth: int
    k: int

    @staticmethod
    def checked(reranker: object, depth: object, query: str | None, wanted: Wanted) -> "Reranking":
        """Raises InputError for what is no reranker, and for searches that it cannot order."""
        if reranker is None:
            raise InputError("rerank_depth says how many documents a reranker scores: give rerank", option="rerank")
        if not isinstance(reranker, Reranker):
            raise unusable("rerank", reranker, "a Reranker")
        if query is None:
            raise InputError("rerank scores texts by a query in words: give one", option="rerank")
        if wanted.kind in ("image", "audio"):
            raise InputError("rerank scores texts, so kind is 'text' with it", option="kind")
        if wanted.mmr is not None:
            raise InputError(
                "mmr and rerank each put the hits into an order of their own: choose one. For both, search with mmr, "
                "and give the texts of the hits to Reranker.rerank",
                option="mmr",
            )
        reranker.check_ranks()
        many = max(DEPTH, wanted.k) if depth is None else check_count(depth, "rerank_depth", wanted.k)
        return Reranking(reranker, query, many, wanted.k)

    def order(self, hits: Hits) -> Hits:
        """The best k by the reranker's scores, which are those of the hits then."""
        found = self.reranker.rerank(self.query, [hit.text for hit in hits], top_k=self.k)
        chosen: Sequence[Hit] = [replace(hits[one.index], score=one.score) for one in found]
        return Hits(chosen, hits.shortfall if len(chosen) < self.k else None)
