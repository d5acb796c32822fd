"""Reading a sentence-transformers (or plain transformers) folder: configs and safetensors, never code or pickles."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed_export.formats import missing_weights
from edge_embed_export.heads import Head, Kind, multi_head, sparse_head, told_kind
from edge_embed_export.modules import Dense, read_modules
from edge_embed_export.owncode import with_own_end
from edge_embed_export.prompts import default_role, left_out, read_prompts
from edge_embed_export.reading import is_there, optional_json, read_json
from edge_embed_export.routers import Side
from edge_embed_export.spec import Pooling
from edge_embed_export.tensors import ADAPTER, Array, fold_adapter, read_weights
from edge_embed_export.tokenizerfiles import read_tokenizer
from edge_embed_runtime.errors import ExportError, SourceError
from edge_embed_runtime.regular import open_regular


@dataclass(frozen=True)
class Checkpoint:
    """What a folder holds, still in the checkpoint's own names.

    pooling: None where the folder does not say
    task:    which of a model's own adapters to use
    default_role, left_out, side: as in the manifest
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
    default_role: str = ""
    left_out: str = ""
    side: str = ""

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


def read_checkpoint(
    folder: Path,
    *,
    adapter: Path | None = None,
    task: str | None = None,
    names: tuple[str, ...] = (),
    kind: Kind | None = None,
    side: Side | None = None,
) -> Checkpoint:
    """Read a folder as sentence-transformers or transformers writes it.

    adapter: the folder of a LoRA adapter to fold into the weights; one in the model's own folder is folded anyway
    task:    which of a model's own adapters to use
    names:   what else the model is known by (see prompts.CARDS)
    kind:    what the model gives; None means what the folder says
    side:    of a Router whose sides differ, which one
    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder; a checkpoint is a folder with config.json and model.safetensors")
    # the model's folder is the folder itself but for what old releases of sentence-transformers wrote
    modules = read_modules(folder, side)
    model = modules.model
    if not (model / "config.json").exists():
        raise missing_weights(model / "config.json")
    config = read_json(model / "config.json")
    limits = next((path for path in (model, folder) if is_there(path / "sentence_bert_config.json")), folder)
    max_tokens = optional_json(limits / "sentence_bert_config.json").get("max_seq_length")
    if max_tokens is not None:
        max_tokens = check_size(max_tokens, "max_seq_length", limits / "sentence_bert_config.json")
    tensors, sha256 = read_weights(model)
    for changes in [path for path in (model, adapter) if path and (path == adapter or is_there(path / ADAPTER[0]))]:
        tensors = fold_adapter(tensors, changes)
    tokenizer = with_own_end(read_tokenizer(model), config, model)
    kind = kind or modules.kind or told_kind(folder) or "dense"
    head, dense = Head(), modules.dense
    if kind == "sparse":
        head = sparse_head(folder, tokenizer, modules.splade, modules.query_table)
    elif kind == "multi":
        head, max_tokens = multi_head(folder, tokenizer)
        if not dense and "linear.weight" in tensors:
            dense = [Dense(np.ascontiguousarray(tensors["linear.weight"].T), None, "torch.nn.Identity")]
    known = (*names, folder.resolve().name, str(config.get("_name_or_path", "")))
    prompts = read_prompts(folder, known)
    return Checkpoint(
        folder=folder,
        config=config,
        tensors=tensors,
        tokenizer=tokenizer,
        max_tokens=max_tokens,
        pooling=modules.pooling,
        dense=tuple(dense),
        prompts=prompts,
        sha256=sha256,
        licence=_licence(folder),
        task=task,
        head=head,
        default_role=default_role(folder, prompts),
        left_out=left_out(folder, config, known, side) if head.kind == "dense" else "",
        side=side or "",
    )
