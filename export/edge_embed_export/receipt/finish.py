"""The last steps of every export: what a bundle is worth, beside its float form, and writing it."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.calibration.quantizer import calibration_texts, records
from edge_embed_export.receipt import kinds
from edge_embed_export.receipt.lengths import check_lengths
from edge_embed_export.receipt.truncation import truncation_receipt
from edge_embed_export.sources.accounting import check_ignored
from edge_embed_export.sources.prompts import without_empty
from edge_embed_export.transformer.layerwise import Remembered
from edge_embed_export.variants import adapter_receipt
from edge_embed_export.verify.compare import Verifier
from edge_embed_quantize.receipt import cosine_receipt, rank_tiers, score
from edge_embed_runtime.bundle.bundle import Content, Manifest, write_bundle
from edge_embed_runtime.embed.embedder import METHODS, Embedder
from edge_embed_runtime.errors import ExportError, FidelityError
from edge_embed_runtime.system.cpu import cpu_model
from edge_embed_runtime.vectors.rotation import Frame, learn_frame

# The lowest mean cosine to float32 over the receipt texts that is written without being told to.
FLOORS = {"int8": 0.995, "int4": 0.95, "fp32": 0.0}
SPEED_ROUNDS = 3

GOLDEN_TEXTS = (
    "edge_embed turns text into vectors on small machines.",
    "Where can I charge an electric bicycle near the station?",
    "Les données restent sur l'appareil ; 数据保留在设备上。",
    "def mean(values): return sum(values) / len(values)",
)


def measured_texts() -> list[str]:
    """Texts that calibration does not see."""
    return calibration_texts("receipt")


def check_usable(embedder: Embedder, source: Path) -> None:
    """Raise ExportError for a model whose vectors are no vectors."""
    if embedder.manifest.kind != "dense":
        kinds.check_usable(embedder, GOLDEN_TEXTS, source)
        return
    lengths = np.linalg.norm(embedder.encode(GOLDEN_TEXTS), axis=1)
    if not np.abs(lengths - 1).max() < 1e-3:
        raise ExportError(f"{source}: the model gives vectors that cannot be normalised; its weights are not usable")


def embed_all(embedder: Embedder, *, written: bool) -> None:
    """Embed every text that `finish` asks an embedder for. written: whether it is the one that is written"""
    encode = getattr(embedder, METHODS[embedder.kind])
    rows = records("judged")
    texts = [*GOLDEN_TEXTS, *measured_texts()]
    if written and embedder.kind == "dense":  # for the frame
        texts += [*calibration_texts("calibration"), *(row["text"] for row in rows)]
    encode(texts)
    side = embedder.manifest.side  # of a model for one role alone
    encode([row["text"] for row in rows if "relevant" not in row], role=side or "document")
    encode([row["text"] for row in rows if "relevant" in row], role=side or "query")


def finish(
    source: Path,
    target: Path,
    contents: Mapping[str, Content],
    embedders: tuple[Embedder, Embedder],
    precision: str,
    floor: float | None,
    overwrite: bool,
    progress: Callable[[str], None],
    verifier: Verifier | None = None,
) -> Manifest:
    """Measure a bundle beside its float form, and write it where it is faithful enough.

    embedders: the float form, and the one whose contents are to be written
    verifier:  compares the float form with the reference, and says what the manifest does (see verify/compare.py)
    """
    reference, embedder = embedders
    if not embedder.manifest.is_static:
        check_lengths(embedder, source, GOLDEN_TEXTS[0])
    embedder.manifest = replace(embedder.manifest, prompts=without_empty(embedder.manifest.prompts))
    if verifier is not None:
        progress("comparing with the reference")
        provenance = {**embedder.manifest.provenance, "verified": verifier(reference)}
        embedder.manifest = replace(embedder.manifest, provenance=provenance)
    progress("measuring fidelity, retrieval and speed")
    dense = embedder.manifest.kind == "dense"
    if dense:
        frames = _learn_codes(embedder)
        receipt = {**_receipt(reference, embedder), "binary_codes": frames}
    else:
        receipt = kinds.receipt(reference, embedder, measured_texts(), records("judged"))
    lowest = FLOORS[precision] if floor is None else floor
    reached = min(receipt["cosine_to_fp32"]["mean"], *(a["mean"] for a in receipt.get("adapters", {}).values()), 1.0)
    if not reached >= lowest:  # NaN is no fidelity either
        raise FidelityError(
            f"{source}: the {precision} bundle has a mean cosine of {reached} to the float32 model, the floor is "
            f"{lowest}; nothing was written. A lower floor accepts it",
            path=source,
            cosine=reached,
            floor=lowest,
        )
    manifest = replace(embedder.manifest, golden=kinds.golden(embedder, GOLDEN_TEXTS), receipt=receipt)
    manifest = with_notes(manifest, check_ignored())
    progress(f"writing {target}")
    write_bundle(target, manifest, contents, overwrite=overwrite)
    return manifest


def with_notes(manifest: Manifest, notes: Sequence[str]) -> Manifest:
    """The manifest with more notes in its provenance, behind those that are there."""
    if not notes:
        return manifest
    before = manifest.provenance.get("notes")
    joined = "; ".join([*([str(before)] if before else []), *notes])
    return replace(manifest, provenance={**manifest.provenance, "notes": joined})


def _learn_codes(embedder: Embedder) -> dict[str, float]:
    """Choose the frame of binary codes, put it into the manifest, and say what each frame finds (`learn_frame`)."""
    texts = [*calibration_texts("calibration"), *calibration_texts("receipt"), *(r["text"] for r in records("judged"))]
    of_role = any("document" in adapter.roles for adapter in embedder.manifest.adapters)
    frame, found = learn_frame(embedder.encode(texts, role="document" if of_role else None))
    embedder.manifest = replace(embedder.manifest, codes={**embedder.manifest.codes, "frame": frame.to_json()})
    return found


def _receipt(reference: Embedder, embedder: Embedder) -> dict[str, Any]:
    """What the bundle is worth: fidelity, retrieval at each storage tier, size, and speed on this machine."""
    measured = measured_texts()
    expected, slow = _timed(reference, measured)
    vectors, fast = (expected, slow) if embedder is reference else _timed(embedder, measured)
    rows = records("judged")
    documents = [row for row in rows if "relevant" not in row]
    queries = [row for row in rows if "relevant" in row]
    judgements = {row["id"]: dict.fromkeys(row["relevant"], 1) for row in queries}

    def both(model: Embedder) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        texts = [row["text"] for row in documents], [row["text"] for row in queries]
        side = model.manifest.side  # of a model for one role alone
        return model.encode(texts[0], role=side or "document"), model.encode(texts[1], role=side or "query")

    def retrieval(stored: NDArray[np.float32], asked: NDArray[np.float32], frame: Frame) -> dict[str, float]:
        keys, names = ([row["id"] for row in rows] for rows in (documents, queries))
        found = rank_tiers(keys, stored, names, asked, frame)
        return {tier: round(score(ranked, judgements)["ndcg@10"], 4) for tier, (ranked, _) in found.items()}

    whole = both(embedder)
    tiers = retrieval(*whole, embedder.frame)
    float_tiers = tiers if embedder is reference else retrieval(*both(reference), reference.frame)
    return {
        **cosine_receipt(expected, vectors),
        **adapter_receipt(reference, embedder, measured),
        "retrieval": {
            "set": f"XQuAD, English: {len(documents)} paragraphs, {len(queries)} questions",
            "ndcg@10": tiers,
            "ndcg@10_fp32": float_tiers["float"],
        },
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


def _timed(embedder: Embedder, measured: list[str]) -> tuple[NDArray[np.float32], int]:
    """Vectors, and tokens per CPU second: the median of some rounds, to three digits; 0 of a model that was run before
    (see transformer/layerwise.py)."""
    if not embedder.is_static and isinstance(embedder.network.session, Remembered):
        return embedder.encode(measured), 0
    tokens = sum(len(embedder.tokenizer.encode(text)) for text in measured)
    seconds = []
    for _ in range(SPEED_ROUNDS):
        start = time.process_time()
        vectors = embedder.encode(measured)
        seconds.append(time.process_time() - start)
    return vectors, int(float(f"{tokens / max(statistics.median(seconds), 1e-9):.3g}"))
