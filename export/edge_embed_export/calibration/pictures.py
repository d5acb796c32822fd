"""The pictures that ship with the exporter, as code that draws them: a model is calibrated on some, judged by others.

What a vision transformer reads are patches: smooth and rough, flat and striped, dark and light, in any colour. So the
pictures have the statistics of photographs (amplitudes that fall with frequency), of drawings on white, of printed
pages and of patterns, and the ends of the range. They show nothing; pictures of one's own are the better choice for a
model that is to see such pictures.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Picture = NDArray[np.uint8]
Part = Literal["calibration", "receipt"]

SEEDS = {"calibration": 1, "receipt": 2}
LARGE_SEED, LARGE = 3, (1800, 2400)
# Of each kind of picture, by part.
COUNTS = {"calibration": 8, "receipt": 5}
# Height and width, in turn.
SIZES = ((256, 256), (240, 320), (320, 240), (288, 384))


def calibration_pictures(part: Part) -> list[Picture]:
    """uint8 pictures [height, width, 3]; no picture is in both parts."""
    random = np.random.default_rng(SEEDS[part])
    found: list[Picture] = []
    for i in range(COUNTS[part]):
        for draw in KINDS:
            height, width = SIZES[len(found) % len(SIZES)]
            picture = draw(random, height, width) * random.uniform(0.7, 1.3) + random.uniform(-0.15, 0.15)
            found.append(_finished(picture))
        if part == "calibration":
            height, width = SIZES[i % len(SIZES)]
            found.append(_finished(np.full((height, width, 3), 1.0) * _end(random, i)))
    return found


def large_pictures() -> list[Picture]:
    """One picture of each kind, as large as cameras take them: uint8 [1800, 2400, 3]."""
    random = np.random.default_rng(LARGE_SEED)
    return [_finished(draw(random, *LARGE)) for draw in KINDS]


def ends() -> list[Picture]:
    """The darkest and the lightest picture: what is calibrated on other pictures has to know the range as well."""
    return [np.full((64, 64, 3), level, np.uint8) for level in (0, 255)]


def _finished(picture: Numbers) -> Picture:
    return np.rint(np.clip(picture, 0.0, 1.0) * 255).astype(np.uint8)


def _end(random: Generator, number: int) -> Numbers:
    """One colour, which no kind has: black, white, then such as have each channel at an end, or in the middle."""
    return np.full(3, float(number)) if number < 2 else random.choice([0.0, 0.5, 1.0], 3)


def _noise(random: Generator, height: int, width: int, fall: float) -> Numbers:
    """[height, width] of mean 0 and deviation 1 whose amplitudes fall with this power of the frequency."""
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    frequency = np.maximum(np.hypot(rows, columns), 1.0 / max(height, width))
    spectrum = np.fft.rfft2(random.standard_normal((height, width))) / frequency**fall
    found = np.fft.irfft2(spectrum, (height, width))
    return np.asarray((found - found.mean()) / max(float(found.std()), 1e-9))


def _cloud(random: Generator, height: int, width: int) -> Numbers:
    """Coloured noise as photographs have it: most of it in all channels together."""
    fall = random.uniform(0.8, 1.8)
    shared, own = _noise(random, height, width, fall), [_noise(random, height, width, fall) for _ in range(3)]
    contrast, colour = random.uniform(0.08, 0.3), random.uniform(0.05, 0.6)
    return np.stack([random.uniform(0.3, 0.7) + contrast * (shared + colour * one) for one in own], axis=2)


def _shapes(random: Generator, picture: Numbers, count: int, texture: float) -> Numbers:
    """The picture with ellipses and boxes, turned and coloured, one above the other."""
    height, width = picture.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width]
    for _ in range(count):
        middle, angle = random.uniform(0, 1, 2) * (height, width), random.uniform(0, np.pi)
        radii = random.uniform(0.04, 0.4, 2) * min(height, width)
        y, x = rows - middle[0], columns - middle[1]
        across, along = (
            (x * np.cos(angle) + y * np.sin(angle)) / radii[0],
            (y * np.cos(angle) - x * np.sin(angle)) / radii[1],
        )
        inside = (np.hypot(across, along) < 1) if random.random() < 0.6 else (np.maximum(abs(across), abs(along)) < 1)
        colour = random.uniform(0, 1, 3)
        shade = colour + texture * _noise(random, height, width, 1.2)[..., None]
        picture = np.where(inside[..., None], shade, picture)
    return picture


def _scene(random: Generator, height: int, width: int) -> Numbers:
    """A ground that changes from top to bottom, and textured shapes before it."""
    slope = np.linspace(0, 1, height)[:, None, None]
    ground = random.uniform(0, 1, 3) * slope + random.uniform(0, 1, 3) * (1 - slope)
    ground = ground + 0.05 * _noise(random, height, width, 1.5)[..., None]
    return _shapes(random, ground, int(random.integers(3, 12)), 0.08) + 0.02 * random.standard_normal(
        (height, width, 3)
    )


def _figure(random: Generator, height: int, width: int) -> Numbers:
    """Flat shapes on white, as icons and drawings have them."""
    return _shapes(random, np.ones((height, width, 3)), int(random.integers(2, 7)), 0.0)


def _page(random: Generator, height: int, width: int) -> Numbers:
    """Rows of dark strokes on a light ground."""
    picture = np.ones((height, width, 3)) * random.uniform(0.85, 1.0)
    size = int(random.integers(5, 18))
    ink = random.uniform(0, 0.4, 3)
    for top in range(size, height - size, 2 * size):
        strokes = np.repeat(random.random((size, width // 2 + 1)) < 0.35, 2, axis=1)[:, :width]
        words = np.repeat(random.random(width // size + 1) < 0.8, size)[:width]
        picture[top : top + size][strokes & words] = ink
    return picture


def _pattern(random: Generator, height: int, width: int) -> Numbers:
    """Waves in two directions, hard or soft, of any width."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = np.zeros((height, width))
    for _ in range(2):
        angle, length = random.uniform(0, np.pi), random.uniform(3, 60)
        waves += np.sin(2 * np.pi * (rows * np.sin(angle) + columns * np.cos(angle)) / length)
    waves = np.sign(waves) if random.random() < 0.5 else waves / 2
    first, second = random.uniform(0, 1, 3), random.uniform(0, 1, 3)
    share = (waves[..., None] + 1) / 2
    return first * share + second * (1 - share)


KINDS: tuple[Callable[[Generator, int, int], Numbers], ...] = (_cloud, _scene, _figure, _page, _pattern)
