"""The pictures or sounds that are measured, drawn by code: their content decides nothing about speed."""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.extras import require

# Of a photo of 12 million pixels.
LARGE = (3000, 4000)
SECONDS, RATE = 10, 48_000


def inputs(modality: str, count: int) -> list[Any]:
    """uint8 [480, 640, 3] each, or (float32 [samples], rate)."""
    return [picture(480, 640, seed) if modality == "image" else sound(seed) for seed in range(count)]


def picture(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Colours that change slowly, edges and a little noise, as a photo has."""
    image = require("PIL.Image", "image")
    random = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3), np.float32)
    for cell, share in ((64, 1.0), (16, 0.5), (4, 0.3), (1, 0.1)):
        small = random.integers(0, 256, (height // cell + 2, width // cell + 2, 3), dtype=np.uint8)
        pixels += share * (np.asarray(image.fromarray(small).resize((width, height), 2), np.float32) - 128)
    made: NDArray[np.uint8] = np.clip(128 + pixels * 0.7, 0, 255).astype(np.uint8)
    return made


def jpeg(pixels: NDArray[np.uint8], quality: int = 90) -> bytes:
    """A picture as a file, as cameras write it (colour at half the resolution)."""
    file = BytesIO()
    require("PIL.Image", "image").fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def sound(seed: int) -> tuple[NDArray[np.float32], int]:
    """Ten seconds: tones that come and go, and noise."""
    random = np.random.default_rng(seed)
    at = np.arange(SECONDS * RATE) / RATE
    tones = sum(
        np.sin(2 * np.pi * random.uniform(80, 4000) * at) * (np.sin(random.uniform(0.3, 3) * at) > 0) for _ in range(4)
    )
    return (0.15 * np.asarray(tones) + 0.02 * random.standard_normal(len(at))).astype(np.float32), RATE
