"""From a checkpoint folder to a verified bundle."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.checkpoint import Checkpoint, read_checkpoint
from edge_embed_export.families import read_family
from edge_embed_export.quantizing import Quantized, Quantizer, calibration_texts, read_recipes, records
from edge_embed_export.transformer import Spec, build, prepare
from edge_embed_quantize.receipt import cosine_receipt, rank_tiers, score
from edge_embed_quantize.table import TABLE_BITS
from edge_embed_runtime.bundle import MODEL, TOKENIZER, Bundle, Golden, Manifest, file_records, write_bundle
from edge_embed_runtime.embedder import Embedder
from edge_embed_runtime.errors import BundleFormatError, ExportError, FidelityError, InputError
from edge_embed_runtime.frame import learn_frame
from edge_embed_runtime.machine import cpu_model
from edge_embed_runtime.tokenizer import Tokenizer, sanitize

# The lowest mean cosine to float32 over the receipt texts that is written without being told to.
FLOORS = {"int8": 0.995, "int4": 0.95, "fp32": 0.0}
PRECISIONS = tuple(FLOORS)
SPEED_ROUNDS = 3

GOLDEN_TEXTS = (
    "edge_embed turns text into vectors on small machines.",
    "Where can I charge an electric bicycle near the station?",
    "Les données restent sur l'appareil ; 数据保留在设备上。",
    "def mean(values): return sum(values) / len(values)",
)


def export_model(
    source: str | os.PathLike[str],
    bundle: str | os.PathLike[str],
    *,
    name: str | None = None,
    source_name: str | None = None,
    precision: str = "int8",
    table: str = "int8",
    search: bool = False,
    recipes: str | os.PathLike[str] | None = None,
    floor: float | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Export a sentence-transformers folder to a bundle.

    source:    a folder with config.json, model.safetensors, tokenizer.json and, where they exist, modules.json and
               the folders of its pooling and dense modules
    name:      the bundle's name; None means the name of the folder `bundle`
    source_name: where the checkpoint comes from, for the manifest; None means the folder's name
    precision: "int8"; "int4" stores weights in four bits and computes in int8; "fp32" is a reference to compare with
    table:     the embedding table's rows: "int8", or "int4" or "int3" for tokens that are not frequent
    search:    try several ways to quantize at every place and keep the best (two minutes for MiniLM)
    recipes:   a bundle, or its manifest.json, whose recipes are taken instead: the same result without the search
    floor:     the lowest mean cosine to float32 to accept; None means what FLOORS says
    progress:  called with a line of text before each step

    Raises SourceError for a missing or malformed file, UnsupportedModelError for an unknown architecture, ExportError
    for a checkpoint that cannot be exported, FidelityError (an ExportError) below the floor. Nothing is written then.
    """
    _check_options(precision, table, search, recipes)
    source, target = Path(source), Path(bundle)
    given = None if recipes is None else read_recipes(Path(recipes))
    progress(f"reading {source}")
    checkpoint = read_checkpoint(source)
    spec, raw_weights = read_family(checkpoint)
    weights = prepare(spec, raw_weights)
    tokenizer_bytes = sanitize(checkpoint.tokenizer)
    try:
        tokenizer = Tokenizer(tokenizer_bytes, spec.max_tokens)
    except BundleFormatError as error:
        raise ExportError(f"{source}: {error}") from error
    if tokenizer.largest_id >= spec.vocab:
        raise ExportError(
            f"{source}: the tokenizer has {tokenizer.largest_id + 1} tokens, the embedding table {spec.vocab} rows; "
            "they do not belong together"
        )

    def in_memory(quantized: Quantized | None) -> tuple[Embedder, dict[str, bytes]]:
        parts = (weights,) if quantized is None else (quantized.weights, quantized.layers, quantized.table)
        graph = build(spec, *parts)
        contents = {MODEL: graph.SerializeToString(), TOKENIZER: tokenizer_bytes}
        name_ = name or target.absolute().name
        manifest = _manifest(name_, source_name, checkpoint, spec, quantized, contents)
        return Embedder(Bundle(target, manifest, contents[MODEL], tokenizer_bytes), threads=1), contents

    progress("building the float32 graph")
    reference, contents = in_memory(None)
    embedder = reference
    _check_usable(reference, source)
    if precision != "fp32":
        progress("calibrating")
        quantizer = Quantizer(spec, weights, tokenizer)
        chosen = given
        if chosen is None:
            chosen = quantizer.search(progress) if search else quantizer.default_recipes()
        progress("rounding weights")
        embedder, contents = in_memory(quantizer.quantize(chosen, table=table, int4=precision == "int4"))
    progress("measuring fidelity, retrieval and speed")
    frames = _learn_codes(embedder)
    receipt = {**_receipt(reference, embedder), "binary_codes": frames}
    lowest = FLOORS[precision] if floor is None else floor
    reached = receipt["cosine_to_fp32"]["mean"]
    if not reached >= lowest:  # NaN is no fidelity either
        raise FidelityError(
            f"{source}: the {precision} bundle has a mean cosine of {reached} to the float32 model, the floor is "
            f"{lowest}; nothing was written. A lower floor accepts it"
        )
    golden = [
        Golden(text, [round(float(x), 6) for x in row])
        for text, row in zip(GOLDEN_TEXTS, embedder.encode(GOLDEN_TEXTS), strict=True)
    ]
    manifest = replace(embedder.manifest, golden=golden, receipt=receipt)
    progress(f"writing {target}")
    write_bundle(target, manifest, contents, overwrite=overwrite)
    return manifest


