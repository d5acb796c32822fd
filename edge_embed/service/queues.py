"""The models that are served, each behind its own queue."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_embed.service.batching import Batcher
from edge_embed.service.limits import Limits
from edge_embed.service.metrics import Metrics
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.embed.reranker import Reranker
from edge_embed_runtime.vectors.types import Vectors

Pair = tuple[str, str]


class _Space(NamedTuple):
    """What texts must share to be embedded in one batch."""

    role: str | None
    dim: int | None


class EmbeddingQueue:
    """An embedder that embeds texts of several requests together."""

    def __init__(self, name: str, embedder: Embedder, limits: Limits, metrics: Metrics) -> None:
        self.name, self.embedder = name, embedder
        self.batcher = Batcher[str, _Space](self._run, len, limits.waiting, lambda count: metrics.batch(name, count))

    async def encode(self, texts: Sequence[str], role: str | None, dim: int | None) -> Vectors:
        """float32 [n, dim], the bits of `Embedder.encode`. Raises what that raises, and Refusal (429)."""
        if not texts:
            return np.empty((0, dim or self.embedder.dim), np.float32)
        return await self.batcher.submit(texts, _Space(role, dim))

    def _run(self, texts: list[str], space: _Space) -> Vectors:
        return self.embedder.encode(texts, role=space.role, truncate_dim=space.dim)


class RerankingQueue:
    """A reranker that judges pairs of several requests together."""

    def __init__(self, name: str, reranker: Reranker, limits: Limits, metrics: Metrics) -> None:
        self.name, self.reranker = name, reranker
        self.batcher = Batcher[Pair, bool](
            self._run,
            lambda pair: len(pair[0]) + len(pair[1]),
            limits.waiting,
            lambda count: metrics.batch(name, count),
        )

    async def scores(self, query: str, texts: Sequence[str], *, raw: bool) -> NDArray[np.float32]:
        """float32 [n] or [n, labels]; raw: without the bundle's activation.

        Raises what `Reranker.scores` raises, and Refusal (429).
        """
        if not texts:
            return np.empty(0, np.float32)
        return await self.batcher.submit([(query, text) for text in texts], raw)

    def _run(self, pairs: list[Pair], raw: bool) -> NDArray[np.float32]:
        return self.reranker.scores(pairs, raw=raw)
