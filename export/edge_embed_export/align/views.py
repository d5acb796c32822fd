"""Changed views of a picture, which a projection learns from besides the picture itself: the same for the same file."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edge_embed_runtime.extras import require

if TYPE_CHECKING:
    from PIL.Image import Image

View = Callable[[Path], "Image"]

WHITE = (255, 255, 255)


def mirrored(file: Path) -> "Image":
    """Left is right."""
    found: Image = require("PIL.ImageOps", "image").mirror(_opened(file))
    return found


def framed(file: Path, border: float) -> "Image":
    """With a white border, a share of its longer edge."""
    picture = _opened(file)
    found: Image = require("PIL.ImageOps", "image").expand(picture, round(border * max(picture.size)), WHITE)
    return found


def turned(file: Path, degrees: float, border: float, *, mirror: bool = False) -> "Image":
    """Turned about its middle, what comes into view white."""
    image = require("PIL.Image", "image")
    picture = framed(file, border).rotate(degrees, image.Resampling.BICUBIC, fillcolor=WHITE)
    return require("PIL.ImageOps", "image").mirror(picture) if mirror else picture


# In the order in which they are taken: `--views 3` is the picture itself and the first two.
VIEWS: tuple[View, ...] = (
    mirrored,
    partial(framed, border=0.12),
    partial(turned, degrees=10.0, border=0.06),
    partial(turned, degrees=-12.0, border=0.1, mirror=True),
)


def _opened(file: Path) -> "Image":
    """As every front end opens it, what is transparent white."""
    from edge_embed_runtime.inputs.pictures import open_picture
    from edge_embed_runtime.inputs.pixels import flatten

    picture, source = open_picture(file)
    with source.reading():
        return flatten(picture, "white")
