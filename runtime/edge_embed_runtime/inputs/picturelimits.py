"""What a picture may be at most, checked by its header before any pixel is decoded, in errors that name its file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from edge_embed_runtime.errors import EdgeEmbedError, MediaError
from edge_embed_runtime.inputs.mediafile import MAX_BYTES

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Limits:
    """The most that is read.

    pixels:     that the header of a file claims; a picture that is handed over decoded has no such limit
    file_bytes: of its file
    memory:     bytes that reading it may take at its peak, None for no limit but the others
    """

    pixels: int = 120_000_000
    file_bytes: int = MAX_BYTES
    memory: int | None = None


LIMITS = Limits()


@dataclass(frozen=True)
class Source:
    """Where a picture came from, for messages: its path, or what it was given as."""

    name: str
    path: str | None = None

    def error(self, what: str) -> MediaError:
        """MediaError that names the file: "a.jpg: not a picture"."""
        return MediaError(f"{self.name}: {what}", code="bad_image", path=self.path)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Whatever a decoder raises for a broken file is a MediaError that names it."""
        try:
            yield
        except EdgeEmbedError:
            raise
        except MemoryError as error:
            raise self.error("there is too little memory to decode it") from error
        except Exception as error:  # decoders raise a dozen kinds for broken files, KeyError among them
            raise self.error(f"a broken picture ({str(error)[:200] or type(error).__name__})") from error

    def check_size(self, size: tuple[int, int], most: int | None) -> None:
        """Refuse a picture of too many pixels, and one of none; size: width, height."""
        width, height = size
        if most is not None and width * height > most:
            raise self.error(
                f"{width:,} x {height:,} pixels are {width * height / 1e6:,.0f} million, over the limit of "
                f"{most / 1e6:,.0f} million for files; a decoded picture has none (a Pillow image, or an array)"
            )
        if width * height <= 0:
            raise self.error(f"{width} x {height} pixels, so there is nothing to see")

    def check_memory(self, image: "Image", length: int, whole: int, limits: Limits) -> None:
        """Refuse a picture that takes too much memory to read; length: of its file; whole: pixels before a draft."""
        if limits.memory is None or (needed := read_bytes(image, length, whole)) <= limits.memory:
            return
        error = self.error(
            f"{image.width:,} x {image.height:,} pixels take {needed / 1e6:,.1f} MB to read, and the limit of memory "
            f"leaves {limits.memory / 1e6:,.1f} MB for it"
        )
        error.code = "memory_budget"
        raise error

    def check_blocks(self, image: "Image", length: int) -> None:
        """Refuse a JPEG whose file is too short for the size that it claims: each block of 8 x 8 takes at least a bit.

        Its decoder fills what is missing with grey, and says nothing.
        """
        parts = [part[1:3] for part in getattr(image, "layer", ())]
        widest, highest = max(across for across, _ in parts), max(down for _, down in parts)
        blocks = sum(
            ceil(image.width * across / widest / 8) * ceil(image.height * down / highest / 8) for across, down in parts
        )
        if 8 * length < blocks:
            raise self.error(f"its header claims {image.width:,} x {image.height:,} pixels, its file is too short")


def read_bytes(image: "Image", length: int, whole: int) -> int:
    """Bytes that reading a picture takes at its peak, as measured: its file, and 4 a pixel for each copy at a time."""
    copies = 1.0
    if image.format in ("WEBP", "AVIF", "HEIF"):  # decoded whole, then copied
        copies += 3
    if image.has_transparency_data:  # as it is, on its background, without alpha
        copies += 3
    elif image.mode != "RGB" or "exif" in image.info:  # which may ask to turn it
        copies += 1.5 if image.mode.startswith("I;16") else 1
    coefficients = 6 * whole if image.info.get("progressive") else 0  # the decoder holds all, before it makes pixels
    return length + coefficients + int(4 * copies * image.width * image.height)
