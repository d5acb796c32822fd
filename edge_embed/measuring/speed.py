"""Texts to measure with, and timing loops: for `edge-embed bench` and `edge-embed doctor`."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_embed.measuring.lengths import LengthClass
    from edge_embed_runtime.embed.embedder import Embedder
    from edge_embed_runtime.embed.reranker import Reranker

# A text of 12 tokens, special tokens included, is what a user types into a search box.
QUERY_TOKENS = (10, 14)
# A paragraph.
PASSAGE_TOKENS = (100, 128)
TEXTS = 32
# What a reranker scores texts by.
QUERY = "where is my card?"


@dataclass(frozen=True)
class Timed:
    """Wall seconds of each call, and CPU seconds of all of them with every thread of the process."""

    seconds: list[float]
    cpu: float


def timed(call: Callable[[int], Any], seconds: float, least: int, most: int | None = None) -> Timed:
    """Time call(0), call(1), ... until the seconds are over, at least `least` and at most `most` of them."""
    taken: list[float] = []
    cpu, finish = time.process_time(), time.perf_counter() + seconds
    while len(taken) < least or (len(taken) != most and time.perf_counter() < finish):
        start = time.perf_counter()
        call(len(taken))
        taken.append(time.perf_counter() - start)
    return Timed(taken, time.process_time() - cpu)


def encoder(embedder: "Embedder | Reranker") -> Callable[[list[str]], Any]:
    """Its method for texts: `encode`, `encode_sparse` or `encode_multi`; of a reranker `scores`, with a short query."""
    from edge_embed_runtime.vectors.kinds import RERANK

    if embedder.output is RERANK:
        judge: Any = embedder
        return lambda texts: judge.scores([(QUERY, text) for text in texts])
    return partial(embedder.output.encode, embedder)


def fitting(length: "LengthClass", max_tokens: int) -> "LengthClass":
    """A class of lengths, or where the model takes fewer tokens, a class below that: ((100, 128), 64) -> (51, 64)."""
    most = min(length[1], max_tokens)
    return min(length[0], most * 4 // 5), most


def texts_for(embedder: "Embedder | Reranker", length: "LengthClass" = QUERY_TOKENS) -> list[str]:
    """Real texts of these numbers of tokens, or of fewer where the model takes no more."""
    from edge_embed.corpus import demo_documents
    from edge_embed.measuring.lengths import texts_of_length

    sources = [document.text for document in demo_documents()]
    return texts_of_length(embedder.tokenizer, sources, fitting(length, embedder.max_tokens), TEXTS)
