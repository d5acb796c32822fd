"""Words between white space, as sentence-transformers' WhitespaceTokenizer finds them: for tables of word vectors.

"U.S. (the" -> "U.S.", "U.S", "u.s" until one is in the vocabulary; "(the", "the"
"""

import string
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from edge_embed_runtime.inputs.tokenizer import TokenIds, Tokenizer

# What a manifest's `inputs` says.
INPUTS = "words"
# string.punctuation, as a regular expression's class has it.
PUNCTUATION = r"!-/:-@\[-`{-~"


class WhitespaceWords:
    """Ids of the words of a tokenizer's vocabulary. Others count for nothing.

    lowercase: whether texts are brought to lower case first
    """

    def __init__(self, tokenizer: Tokenizer, *, lowercase: bool) -> None:
        self._ids, self._limit, self._lowercase = tokenizer.vocabulary(), tokenizer.max_content, lowercase

    def encode(self, text: str) -> TokenIds:
        return np.fromiter(islice(self._of(text), self._limit), np.int64)

    def encode_all(self, texts: Sequence[str]) -> list[TokenIds]:
        return [self.encode(text) for text in texts]

    def _of(self, text: str) -> Iterator[int]:
        for word in (text.lower() if self._lowercase else text).split():
            found = self._ids.get(word)
            if found is None:
                bare = word.strip(string.punctuation)
                found = self._ids.get(bare) if bare else None
                found = self._ids.get(bare.lower()) if found is None and bare else found
            if found is not None:
                yield found
