"""Parts of a tokenizer.json: made, found, and compared by what they do to the ids of one text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edge_embed_runtime.errors import ExportError

Part = dict[str, Any]

# Fields that change offsets or decoding alone; what a field is where a file leaves it out.
NO_IDS = frozenset({"trim_offsets", "str_rep"})
DEFAULTS: dict[str, Part] = {
    "ByteLevel": {"add_prefix_space": True, "use_regex": True},
    "Metaspace": {"replacement": "▁", "prepend_scheme": "always", "split": True},
    "Split": {"invert": False},
    "BertNormalizer": {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
}
# What Qwen2's tokenizers cut a text into.
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# What CLIP's tokenizers cut a text into; what lies between is left out.
CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
MODELS: dict[str, Part] = {
    "BPE": {
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
    },
    "WordPiece": {"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100},
    "Unigram": {"unk_id": None, "byte_fallback": False},
}


def sequence(key: str, parts: list[Part]) -> Part | None:
    """Steps in a row. key: "normalizers" or "pretokenizers"."""
    return None if not parts else parts[0] if len(parts) == 1 else {"type": "Sequence", key: parts}


def steps(part: Mapping[str, Any] | None) -> Iterator[Part]:
    """The steps of a normalizer or pre_tokenizer, one after the other."""
    if part is None:
        return
    if part.get("type") != "Sequence":
        yield dict(part)
    for child in [*(part.get("normalizers") or ()), *(part.get("pretokenizers") or ())]:
        yield from steps(child)


def same_steps(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Whether two normalizers or pre_tokenizers do the same, as far as their fields show."""
    return [_filled(step) for step in steps(one)] == [_filled(step) for step in steps(other)]


def _filled(step: Part) -> Part:
    kind = str(step.get("type"))
    if kind == "Metaspace" and "prepend_scheme" not in step:  # files older than tokenizers 0.15
        step = {**step, "prepend_scheme": "never" if step.get("add_prefix_space") is False else "always"}
    if kind == "Metaspace":
        step.pop("add_prefix_space", None)
    return {**DEFAULTS.get(kind, {}), **{key: value for key, value in step.items() if key not in NO_IDS}}


def same_model(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two models of one vocabulary do the same. An empty prefix or suffix is none."""
    names = MODELS.get(str(other.get("type")), {})
    return all((one.get(name, rest) or None) == (other.get(name, rest) or None) for name, rest in names.items())


def around(post_processor: Mapping[str, Any] | None) -> tuple[list[int], list[int]] | None:
    """Ids before and after one text: [CLS] $A [SEP] -> ([101], [102]). None where that is not known."""
    if post_processor is None or post_processor.get("type") == "ByteLevel":
        return [], []
    if post_processor.get("type") in ("BertProcessing", "RobertaProcessing"):
        return [int(post_processor["cls"][1])], [int(post_processor["sep"][1])]
    if post_processor.get("type") == "Sequence":
        sides = [around(part) for part in post_processor.get("processors") or ()]
        known = [side for side in sides if side is not None and side != ([], [])]
        return None if None in sides or len(known) > 1 else known[0] if known else ([], [])
    if post_processor.get("type") != "TemplateProcessing":
        return None
    before: list[int] = []
    after: list[int] = []
    side = before
    for piece in post_processor.get("single") or ():
        if not isinstance(piece, dict):  # "[CLS] $A [SEP]"
            return None
        if "Sequence" in piece:
            side = after
        else:
            side += post_processor["special_tokens"][piece["SpecialToken"]["id"]]["ids"]
    return before, after


def special(token: str, side: int = 0) -> Part:
    """A special token in a template. side: the type of the tokens, 1 for those of a second text"""
    return {"SpecialToken": {"id": token, "type_id": side}}


def text_of(name: str, side: int = 0) -> Part:
    """The place of a text in a template: "A", or "B" for the second of a pair."""
    return {"Sequence": {"id": name, "type_id": side}}


def template_of(single: list[Part], pair: list[Part], ids: Mapping[str, int]) -> Part:
    """A post-processor for one text and for two. ids: of the special tokens by their names"""
    tokens = {name: {"id": name, "ids": [number], "tokens": [name]} for name, number in ids.items()}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens}


def template(before: list[tuple[str, int]], after: list[tuple[str, int]]) -> Part:
    """A post-processor that puts tokens (name, id) around a text."""

    def around_text(name: str, side: int) -> list[Part]:
        left, right = ([special(token, side) for token, _ in tokens] for tokens in (before, after))
        return [*left, text_of(name, side), *right]

    one = around_text("A", 0)
    return template_of(one, [*one, *around_text("B", 1)], dict(sorted({*before, *after})))


def framed(cls: tuple[str, int], sep: tuple[str, int]) -> Part:
    """BERT's template: [CLS] $A [SEP], and for two texts [CLS] $A [SEP] $B [SEP]."""
    made = template([cls], [sep])
    return {
        **made,
        "pair": [piece for piece in made["pair"] if piece != special(cls[0], 1)],
    }


def word_level(words: Sequence[str], *, normalizer: Part | None, pre_tokenizer: Part) -> Part:
    """A tokenizer.json whose tokens are whole words, numbered as they stand; the last stands for all others."""
    vocab = {word: number for number, word in enumerate(words)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": words[-1]},
    }


def clip_steps() -> dict[str, Part]:
    """Normalizer and pre_tokenizer of CLIP's tokenizers."""
    spaces = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
    words = {"type": "Split", "pattern": {"Regex": CLIP_WORDS}, "behavior": "Removed", "invert": True}
    as_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, spaces, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [words, as_bytes]},
    }


def find_id(definition: Mapping[str, Any], token: str) -> int | None:
    """The id of a token, of the added ones first."""
    for added in definition.get("added_tokens") or ():
        if added["content"] == token:
            return int(added["id"])
    vocab = definition["model"]["vocab"]
    if isinstance(vocab, dict):
        return vocab.get(token)
    return next((i for i, entry in enumerate(vocab) if entry[0] == token), None)


def vocabulary(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """Token to id of a tokenizer.json, added tokens included."""
    try:
        model = tokenizer["model"]["vocab"]
        ids = dict(model) if isinstance(model, dict) else {entry[0]: i for i, entry in enumerate(model)}
        added = {token["content"]: token["id"] for token in tokenizer.get("added_tokens") or ()}
        return {str(token): int(id_) for token, id_ in {**ids, **added}.items()}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ExportError(f"tokenizer.json has no vocabulary: {error!r}") from error
