"""Bytes as text, in the encoding that was given, that a byte order mark or UTF-8 says, or that is found out."""

from edge_embed.files.formats.content import Request, UnreadableError
from edge_embed.files.formats.detect import Unclear, detect
from edge_embed.files.lines import decode, undecodable

NUL = "holds NUL, as UTF-16 and files that are no text do; --encoding utf-16-le reads that"


def text_of(raw: bytes, request: Request, declared: str | None = None) -> str:
    """declared: the encoding that the file itself names, where it fits."""
    try:
        text = decode(raw, request.encoding)
    except UnicodeDecodeError as error:
        if request.encoding is not None:
            raise UnreadableError(undecodable(error), raw[: error.start].count(b"\n") + 1) from None
        text = _guessed(raw, request, error, declared)
    if "\x00" in text:
        raise UnreadableError(NUL)
    return text


def _guessed(raw: bytes, request: Request, error: UnicodeDecodeError, declared: str | None) -> str:
    if declared is not None:
        try:
            return raw.decode(declared)
        except (UnicodeDecodeError, LookupError):
            pass
    found = detect(raw)
    if isinstance(found, Unclear):
        raise UnreadableError(undecodable(error, found.hint), raw[: error.start].count(b"\n") + 1)
    request.note(f"read as {found}")
    return raw.decode(found)
