"""The front end of image towers: what its data means, and the numbers it gives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.pictures import CLIP_MEAN, CLIP_STD, clear_palette, front, image, photo, png, saved
from PIL import Image

from edge_embed.errors import BundleFormatError, InputError, MediaError
from edge_embed_runtime.inputs.base import read_front
from edge_embed_runtime.inputs.framing import Crop, Resize
from edge_embed_runtime.inputs.image import ImageFront, read_image_front
from edge_embed_runtime.inputs.mediafile import read_media


def resize(rule: str, to: Any, **changes: Any) -> dict[str, Any]:
    return {"rule": rule, "to": to, "filter": "bicubic", "round": "floor", **changes}


def plain(side: int = 32, **changes: Any) -> ImageFront:
    """A front end that changes no number and no size of a picture of that size."""
    usual = {"scale": 1, "mean": [0, 0, 0], "std": [1, 1, 1]}
    return read_image_front(front(side, "squash", **{**usual, **changes}))


def test_numbers() -> None:
    """(colour * scale - mean) / std for each channel, channels first, float32, one picture alone."""
    pixels = photo(64, 64)
    found = list(read_front("image", front(64)).feeds(pixels))
    expected = (pixels.transpose(2, 0, 1) / 255 - np.array(CLIP_MEAN)[:, None, None]) / np.array(CLIP_STD)[
        :, None, None
    ]
    assert [(feed.shape, feed.dtype) for feed in found] == [((1, 3, 64, 64), np.float32)]
    assert found[0].flags.c_contiguous
    np.testing.assert_allclose(found[0][0], expected, atol=1e-6)


def test_a_picture_given_in_any_way(tmp_path: Path) -> None:
    """A path as str or Path, bytes, a file read before, a Pillow image and an array give the same numbers."""
    content = saved(image(), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(content)
    ways = [str(path), path, content, bytearray(content), memoryview(content), read_media(path, "bad_image"), image()]
    ways += [photo(), np.asfortranarray(photo())]
    feeds = [next(plain().feeds(given)) for given in ways]
    assert all(np.array_equal(feed, feeds[0]) for feed in feeds)


@pytest.mark.parametrize(
    ("height", "width", "rule", "size"),
    [
        (480, 640, resize("shortest", 224), (224, 298)),  # 298.67
        (480, 640, resize("shortest", 224, round="round"), (224, 299)),
        (640, 480, resize("shortest", 224), (298, 224)),
        (480, 640, resize("longest", 224), (168, 224)),
        (640, 427, resize("longest", 224), (224, 149)),  # 149.45
        (333, 334, resize("longest", 224, round="round"), (223, 224)),
        (480, 640, resize("shortest", [240, 300], round="round"), (240, 320)),
        (480, 640, resize("squash", [20, 30]), (20, 30)),
        (1, 3000, resize("longest", 224), (1, 224)),  # never without a row
    ],
)
def test_sizes(height: int, width: int, rule: dict[str, Any], size: tuple[int, int]) -> None:
    """The other edge keeps the proportions, its part of a pixel cut off or rounded."""
    data = front(resize=rule, crop={"size": [224, 224], "round": "floor"})
    if rule["rule"] == "squash":
        data = front(size=rule["to"], resize=rule, crop=None)
    assert read_image_front(data).framing.resize.size(height, width) == size


@pytest.mark.parametrize(
    ("side", "kept", "floor", "rounded"), [(335, 224, 55, 56), (337, 224, 56, 56), (224, 224, 0, 0), (221, 224, -2, -1)]
)
def test_where_a_crop_starts(side: int, kept: int, floor: int, rounded: int) -> None:
    """An odd pixel: transformers cuts the half off, torchvision rounds it to the even number."""
    assert Crop((kept, kept), "floor").start(side, kept) == floor
    assert Crop((kept, kept), "round").start(side, kept) == rounded


def test_what_a_crop_lacks_is_filled() -> None:
    """A picture smaller than the crop stands in its middle, and none of its pixels is lost."""
    rule = resize("longest", 33, round="round")
    made = plain(size=[33, 33], resize=rule, crop={"size": [33, 33], "round": "round", "fill": [9, 8, 7]})
    pixels = made.pixels(photo(20, 33))
    assert np.array_equal(pixels[6:26], photo(20, 33))
    assert np.array_equal(np.unique(np.concatenate([pixels[:6], pixels[26:]]).reshape(-1, 3), axis=0), [[9, 8, 7]])
    one_short = plain(size=[33, 33], resize=rule, crop={"size": [33, 33], "round": "round", "fill": [9, 8, 7]})
    assert one_short.pixels(photo(32, 33))[-1].tolist() == [[9, 8, 7]] * 33


def test_pad() -> None:
    """A square around the picture, then the size of the tower."""
    rule = resize("pad", [32, 32], fill=[1, 2, 3])
    pixels = plain(resize=rule).pixels(np.full((16, 32, 3), 200, np.uint8))
    assert pixels.shape == (32, 32, 3)
    assert pixels[0, 0].tolist() == [1, 2, 3]
    assert pixels[16, 16].tolist() == [200, 200, 200]
    thin = plain(resize=rule).pixels(np.full((1, 100_000, 3), 200, np.uint8))  # a square would be of 10**10 pixels
    assert (thin[15].tolist(), thin[0, 0].tolist()) == ([[200, 200, 200]] * 32, [1, 2, 3])
    tall = plain(resize=rule).pixels(photo(64, 32))
    assert np.array_equal(tall[:, 0], np.broadcast_to([1, 2, 3], (32, 3)))


def test_long_thin_pictures() -> None:
    """Only the part that is kept is made of them; it is what the whole would have there, within a level."""
    pixels = photo(1, 1)[0, 0]
    thin = np.broadcast_to(pixels, (3, 60_000, 3)).copy()
    thin[:, 29_990:30_010] = photo(3, 20)
    found = read_image_front(front(224)).pixels(thin)
    whole = Image.fromarray(thin[:, 29_900:30_100]).resize((int(224 * 200 / 3), 224), Image.Resampling.BICUBIC)
    left = (whole.width - 224) // 2
    expected = np.asarray(whole)[:, left : left + 224]
    assert found.std() > 5
    assert np.abs(found.astype(int) - expected).mean() < 2
    assert Resize("shortest", (224, 224), 3, "floor").size(3, 60_000) == (224, 4_480_000)


def test_alpha() -> None:
    """On white or black, or dropped, which shows colours that nobody saw before."""
    content = clear_palette()
    left = {alpha: plain(alpha=alpha).pixels(content)[:, :10].reshape(-1, 3) for alpha in ("white", "black", "drop")}
    assert {alpha: np.unique(seen, axis=0).tolist() for alpha, seen in left.items()} == {
        "white": [[255, 255, 255]],
        "black": [[0, 0, 0]],
        "drop": [[255, 0, 0]],
    }
    seen = plain(96).pixels(image(96, 96, mode="RGBA"))
    assert seen[0, 0].tolist() == [255, 255, 255]
    assert np.array_equal(seen[48, 48], photo(96, 96)[48, 48])


def test_colors() -> None:
    """BGR turns the channels, L gives each the same grey."""
    pixels = photo(32, 32)
    assert np.array_equal(plain(color="BGR").pixels(pixels), pixels[..., ::-1])
    grey = plain(color="L").pixels(pixels)
    assert np.array_equal(grey, np.repeat(np.asarray(Image.fromarray(pixels).convert("L"))[..., None], 3, axis=2))
    assert next(plain(color="BGR").feeds(pixels))[0, 0, 5, 6] == pixels[5, 6, 2]


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits(channels: int) -> None:
    """Scaled, not cut off at 255."""
    pixels = photo(32, 32)[..., :channels]
    found = plain().pixels(png(pixels.astype(np.uint16) * 257))
    assert np.array_equal(found, np.broadcast_to(pixels, (32, 32, 3)))


def test_sixteen_bits_with_a_transparent_grey() -> None:
    from builders.pictures import chunk

    pixels = photo(32, 32)[..., :1].astype(np.uint16) * 257
    clear = chunk(b"tRNS", int(pixels[3, 4, 0]).to_bytes(2))
    found = plain().pixels(png(pixels, clear))
    assert found[3, 4].tolist() == [255, 255, 255]
    assert plain(alpha="drop").pixels(png(pixels, clear))[3, 4].tolist() == [pixels[3, 4, 0] >> 8] * 3


def test_scaled_decoding() -> None:
    """A large JPEG gives fewer pixels to the resize, and nearly the same result; other files the same bits."""
    content = saved(image(450, 600), quality=95)
    full, scaled = read_image_front(front(64)), read_image_front(front(64, decode="scaled"))
    difference = np.abs(full.pixels(content).astype(int) - scaled.pixels(content))
    assert 0 < difference.mean() < 1.5
    assert difference.max() < 40
    for given in (saved(image(100, 100)), saved(image(450, 600), "PNG"), photo(450, 600)):
        assert np.array_equal(full.pixels(given), scaled.pixels(given))
    assert scaled.usual_bytes < full.usual_bytes


def test_draft_leaves_a_users_image_alone() -> None:
    """Only files that we opened are decoded at a fraction: an image of the user keeps its size."""
    from io import BytesIO

    given = Image.open(BytesIO(saved(image(450, 600))))
    read_image_front(front(64, decode="scaled")).pixels(given)
    assert given.size == (600, 450)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sharpen": 1}, "fields that this release does not know: sharpen"),
        ({"alpha": "grey"}, "front.alpha is 'grey', expected one of white, black, drop"),
        ({"color": "CMYK"}, "front.color"),
        ({"decode": "half"}, "front.decode"),
        ({"mean": [0.5, 0.5]}, "front.mean is .*, expected 3 finite numbers"),
        ({"mean": [0.5, 0.5, float("nan")]}, "front.mean"),
        ({"std": [0.5, 0, 0.5]}, "front.std"),
        ({"scale": 0}, "scale over 0"),
        ({"scale": True}, "front.scale"),
        ({"size": [224, 225]}, "front.size is .*, expected the size that resize and crop lead to"),
        ({"size": 224}, "front.size"),
        ({"size": [10**6, 10**6]}, "front.size"),
        ({"crop": None}, "front.size"),
        ({"crop": {"size": [224, 224], "round": "up"}}, "front.crop.round is 'up', expected one of floor, round"),
        ({"crop": {"size": [224, 224]}}, "front.crop.round is missing"),
        ({"crop": {"size": [224, 224], "round": "floor", "gravity": "top"}}, "front.crop has fields .*: gravity"),
        ({"crop": {"size": [224, 224], "round": "floor", "fill": [300, 0, 0]}}, "front.crop.fill"),
        ({"resize": None}, "front.resize"),
        ({"resize": "squash"}, "front.resize is 'squash', expected names and values"),
        ({"resize": resize("fit", 224)}, "front.resize.rule is 'fit'"),
        ({"resize": resize("shortest", 224, filter="hamming")}, "front.resize.filter is 'hamming'"),
        ({"resize": resize("shortest", [224, 200])}, "front.resize.to is .*, expected one number"),
        ({"resize": resize("shortest", 0)}, "front.resize.to"),
        ({"resize": resize("shortest", "224")}, "front.resize.to"),
    ],
)
def test_data_that_is_not_understood(changes: dict[str, Any], message: str) -> None:
    """Refused by its name: another release would see another picture."""
    with pytest.raises(BundleFormatError, match=message):
        read_front("image", {**front(), **changes})


def test_what_is_missing() -> None:
    for name in front():
        data = front()
        del data[name]
        with pytest.raises(BundleFormatError, match=f"front.{name} is missing"):
            read_front("image", data)
    with pytest.raises(BundleFormatError, match="modality 'video', expected image or audio"):
        read_front("video", front())
    with pytest.raises(BundleFormatError, match="front is 3, expected names and values"):
        read_front("image", 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((8, 8, 3), np.float32), r"float32 \[8, 8, 3\], expected uint8 \[height, width, 3\]"),
        (np.full((8, 8, 3), np.nan), r"float64 \[8, 8, 3\]"),
        (np.zeros((8, 8), np.uint8), r"uint8 \[8, 8\]"),
        (np.zeros((8, 8, 4), np.uint8), r"uint8 \[8, 8, 4\]"),
        (np.zeros((3, 8, 8), np.uint8), r"uint8 \[3, 8, 8\]"),
        (np.zeros((0, 8, 3), np.uint8), "nothing to see"),
        (Image.new("F", (8, 8)), "Pillow's mode F"),
        (Image.new("I", (8, 8)), "Pillow's mode I"),
        (Image.new("RGB", (0, 8)), "nothing to see"),
    ],
)
def test_wrong_arrays(given: object, message: str) -> None:
    with pytest.raises(MediaError, match=message) as caught:
        next(plain().feeds(given))
    assert caught.value.code == "bad_image"


def test_wrong_types() -> None:
    for given in (None, 3, b"a/path".decode().split("/"), object(), Path):
        with pytest.raises(InputError, match="a picture is given as"):
            next(plain().feeds(given))


def test_limits() -> None:
    """Of memory: refused before decoding, with a code of its own; the libraries are named for messages."""
    made = read_front("image", front())
    with pytest.raises(MediaError, match=r"128 x 96 pixels take 0\.1 MB to read, and the limit") as caught:
        next(made.within(40_000).feeds(saved(image())))
    assert caught.value.code == "memory_budget"
    assert next(made.within(60_000).feeds(saved(image()))).shape == (1, 3, 224, 224)
    assert made.library.startswith("Pillow ")
    assert made.modules == ("PIL",)
