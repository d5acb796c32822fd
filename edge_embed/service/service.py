"""What the routes ask: named bundles, rerankers and one index."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from edge_embed.service.refusals import Refusal
from edge_embed_runtime.checks import check_text
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.vectors.types import Vectors

if TYPE_CHECKING:
    from edge_embed_runtime.index.index import Index

T = TypeVar("T")


class Service:
    """Models and an index for the routes. Its methods are called in the event loop's thread; the work is done in
    others."""

    def __init__(
        self,
        embedders: Mapping[str, Embedder],
        rerankers: "Mapping[str, Any] | None" = None,
        *,
        index: "Index | None" = None,
    ) -> None:
        self.embedders = dict(embedders)
        self.rerankers = dict(rerankers or {})
        self.index = index

    def embedder(self, model: str | None = None) -> Embedder:
        """The embedder of a name; None is the first. Raises Refusal (404) for an unknown name."""
        found = self.embedders.get(next(iter(self.embedders), "") if model is None else model)
        if found is None:
            raise Refusal(404, "model_not_found", f"there is no model {model!r} here")
        return found

    def reranker(self, model: str | None = None) -> Any:
        """The reranker of a name; None is the first. Raises Refusal (404) where there is none."""
        found = self.rerankers.get(next(iter(self.rerankers), "") if model is None else model)
        if found is None:
            raise Refusal(404, "model_not_found", "there is no such reranker here: edge-embed serve --rerank BUNDLE")
        return found

    async def embed(
        self, texts: Sequence[str], model: str | None = None, *, role: str | None = None, dim: int | None = None
    ) -> Vectors:
        """float32 [n, dim], the same bits as `Embedder.encode`."""
        embedder = self.embedder(model)
        return await asyncio.to_thread(embedder.encode, list(texts), role=role, truncate_dim=dim)

    async def count_tokens(self, texts: Sequence[str], model: str | None = None, role: str | None = None) -> list[int]:
        """Tokens of each text as the model would read it whole, prompt and special tokens included."""
        embedder = self.embedder(model)
        return await asyncio.to_thread(_count_tokens, embedder, texts, role)

    async def rerank(self, query: str, texts: Sequence[str], model: str | None = None) -> Vectors:
        """float32 [n]: how well each text answers the query."""
        reranker = self.reranker(model)
        scores: Vectors = await asyncio.to_thread(reranker.scores, [(query, text) for text in texts])
        return scores

    async def read(self, call: "Callable[[Index], T]") -> T:
        """What `call` makes of the index, in another thread. Raises Refusal (404) where there is no index."""
        return await asyncio.to_thread(call, self._index())

    async def write(self, call: "Callable[[Index], T]") -> T:
        """`read`, with the index opened for writing; one call at a time."""
        return await asyncio.to_thread(call, self._index())

    def _index(self) -> "Index":
        if self.index is None:
            raise Refusal(404, "no_index", "this service has no index: edge-embed serve INDEX")
        return self.index


def _count_tokens(embedder: Embedder, texts: Sequence[str], role: str | None) -> list[int]:
    named = role or embedder.manifest.default_role
    before = embedder.prompts[named] if named else ""
    special = sum(map(len, embedder.tokenizer.around))
    return [
        len(embedder.tokenizer.plain(before + check_text(text, f"text {i}"), len(text) + 1024)) + special
        for i, text in enumerate(texts)
    ]
