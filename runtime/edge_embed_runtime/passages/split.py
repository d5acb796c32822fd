"""Long documents become passages that the model can take whole; they begin and end with sentences where they can."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.inputs.blocks import blocks
from edge_embed_runtime.inputs.tokenizer import Tokenizer
from edge_embed_runtime.inputs.words import Span
from edge_embed_runtime.passages.borders import begin_before, last_end, near_border

if TYPE_CHECKING:
    from edge_embed_runtime.embed.encoder import Encoder

# Passages longer than this dilute what they say, even where a model would take more.
PASSAGE_TOKENS = 256
# One part in eight of a passage is said again in the next, so that a sentence on the border is whole in one of them.
OVERLAP = 8
# One part in four of a passage may be left to the next, so that it ends with a sentence or a paragraph; and as much may
# be said again, so that the next begins with one.
BACK = 4
# Thinly spread text (tables, much white space) is cut by characters; the embedder reads at least as many.
MAX_CHARACTERS = 8192

NO_TOKENS = np.empty((0, 2), np.int64)


def split(text: str, tokenizer: Tokenizer, reserved: int = 0, *, most: int = PASSAGE_TOKENS) -> list[Span]:
    """Character spans (start, end) of a text's passages; a short text is one passage.

    reserved: tokens to leave free in each passage, for a prompt
    most:     tokens of a passage
    """
    return list(each_span(text, tokenizer, reserved, most=most))


def each_span(text: str, tokenizer: Tokenizer, reserved: int = 0, *, most: int = PASSAGE_TOKENS) -> Iterator[Span]:
    """`split`, one after the other: however long the text, the tokens of two blocks are held."""
    size = max(1, min(most, tokenizer.max_content - reserved))
    pending = token_blocks(text, tokenizer)
    tokens, first = NO_TOKENS, True
    while True:
        while len(tokens) <= size and (block := next(pending, None)) is not None:
            tokens = np.concatenate([tokens, block])
        if first and (not len(tokens) or (len(tokens) <= size and len(text) <= MAX_CHARACTERS)):
            yield 0, len(text)
            return
        first = False
        starts, ends = tokens[:, 0], tokens[:, 1]
        fitting = int(np.searchsorted(ends, starts[0] + MAX_CHARACTERS, side="right"))
        most_fitting = max(1, min(size, fitting))
        end = last_end(text, tokens, most_fitting, max(1, most_fitting - size // BACK))
        last = near_border(text, tokens, most_fitting, 1) if end is None else end
        yield int(starts[0]), int(ends[last - 1])
        if last == len(tokens):
            return
        again = max(1, last - size // OVERLAP)
        tokens = tokens[begin_before(text, tokens, again, max(1, last - size // BACK)) :]


def reserved_tokens(embedder: "Encoder") -> int:
    """Tokens that a document's prompt takes."""
    tokenizer = embedder.tokenizer
    return len(tokenizer.encode(embedder.prompts["document"])) - len(tokenizer.encode(""))


def token_spans(text: str, tokenizer: Tokenizer) -> NDArray[np.int64]:
    """(start, end) of every token [n, 2], in characters of the text."""
    return np.concatenate([NO_TOKENS, *token_blocks(text, tokenizer)])


def token_blocks(text: str, tokenizer: Tokenizer) -> Iterator[NDArray[np.int64]]:
    """`token_spans`, block by block."""
    for start, stop in blocks(text):
        yield np.array(tokenizer.offsets(text[start:stop]), np.int64).reshape(-1, 2) + start
