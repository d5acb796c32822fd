"""Small pictures to show beside hits."""

from io import BytesIO

import numpy as np
import pytest
from builders.pictures import exif, image, photo, saved
from PIL import Image

from edge_embed.errors import MediaError
from edge_embed_runtime.inputs.thumbnails import thumbnail


def opened(content: bytes) -> Image.Image:
    made = Image.open(BytesIO(content))
    made.load()
    return made


@pytest.mark.parametrize(
    ("height", "width", "size"), [(480, 640, (160, 120)), (640, 480, (120, 160)), (40, 30, (30, 40))]
)
def test_sizes(height: int, width: int, size: tuple[int, int]) -> None:
    """The longer side has 160 pixels; a smaller picture keeps its size."""
    made = opened(thumbnail(saved(image(height, width))))
    assert (made.format, made.size) == ("WEBP", size)


def test_upright_and_like_the_picture() -> None:
    """Turned as EXIF says, without its metadata."""
    content = saved(image(300, 400), exif=exif(6, x010e="Secret place"), icc_profile=b"p" * 300, quality=95)
    made = opened(thumbnail(content))
    assert made.size == (120, 160)
    assert not {"exif", "icc_profile", "xmp"} & set(made.info)
    expected = image(300, 400).transpose(Image.Transpose.ROTATE_270).resize((120, 160), Image.Resampling.BOX)
    assert np.abs(np.asarray(made).astype(int) - np.asarray(expected)).mean() < 8


def test_transparency_is_white() -> None:
    made = np.asarray(opened(thumbnail(saved(image(96, 96, mode="RGBA"), "PNG"))))
    assert made[2, 2].min() > 245


def test_bounded() -> None:
    """Noise, which no quality makes small, gets fewer pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    content = thumbnail(noise)
    assert len(content) <= 12_288
    assert len(thumbnail(photo(160, 20_000))) <= 12_288
    assert opened(thumbnail(photo(1, 9000))).size == (160, 1)


def test_refused() -> None:
    with pytest.raises(MediaError, match="not a picture"):
        thumbnail(b"no picture")
