"""The vocabulary of a tokenizer.json, looked at as bytes: making Python's objects of it takes as long as parsing it.

b'{"model":{"vocab":{"[PAD]":0,"the":1}}}' -> b'{"model":{"vocab":[918...]}}', [0, 1]
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

NAME, OPEN = b'"vocab":', b'{"'
# Stands where the vocabulary was. A number can be written in one way, so that it is nowhere else in a file that does
# not have these digits.
NUMBER = 918_273_645_091_827_364_509_182_736_450
STAND_IN = b"[%d]" % NUMBER
QUOTE, COMMA, COLON, END, ZERO = b'",:}0'
MAX_DIGITS = 10


def cut_vocabulary(definition: bytes, longest: int) -> tuple[bytes, Ids] | None:
    """A tokenizer.json with a stand-in for its vocabulary, and the ids of its tokens [n], each 0 or more.

    longest: bytes of a token

    None where there is none that is written as bundles write it: an object of names and whole numbers, without white
    space, and without escaped characters other than quotes and backslashes.
    """
    start = definition.find(NAME + OPEN) + len(NAME)
    if start < len(NAME) or STAND_IN[1:-1] in definition:
        return None
    rest = definition[start:].replace(b"\\\\", b"..").replace(b'\\"', b"..")
    raw = np.frombuffer(rest, np.uint8)
    quotes = np.flatnonzero(raw == QUOTE)
    ends = np.flatnonzero(raw == END)
    before = np.searchsorted(quotes, ends)
    outside = np.flatnonzero(before % 2 == 0)  # in no string
    if not len(outside):
        return None
    end, count = int(ends[outside[0]]), int(before[outside[0]])
    ids = _ids(raw[: end + 1], quotes[:count], longest)
    if ids is None or b"\\" in rest[:end]:
        return None
    try:
        definition[start : start + end].decode()
    except UnicodeDecodeError:
        return None
    return definition[:start] + STAND_IN + definition[start + end + 1 :], ids


def is_stand_in(vocabulary: Any) -> bool:
    """Whether this is what stands where a vocabulary was cut out."""
    return type(vocabulary) is list and len(vocabulary) == 1 and vocabulary[0] == NUMBER


def _ids(raw: NDArray[np.uint8], quotes: NDArray[np.int64], longest: int) -> Ids | None:
    """The numbers of an object that begins with a quote and ends with the last byte, or None where it is another.

    {"a":0,"b":12}  quotes=[1, 3, 7, 9] -> [0, 12]
    """
    first, last = quotes[::2], quotes[1::2]
    behind = np.append(first[1:] - 1, len(raw) - 1)  # where the commas are, and the end
    digits = behind - last - 2
    whole = (
        (raw[last + 1] == COLON).all()
        and (raw[behind[:-1]] == COMMA).all()
        and 1 <= digits.min() <= digits.max() <= MAX_DIGITS
        and (last - first).max() <= longest + 1
        and raw.min() >= ord(" ")
        and not ((raw[last + 2] == ZERO) & (digits > 1)).any()
    )
    if not whole:
        return None
    ids = np.zeros(len(last), np.int64)
    for place in range(int(digits.max())):
        there = digits > place
        digit = raw[last[there] + 2 + place].astype(np.int64) - ZERO
        if digit.min() < 0 or digit.max() > 9:
            return None
        ids[there] = ids[there] * 10 + digit
    return ids
