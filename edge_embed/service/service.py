"""What the routes ask: named bundles, rerankers and one index."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_embed.service.batching import Batcher
from edge_embed.service.indexes import ServedIndex
from edge_embed.service.limits import Limits
from edge_embed.service.media import check_content
from edge_embed.service.metrics import Metrics
from edge_embed.service.queues import EmbeddingQueue, RerankingQueue
from edge_embed.service.refusals import Refusal
from edge_embed_runtime.checks import check_count, shown
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.embed.reranker import Reranker
from edge_embed_runtime.embed.texts import check_texts
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.storage.documents import Hits
from edge_embed_runtime.vectors.types import Vectors

T = TypeVar("T")
# Threads that ask the index, write it, and embed pictures; more would only wait for each other.
THREADS = {"read": 2, "write": 1, "media": 1}
# Texts up to so many characters are tokenized in the event loop's thread.
SMALL = 2000


class Service:
    """Models and an index for the routes. Its methods are called in the event loop's thread; the work is done in
    others.

    embedders: by the names that clients use; the first is the default
    rerankers: likewise, by other names
    index:     None where only models are served
    """

    def __init__(
        self,
        embedders: Mapping[str, Embedder],
        rerankers: Mapping[str, Reranker] | None = None,
        *,
        index: ServedIndex | None = None,
        limits: Limits | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.limits = limits = limits or Limits()
        self.metrics, self.index = metrics or Metrics(), index
        self.embedders = dict(embedders)
        self.rerankers = dict(rerankers or {})
        self.stopping = False
        self._embedding = {n: EmbeddingQueue(n, e, limits, self.metrics) for n, e in self.embedders.items()}
        self._reranking = {n: RerankingQueue(n, r, limits, self.metrics) for n, r in self.rerankers.items()}
        self._batchers: dict[str, Batcher[Any, Any]] = {n: queue.batcher for n, queue in self._embedding.items()}
        self._batchers.update((n, queue.batcher) for n, queue in self._reranking.items())
        self._calls = {name: _Calls(threads, limits.calls) for name, threads in THREADS.items()}
        self._watch()

    def embedder(self, model: str | None = None) -> Embedder:
        """The embedder of a name; None is the first. Raises Refusal (404) for an unknown name."""
        return self._embedding_queue(model).embedder

    def reranker(self, model: str | None = None) -> Reranker:
        """The reranker of a name; None is the first. Raises Refusal (404) where there is none."""
        return self._reranking_queue(model).reranker

    async def embed(
        self, texts: Sequence[str], model: str | None = None, *, role: str | None = None, dim: int | None = None
    ) -> Vectors:
        """float32 [n, dim], the same bits as `Embedder.encode`.

        Raises InputError for what is no text, Refusal for an unknown model (404), texts beyond the limits (413) and a
        full queue (429).
        """
        queue = self._embedding_queue(model)
        return await queue.encode(self._checked(texts), role, dim)

    async def embed_images(self, images: Sequence[bytes], model: str | None = None) -> Vectors:
        """float32 [n, dim] of pictures' files, one request at a time: `Embedder.encode_image`.

        Raises MediaError for what is no picture, InputError for a model without an image tower, Refusal for an unknown
        model (404), pictures beyond the limits (413) and a full queue (429).
        """
        embedder, limits = self.embedder(model), self.limits
        if len(images) > limits.texts:
            raise Refusal(413, "too_many_images", f"{len(images):,} pictures are too many, the limit is {limits.texts}")

        def run() -> Vectors:
            for content in images:
                check_content("image", content, limits)
            return embedder.encode_image(list(images))

        return await self._calls["media"].run(run)

    async def count_tokens(self, texts: Sequence[str], model: str | None = None, role: str | None = None) -> list[int]:
        """Tokens of each text as the model would read it whole, with prompt and special tokens. Raises what `embed`
        raises, before anything is counted."""
        queue, checked = self._embedding_queue(model), self._checked(texts)
        queue.batcher.check_room(checked)
        if sum(map(len, checked)) <= SMALL:
            counts = queue.embedder.count_tokens(checked, role=role)
        else:
            counts = await asyncio.to_thread(queue.embedder.count_tokens, checked, role=role)
        self.metrics.tokens(queue.name, sum(min(count, queue.embedder.max_tokens) for count in counts))
        return counts

    async def rerank(
        self, query: str, texts: Sequence[str], model: str | None = None, *, raw: bool = False
    ) -> NDArray[np.float32]:
        """float32 [n], or [n, labels]: how well each text answers the query. Raises what `embed` raises.

        raw: logits, without the activation of the bundle
        """
        queue = self._reranking_queue(model)
        (query,), texts = self._checked([query]), self._checked(texts)
        return await queue.scores(query, texts, raw=raw)

    async def search(self, query: str | None = None, k: int = 10, **options: Any) -> Hits:
        """`Index.search` with its options, in another thread. Raises InputError for a k over the limit."""
        check_count(k, "k", 1, self.limits.hits)
        if query is not None:
            self._checked([query])
        media = {name: options[name] for name in ("image", "audio") if options.get(name) is not None}

        def call(index: Index) -> Hits:
            for modality, content in media.items():
                check_content(modality, content, self.limits)
            return index.search(query, k, **options)

        # a long sound must not keep other searches waiting
        return await self.read(call, "media" if media else "read")

    async def read(self, call: Callable[[Index], T], threads: str = "read") -> T:
        """What `call` makes of the index, in another thread. Raises Refusal: 404 without an index, 429 where too many
        wait.

        threads: whose turn it is, of THREADS
        """
        served = self._served()
        return await self._calls[threads].run(lambda: call(served.current()))

    async def write(self, call: Callable[[Index], T]) -> T:
        """`read` for what changes the index: one call at a time, in turns with other processes. Once it has begun it
        is finished, also where the client goes away. Raises IndexReadOnlyError."""
        served = self._served()
        served.check_writable()
        return await self._calls["write"].run(lambda: call(served.current()))

    def close(self) -> None:
        """End the threads, and let go of the index."""
        self.stopping = True
        for batcher in self._batchers.values():
            batcher.close()
        for calls in self._calls.values():
            calls.close()
        if self.index is not None:
            self.index.close()

    def _checked(self, texts: Sequence[str]) -> list[str]:
        limits = self.limits
        if len(texts) > limits.texts:  # before they are looked at one by one: there may be a million
            raise Refusal(413, "too_many_texts", f"{len(texts):,} texts are too many, the limit is {limits.texts:,}")
        checked = check_texts(texts)
        longest = max(map(len, checked), default=0)
        if longest > limits.characters:
            raise Refusal(
                413, "text_too_long", f"a text has {longest:,} characters, the limit is {limits.characters:,}"
            )
        return checked

    def _embedding_queue(self, model: str | None) -> EmbeddingQueue:
        found = self._embedding.get(next(iter(self._embedding), "") if model is None else model)
        if found is None:
            raise Refusal(404, "model_not_found", f"there is no model {shown(model)} here")
        return found

    def _reranking_queue(self, model: str | None) -> RerankingQueue:
        found = self._reranking.get(next(iter(self._reranking), "") if model is None else model)
        if found is None:
            what = "no reranker" if not self._reranking else f"no reranker {shown(model)}"
            raise Refusal(404, "model_not_found", f"there is {what} here: edge-embed serve --rerank BUNDLE")
        return found

    def _served(self) -> ServedIndex:
        if self.index is None:
            raise Refusal(404, "no_index", "this service has no index: edge-embed serve INDEX")
        return self.index

    def _watch(self) -> None:
        """What /metrics reads when it is asked."""
        self.metrics.watch(
            "edge_embed_waiting_texts", "Texts that wait for a model.",
            lambda: {name: float(batcher.waiting) for name, batcher in self._batchers.items()},
        )  # fmt: skip
        self.metrics.watch(
            "edge_embed_waiting_calls", "Calls that wait for the index.",
            lambda: {"": float(sum(calls.waiting for calls in self._calls.values()))},
        )  # fmt: skip
        self.metrics.watch_memory()


class _Calls:
    """Calls in threads of their own, of which only so many may wait."""

    def __init__(self, threads: int, waiting: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="edge_embed index")
        self._most = threads + waiting
        self.waiting = 0

    async def run(self, call: Callable[[], T]) -> T:
        if self.waiting >= self._most:
            raise Refusal(429, "queue_full", "too many requests wait for the index: try again later", retry_after=1)
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        finally:
            self.waiting -= 1

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
