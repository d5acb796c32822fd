"""UniXcoder (arXiv:2203.03850): a folder like any RoBERTa, whose own code puts a token for the mode before a text.

microsoft/CodeBERT, UniXcoder/unixcoder.py: for embeddings <s> <encoder-only> </s> text </s>, at most 512 tokens, which
see each other all; then the mean of all tokens. A folder of sentence-transformers is taken as that library takes it,
without the mode.
"""

from pathlib import Path
from typing import Any

from edge_embed_export.modules.listed import listed
from edge_embed_export.sources.heads import vocabulary

MODE = "<encoder-only>"
MODES = (MODE, "<decoder-only>", "<encoder-decoder>")
MAX_TOKENS = 512


def is_unixcoder(folder: Path, config: dict[str, Any], tokenizer: dict[str, Any]) -> bool:
    """Whether a folder holds UniXcoder as its authors publish it: no other model has tokens for these modes."""
    if config.get("model_type") != "roberta" or listed(folder):
        return False
    return {*MODES, "<s>", "</s>"} <= vocabulary(tokenizer).keys()


def with_mode(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer with the mode's token behind the first one."""
    ids = vocabulary(tokenizer)
    start, mode, end = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ("<s>", MODE, "</s>"))
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    template = {
        "type": "TemplateProcessing",
        "single": [start, mode, end, first, end],
        "pair": [start, mode, end, first, end, second, end],
        "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in ("<s>", MODE, "</s>")},
    }
    return {**tokenizer, "post_processor": template}