def _check_options(precision: str, table: str, search: bool, recipes: str | os.PathLike[str] | None) -> None:
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}, expected one of {PRECISIONS}")
    if table not in TABLE_BITS:
        raise InputError(f"table is {table!r}, expected one of {tuple(TABLE_BITS)}")
    if precision == "fp32" and (table != "int8" or search or recipes is not None):
        raise InputError("precision fp32 quantizes nothing: table, search and recipes have no use with it")
    if search and recipes is not None:
        raise InputError("search finds recipes and recipes gives them: choose one")


def _check_usable(embedder: Embedder, source: Path) -> None:
    lengths = np.linalg.norm(embedder.encode(GOLDEN_TEXTS), axis=1)
    if not np.abs(lengths - 1).max() < 1e-3:
        raise ExportError(f"{source}: the model gives vectors that cannot be normalised; its weights are not usable")


def _learn_codes(embedder: Embedder) -> dict[str, float]:
    """Choose the frame of binary codes, put it into the manifest, and say what each frame finds (`learn_frame`)."""
    texts = [*calibration_texts("calibration"), *calibration_texts("receipt"), *(r["text"] for r in records("judged"))]
    frame, found = learn_frame(embedder.encode(texts))
    embedder.manifest = replace(embedder.manifest, codes={**embedder.manifest.codes, "frame": frame.to_json()})
    return found


def _receipt(reference: Embedder, embedder: Embedder) -> dict[str, Any]:
    """What the bundle is worth: fidelity, retrieval at each storage tier, size, and speed on this machine."""
    measured = calibration_texts("receipt")
    expected, slow = _timed(reference, measured)
    vectors, fast = (expected, slow) if embedder is reference else _timed(embedder, measured)
    rows = records("judged")
    documents = [row for row in rows if "relevant" not in row]
    queries = [row for row in rows if "relevant" in row]
    judgements = {row["id"]: dict.fromkeys(row["relevant"], 1) for row in queries}

    def retrieval(model: Embedder) -> dict[str, float]:
        found = rank_tiers(
            [row["id"] for row in documents],
            model.encode_document([row["text"] for row in documents]),
            [row["id"] for row in queries],
            model.encode_query([row["text"] for row in queries]),
            model.frame,
        )
        return {tier: round(score(ranked, judgements)["ndcg@10"], 4) for tier, (ranked, _) in found.items()}

    tiers = retrieval(embedder)
    float_tiers = tiers if embedder is reference else retrieval(reference)
    return {
        **cosine_receipt(expected, vectors),
        "retrieval": {
            "set": f"XQuAD, English: {len(documents)} paragraphs, {len(queries)} questions",
            "ndcg@10": tiers,
            "ndcg@10_fp32": float_tiers["float"],
        },
        "bytes": sum(record.size for record in embedder.manifest.files.values()),
        "speed": {
            "tokens_per_cpu_second": fast,
            "tokens_per_cpu_second_fp32": slow,
            "threads": 1,
            "cpu": cpu_model(),
        },
    }


def _timed(embedder: Embedder, measured: list[str]) -> tuple[NDArray[np.float32], int]:
    """Vectors, and tokens per CPU second: the median of some rounds, to three digits."""
    tokens = sum(len(embedder.tokenizer.encode(text)) for text in measured)
    seconds = []
    for _ in range(SPEED_ROUNDS):
        start = time.process_time()
        vectors = embedder.encode(measured)
        seconds.append(time.process_time() - start)
    return vectors, int(float(f"{tokens / max(statistics.median(seconds), 1e-9):.3g}"))


def _manifest(
    name: str,
    source_name: str | None,
    checkpoint: Checkpoint,
    spec: Spec,
    quantized: Quantized | None,
    contents: dict[str, bytes],
) -> Manifest:
    float32: dict[str, Any] = dict.fromkeys(("weights", "activations", "embedding_table"), "float32")
    return Manifest(
        name=name,
        files=file_records(contents),
        dim=spec.dim,
        max_tokens=spec.max_tokens,
        pooling=spec.pooling,
        architecture={
            "family": checkpoint.architecture,
            "layers": spec.layers,
            "hidden": spec.hidden,
            "intermediate": spec.intermediate,
            "heads": spec.heads,
            "vocab": spec.vocab,
        },
        prompts=checkpoint.prompts,
        quantization=float32 if quantized is None else quantized.describe(),
        codes={"int8": "symmetric, one scale per vector", "binary": "sign, in the frame"},
        provenance={
            "source": source_name or checkpoint.folder.resolve().name,
            "weights_sha256": checkpoint.sha256,
            "licence": checkpoint.licence,
            "versions": {package: version(package) for package in ("onnx", "onnxruntime")},
        },
    )
