"""Small pictures and sounds of our own making, which every bundle with towers comes with.

A decoder or resampler that differs changes their vectors, so they are encoded as users' files are: lossy, turned by
EXIF, with alpha, at a rate that has to be changed. The seed of the noise is fixed; the encoded bytes are those of the
exporter's libraries, and lie in the manifest.
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.calibration.sounds import golden_sounds
from edge_embed_runtime.extras import require

HEIGHT, WIDTH = 180, 240
SEED = 18
ORIENTATION, TURNED = 0x0112, 6


def golden_files(modality: str) -> list[tuple[str, bytes]]:
    """Names and encoded files. Raises MissingExtraError where what encodes them is not installed."""
    return MAKERS[modality]()


def _pictures() -> list[tuple[str, bytes]]:
    image: Any = require("PIL.Image", "image")
    picture = image.fromarray(_scene())
    exif = image.Exif()
    exif[ORIENTATION] = TURNED
    clear = np.dstack([_scene()[:96, :128], _fading(96, 128)])
    return [
        ("turned.jpg", _encoded(picture, "JPEG", quality=80, exif=exif)),
        ("clear.png", _encoded(image.fromarray(clear), "PNG", optimize=True)),
    ]


def _encoded(picture: Any, kind: str, **options: Any) -> bytes:
    held = io.BytesIO()
    picture.save(held, kind, **options)
    return held.getvalue()


def _scene() -> NDArray[np.uint8]:
    """A sky, a sun, hills and some noise: edges, slopes and texture, [HEIGHT, WIDTH, 3]."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    colours = np.stack([90 + 0.5 * y, 140 + 0.3 * y, 230 - 0.4 * y], axis=-1)
    colours[(x - 170) ** 2 + (y - 45) ** 2 < 26**2] = (250, 210, 60)
    hills = y > 120 + 22 * np.sin(x / 27) + 9 * np.sin(x / 7)
    colours[hills] = np.stack([40 + 0.2 * x, 110 + 0.3 * (y - 100), 50 + 0.1 * x], axis=-1)[hills]
    colours[130:170, 60:90] = (180, 40, 40)
    noise = np.random.default_rng(SEED).normal(0, 6, (HEIGHT // 6, WIDTH // 6, 1)).repeat(6, 0).repeat(6, 1)
    return np.clip(colours + noise, 0, 255).astype(np.uint8)


def _fading(height: int, width: int) -> NDArray[np.uint8]:
    """Opaque on the left, clear on the right."""
    return np.broadcast_to(np.linspace(255, 0, width).astype(np.uint8), (height, width))


MAKERS: dict[str, Callable[[], list[tuple[str, bytes]]]] = {"image": _pictures, "audio": golden_sounds}
