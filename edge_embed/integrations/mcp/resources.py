"""Documents as resources: their addresses, and what is read there.

An address has the key in percent-encoding: "notes/a b" -> "edge-embed:document/notes%2Fa%20b". There is no `//`, so
that no program takes a key such as ".." for a step in a path.
"""

from pathlib import PurePosixPath
from urllib.parse import quote, unquote

from edge_embed_runtime.errors import InputError
from edge_embed_runtime.storage.documents import Document

START = "edge-embed:document/"
TEMPLATE = START + "{key}"
MARKDOWN = (".md", ".markdown")


def address(key: str) -> str:
    return START + quote(key, safe="")


def key_of(uri: str) -> str:
    """The key in an address. Raises InputError for an address of something else."""
    if not uri.startswith(START):
        raise InputError(f"addresses of documents begin with {START}", option="uri", code="key_not_found")
    try:
        return unquote(uri.removeprefix(START), errors="strict")
    except UnicodeDecodeError:
        raise InputError("the address is not percent-encoded UTF-8", option="uri", code="key_not_found") from None


def cursor(key: str) -> str:
    """What a client gives to go on behind a key."""
    return quote(key, safe="")


def key_before(given: str) -> str:
    """The key that a cursor stands for. Raises InputError for what is none."""
    try:
        return unquote(given, errors="strict")
    except UnicodeDecodeError:
        raise InputError("this is no cursor of this list", option="cursor") from None


def mime_type(document: Document) -> str:
    """Of the text: documents that were made of files have the text that was read from them."""
    return "text/markdown" if document.key.lower().endswith(MARKDOWN) else "text/plain"


def name_of(document: Document) -> str:
    """The last part of a key that looks like a path: "notes/boats.md" -> "boats.md"."""
    return PurePosixPath(document.key).name or document.key
