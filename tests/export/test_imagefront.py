"""families/imagefront.py: how pictures are read, from the files of transformers, OpenCLIP and timm."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.pictures import image, photo

from edge_embed.errors import ExportError, SourceError
from edge_embed_export.families.imagefront import read_front_file, read_image_front
from edge_embed_runtime.inputs.base import read_front

try:
    import transformers
except ImportError:  # of the extra `parity`
    transformers = None  # type: ignore[assignment]

CLASSES = [
    "CLIPImageProcessor", "ChineseCLIPImageProcessor", "SiglipImageProcessor", "ViTImageProcessor",
    "DeiTImageProcessor", "BitImageProcessor", "BlipImageProcessor", "MobileNetV2ImageProcessor",
]  # fmt: skip


def of(folder: Path, name: str, **content: Any) -> dict[str, Any]:
    (folder / name).write_text(json.dumps(content))
    return read_image_front(folder)


def clip(folder: Path, **content: Any) -> dict[str, Any]:
    return of(folder, "preprocessor_config.json", **{"image_processor_type": "CLIPImageProcessor", **content})


def test_clip_as_published(tmp_path: Path) -> None:
    """The oldest form: sizes of one number, and the class under its old name."""
    front = of(
        tmp_path, "preprocessor_config.json", feature_extractor_type="CLIPFeatureExtractor", size=224, crop_size=224,
        do_resize=True, do_center_crop=True, do_normalize=True, resample=3, image_mean=[0.5] * 3, image_std=[0.25] * 3,
    )  # fmt: skip
    assert front["size"] == [224, 224]
    assert front["resize"] == {"rule": "shortest", "to": 224, "filter": "bicubic", "round": "floor"}
    assert front["crop"] == {"size": [224, 224], "round": "floor"}
    assert (front["mean"], front["std"], front["scale"]) == ([0.5] * 3, [0.25] * 3, 1 / 255)
    assert (front["alpha"], front["decode"]) == ("white", "full")


@pytest.mark.parametrize("name", ["SiglipImageProcessor", "SiglipImageProcessorFast", "SiglipImageProcessorPil"])
def test_names_of_one_class(tmp_path: Path, name: str) -> None:
    """What a class is called in any release: one front end."""
    front = clip(tmp_path, image_processor_type=name, size={"height": 256, "width": 192})
    assert front["size"] == [256, 192]
    assert front["resize"]["rule"] == "squash"
    assert front["crop"] is None
    assert front["mean"] == [0.5] * 3


def test_newer_releases_put_it_into_the_processor(tmp_path: Path) -> None:
    """processor_config.json of transformers 5."""
    inner = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 64}, "crop_size": 64}
    front = of(tmp_path, "processor_config.json", processor_class="CLIPProcessor", image_processor=inner)
    assert front["size"] == [64, 64]


def test_steps_that_are_left_out(tmp_path: Path) -> None:
    """Without rescaling colours stay 0 to 255; without normalising nothing is taken from them."""
    front = clip(tmp_path, do_rescale=False, do_normalize=False)
    assert (front["scale"], front["mean"], front["std"]) == (1.0, [0.0] * 3, [1.0] * 3)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"image_processor_type": "Siglip2ImageProcessor"}, "Siglip2ImageProcessor"),
        ({"image_processor_type": "../x"}, "is not known"),
        ({"image_processor_type": "SiglipImageProcessor", "do_center_crop": True}, "do_center_crop"),
        ({"do_pad": True}, "do_pad"),
        ({"warp": 1}, "warp"),
        ({"resample": 7}, "resample 7"),
        ({"resample": [3]}, "resample"),
        ({"crop_size": {"shortest_edge": 4}}, "both edges"),
        ({"rescale_factor": "x"}, "rescale_factor"),
        ({"image_std": [1, None, 1]}, "a channel's number"),
        ({"size": {"longest_edge": 4}}, "longest_edge"),
        ({"size": "large"}, "large"),
        ({"do_resize": False}, "do_resize"),
        ({"do_center_crop": False}, "nothing is cropped"),
        ({"image_mean": [1, 2]}, "three channels"),
        ({"image_std": [0, 0, 0]}, "std"),
        ({"crop_pct": 0.9}, "crop_pct"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(tmp_path: Path, content: dict[str, Any], said: str) -> None:
    """A class, key or value that may change a picture's numbers."""
    with pytest.raises(ExportError, match=said):
        clip(tmp_path, **content)


