"""The front end of image towers: a picture as the numbers that a tower reads, by the rules in its manifest.

In float32 the numbers are those of transformers' slow processors, bit for bit: their arithmetic of one colour depends
on nothing but that colour, so that a table of 256 numbers for each channel gives the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.extras import require
from edge_embed_runtime.inputs.fields import Fields
from edge_embed_runtime.inputs.framing import Framing, read_framing
from edge_embed_runtime.inputs.picturelimits import LIMITS, Limits
from edge_embed_runtime.inputs.pictures import open_picture
from edge_embed_runtime.inputs.pixels import flatten

if TYPE_CHECKING:
    from PIL.Image import Image

COLORS = ("RGB", "BGR", "L")
# A JPEG that is decoded "scaled" has at least so many times the pixels of what it is resized to, along each edge.
DRAFT = 2


@dataclass(frozen=True)
class ImageFront:
    """See docs/frontends.md for what each field means.

    size:    height and width of what the tower reads
    framing: how a picture gets that size
    alpha:   "white", "black" or "drop", see `flatten`
    color:   "RGB", "BGR" or "L" (grey, in each of the three channels)
    scale:   what 0-255 is multiplied with
    mean, std: for each channel, in the order of `color`: (colour * scale - mean) / std
    decode:  "full", or "scaled": a large JPEG is decoded at a half, a quarter or an eighth, faster and not the same
    """

    size: tuple[int, int]
    framing: Framing
    alpha: str
    color: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    decode: str
    limits: Limits = LIMITS

    @property
    def modality(self) -> str:
        """ "image"."""
        return "image"

    @property
    def usual_bytes(self) -> int:
        """A photo of 12 million pixels: its file, and 4 bytes a pixel, or a quarter of that where it is scaled."""
        return 6_000_000 + 48_000_000 // (4 if self.decode == "scaled" else 1)

    @property
    def library(self) -> str:
        """ "Pillow 13.0.0, libjpeg-turbo 3.2.0"."""
        features, pillow = require("PIL.features", "image"), require("PIL", "image")
        turbo = features.version_feature("libjpeg_turbo")
        return f"Pillow {pillow.__version__}, {f'libjpeg-turbo {turbo}' if turbo else 'another libjpeg'}"

    @property
    def modules(self) -> tuple[str, ...]:
        """Pillow."""
        return ("PIL",)

    def within(self, most: int) -> "ImageFront":
        """The same front end, which refuses a picture that takes more than so many bytes to read, before it does."""
        return replace(self, limits=replace(self.limits, memory=most))

    def feeds(self, given: object) -> Iterator[NDArray[np.float32]]:
        """One array [1, 3, height, width] for a picture: path, bytes, Pillow image, uint8 array [height, width, 3].

        Raises MediaError for a file that cannot be read, InputError for other types.
        """
        pixels = self.pixels(given)
        planes = [self._table[channel][pixels[..., channel]] for channel in range(3)]
        yield np.stack(planes)[None]

    def pixels(self, given: object) -> NDArray[np.uint8]:
        """A picture in the tower's size, its colours not scaled yet: [height, width, 3]. Raises as `feeds` does."""
        picture, source = open_picture(given, self.limits, self._draft if self.decode == "scaled" else None)
        with source.reading():
            flat = flatten(picture, self.alpha)
            if self.color == "L":
                flat = flat.convert("L")
            pixels = np.asarray(self.framing.apply(flat))
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        return pixels[..., ::-1] if self.color == "BGR" else pixels

    def _draft(self, image: "Image") -> None:
        """Asks a JPEG's decoder for fewer pixels: those of the resized picture, twice along each edge."""
        height, width = self.framing.resize.size(image.height, image.width)
        image.draft("RGB", (DRAFT * width, DRAFT * height))

    @cached_property
    def _table(self) -> NDArray[np.float32]:
        """What each colour of each channel becomes, [3, 256]: rescaled in float64, then normalised in float32."""
        colours = (np.arange(256, dtype=np.float64) * self.scale).astype(np.float32)
        mean, std = (np.array(values, np.float32)[:, None] for values in (self.mean, self.std))
        return (colours - mean) / std


def read_image_front(front: Mapping[str, Any]) -> ImageFront:
    """The front end that a manifest describes. Raises BundleFormatError for what is missing or not understood."""
    fields = Fields(front, "front")
    size, framing = read_framing(fields)
    read = ImageFront(
        size,
        framing,
        alpha=fields.choice("alpha", ("white", "black", "drop")),
        color=fields.choice("color", COLORS),
        scale=fields.number("scale"),
        mean=fields.numbers("mean", 3),
        std=fields.numbers("std", 3),
        decode=fields.choice("decode", ("full", "scaled")),
    )
    fields.done()
    if not all(one > 0 for one in (read.scale, *read.std)):
        raise fields.wrong("std", list(read.std), "numbers over 0, and a scale over 0")
    return read
