"""Small folders with tokenizers in every form that models are saved with, for the tests."""

import json
from pathlib import Path
from typing import Any

from builders.bert import WORDS

LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Texts that tokenizers differ in.
HARD = [
    "", " ", "a", "The cat sat on the mat.", "a line\n", "\ta tab\tb ", "  lead  and  double  ", "汉字 和 mix汉字and",
    "Cafe\u0301 re\u0301sume\u0301", "Café résumé ÀÉÎ", "İstanbul I ı i", "👩‍👩‍👧‍👦 family 🇩🇪", "the river bank" * 30,
    "a\x00b\x07c\x1fd\x85e", "ΟΔΥΣΣΕΥΣ Σ", "ﬁ ﬃ ½ ①", "don't we'll I'M", "1234567 12.5%", "``quoted'' text",
    "\u3000wide\u3000", "a\u00a0b", "▁under ▁", "x\r\ny\n\nz", "hello <tool_call> there", "\ufeffbom", "\n\n",
    "x [SEP] y </s> z <s> [MASK]",
]  # fmt: skip


def byte_letters() -> dict[int, str]:
    """GPT-2's letter of each byte (bytes_to_unicode)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(256) if byte not in plain)
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def word_pieces(special: tuple[str, ...] = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")) -> list[str]:
    """Lines of a vocab.txt."""
    signs = [
        *LETTERS,
        *LETTERS.upper(),
        *"0123456789éàîÉ汉字.,'%",
        *(f"##{sign}" for sign in LETTERS + "éàîÉ0123456789"),
    ]
    return [*special, *signs, *(word for word in WORDS if word not in signs), "The"]


def byte_pairs(
    special: tuple[str, ...] = ("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
) -> tuple[dict[str, int], list[str]]:
    """vocab.json and the lines of merges.txt."""
    merges = ["t h", "th e", "Ġ the", "c a", "ca t", "Ġ cat", "r i", "Ġ ri"]
    tokens = dict.fromkeys([*special, *byte_letters().values(), *(merge.replace(" ", "") for merge in merges)])
    return {token: i for i, token in enumerate(tokens)}, merges


def folder(place: Path, model_type: str, version: str = "4.57.6", **settings: Any) -> Path:
    """A folder with config.json and, where there are settings, tokenizer_config.json."""
    place.mkdir(parents=True)
    config = {"model_type": model_type, "transformers_version": version}
    (place / "config.json").write_text(json.dumps(config))
    if settings:
        (place / "tokenizer_config.json").write_text(json.dumps(settings))
    return place


def with_words(place: Path, special: tuple[str, ...] | None = None) -> Path:
    """Put vocab.txt into a folder."""
    lines = word_pieces() if special is None else word_pieces(special)
    (place / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return place


def with_pairs(place: Path, special: tuple[str, ...] | None = None) -> Path:
    """Put vocab.json and merges.txt into a folder."""
    vocab, merges = byte_pairs() if special is None else byte_pairs(special)
    (place / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (place / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    return place


PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}


def byte_tokenizer(**parts: Any) -> dict[str, Any]:
    vocab, merges = byte_pairs()
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": True,
                           "add_prefix_space": False},
        "decoder": None,
        "model": {"type": "BPE", "vocab": vocab, "merges": [merge.split(" ") for merge in merges]},
        **parts,
    }  # fmt: skip
