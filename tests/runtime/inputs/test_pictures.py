"""Files of pictures, ordinary, odd and hostile: read right, or one clear error that names them."""

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.pictures import (
    READABLE,
    REFUSED,
    corpus,
    exif,
    front,
    gif,
    heic,
    image,
    mutated,
    photo,
    pixel_bomb,
    saved,
)
from PIL import Image, ImageOps

from edge_embed.errors import MediaError
from edge_embed_runtime.inputs.image import ImageFront, read_image_front
from edge_embed_runtime.inputs.imagefacts import describe_image
from edge_embed_runtime.inputs.mediafile import read_media
from edge_embed_runtime.inputs.picturelimits import Limits
from edge_embed_runtime.inputs.pictures import open_picture
from edge_embed_runtime.inputs.thumbnails import thumbnail

FRONT = front(32, "squash", scale=1, mean=[0, 0, 0], std=[1, 1, 1])


def pixels(given: object, size: tuple[int, int] = (96, 128)) -> Any:
    """uint8 [height, width, 3] of a picture that has that size already."""
    rule = {"rule": "squash", "to": list(size), "filter": "bicubic", "round": "floor"}
    return read_image_front({**FRONT, "size": list(size), "resize": rule}).pixels(given)


@pytest.mark.parametrize("name", READABLE)
def test_odd_files(name: str, tmp_path: Path) -> None:
    """Each looks like what it was made from, as a picture that people see."""
    path = tmp_path / name
    path.write_bytes(READABLE[name]())
    found = read_image_front(FRONT).pixels(path).astype(int)
    with warnings.catch_warnings(action="ignore"), Image.open(path) as opened:
        if "16" in name:
            seen = Image.fromarray(photo(40, 30)[..., 0] if "grey" in name else photo(40, 30))
        else:
            layer = opened.convert("RGBA")
            seen = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        expected = np.asarray(seen.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("name", REFUSED)
def test_refused_files(name: str, tmp_path: Path) -> None:
    """One error that names the file and the reason, for the numbers, the thumbnail and what the file says."""
    make, message = REFUSED[name]
    path = tmp_path / name
    path.write_bytes(make())
    for use in (read_image_front(FRONT).pixels, thumbnail):
        with pytest.raises(MediaError, match=message) as caught:
            use(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert (caught.value.code, caught.value.path) == ("bad_image", str(path))


def test_nothing_is_decoded_of_what_is_too_large(tmp_path: Path) -> None:
    """50,000 x 50,000 pixels are refused by their header, in the memory of their file."""
    import tracemalloc

    content = pixel_bomb()
    tracemalloc.start()
    with pytest.raises(MediaError, match="2,500 million, over the limit of 120 million"):
        open_picture(content)
    assert tracemalloc.get_traced_memory()[1] < 3 * len(content) + 2**20
    tracemalloc.stop()
    with pytest.raises(MediaError, match="0 million, over the limit of 0 million"):
        open_picture(saved(image()), Limits(pixels=12_000))
    assert open_picture(image(), Limits(pixels=12_000))[0].size == (128, 96)  # decoded by the user
    path = tmp_path / "a.jpg"
    path.write_bytes(saved(image()))
    with pytest.raises(MediaError, match="such a file has at most 100"):
        open_picture(path, Limits(file_bytes=100))


def test_a_large_webp_is_refused_before_its_decoder_is_made() -> None:
    """It takes the memory of the whole canvas when it is made."""
    for options in ({}, {"lossless": True}, {"save_all": True, "append_images": [image(seed=1)]}):
        content = bytearray(saved(image(), "WEBP", **options))
        with pytest.raises(MediaError, match="128 x 96 pixels are 0 million, over"):
            open_picture(bytes(content), Limits(pixels=12_000))
        assert open_picture(bytes(content))[0].size == (128, 96)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_upright(turn: int, form: str) -> None:
    """Turned and mirrored as EXIF says, whatever the format."""
    content = saved(image(), form, exif=exif(turn))
    with Image.open(BytesIO(content)) as opened:
        expected = ImageOps.exif_transpose(opened).convert("RGB")
    assert np.array_equal(pixels(content, expected.size[::-1]), np.asarray(expected))


def test_not_turned_twice() -> None:
    """An image that the user has turned already, and one that is turned when it is used."""
    with Image.open(BytesIO(saved(image(), exif=exif(6)))) as opened:
        once = ImageOps.exif_transpose(opened)
        assert np.array_equal(pixels(once, (128, 96)), np.asarray(once))
        assert np.array_equal(pixels(opened, (128, 96)), np.asarray(once))


def test_first_frame() -> None:
    """Of an animation, and the first picture of an MPO."""
    assert np.array_equal(pixels(gif(3)), np.asarray(image(seed=0).quantize(256).convert("RGB")))
    assert np.array_equal(pixels(READABLE["mpo.jpg"]()), pixels(saved(image())))


def test_heic_where_the_user_registered_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The opener that `register_heif_opener` puts there is asked, and no other format's."""

    def opener(file: Any, name: str = "") -> Image.Image:
        return image(50, 40)

    monkeypatch.setitem(Image.OPEN, "HEIF", (opener, None))
    assert open_picture(heic())[0].size == (40, 50)


def test_unusual_files(tmp_path: Path) -> None:
    """Folders, pipes, devices and missing files are errors at once; a link is followed."""
    path = tmp_path / "a.jpg"
    path.write_bytes(saved(image()))
    (tmp_path / "link.jpg").symlink_to(path)
    assert np.array_equal(pixels(tmp_path / "link.jpg"), pixels(path))
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "none")
    with pytest.raises(MediaError, match="does not exist") as missing:
        pixels(tmp_path / "broken.jpg")
    assert missing.value.code == "source_missing"
    with pytest.raises(MediaError, match="is a folder, not a regular file") as folder:
        pixels(tmp_path)
    assert (folder.value.code, folder.value.path) == ("bad_image", str(tmp_path))
    with pytest.raises(MediaError, match="cannot be read"):
        pixels("a\0.jpg")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        with pytest.raises(MediaError, match="is a pipe"):
            pixels(tmp_path / "pipe.jpg")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(saved(image()))
    path.chmod(0)
    with pytest.raises(MediaError, match="cannot be read"):
        pixels(path)


def test_read_once(tmp_path: Path) -> None:
    """Who hashes a file and who decodes it see the same bytes, though the file changes in between."""
    path = tmp_path / "a.png"
    path.write_bytes(saved(image(), "PNG"))
    file = read_media(path, "bad_image")
    path.write_bytes(saved(image(seed=1), "PNG"))
    assert np.array_equal(pixels(file), photo())
    assert file.sha256 != read_media(path, "bad_image").sha256
    assert describe_image(file).metadata["format"] == "PNG"
    broken = tmp_path / "b.png"
    broken.write_bytes(saved(image(), "PNG")[:500])
    with pytest.raises(MediaError, match=r"b\.png: a broken picture"):
        pixels(read_media(broken, "bad_image"))


def test_warnings_stay_inside() -> None:
    """Pillow warns about odd EXIF and large pictures: no error where warnings are errors, and no filter is changed."""
    content = saved(image(), exif=b"Exif\0\0MM\0*\0\0\0\x08\x00\x02" + b"\x01\x0e\0\2\0\0\1\0\0\0\1\0" * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        assert pixels(content).shape == (96, 128, 3)
        describe_image(content)
        assert list(warnings.filters) == before
    large = Image.new("1", (10_000, 10_000))  # over Pillow's own limit for warnings
    assert open_picture(saved(large, "PNG"))[0].size == (10_000, 10_000)


def test_threads() -> None:
    """Many at once, of one front end, give the same as one after another."""
    front_end: ImageFront = read_image_front(FRONT)
    contents = [content for _, content in corpus()]
    alone = [front_end.pixels(content) for content in contents]
    barrier = threading.Barrier(4)

    def work(_: int) -> list[Any]:
        barrier.wait()
        return [front_end.pixels(content) for content in contents]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(work, range(4)):
            assert all(np.array_equal(one, other) for one, other in zip(found, alone, strict=True))


def seeds() -> Iterator[bytes]:
    for _, content in corpus():
        yield content


def outcomes(numbers: range) -> dict[str, int]:
    """How many of the damaged files are read and refused; anything but a MediaError is raised."""
    contents = list(seeds())
    scaled = read_image_front({**FRONT, "decode": "scaled", "alpha": "drop"})
    counted = {"read": 0, "refused": 0}
    for number in numbers:
        damaged = mutated(contents[number % len(contents)], number)
        for use in (read_image_front(FRONT).pixels, scaled.pixels, thumbnail, describe_image):
            try:
                use(damaged)
                counted["read"] += 1
            except MediaError:
                counted["refused"] += 1
    return counted


def test_damaged_files() -> None:
    """A few bytes changed, cut out or doubled: read, or a MediaError, and nothing else."""
    found = outcomes(range(120))
    assert min(found.values()) > 50


@pytest.mark.slow
def test_many_damaged_files() -> None:
    found = outcomes(range(1000, 6000))
    assert min(found.values()) > 5000
