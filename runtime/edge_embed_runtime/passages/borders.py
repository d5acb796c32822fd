"""Where a text may be cut: between words, and in scripts without spaces between characters.

A tokenizer's tokens may be parts of words. A passage that begins with "##bank" would be embedded as another word, and
its words would not be found by "riverbank".
"""

import unicodedata

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.inputs.words import UNSPACED, in_word

# Tokens to go back at most: more than any word has, but those that are no words.
NEAR = 16


def near_border(text: str, tokens: NDArray[np.int64], i: int, least: int) -> int:
    """The last token of those from `least` to `i` that begins a word; `i` itself where none is near.

    tokens: (start, end) [n, 2] in characters of the text

    "a riverbank" as ["a", "river", "##bank"], i=2 -> 1
    """
    for place in range(i, max(least, i - NEAR) - 1, -1):
        if place >= len(tokens) or is_border(text, int(tokens[place, 0])):
            return place
    return i


def is_border(text: str, place: int) -> bool:
    """Whether no word, and no character, goes on from one side of a place in a text to the other."""
    if not 0 < place < len(text):
        return True
    before, after = text[place - 1], text[place]
    if not (in_word(before) and in_word(after)):
        return True
    if unicodedata.category(after)[0] == "M" or "\u1160" <= after <= "\u11ff":  # marks; vowels and ends of Hangul
        return False
    return bool(UNSPACED.match(before) or UNSPACED.match(after))
