"""What a bundle of vectors of texts is measured by."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edge_embed_export.calibration.layerwise import Remembered
from edge_embed_export.receipt.adapters import adapter_receipt
from edge_embed_export.receipt.engines import engine_receipt
from edge_embed_export.receipt.kinds import CosineReceipt, Floats, Sample
from edge_embed_export.receipt.truncation import truncation_receipt
from edge_embed_export.sources.heads import Head
from edge_embed_export.transformer.spec import Spec
from edge_embed_quantize.receipt import cosine_receipt, rank_tiers
from edge_embed_runtime.bundle.manifest import ONNXRUNTIME, Golden
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.model.golden import GOLDEN_DIGITS
from edge_embed_runtime.system.cpu import cpu_model
from edge_embed_runtime.vectors.rotation import Frame, learn_frame

SPEED_ROUNDS = 3


class DenseReceipt(CosineReceipt):
    """Of one vector for a text: also retrieval at each storage tier, and speed on this machine."""

    def describe(self, spec: Spec, head: Head) -> dict[str, Any]:  # noqa: ARG002 - as of every kind
        return {}

    def golden(self, embedder: Embedder, texts: Sequence[str]) -> list[Golden]:
        rows = zip(texts, embedder.encode(texts, prompt=""), strict=True)
        return [Golden(text, [round(float(x), GOLDEN_DIGITS) for x in row]) for text, row in rows]

    def problem(self, embedder: Embedder, texts: Sequence[str]) -> str:
        lengths = np.linalg.norm(embedder.encode(texts), axis=1)
        return "" if np.abs(lengths - 1).max() < 1e-3 else "the model gives vectors that cannot be normalised"

    def measure(self, reference: Embedder, embedder: Embedder, sample: Sample) -> dict[str, Any]:
        """The frame of binary codes is chosen first, and put into the embedder's manifest."""
        frames = _learn_codes(embedder, sample)
        return {**_receipt(reference, embedder, sample), "binary_codes": frames}


def _learn_codes(embedder: Embedder, sample: Sample) -> dict[str, float]:
    """Choose the frame of binary codes, put it into the manifest, and say what each frame finds (`learn_frame`)."""
    texts = [*sample.calibration, *sample.measured, *sample.judged.texts]
    of_role = any("document" in adapter.roles for adapter in embedder.manifest.adapters)
    frame, found = learn_frame(embedder.encode(texts, role="document" if of_role else None))
    embedder.manifest = replace(embedder.manifest, codes={**embedder.manifest.codes, "frame": frame.to_json()})
    return found


def _receipt(reference: Embedder, embedder: Embedder, sample: Sample) -> dict[str, Any]:
    measured, judged = sample.measured, sample.judged
    expected, slow = _timed(reference, measured)
    vectors, fast = (expected, slow) if embedder is reference else _timed(embedder, measured)

    def both(model: Embedder) -> tuple[Floats, Floats]:
        side = model.manifest.side  # of a model for one role alone
        documents = model.encode(judged.documents, role=side or "document")
        return documents, model.encode(judged.queries, role=side or "query")

    def retrieval(stored: Floats, asked: Floats, frame: Frame) -> dict[str, float]:
        found = rank_tiers(judged.keys, stored, judged.names, asked, frame)
        return {tier: judged.ndcg(ranked) for tier, (ranked, _) in found.items()}

    whole = both(embedder)
    tiers = retrieval(*whole, embedder.frame)
    float_tiers = tiers if embedder is reference else retrieval(*both(reference), reference.frame)
    return {
        **cosine_receipt(expected, vectors),
        **adapter_receipt(reference, embedder, measured),
        **engine_receipt(embedder, measured),
        "retrieval": {"set": judged.title, "ndcg@10": tiers, "ndcg@10_fp32": float_tiers["float"]},
        "truncate_dims": truncation_receipt(
            embedder.manifest.truncate_dims,
            *whole,
            lambda stored, asked: retrieval(stored, asked, Frame()),
            embedder.manifest.truncation,
        ),
        "bytes": sum(record.size for record in embedder.manifest.files.values()),
        **_speed(fast, slow),
    }


def _speed(fast: int, slow: int) -> dict[str, Any]:
    """Of what could be measured: a model that was run layer by layer has no speed."""
    found = {"tokens_per_cpu_second": fast, "tokens_per_cpu_second_fp32": slow}
    measured = {name: number for name, number in found.items() if number}
    return {"speed": {**measured, "threads": 1, "cpu": cpu_model()}} if measured else {}


def _timed(embedder: Embedder, measured: list[str]) -> tuple[Floats, int]:
    """Vectors, and tokens per CPU second: the median of some rounds, to three digits; 0 of a model that was run before
    (see calibration/layerwise.py)."""
    if embedder.engine == ONNXRUNTIME and isinstance(embedder.network.session, Remembered):
        return embedder.encode(measured), 0
    tokens = sum(len(embedder.tokenizer.encode(text)) for text in measured)
    seconds = []
    for _ in range(SPEED_ROUNDS):
        start = time.process_time()
        vectors = embedder.encode(measured)
        seconds.append(time.process_time() - start)
    return vectors, int(float(f"{tokens / max(statistics.median(seconds), 1e-9):.3g}"))
