"""The last steps of every export: a bundle is measured against its float form, and written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edge_embed_export.calibration.quantizer import calibration_texts, records
from edge_embed_export.receipt.dense import DenseReceipt
from edge_embed_export.receipt.kinds import Judged, KindReceipt, MultiReceipt, Sample, SparseReceipt
from edge_embed_export.receipt.lengths import check_lengths
from edge_embed_export.sources.accounting import check_ignored
from edge_embed_export.sources.prompts import without_empty
from edge_embed_export.verify.compare import Verifier
from edge_embed_runtime.bundle.bundle import Content, write_bundle
from edge_embed_runtime.bundle.manifest import Manifest
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.errors import ExportError, FidelityError
from edge_embed_runtime.vectors.kinds import DENSE, MULTI, SPARSE, Kind

# The lowest mean cosine to float32 over the receipt texts that is written without being told to.
FLOORS = {"int8": 0.995, "int4": 0.95, "fp32": 0.0}
# By kind, what a bundle of it is measured by.
RECEIPTS: dict[Kind, KindReceipt] = {DENSE: DenseReceipt(), SPARSE: SparseReceipt(), MULTI: MultiReceipt()}

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
    problem = RECEIPTS[embedder.output].problem(embedder, GOLDEN_TEXTS)
    if problem:
        raise ExportError(f"{source}: {problem}; its weights are not usable")


def embed_all(embedder: Embedder, *, written: bool) -> None:
    """Embed every text that `finish` asks an embedder for. written: whether it is the one that is written"""
    kind, judged = embedder.output, Judged(records("judged"))
    texts = [*GOLDEN_TEXTS, *measured_texts()]
    if written and kind is DENSE:  # for the frame
        texts += [*calibration_texts("calibration"), *judged.texts]
    kind.encode(embedder, texts)
    side = embedder.manifest.side  # of a model for one role alone
    kind.encode(embedder, judged.documents, role=side or "document")
    kind.encode(embedder, judged.queries, role=side or "query")


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
    own = RECEIPTS[embedder.output]
    sample = Sample(calibration_texts("calibration"), measured_texts(), Judged(records("judged")))
    receipt = own.measure(reference, embedder, sample)
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
    manifest = replace(embedder.manifest, golden=own.golden(embedder, GOLDEN_TEXTS), receipt=receipt)
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
