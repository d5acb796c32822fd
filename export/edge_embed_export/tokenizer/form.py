"""One form of a tokenizer for all that write it: where releases of the libraries differ, and no token depends on it."""

from typing import Any

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
