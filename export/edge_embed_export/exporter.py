"""From a checkpoint folder to a verified bundle."""

import gzip
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed_export.checkpoint import Checkpoint, read_checkpoint
from edge_embed_export.families import read_family
from edge_embed_export.transformer import Spec, Weights, build, input_name, prepare
from edge_embed_quantize.calibrate import Recipe, channel_maxima, quantize_layers
from edge_embed_quantize.linear import Int8Linear
from edge_embed_quantize.receipt import cosine_receipt
from edge_embed_runtime.bundle import MODEL, TOKENIZER, Bundle, Golden, Manifest, file_records, write_bundle
from edge_embed_runtime.embedder import Embedder, batches, make_session, pad
from edge_embed_runtime.errors import BundleFormatError, ExportError, InputError
from edge_embed_runtime.tokenizer import Tokenizer, sanitize

PRECISIONS = ("int8", "fp32")

# SmoothQuant strengths, chosen by mean cosine to fp32 (bench/fidelity.py): inputs of attention and of the first
# feed-forward layer follow a layer norm and have outlier channels; the context of attention has few.
NORM_SMOOTHING = 0.75
CONTEXT_SMOOTHING = 0.5

GOLDEN_TEXTS = (
    "edge_embed turns text into vectors on small machines.",
    "Where can I charge an electric bicycle near the station?",
    "Les données restent sur l'appareil ; 数据保留在设备上。",
    "def mean(values): return sum(values) / len(values)",
)


def _recipes(spec: Spec) -> dict[str, Recipe]:
    """How each linear layer's input is quantized.

    The second feed-forward layer's input has outliers that differ from token to token: it gets one scale per row.
    """
    down = "positive row" if spec.activation in ("gelu", "gelu_tanh", "relu") else "row"
    kinds = {
        "query": Recipe("static", NORM_SMOOTHING),
        "key": Recipe("static", NORM_SMOOTHING),
        "value": Recipe("static", NORM_SMOOTHING),
        "up": Recipe("static", NORM_SMOOTHING),
        "down": Recipe(down),
    }
    recipes = {}
    for name in spec.linears:
        layer, part = name.rsplit(".", 1)
        if part == "out":
            recipes[name] = Recipe("static", CONTEXT_SMOOTHING, fold_into=f"{layer}.value")
        else:
            recipes[name] = kinds.get(part, Recipe("row"))
    return recipes


def calibration_texts(part: str) -> list[str]:
    """Texts that ship with the exporter; `part` is "calibration" or "receipt" (no text is in both)."""
    raw = files("edge_embed_export").joinpath("data/texts.jsonl.gz").read_bytes()
    records = (json.loads(line) for line in gzip.decompress(raw).decode().splitlines())
    return [record["text"] for record in records if record["part"] == part]


def _feeds(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterable[dict[str, Any]]:
    rows = [tokenizer.encode(text) for text in texts]
    for batch in batches([len(row) for row in rows], batch_tokens=1024):
        yield pad([rows[i] for i in batch])


def _quantize(spec: Spec, weights: Weights, tokenizer: Tokenizer) -> dict[str, Int8Linear]:
    session = make_session(build(spec, weights, observe=True).SerializeToString(), threads=1)
    recipes = _recipes(spec)
    observed = list(dict.fromkeys(input_name(name) for name in recipes))
    maxima = channel_maxima(
        lambda outputs, feed: session.run(list(outputs), feed),
        observed,
        _feeds(tokenizer, calibration_texts("calibration")),
    )
    return quantize_layers(weights, recipes, maxima, input_name)


def export_model(
    source: str | os.PathLike[str],
    bundle: str | os.PathLike[str],
    *,
    name: str | None = None,
    source_name: str | None = None,
    precision: str = "int8",
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Export a sentence-transformers folder to a bundle.

    source:    a folder with config.json, model.safetensors, tokenizer.json and, where they exist, modules.json and
               the folders of its pooling and dense modules
    name:      the bundle's name; None means the name of the folder `bundle`
    source_name: where the checkpoint comes from, for the manifest; None means the folder's name
    precision: "int8", or "fp32" for a reference to compare with
    progress:  called with a line of text before each step

    Raises SourceError for a missing or malformed file, UnsupportedModelError for an unknown architecture, ExportError
    for a checkpoint that cannot be exported. Nothing is written then.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}, expected one of {PRECISIONS}")
    source, target = Path(source), Path(bundle)
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

    def in_memory(layers: dict[str, Int8Linear] | None) -> tuple[Bundle, dict[str, bytes]]:
        model = build(spec, weights, layers).SerializeToString()
        contents = {MODEL: model, TOKENIZER: tokenizer_bytes}
        manifest = _manifest(name or target.absolute().name, source_name, checkpoint, spec, layers, contents)
        return Bundle(target, manifest, model, tokenizer_bytes), contents

    progress("building the float32 graph")
    reference, contents = in_memory(None)
    embedder = Embedder(reference)
    receipt: dict[str, Any] = {}
    if precision == "int8":
        progress("calibrating and quantizing")
        result, contents = in_memory(_quantize(spec, weights, tokenizer))
        progress("measuring against float32")
        texts = calibration_texts("receipt")
        expected, embedder = embedder.encode(texts), Embedder(result)
        receipt = cosine_receipt(expected, embedder.encode(texts))
    vectors = embedder.encode(GOLDEN_TEXTS)
    if not np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-3:
        raise ExportError(f"{source}: the model gives vectors that cannot be normalised; its weights are not usable")
    golden = [Golden(text, [round(float(x), 6) for x in row]) for text, row in zip(GOLDEN_TEXTS, vectors, strict=True)]
    manifest = replace(embedder.manifest, golden=golden, receipt=receipt)
    progress(f"writing {target}")
    write_bundle(target, manifest, contents, overwrite=overwrite)
    return manifest


def _manifest(
    name: str,
    source_name: str | None,
    checkpoint: Checkpoint,
    spec: Spec,
    layers: dict[str, Int8Linear] | None,
    contents: dict[str, bytes],
) -> Manifest:
    quantization = {"weights": "float32", "activations": "float32", "embedding_table": "float32"}
    if layers is not None:
        quantization = {
            "weights": "int8, one scale per output channel",
            "activations": "uint8, static; second feed-forward layer: one scale per row",
            "embedding_table": "int8, one scale per row",
            "smoothing": f"SmoothQuant {NORM_SMOOTHING} after norms, {CONTEXT_SMOOTHING} before the output projection",
        }
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
            "heads": spec.heads,
            "vocab": spec.vocab,
        },
        prompts=checkpoint.prompts,
        quantization=quantization,
        codes={"int8": "symmetric, one scale per vector", "binary": "sign"},
        provenance={
            "source": source_name or checkpoint.folder.resolve().name,
            "weights_sha256": checkpoint.sha256,
            "licence": checkpoint.licence,
            "versions": {package: version(package) for package in ("onnx", "onnxruntime")},
        },
    )
