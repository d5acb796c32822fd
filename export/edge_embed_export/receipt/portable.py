"""How near a bundle of standard operators is to the same model with onnxruntime's own (see transformer/portable.py)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.receipt.finish import GOLDEN_TEXTS, Loaded, measured_texts
from edge_embed_export.receipt.pairs import golden_pairs
from edge_embed_quantize.receipt import cosine_receipt
from edge_embed_runtime.embed.reranker import Reranker
from edge_embed_runtime.vectors.normalize import normalize

Floats = NDArray[np.float32]


def portable_receipt(portable: Loaded, fast: Loaded) -> dict[str, Any]:
    """What the receipt of the portable bundle says besides: cosines of what both give for the texts that calibration
    has not seen, or the largest difference of their scores."""
    if isinstance(portable, Reranker) or isinstance(fast, Reranker):
        apart = np.abs(_scores(portable) - _scores(fast)).max()
        return {"largest_difference_to_fast_form": float(f"{apart:.3g}")}
    tokenizer = portable.tokenizer
    pairs = [(_given(fast, row), _given(portable, row)) for row in map(tokenizer.encode, measured_texts())]
    cosines = np.array([[float(np.vdot(a, b))] for a, b in pairs], np.float32)
    return {"cosine_to_fast_form": cosine_receipt(np.ones_like(cosines), cosines)["cosine_to_fp32"]}


def _given(model: Any, row: NDArray[np.int64]) -> Floats:
    """All that the model itself gives for a text, as one vector of length 1."""
    vector: Floats = normalize(np.asarray(model.network.run([row])[0], np.float32).reshape(1, -1))[0]
    return vector


def _scores(model: Any) -> Floats:
    return np.asarray(model.scores(golden_pairs(GOLDEN_TEXTS), prompt=""))
