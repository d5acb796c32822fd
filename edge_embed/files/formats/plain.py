"""Text as it stands: .txt."""

from collections.abc import Iterator
from typing import BinaryIO

from edge_embed.files.formats.content import Content, Request, UnreadableError
from edge_embed.files.formats.encodings import text_of


def read_plain(file: BinaryIO, request: Request) -> Iterator[Content]:
    yield Content(whole(file, request))


def whole(file: BinaryIO, request: Request) -> str:
    """All of a text file."""
    return text_of(raw_bytes(file, request), request)


def raw_bytes(file: BinaryIO, request: Request) -> bytes:
    raw = file.read(request.limit + 1)
    if len(raw) > request.limit:
        raise UnreadableError(f"has more than {request.limit:,} bytes; a file of text may have {request.limit:,}")
    return raw
