"""Pictures and sounds that clients send: their bytes, within limits."""

import base64
import binascii
import re
from typing import TYPE_CHECKING

from edge_embed.schemas import Schema
from edge_embed.service.limits import Limits
from edge_embed.service.refusals import Refusal
from edge_embed_runtime.errors import InputError

if TYPE_CHECKING:
    from edge_embed_runtime.index.index import Index

# A file as text: base64, alone or as a URL that browsers and clients make of one.
FILE_FORMAT = "file"
FILE: Schema = {"type": "string", "minLength": 1, "format": FILE_FORMAT}
DATA_URL = re.compile(r"data:[\w.+-]*(?:/[\w.+-]*)?(?:;[\w.+=-]*)*,")


def decoded(given: str, name: str) -> bytes:
    """The bytes of a file in base64: "iVBORw0..." or "data:image/png;base64,iVBORw0...". Raises InputError.

    name: of the field
    """
    head = DATA_URL.match(given[:200])
    if head is not None and not head[0].endswith(";base64,"):
        raise InputError(f"{name} is a data URL without base64", option=name)
    if given[:200].lower().startswith(("http:", "https:", "file:")):
        raise InputError(f"{name} is an address, and nothing is fetched here: send the file in base64", option=name)
    try:
        content = base64.b64decode(given[head.end() :] if head else given, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{name} is not base64", option=name) from None
    if not content:
        raise InputError(f"{name} is empty", option=name)
    return content


def check_content(modality: str, content: bytes, limits: Limits) -> None:
    """Look at a file's header, before anything is decoded.

    Raises MediaError for what is no picture or sound, Refusal (413) for a picture with too many pixels.
    """
    if modality != "image":
        return  # sounds are decoded in blocks, however long they are
    from edge_embed_runtime.inputs.imagefacts import describe_image

    facts = describe_image(content).metadata
    pixels = int(facts.get("width", 0)) * int(facts.get("height", 0))
    if pixels > limits.pixels:
        raise Refusal(413, "picture_too_large", f"the picture has {pixels:,} pixels, the limit is {limits.pixels:,}")


def modalities(index: "Index") -> frozenset[str]:
    """What can be added to an index, and searched with, besides texts: "image" and "audio", each or none."""
    return frozenset(index.modalities) - {"text"}
