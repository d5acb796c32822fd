"""Vectors of a bundle for LlamaIndex."""

import os
from functools import partial
from typing import Any, Self

from edge_embed.integrations.embedding import embedder_of
from edge_embed_runtime.bundle.bundle import Bundle
from edge_embed_runtime.embed.encoder import Encoder
from edge_embed_runtime.errors import BundleMismatchError
from edge_embed_runtime.extras import require

require("llama_index.core", "llamaindex")
from llama_index.core.base.embeddings.base import BaseEmbedding
from pydantic import PrivateAttr


class EdgeEmbedding(BaseEmbedding):
    """Embeds texts with a bundle's prompt for documents, queries with that for queries.

    bundle:  a bundle's folder or the name of an embedded one, None for the default; or an Embedder
    options: of `Embedder`, such as threads, truncate_dim, max_rss_mb, and those of LlamaIndex's embeddings:
             embed_batch_size, callback_manager, num_workers, embeddings_cache, rate_limiter

    A text that is longer than the model reads is a TruncationWarning. Can be pickled. What LlamaIndex caches of it, it
    finds by `fingerprint` and `dim`: another bundle is another model. Raises what `Embedder` raises.
    """

    fingerprint: str = ""
    dim: int = 0
    _embedder: Any = PrivateAttr()

    def __init__(self, bundle: str | os.PathLike[str] | Bundle | Encoder | None = None, **options: Any) -> None:
        own = {name: options.pop(name) for name in BaseEmbedding.model_fields if name in options}
        embedder = embedder_of(bundle, options)
        super().__init__(**{"model_name": embedder.name, **own}, fingerprint=embedder.fingerprint, dim=embedder.dim)
        self._embedder = embedder

    def __reduce__(self) -> tuple[Any, ...]:
        own = {name: getattr(self, name) for name in ("model_name", "embed_batch_size", "num_workers")}
        return partial(type(self), self._embedder, **own), ()

    @classmethod
    def from_dict(cls, data: dict[str, Any], **options: Any) -> Self:
        """Made again from `to_dict`, which says what the vectors are but not where the bundle lies.

        options: bundle (None for the default) and options of `Embedder`, as it was made with. Raises
                 BundleMismatchError where they give other vectors
        """
        given = {name: value for name, value in data.items() if name not in ("fingerprint", "dim")}
        made = super().from_dict(given, **options)
        if (made.fingerprint, made.dim) != (data.get("fingerprint"), data.get("dim")):
            raise BundleMismatchError(
                f"{made.embedder.path} gives other vectors than {data.get('model_name')!r} with "
                f"{data.get('dim')} numbers did: give bundle= and options as it was made with",
                path=made.embedder.path,
                bundle=data.get("model_name"),
            )
        return made

    @classmethod
    def class_name(cls) -> str:
        return "EdgeEmbedding"

    @property
    def embedder(self) -> Encoder:
        """What makes the vectors."""
        return self._embedder

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embedder.encode_query([query])[0].tolist()

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embedder.encode_document([text], on_truncation="warn")[0].tolist()

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embedder.encode_document(texts, on_truncation="warn").tolist()

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return (await self._embedder.aencode_query([query]))[0].tolist()

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._embedder.aencode_document([text], on_truncation="warn"))[0].tolist()

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return (await self._embedder.aencode_document(texts, on_truncation="warn")).tolist()
