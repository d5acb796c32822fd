"""A bundle whose towers are made by hand: texts as in the static bundle; a picture has the vector of the name of its
colour, and a sound that of what it sounds like, so that what should be found is known without training."""

import math
import wave
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from builders.pictures import front
from edge_embed import Embedder
from edge_embed.embedder import bundle_path
from edge_embed_export.towers.made import Made, bundle_of
from edge_embed_runtime.bundle.bundle import file_records, read_bundle, write_bundle
from edge_embed_runtime.bundle.towers import Tower

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 160, 50),
    "blue": (30, 60, 220),
    "yellow": (240, 220, 40),
    "black": (10, 10, 10),
    "white": (245, 245, 245),
}
SOUNDS = ("silence", "a deep hum", "loud hissing noise")
# Mean size of the samples, and of their differences.
FEATURES = ((0.0, 0.0), (0.3, 0.02), (0.3, 0.4))
SIDE, RATE = 16, 16_000
FRONT = front(SIDE, "squash", "bilinear", mean=[0.0] * 3, std=[1.0] * 3)
SOUND_FRONT = {
    "rate": RATE,
    "resampler": "soxr_hq",
    "channels": "mean",
    "window": RATE,
    "hop": RATE,
    "short": "repeatpad",
    "last": "back",
    "mel": None,
    "marks": False,
    "layout": ["batch", "sample"],
}


def colour_bundle(folder: Path) -> Path:
    """Writes it."""
    base = read_bundle(bundle_path("static"))
    embedder = Embedder("static", threads=1)
    places = np.array(list(COLOURS.values()), np.float32) / 255
    images = _nearest(["image", 3, SIDE, SIDE], "pixel_values", places, embedder.encode(list(COLOURS)), 60.0)
    sounds = _nearest([RATE], "input_features", np.array(FEATURES, np.float32), embedder.encode(list(SOUNDS)), 80.0)
    files = {name: bundle_path("static") / name for name in base.manifest.files}
    contents = {name: path.read_bytes() for name, path in files.items()}
    contents |= {"image.onnx": images, "audio.onnx": sounds}
    towers = {
        "image": Tower(FRONT, architecture={"activation_bytes": 2**20}),
        "audio": Tower(SOUND_FRONT, architecture={"activation_bytes": 2**20}),
    }
    manifest = replace(base.manifest, name="colours", files=file_records(contents), towers=towers)
    write_bundle(folder, manifest, contents)
    return folder


def picture_bundle(folder: Path, colours: Path) -> Path:
    """Writes its image tower as a bundle of its own, which has no model for texts."""
    whole = read_bundle(colours).manifest
    made = Made("image", whole.dim, {"image.onnx": (colours / "image.onnx").read_bytes()}, whole.towers["image"])
    write_bundle(folder, bundle_of("pictures", whole.dim, "", [made]), made.contents)
    return folder


def _nearest(
    shape: list[object], name: str, places: NDArray[np.float32], vectors: NDArray[np.float32], sharp: float
) -> bytes:
    """A graph that takes the mean of an input over all but its channels, and gives the vector of the nearest place."""
    weights = {
        "centres": 2 * sharp * places.T,
        "offsets": -sharp * (places**2).sum(axis=1),
        "vectors": vectors,
        "axes": np.array([2, 3] if name == "pixel_values" else [1], np.int64),
        "last": np.array([-1], np.int64),
    }
    if name == "pixel_values":
        nodes = [helper.make_node("ReduceMean", [name, "axes"], ["features"], keepdims=0)]
    else:
        weights |= {n: np.array([v], np.int64) for n, v in (("zero", 0), ("one", 1), ("end", 2**31), ("before", -1))}
        nodes = [
            helper.make_node("Slice", [name, "one", "end", "one"], ["later"]),
            helper.make_node("Slice", [name, "zero", "before", "one"], ["earlier"]),
            helper.make_node("Sub", ["later", "earlier"], ["steps"]),
            helper.make_node("Abs", ["steps"], ["step sizes"]),
            helper.make_node("Abs", [name], ["sizes"]),
            helper.make_node("ReduceMean", ["sizes", "axes"], ["size"]),
            helper.make_node("ReduceMean", ["step sizes", "axes"], ["step"]),
            helper.make_node("Concat", ["size", "step"], ["features"], axis=1),
        ]
    nodes += [
        helper.make_node("MatMul", ["features", "centres"], ["products"]),
        helper.make_node("Add", ["products", "offsets"], ["nearness"]),
        helper.make_node("Softmax", ["nearness"], ["parts"]),
        helper.make_node("MatMul", ["parts", "vectors"], ["mixed"]),
        helper.make_node("ReduceL2", ["mixed", "last"], ["length"]),
        helper.make_node("Div", ["mixed", "length"], ["embedding"]),
    ]
    if name != "pixel_values":
        for node in nodes[:2]:
            node.input.insert(3, "one")
            node.input[4] = "one"
    graph = helper.make_graph(
        nodes,
        "nearest",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape[-3:]])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", vectors.shape[1]])],
        [numpy_helper.from_array(value, label) for label, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def picture(colour: str, kind: str = "PNG", size: tuple[int, int] = (40, 30), **options: object) -> bytes:
    """A picture of one colour, with a frame, so that each size has pixels of its own."""
    from PIL import Image

    image = Image.new("RGB", size, COLOURS[colour])
    image.putpixel((0, 0), (size[0] % 256, size[1] % 256, 7))
    made = BytesIO()
    image.save(made, kind, **options)
    return made.getvalue()


def sound(what: str, seconds: float = 1.5) -> bytes:
    """A WAV file that sounds like this."""
    count = int(RATE * seconds)
    moment = np.arange(count) / RATE
    samples = {
        "silence": np.zeros(count),
        "a deep hum": 0.47 * np.sin(2 * math.pi * 100 * moment),
        "loud hissing noise": np.random.default_rng(7).uniform(-0.6, 0.6, count),
    }[what]
    made = BytesIO()
    with wave.open(made, "wb") as file:
        file.setparams((1, 2, RATE, count, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return made.getvalue()
