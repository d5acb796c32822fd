"""Vision transformers of every layout that is read: float32, int8, and what is refused."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.pictures import front as front_of
from builders.pictures import photo
from builders.towers import DIM, EVA_HEADS, FAMILIES, HEADS, LAYERS, tensors_of, write_tower
from builders.visionreference import eva02, open_clip
from onnxruntime import InferenceSession
from PIL import Image

from edge_embed import Embedder
from edge_embed.errors import ExportError, UnsupportedModelError
from edge_embed_export import TowerOptions, export_model
from edge_embed_export.calibration.material import Pictures
from edge_embed_export.calibration.pictures import Picture, calibration_pictures
from edge_embed_export.calibration.quantizer import Quantizer
from edge_embed_export.families.interpolate import bicubic
from edge_embed_export.families.leftovers import account
from edge_embed_export.families.pictures import ImageTower
from edge_embed_export.families.vision import is_image_model, read_image_tower
from edge_embed_export.files.accounting import Accounted, Keys
from edge_embed_export.options import ExportOptions
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer import vision
from edge_embed_export.transformer.spec import prepare
from edge_embed_export.transformer.vision import build_image, check_image
from edge_embed_export.transformer.workshop import workshop
from edge_embed_runtime.bundle.manifest import WITHIN_LIMIT
from edge_embed_runtime.inputs.base import read_front
from edge_embed_runtime.model.session import make_session
from edge_embed_runtime.onnxfile.allowed import check_model

PARITY = 1e-5


def read(name: str, config: dict[str, Any] | None = None, **changed: Any) -> ImageTower:
    """The tower of a family; changed: tensors, None takes one out."""
    family, tensors = FAMILIES[name], dict(tensors_of(name))
    tensors = {key: array for key, array in {**tensors, **changed}.items() if array is not None}
    keys, held = Keys(family.config if config is None else config), Accounted(tensors)
    tower = read_image_tower(keys, held, Path("folder"), {"size": [family.side, family.side]})
    account(Checkpoint(Path("folder"), keys, held, {}, None, None, (), {}, "", None))
    return tower


def session(tower: ImageTower, **options: Any) -> InferenceSession:
    model = build_image(tower.spec, prepare(tower.spec.body, tower.weights), **options).SerializeToString()
    check_model(model, "the model")
    return make_session(model, threads=1)


def pixels(name: str, count: int = 3) -> np.ndarray:
    side = FAMILIES[name].side
    return np.random.default_rng(1).uniform(-1.8, 2.1, (count, 3, side, side)).astype(np.float32)


@cache
def drawn(part: Any) -> list[Picture]:
    return calibration_pictures(part)


def run(made: InferenceSession, given: np.ndarray) -> np.ndarray:
    return np.asarray(made.run(None, {"pixel_values": given})[0])


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_picture_has_one_vector(name: str) -> None:
    """Every layout: rows of length 1, the same bits alone and in a batch; nothing of the folder is left over."""
    tower, given = read(name), pixels(name)
    assert is_image_model(FAMILIES[name].config)
    made = session(tower)
    vectors = run(made, given)
    assert vectors.shape == ((3, 5, DIM) if name == "blip-2" else (3, FAMILIES[name].dim))
    assert np.abs(np.linalg.norm(vectors, axis=-1) - 1).max() < 1e-6
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
    for i, picture in enumerate(given):
        assert np.array_equal(run(made, picture[None])[0], vectors[i])


@pytest.mark.parametrize("name", ["clip", "dinov2 with registers", "eva02"])
def test_the_last_layer_alone(name: str) -> None:
    """Where the first token is pooled, the last layer computes no other: the vector is the same."""
    tower, given = read(name), pixels(name)
    assert tower.spec.alone(tower.weights)
    assert np.abs(run(session(tower), given) - run(session(tower, whole=True), given)).max() < 1e-6


def test_some_heads_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many tokens the scores of all heads would be large: the vector is the same, also of two pictures."""
    for name in ("siglip", "eva02"):
        tower, given = read(name), pixels(name, 2)
        whole = run(session(tower), given)
        monkeypatch.setattr(vision, "SCORES", 3 * 4 * tower.spec.body.max_tokens**2)
        found = run(session(tower), given)
        monkeypatch.undo()
        assert np.abs(found - whole).max() < 1e-6


