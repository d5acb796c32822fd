"""What OpenCLIP does to a text before a tokenizer of transformers sees it: `text_cfg.tokenizer_kwargs.clean`.

Its repair of broken characters (ftfy) and of HTML's entities has no form in a tokenizer.json; texts that need neither
become the same tokens.
"""

import string
from collections.abc import Iterator, Mapping
from typing import Any

from edge_embed_export.tokenizer.parts import Part, steps
from edge_embed_export.tokenizer.whitespace import SPACES

KINDS = ("canonicalize", "lower", "whitespace")
# Arguments that change nothing.
KEPT = (("strip_sep_token", False), ("language", None))
NOTE = "OpenCLIP repairs broken characters (ftfy) and HTML's entities before tokens are made, the bundle does not"


def cleaned(definition: Part, config: Mapping[str, Any]) -> tuple[Part, list[str]]:
    """The tokenizer of a folder with what its config asks for before it, and notes. config: open_clip_config.json"""
    model = config.peek("model_cfg", "text_cfg") if hasattr(config, "peek") else None
    if not isinstance(model, dict):
        return definition, []
    peek = dict[str, Any](dict.items(model))
    if not peek.get("hf_tokenizer_name"):  # its own tokenizer, which CLIP's tokenizer.json is
        return definition, [NOTE]
    given = peek.get("tokenizer_kwargs")
    kind = dict.get(given, "clean") if isinstance(given, dict) else None
    first = list(_steps(kind or "whitespace"))
    normalizer = {"type": "Sequence", "normalizers": [*first, *steps(definition.get("normalizer"))]}
    return {**definition, "normalizer": normalizer}, [NOTE]


def _steps(kind: str) -> Iterator[Part]:
    spaces = "".join(f"\\x{{{ord(sign):X}}}" for sign in SPACES)
    punctuation = "".join(f"\\x{{{ord(sign):X}}}" for sign in string.punctuation)
    if kind == "canonicalize":
        yield {"type": "Replace", "pattern": {"String": "_"}, "content": " "}
        yield {"type": "Replace", "pattern": {"Regex": f"[{punctuation}]+"}, "content": ""}
    if kind in ("canonicalize", "lower"):
        yield {"type": "Lowercase"}
    yield {"type": "Replace", "pattern": {"Regex": f"[{spaces}]+"}, "content": " "}
    yield {"type": "Replace", "pattern": {"Regex": r"\A | \z"}, "content": ""}
