"""The last steps of every export: a bundle is measured against its float form, and written."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_embed_export.calibration.pairs import questions
from edge_embed_export.calibration.texts import calibration_texts, records
from edge_embed_export.files.accounting import check_ignored
from edge_embed_export.receipt.dense import DenseReceipt
from edge_embed_export.receipt.engines import check_engines
from edge_embed_export.receipt.kinds import Judged, KindReceipt, MultiReceipt, Sample, SparseReceipt
from edge_embed_export.receipt.lengths import check_lengths
from edge_embed_export.receipt.pairs import RerankReceipt, golden_pairs
from edge_embed_export.request import Request
from edge_embed_export.sources.prompts import without_empty
from edge_embed_runtime.bundle.bundle import Content, write_bundle
from edge_embed_runtime.bundle.manifest import Manifest
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.embed.reranker import Reranker
from edge_embed_runtime.errors import ExportError, FidelityError
from edge_embed_runtime.vectors.kinds import DENSE, MULTI, RERANK, SPARSE, Kind

# By kind, what a bundle of it is measured by.
RECEIPTS: dict[Kind, KindReceipt[Any]] = {
    DENSE: DenseReceipt(),
    SPARSE: SparseReceipt(),
    MULTI: MultiReceipt(),
    RERANK: RerankReceipt(),
}
# A bundle that was loaded, as its kind is used.
Loaded = Embedder | Reranker

GOLDEN_TEXTS = (
    "edge_embed turns text into vectors on small machines.",
    "Where can I charge an electric bicycle near the station?",
    "Les données restent sur l'appareil ; 数据保留在设备上。",
    "def mean(values): return sum(values) / len(values)",
)


def measured_texts() -> list[str]:
    """Texts that calibration does not see."""
    return calibration_texts("receipt")


def check_usable(embedder: Loaded, source: Path) -> None:
    """Raise ExportError for a model whose vectors, or scores, are none."""
    problem = RECEIPTS[embedder.output].problem(embedder, GOLDEN_TEXTS)
    if problem:
        raise ExportError(f"{source}: {problem}; its weights are not usable")


def embed_all(embedder: Loaded, *, written: bool) -> None:
    """Embed every text that `finish` asks an embedder for. written: whether it is the one that is written"""
    if isinstance(embedder, Reranker):
        embedder.scores(golden_pairs(GOLDEN_TEXTS), prompt="")
        embedder.scores([pair for question in questions("receipt") for pair in question.pairs])
        return
    kind, judged = embedder.output, Judged(records("judged"))
    texts = [*GOLDEN_TEXTS, *measured_texts()]
    if written and kind is DENSE:  # for the frame
        texts += [*calibration_texts("calibration"), *judged.texts]
    kind.encode(embedder, texts)
    side = embedder.manifest.side  # of a model for one role alone
    kind.encode(embedder, judged.documents, role=side or "document")
    kind.encode(embedder, judged.queries, role=side or "query")


def finish(request: Request, contents: Mapping[str, Content], embedders: tuple[Loaded, Loaded]) -> Manifest:
    """Measure a bundle against its float form, and write it where it is faithful enough.

    embedders: the float form, and the one whose contents are to be written
    """
    manifest = with_notes(measured(request, embedders), check_ignored())
    request.options.progress(f"writing {request.target}")
    write_bundle(request.target, manifest, contents, overwrite=request.options.overwrite)
    return manifest


def measured(request: Request, embedders: tuple[Loaded, Loaded]) -> Manifest:
    """The manifest of a bundle with its receipt and golden texts. embedders: as of `finish`

    Raises FidelityError where it is not faithful enough.
    """
    (reference, embedder), options = embedders, request.options
    if not embedder.manifest.is_static and isinstance(embedder, Embedder):
        check_lengths(embedder, request.source, GOLDEN_TEXTS[0])
        check_engines(embedder, request.source, [*GOLDEN_TEXTS])
    embedder.manifest = replace(embedder.manifest, prompts=without_empty(embedder.manifest.prompts))
    if request.verifier is not None:
        options.progress("comparing with the reference")
        provenance = {**embedder.manifest.provenance, "verified": request.verifier(reference)}
        embedder.manifest = replace(embedder.manifest, provenance=provenance)
    options.progress("measuring fidelity, retrieval and speed")
    own = RECEIPTS[embedder.output]
    sample = Sample(calibration_texts("calibration"), measured_texts(), Judged(records("judged")))
    receipt = own.measure(reference, embedder, sample)
    _check_floor(request, own, receipt)
    receipt |= embedder.manifest.receipt  # what was measured when it was made
    return replace(embedder.manifest, golden=own.golden(embedder, GOLDEN_TEXTS), receipt=receipt)


def _check_floor(request: Request, own: KindReceipt[Any], receipt: dict[str, Any]) -> None:
    options = request.options
    lowest = own.floors[options.precision] if options.floor is None else options.floor
    reached = own.reached(receipt)
    if not reached >= lowest:  # NaN is no fidelity either
        raise FidelityError(
            f"{request.source}: the {options.precision} bundle has a {own.fidelity} of {reached} to the float32 model, "
            f"the floor is {lowest}; nothing was written. A lower floor accepts it",
            path=request.source,
            cosine=reached,
            floor=lowest,
        )


def with_notes(manifest: Manifest, notes: Sequence[str]) -> Manifest:
    """The manifest with more notes in its provenance, behind those that are there."""
    if not notes:
        return manifest
    before = manifest.provenance.get("notes")
    joined = "; ".join([*([str(before)] if before else []), *notes])
    return replace(manifest, provenance={**manifest.provenance, "notes": joined})
