"""The tokenizer of a model folder, with the settings beside tokenizer.json that the reference obeys."""

from pathlib import Path
from typing import Any

from edge_embed_export.formats import missing_tokenizer
from edge_embed_export.reading import optional_json, read_definition


def read_tokenizer(folder: Path) -> dict[str, Any]:
    """What goes into the bundle as tokenizer.json, before `tokenizer.sanitize`."""
    if not (folder / "tokenizer.json").exists():
        raise missing_tokenizer(folder / "tokenizer.json")
    return _with_end(read_definition(folder / "tokenizer.json"), optional_json(folder / "tokenizer_config.json"))


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
