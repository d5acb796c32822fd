"""A small picture of a picture, to show beside a hit."""

from io import BytesIO
from typing import TYPE_CHECKING

from edge_embed_runtime.inputs.picturelimits import LIMITS, Limits
from edge_embed_runtime.inputs.pictures import open_picture
from edge_embed_runtime.inputs.pixels import flatten

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE, MAX_BYTES = 160, 12_288
QUALITIES = (75, 50, 25, 5)  # of WebP: the first whose file is small enough
BILINEAR, GAP = 2, 2.0  # Pillow's number, and how far it may shrink by averaging first, which is fast


def thumbnail(given: object, limits: Limits = LIMITS) -> bytes:
    """A WebP of at most 12,288 bytes whose longer side has 160 pixels, or fewer where the picture is smaller.

    Upright, transparency on white, no metadata. given: as for `encode_image`; a JPEG is decoded at a fraction of its
    size. Raises MediaError for what cannot be read.
    """
    picture, source = open_picture(given, limits, _draft)
    with source.reading():
        small = _shrink(flatten(picture, "white"), SIDE)
        while True:
            for quality in QUALITIES:
                file = BytesIO()
                small.save(file, "WEBP", quality=quality, method=2)
                if file.tell() <= MAX_BYTES:
                    return file.getvalue()
            small = _shrink(small, max(small.size) // 2)  # noise: no quality makes it small enough


def _draft(image: "Image") -> None:
    image.draft("RGB", (2 * SIDE, 2 * SIDE))


def _shrink(picture: "Image", side: int) -> "Image":
    """A picture whose longer side is at most `side`."""
    longer = max(picture.size)
    if longer <= side:
        return picture
    width, height = (max(1, round(length * side / longer)) for length in picture.size)
    return picture.resize((width, height), BILINEAR, reducing_gap=GAP)
