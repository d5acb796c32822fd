"""A picture from a file, bytes, Pillow or numpy, opened with care: nothing is decoded before its size is known.

The content decides what a file is, never its suffix, and only the decoders of FORMATS are ever asked: Pillow's other
fifty stay out of reach. A file is read once, whole, into memory.
"""

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_embed_runtime.errors import EdgeEmbedError, InputError, MediaError
from edge_embed_runtime.extras import require
from edge_embed_runtime.inputs.mediafile import MAX_BYTES, MediaFile, read_media
from edge_embed_runtime.inputs.pictureheaders import NAMES, format_of, webp_size

if TYPE_CHECKING:
    from PIL.Image import Image

# The decoders that may be asked: the name of the format, Pillow's module and class.
FORMATS = {
    "JPEG": ("JpegImagePlugin", "JpegImageFile"),  # and MPO: its first picture
    "PNG": ("PngImagePlugin", "PngImageFile"),
    "WEBP": ("WebPImagePlugin", "WebPImageFile"),
    "GIF": ("GifImagePlugin", "GifImageFile"),
    "BMP": ("BmpImagePlugin", "BmpImageFile"),
}
ORIENTATION = 0x0112  # the EXIF tag
# Its values to Pillow's numbers of what makes the picture upright; 1, and everything else, is upright.
UPRIGHT = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
# Pillow warns about odd metadata. Where warnings are errors, that must not refuse a picture; and what filters there
# are belongs to the whole process, so that one thread at a time may change them.
_QUIET = threading.Lock()


@dataclass(frozen=True)
class Limits:
    """What a picture may be at most.

    pixels:     that its header claims
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
        except (
            Exception
        ) as error:  # decoders raise a dozen kinds for broken files, struct.error and KeyError among them
            raise self.error(f"a broken picture ({str(error)[:200] or type(error).__name__})") from error


def open_picture(
    given: object, limits: Limits = LIMITS, draft: Callable[["Image"], None] | None = None
) -> tuple["Image", Source]:
    """A picture of any mode, decoded and upright, and where it came from.

    given: a path, the bytes of a file, a MediaFile, a Pillow image, or a uint8 array [height, width, 3]
    draft: may ask the decoder of a picture for fewer pixels, before it is decoded

    Raises MediaError for what cannot be read or is too large, InputError for other types, MissingExtraError without
    Pillow.
    """
    pillow = require("PIL.Image", "image")
    if isinstance(given, np.ndarray):
        source = Source("the array given as a picture")
        return pillow.fromarray(_check_array(given, source, limits)), source
    if isinstance(given, pillow.Image):
        source, image, length = Source("the Pillow image"), given, 0
        _check_size(image.size, source, limits)
    else:
        content, source = read_content(given, limits)
        image, length = _open(content, source, limits), len(content)
        _check_size(image.size, source, limits)
        with source.reading():
            if draft is not None:
                draft(image)
    _check_memory(image, length, source, limits)
    with source.reading():
        image.load()
        turn = UPRIGHT.get(_orientation(image))
        return (image if turn is None else image.transpose(turn)), source


def read_content(given: object, limits: Limits = LIMITS) -> tuple[bytes, Source]:
    """The bytes of a picture's file, given as path, bytes or MediaFile. Raises MediaError and InputError."""
    if isinstance(given, bytes | bytearray | memoryview):
        return bytes(given), Source("the picture given as bytes")
    if isinstance(given, str | os.PathLike) and not isinstance(os.fspath(given), bytes):
        given = read_media(given, "bad_image", limits.file_bytes)
    if not isinstance(given, MediaFile):
        raise InputError(
            f"a picture is given as {type(given).__name__}, expected a path, bytes, a Pillow image or a uint8 array "
            "[height, width, 3]"
        )
    return given.content, Source(given.path, given.path)


def _open(content: bytes, source: Source, limits: Limits) -> "Image":
    """The picture in the bytes of a file, its header read and no pixel."""
    found = format_of(content)
    if not content:
        raise source.error("an empty file")
    if found == "HEIF":
        opener = require("PIL.Image", "image").OPEN.get("HEIF")
        if opener is None:
            raise source.error(
                "a HEIC picture, which Pillow does not read by itself: pip install pillow-heif, and call "
                "pillow_heif.register_heif_opener() before"
            )
        make = opener[0]
    elif found in FORMATS:
        module, name = FORMATS[found]
        make = getattr(import_module(f"PIL.{module}"), name)
    else:
        raise source.error(f"{NAMES.get(found, 'not a picture')}, expected one of {', '.join(FORMATS)}")
    if found == "WEBP":  # its decoder takes the memory of a whole picture at once
        _check_size(webp_size(content), source, limits)
    with source.reading(), _quiet():
        image: Image = make(BytesIO(content))
    return image


def _check_size(size: tuple[int, int], source: Source, limits: Limits) -> None:
    width, height = size
    if width * height > limits.pixels:
        raise source.error(
            f"{width:,} x {height:,} pixels are {width * height / 1e6:,.0f} million, over the limit of "
            f"{limits.pixels / 1e6:,.0f} million"
        )
    if width * height <= 0:
        raise source.error(f"{width} x {height} pixels, so there is nothing to see")


def _check_memory(image: "Image", length: int, source: Source, limits: Limits) -> None:
    """Refuse a picture that takes too much memory to read, as far as its header says."""
    if limits.memory is not None and (needed := _memory(image, length)) > limits.memory:
        error = source.error(
            f"{image.width:,} x {image.height:,} pixels take {needed / 1e6:,.0f} MB to read, and max_rss_mb leaves "
            f"{limits.memory / 1e6:,.0f} MB for it"
        )
        error.code = "memory_budget"
        raise error


def _memory(image: "Image", length: int) -> int:
    """Bytes that reading a picture takes at its peak: its file, and 4 a pixel for each copy that there is at once."""
    copies = 1.0
    if image.info.get("progressive"):  # the decoder holds all coefficients
        copies += 1.5
    elif image.has_transparency_data:  # as it is, in RGBA, on its background, without alpha
        copies += 3
    elif _orientation(image) in UPRIGHT or image.mode != "RGB":
        copies += 1
    return length + int(4 * copies * image.width * image.height)


def _check_array(given: "np.ndarray[Any, Any]", source: Source, limits: Limits) -> "np.ndarray[Any, Any]":
    if given.dtype != np.uint8 or given.ndim != 3 or given.shape[2] != 3:
        raise source.error(f"{given.dtype} {list(given.shape)}, expected uint8 [height, width, 3]")
    _check_size((given.shape[1], given.shape[0]), source, limits)
    return np.ascontiguousarray(given)


def _orientation(image: "Image") -> object:
    """What EXIF or XMP says about which side is up; 1 where they are broken, as Pillow's own reading of them is."""
    with _quiet():
        try:
            return image.getexif().get(ORIENTATION, 1)
        except Exception:  # noqa: BLE001 - a hostile EXIF raises all kinds: the picture itself can be read
            return 1


@contextmanager
def _quiet() -> Iterator[None]:
    """Pillow's warnings are not shown and not raised."""
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
