"""Real texts cut, or joined, at word boundaries to token lengths spread evenly over a class."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import numpy as np

from edge_embed_runtime.errors import InputError
from edge_embed_runtime.inputs.tokenizer import Tokenizer

LengthClass = tuple[int, int]  # fewest and most tokens of a text, special tokens included
# Places in the sources from which a text of one length is tried, per source text.
STARTS = 8


def length_name(length: LengthClass) -> str:
    """(8, 16) -> "8-16"."""
    return f"{length[0]}-{length[1]}"


def texts_of_length(tokenizer: Tokenizer, sources: Sequence[str], length: LengthClass, count: int) -> list[str]:
    """`count` texts whose token counts run evenly from one end of the class to the other, in a fixed mixed order.

    Raises InputError when the sources hold no text of such a length.
    """
    shortest, longest = length
    targets = np.linspace(shortest, longest, count).round().astype(int)
    order = np.random.default_rng(0).permutation(count)
    words = [text.split() for text in sources]
    made = [_cut(tokenizer, words, i * len(sources) // count, shortest, int(targets[i])) for i in range(count)]
    if None in made:
        raise InputError(f"the texts have no run of words of {length_name(length)} tokens: give a wider class")
    return [made[i] or "" for i in order]


def _cut(tokenizer: Tokenizer, words: Sequence[Sequence[str]], first: int, shortest: int, target: int) -> str | None:
    """The first run of words, from the source text `first` on, with `shortest` to `target` tokens."""
    special = len(tokenizer.encode(""))
    for attempt in range(STARTS * len(words)):
        source, skipped = (first + attempt) % len(words), attempt // len(words)
        run = _words_from(words, source, skipped, target)

        def count(end: int, run: list[str] = run) -> int:
            return special + len(tokenizer.offsets(" ".join(run[:end])))

        end = bisect_right(range(len(run) + 1), target, key=count) - 1
        if end > 0 and count(end) >= shortest:
            return " ".join(run[:end])
    return None


def _words_from(words: Sequence[Sequence[str]], source: int, skipped: int, most: int) -> list[str]:
    """At most `most` words of a source text and those after it; a word has at least one token."""

    def stream() -> Iterator[str]:
        yield from words[source][skipped:]
        for i in range(1, len(words)):
            yield from words[(source + i) % len(words)]

    return [word for _, word in zip(range(most), stream(), strict=False)]
