"""Reading a sentence-transformers (or plain transformers) folder: configs and safetensors, never code or pickles."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from edge_embed_export.files.accounting import Accounted, Keys
from edge_embed_export.files.openclip import read_config
from edge_embed_export.files.reading import is_there
from edge_embed_export.files.stored import Array
from edge_embed_export.files.tensors import read_weights
from edge_embed_export.modules.folder import Folder
from edge_embed_export.modules.listed import Mixed, Module, Modules, linear, read_modules
from edge_embed_export.options import ExportOptions, Pooling
from edge_embed_export.sources import m3
from edge_embed_export.sources.colbert import LONGEST, multi_head, with_markers
from edge_embed_export.sources.folding import ADAPTER, base_folder, fold_adapter
from edge_embed_export.sources.heads import Head, sparse_head
from edge_embed_export.sources.pairs import pair_head, pair_modules
from edge_embed_export.sources.prompts import default_role, left_out, read_prompts
from edge_embed_export.tokenizer.authors import with_own_end
from edge_embed_export.tokenizer.files import Text, read_text
from edge_embed_runtime.system.files import open_regular
from edge_embed_runtime.vectors.kinds import DENSE, MULTI, RERANK, SPARSE, Kind


@dataclass(frozen=True)
class Checkpoint:
    """What a folder holds, still in the checkpoint's own names. Config and tensors remember what is asked of them.

    pooling: None where the folder does not say
    mixed, of_tokens, after: what the modules around pooling do, see `listed.Modules`
    task:    which of a model's own adapters to use
    attention: of a decoder, "causal" or "bidirectional", where the caller says it
    notes:   what the manifest says of how the folder was read
    default_role, left_out, side: as in the manifest
    """

    folder: Path
    config: dict[str, Any]
    tensors: Mapping[str, Array]
    tokenizer: dict[str, Any]
    max_tokens: int | None
    pooling: Pooling | None
    after: tuple[Module, ...]
    prompts: dict[str, str]
    sha256: str
    licence: str | None
    task: str | None = None
    attention: str | None = None
    head: Head = field(default_factory=Head)
    head_weights: Mapping[str, Array] = field(default_factory=dict)
    of_tokens: tuple[Module, ...] = ()
    mixed: Mixed | None = None
    notes: tuple[str, ...] = ()
    default_role: str = ""
    left_out: str = ""
    side: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.config, Keys):
            object.__setattr__(self, "config", Keys(self.config))
        if not isinstance(self.tensors, Accounted):
            object.__setattr__(self, "tensors", Accounted(self.tensors))

    @property
    def architecture(self) -> str:
        return str(self.config.get("model_type", "unknown"))


# Bytes of a model card in which its front matter ends.
MAX_CARD = 2**18


def licence_of(folder: Path) -> str | None:
    """The licence as the model card's front matter states it."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    with open_regular(card) as file:
        beginning = file.read(MAX_CARD).decode(errors="replace")
    front = re.match(r"---\r?\n(.*?)\r?\n---\r?\n", beginning, re.DOTALL)
    line = re.search(r"^license:\s*(\S+)", front[1], re.MULTILINE) if front else None
    return line[1] if line else None


class _Headed(NamedTuple):
    """What stands behind the last layer of a model of some kind: fields of Checkpoint."""

    head: Head
    of_tokens: tuple[Module, ...]
    after: tuple[Module, ...]
    max_tokens: int | None
    head_weights: Mapping[str, Array]


def _headed(
    folder: Folder, kind: Kind, modules: Modules, text: Text, hidden: int, tensors: dict[str, Array]
) -> _Headed:
    of_tokens, after, own = modules.of_tokens, modules.after, m3.file_of(modules.model, kind)
    tokenizer, limit = text.tokenizer, text.limit
    if own is not None and kind is SPARSE:
        head, weights = m3.sparse_head(own, tokenizer, hidden)
        return _Headed(head, of_tokens, after, limit, weights)
    if own is not None:
        head, of_tokens = m3.multi_head(own, hidden, limit or LONGEST)
        return _Headed(head, of_tokens, (), limit, {})
    if kind is SPARSE:
        return _Headed(sparse_head(folder, tokenizer, modules.splade, modules.query_table), of_tokens, after, limit, {})
    if kind is DENSE:
        return _Headed(Head(), of_tokens, after, limit, {})
    if kind is RERANK:
        return _Headed(pair_head(folder, text), (), (), limit, {})
    head, limit = multi_head(folder, tokenizer, modules.mask, text.module, limit or LONGEST)
    of_tokens = (*of_tokens, *after)  # all are for tokens where a dense model is taken for such a one
    if not of_tokens and "linear.weight" in tensors:
        of_tokens = (linear(tensors.pop("linear.weight")),)
    return _Headed(head, of_tokens, (), limit, {})


def read_checkpoint(folder: Folder, options: ExportOptions = ExportOptions()) -> Checkpoint:  # noqa: B008 - it is frozen
    """Read a folder as sentence-transformers or transformers writes it.

    An adapter in the model's own folder is folded into the weights as well as the one of the options.
    """
    source = folder.path
    # the model's folder is the folder itself but for what old releases of sentence-transformers wrote
    kind = options.output or folder.kind
    modules = pair_modules(folder) if kind is RERANK else read_modules(folder)
    model = modules.model
    base = base_folder(model)
    config = Keys(folder.config if base == source and folder.config else read_config(base))
    tensors, sha256 = _weights(base, model, options)
    kind = options.output or modules.kind or kind or DENSE
    text = read_text(model, folder, config, kind=kind)
    text = replace(text, tokenizer=with_own_end(text.tokenizer, config, model))
    made = _headed(folder, kind, modules, text, int(config.peek("hidden_size") or 0), tensors)
    known = folder.known_as(options.names, config)
    # cards are about models that embed
    prompts = read_prompts(folder, () if kind is RERANK else known)
    if kind is MULTI:
        head, prompts = with_markers(made.head, prompts, text.tokenizer, source)
        made = made._replace(head=head)
    return Checkpoint(
        folder=source,
        config=config,
        tensors=tensors,
        tokenizer=text.tokenizer,
        pooling=modules.pooling,
        prompts=prompts,
        sha256=sha256,
        licence=licence_of(source),
        task=options.task,
        attention=options.attention,
        mixed=modules.mixed,
        notes=text.notes,
        default_role=default_role(folder, prompts),
        left_out=left_out(folder, config, known) if kind is DENSE else "",
        side=folder.side or "",
        **made._asdict(),
    )


def _weights(base: Path, model: Path, options: ExportOptions) -> tuple[dict[str, Array], str]:
    """The weights of a model with the adapters that are folded into them, and their sha256."""
    tensors, sha256 = read_weights(base)
    own = [model] if is_there(model / ADAPTER[0]) else []
    for adapter in own + ([] if options.adapter is None else [Path(options.adapter)]):
        tensors = fold_adapter(tensors, adapter)
    return tensors, sha256
