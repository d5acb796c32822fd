"""Reading a sentence-transformers (or plain transformers) folder: configs and safetensors, never code or pickles."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.transformer import Pooling
from edge_embed_runtime.checks import check_text
from edge_embed_runtime.errors import ExportError, InputError, SourceError
from edge_embed_runtime.extras import require

Array = NDArray[np.float32]

PICKLES = ("pytorch_model.bin", "model.bin", "pytorch_model.pt")


def read_json(path: Path, kind: type = dict) -> Any:
    """The object (or, with kind=list, the list) that a JSON file holds."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise SourceError(f"{path} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(content, kind):
        raise SourceError(f"{path} holds {type(content).__name__}, expected {kind.__name__}")
    return content


@dataclass(frozen=True)
class Dense:
    """A sentence-transformers Dense module: x @ weight [n, m] + bias, then an activation (its torch class path)."""

    weight: Array
    bias: Array | None
    activation: str


@dataclass(frozen=True)
class Checkpoint:
    """What a folder holds, still in the checkpoint's own names."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Array]
    tokenizer: dict[str, Any]
    max_tokens: int | None
    pooling: Pooling
    dense: tuple[Dense, ...]
    prompts: dict[str, str]
    sha256: str
    licence: str | None

    @property
    def architecture(self) -> str:
        return str(self.config.get("model_type", "unknown"))

    def count(self, name: str) -> int:
        """A positive whole number of the config."""
        return _count(self.config.get(name), name, self.folder / "config.json")

    def tensor(self, name: str) -> Array:
        """A tensor by name, with or without the prefix that task heads put before it ("bert.", "model.")."""
        for prefix in ("", f"{self.architecture}.", "model.", "0.auto_model."):
            if prefix + name in self.tensors:
                return self.tensors[prefix + name]
        raise ExportError(f"{self.folder}: the weights have no tensor {name!r}; the checkpoint is not complete")


def _count(value: object, name: str, path: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise ExportError(f"{path}: {name} is {value!r:.40}, expected a positive whole number")
    return value


def _safetensors(path: Path) -> dict[str, Array]:
    if not path.is_file():
        pickles = [name for name in PICKLES if (path.parent / name).exists()]
        if pickles:
            raise ExportError(
                f"{path.parent} holds only {pickles[0]}, a pickle, which can run code when it is read: "
                "convert it to model.safetensors first"
            )
        raise SourceError(f"{path} is missing")
    safetensors = require("safetensors", "export")
    arrays: dict[str, Array] = {}
    try:
        with safetensors.safe_open(str(path), framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                array = file.get_tensor(name)
                if array.dtype.kind == "f":
                    arrays[name] = array.astype(np.float32)
    except (safetensors.SafetensorError, OSError, TypeError, ValueError) as error:
        raise ExportError(f"{path} is not a whole safetensors file: {error}") from error
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ExportError(f"{path}: tensor {name!r} holds NaN or infinity")
    return arrays


def _pooling(config: dict[str, Any], path: Path) -> Pooling:
    modes: dict[str, Pooling] = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_max_tokens": "max",
    }
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    if len(chosen) != 1 or chosen[0] not in modes:
        raise ExportError(f"{path}: pooling {chosen or 'none'} is not supported; expected one of {sorted(modes)}")
    return modes[chosen[0]]


def _dense(folder: Path) -> Dense:
    config = read_json(folder / "config.json")
    arrays = _safetensors(folder / "model.safetensors")
    if "linear.weight" not in arrays:
        raise ExportError(f"{folder}: a Dense module without the tensor 'linear.weight'")
    weight = np.ascontiguousarray(arrays["linear.weight"].T)
    return Dense(weight, arrays.get("linear.bias"), str(config.get("activation_function", "torch.nn.Identity")))


def _licence(folder: Path) -> str | None:
    """The licence as the model card's front matter states it."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    front = re.match(r"---\n(.*?)\n---\n", card.read_text("utf-8", errors="replace"), re.DOTALL)
    line = re.search(r"^license:\s*(\S+)", front[1], re.MULTILINE) if front else None
    return line[1] if line else None


def _prompts(folder: Path) -> dict[str, str]:
    path = folder / "config_sentence_transformers.json"
    prompts = (read_json(path).get("prompts") if path.is_file() else None) or {}
    try:
        return {role: check_text(text, f"{path}: the prompt of {role!r}") for role, text in dict(prompts).items()}
    except (InputError, TypeError, ValueError) as error:
        raise ExportError(f"{path}: prompts must map a role to a text: {error}") from error


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a folder as sentence-transformers writes it. A plain transformers folder means mean pooling."""
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder; a checkpoint is a folder with config.json and model.safetensors")
    config = read_json(folder / "config.json")
    pooling: Pooling = "mean"
    dense: list[Dense] = []
    if (folder / "modules.json").is_file():
        for module in read_json(folder / "modules.json", list):
            if not isinstance(module, dict) or not {"type", "path"} <= module.keys():
                raise ExportError(f"{folder / 'modules.json'}: {module!r} is not a module with type and path")
            kind, path = str(module["type"]).rsplit(".", 1)[-1], folder / str(module["path"])
            if kind == "Pooling":
                pooling = _pooling(read_json(path / "config.json"), path)
            elif kind == "Dense":
                dense.append(_dense(path))
            elif kind not in ("Transformer", "Normalize"):  # vectors are always normalised
                raise ExportError(
                    f"{folder}: the module {kind!r} is not supported (Transformer, Pooling, Dense, Normalize are)"
                )
    limits = folder / "sentence_bert_config.json"
    max_tokens = read_json(limits).get("max_seq_length") if limits.is_file() else None
    if max_tokens is not None:
        max_tokens = _count(max_tokens, "max_seq_length", limits)
    weights = folder / "model.safetensors"
    return Checkpoint(
        folder=folder,
        config=config,
        tensors=_safetensors(weights),
        tokenizer=read_json(folder / "tokenizer.json"),
        max_tokens=max_tokens,
        pooling=pooling,
        dense=tuple(dense),
        prompts=_prompts(folder),
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        licence=_licence(folder),
    )
