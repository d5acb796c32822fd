"""wordcache.py: token ids word by word are those of the tokenizers package, alone and many together."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from builders.bert import word_tokenizer

from edge_embed_runtime.errors import InputError
from edge_embed_runtime.inputs.tokenizer import Tokenizer, sanitize
from edge_embed_runtime.inputs.wordcache import MAX_WORD_BYTES, has_words

LIMIT = 4096
MIXED = [
    *map(chr, range(0x20, 0x7F)),
    *" \u00a0\u0085\u2003\u200b\u0301\u0338\ufffd\u00adİıßſ中文字、。नमسلام😀é≠Ωﬁ\x00",
]


def changed(definition: bytes, **normalizer: Any) -> bytes:
    """A tokenizer.json with other settings of its normalizer."""
    content = json.loads(definition)
    content["normalizer"] = {**content["normalizer"], **normalizer}
    return sanitize(content)


def theirs(definition: bytes) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer.from_buffer(definition)
    tokenizer.encode_special_tokens = True
    return tokenizer


def check(definition: bytes, texts: list[str]) -> None:
    """One by one, together, and once more, when all words were seen."""
    tokenizer = Tokenizer(definition, LIMIT)
    expected = [encoding.ids for encoding in theirs(definition).encode_batch_fast(texts)]
    assert [row.tolist() for row in tokenizer.encode_all(texts)] == expected
    again = Tokenizer(definition, LIMIT)
    for _ in range(2):
        assert [again.encode(text).tolist() for text in texts] == expected
        assert [again.count(text) for text in texts] == list(map(len, expected))


@pytest.fixture(scope="module")
def definition(bundle: Path) -> bytes:
    return (bundle / "tokenizer.json").read_bytes()


def test_every_pair_of_ascii_characters(definition: bytes) -> None:
    """Inside a word and beside spaces."""
    characters = [chr(code) for code in range(128)]
    texts = [f"ab{x}{y}cD {x}Z{y} " for x in characters for y in characters]
    check(definition, ["".join(texts[i : i + 128]) for i in range(0, len(texts), 128)])


@pytest.mark.parametrize(
    "normalizer",
    [{}, {"lowercase": False}, {"strip_accents": False}, {"lowercase": False, "strip_accents": True}],
    ids=["uncased", "cased", "accents", "cased without accents"],
)
def test_random_unicode(definition: bytes, normalizer: dict[str, Any]) -> None:
    """Characters of any script, combining marks, odd white space and control characters."""
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(MIXED, size)) for size in random.integers(0, 60, 300)]
    texts += ["".join(chr(code) for code in row) for row in random.integers(1, 0x3000, (150, 30))]
    beyond = np.concatenate([random.integers(0x3000, 0xD7FF, (60, 12)), random.integers(0xE000, 0x2A6E0, (60, 12))])
    texts += [" ".join(f"{chr(code)}a{chr(code + 1)}" for code in row) for row in beyond]
    texts += ["", "[CLS] [MASK] x[SEP]", "a\0b \0 c", "x" * (MAX_WORD_BYTES + 60), "word " * 9, "\0\0"]
    check(changed(definition, **normalizer), texts)


def test_long_texts_end_at_the_limit(definition: bytes) -> None:
    """A text is cut where the tokenizer cuts it, with its special tokens around what is left."""
    tokenizer = Tokenizer(definition, 32)
    texts = [
        "the river " * 100,
        "a   \n\t" * 400,
        "x" * 500,
        "日本" * 90,
        "the cat " * 15,
        "incomprehensibilities " * 60,
    ]
    for text, together in zip(texts, tokenizer.encode_all(texts), strict=True):
        before, *content, behind = theirs(definition).encode(text).ids
        expected = [before, *content[:30], behind]
        assert tokenizer.encode(text).tolist() == together.tolist() == expected
        assert tokenizer.count(text) == len(content) + 2


def test_seen_words_are_bounded(definition: bytes) -> None:
    """However many different words come, so many are remembered; the ids stay right."""
    tokenizer = Tokenizer(definition, LIMIT, remembered=500)
    texts = [" ".join(f"{i:x}" for i in range(start, start + 300)) for start in range(0, 3000, 300)]
    expected = [encoding.ids for encoding in theirs(definition).encode_batch_fast(texts)]
    assert [row.tolist() for row in tokenizer.encode_all(texts)] == expected
    assert tokenizer._words is not None
    assert len(tokenizer._words._seen) <= 500
    assert tokenizer.encode_all(["the cat\0s hat", "dog"])[0].tolist() == tokenizer.encode("the cats hat").tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"normalizer": {"type": "Lowercase"}},
        {"added_tokens": [{"id": 5, "content": "the", "special": False}]},
    ],
)
def test_other_tokenizers_are_asked_for_whole_texts(change: dict[str, Any]) -> None:
    """Only tokenizers that take text apart word by word are asked for words."""
    assert has_words(word_tokenizer())
    assert not has_words({**word_tokenizer(), **change})


def test_a_word_that_cannot_be_tokenized() -> None:
    """Without an unknown token a word can have no ids: that is an error here as there, also in the middle of others."""
    model = {"type": "WordLevel", "vocab": {"the": 0, "[CLS]": 2, "[SEP]": 3, "a": 4}, "unk_token": "[UNK]"}
    raw = sanitize({**word_tokenizer(), "added_tokens": [], "model": model})
    tokenizer = Tokenizer(raw, 32)
    assert tokenizer.encode("the a the").tolist() == [2, 0, 4, 0, 3]
    for text in ("the cat", "the é"):
        with pytest.raises(InputError, match="cannot be tokenized"):
            tokenizer.encode(text)
        with pytest.raises(InputError, match="cannot be tokenized"):
            tokenizer.encode_all(["the", text])
