"""Texts whose end a model does not read."""

import sys
import warnings

from edge_embed_runtime.checks import listed
from edge_embed_runtime.embed.texts import Texts
from edge_embed_runtime.errors import TruncationError, TruncationWarning
from edge_embed_runtime.inputs.tokenizer import Tokenizer

# Texts that a message names.
NAMED = 5


def check_lengths(given: Texts, tokenizer: Tokenizer, most: int, what: str, *, warn: bool) -> None:
    """Warn of texts with more tokens than `most`, or raise TruncationError. what: names the bundle"""
    long = {}
    for i, text in enumerate(given.whole()):
        count = tokenizer.count(text)
        if count > most:
            long[i] = count
    if not long:
        return
    named = listed([f"text {i} ({count:,} tokens)" for i, count in long.items()], NAMED)
    message = f"{what} reads {most:,} tokens of a text, and leaves out the end of {named}"
    if not warn:
        raise TruncationError(f"{message}; nothing was embedded", texts=list(long))
    warnings.warn(message, TruncationWarning, stacklevel=1 + _own_frames())


def _own_frames() -> int:
    """Calls from here up to the caller's own code, which a warning is about."""
    frame, count = sys._getframe(1), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("edge_embed"):
        frame, count = frame.f_back, count + 1
    return count - 1
