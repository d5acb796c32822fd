"""From a checkpoint folder to a verified bundle."""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.checkpoint import Checkpoint, read_checkpoint
from edge_embed_export.families import read_family
from edge_embed_export.families.jina import task_prompts
from edge_embed_export.large import float_session, placeholder
from edge_embed_export.prompts import with_roles
from edge_embed_export.quantizing import Quantized, Quantizer, calibration_texts, read_recipes, records
from edge_embed_export.spec import Spec, prepare
from edge_embed_export.static import MAX_TOKENS, StaticSource, find_kind, make_table, read_static, weighted_rows
from edge_embed_export.transformer import build
from edge_embed_quantize.receipt import cosine_receipt, rank_tiers, score
from edge_embed_quantize.table import TABLE_BITS
from edge_embed_runtime.bundle import MODEL, TABLE, TOKENIZER, Bundle, Golden, Manifest, file_records, write_bundle
from edge_embed_runtime.checks import check_count, check_text
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
    max_tokens: int | None = None,
    prompts: Mapping[str, str] | None = None,
    adapter: str | os.PathLike[str] | None = None,
    task: str | None = None,
    words: int | None = None,
    sif: float | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Export a sentence-transformers folder, or a static model (see `static`), to a bundle.

    source:    a folder with config.json, model.safetensors, tokenizer.json and, where they exist, modules.json and
               the folders of its pooling and dense modules
    name:      the bundle's name; None means the name of the folder `bundle`
    source_name: where the checkpoint comes from, for the manifest; None means the folder's name
    precision: "int8"; "int4" stores weights in four bits and computes in int8; "fp32" is a reference to compare with
    table:     the embedding table's rows: "int8", or "int4" or "int3" for tokens that are not frequent
    search:    try several ways to quantize at every place and keep the best (two minutes for MiniLM)
    recipes:   a bundle, or its manifest.json, whose recipes are taken instead: the same result without the search
    floor:     the lowest mean cosine to float32 to accept; None means what FLOORS says
    max_tokens: of a text; None means what the folder says, or 8192 where it says nothing and the model allows more
    prompts:   text put before the input, by role, besides and instead of the folder's own
    adapter:   a folder with a LoRA adapter (peft's format), added to the weights
    task:      which of the model's own adapters to add to the weights (Jina v3: "retrieval.query", ...)
    words:     of a file of word vectors, only so many from its beginning
    sif:       of a file of word vectors, weight words by a / (a + p) for this a (see `static.zipf_weights`)
    progress:  called with a line of text before each step

    Raises SourceError for a missing or malformed file, UnsupportedModelError for an unknown architecture, ExportError
    for a checkpoint that cannot be exported, FidelityError (an ExportError) below the floor. Nothing is written then.
    """
    _check_options(precision, table, search, recipes)
    source, target = Path(source), Path(bundle)
    if find_kind(source) is not None:
        if precision == "int4" or table != "int8" or search or recipes is not None:
            raise InputError(f"{source} is a static model: its table is int8 or fp32, the other options have no use")
        progress(f"reading {source}")
        static = read_static(source, words=words, sif=sif)
        return write_static(
            static,
            target,
            name=name,
            source_name=source_name or source.resolve().name,
            precision=precision,
            floor=floor,
            overwrite=overwrite,
            progress=progress,
        )
    if words is not None or sif is not None:
        raise InputError("words and sif are for files of word vectors")
    given = None if recipes is None else read_recipes(Path(recipes))
    progress(f"reading {source}")
    checkpoint = _read(source, source_name, max_tokens, prompts, adapter, task)
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
    if not len(tokenizer.encode("")):
        raise ExportError(f"{source}: the tokenizer adds no special token, so the empty text would have no vector")

    def in_memory(quantized: Quantized | None) -> tuple[Embedder, dict[str, bytes]]:
        parts = (weights,) if quantized is None else (quantized.weights, quantized.layers, quantized.table)
        # a float model that is only compared with may be larger than a file
        apart: dict[str, NDArray[Any]] | None = None if quantized or precision == "fp32" else {}
        graph = build(spec, *parts, apart=apart)
        contents = {MODEL: placeholder(spec) if apart else graph.SerializeToString(), TOKENIZER: tokenizer_bytes}
        name_ = name or target.absolute().name
        manifest = _manifest(name_, source_name, checkpoint, spec, quantized, contents)
        embedder = Embedder(Bundle(target, manifest, contents[MODEL], tokenizer_bytes), threads=1)
        if apart:
            embedder.network.session = float_session(spec, weights)
        return embedder, contents

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
    return _finish(source, target, contents, (reference, embedder), precision, floor, overwrite, progress)


def write_static(
    static: StaticSource,
    target: Path,
    *,
    name: str | None = None,
    source_name: str = "",
    precision: str = "int8",
    floor: float | None = None,
    prompts: dict[str, str] | None = None,
    truncate_dims: Sequence[int] = (),
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Write a bundle of a static model. Options and errors are those of `export_model`."""
    tokenizer_bytes = sanitize({**static.tokenizer, "post_processor": None})  # special tokens would say nothing
    try:
        vocab = Tokenizer(tokenizer_bytes, MAX_TOKENS).largest_id + 1
    except BundleFormatError as error:
        raise ExportError(f"{source_name}: {error}") from error
    rows, place = weighted_rows(static, vocab)

    def in_memory(precision: str) -> tuple[Embedder, dict[str, bytes]]:
        contents = {TABLE: make_table(rows, place, int8=precision == "int8"), TOKENIZER: tokenizer_bytes}
        manifest = Manifest(
            name=name or target.absolute().name,
            files=file_records(contents),
            dim=static.dim,
            max_tokens=MAX_TOKENS,
            pooling="weighted sum of token vectors",
            architecture={"family": "static", "kind": static.kind, "vocab": vocab, "rows": len(rows) - 1},
            prompts=prompts or {},
            truncate_dims=list(truncate_dims),
            quantization={"embedding_table": "int8, one scale per column" if precision == "int8" else "float32"},
            codes={"int8": "symmetric, one scale per vector", "binary": "sign, in the frame"},
            provenance={
                "source": source_name,
                "weights_sha256": static.sha256,
                "licence": static.licence,
                **(static.notes or {}),
                "versions": {"tokenizers": version("tokenizers")},
            },
        )
        return Embedder(Bundle(target, manifest, contents[TABLE], tokenizer_bytes), threads=1), contents

    reference, _ = in_memory("fp32")
    embedder, contents = in_memory(precision)
    source = Path(source_name)
    return _finish(source, target, contents, (reference, embedder), precision, floor, overwrite, progress)


def _finish(
    source: Path,
    target: Path,
    contents: dict[str, bytes],
    embedders: tuple[Embedder, Embedder],
    precision: str,
    floor: float | None,
    overwrite: bool,
    progress: Callable[[str], None],
) -> Manifest:
    """Measure a bundle beside its float form, and write it where it is faithful enough.

    embedders: the float form, and the one whose contents are to be written
    """
    reference, embedder = embedders
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


def _read(
    source: Path,
    source_name: str | None,
    max_tokens: int | None,
    prompts: Mapping[str, str] | None,
    adapter: str | os.PathLike[str] | None,
    task: str | None,
) -> Checkpoint:
    """The checkpoint with what the caller says about it."""
    names = () if source_name is None else (source_name,)
    checkpoint = read_checkpoint(source, adapter=None if adapter is None else Path(adapter), task=task, names=names)
    given = {role: check_text(text, f"the prompt of {role!r}") for role, text in (prompts or {}).items()}
    own = {**checkpoint.prompts, **task_prompts(checkpoint)}
    limit = checkpoint.max_tokens if max_tokens is None else check_count(max_tokens, "max_tokens", 3, 2**20)
    return replace(checkpoint, prompts={**own, **with_roles(given)}, max_tokens=limit)


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
