"""A static model of a file of word vectors: its tokenizer finds whole words."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from edge_embed_export.files.reading import sha256_of
from edge_embed_export.sources.wordvectors import WordVectors
from edge_embed_export.static.table import StaticSource, zipf_weights
from edge_embed_export.static.words import UNKNOWN
from edge_embed_export.tokenizer.parts import Part, word_level
from edge_embed_runtime.errors import ExportError


def from_words(path: Path, found: WordVectors, sif: float | None) -> StaticSource:
    """A word-level model: words that no text gives (such as "10,000", which is three) are left out."""
    lowercase = all(word == word.lower() for word in found.words)
    definition = word_tokenizer(lowercase=lowercase)
    kept = _reachable(found.words, definition)
    if not kept:
        raise ExportError(f"{path}: none of its {len(found.words)} words can come out of a text")
    words = [found.words[i] for i in kept]
    vectors = np.vstack([found.vectors[kept], np.zeros((1, found.vectors.shape[1]), np.float32)])
    weights = None if sif is None else np.append(zipf_weights(kept, sif), np.float32(1))
    return StaticSource(
        kind="word vectors",
        vectors=vectors,
        tokenizer=word_tokenizer(lowercase=lowercase, words=words),
        weights=weights,
        unknown=len(words),
        sha256=sha256_of(path),
        notes={"words": len(words), "words_read": len(found.words), "lowercase": lowercase, "sif": sif},
    )


def word_tokenizer(*, lowercase: bool, words: Sequence[str] = ()) -> Part:
    """A tokenizer.json whose tokens are whole words and punctuation; unknown words become UNKNOWN, the last id."""
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": False,
        "lowercase": lowercase,
    }
    return word_level([*words, UNKNOWN], normalizer=normalizer, pre_tokenizer={"type": "BertPreTokenizer"})


def _reachable(words: Sequence[str], definition: dict[str, Any]) -> list[int]:
    """Which words the tokenizer gives for themselves."""
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(definition))
    kept = []
    for i, word in enumerate(words):
        pieces = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(word))
        if [piece for piece, _ in pieces] == [word]:
            kept.append(i)
    return kept
