"""Pairs of texts to one row of tokens, as cross-encoders read them: "[CLS] first [SEP] second [SEP]" for BERT."""

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.errors import BundleFormatError
from edge_embed_runtime.inputs.tokenizer import TokenIds, Tokenizer

# What stands around the texts of a pair: rows of (token id, type), [n, 2].
Fixed = NDArray[np.int64]
# Where both texts of a pair are too long, their tokens are counted up to so many times what the model takes.
COUNTED = 32


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of two texts are kept where they have room for so many together: the longer one loses first.

    longest_first(3, 9, 8) -> (3, 5); longest_first(9, 9, 7) -> (3, 4), as the library of tokenizers does it
    """
    short, long = sorted((first, second))
    if short + long > room:
        # where both are too long each has half, and of an odd number the longer one has more
        short, long = (short, room - short) if 2 * short <= room else (room // 2, room - room // 2)
    return (short, long) if first <= second else (long, short)


class PairTokenizer:
    """Makes rows [tokens, 2] of pairs, (token id, type) each, of at most `tokenizer.max_tokens` tokens.

    Raises BundleFormatError for a tokenizer that has no template for pairs.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._before, self._between, self._after, self._types = _template(tokenizer)
        special = len(self._before) + len(self._between) + len(self._after)
        self.room: int = tokenizer.max_tokens - special
        if self.room < 2:
            raise BundleFormatError(
                f"max_tokens {tokenizer.max_tokens} leaves no room for two texts next to {special} special tokens"
            )

    def row(self, first: str, second: str) -> TokenIds:
        """The tokens of a pair [n, 2]. Tokens beyond the limit are left out, of the longer text first."""
        texts = first, second
        both = [self.tokenizer.plain(text, self.room) for text in texts]
        lengths = [len(ids) for ids in both]
        if lengths == [self.room, self.room] and self.room % 2:  # the one that is longer in whole has one token more
            lengths = [len(self.tokenizer.plain(text, COUNTED * self.room)) for text in texts]
        kept = longest_first(lengths[0], lengths[1], self.room)
        parts = [
            np.stack([ids[:count], np.full(count, type_)], axis=1)
            for ids, count, type_ in zip(both, kept, self._types, strict=True)
        ]
        return np.concatenate([self._before, parts[0], self._between, parts[1], self._after])


def _template(tokenizer: Tokenizer) -> tuple[Fixed, Fixed, Fixed, tuple[int, int]]:
    """What stands before, between and behind two texts, and the types of their own tokens."""
    probe = tokenizer.pair("a", "a")
    sides = probe.sequence_ids  # None of special tokens
    tokens = np.array([probe.ids, probe.type_ids], np.int64).T
    starts = [sides.index(side) if side in sides else 0 for side in (0, 1)]
    ends = [start + sides.count(side) for side, start in enumerate(starts)]
    expected = [None] * starts[0] + [0] * sides.count(0) + [None] * (starts[1] - ends[0]) + [1] * sides.count(1)
    if not (sides.count(0) and sides.count(1)) or sides != expected + [None] * (len(sides) - len(expected)):
        raise BundleFormatError("tokenizer.json has no template that puts the texts of a pair one behind the other")
    types = [set(probe.type_ids[start:end]) for start, end in zip(starts, ends, strict=True)]
    if starts[1] == ends[0] or any(len(found) > 1 for found in types):
        raise BundleFormatError("tokenizer.json has no special token between the texts of a pair")
    first, second = (probe.type_ids[start] for start in starts)
    return tokens[: starts[0]], tokens[ends[0] : starts[1]], tokens[ends[1] :], (first, second)
