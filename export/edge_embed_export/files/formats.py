"""Files of models that are not read, by their names: what each is, and what to do instead."""

from pathlib import Path

from edge_embed_runtime.errors import EdgeEmbedError, ExportError, SourceError

_ORIGINAL = "take the folder that it was made from"
# Patterns of names, what such a file is, what to do. FOLDER stands for where it is.
FORMATS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("pytorch_model.bin", "pytorch_model*.bin", "pytorch_model.bin.index.json", "adapter_model.bin"),
        "a pickle, which can run code when it is read",
        "with torch it is read without running any (pip install 'edge-embed[general]'); or, if you trust it, make "
        "model.safetensors of it with transformers: AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER)",
    ),
    (
        (
            "model.bin",
            "*.pt",
            "*.pth",
            "*.ckpt",
        ),
        "a pickle, which can run code when it is read",
        "if you trust it, make model.safetensors of it with transformers: "
        "AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER)",
    ),
    (
        ("tf_model.h5", "*.h5", "saved_model.pb"),
        "weights of TensorFlow, which are not read",
        "make model.safetensors of them with transformers 4: "
        "AutoModel.from_pretrained(FOLDER, from_tf=True).save_pretrained(FOLDER)",
    ),
    (
        ("flax_model.msgpack", "*.msgpack"),
        "weights of Flax, which are not read",
        "make model.safetensors of them with transformers 4: "
        "AutoModel.from_pretrained(FOLDER, from_flax=True).save_pretrained(FOLDER)",
    ),
    (("*openvino*.xml", "openvino/*.xml"), "a model for OpenVINO, which is not read", _ORIGINAL),
    (("*.gguf", "*.ggml"), "a model for llama.cpp, which is not read", _ORIGINAL),
    (("*.tflite",), "a model for TensorFlow Lite, which is not read", _ORIGINAL),
    (("*.mlpackage", "*.mlmodel", "coreml/*"), "a model for Core ML, which is not read", _ORIGINAL),
    (("*.engine",), "a model for TensorRT, which is not read", _ORIGINAL),
    (("rust_model.ot",), "weights for Rust, which are not read", _ORIGINAL),
    (
        ("*.hdf5",),
        "weights as ELMo was published with, which are read together with their options.json",
        "put that into the folder",
    ),
)
# Weights whose tokenizer is in other files than tokenizer.json.
TOKENIZERS = ("vocab.txt", "vocab.json", "merges.txt", "*.bpe.model", "spiece.model", "spm.model", "tokenizer.model")


def missing_weights(path: Path) -> EdgeEmbedError:
    """The error for weights, or a config, that are not there: it says what lies in their folder instead."""
    folder = path.parent
    for patterns, what, advice in FORMATS:
        found = [file for pattern in patterns for file in sorted(folder.glob(pattern))]
        if found:
            held, do = found[0].relative_to(folder).as_posix(), advice.replace("FOLDER", repr(str(folder)))
            return ExportError(f"{folder} holds {held}, {what}, and no {path.name}: {do}")
    return SourceError(f"{path} is missing", path=path, code="source_missing")


def pickled_weights(path: Path, reason: str) -> ExportError:
    """The error for a pickle that torch does not read without running what it says."""
    return ExportError(
        f"{path}, a pickle, holds other things than tensors by name, or is damaged ({reason}). If you trust it, make "
        f"model.safetensors of it: AutoModel.from_pretrained({str(path.parent)!r}).save_pretrained(...)"
    )


def other_tokenizers(folder: Path) -> list[str]:
    """Names of files with a tokenizer in forms that are not read."""
    return [file.name for pattern in TOKENIZERS for file in sorted(folder.glob(pattern))]


def missing_tokenizer(path: Path) -> EdgeEmbedError:
    """The error for a tokenizer.json that is not there."""
    folder = path.parent
    found = other_tokenizers(folder)
    held = f"holds {', '.join(found)} and no {path.name}, the only form that is read" if found else "is missing"
    return SourceError(
        f"{folder if found else path} {held}: make it with transformers: "
        f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
    )


def check_file(path: Path) -> None:
    """Raise ExportError for a file that is known not to be read; files of word vectors end in .bin as well."""
    for patterns, what, advice in FORMATS:
        if any(Path(path.name.lower()).match(p) for p in patterns if "/" not in p and p != "model.bin"):
            raise ExportError(f"{path} is {what}: {advice}")
