"""What a folder says of how pictures become a model's numbers, as the `front` of a manifest (see docs/frontends.md).

Known are preprocessor_config.json of transformers (and processor_config.json, where its newer releases put the same),
open_clip_config.json of OpenCLIP, and config.json of timm. What a file says and this does not know is refused by name.

Alpha is the one thing that the libraries do not agree on: transformers 4, OpenCLIP and timm drop it, which shows
whatever colours lie below; transformers 5 lays a picture on white, as is done here for all of them.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from edge_embed_export.families.fronts import checked_front
from edge_embed_export.files.accounting import words
from edge_embed_export.files.reading import is_there, read_json
from edge_embed_runtime.checks import listed, shown
from edge_embed_runtime.errors import ExportError, SourceError

CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HALF = [0.5, 0.5, 0.5]
# By the number that PIL has for them.
FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box"}
COMMON = {"alpha": "white", "color": "RGB", "decode": "full"}
# What no number of a config reaches.
LARGEST = 1e9
# Files by name, where a folder has several the first counts.
TRANSFORMERS, NEWER, OPEN_CLIP, TIMM = (
    "preprocessor_config.json",
    "processor_config.json",
    "open_clip_config.json",
    "config.json",
)


class Usual(NamedTuple):
    """What a class of transformers does where its config does not say it.

    size, crop: as the config has them; crop None: nothing is cropped
    square:     a size of one number is that of both edges, not of the shorter one
    """

    size: dict[str, int]
    crop: dict[str, int] | None
    filter: int
    mean: list[float]
    std: list[float]
    square: bool = True


def _edges(height: int, width: int | None = None) -> dict[str, int]:
    return {"height": height, "width": height if width is None else width}


# Without "Fast" or "Pil" at the end of their names; of older releases the name ended in FeatureExtractor.
CLASSES = {
    "CLIPImageProcessor": Usual({"shortest_edge": 224}, _edges(224), 3, CLIP_MEAN, CLIP_STD, square=False),
    "ChineseCLIPImageProcessor": Usual({"shortest_edge": 224}, _edges(224), 3, CLIP_MEAN, CLIP_STD, square=False),
    "SiglipImageProcessor": Usual(_edges(224), None, 3, HALF, HALF),
    "ViTImageProcessor": Usual(_edges(224), None, 2, HALF, HALF),
    "DeiTImageProcessor": Usual(_edges(256), _edges(224), 3, HALF, HALF),
    "BitImageProcessor": Usual({"shortest_edge": 224}, _edges(224), 3, CLIP_MEAN, CLIP_STD, square=False),
    "BlipImageProcessor": Usual(_edges(384), None, 3, CLIP_MEAN, CLIP_STD),
    "MobileNetV2ImageProcessor": Usual({"shortest_edge": 256}, _edges(224), 2, HALF, HALF, square=False),
}
# Keys that change no number of a picture that is read alone, and those that must not be true.
HARMLESS = words(
    "_valid_processor_keys auto_map data_format default_to_square device disable_grouping feature_extractor_type "
    "image_processor_type image_seq_length input_data_format processor_class return_tensors do_convert_rgb"
)
MUST_BE_FALSE = (
    "do_pad",
    "do_reduce_labels",
    "rescale_offset",
    "do_flip_channel_order",
    "do_thumbnail",
    "do_align_long_axis",
)
READ = words(
    "do_resize size resample do_center_crop crop_size do_rescale rescale_factor do_normalize image_mean image_std "
    "crop_pct"
)


def read_image_front(folder: Path) -> dict[str, Any]:
    """The front end that a folder describes. Raises SourceError for one that has no such file, ExportError for what is
    not understood."""
    for name, read in READERS.items():
        path = folder / name
        if is_there(path) and (said := _part(read_json(path), name)) is not None:
            return checked_front("image", read(said, path), path)
    raise SourceError(
        f"{folder} does not say how a picture becomes the model's numbers: it has none of {listed(READERS)} that does",
        path=folder,
    )


def read_front_file(path: Path) -> dict[str, Any]:
    """The front end in one file: of the forms that folders have, or a front end as manifests have it."""
    said = read_json(path)
    if {"size", "mean", "std", "alpha"} <= said.keys():
        return checked_front("image", dict(said), path)
    for name, read in READERS.items():
        if (part := _part(said, name)) is not None:
            return checked_front("image", read(part, path), path)
    raise ExportError(f"{path} is not known as a description of how pictures are read", path=path)


def _part(said: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """What of a file of this name is about pictures; None where nothing is."""
    if name == TRANSFORMERS:
        return dict(said) if {"image_processor_type", "feature_extractor_type", "image_mean"} & said.keys() else None
    inner = {NEWER: "image_processor", TIMM: "pretrained_cfg"}.get(name)
    if inner is not None:
        found = said.get(inner)
        return dict(found) if isinstance(found, dict) else None
    return dict(said) if "preprocess_cfg" in said or "model_cfg" in said else None


def _of_transformers(said: dict[str, Any], path: Path) -> dict[str, Any]:
    named = str(said.get("image_processor_type") or said.get("feature_extractor_type") or "")
    kind = named.removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")
    if kind not in CLASSES:
        raise ExportError(
            f"{path}: pictures are read by {shown(named)}, which is not known ({listed(CLASSES)} are)",
            path=path,
            name=named,
        )
    usual = CLASSES[kind]
    for key, value in said.items():
        if key not in READ | HARMLESS and not (key in MUST_BE_FALSE and not value) and value is not None:
            raise ExportError(
                f"{path}: {key!r} ({shown(value)}) is not known, and it may change the numbers of a picture",
                code="unknown_name",
                path=path,
                name=key,
            )
    if said.get("crop_pct") is not None:
        raise ExportError(f"{path}: crop_pct is not supported for {kind}", path=path, name="crop_pct")
    if said.get("do_resize") is False:
        raise ExportError(f"{path}: do_resize is false, and a tower reads pictures of one size", path=path)
    size = _size(_given(said, "size", usual.size), path, square=usual.square)
    return _front(said, usual, size, _crop(said, usual, path), path)


def _crop(said: Mapping[str, Any], usual: Usual, path: Path) -> dict[str, int] | None:
    if not _given(said, "do_center_crop", usual.crop is not None):
        return None
    if usual.crop is None:
        raise ExportError(
            f"{path}: do_center_crop is true, which transformers 4 passes over for this class, and 5 does not",
            path=path,
            name="do_center_crop",
        )
    return _square(_given(said, "crop_size", usual.crop), path)


def _given(said: Mapping[str, Any], key: str, usual: Any) -> Any:
    """A value, or what is usual where there is none; null is none."""
    value = said.get(key)
    return usual if value is None else value


def _size(value: Any, path: Path, *, square: bool) -> dict[str, int]:
    if isinstance(value, int) and not isinstance(value, bool):
        return _edges(value) if square else {"shortest_edge": value}
    if isinstance(value, list | tuple) and len(value) == 2:
        return _edges(*value)
    if isinstance(value, dict) and value.keys() in ({"shortest_edge"}, {"height", "width"}):
        return dict(value)
    raise ExportError(f"{path}: a size of {shown(value)} is not known", path=path, name="size")


def _square(value: Any, path: Path) -> dict[str, int]:
    """A size of both edges; one number is that of both."""
    size = _size(value, path, square=True)
    if "height" not in size:
        raise ExportError(f"{path}: a size of {shown(value)} is not that of both edges", path=path, name="size")
    return size


def _number(value: Any, name: str, path: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        raise ExportError(f"{path}: {name} is {shown(value)}, expected a number", path=path, name=name)
    return float(value)


def _front(
    said: Mapping[str, Any], usual: Usual, size: dict[str, int], crop: dict[str, int] | None, path: Path
) -> dict[str, Any]:
    resample = _given(said, "resample", usual.filter)
    if not isinstance(resample, int) or resample not in FILTERS:
        raise ExportError(f"{path}: resample {shown(resample)} is not known", path=path, name="resample")
    edges = [size["height"], size["width"]] if "height" in size else None
    if edges is None and crop is None:
        raise ExportError(f"{path}: only the shorter edge is resized, and nothing is cropped", path=path, name="size")
    rescaled, normalized = _given(said, "do_rescale", usual=True), _given(said, "do_normalize", usual=True)
    cropped = None if crop is None else [crop["height"], crop["width"]]
    return {
        **COMMON,
        "size": cropped or edges,
        "resize": {
            "rule": "squash" if edges else "shortest",
            "to": edges or size["shortest_edge"],
            "filter": FILTERS[resample],
            "round": "floor",
        },
        "crop": None if cropped is None else {"size": cropped, "round": "floor"},
        "scale": _number(_given(said, "rescale_factor", 1 / 255), "rescale_factor", path) if rescaled else 1.0,
        "mean": _channels(_given(said, "image_mean", usual.mean), path) if normalized else [0.0] * 3,
        "std": _channels(_given(said, "image_std", usual.std), path) if normalized else [1.0] * 3,
    }


def _channels(value: Any, path: Path) -> list[float]:
    numbers = [value] * 3 if isinstance(value, int | float) else value
    if not isinstance(numbers, list | tuple) or len(numbers) != 3:
        raise ExportError(f"{path}: {shown(value)} are not the numbers of three channels", path=path)
    return [_number(number, "a channel's number", path) for number in numbers]


def _of_open_clip(said: dict[str, Any], path: Path) -> dict[str, Any]:
    """See open_clip's transform.py: rules "shortest", "squash" and "longest", and torchvision's rounding of crops."""
    how, model = (said.get(name) or {} for name in ("preprocess_cfg", "model_cfg"))
    if not isinstance(how, dict) or not isinstance(model, dict):
        raise ExportError(f"{path}: preprocess_cfg and model_cfg are no objects", path=path)
    known = {"size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"}
    _refuse_others(how, known, path)
    if how.get("mode", "RGB") != "RGB":
        raise ExportError(f"{path}: mode {shown(how['mode'])} is not known", path=path, name="mode")
    vision = model.get("vision_cfg")
    edges = _square(how.get("size") or (vision.get("image_size") if isinstance(vision, dict) else None), path)
    both = [edges["height"], edges["width"]]
    rule, fill = how.get("resize_mode", "shortest"), how.get("fill_color", 0)
    if rule == "shortest" and both[0] != both[1]:
        raise ExportError(f"{path}: the shorter edge is resized, to {both}, which is no square", path=path)
    if rule not in ("shortest", "squash", "longest"):
        raise ExportError(f"{path}: resize_mode {shown(rule)} is not known", path=path, name="resize_mode")
    crop: dict[str, Any] = {"size": both, "round": "round"}
    if rule == "longest":
        crop["fill"] = fill if isinstance(fill, list) else [fill] * 3
    resize = {
        "rule": rule,
        "to": both[0] if rule == "shortest" else both,
        "filter": _named(how.get("interpolation", "bicubic"), path),
        "round": "round" if rule == "longest" else "floor",
    }
    return {
        **COMMON,
        "size": both,
        "resize": resize,
        "crop": None if rule == "squash" else crop,
        "scale": 1 / 255,
        "mean": _channels(how.get("mean", CLIP_MEAN), path),
        "std": _channels(how.get("std", CLIP_STD), path),
    }


# Of timm: what says nothing of how a picture is read.
TIMM_OTHERS = words(
    "architecture classifier custom_load file first_conv fixed_input_size hf_hub_filename hf_hub_id label_descriptions "
    "label_names license min_input_size num_classes num_features origin_url paper_ids paper_name pool_size source "
    "state_dict tag test_crop_pct test_input_size url global_pool notes description state_dict_strict"
)


def _of_timm(said: dict[str, Any], path: Path) -> dict[str, Any]:
    """See timm's `create_transform` for a model that is not trained: the numbers of test_* are not the usual ones."""
    _refuse_others(said, TIMM_OTHERS | {"input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std"}, path)
    size = said.get("input_size", [3, 224, 224])
    channels, *both = size if isinstance(size, list) and len(size) == 3 else (0, 0, 0)
    mode, percent = said.get("crop_mode") or "center", _number(said.get("crop_pct") or 0.875, "crop_pct", path)
    if channels != 3 or both[0] != both[1] or mode not in ("center", "squash"):
        raise ExportError(
            f"{path}: pictures of {shown(said.get('input_size'))} with crop_mode {shown(mode)} are not known", path=path
        )
    scaled = math.floor(both[0] / percent)
    resize = {"rule": "shortest", "to": scaled} if mode == "center" else {"rule": "squash", "to": [scaled, scaled]}
    return {
        **COMMON,
        "size": both,
        "resize": {**resize, "filter": _named(said.get("interpolation", "bicubic"), path), "round": "floor"},
        "crop": {"size": both, "round": "round"},
        "scale": 1 / 255,
        "mean": _channels(said.get("mean", IMAGENET_MEAN), path),
        "std": _channels(said.get("std", IMAGENET_STD), path),
    }


def _named(value: Any, path: Path) -> str:
    if value not in FILTERS.values():
        raise ExportError(f"{path}: interpolation {shown(value)} is not known", path=path, name="interpolation")
    return str(value)


def _refuse_others(said: Mapping[str, Any], known: set[str] | frozenset[str], path: Path) -> None:
    for key, value in said.items():
        if key not in known and value is not None:
            raise ExportError(
                f"{path}: {key!r} ({shown(value)}) is not known, and it may change the numbers of a picture",
                code="unknown_name",
                path=path,
                name=key,
            )


READERS = {TRANSFORMERS: _of_transformers, NEWER: _of_transformers, OPEN_CLIP: _of_open_clip, TIMM: _of_timm}
