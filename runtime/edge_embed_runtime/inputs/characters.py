"""Words as the numbers of their characters, for models that read words by their letters (ELMo).

A word is at most 50 numbers, AllenNLP's (`ELMoCharacterMapper` of https://github.com/allenai/allennlp): that a word
begins, the bytes of its UTF-8, that it ends, and filling; each is 1 more than in this table, because 0 is no word at
all. Words longer than 48 bytes are cut. A text lies between two words that stand for its begin and its end.

    "a" -> 259, 98, 260, 261, 261, ...
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.errors import BundleFormatError
from edge_embed_runtime.inputs.tokenizer import TokenIds, Tokenizer, Tokens

# What `Manifest.inputs` says of such a model.
CHARACTERS = "characters"
WIDTH = 50
TEXT_BEGIN, TEXT_END, WORD_BEGIN, WORD_END, FILLING = 256, 257, 258, 259, 260
# Numbers that there are, the 0 of no word included.
KINDS = FILLING + 2


def character_ids(word: bytes | int) -> TokenIds:
    """The numbers [50] of a word, or of TEXT_BEGIN or TEXT_END."""
    inner = [word] if isinstance(word, int) else list(word[: WIDTH - 2])
    found = [WORD_BEGIN, *inner, WORD_END]
    return np.array(found + [FILLING] * (WIDTH - len(found)), np.int64) + 1


class CharacterTokenizer(Tokenizer):
    """A tokenizer.json that finds words; what they are called there does not matter.

    Ids are int64 [n, 50] in place of [n].
    """

    def __init__(self, definition: bytes, max_tokens: int) -> None:
        super().__init__(definition, max_tokens)
        if any(len(part) != 1 for part in self.around):
            raise BundleFormatError("tokenizer.json must put one special token before a text, and one behind it")
        self._ids = lru_cache(2**14)(character_ids)

    @property
    def largest_id(self) -> int:
        return KINDS - 1

    def encode(self, text: str) -> TokenIds:
        return self._rows([text[start:stop] for start, stop in self._offsets(text)])

    def encode_all(self, texts: Sequence[str]) -> list[TokenIds]:
        return [self.encode(text) for text in texts]

    def tokens(self, text: str) -> Tokens:
        found = super().tokens(text)
        words = [text[start:stop] for start, stop in found.offsets[1:-1]]
        return found._replace(ids=self._rows(words), names=[found.names[0], *words, found.names[-1]])

    def _offsets(self, text: str) -> list[tuple[int, int]]:
        return list(self._content(text).offsets[: self.max_content])

    def _rows(self, words: list[str]) -> NDArray[np.int64]:
        return np.stack([self._ids(TEXT_BEGIN), *(self._ids(word.encode()) for word in words), self._ids(TEXT_END)])
