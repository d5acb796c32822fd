"""What a bundle of standard operators loses against the one with onnxruntime's own (see transformer/portable.py)."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.receipt.finish import GOLDEN_TEXTS, Loaded, measured_texts
from edge_embed_export.receipt.pairs import golden_pairs
from edge_embed_quantize.receipt import cosine_receipt
from edge_embed_runtime.embed.reranker import Reranker
from edge_embed_runtime.vectors.normalize import normalize

Floats = NDArray[np.float32]
# How often each form is run, in turns.
ROUNDS = 3


def portable_receipt(portable: Loaded, fast: Loaded, bytes_of_both: tuple[int, int]) -> dict[str, Any]:
    """What the receipt of the portable bundle says besides: how near it is to the fast form on texts that calibration
    has not seen, and its speed in onnxruntime and its bytes, where those of the fast form are 1.

    bytes_of_both: of the two graphs, the portable one first
    """
    run, nearness = (_scores, _difference) if isinstance(portable, Reranker) else (_vectors, _cosines)
    found: dict[Loaded, list[Floats]] = {}
    seconds: dict[Loaded, list[float]] = {portable: [], fast: []}
    for _ in range(ROUNDS):
        for model in (portable, fast):
            start = time.process_time()
            found[model] = run(model)
            seconds[model].append(time.process_time() - start)
    taken = statistics.median(seconds[portable]), statistics.median(seconds[fast])
    return {
        **nearness(found[portable], found[fast]),
        "speed_to_fast_form": _ratio(taken[1], taken[0]),
        "bytes_to_fast_form": _ratio(*bytes_of_both),
    }


def _vectors(model: Any) -> list[Floats]:
    """All that the model itself gives for each text, as one vector of length 1."""
    rows = map(model.tokenizer.encode, measured_texts())
    return [normalize(np.asarray(model.network.run([row])[0], np.float32).reshape(1, -1))[0] for row in rows]


def _cosines(portable: Sequence[Floats], fast: Sequence[Floats]) -> dict[str, Any]:
    cosines = np.array([[float(np.vdot(a, b))] for a, b in zip(portable, fast, strict=True)], np.float32)
    return {"cosine_to_fast_form": cosine_receipt(np.ones_like(cosines), cosines)["cosine_to_fp32"]}


def _scores(model: Any) -> list[Floats]:
    return [np.asarray(model.scores(golden_pairs(GOLDEN_TEXTS), prompt=""))]


def _difference(portable: Sequence[Floats], fast: Sequence[Floats]) -> dict[str, Any]:
    return {"largest_difference_to_fast_form": float(f"{np.abs(portable[0] - fast[0]).max():.3g}")}


def _ratio(a: float, b: float) -> float:
    return float(f"{a / max(b, 1e-9):.3g}")
