"""Where a text may be cut: best between paragraphs, then between sentences, and otherwise between words, in scripts
without spaces between characters.

A tokenizer's tokens may be parts of words. A passage that begins with "##bank" would be embedded as another word, and
its words would not be found by "riverbank".
"""

import unicodedata

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.inputs.words import UNSPACED, Span, in_word

# Tokens to go back at most: more than any word has, but those that are no words.
NEAR = 16
# What ends a sentence where white space follows, and what ends one anywhere.
ENDS, ENDS_ANYWHERE = (
    ".!?\u2026\u061f\u06d4\u0964\u0965\u0589\u1362\u104b\u17d4\u17d5",
    "\u3002\uff01\uff1f\uff0e\uff61",
)
# What may stand between that and the white space.
CLOSING = "\"'\u2019\u201d\u00bb)]}\u203a\u300d\u300f\uff09\u3011\uff02*_`"
# Characters of a line that stands alone without an end, and is a heading.
HEADING = 80
# Characters of white space that are looked at.
FAR = 1000
# What `border_kind` says.
PARAGRAPH, SENTENCE, OTHER = 2, 1, 0


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


def last_end(text: str, tokens: NDArray[np.int64], i: int, least: int) -> int | None:
    """The last token of those from `least` to `i` that begins a paragraph, or otherwise a sentence; None without."""
    found = None
    for place in range(min(i, len(tokens)), least - 1, -1):
        kind = border_kind(text, int(tokens[place - 1, 1]))
        if kind == PARAGRAPH:
            return place
        if kind == SENTENCE and found is None:
            found = place
    return found


def begin_before(text: str, tokens: NDArray[np.int64], i: int, least: int) -> int:
    """The last token of those from `least` to `i` that begins a sentence, or otherwise a word."""
    sentences = (j for j in range(i, least - 1, -1) if border_kind(text, int(tokens[j - 1, 1])) != OTHER)
    return next(sentences, None) or near_border(text, tokens, i, 1)


def border_kind(text: str, place: int) -> int:
    """What begins at a place in a text, or behind the white space there: PARAGRAPH, SENTENCE or OTHER.

    "It rained. We stayed.", 10 -> SENTENCE. A paragraph does not begin after a heading, which would be left alone.
    """
    start, stop = _white_space(text, place)
    if start == 0 or stop == len(text):
        return PARAGRAPH
    if text.count("\n", start, stop) > 1 and not _ends_with_heading(text, start):
        return PARAGRAPH
    return SENTENCE if _ends_sentence(text, start, stop) else OTHER


def _white_space(text: str, place: int) -> Span:
    """The white space around a place, or the nearest of it."""
    start = stop = place
    while start > max(0, place - FAR) and text[start - 1].isspace():
        start -= 1
    while stop < min(len(text), place + FAR) and text[stop].isspace():
        stop += 1
    return start, stop


def _ends_sentence(text: str, start: int, stop: int) -> bool:
    """Whether a sentence ends before the white space from `start` to `stop`."""
    end = start
    while end > max(0, start - 4) and text[end - 1] in CLOSING:
        end -= 1
    last = text[end - 1 : end]
    if last in ENDS_ANYWHERE:
        return True
    return stop > start and last in ENDS and not (last == "." and text[stop].islower())


def _ends_with_heading(text: str, end: int) -> bool:
    line = text.rfind("\n", max(0, end - HEADING - 1), end) + 1
    if line == 0 and end > HEADING:
        return False
    alone = not text[max(0, line - 2) : line].strip() or text.startswith("#", line)
    return alone and text[end - 1] not in ENDS + ENDS_ANYWHERE + CLOSING