def test_more_tokens_than_a_text_has() -> None:
    """Pictures of 33 by 33 patches: nothing of what cuts long texts in blocks is in the way."""
    side = 264
    config, tensors = Keys(FAMILIES["dinov2"].config), Accounted(tensors_of("dinov2"))
    tower = read_image_tower(config, tensors, Path("folder"), {"size": [side, side]})
    assert tower.spec.body.max_tokens == 1090
    given = np.random.default_rng(0).uniform(-1, 1, (1, 3, side, side)).astype(np.float32)
    assert np.abs(np.linalg.norm(run(session(tower), given)) - 1) < 1e-6


@pytest.mark.parametrize(
    ("name", "ending", "act"),
    [("open_clip quick", "tok", "quick"), ("open_clip mean", "avg late", "tanh"), ("coca", "coca", "gelu")],
)
def test_open_clip_by_hand(name: str, ending: str, act: str) -> None:
    """OpenCLIP's layout beside a reference in numpy."""
    if act == "gelu":  # numpy has no erf
        config = FAMILIES[name].config
        model = config["model_cfg"]
        vision = {**model["vision_cfg"], "act_kwargs": {"approximate": "tanh"}}
        tower, act = read(name, {**config, "model_cfg": {**model, "vision_cfg": vision}}), "tanh"
    else:
        tower = read(name)
    given, tensors = pixels(name), tensors_of(name)
    expected = np.array([open_clip(tensors, picture, LAYERS, HEADS, ending, act) for picture in given])
    assert np.abs(run(session(tower), given) - unit(expected)).max() < PARITY


def test_eva02_by_hand() -> None:
    """Rotary positions by row and column, SwiGLU with a norm inside, a norm of the context: beside numpy."""
    given, tensors = pixels("eva02"), tensors_of("eva02")
    expected = np.array([eva02(tensors, picture, LAYERS, EVA_HEADS) for picture in given])
    assert np.abs(run(session(read("eva02")), given) - unit(expected)).max() < PARITY


@pytest.mark.parametrize(
    "name",
    ["clip", *(pytest.param(name, marks=pytest.mark.slow) for name in ("siglip", "dinov2 giant", "eva02", "blip-2"))],
)
def test_int8_is_close(name: str, tmp_path: Path) -> None:
    """Calibrated on the exporter's pictures, measured on others: cosine 0.99, and one vector in any batch."""
    tower, side = read(name), FAMILIES[name].side
    front = read_front("image", front_of(side, "squash", mean=[0.5] * 3, std=[0.25] * 3))
    feeds, others = (
        [next(iter(front.feeds(picture))) for picture in drawn(part)] for part in ("calibration", "receipt")
    )
    weights = prepare(tower.spec.body, tower.weights)
    with workshop(tmp_path / "made") as shop:
        quantized = Quantizer(Pictures(tower.spec, weights, feeds), weights, shop).run(None, ExportOptions())
    assert quantized.recipes["patch.input"].activation == "static"
    model = build_image(tower.spec, quantized.weights, quantized.layers).SerializeToString()
    made, given = make_session(model, threads=1), np.concatenate(others)
    vectors = run(made, given)
    cosines = (vectors * run(session(tower), given)).sum(-1)
    assert cosines.mean() > 0.999
    assert cosines.min() > 0.99
    for i in (0, 7, len(given) - 1):
        assert np.array_equal(run(made, given[i : i + 1])[0], vectors[i])


def test_pictures_that_ship() -> None:
    """Drawn by code, the same each time; none is in both parts, and both ends of the range are there."""
    first, again, others = (calibration_pictures(part) for part in ("calibration", "calibration", "receipt"))
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not {picture.tobytes() for picture in first} & {picture.tobytes() for picture in others}
    assert {int(picture.max()) for picture in first} >= {0, 255}
    assert all(picture.dtype == np.uint8 and picture.shape[2] == 3 for picture in first)


def test_pictures_of_the_callers_leave_the_range_whole(tmp_path: Path) -> None:
    """Calibrated on dim pictures alone, patches that are black or white are not cut off."""
    folder = write_tower(tmp_path / "model", "clip alone")
    (tmp_path / "dim").mkdir()
    for i in range(12):
        dim = photo(40, 40, seed=i) // 8 + 100
        Image.fromarray(dim).save(tmp_path / "dim" / f"{i}.png")
    export_model(folder, tmp_path / "bundle", towers=TowerOptions(calibration=tmp_path / "dim"))
    export_model(folder, tmp_path / "float", precision="fp32")
    stark = [np.full((32, 32, 3), level, np.uint8) for level in (0, 255)]
    exact, found = (Embedder(tmp_path / name, threads=1).encode_image(stark) for name in ("float", "bundle"))
    assert (exact * found).sum(axis=1).min() > 0.99


