"""Vision transformers: CLIP and what has its layout (MetaCLIP 2), DINOv2. A picture is cut into patches (see
transformer/vision.py).

What a picture is before, which size and which mean of its colours, is the front end's matter: it comes with the folder,
and the model has to fit it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edge_embed_export.families.interpolate import bicubic
from edge_embed_export.families.reader import Reader
from edge_embed_export.files.accounting import Keys
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.spec import Array, Layer, Spec, Step
from edge_embed_export.transformer.vision import CHANNELS, Pooler, VisionSpec, check_image
from edge_embed_runtime.errors import UnsupportedModelError
from edge_embed_runtime.vectors.kinds import DENSE, Kind

# CLIP's layers, and those of all that took its code.
CLIP = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "out": "self_attn.out_proj",
    "attention_norm": "layer_norm1",
    "output_norm": "layer_norm2",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
}
DINO = {
    "query": "attention.attention.query",
    "key": "attention.attention.key",
    "value": "attention.attention.value",
    "out": "attention.output.dense",
    "attention_norm": "norm1",
    "output_norm": "norm2",
}


@dataclass(frozen=True)
class ImageTower:
    """An image model as it was read.

    family: its name, for the manifest
    front:  what turns a picture into its pixels, as the manifest has it
    facts:  its numbers, for the manifest
    """

    family: str
    spec: VisionSpec
    weights: dict[str, Array]
    front: dict[str, Any]
    facts: dict[str, Any]


class PictureReader(Reader):
    """Reads an image model.

    anchor: see Reader; config: of the image model alone, where it stands in another
    """

    def __init__(
        self, checkpoint: Checkpoint, anchor: str, config: Mapping[str, Any], front: dict[str, Any], patch: str = ""
    ) -> None:
        super().__init__(checkpoint, anchor, config)
        self.front = front
        self.refuse(num_channels=CHANNELS)
        self.patch = self.side(patch or "patch_size")
        height, width = front["size"]
        self.size: tuple[int, int] = (int(height), int(width))
        self.tokens = (self.size[0] // self.patch) * (self.size[1] // self.patch)

    def pair(self, name: str) -> tuple[int, int]:
        """Height and width, which the config has as one number where they are the same."""
        value = self.config.get(name)
        both: Any = value if isinstance(value, list | tuple) and len(value) == 2 else (value, value)
        if not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in both):
            raise self.error(f"{name} is {value!r:.40}, expected a whole number of pixels")
        return int(both[0]), int(both[1])

    def side(self, name: str) -> int:
        height, width = self.pair(name)
        if height != width:
            raise self.error(f"{name} is {[height, width]}: patches that are no squares are not supported")
        return height

    def fixed(self, name: str = "image_size") -> None:
        """Raise ExportError where the front end gives pictures of another size than the model's own."""
        if self.pair(name) != self.size:
            raise self.error(
                f"the front end gives pictures of {self.size[0]} x {self.size[1]} pixels, the model reads "
                f"{self.pair(name)[0]} x {self.pair(name)[1]}"
            )

    def patches(self, conv: str, *, bias: bool = False) -> None:
        """The convolution that reads patches, which do not overlap: a linear layer."""
        weight = self.tensor(f"{conv}.weight", 4)
        self.weights["patch.weight"] = weight.reshape(len(weight), -1).T
        if bias:
            self.weights["patch.bias"] = self.tensor(f"{conv}.bias", 1)

    def interpolated(self, table: Array, *, antialias: bool = False) -> Array:
        """Positions [patches, h] of a picture of this size, from those of a square of another."""
        grid = self.size[0] // self.patch, self.size[1] // self.patch
        side = math.isqrt(len(table))
        if side * side != len(table):
            raise self.error(f"{len(table)} positions are those of no square")
        if grid == (side, side):
            return table
        square = np.asarray(table).reshape(side, side, -1)
        return bicubic(square, grid, antialias=antialias).reshape(self.tokens, -1)

    def scaled(self, ours: str, factor: Array) -> None:
        """What a linear layer gives times a number for each of its outputs (layer scale)."""
        for part in ("weight", "bias"):
            if f"{ours}.{part}" in self.weights:
                self.weights[f"{ours}.{part}"] = np.asarray(self.weights[f"{ours}.{part}"]) * factor

    def tower(
        self,
        family: str,
        *,
        pooling: Literal["class", "patches"] = "class",
        early: bool = True,
        pooler: Pooler | None = None,
        projection: bool = False,
        kind: Kind = DENSE,
        plan: tuple[Layer, ...] = (),
        **fields: Any,
    ) -> ImageTower:
        """The model. projection: whether `projection.0` is behind pooling; fields: of `Spec`"""
        hidden = fields["hidden"]
        prefix = len(self.weights["prefix"]) if "prefix" in self.weights else 0
        steps = (Step("linear"),) if projection else ()
        dim = self.weights["projection.0.weight"].shape[1] if projection else fields.pop("dim", hidden)
        body = Spec(
            vocab=0,
            max_tokens=self.tokens + prefix,
            dim=dim,
            norm="pre",
            projections=steps,
            pooling="cls",
            kind=kind,
            plan=plan,
            **fields,
        )
        spec = VisionSpec(body, self.size, self.patch, pooling, early, pooler)
        check_image(spec, self.weights)
        facts = {name: getattr(body, name) for name in ("layers", "hidden", "heads", "intermediate")}
        return ImageTower(
            family, spec, self.weights, self.front, {**facts, "tokens": body.max_tokens, "family": family}
        )


