"""Long documents become overlapping passages that the model can take whole."""

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.borders import near_border
from edge_embed_runtime.tokenizer import Tokenizer

# Passages longer than this dilute what they say, even where a model would take more.
PASSAGE_TOKENS = 256
# One part in eight of a passage is said again in the next, so that a sentence on the border is whole in one of them.
OVERLAP = 8
# Thinly spread text (tables, much white space) is cut by characters; the embedder reads at least as many.
MAX_CHARACTERS = 8192
# Characters that are tokenized at once: bounds the memory a document takes (tokenizers needs 140 bytes a character).
BLOCK = 32_768

Span = tuple[int, int]


def split(text: str, tokenizer: Tokenizer, reserved: int = 0, *, most: int = PASSAGE_TOKENS) -> list[Span]:
    """Character spans (start, end) of a text's passages; a short text is one passage.

    reserved: tokens to leave free in each passage, for a prompt
    most:     tokens of a passage
    """
    size = max(1, min(most, tokenizer.max_content - reserved))
    tokens = token_spans(text, tokenizer)
    if len(tokens) <= size and len(text) <= MAX_CHARACTERS:
        return [(0, len(text))]
    starts, ends = tokens[:, 0], tokens[:, 1]
    spans: list[Span] = []
    first = 0
    while first < len(tokens):
        fitting = int(np.searchsorted(ends, starts[first] + MAX_CHARACTERS, side="right"))
        last = near_border(text, tokens, max(first + 1, min(first + size, fitting)), first + 1)
        spans.append((int(starts[first]), int(ends[last - 1])))
        if last == len(tokens):
            break
        first = near_border(text, tokens, max(first + 1, last - size // OVERLAP), first + 1)
    return spans or [(0, len(text))]


def token_spans(text: str, tokenizer: Tokenizer) -> NDArray[np.int64]:
    """(start, end) of every token [n, 2], in characters of the text."""
    blocks = [np.empty((0, 2), np.int64)]
    start = 0
    while start < len(text):
        stop = _word_end(text, start + BLOCK)
        offsets = np.array(tokenizer.offsets(text[start:stop]), np.int64).reshape(-1, 2)
        blocks.append(offsets + start)
        start = stop
    return np.concatenate(blocks)


def _word_end(text: str, stop: int) -> int:
    """The nearest white space at or before `stop`, or `stop` where a word is longer than a block's last quarter."""
    if stop >= len(text):
        return len(text)
    for i in range(stop, stop - BLOCK // 4, -1):
        if text[i].isspace():
            return i
    return stop
