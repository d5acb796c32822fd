"""Tokenizers of public models on a small vocabulary: tokenizer.json, and tokenizer_config.json beside it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import tokenizers
from builders.bert import WORDS

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CHARACTERS = [*LETTERS, *LETTERS.upper(), *"0123456789.,!?'-:()@/=", "é", "ü", "的", "数", "据", "に", "🚲"]
# What the classes of the libraries have before the model, too.
ALBERT_STEPS = [
    {"type": "Replace", "pattern": {"String": "``"}, "content": '"'},
    {"type": "Replace", "pattern": {"String": "''"}, "content": '"'},
    {"type": "NFKD"},
    {"type": "StripAccents"},
    {"type": "Lowercase"},
]
DEBERTA_STEPS = [
    {"type": "Replace", "pattern": {"Regex": r"\s{2,}|[\n\r\t]"}, "content": " "},
    {"type": "NFC"},
    {"type": "Strip", "strip_left": False, "strip_right": True},
]


@dataclass(frozen=True)
class Vocabulary:
    """definition: tokenizer.json; settings: tokenizer_config.json; ids: of special tokens, for config.json"""

    definition: dict[str, Any]
    settings: dict[str, Any]
    ids: dict[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return int(tokenizers.Tokenizer.from_str(json.dumps(self.definition)).get_vocab_size())


def _made(
    kind: str,
    model: dict[str, Any],
    special: dict[str, str],
    template: str,
    *,
    normalizer: Any = None,
    pre: Any = None,
    decoder: Any = None,
    post: Any = None,
    pair: int = 1,
    second: str = "",
    **settings: Any,
) -> Vocabulary:
    """A tokenizer in the form in which the library itself writes it.

    special:  roles of special tokens, as {"cls_token": "[CLS]"}
    template: what surrounds a text: "[CLS] $ [SEP]"
    second:   what surrounds the second of two texts, whose type is `pair`
    """
    vocab = model["vocab"]
    ids = {pair[0]: i for i, pair in enumerate(vocab)} if isinstance(vocab, list) else vocab
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    names = sorted(set(special.values()), key=ids.__getitem__)
    mask = {name: {**plain, "lstrip": name == "<mask>"} for name in names}
    parts = template.split()
    one = [_part(part, 0) for part in parts]
    again = [part.replace("$", "$B") for part in (second or f"$ {parts[-1]}").split()]
    two = [*one, *(_part(part, pair) for part in again)]
    around = {p: {"id": p, "ids": [ids[p]], "tokens": [p]} for p in parts if p != "$"}
    processor = post or {"type": "TemplateProcessing", "single": one, "pair": two, "special_tokens": around}
    definition = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": ids[token], "content": token, **mask[token]} for token in names],
        "normalizer": normalizer,
        "pre_tokenizer": pre,
        "post_processor": processor,
        "decoder": decoder,
        "model": model,
    }
    canonical = json.loads(tokenizers.Tokenizer.from_str(json.dumps(definition)).to_str())
    added = {str(ids[token]): {"content": token, **mask[token]} for token in names}
    said = {"added_tokens_decoder": added, "clean_up_tokenization_spaces": False, "tokenizer_class": kind}
    roles = {f"{role}_id": ids[token] for role, token in special.items()}
    return Vocabulary(canonical, {**said, **special, **settings}, roles)


def _part(name: str, kind: int) -> dict[str, Any]:
    """A part of a template: "$" is the text, "$B" the second one."""
    if name.startswith("$"):
        return {"Sequence": {"id": name[1:] or "A", "type_id": kind}}
    return {"SpecialToken": {"id": name, "type_id": kind}}


def wordpiece(*, lower: bool = True, kind: str = "BertTokenizer", **settings: Any) -> Vocabulary:
    """BERT's, of MiniLM, BGE, E5, GTE, ..."""
    special = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return _made(
        kind,
        _pieces([*special.values()], "[UNK]"),
        special,
        "[CLS] $ [SEP]",
        normalizer={
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": lower,
        },
        pre={"type": "BertPreTokenizer"},
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
        **{
            "do_lower_case": lower,
            "strip_accents": None,
            "tokenize_chinese_chars": True,
            "model_max_length": 512,
            **settings,
        },
    )