def read_image_tower(config: Keys, tensors: Mapping[str, Array], folder: Path, front: dict[str, Any]) -> ImageTower:
    """The image model of a folder.

    config:  the folder's config.json
    tensors: all of the folder; those of the image model are read
    front:   the front end of the folder; front["size"] is the height and width of what it gives

    Raises UnsupportedModelError for a model that is not known, ExportError for one that is not complete or has settings
    that are not supported.
    """
    kind = str(config.get("model_type"))
    if kind not in READERS:
        raise UnsupportedModelError(
            f"{folder}: the image model {kind!r} is not supported ({', '.join(sorted(READERS))} are)"
        )
    checkpoint = Checkpoint(folder, config, tensors, {}, None, None, (), {}, "", None)
    return READERS[kind](checkpoint, front)


def is_image_model(config: Mapping[str, Any]) -> bool:
    """Whether the folder of this config.json has an image model that is known."""
    return str(config.get("model_type")) in READERS


def own_config(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """The config of the image model, which stands in that of a model with several."""
    inner = checkpoint.config.get("vision_config")
    return inner if isinstance(inner, dict) else checkpoint.config


def clip_body(read: PictureReader) -> dict[str, Any]:
    """Layers and final norm under CLIP's names; gives fields of `Spec`."""
    layers = read.layers(CLIP, "encoder.layers.{}")
    read.norm("final_norm", "post_layernorm")
    return {
        "layers": layers,
        "hidden": read.count("hidden_size"),
        "heads": read.count("num_attention_heads"),
        "intermediate": read.count("intermediate_size"),
    }


def _clip(checkpoint: Checkpoint, front: dict[str, Any]) -> ImageTower:
    read = PictureReader(checkpoint, "embeddings.class_embedding", own_config(checkpoint), front)
    read.fixed()
    read.patches("embeddings.patch_embedding")
    table = read.tensor("embeddings.position_embedding.weight", 2)
    first = read.tensor("embeddings.class_embedding", 1)
    read.weights |= {"positions": table[1:], "prefix": np.asarray(first)[None] + np.asarray(table[:1])}
    read.norm("embedding.norm", "pre_layrnorm")
    fields = clip_body(read)
    projection = _projection(read)
    return read.tower(
        str(checkpoint.config.get("model_type")).removesuffix("_vision_model"),
        projection=projection,
        activation=read.activation("hidden_act", "quick_gelu"),
        norm_eps=read.epsilon("layer_norm_eps", 1e-5),
        **fields,
    )


def _projection(read: PictureReader) -> bool:
    """Whether there is a projection into the space of texts; it stands beside the image model."""
    name = f"{read.prefix.removesuffix('vision_model.')}visual_projection.weight"
    if name not in read.checkpoint.tensors:
        return False
    read.weights["projection.0.weight"] = read.checkpoint.tensors[name].T
    return True


def _dinov2(checkpoint: Checkpoint, front: dict[str, Any]) -> ImageTower:
    read = PictureReader(checkpoint, "embeddings.cls_token", checkpoint.config, front)
    read.refuse(qkv_bias=True)
    read.patches("embeddings.patch_embeddings.projection", bias=True)
    table = read.tensor("embeddings.position_embeddings", 3)[0]
    prefix = np.asarray(read.tensor("embeddings.cls_token", 3)[0]) + np.asarray(table[:1])
    registers = checkpoint.architecture == "dinov2_with_registers"
    if registers:
        prefix = np.concatenate([prefix, read.tensor("embeddings.register_tokens", 3)[0]])
    # the two classes of the library differ in this
    read.weights |= {"positions": read.interpolated(table[1:], antialias=registers), "prefix": prefix}
    gated = read.config.get("use_swiglu_ffn") is True
    layers = read.layers(DINO, "encoder.layer.{}")
    for i in range(layers):
        ours, theirs = f"layers.{i}", f"encoder.layer.{i}"
        if gated:
            read.split([f"{ours}.gate", f"{ours}.up"], f"{theirs}.mlp.weights_in")
            read.linear(f"{ours}.down", f"{theirs}.mlp.weights_out")
        else:
            read.linear(f"{ours}.up", f"{theirs}.mlp.fc1")
            read.linear(f"{ours}.down", f"{theirs}.mlp.fc2")
        read.scaled(f"{ours}.out", read.tensor(f"{theirs}.layer_scale1.lambda1", 1))
        read.scaled(f"{ours}.down", read.tensor(f"{theirs}.layer_scale2.lambda1", 1))
    read.norm("final_norm", "layernorm")
    return read.tower(
        str(checkpoint.config.get("model_type")),
        layers=layers,
        hidden=read.count("hidden_size"),
        heads=read.count("num_attention_heads"),
        intermediate=read.weights["layers.0.up.weight"].shape[1],
        activation="silu" if gated else read.activation("hidden_act", "gelu"),
        norm_eps=read.epsilon("layer_norm_eps", 1e-6),
    )


READERS: dict[str, Callable[[Checkpoint, dict[str, Any]], ImageTower]] = {
    **dict.fromkeys(("clip", "clip_vision_model", "metaclip_2", "metaclip_2_vision_model"), _clip),
    **dict.fromkeys(("dinov2", "dinov2_with_registers"), _dinov2),
}
