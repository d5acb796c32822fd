"""SentencePiece's compiled character map, looked at before the parser of tokenizers does: it trusts every number in it.

Bytes: uint32 [1], the length in bytes of what follows; uint32 [n], a double-array trie over UTF-8 (darts-clone: a unit
has a label in its lower 8 bits, bit 8 says that a value hangs below, bit 9 that the offset counts in 256s, the offset
begins at bit 10; a unit with bit 31 is a value); then the replacements in UTF-8, each with a 0 behind it, which values
are places in.
"""

import base64
import binascii

import numpy as np

from edge_embed_runtime.errors import BundleFormatError

MAX_BYTES = 2**24
VALUE = np.int64(1 << 31)


def check_charmap(encoded: object) -> int:
    """The most characters that the map makes of one. Raises BundleFormatError for what is no whole map."""
    try:
        if not isinstance(encoded, str) or len(encoded) > 2 * MAX_BYTES:
            raise ValueError("it is no text, or too long")
        raw = base64.b64decode(encoded, validate=True)
        size = int.from_bytes(raw[:4], "little")
        if len(raw) < 4 or size % 4 or not 4 <= size <= len(raw) - 4:
            raise ValueError("its trie is cut off")
        replacements = raw[4 + size :]
        longest = max(len(entry.decode()) for entry in replacements.split(b"\0"))
        _check_trie(np.frombuffer(raw, "<u4", size // 4, 4).astype(np.int64), replacements)
    except (ValueError, binascii.Error) as error:
        raise BundleFormatError(f"tokenizer.json: its character map cannot be used: {error}") from error
    return max(1, longest)


def _check_trie(units: "np.ndarray[tuple[int], np.dtype[np.int64]]", replacements: bytes) -> None:
    """Raise ValueError where a step of the trie, or a value, leads out of it."""
    inner = np.flatnonzero(units < VALUE)
    found = units[inner]
    steps = inner ^ ((found >> 10) << ((found & (1 << 9)) >> 6))
    # the next byte of a text is added to a step by xor: all places of its 256 must be there
    if units[0] >= VALUE or steps.max() | 255 >= len(units):
        raise ValueError("its trie leads out of itself")
    values = units[steps[found >> 8 & 1 == 1]] & (VALUE - 1)
    begins = np.frombuffer(replacements, np.uint8)
    inside = values[values < len(begins)]
    if values.max(initial=0) > len(begins) or (begins[inside] & 0xC0 == 0x80).any():
        raise ValueError("it names replacements that it has not")
