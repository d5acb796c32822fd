"""What the code of a model's authors does with texts, where none of its files says it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_embed_export.sources.files import optional_json

# Model types whose code puts the end token behind every text, whatever tokenizer_config.json says.
ENDING = ("nvembed",)


def with_own_end(tokenizer: dict[str, Any], config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The tokenizer.json of a model with the end token that its code puts behind a text (NV-Embed, always_add_eos)."""
    if config.get("model_type") not in ENDING:
        return tokenizer
    end = optional_json(folder / "tokenizer_config.json").get("eos_token")
    end = end.get("content") if isinstance(end, dict) else end
    ids = {t.get("content"): t.get("id") for t in tokenizer.get("added_tokens") or () if isinstance(t, dict)}
    text, last = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": end, "type_id": 0}}
    template = tokenizer.get("post_processor") or {"type": "TemplateProcessing", "single": [text], "pair": []}
    single = template.get("single")
    if end not in ids or template.get("type") != "TemplateProcessing" or not single or single[-1] == last:
        return tokenizer
    special = {**(template.get("special_tokens") or {}), end: {"id": end, "ids": [ids[end]], "tokens": [end]}}
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}, last]
    changed = {**template, "single": [*single, last], "pair": pair, "special_tokens": special}
    return {**tokenizer, "post_processor": changed}
