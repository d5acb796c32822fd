"""Long texts in blocks, so that the tokens of a whole one are never held."""

from collections.abc import Iterator

# Characters that are tokenized at once: bounds the memory a text takes (tokenizers needs 140 bytes a character).
BLOCK = 32_768


def blocks(text: str) -> Iterator[tuple[int, int]]:
    """Where the blocks of a text begin and end, in characters: at white space, as far as there is some."""
    start = 0
    while start < len(text):
        stop = _word_end(text, start + BLOCK)
        yield start, stop
        start = stop


def _word_end(text: str, stop: int) -> int:
    """The nearest white space at or before `stop`, or `stop` where a word is longer than a block's last quarter."""
    if stop >= len(text):
        return len(text)
    for i in range(stop, stop - BLOCK // 4, -1):
        if text[i].isspace():
            return i
    return stop
