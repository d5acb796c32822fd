"""Reading a sentence-transformers (or plain transformers) folder: configs and safetensors, never code or pickles."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed_export.formats import missing_tokenizer, missing_weights
from edge_embed_export.heads import Head, Kind, multi_head, sparse_head, told_kind
from edge_embed_export.prompts import read_prompts
from edge_embed_export.reading import is_there, optional_json, read_definition, read_json
from edge_embed_export.spec import Pooling
from edge_embed_export.tensors import ADAPTER, Array, fold_adapter, read_tensors, read_weights
from edge_embed_runtime.errors import ExportError, SourceError
from edge_embed_runtime.regular import open_regular


@dataclass(frozen=True)
class Dense:
    """A sentence-transformers Dense module: x @ weight [n, m] + bias, then an activation (its torch class path)."""

    weight: Array
    bias: Array | None
    activation: str


@dataclass(frozen=True)
class Checkpoint:
    """What a folder holds, still in the checkpoint's own names.

    pooling: None where the folder does not say
    task:    which of a model's own adapters to use
    """

    folder: Path
    config: dict[str, Any]
    tensors: Mapping[str, Array]
    tokenizer: dict[str, Any]
    max_tokens: int | None
    pooling: Pooling | None
    dense: tuple[Dense, ...]
    prompts: dict[str, str]
    sha256: str
    licence: str | None
    task: str | None = None
    head: Head = field(default_factory=Head)

    @property
    def architecture(self) -> str:
        return str(self.config.get("model_type", "unknown"))


def check_size(value: object, name: str, path: Path) -> int:
    """A positive whole number of a config."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise ExportError(f"{path}: {name} is {value!r:.40}, expected a positive whole number")
    return value


# Bytes of a model card in which its front matter ends.
MAX_CARD = 2**18


def _pooling(config: dict[str, Any], path: Path) -> Pooling:
    modes: dict[str, Pooling] = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
        "pooling_mode_weightedmean_tokens": "weighted_mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_max_tokens": "max",
        "pooling_mode_lasttoken": "last",
    }
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    if len(chosen) != 1 or chosen[0] not in modes:
        raise ExportError(f"{path}: pooling {chosen or 'none'} is not supported; expected one of {sorted(modes)}")
    return modes[chosen[0]]


def _dense(folder: Path) -> Dense:
    config = read_json(folder / "config.json")
    arrays = read_tensors(folder / "model.safetensors")
    if "linear.weight" not in arrays:
        raise ExportError(f"{folder}: a Dense module without the tensor 'linear.weight'")
    weight = np.ascontiguousarray(arrays["linear.weight"].T)
    return Dense(weight, arrays.get("linear.bias"), str(config.get("activation_function", "torch.nn.Identity")))