def test_open_clip(tmp_path: Path) -> None:
    """`preprocess_cfg`, and its usual values where it says nothing."""

    def read(**how: Any) -> dict[str, Any]:
        model = {"vision_cfg": {"image_size": 48}}
        return of(tmp_path, "open_clip_config.json", model_cfg=model, preprocess_cfg=how)

    assert read()["crop"] == {"size": [48, 48], "round": "round"}
    assert read(resize_mode="squash", interpolation="bilinear")["resize"]["filter"] == "bilinear"
    longest = read(resize_mode="longest", fill_color=7, size=[40, 50])
    assert longest["crop"] == {"size": [40, 50], "round": "round", "fill": [7, 7, 7]}
    for wrong in ({"resize_mode": "random"}, {"mode": "L"}, {"size": [40, 50]}, {"interpolation": "random"}, {"a": 1},
                  {"size": {"shortest_edge": 4}}, {"resize_mode": "longest", "fill_color": 0.5}):  # fmt: skip
        with pytest.raises(ExportError):
            read(**wrong)


def test_timm(tmp_path: Path) -> None:
    """`pretrained_cfg`: a size that is cropped to a part of it."""
    kept = {"input_size": [3, 224, 224], "crop_pct": 0.875, "interpolation": "bicubic", "tag": "in1k"}
    front = of(tmp_path, "config.json", architecture="efficientnet", pretrained_cfg=kept)
    assert (front["resize"]["to"], front["size"], front["crop"]["round"]) == (256, [224, 224], "round")
    for wrong in (
        {"crop_mode": "border"},
        {"input_size": [1, 8, 8]},
        {"input_size": 8},
        {"crop_pct": "x"},
        {"jitter": 1},
    ):
        with pytest.raises(ExportError):
            of(tmp_path, "config.json", pretrained_cfg={**kept, **wrong})


def test_folder_that_says_nothing(tmp_path: Path) -> None:
    """The error names the files that would say it."""
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(SourceError, match=r"preprocessor_config\.json"):
        read_image_front(tmp_path)


def test_file_of_any_form(tmp_path: Path) -> None:
    """`--front`: a front end of a manifest as well; what is none is refused."""
    front = clip(tmp_path)
    (tmp_path / "front.json").write_text(json.dumps(front))
    assert read_front_file(tmp_path / "front.json") == front
    assert read_front_file(tmp_path / "preprocessor_config.json") == front
    (tmp_path / "front.json").write_text(json.dumps({**front, "warp": 1}))
    with pytest.raises(ExportError, match="warp"):
        read_front_file(tmp_path / "front.json")
    (tmp_path / "other.json").write_text('{"a": 1}')
    with pytest.raises(ExportError, match="not known"):
        read_front_file(tmp_path / "other.json")


@pytest.mark.parity
@pytest.mark.skipif(transformers is None, reason="needs transformers (extra parity)")
@pytest.mark.parametrize("name", CLASSES)
def test_saved_by_transformers(tmp_path: Path, name: str) -> None:
    """What a class saves is read so that the front end gives its bits."""
    new = int(transformers.__version__.split(".")[0]) > 4
    if not new and name.startswith("Chinese"):
        pytest.skip("needs torchvision in this release")
    processor = getattr(transformers, f"{name}Pil" if new else name)()
    processor.save_pretrained(tmp_path)
    front = read_front("image", read_image_front(tmp_path))
    for given in (image(300, 501), image(517, 233), image(90, 100), image(40, 700)):
        expected = np.asarray(processor(given, return_tensors="np")["pixel_values"])
        assert np.array_equal(next(front.feeds(given)), expected)
    assert next(front.feeds(photo())).dtype == np.float32
