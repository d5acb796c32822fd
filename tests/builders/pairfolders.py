"""Folders of small random cross-encoders, as transformers and sentence-transformers save them."""

import json
from pathlib import Path
from typing import Any

from builders.kindfolders import SPECIAL, VOCAB

LONG = "the dog is in the garden; money at the bank. " * 9
PAIRS = [
    ("the river bank", "what is the red cat, and where? at night!"),
    ("the river bank", "the dog is in the garden; money at the bank"),
    ("the river bank", "a"),
    ("", ""),
    ("a", ""),
    ("", "the cat"),
    (" spaces  ", "two\n\nlines\t"),
    ("the dog is in the house", LONG),
    (LONG, "understanding walked"),
    (LONG, LONG),
    (LONG + "and", LONG),
    (LONG, LONG + "and the cat"),
]
# Of each, the names of the tokenizer's class and of its special tokens: first, separator, padding, unknown, mask.
_BERT = ("BertTokenizerFast", "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]")
_ROBERTA = ("<s>", "</s>", "<pad>", "<unk>", "<mask>")
TOKENIZERS = {
    "Roberta": ("RobertaTokenizerFast", *_ROBERTA),
    "XLMRoberta": ("XLMRobertaTokenizerFast", *_ROBERTA),
    "MPNet": ("MPNetTokenizerFast", "<s>", "</s>", "<pad>", "[UNK]", "<mask>"),
    "DistilBert": ("DistilBertTokenizerFast", *_BERT[1:]),
    "Electra": ("ElectraTokenizerFast", *_BERT[1:]),
    "Albert": ("AlbertTokenizerFast", "[CLS]", "[SEP]", "<pad>", "<unk>", "[MASK]"),
    "DebertaV2": ("DebertaV2TokenizerFast", *_BERT[1:]),
    "ModernBert": ("PreTrainedTokenizerFast", *_BERT[1:]),
}
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
# What a class needs besides.
OWN: dict[str, dict[str, Any]] = {
    "Roberta": {"type_vocab_size": 1, "max_position_embeddings": 66, "pad_token_id": 1},
    "XLMRoberta": {"type_vocab_size": 1, "max_position_embeddings": 66, "pad_token_id": 1},
    "MPNet": {"max_position_embeddings": 66, "pad_token_id": 1},
    "DebertaV2": {
        "type_vocab_size": 0,
        "relative_attention": True,
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
    },
    "Deberta": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 2},
    "ModernBert": {"global_attn_every_n_layers": 2, "local_attention": 8, "norm_eps": 1e-5},
    "Electra": {"embedding_size": 16},
    "Albert": {"embedding_size": 16},
}


def cross_encoder(folder: Path, kind: str = "Bert", labels: int = 1, seed: int = 0, **settings: Any) -> Path:
    """A small ...ForSequenceClassification of a class of transformers, its weights random and not small."""
    import torch
    import transformers

    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"vocab_size": len(VOCAB), "max_position_embeddings": 64, "pad_token_id": 0, **SIZES}
    if kind == "DistilBert":
        sizes = {"vocab_size": len(VOCAB), "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}
        sizes["max_position_embeddings"] = 64
    config = getattr(transformers, f"{kind}Config")(**{**sizes, **OWN.get(kind, {}), **settings}, num_labels=labels)
    config._attn_implementation = "eager"
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    pair_tokenizer(folder, kind)
    return folder


def pair_tokenizer(folder: Path, kind: str) -> None:
    """tokenizer.json with a template for pairs, and its settings: words in lower case, the class that the kind has."""
    name, cls, sep, pad, unknown, mask = TOKENIZERS.get(kind, _BERT)
    names = dict(zip(SPECIAL, (pad, unknown, cls, sep, mask), strict=True))
    if kind in ("Roberta", "XLMRoberta", "MPNet"):  # their padding is token 1
        names = dict(zip(SPECIAL, (cls, pad, sep, unknown, mask), strict=True))
    vocab = [names.get(token, token) for token in VOCAB]
    ids = {token: i for i, token in enumerate(vocab)}
    two = kind in ("Roberta", "XLMRoberta", "MPNet")
    separators = [sep, sep] if two else [sep]

    def special(token: str, type_: int = 0) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": type_}}

    def text(name: str, type_: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": type_}}

    second = 0 if two else 1
    template = {
        "type": "TemplateProcessing",
        "single": [special(cls), text("A", 0), special(sep)],
        "pair": [
            special(cls),
            text("A", 0),
            *(special(token) for token in separators),
            text("B", second),
            special(sep, second),
        ],
        "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in (cls, sep)},
    }
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    definition = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": ids[t], "content": t, **plain} for t in names.values()],
        "post_processor": template,
        "decoder": None,
        **_words(kind, ids, unknown),
    }
    (folder / "tokenizer.json").write_text(json.dumps(definition, ensure_ascii=False), encoding="utf-8")
    settings = {"tokenizer_class": name, "model_max_length": 64, "cls_token": cls, "sep_token": sep, "pad_token": pad}
    settings |= {"unk_token": unknown, "mask_token": mask}
    if two:
        settings |= {"bos_token": cls, "eos_token": sep}
    if kind == "ModernBert":
        settings["model_input_names"] = ["input_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _words(kind: str, ids: dict[str, int], unknown: str) -> dict[str, Any]:
    """Normalizer, pre_tokenizer and model: WordPiece, or pieces of a SentencePiece model."""
    return {
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {
            "type": "WordPiece",
            "unk_token": unknown,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
    }
