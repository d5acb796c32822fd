"""Folders of small random cross-encoders, as transformers and sentence-transformers save them."""

import json
import string
from pathlib import Path
from typing import Any

from builders.bert import NORMALIZER
from builders.kindfolders import SPECIAL, VOCAB
from builders.kindfolders import WORDS as KNOWN
from builders.tokenizerfolders import byte_pairs, byte_tokenizer

WORDS = [word for word in KNOWN if word[0] not in "#["]

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
    "Camembert": ("CamembertTokenizerFast", *_ROBERTA),
    "MPNet": ("MPNetTokenizerFast", "<s>", "</s>", "<pad>", "[UNK]", "<mask>"),
    "DistilBert": ("DistilBertTokenizerFast", *_BERT[1:]),
    "Electra": ("ElectraTokenizerFast", *_BERT[1:]),
    "Albert": ("AlbertTokenizerFast", "[CLS]", "[SEP]", "<pad>", "<unk>", "[MASK]"),
    "DebertaV2": ("DebertaV2TokenizerFast", *_BERT[1:]),
    "ModernBert": ("PreTrainedTokenizerFast", *_BERT[1:]),
}
# Models whose texts have two separators between them, and those whose vocabulary is a SentencePiece model's.
ROBERTA = ("Roberta", "XLMRoberta", "MPNet", "Camembert")
PIECES = ("XLMRoberta", "Camembert", "DebertaV2", "Albert")
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
# What a class needs besides.
OWN: dict[str, dict[str, Any]] = {
    "Roberta": {"type_vocab_size": 1, "max_position_embeddings": 66, "pad_token_id": 1},
    "XLMRoberta": {"type_vocab_size": 1, "max_position_embeddings": 66, "pad_token_id": 1},
    "Camembert": {"type_vocab_size": 1, "max_position_embeddings": 66, "pad_token_id": 1},
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
    sizes: dict[str, Any] = {
        "vocab_size": vocabulary_size(kind),
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        **SIZES,
    }
    if kind == "DistilBert":
        sizes = {"vocab_size": vocabulary_size(kind), "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}
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
    """tokenizer.json with a template for pairs, and its settings: the class, and so the model, that the kind has."""
    name, cls, sep, pad, unknown, mask = TOKENIZERS.get(kind, _BERT)
    names = dict(zip(SPECIAL, (pad, unknown, cls, sep, mask), strict=True))
    two = kind in ROBERTA
    if two:  # its padding is token 1
        names = dict(zip(SPECIAL, (cls, pad, sep, unknown, mask), strict=True))
    tokens = [names.get(token, token) for token in VOCAB]
    if kind in PIECES:
        tokens = [*names.values(), "▁", *string.ascii_lowercase, *",.?;", *(f"▁{word}" for word in WORDS)]
    ids = {token: i for i, token in enumerate(tokens)}
    if kind == "Roberta":
        ids = byte_pairs()[0]
    parts = byte_tokenizer() if kind == "Roberta" else _pieces(tokens) if kind in PIECES else _words(ids, unknown)
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    definition = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "decoder": None,
        "post_processor": _template(cls, sep, ids, two=two),
        **parts,
        "added_tokens": [{"id": ids[token], "content": token, **plain} for token in names.values()],
    }
    (folder / "tokenizer.json").write_text(json.dumps(definition, ensure_ascii=False), encoding="utf-8")
    settings = {"tokenizer_class": name, "model_max_length": 64, "cls_token": cls, "sep_token": sep, "pad_token": pad}
    settings |= {"unk_token": unknown, "mask_token": mask}
    if two:
        settings |= {"bos_token": cls, "eos_token": sep}
    if kind == "ModernBert":
        settings["model_input_names"] = ["input_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def vocabulary_size(kind: str) -> int:
    """Rows that the table of a kind needs, and some more."""
    return 320 if kind == "Roberta" else 100


def _template(cls: str, sep: str, ids: dict[str, int], *, two: bool) -> dict[str, Any]:
    """[CLS] A [SEP] B [SEP] with types 0 and 1; with `two` separators between the texts, and type 0 everywhere."""
    second = 0 if two else 1

    def special(token: str, type_: int = 0) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": type_}}

    first, other = ({"Sequence": {"id": name, "type_id": type_}} for name, type_ in (("A", 0), ("B", second)))
    between = [special(sep)] * (1 + two)
    return {
        "type": "TemplateProcessing",
        "single": [special(cls), first, special(sep)],
        "pair": [special(cls), first, *between, other, special(sep, second)],
        "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in (cls, sep)},
    }


def _words(ids: dict[str, int], unknown: str) -> dict[str, Any]:
    """Normalizer, pre_tokenizer and model of WordPiece."""
    return {
        "normalizer": dict(NORMALIZER),
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {
            "type": "WordPiece",
            "unk_token": unknown,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
    }


def _pieces(tokens: list[str]) -> dict[str, Any]:
    """Those of SentencePiece."""
    return {
        "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "model": {
            "type": "Unigram",
            "unk_id": next(i for i, token in enumerate(tokens) if token.lower() in ("<unk>", "[unk]")),
            "vocab": [[token, -float(i % 7) - 1] for i, token in enumerate(tokens)],
        },
    }
