"""A picture from a file, bytes, Pillow or numpy, opened with care: nothing is decoded before its size is known.

The content decides what a file is, never its suffix, and only the decoders of FORMATS are ever asked: Pillow's other
fifty stay out of reach. A file is read once, whole, into memory.
"""

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_embed_runtime.errors import InputError
from edge_embed_runtime.extras import require
from edge_embed_runtime.inputs.mediafile import MediaFile, read_media
from edge_embed_runtime.inputs.pictureheaders import NAMES, format_of, webp_size
from edge_embed_runtime.inputs.picturelimits import LIMITS, Limits, Source

if TYPE_CHECKING:
    from PIL.Image import Image

# The decoders that may be asked: the name of the format, Pillow's module and class.
FORMATS = {
    "JPEG": ("JpegImagePlugin", "JpegImageFile"),  # and MPO: its first picture
    "PNG": ("PngImagePlugin", "PngImageFile"),
    "WEBP": ("WebPImagePlugin", "WebPImageFile"),
    "GIF": ("GifImagePlugin", "GifImageFile"),  # the first frame, of every animation
    "BMP": ("BmpImagePlugin", "BmpImageFile"),
    "AVIF": ("AvifImagePlugin", "AvifImageFile"),
}
# Those that some builds of Pillow leave out, by the name that its `features` has for them.
OPTIONAL = {"WEBP": "webp", "AVIF": "avif"}
ORIENTATION = 0x0112  # the EXIF tag
# Its values to Pillow's numbers of what makes the picture upright; 1, and everything else, is upright.
UPRIGHT = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
# Pillow warns about odd metadata. Where warnings are errors, that must not refuse a picture; and what filters there
# are belongs to the whole process, so that one thread at a time may change them.
_QUIET = threading.Lock()


def open_picture(
    given: object, limits: Limits = LIMITS, draft: Callable[["Image"], None] | None = None
) -> tuple["Image", Source]:
    """A picture of any mode, decoded and upright, and where it came from.

    given: a path, the bytes of a file, a MediaFile, a Pillow image, or a uint8 array [height, width, 3]
    draft: may ask the decoder of a file for fewer pixels, before it is decoded

    Raises MediaError for what cannot be read or is too large, InputError for other types, MissingExtraError without
    Pillow.
    """
    pillow = require("PIL.Image", "image")
    if isinstance(given, np.ndarray):
        source = Source("the array given as a picture")
        return pillow.fromarray(_check_array(given, source)), source
    if isinstance(given, pillow.Image):
        source, image, length = Source("the Pillow image"), given, 0
        source.check_size(image.size, None)
        whole = image.width * image.height
    else:
        content, source = read_content(given, limits)
        image, length = open_header(content, source, limits), len(content)
        whole = image.width * image.height
        with source.reading():
            if draft is not None:
                draft(image)
    source.check_memory(image, length, whole, limits)
    with source.reading():
        image.load()
        turn = UPRIGHT.get(orientation(image))
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


def open_header(content: bytes, source: Source, limits: Limits = LIMITS) -> "Image":
    """The picture in the bytes of a file: its header is read and within the limits, and no pixel is decoded.

    Raises MediaError.
    """
    if not content:
        raise source.error("an empty file")
    form = format_of(content)
    make = _decoder(form, source)
    if form == "WEBP":  # its decoder takes the memory of a whole picture at once
        source.check_size(webp_size(content), limits.pixels)
    with source.reading(), quiet():
        image: Image = make(BytesIO(content))
        source.check_size(image.size, limits.pixels)
        if form == "JPEG":
            source.check_blocks(image, len(content))
    return image


def orientation(image: "Image") -> int:
    """What EXIF or XMP says about which side is up; 1 where they are broken, as Pillow's own reading of them is."""
    with quiet():
        try:
            found = image.getexif().get(ORIENTATION, 1)
        except Exception:  # noqa: BLE001 - a hostile EXIF raises all kinds: the picture itself can be read
            return 1
    return found if isinstance(found, int) else 1


@contextmanager
def quiet() -> Iterator[None]:
    """Pillow's warnings are not shown and not raised."""
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _decoder(form: str, source: Source) -> Callable[[BytesIO], "Image"]:
    """What opens files of a format. Raises MediaError for one that is not read."""
    if form == "HEIF":  # registered by the package pillow-heif, where the user asked it to
        opener = require("PIL.Image", "image").OPEN.get(form)
        if opener is None:
            raise source.error(
                "a HEIC picture, which Pillow does not read by itself: pip install pillow-heif, and call "
                "pillow_heif.register_heif_opener() before"
            )
        make: Callable[[BytesIO], Image] = opener[0]
        return make
    if form not in FORMATS:
        raise source.error(f"{NAMES.get(form, 'not a picture')}; what is read: {', '.join(FORMATS)}")
    if form in OPTIONAL:
        known, feature = require("PIL.features", "image"), OPTIONAL[form]
        if feature not in known.modules or not known.check(feature):
            raise source.error(
                f"a picture of the format {form}, which this Pillow does not read: pip install -U pillow"
            )
    module, name = FORMATS[form]
    found: Callable[[BytesIO], Image] = getattr(import_module(f"PIL.{module}"), name)
    return found


def _check_array(given: "np.ndarray[Any, Any]", source: Source) -> "np.ndarray[Any, Any]":
    if given.dtype != np.uint8 or given.ndim != 3 or given.shape[2] != 3:
        raise source.error(f"{given.dtype} {list(given.shape)}, expected uint8 [height, width, 3]")
    source.check_size((given.shape[1], given.shape[0]), None)
    return np.ascontiguousarray(given)
