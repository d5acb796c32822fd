"""Pixels against the processors of transformers and the resize rule of torchvision."""

from typing import Any

import numpy as np
import pytest
from builders.pictures import front, gif, image, photo, saved

from edge_embed_runtime.inputs.image import ImageFront, read_image_front

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

NEW = int(transformers.__version__.split(".")[0]) >= 5
SIZES = [(480, 640), (640, 427), (224, 224), (225, 223), (335, 224), (90, 101), (37, 501), (1000, 299), (2, 3)]
HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}


def processor(name: str, **options: Any) -> Any:
    """The processor that works on Pillow's pixels, which has another name in transformers 5."""
    return getattr(transformers, f"{name}Pil" if NEW else name)(**options)


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "clip": (lambda: processor("CLIPImageProcessor"), front(224)),
    "clip 336": (lambda: processor("CLIPImageProcessor", size={"shortest_edge": 336}, crop_size=336), front(336)),
    "siglip": (lambda: processor("SiglipImageProcessor"), front(224, "squash", **HALF)),
    "vit": (
        lambda: processor("ViTImageProcessor"),
        front(224, resize={"rule": "squash", "to": 224, "filter": "bilinear", "round": "floor"}, crop=None, **HALF),
    ),
    "blip": (lambda: processor("BlipImageProcessor"), front(384, "squash")),
    "dinov2": (
        lambda: processor("BitImageProcessor", size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}),
        front(resize={"rule": "shortest", "to": 256, "filter": "bicubic", "round": "floor"}),
    ),
    "crop larger than the picture": (
        lambda: processor("CLIPImageProcessor", size={"shortest_edge": 95}, crop_size={"height": 120, "width": 131}),
        front(
            size=[120, 131],
            resize={"rule": "shortest", "to": 95, "filter": "bicubic", "round": "floor"},
            crop={"size": [120, 131], "round": "floor"},
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_same_bits(name: str) -> None:
    """float32 equal bit for bit, whatever the shape of the picture."""
    make, data = CASES[name]
    reference, ours = make(), read_image_front(data)
    for height, width in SIZES:
        pixels = photo(height, width, seed=height)
        expected = reference(image(height, width, seed=height), return_tensors="np")["pixel_values"]
        assert np.array_equal(next(ours.feeds(pixels)), expected), (height, width)


def test_same_bits_of_modes() -> None:
    """Grey, palettes, CMYK and alpha: dropped up to transformers 4, laid on white since 5."""
    reference, ours = processor("CLIPImageProcessor"), read_image_front(front(alpha="white" if NEW else "drop"))
    pictures = [image(mode=mode) for mode in ("1", "L", "CMYK", "RGBA", "LA", "P")]
    pictures.append(image().quantize(16))
    for picture in pictures:
        expected = reference(picture, return_tensors="np")["pixel_values"]
        assert np.array_equal(next(ours.feeds(picture)), expected), picture.mode


def test_same_bits_of_files() -> None:
    """A file as `load_image` reads it: turned upright, the first frame."""
    from PIL import Image
    from transformers.image_utils import load_image

    reference, ours = processor("CLIPImageProcessor"), read_image_front(front())
    turned = Image.Exif()
    for orientation in range(1, 9):
        turned[0x0112] = orientation
        content = saved(image(200, 300), exif=turned.tobytes())
        expected = reference(load_image(Image.open(_file(content))), return_tensors="np")["pixel_values"]
        assert np.array_equal(next(ours.feeds(content)), expected), orientation
    content = gif()
    expected = reference(load_image(Image.open(_file(content))), return_tensors="np")["pixel_values"]
    assert np.array_equal(next(ours.feeds(content)), expected)


@pytest.mark.parametrize("filter_", ["bilinear", "bicubic"])
def test_within_one_level_of_torchvision(filter_: str) -> None:
    """Its resize of uint8 tensors, which is torch's antialiased one, when a picture shrinks."""
    for height, width in ((480, 640), (640, 427), (1000, 299), (335, 224)):
        resize = {"rule": "shortest", "to": 224, "filter": filter_, "round": "floor"}
        data = front(resize=resize)
        ours: ImageFront = read_image_front(data)
        pixels = photo(height, width, seed=width)
        size = ours.framing.resize.size(height, width)
        tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        resized = torch.nn.functional.interpolate(tensor, size=size, mode=filter_, antialias=True, align_corners=False)
        top, left = (size[0] - 224) // 2, (size[1] - 224) // 2
        expected = resized[0, :, top : top + 224, left : left + 224].permute(1, 2, 0).numpy().astype(int)
        assert np.abs(ours.pixels(pixels).astype(int) - expected).max() <= 1


def _file(content: bytes) -> Any:
    from io import BytesIO

    return BytesIO(content)
