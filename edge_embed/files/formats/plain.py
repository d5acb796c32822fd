"""Text as it stands: .txt."""

from collections.abc import Iterator
from typing import BinaryIO

from edge_embed.files.formats.content import Content, Request, UnreadableError
from edge_embed.files.formats.encodings import text_of


def read_plain(file: BinaryIO, request: Request) -> Iterator[Content]:
    yield Content(whole(file, request))


def whole(file: BinaryIO, request: Request) -> str:
    """All of a text file."""
    return text_of(raw_bytes(file, request.limit), request)


def raw_bytes(file: BinaryIO, most: int) -> bytes:
    raw = file.read(most + 1)
    if len(raw) > most:
        raise UnreadableError(f"has more than {most:,} bytes, which a file of this kind may have")
    return raw
