"""Reading tokenizer.json, in one form for all that write it: releases of the libraries differ where no token depends on
it."""

from pathlib import Path
from typing import Any

from edge_embed_export.files.reading import read_limited
from edge_embed_runtime.errors import BundleFormatError, ExportError
from edge_embed_runtime.inputs.tokenizer import Tokenizer
from edge_embed_runtime.inputs.vetting import MAX_BYTES, check_tokenizer

# What joins tokens to a text again, which nothing here does: transformers 5 writes its own.
DECODER = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


def one_form(definition: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer.json that gives the same tokens as the given one, and the same bytes whichever release saved it."""
    model, decoder = definition.get("model"), definition.get("decoder")
    changed = dict(definition)
    if isinstance(decoder, dict) and decoder.get("type") == "ByteLevel":
        changed["decoder"] = DECODER
    if isinstance(model, dict) and model.get("type") == "BPE":
        empty = {key: model[key] or None for key in ("continuing_subword_prefix", "end_of_word_suffix") if key in model}
        changed["model"] = {**model, **empty}
    return changed


def read_definition(path: Path) -> dict[str, Any]:
    """What a tokenizer.json holds. Raises ExportError for one that no bundle may hold (see vetting.py)."""
    raw = read_limited(path, MAX_BYTES)
    try:
        return one_form(check_tokenizer(raw))
    except BundleFormatError as error:
        raise ExportError(f"{path}{str(error).removeprefix('tokenizer.json')}") from error


def load(content: bytes, limit: int, source: object, *, special: bool = True) -> Tokenizer:
    """The tokenizer of a bundle. Raises ExportError that names the source.

    limit:   tokens of a text
    special: it must add a special token
    """
    try:
        tokenizer = Tokenizer(content, limit)
    except BundleFormatError as error:
        raise ExportError(f"{source}: {error}") from error
    if special and not len(tokenizer.encode("")):
        raise ExportError(f"{source}: the tokenizer adds no special token, so the empty text would have no vector")
    return tokenizer