def changed(name: str, inner: str | None = None, **keys: Any) -> dict[str, Any]:
    """A family's config with other keys, those of a config within it where `inner` names that."""
    config: dict[str, Any] = json.loads(json.dumps(FAMILIES[name].config))
    place = config
    for part in inner.split(".") if inner else ():
        place = place[part]
    place.update(keys)
    return config


OPEN = "model_cfg.vision_cfg"


@pytest.mark.parametrize(
    ("name", "inner", "keys", "message"),
    [
        ("clip", "vision_config", {"num_channels": 1}, "num_channels 1"),
        ("clip", "vision_config", {"hidden_act": "prelu"}, "'prelu'"),
        ("clip", "vision_config", {"image_size": 64}, "gives pictures of 32 x 32 pixels, the model reads 64 x 64"),
        ("clip", "vision_config", {"patch_size": [8, 4]}, "no squares"),
        ("clip", "vision_config", {"patch_size": "8"}, "patch_size is '8'"),
        ("clip", "vision_config", {"num_attention_heads": 5}, "cannot be split over 5 heads"),
        ("clip", "vision_config", {"intermediate_size": 95}, "layers.0.up.weight has shape"),
        ("clip", "vision_config", {"vision_feature_layer": -2}, "'vision_config.vision_feature_layer' is -2"),
        ("clip", None, {"projection_dim": 39}, "give vectors of 40 numbers, the config says 39"),
        ("open_clip", "model_cfg", {"embed_dim": 39}, "give vectors of 40 numbers, the config says 39"),
        ("open_clip", OPEN, {"head_width": 15}, "cannot be split into heads of 15"),
        ("clip", None, {"interpolate": True}, "'interpolate' is True"),
        ("siglip", "vision_config", {"vision_use_head": False}, "vision_use_head False"),
        ("dinov2", None, {"qkv_bias": False}, "qkv_bias False"),
        ("open_clip", OPEN, {"qk_norm": True}, "vision_cfg.qk_norm is True"),
        ("open_clip", OPEN, {"pool_type": "none"}, "pool_type 'none'"),
        ("open_clip", OPEN, {"timm_model_name": "vit_tiny", "timm_pool": "avg"}, "'vit_tiny' of timm is not supported"),
        ("open_clip", OPEN, {"layers": [3, 4, 6, 3]}, "convolutional network"),
        ("open_clip", OPEN, {"unknown": 1}, "'model_cfg.vision_cfg.unknown' is 1"),
        ("coca", OPEN, {"attentional_pool": "cascade"}, "attentional_pool 'cascade'"),
        ("eva02", OPEN, {"timm_pool": "avg"}, "timm_pool 'avg'"),
        ("open_clip siglip", OPEN, {"timm_proj": "mlp"}, "timm_proj 'mlp'"),
        ("eva02", OPEN, {"image_size": 64}, "image_size is 64"),
    ],
)
def test_what_changes_numbers_is_refused_by_name(
    name: str, inner: str | None, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExportError, match=message.replace("(", "\\(")):
        read(name, changed(name, inner, **keys))


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("clip", "vision_model.encoder.layers.1.mlp.fc2.bias"),
        ("dinov2", "encoder.layer.2.layer_scale1.lambda1"),
        ("open_clip", "visual.transformer.resblocks.0.attn.in_proj_bias"),
        ("eva02", "visual.trunk.blocks.0.attn.q_proj.bias"),
    ],
)
def test_a_missing_tensor_is_named(name: str, tensor: str) -> None:
    with pytest.raises(ExportError, match=f"no tensor .*{tensor.split('.', 2)[-1].split('.', 1)[-1]}"):
        read(name, **{tensor: None})


@pytest.mark.parametrize("name", ["clip", "siglip", "blip-2", "dinov2 with registers", "coca", "eva02"])
def test_tensors_that_do_not_fit(name: str) -> None:
    """Cut by a row or a column, in one dimension, or empty: an error of the exporter, before anything is built."""
    tensors = tensors_of(name)
    # the masked patch is not read, any number of queries will do where the first is taken, and of layers one is enough
    free = ("mask_token", "visual_projection", "attn_pool.query")
    for key, array in tensors.items():
        if not any(part in key for part in (*free, ".1.", ".2.")):
            for wrong in (array[:-1], array[..., :-1], array.reshape(-1), array[:0]):
                if wrong.shape != array.shape and not (len(array) == 1 and wrong.size == 0):
                    with pytest.raises(ExportError):
                        read(name, **{key: wrong})


