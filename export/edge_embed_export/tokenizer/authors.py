"""What the code of a model's authors does with texts, where none of its files says it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_embed_export.files.reading import optional_json
from edge_embed_export.modules.folder import Folder
from edge_embed_export.tokenizer.parts import Part, special, template_of, text_of, vocabulary

# Model types whose code puts the end token behind every text, whatever tokenizer_config.json says.
ENDING = ("nvembed",)
# UniXcoder (arXiv:2203.03850; microsoft/CodeBERT, UniXcoder/unixcoder.py) is a folder like any RoBERTa, whose own code
# puts a token for the mode before a text: for embeddings <s> <encoder-only> </s> text </s>, at most 512 tokens, which
# see each other all; then the mean of all tokens. A folder of sentence-transformers is taken as that library takes it,
# without the mode.
MODE = "<encoder-only>"
MODES = (MODE, "<decoder-only>", "<encoder-decoder>")
MODE_TOKENS = 512


def with_own_end(tokenizer: Part, config: Mapping[str, Any], folder: Path) -> Part:
    """The tokenizer.json of a model with the end token that its code puts behind a text (NV-Embed, always_add_eos)."""
    if config.get("model_type") not in ENDING:
        return tokenizer
    end = optional_json(folder / "tokenizer_config.json").get("eos_token")
    end = end.get("content") if isinstance(end, dict) else end
    ids = {token["content"]: token["id"] for token in tokenizer.get("added_tokens") or ()}
    template = tokenizer.get("post_processor") or {"type": "TemplateProcessing", "single": [text_of("A")], "pair": []}
    single = template.get("single")
    last = special(str(end))
    if end not in ids or template.get("type") != "TemplateProcessing" or not single or single[-1] == last:
        return tokenizer
    made = template_of([*single, last], [*single, text_of("B", 1), last], {str(end): ids[end]})
    known = {**(template.get("special_tokens") or {}), **made["special_tokens"]}
    return {**tokenizer, "post_processor": {**template, **made, "special_tokens": known}}


def is_unixcoder(folder: Folder, tokenizer: Part) -> bool:
    """Whether a folder holds UniXcoder as its authors publish it: no other model has tokens for these modes."""
    if folder.config.get("model_type") != "roberta" or folder.modules:
        return False
    return {*MODES, "<s>", "</s>"} <= vocabulary(tokenizer).keys()


def with_mode(tokenizer: Part) -> Part:
    """The tokenizer with the mode's token behind the first one."""
    ids = vocabulary(tokenizer)
    names = ("<s>", MODE, "</s>")
    start, mode, end = map(special, names)
    one = [start, mode, end, text_of("A"), end]
    made = template_of(one, [*one, text_of("B"), end], {name: ids[name] for name in names})
    return {**tokenizer, "post_processor": made}
