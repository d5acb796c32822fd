"""A bundle of the native engine in onnxruntime as well, which runs it where the native library is missing."""

from pathlib import Path

import numpy as np

from edge_embed_quantize.receipt import cosine_receipt
from edge_embed_runtime.bundle.manifest import NATIVE
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.errors import FidelityError
from edge_embed_runtime.model.batching import BATCH_TOKENS
from edge_embed_runtime.model.golden import GOLDEN_COSINE
from edge_embed_runtime.model.options import Call


def engine_receipt(embedder: Embedder, texts: list[str]) -> dict[str, dict[str, float]]:
    """How near the vectors of both engines are; nothing of a bundle that has one engine."""
    if embedder.engine != NATIVE:
        return {}
    found = embedder.encode(texts, prompt="")
    other = np.empty_like(found)
    for places, vectors in embedder.network.encode(texts, Call(embedder.dim, BATCH_TOKENS)):
        other[places] = vectors
    return {"cosine_to_onnxruntime": cosine_receipt(other, found)["cosine_to_fp32"]}


def check_engines(embedder: Embedder, source: Path, texts: list[str]) -> None:
    """Raise FidelityError where onnxruntime gives golden texts other vectors: on another CPU, where they differ
    more, it might refuse the bundle."""
    lowest = engine_receipt(embedder, texts).get("cosine_to_onnxruntime", {}).get("min", 1.0)
    if not lowest >= GOLDEN_COSINE:
        raise FidelityError(
            f"{source}: vectors of the native engine and of onnxruntime have a cosine of {lowest}, at least "
            f"{GOLDEN_COSINE} is needed; nothing was written. Export it with --engine onnxruntime",
            path=source,
            cosine=lowest,
            floor=GOLDEN_COSINE,
        )