def mpnet(**settings: Any) -> Vocabulary:
    """WordPiece between <s> and </s>."""
    special = {
        "bos_token": "<s>",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "[UNK]",
        "mask_token": "<mask>",
    }
    special |= {"cls_token": "<s>", "sep_token": "</s>"}
    return _made(
        "MPNetTokenizer",
        _pieces(["<s>", "<pad>", "</s>", "[UNK]", "<mask>"], "[UNK]"),
        special,
        "<s> $ </s>",
        normalizer={
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        pre={"type": "BertPreTokenizer"},
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
        post={
            "type": "RobertaProcessing",
            "sep": ["</s>", 2],
            "cls": ["<s>", 0],
            "trim_offsets": True,
            "add_prefix_space": False,
        },
        **{
            "do_lower_case": True,
            "strip_accents": None,
            "tokenize_chinese_chars": True,
            "model_max_length": 512,
            **settings,
        },
    )


def _pieces(first: Sequence[str], unknown: str) -> dict[str, Any]:
    tokens = dict.fromkeys([*first, *CHARACTERS, *(f"##{c}" for c in CHARACTERS), *WORDS, "##ing", "##s", "where"])
    return {
        "type": "WordPiece",
        "unk_token": unknown,
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {token: i for i, token in enumerate(tokens)},
    }


def unigram(
    kind: str,
    special: dict[str, str],
    template: str,
    *,
    first: Sequence[str],
    normalizer: Any = None,
    whole: bool = False,
    **settings: Any,
) -> Vocabulary:
    """SentencePiece's, of XLM-R, T5, ALBERT and DeBERTa v3, but for the map of characters, which is a megabyte.

    whole: white space is not what parts a text first
    """
    tokens = dict.fromkeys([*first, "▁", *(f"▁{word}" for word in WORDS), *CHARACTERS, "ing", "▁where"])
    scores = [0.0 if token in first else -2.0 - 0.01 * i for i, token in enumerate(tokens)]
    scores = [-9.0 if len(token) == 1 else score for token, score in zip(tokens, scores, strict=True)]
    unknown = list(tokens).index(special["unk_token"])
    pairs = [list(pair) for pair in zip(tokens, scores, strict=True)]
    model = {"type": "Unigram", "unk_id": unknown, "vocab": pairs, "byte_fallback": False}
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    steps = [space] if whole else [{"type": "WhitespaceSplit"}, space]
    pre = {"type": "Sequence", "pretokenizers": steps}
    return _made(kind, model, special, template, normalizer=normalizer, pre=pre, decoder=space, **settings)


def xlm_roberta(**settings: Any) -> Vocabulary:
    special = {
        "bos_token": "<s>",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    special |= {"cls_token": "<s>", "sep_token": "</s>"}
    first = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    return unigram(
        "XLMRobertaTokenizer",
        special,
        "<s> $ </s>",
        first=first,
        pair=0,
        second="</s> $ </s>",
        **{"model_max_length": 512, **settings},
    )


def t5(**settings: Any) -> Vocabulary:
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return unigram(
        "T5Tokenizer",
        special,
        "$ </s>",
        first=["<pad>", "</s>", "<unk>"],
        pair=0,
        **{"extra_ids": 0, "model_max_length": 512, **settings},
    )


def deberta_v2(**settings: Any) -> Vocabulary:
    special = {
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "unk_token": "[UNK]",
        "mask_token": "[MASK]",
        "bos_token": "[CLS]",
        "eos_token": "[SEP]",
    }
    first = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    return unigram(
        "DebertaV2Tokenizer",
        special,
        "[CLS] $ [SEP]",
        first=first,
        normalizer={"type": "Sequence", "normalizers": DEBERTA_STEPS},
        whole=True,
        **{"do_lower_case": False, "model_max_length": 512, **settings},
    )


def albert(**settings: Any) -> Vocabulary:
    special = {
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
        "bos_token": "[CLS]",
        "eos_token": "[SEP]",
    }
    first = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    return unigram(
        "AlbertTokenizer",
        special,
        "[CLS] $ [SEP]",
        first=first,
        normalizer={"type": "Sequence", "normalizers": ALBERT_STEPS},
        **{"do_lower_case": True, "keep_accents": False, "model_max_length": 512, **settings},
    )


def _alphabet() -> dict[str, int]:
    """The characters that stand for bytes, and what stands for a space before a word."""
    return {c: i for i, c in enumerate(sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()))}


def byte_level(
    kind: str,
    special: dict[str, str],
    template: str,
    *,
    first: Sequence[str] = (),
    split: str | None = None,
    post: Any = None,
    **settings: Any,
) -> Vocabulary:
    """BPE over bytes: RoBERTa, ModernBERT, Qwen, Llama 3.

    first: special tokens that stand before the bytes; the others stand behind
    split: a pattern that parts texts first
    """
    tokens = dict.fromkeys([*first, *_alphabet(), "Ġt", "Ġth", "Ġthe", "Ġa", "Ġb", "Ġba", "Ġban", "Ġbank", "in"])
    behind = [token for token in dict.fromkeys(special.values()) if token not in tokens]
    vocab = {token: i for i, token in enumerate([*tokens, *behind])}
    merges = [
        ("Ġ", "t"),
        ("Ġt", "h"),
        ("Ġth", "e"),
        ("Ġ", "a"),
        ("Ġ", "b"),
        ("Ġb", "a"),
        ("Ġba", "n"),
        ("Ġban", "k"),
        ("i", "n"),
    ]
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocab,
        "merges": merges,
    }
    levels = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": split is None}
    parted = {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": False}
    pre = levels if split is None else {"type": "Sequence", "pretokenizers": [parted, levels]}
    return _made(kind, model, special, template, pre=pre, decoder=levels, post=post, **settings)


def roberta(**settings: Any) -> Vocabulary:
    special = {
        "bos_token": "<s>",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    special |= {"cls_token": "<s>", "sep_token": "</s>"}
    post = {
        "type": "RobertaProcessing",
        "sep": ["</s>", 2],
        "cls": ["<s>", 0],
        "trim_offsets": True,
        "add_prefix_space": False,
    }
    first = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    return byte_level(
        "RobertaTokenizer",
        special,
        "<s> $ </s>",
        first=first,
        post=post,
        **{"add_prefix_space": False, "model_max_length": 512, **settings},
    )


def modernbert(**settings: Any) -> Vocabulary:
    special = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return byte_level(
        "PreTrainedTokenizerFast",
        special,
        "[CLS] $ [SEP]",
        **{"model_max_length": 8192, "model_input_names": ["input_ids", "attention_mask"], **settings},
    )


QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def qwen(**settings: Any) -> Vocabulary:
    special = {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
    made = byte_level(
        "Qwen2Tokenizer",
        special,
        "$ <|endoftext|>",
        split=QWEN,
        **{
            "add_prefix_space": False,
            "model_max_length": 32768,
            "unk_token": None,
            "bos_token": None,
            "errors": "replace",
            "split_special_tokens": False,
            **settings,
        },
    )
    made.definition["normalizer"] = {"type": "NFC"}
    return made


def eurobert(**settings: Any) -> Vocabulary:
    special = {
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|end_of_text|>",
        "pad_token": "<|pad|>",
        "mask_token": "<|mask|>",
    }
    return byte_level(
        "PreTrainedTokenizerFast",
        special,
        "<|begin_of_text|> $ <|end_of_text|>",
        split=QWEN,
        **{"model_max_length": 8192, **settings},
    )


def byte_fallback(
    kind: str, special: dict[str, str], template: str, *, first: Sequence[str], prepend: bool, **settings: Any
) -> Vocabulary:
    """BPE over characters, with bytes for what it does not know: Llama 2, Mistral and Gemma."""
    known = [c for c in CHARACTERS if c not in "🚲に"]
    tokens = dict.fromkeys(
        [*first, *(f"<0x{i:02X}>" for i in range(256)), "▁", *known, "▁t", "▁th", "▁the", "▁a", "in"]
    )
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": "<unk>",
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": {token: i for i, token in enumerate(tokens)},
        "merges": [("▁", "t"), ("▁t", "h"), ("▁th", "e"), ("▁", "a"), ("i", "n")],
    }
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    parted = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    steps = [{"type": "Prepend", "prepend": "▁"}, space] if prepend else [space]
    normalizer = {"type": "Sequence", "normalizers": steps} if prepend else space
    back = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
    return _made(
        kind,
        model,
        special,
        template,
        normalizer=normalizer,
        pre=None if prepend else parted,
        decoder={"type": "Sequence", "decoders": back},
        **settings,
    )


def mistral(**settings: Any) -> Vocabulary:
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    said = {
        "add_bos_token": True,
        "add_eos_token": True,
        "legacy": True,
        "use_default_system_prompt": False,
        "model_max_length": 4096,
    }
    return byte_fallback(
        "LlamaTokenizer",
        special,
        "<s> $ </s>",
        second="<s> $ </s>",
        first=["<unk>", "<s>", "</s>"],
        prepend=True,
        **{**said, **settings},
    )


def mistral_without_end(**settings: Any) -> Vocabulary:
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    said = {
        "add_bos_token": True,
        "add_eos_token": False,
        "legacy": True,
        "use_default_system_prompt": False,
        "model_max_length": 4096,
    }
    return byte_fallback(
        "LlamaTokenizer",
        special,
        "<s> $",
        second="<s> $",
        first=["<unk>", "<s>", "</s>"],
        prepend=True,
        **{**said, **settings},
    )


def gemma(**settings: Any) -> Vocabulary:
    special = {
        "pad_token": "<pad>",
        "eos_token": "<eos>",
        "bos_token": "<bos>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    said = {
        "add_bos_token": True,
        "add_eos_token": True,
        "model_max_length": 2048,
        "spaces_between_special_tokens": False,
    }
    return byte_fallback(
        "GemmaTokenizer",
        special,
        "<bos> $ <eos>",
        first=["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"],
        prepend=False,
        **{**said, **settings},
    )


VOCABULARIES: dict[str, Callable[..., Vocabulary]] = {
    made.__name__: made
    for made in (
        wordpiece,
        mpnet,
        xlm_roberta,
        t5,
        deberta_v2,
        albert,
        roberta,
        modernbert,
        qwen,
        eurobert,
        mistral,
        mistral_without_end,
        gemma,
    )
}
