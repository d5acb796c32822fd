"""Texts to one vector for each of their tokens (see model/layers.py, which makes them)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.inputs.tokenizer import Tokens
from edge_embed_runtime.vectors.int8 import Vectors
from edge_embed_runtime.vectors.normalize import normalize


@dataclass(frozen=True, eq=False)
class TokenVectors:
    """The tokens of one text, in the order in which the model read them.

    tokens:  as the vocabulary has them ("river", "##bank", "▁bank", "[CLS]")
    offsets: int64 [n, 2]: a token is text[start:stop] of the text that was given; nothing for special ones
    special: bool [n]: special tokens, and those of a prompt
    vectors: float32 [n, hidden]
    """

    tokens: list[str]
    offsets: NDArray[np.int64]
    special: NDArray[np.bool_]
    vectors: Vectors


def without_prompt(tokens: Tokens, vectors: Vectors, text: str, prompt: int, *, unit: bool) -> TokenVectors:
    """Tokens of a text behind a prompt of so many characters; unit: vectors are brought to length 1."""
    special = tokens.special | (tokens.offsets[:, 1] <= prompt)
    offsets = np.maximum(tokens.offsets - prompt, 0)
    for row in np.flatnonzero(~special):  # some tokenizers count the space before a word as part of it
        start, stop = offsets[row]
        while start < stop and text[start].isspace():
            start += 1
        offsets[row, 0] = start
    return TokenVectors(tokens.names, offsets, special, normalize(vectors) if unit else vectors)
