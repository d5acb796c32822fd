"""Text to token ids, with memory and time bounded before the tokenizer sees the text."""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tokenizers
from numpy.typing import NDArray

from edge_embed_runtime.errors import BundleFormatError, InputError
from edge_embed_runtime.inputs.blocks import blocks
from edge_embed_runtime.inputs.vetting import Parts, check_parts
from edge_embed_runtime.inputs.wordcache import Words, has_words, packed

T = TypeVar("T")
TokenIds = NDArray[np.int64]

# A text is first cut to this many characters per token that the model can take, which is enough for nearly all text ...
FIRST_CUT = 8
# ... and, where that did not fill the model, up to this many. Characters beyond are never read.
LAST_CUT = 128
# A cut can change the tokens of the word it falls into; no tokenizer makes more tokens of one word than this.
WORD = 128
# Of one id of those that `Words` packs.
ID_BYTES = 8
# Words that a tokenizer remembers where nobody says more: 1 MB.
REMEMBERED = 8192


class Tokens(NamedTuple):
    """A text as the model reads it.

    ids:     int64 [n]
    names:   as the vocabulary has them
    offsets: int64 [n, 2], where each token begins and ends in the text, in characters; nothing for special tokens
    special: bool [n], for tokens that the tokenizer adds to every text
    """

    ids: TokenIds
    names: list[str]
    offsets: NDArray[np.int64]
    special: NDArray[np.bool_]


def sanitize(definition: dict[str, Any]) -> bytes:
    """A checkpoint's tokenizer.json as a bundle keeps it: without padding and truncation (the manifest has limits)."""
    clean = {**definition, "padding": None, "truncation": None}
    return json.dumps(clean, ensure_ascii=False, separators=(",", ":")).encode()


