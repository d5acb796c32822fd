"""Small bundles for the native engine, and ways to damage them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from builders.bert import bert_folder
from edge_embed_export import export_model
from edge_embed_runtime.bundle.bundle import file_records, open_bundle, write_bundle
from edge_embed_runtime.bundle.manifest import MODEL, TOKENIZER


def native_bundle(folder: Path, **config: Any) -> Path:
    """An int8 bundle of a small random BERT with two heads of 16 numbers, made for the native engine."""
    export_model(
        bert_folder(folder / "checkpoint", **{"num_attention_heads": 2, **config}), folder / "native", engine="native"
    )
    return folder / "native"


def with_model(bundle: Path, out: Path, model: bytes, **fields: Any) -> Path:
    """The bundle with another model.onnx, whose hash fits. fields: of the manifest"""
    contents = {MODEL: model, TOKENIZER: (bundle / TOKENIZER).read_bytes()}
    manifest = replace(open_bundle(bundle).manifest, files=file_records(contents), **fields)
    write_bundle(out, manifest, contents, overwrite=True)
    return out


def with_tensors(bundle: Path, out: Path, change: Callable[[dict[str, onnx.TensorProto]], None]) -> Path:
    """The bundle with weights that `change` has changed, by name; one that it removes from the dict is gone."""
    model = onnx.load(bundle / MODEL)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    change(tensors)
    kept = list(tensors.values())
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return with_model(bundle, out, model.SerializeToString())
