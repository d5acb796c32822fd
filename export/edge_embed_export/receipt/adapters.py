"""What int8 leaves of the adapters of a model."""

from collections.abc import Sequence
from typing import Any

from edge_embed_quantize.receipt import cosine_receipt
from edge_embed_runtime.embed.embedder import Embedder


def adapter_receipt(reference: Embedder, embedder: Embedder, texts: Sequence[str]) -> dict[str, Any]:
    """The cosines of each adapter's vectors to those of the float model with the same adapter."""
    found = {}
    for name in embedder.adapters:
        expected, vectors = (one.encode(texts, adapter=name) for one in (reference, embedder))
        found[name] = cosine_receipt(expected, vectors)["cosine_to_fp32"]
    return {"adapters": found} if found else {}


def lowest_mean(reference: Embedder, embedder: Embedder, texts: Sequence[str]) -> float:
    """The mean cosine of the adapter that lost most; 1 where there is none."""
    measured: dict[str, Any] = adapter_receipt(reference, embedder, texts).get("adapters", {})
    return min((figures["mean"] for figures in measured.values()), default=1.0)