def _licence(folder: Path) -> str | None:
    """The licence as the model card's front matter states it."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    with open_regular(card) as file:
        beginning = file.read(MAX_CARD).decode(errors="replace")
    front = re.match(r"---\r?\n(.*?)\r?\n---\r?\n", beginning, re.DOTALL)
    line = re.search(r"^license:\s*(\S+)", front[1], re.MULTILINE) if front else None
    return line[1] if line else None


@dataclass
class _Modules:
    """What modules.json lists: the folder of the transformer itself, how it is pooled, the layers after pooling, the
    folder of a sparse head's pooling, that of a table for queries, and what kind of model they make, where they say so.
    """

    model: Path
    pooling: Pooling | None
    dense: list[Dense]
    splade: Path | None
    kind: Kind | None
    query_table: Path | None = None


def _listed(folder: Path) -> list[dict[str, Any]]:
    """The entries of modules.json; of a Router those of both its ways, where queries go through a table alone."""
    path = folder / "modules.json"
    listed: list[dict[str, Any]] = []
    for module in read_json(path, list) if is_there(path) else []:
        if not isinstance(module, dict) or not {"type", "path"} <= module.keys():
            raise ExportError(f"{path}: {module!r} is not a module with type and path")
        if str(module["type"]).rsplit(".", 1)[-1] != "Router":
            listed.append(module)
            continue
        base = str(module["path"])
        router = read_json(folder / base / "router_config.json")
        try:
            ways = {way: [str(name) for name in names] for way, names in router["structure"].items()}
            kinds = {name: str(kind) for name, kind in router["types"].items()}
            names = [*ways["document"], *(name for name in ways["query"] if name not in ways["document"])]
            listed += [{"type": kinds[name], "path": f"{base}/{name}" if base else name} for name in names]
        except (KeyError, TypeError, AttributeError) as error:
            raise ExportError(f"{folder / base / 'router_config.json'}: not a Router's: {error!r}") from error
    return listed


def _modules(folder: Path) -> _Modules:
    found = _Modules(folder, None, [], None, None)
    for module in _listed(folder):
        kind, path = str(module["type"]).rsplit(".", 1)[-1], folder / str(module["path"])
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ExportError(f"{folder / 'modules.json'}: {module['path']!r} is not in the folder")
        if kind in ("Transformer", "MLMTransformer"):
            found.model = path
        elif kind == "Pooling":
            found.pooling, found.kind = _pooling(read_json(path / "config.json"), path), "dense"
        elif kind == "SpladePooling":
            found.splade, found.kind = path, "sparse"
        elif kind == "SparseStaticEmbedding":
            found.query_table = path
        elif kind == "Dense":
            found.dense.append(_dense(path))
        elif kind != "Normalize":  # vectors are always normalised
            raise ExportError(
                f"{folder}: the module {kind!r} is not supported (Transformer, Pooling, Dense, Normalize, "
                "MLMTransformer, SpladePooling are)"
            )
        if str(module["type"]).startswith("pylate."):
            found.kind = "multi"
    if found.kind is None and is_there(folder / "artifact.metadata"):
        found.kind = "multi"
    return found


def _with_end(tokenizer: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer with the end token that transformers adds to a text because tokenizer_config.json says so."""
    end = settings.get("eos_token")
    end = end.get("content") if isinstance(end, dict) else end
    ids = {str(t.get("content")): t.get("id") for t in tokenizer.get("added_tokens") or () if isinstance(t, dict)}
    if settings.get("add_eos_token") is not True or end not in ids:
        return tokenizer
    given = tokenizer.get("post_processor")
    template = given or {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}], "pair": []}
    single, special = template.get("single"), template.get("special_tokens") or {}
    last = {"SpecialToken": {"id": end, "type_id": 0}}
    if template.get("type") != "TemplateProcessing" or not single or single[-1] == last:
        return tokenizer
    pair = template.get("pair") or [*single, {"Sequence": {"id": "B", "type_id": 1}}]
    changed = {
        **template,
        "single": [*single, last],
        "pair": [*pair, last],
        "special_tokens": {**special, end: {"id": end, "ids": [ids[end]], "tokens": [end]}},
    }
    return {**tokenizer, "post_processor": changed}


def read_checkpoint(
    folder: Path,
    *,
    adapter: Path | None = None,
    task: str | None = None,
    names: tuple[str, ...] = (),
    kind: Kind | None = None,
) -> Checkpoint:
    """Read a folder as sentence-transformers or transformers writes it.

    adapter: the folder of a LoRA adapter to fold into the weights; one in the model's own folder is folded anyway
    task:    which of a model's own adapters to use
    names:   what else the model is known by (see prompts.CARDS)
    kind:    what the model gives; None means what the folder says
    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder; a checkpoint is a folder with config.json and model.safetensors")
    # the model's folder is the folder itself but for what old releases of sentence-transformers wrote
    modules = _modules(folder)
    model = modules.model
    if not (model / "config.json").exists():
        raise missing_weights(model / "config.json")
    if not (model / "tokenizer.json").exists():
        raise missing_tokenizer(model / "tokenizer.json")
    config = read_json(model / "config.json")
    limits = next((path for path in (model, folder) if is_there(path / "sentence_bert_config.json")), folder)
    max_tokens = optional_json(limits / "sentence_bert_config.json").get("max_seq_length")
    if max_tokens is not None:
        max_tokens = check_size(max_tokens, "max_seq_length", limits / "sentence_bert_config.json")
    tensors, sha256 = read_weights(model)
    for changes in [path for path in (model, adapter) if path and (path == adapter or is_there(path / ADAPTER[0]))]:
        tensors = fold_adapter(tensors, changes)
    tokenizer = _with_end(read_definition(model / "tokenizer.json"), optional_json(model / "tokenizer_config.json"))
    kind = kind or modules.kind or told_kind(folder) or "dense"
    head, dense = Head(), modules.dense
    if kind == "sparse":
        head = sparse_head(folder, tokenizer, modules.splade, modules.query_table)
    elif kind == "multi":
        head, max_tokens = multi_head(folder, tokenizer)
        if not dense and "linear.weight" in tensors:
            dense = [Dense(np.ascontiguousarray(tensors["linear.weight"].T), None, "torch.nn.Identity")]
    own = (folder.resolve().name, str(config.get("_name_or_path", "")))
    return Checkpoint(
        folder=folder,
        config=config,
        tensors=tensors,
        tokenizer=tokenizer,
        max_tokens=max_tokens,
        pooling=modules.pooling,
        dense=tuple(dense),
        prompts=read_prompts(folder, (*names, *own)),
        sha256=sha256,
        licence=_licence(folder),
        task=task,
        head=head,
    )