def test_a_tensor_that_nothing_reads_is_named() -> None:
    more = {"vision_model.encoder.layers.0.gate": np.zeros(3, np.float32)}
    with pytest.raises(ExportError, match=r"vision_model.encoder.layers.0.gate"):
        read("clip", **more)


def test_positions_that_do_not_fit() -> None:
    """A table of another picture's size, and one that is no square."""
    with pytest.raises(ExportError, match=r"positions has shape \(8, 64\)"):
        read("clip", **{"vision_model.embeddings.position_embedding.weight": np.zeros((9, 64), np.float32)})
    with pytest.raises(ExportError, match="7 positions are those of no square"):
        read("dinov2 of another size", **{"embeddings.position_embeddings": np.zeros((1, 8, 64), np.float32)})


def test_an_unknown_image_model_is_named() -> None:
    with pytest.raises(UnsupportedModelError, match="'vit_mae' is not supported"):
        read("clip", {"model_type": "vit_mae"})
    with pytest.raises(UnsupportedModelError, match="'siglip2' is not supported"):
        read("siglip", {"model_type": "siglip2"})


def test_a_size_that_patches_do_not_fill() -> None:
    """As SigLIP's 384 pixels in patches of 14: what is left at the right and below is not read."""
    tower, given = read("clip"), pixels("clip")
    odd = replace(tower, spec=replace(tower.spec, size=(36, 39)))
    wide = np.pad(given, ((0, 0), (0, 0), (0, 4), (0, 7)), constant_values=1.5)
    assert np.array_equal(run(session(odd), wide), run(session(tower), given))
    with pytest.raises(ExportError, match="smaller than a patch of 8"):
        check_image(replace(tower.spec, size=(7, 32)), tower.weights)


def test_interpolation_keeps_what_is_even() -> None:
    """A table that is the same everywhere, or rises evenly in the middle of a larger one, stays so."""
    flat = np.full((5, 5, 2), 3.0, np.float32)
    for antialias in (False, True):
        assert np.allclose(bicubic(flat, (3, 7), antialias=antialias), 3.0)
    slope = np.broadcast_to(np.arange(16, dtype=np.float32)[:, None, None], (16, 16, 1))
    found = bicubic(slope, (8, 16))
    assert np.allclose(found[2:6, 0, 0], np.arange(2, 6) * 2 + 0.5)
    assert np.array_equal(bicubic(flat, (5, 5)), flat)


def test_a_folder_is_read_whole(tmp_path: Path) -> None:
    """The builder's folders are what transformers writes."""
    folder = write_tower(tmp_path / "clip", "clip alone")
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]


@pytest.mark.parametrize("name", ["clip alone", "dinov2 of another size"])
def test_a_folder_becomes_a_bundle(name: str, tmp_path: Path) -> None:
    """From the folder to vectors in int8: one vector alone, in any company and on any number of cores."""
    folder = write_tower(tmp_path / "model", name)
    manifest = export_model(folder, tmp_path / "bundle")
    tower = manifest.towers["image"]
    assert tower.architecture["family"] == FAMILIES[name].config["model_type"].removesuffix("_vision_model")
    assert tower.receipt["cosine_to_fp32"]["min"] > 0.99
    assert tower.quantization["pairs"] == WITHIN_LIMIT
    given = [photo(70 + 9 * i, 100 - 7 * i, seed=i) for i in range(5)]
    one = Embedder(tmp_path / "bundle", threads=1)
    alone = np.vstack([one.encode_image([picture]) for picture in given])
    assert alone.shape == (5, FAMILIES[name].dim)
    for threads in (1, 3):
        embedder = Embedder(tmp_path / "bundle", threads=threads)
        assert np.array_equal(embedder.encode_image(given), alone)
        assert np.array_equal(embedder.encode_image(given[3:1:-1]), alone[3:1:-1])
    export_model(folder, tmp_path / "float", precision="fp32")
    exact = Embedder(tmp_path / "float", threads=1).encode_image(given)
    assert (exact * alone).sum(axis=1).min() > 0.99
