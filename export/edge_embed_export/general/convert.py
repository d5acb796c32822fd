"""A checkpoint of any architecture that transformers knows, as an ONNX graph (see trace.py).

Code in the folder is never run, and no pickle but by torch.load(weights_only=True).
"""

import contextlib
import inspect
import io
import logging
import os
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_embed_export.files.accounting import is_ignored
from edge_embed_export.files.formats import missing_weights
from edge_embed_export.files.pickled import in_place_of
from edge_embed_export.files.reading import is_there, read_json
from edge_embed_export.files.tensors import INDEX, WEIGHTS, read_weights
from edge_embed_export.general.trace import trace
from edge_embed_export.modules.folder import Folder
from edge_embed_export.modules.text import NO_LIMIT
from edge_embed_export.sources.onnxfile import (
    FOLDED_AWAY,
    Published,
    check_numbers,
    check_operators,
    what_lies_near,
)
from edge_embed_export.tokenizer.authors import MODE_TOKENS, is_unixcoder, with_mode
from edge_embed_runtime.errors import ExportError, UnsupportedModelError
from edge_embed_runtime.extras import require
from edge_embed_runtime.system.files import check_regular

# Tokens of the texts that are compared, where the model takes as many; past a window where it has a longer one.
LONG, PAST, LONGEST_WINDOW = 1152, 64, 4096


def convert(source: Path, *, tokenizer: Path | None = None, names: tuple[str, ...] = ()) -> Published:
    """The model of a folder with config.json and model.safetensors, as a graph that gives vectors of tokens.

    Raises SourceError and ExportError for a folder without these, UnsupportedModelError for an architecture that
    transformers does not know, or that torch cannot export, MissingExtraError without torch.
    """
    for file in source.iterdir() if source.is_dir() else ():
        if file.exists() and not file.is_dir():
            check_regular(file)  # transformers opens what it finds
    config = read_json(source / "config.json")
    if not any(is_there(source / name) or in_place_of(source / name) for name in (WEIGHTS, INDEX)):
        raise missing_weights(source / WEIGHTS)
    kind = config.get("model_type", "unknown")
    if config.get("auto_map") and kind not in _known_types():
        raise UnsupportedModelError(
            f"{source}: the architecture {kind!r} is code in the folder itself, which is never run, and none that "
            "transformers has",
            architecture=kind,
        )
    stored, sha256 = read_weights(source)  # whole, and free of NaN
    definition = source if tokenizer is None else tokenizer
    definition = definition / "tokenizer.json" if definition.is_dir() else definition
    folder = Folder(source)
    fields = what_lies_near(folder, names, None if tokenizer is None else definition)
    rows = config.get("max_position_embeddings")
    if isinstance(rows, int) and 2 < rows < NO_LIMIT:
        fields["max_tokens"] = min(fields["max_tokens"] or rows, rows)
    with _quiet():
        model, needed = _load(source, kind, stored)
        graph, notes = trace(source, kind, model, needed, _long(model.config, fields["max_tokens"]))
    check_operators(graph, source, FOLDED_AWAY)
    check_numbers(graph, source)
    if is_unixcoder(folder, fields["tokenizer"]):
        limit = min(fields["max_tokens"] or MODE_TOKENS, MODE_TOKENS)
        fields |= {"tokenizer": with_mode(fields["tokenizer"]), "max_tokens": limit}
    return Published(source, folder, graph, sha256=sha256, conversion=notes, **fields)


def _known_types() -> set[str]:
    require("torch", "general")
    transformers = require("transformers", "general")
    return set(transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch and transformers print and warn of while they trace.

    torch prints a whole graph from C++, past `sys.stdout`, so the file descriptor is pointed elsewhere meanwhile.
    """
    before, stdout = logging.root.manager.disable, os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    logging.disable(logging.ERROR)
    sys.stdout.flush()
    os.dup2(nowhere, 1)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)
        os.close(nowhere)
        logging.disable(before)


def _load(source: Path, kind: str, stored: Collection[str]) -> tuple[Any, Collection[str]]:
    """The encoder, and those of our inputs that it takes."""
    require("torch", "general")
    transformers = require("transformers", "general")
    options = {
        **{"trust_remote_code": False, "local_files_only": True},
        **({"use_safetensors": True} if any(is_there(source / name) for name in (WEIGHTS, INDEX)) else {}),
        "output_loading_info": True,
    }
    try:
        try:
            model, info = transformers.AutoModel.from_pretrained(source, attn_implementation="eager", **options)
        except (ValueError, TypeError):  # of a model without a choice of attention
            model, info = transformers.AutoModel.from_pretrained(source, **options)
    except (ValueError, TypeError, KeyError, OSError, RuntimeError, ImportError, AttributeError) as error:
        raise UnsupportedModelError(
            f"{source}: transformers cannot load the architecture {kind!r}: {error}", architecture=kind
        ) from error
    _check_loaded(source, stored, info, str(model.base_model_prefix))
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    model = model.float().eval()
    takes = inspect.signature(model.forward).parameters
    if "input_ids" not in takes:
        raise UnsupportedModelError(
            f"{source}: the architecture {kind!r} takes no texts (no input_ids)", architecture=kind
        )
    return model, takes


def _check_loaded(source: Path, stored: Collection[str], info: Mapping[str, Collection[str]], prefix: str) -> None:
    """Raise ExportError where transformers made up a tensor, or left one of the encoder's unread; it does both quietly.

    prefix: of the names of the encoder's tensors, where the file holds a model with a head
    """
    for name in sorted(info["missing_keys"]):
        if "pooler" not in name.split("."):  # vectors of tokens do not depend on it
            raise ExportError(f"{source}: the weights have no tensor {name!r}; the checkpoint is not complete")
    inside = f"{prefix}." if any(name.startswith(f"{prefix}.") for name in stored) else ""
    for name in sorted(info["unexpected_keys"]):
        whole = name if name in stored else inside + name
        spare = "pooler" in name.split(".") or name.endswith(("inv_freq", "position_ids", "token_type_ids"))
        if whole.startswith(inside) and not spare and not is_ignored(whole):
            raise ExportError(
                f"{source}: the tensor {whole!r} has no place in the model that transformers makes of the folder. If "
                f"its vectors do not depend on it, leave it out of account: --ignore {whole}",
                code="unknown_name",
                name=whole,
            )


def _long(config: Any, limit: int | None) -> int:
    """Tokens of the text that torch and the graph are compared with; of a table of positions two rows may be spare."""
    rows = getattr(config, "max_position_embeddings", None) or limit
    window = getattr(config, "sliding_window", None)
    past = window + PAST if isinstance(window, int) and window <= LONGEST_WINDOW else 0
    return min(max(LONG, past), rows - 2) if isinstance(rows, int) and rows > 2 else max(LONG, past)
