"""Small bundles with towers, whose graphs are written here node by node."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from builders.architectures import Tensors
from builders.pictures import front
from builders.texttowers import DIM as TEXT_DIM
from builders.texttowers import add_clip_text, clip_text_config, clip_tokenizer, write
from builders.towers import HIDDEN, VISION, clip
from builders.towers import front as read_as
from edge_embed_export.towers.graph import GraphTower, tower_from_onnx
from edge_embed_export.towers.made import Made, bundle_of
from edge_embed_runtime.bundle.bundle import write_bundle
from edge_embed_runtime.bundle.manifest import TOWER_FILES, Manifest
from edge_embed_runtime.bundle.towers import Tower

SIDE, DIM = 32, 12
Array = NDArray[np.float32]


def picture_graph(
    dim: int = DIM, *, seed: int = 0, layout: str = "NCHW", maps: bool = False, scale: float = 1.0
) -> onnx.ModelProto:
    """A convolution, and a layer behind it: pictures of any size to [batch, dim], or to maps [batch, dim, h, w].

    layout: "NHWC" for one that reads channels last
    scale:  of the layer's weights; infinity makes numbers that are none
    """
    random = np.random.default_rng(seed)
    filters = random.normal(0, 0.2, (dim, 3, 5, 5)).astype(np.float32)
    weight = (random.normal(0, 1, (dim, dim)) * scale).astype(np.float32)
    shape = ["batch", 3, SIDE, SIDE] if layout == "NCHW" else ["batch", SIDE, SIDE, 3]
    nodes, x = [], "pixels"
    if layout == "NHWC":
        nodes, x = [helper.make_node("Transpose", [x], ["turned"], perm=[0, 3, 1, 2])], "turned"
    nodes += [
        helper.make_node("Conv", [x, "filters"], ["maps"], strides=[3, 3]),
        helper.make_node("Relu", ["maps"], ["seen"]),
    ]
    out = ["batch", dim, "h", "w"]
    if not maps:
        out = ["batch", dim]
        nodes += [
            helper.make_node("GlobalAveragePool", ["seen"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["vector"]),
        ]
    return model_of(nodes, {"filters": filters, "weight": weight}, shape, "seen" if maps else "vector", out)


def model_of(
    nodes: Sequence[Any], weights: dict[str, Array], shape: Sequence[Any], output: str, out: Sequence[Any]
) -> onnx.ModelProto:
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "tower",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, out)],
        [numpy_helper.from_array(array, name) for name, array in weights.items() if name in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def image_bundle(folder: Path, *, dim: int = DIM, seed: int = 0, space: str = "", kind: str = "dense") -> Manifest:
    """A bundle with an image tower alone."""
    model = picture_graph(dim, seed=seed) if kind == "dense" else several_graph(dim)
    return tower_from_onnx(model, folder, GraphTower("image", front(SIDE, "squash"), kind=kind), space=space)


def several_graph(dim: int = DIM, count: int = 3) -> onnx.ModelProto:
    """Pictures to several vectors [batch, count, dim]."""
    random = np.random.default_rng(1)
    weight = random.normal(0, 1, (dim, count * dim)).astype(np.float32)
    whole = picture_graph(dim)
    shaped = numpy_helper.from_array(np.array([-1, count, dim], np.int64), "shape")
    whole.graph.initializer.extend([numpy_helper.from_array(weight, "wide"), shaped])
    whole.graph.node.extend(
        [
            helper.make_node("MatMul", ["vector", "wide"], ["row"]),
            helper.make_node("Reshape", ["row", "shape"], ["several"]),
        ]
    )
    del whole.graph.output[:]
    whole.graph.output.append(helper.make_tensor_value_info("several", TensorProto.FLOAT, ["batch", count, dim]))
    return whole


def written(folder: Path, model: onnx.ModelProto, *, dim: int = DIM, kind: str = "dense", **tower: Any) -> Manifest:
    """A bundle with this graph as it stands, which nothing has looked at."""
    said = Tower(front=front(SIDE, "squash"), kind=kind, quantization={"activations": "float32"}, **tower)
    made = Made("image", dim, {TOWER_FILES["image"][0]: model.SerializeToString()}, said)
    manifest = bundle_of(folder.name, dim, "", [made])
    write_bundle(folder, manifest, made.contents)
    return manifest


def clip_folder(folder: Path, **files: Any) -> Path:
    """A CLIP with both towers in transformers' layout, of 24 dims. files: JSON by name, in the place of the usual"""
    tokenizer = clip_tokenizer()
    vocab = len(tokenizer["model"]["vocab"])
    t = Tensors()
    add_clip_text(t, vocab)
    clip(t, projection=False)
    t.linear("visual_projection", TEXT_DIM, HIDDEN, bias=False)
    t["logit_scale"] = np.array(2.6, np.float32)
    config = {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": TEXT_DIM,
        "logit_scale_init_value": 2.6592,
        "text_config": clip_text_config(vocab),
        "vision_config": {**VISION, "model_type": "clip_vision_model", "hidden_act": "quick_gelu"},
    }
    ends = dict(zip(("bos_token", "eos_token"), ("<|startoftext|>", "<|endoftext|>"), strict=True))
    write(folder, config, t, tokenizer, tokenizer_class="CLIPTokenizer", model_max_length=77, **ends)
    for name, content in {"preprocessor_config": read_as(), **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder
