"""Other runtimes behind one small interface: convert once, load, encode texts to vectors of length 1.

Nothing here is imported by the device half. Every peer takes its own public path from text to vector; one that has
none gets the `tokenizers` library before its model and pooling in numpy after it. Threads are limited in every peer,
and spinning is off where the peer lets it be.
"""

import json
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.encode.mask import visible_flags
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.extras import require

if TYPE_CHECKING:
    Vectors = NDArray[np.float32]

EXTRA = "bench-peers"
ONNX_MODEL = "model.onnx"
OPENVINO_MODEL = "model.xml"
FASTEMBED_NAME = "edge-embed/bench"
# Poolings that adapters without one of their own apply.
POOLINGS = ("mean", "cls")


class Loaded(Protocol):
    """A candidate in memory."""

    def encode(self, texts: list[str]) -> "Vectors":
        """float32 [n, dim], rows of length 1: the texts in one call."""

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        """What the model reads of each text, special tokens included, padding left out."""


@dataclass(frozen=True)
class Source:
    """The one model that every candidate is made of; checkpoint "": there are no weights to make peers from.

    Goes to child processes as JSON.
    """

    bundle: str
    checkpoint: str
    checkpoint_sha256: str
    pooling: str
    dense: bool
    dim: int
    max_tokens: int


# --- pieces that several adapters use


class TextReader:
    """The checkpoint's tokenizer, padding to the longest of a batch, cut at the model's limit."""

    def __init__(self, source: Source) -> None:
        tokenizers = require("tokenizers", EXTRA)
        self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(Path(source.checkpoint) / "tokenizer.json"))
        # the file may have a fixed length and another limit baked in (MiniLM's: 128 and 128)
        padding = self._tokenizer.padding or {}
        self._tokenizer.enable_padding(
            pad_id=padding.get("pad_id", 0), pad_token=padding.get("pad_token", "[PAD]"), length=None
        )
        self._tokenizer.enable_truncation(source.max_tokens)

    def __call__(self, texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids and mask, both int64 [n, longest]."""
        encodings = self._tokenizer.encode_batch_fast(texts)
        return np.array([e.ids for e in encodings]), np.array([e.attention_mask for e in encodings])


def pool(hidden: "Vectors", mask: NDArray[np.int64], pooling: str) -> "Vectors":
    """Token vectors [n, s, dim] and their mask [n, s] to text vectors [n, dim] of length 1."""
    # a sum needs no division: its direction is the mean's
    pooled = hidden[:, 0] if pooling == "cls" else np.matmul(mask[:, None, :].astype(np.float32), hidden)[:, 0]
    vectors: Vectors = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
    return vectors


def unpadded(ids: Sequence[Sequence[int]], mask: Sequence[Sequence[int]]) -> list[list[int]]:
    """ids=[[5, 6, 0]], mask=[[1, 1, 0]] -> [[5, 6]]."""
    pairs = zip(ids, mask, strict=True)
    return [[int(i) for i, real in zip(row, kept, strict=True) if real] for row, kept in pairs]


class Pooled:
    """A model that gives token vectors, between the tokenizer and pooling."""

    def __init__(self, source: Source, run: Callable[[NDArray[np.int64], NDArray[np.int64]], "Vectors"]) -> None:
        self._read, self._run, self._pooling = TextReader(source), run, source.pooling

    def encode(self, texts: list[str]) -> "Vectors":
        ids, mask = self._read(texts)
        return pool(self._run(ids, mask), mask, self._pooling)

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        ids, mask = self._read(texts)
        return unpadded(ids.tolist(), mask.tolist())


def _session_options(threads: int) -> Any:
    options = require("onnxruntime", EXTRA).SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


# --- ours


class Ours:
    """options: further arguments of Embedder."""

    def __init__(self, source: Source, _: Path, threads: int, **options: Any) -> None:
        from edge_embed.embedder import Embedder

        self._embedder = Embedder(source.bundle, threads=threads, **options)

    def encode(self, texts: list[str]) -> "Vectors":
        return self._embedder.encode(texts)

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        return [self._embedder.tokenizer.encode(text).tolist() for text in texts]


def load_in_onnxruntime(source: Source, folder: Path, threads: int) -> Loaded:
    return Ours(source, folder, threads, engine="onnxruntime")


def load_other(source: Source, folder: Path, threads: int) -> Loaded:
    """The bundle in that folder, made from the same weights."""
    return Ours(replace(source, bundle=str(folder)), folder, threads)


def quantization_target() -> str:
    """Which of optimum's quantization configurations fits this CPU."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "arm64"
    return "avx512_vnni" if "avx512_vnni" in visible_flags() else "avx2"


# --- the float32 ONNX file, by optimum


def export_onnx(source: Source, folder: Path, _: Path) -> None:
    """model.onnx with `last_hidden_state` [n, s, dim], the tokenizer and the config next to it."""
    require("optimum.exporters.onnx", EXTRA).main_export(
        source.checkpoint, folder, task="feature-extraction", library_name="transformers", do_validation=False
    )


# --- onnxruntime with optimum's dynamic int8


def quantize_with_optimum(_: Source, folder: Path, onnx: Path) -> None:
    configuration = require("optimum.onnxruntime.configuration", EXTRA).AutoQuantizationConfig
    chosen = getattr(configuration, quantization_target())(is_static=False, per_channel=True)
    quantizer = require("optimum.onnxruntime", EXTRA).ORTQuantizer.from_pretrained(onnx, file_name=ONNX_MODEL)
    written = quantizer.quantize(chosen, folder)
    (Path(written) / "model_quantized.onnx").replace(folder / ONNX_MODEL)


def load_onnxruntime(source: Source, folder: Path, threads: int) -> Loaded:
    session = require("onnxruntime", EXTRA).InferenceSession(
        str(folder / ONNX_MODEL), _session_options(threads), providers=["CPUExecutionProvider"]
    )
    inputs = {value.name for value in session.get_inputs()}

    def run(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> "Vectors":
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden: Vectors = session.run(["last_hidden_state"], {name: feed[name] for name in inputs})[0]
        return hidden

    return Pooled(source, run)


# --- fastembed


def write_fastembed_folder(source: Source, folder: Path, onnx: Path) -> None:
    """The float32 ONNX file and the checkpoint's tokenizer, with the model's limit where fastembed looks for it."""
    shutil.copy(onnx / ONNX_MODEL, folder)
    checkpoint = Path(source.checkpoint)
    for name in ("config.json", "tokenizer.json", "special_tokens_map.json"):
        if (checkpoint / name).is_file():
            shutil.copy(checkpoint / name, folder)
    config = json.loads((checkpoint / "tokenizer_config.json").read_text("utf-8"))
    limits = {"model_max_length": source.max_tokens, "max_length": source.max_tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, **limits}), "utf-8")


class FastEmbed:
    def __init__(self, source: Source, folder: Path, threads: int) -> None:
        fastembed = require("fastembed", EXTRA)
        description = require("fastembed.common.model_description", EXTRA)
        pooling = {"mean": description.PoolingType.MEAN, "cls": description.PoolingType.CLS}[source.pooling]
        fastembed.TextEmbedding.add_custom_model(
            model=FASTEMBED_NAME,
            pooling=pooling,
            normalization=True,
            sources=description.ModelSource(hf=FASTEMBED_NAME),
            dim=source.dim,
            model_file=ONNX_MODEL,
        )
        self._model: Any = fastembed.TextEmbedding(
            FASTEMBED_NAME,
            threads=threads,
            specific_model_path=str(folder),
            local_files_only=True,
            providers=["CPUExecutionProvider"],
        )

    def encode(self, texts: list[str]) -> "Vectors":
        return np.array(list(self._model.embed(texts, batch_size=len(texts))), np.float32)

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        encodings = self._model.model.tokenize(texts)
        return unpadded([e.ids for e in encodings], [e.attention_mask for e in encodings])


# --- sentence-transformers


class SentenceTransformers:
    def __init__(self, path: Path, threads: int, **options: Any) -> None:
        torch = require("torch", EXTRA)
        torch.set_num_threads(threads)
        self._model: Any = require("sentence_transformers", EXTRA).SentenceTransformer(
            str(path), device="cpu", local_files_only=True, **options
        )

    def encode(self, texts: list[str]) -> "Vectors":
        vectors: Vectors = self._model.encode(
            texts, batch_size=len(texts), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return vectors

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        read = getattr(self._model, "preprocess", None) or self._model.tokenize  # renamed within version 5
        features = read(texts)
        return unpadded(features["input_ids"].tolist(), features["attention_mask"].tolist())


def load_sentence_transformers(source: Source, _: Path, threads: int) -> Loaded:
    return SentenceTransformers(Path(source.checkpoint), threads)


def quantize_with_sentence_transformers(source: Source, folder: Path, onnx: Path) -> None:
    """The checkpoint without its weights, and the float32 ONNX file quantized as sentence-transformers does it."""
    shutil.copytree(source.checkpoint, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "onnx").mkdir()
    shutil.copy(onnx / ONNX_MODEL, folder / "onnx")
    package = require("sentence_transformers", EXTRA)
    model = package.SentenceTransformer(
        str(folder), backend="onnx", device="cpu", local_files_only=True, model_kwargs=_onnx_file(ONNX_MODEL)
    )
    package.export_dynamic_quantized_onnx_model(model, quantization_target(), str(folder), file_suffix="int8")
    (folder / "onnx" / ONNX_MODEL).unlink()


def _onnx_file(name: str) -> dict[str, Any]:
    return {"file_name": f"onnx/{name}", "export": False, "provider": "CPUExecutionProvider"}


def load_sentence_transformers_int8(_: Source, folder: Path, threads: int) -> Loaded:
    options = {**_onnx_file("model_int8.onnx"), "session_options": _session_options(threads)}
    return SentenceTransformers(folder, threads, backend="onnx", model_kwargs=options)


# --- OpenVINO


def convert_to_openvino(_: Source, folder: Path, onnx: Path) -> None:
    openvino = require("openvino", EXTRA)
    model = openvino.convert_model(str(onnx / ONNX_MODEL))
    openvino.save_model(model, str(folder / OPENVINO_MODEL), compress_to_fp16=False)


def quantize_with_nncf(source: Source, folder: Path, converted: Path) -> None:
    """Post-training int8 for transformers: SmoothQuant, static activations, the exporter's calibration texts."""
    from edge_embed_export.calibration.texts import calibration_texts

    nncf, openvino = require("nncf", EXTRA), require("openvino", EXTRA)
    model = openvino.Core().read_model(str(converted / OPENVINO_MODEL))
    read = TextReader(source)
    feeds = [_openvino_feed(model, *read([text])) for text in calibration_texts("calibration")]
    quantized = nncf.quantize(model, nncf.Dataset(feeds), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(feeds))
    openvino.save_model(quantized, str(folder / OPENVINO_MODEL), compress_to_fp16=False)


def _openvino_feed(model: Any, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {value.get_any_name(): feed[value.get_any_name()] for value in model.inputs}


def load_openvino(precision: str | None) -> Callable[[Source, Path, int], Loaded]:
    """precision: "f32", "bf16", or None for what OpenVINO chooses on this CPU for what is not int8."""

    def load(source: Source, folder: Path, threads: int) -> Loaded:
        options: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # pins the calling thread, and with it every other candidate
        }
        if precision:
            options["INFERENCE_PRECISION_HINT"] = precision
        compiled = require("openvino", EXTRA).Core().compile_model(str(folder / OPENVINO_MODEL), "CPU", options)
        chosen = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        if precision and chosen != precision:
            raise InputError(f"OpenVINO runs {chosen} on this CPU, not {precision}")

        def run(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> "Vectors":
            hidden: Vectors = compiled(_openvino_feed(compiled, ids, mask))[0]
            return hidden

        return Pooled(source, run)

    return load


# --- CTranslate2


def convert_to_ctranslate2(source: Source, folder: Path, _: Path) -> None:
    converter = require("ctranslate2", EXTRA).converters.TransformersConverter(source.checkpoint)
    converter.convert(str(folder), quantization="int8", force=True)


def load_ctranslate2(source: Source, folder: Path, threads: int) -> Loaded:
    ctranslate2 = require("ctranslate2", EXTRA)
    encoder = ctranslate2.Encoder(
        str(folder), device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads
    )

    def run(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> "Vectors":
        lengths = mask.sum(axis=1, dtype=np.int32)
        view = ctranslate2.StorageView.from_array
        output = encoder.forward_batch(view(ids.astype(np.int32)), view(lengths))
        return np.asarray(output.last_hidden_state, np.float32)

    return Pooled(source, run)