def _guarded(call: Callable[[], T], what: str) -> T:
    """Run a call into tokenizers; its Rust panics derive from BaseException and have no importable type."""
    try:
        return call()
    except Exception as error:
        raise InputError(f"{what}: {error}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise InputError(f"{what}: the tokenizer panicked: {error}") from error


def parse_tokenizer(definition: bytes) -> tokenizers.Tokenizer:
    """The tokenizer of a tokenizer.json without limits of its own, which a bundle's manifest holds.

    Raises BundleFormatError for what is none, and for what the parser cannot be trusted with (see vetting.py).
    """
    return _parse(definition, check_parts(definition))


def _parse(definition: bytes, parts: Parts) -> tokenizers.Tokenizer:
    if parts.content.get("padding") or parts.content.get("truncation"):
        raise BundleFormatError("tokenizer.json has padding or truncation set; the manifest must hold the limits")
    try:
        return _guarded(lambda: tokenizers.Tokenizer.from_buffer(definition), "its parser")
    except InputError as error:
        raise BundleFormatError(f"tokenizer.json cannot be used: {error}") from error


class Tokenizer:
    """A bundle's tokenizer. Special tokens typed by a user ("[SEP]") are plain text.

    settings:   what tokenizer.json says, without the vocabulary
    remembered: words whose tokens are kept, where it takes text apart word by word
    """

    def __init__(self, definition: bytes, max_tokens: int, remembered: int = REMEMBERED) -> None:
        self.max_tokens = max_tokens
        parts = check_parts(definition)
        self.settings: dict[str, Any] = parts.content
        self._largest = int(parts.ids.max())
        try:
            self._tokenizer = _parse(definition, parts)
            self._tokenizer.encode_special_tokens = True
            self._prefix, self._suffix = _guarded(self._special_tokens, "its special tokens")
        except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
            raise BundleFormatError(f"tokenizer.json cannot be used: {error}") from error
        special = len(self._prefix) + len(self._suffix)
        self.max_content = max_tokens - special
        if self.max_content < 1:
            raise BundleFormatError(
                f"max_tokens {max_tokens} leaves no room for a text next to {special} special tokens"
            )
        self._packed = packed(self._prefix), packed(self._suffix)
        self._words: Words | None = None
        if has_words(self.settings):
            self._model = self._tokenizer.model
            lowercase = self.settings["normalizer"].get("lowercase") is True
            self._words = Words(self._word, lowercase=lowercase, most=remembered)

    def _special_tokens(self) -> tuple[list[int], list[int]]:
        """Ids before and after the text: content [1037], whole [101, 1037, 102] -> [101], [102]."""
        probe = "a"
        content = self._tokenizer.encode(probe, add_special_tokens=False).ids
        whole = self._tokenizer.encode(probe).ids
        starts = [i for i in range(len(whole)) if content and whole[i : i + len(content)] == content]
        if len(starts) != 1:
            raise ValueError(f"they do not surround the text ({content} becomes {whole})")
        return whole[: starts[0]], whole[starts[0] + len(content) :]

    @property
    def largest_id(self) -> int:
        """The largest token id that can come out of `encode`."""
        return max(self._largest, *self._tokenizer.get_added_tokens_decoder(), 0)

    def vocabulary(self) -> dict[str, int]:
        """Token to id, added tokens included."""
        return dict(self._tokenizer.get_vocab(with_added_tokens=True))

    def encode(self, text: str) -> TokenIds:
        """Token ids [n] of a text with its special tokens, n <= max_tokens. Text beyond the limit is left out."""
        if self._words is None or len(text) > FIRST_CUT * self.max_tokens:
            return self._whole(text)
        before, behind = self._packed
        return np.frombuffer(before + self._words.one(text)[: ID_BYTES * self.max_content] + behind, np.int64)

    def encode_all(self, texts: Sequence[str]) -> list[TokenIds]:
        """`encode` of each text."""
        if self._words is None or len(texts) == 1:
            return [self.encode(text) for text in texts]
        cut = FIRST_CUT * self.max_tokens
        rows = self._words.encode([text[:cut] for text in texts])
        for i, text in enumerate(texts):
            if len(text) > cut and len(rows[i]) < self.max_content + WORD:  # much white space, or long words
                rows[i] = np.array(self._content(text).ids, np.int64)
        rows = [row[: self.max_content] for row in rows]
        if not any(self._packed):
            return rows
        before, behind = (np.frombuffer(part, np.int64) for part in self._packed)
        return [np.concatenate((before, row, behind)) for row in rows]

    def _whole(self, text: str) -> TokenIds:
        ids = self._content(text).ids
        return np.array([*self._prefix, *ids[: self.max_content], *self._suffix], np.int64)

    def _word(self, text: str) -> Sequence[int]:
        """Token ids of what `Words` takes for a word. Letters and numbers of ASCII are what the model sees of them."""
        if text.isascii() and text.isalnum():
            return [token.id for token in _guarded(lambda: self._model.tokenize(text), f"{text!r} cannot be tokenized")]
        return self._encode(text).ids

    def plain(self, text: str, most: int) -> TokenIds:
        """Token ids [n] of a text without special tokens, n <= most."""
        return np.array(self._content(text, most).ids[:most], np.int64)

    def tokens(self, text: str) -> Tokens:
        """What `encode` gives ids of, with names and places."""
        content = self._content(text)
        before, after = (
            [self._tokenizer.id_to_token(token) or "" for token in part] for part in (self._prefix, self._suffix)
        )
        found = content.offsets[: self.max_content]
        end = found[-1][1] if found else 0
        offsets = [(0, 0)] * len(before) + found + [(end, end)] * len(after)
        special = [True] * len(before) + [False] * len(found) + [True] * len(after)
        ids = [*self._prefix, *content.ids[: self.max_content], *self._suffix]
        return Tokens(
            np.array(ids, np.int64),
            [*before, *content.tokens[: self.max_content], *after],
            np.array(offsets, np.int64).reshape(-1, 2),
            np.array(special, bool),
        )

    def _content(self, text: str, most: int = 0) -> tokenizers.Encoding:
        """The tokens of a text without special ones: all that the model can take, or `most`, and some more."""
        most = max(most, self.max_content)
        cut, last = FIRST_CUT * max(most, self.max_tokens), LAST_CUT * max(most, self.max_tokens)
        while True:
            found = self._encode(text[:cut])
            # far enough past the limit that the cut cannot have touched what is kept
            if len(text) <= cut or len(found) >= most + WORD or cut >= last:
                return found
            cut *= 4

    @property
    def around(self) -> tuple[list[int], list[int]]:
        """Ids of the special tokens before and after every text."""
        return self._prefix, self._suffix

    def added_tokens(self) -> list[str]:
        """Tokens besides the model's own vocabulary, special ones among them."""
        return [token.content for token in self._tokenizer.get_added_tokens_decoder().values()]

    def word(self, text: str) -> tuple[int, ...]:
        """All token ids of a short text, without special tokens. The caller bounds the text."""
        return tuple(self._encode(text).ids)

    def count(self, text: str) -> int:
        """Tokens of a text with its special tokens, also those beyond the limit. A long text is counted in blocks."""
        content = sum(self._length(text[start:stop]) for start, stop in blocks(text))
        return len(self._prefix) + content + len(self._suffix)

    def _length(self, text: str) -> int:
        """Tokens of a text, without special ones."""
        return len(self._encode(text)) if self._words is None else len(self._words.one(text)) // ID_BYTES

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """(start, end) in characters of every token of a text, without special tokens. The caller bounds the text."""
        return list(self._encode(text).offsets)

    def pair(self, first: str, second: str) -> tokenizers.Encoding:
        """Two short texts as one, with all special tokens. The caller bounds them."""
        return _guarded(lambda: self._tokenizer.encode(first, second), "a pair of texts cannot be tokenized")

    def _encode(self, text: str) -> tokenizers.Encoding:
        return _guarded(
            lambda: self._tokenizer.encode(text, add_special_tokens=False),
            f"the text {text[:40]!r} cannot be tokenized",
        )
