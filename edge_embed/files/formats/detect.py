"""The encoding of a text that is not UTF-8, found out where it is clear."""

from typing import NamedTuple

from edge_embed_runtime.errors import MissingExtraError
from edge_embed_runtime.extras import require

SAY = "say how it is encoded, such as --encoding cp1252"
# Bytes that are looked at.
SAMPLE = 2**18


class Unclear(NamedTuple):
    """An encoding that is not known, and what to do."""

    hint: str


def detect(raw: bytes) -> str | Unclear:
    try:
        package = require("charset_normalizer", "files")
    except MissingExtraError:
        return Unclear(f"{SAY}, or pip install 'edge-embed[files]', which finds it out")
    found = package.from_bytes(raw[:SAMPLE]).best()
    return Unclear(SAY) if found is None else found.encoding
