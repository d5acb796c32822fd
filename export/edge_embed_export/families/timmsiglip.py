"""SigLIP's image models (arXiv:2303.15343) as OpenCLIP's folders hold them: timm's names, and one query that pools."""

from dataclasses import replace
from typing import Any

import numpy as np

from edge_embed_export.families.pictures import ImageTower, PictureReader
from edge_embed_export.families.poolers import read_siglip_head
from edge_embed_export.families.reader import Reader
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.activations import Activation

NORM_EPS = 1e-6
LAYER = {
    "out": "attn.proj",
    "attention_norm": "norm1",
    "output_norm": "norm2",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
}
# The head under the names of transformers: what is stored in one there is in two parts here.
HEAD = {"out_proj": "attention.out_proj", "norm": "layernorm", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}


# By timm's names: heads, and the activation.
MODELS: dict[str, tuple[int, Activation]] = {
    **{f"vit_base_patch16_siglip_{side}": (12, "gelu") for side in (224, 256, 384, 512)},
    "vit_base_patch32_siglip_256": (12, "gelu_tanh"),
    **{f"vit_large_patch16_siglip_{side}": (16, "gelu") for side in (256, 384)},
    "vit_large_patch16_siglip_512": (16, "gelu_tanh"),
    **{f"vit_so400m_patch14_siglip_{side}": (16, "gelu") for side in (224, 378, 384)},
    **{f"vit_so400m_patch16_siglip_{side}": (16, "gelu_tanh") for side in (256, 384, 512)},
    **{f"vit_giantopt_patch16_siglip_{side}": (16, "gelu_tanh") for side in (256, 384)},
}


def read(checkpoint: Checkpoint, name: str, front: dict[str, Any]) -> ImageTower:
    """The image model of this name, whose weights begin in "visual.trunk."."""
    heads, activation = MODELS[name]
    read = PictureReader.of_timm(checkpoint, front)
    read.patches("patch_embed.proj", bias=True)
    read.weights["positions"] = read.tensor("pos_embed", 3)[0]
    layers = read.blocks("attn.proj")
    for i in range(layers):
        for ours, theirs in LAYER.items():
            take = read.norm if ours.endswith("norm") else read.linear
            take(f"layers.{i}.{ours}", f"blocks.{i}.{theirs}")
        read.split([f"layers.{i}.{part}" for part in ("query", "key", "value")], f"blocks.{i}.attn.qkv")
    read.norm("final_norm", "norm")
    head = Reader(replace(checkpoint, tensors=_head(read)), "head.probe")
    pooler = read_siglip_head(head, heads, NORM_EPS, activation)
    read.weights |= head.weights
    return read.tower(
        name,
        pooler=pooler,
        layers=layers,
        hidden=read.weights["positions"].shape[1],
        heads=heads,
        intermediate=read.weights["layers.0.up.weight"].shape[1],
        activation=activation,
        norm_eps=NORM_EPS,
    )


def _head(read: PictureReader) -> dict[str, Any]:
    """The tensors of the head under transformers' names."""
    found: dict[str, Any] = {"head.probe": read.tensor("attn_pool.latent", 3)}
    for part, dims in (("weight", 2), ("bias", 1)):
        both = [np.asarray(read.tensor(f"attn_pool.{name}.{part}", dims)) for name in ("q", "kv")]
        found[f"head.attention.in_proj_{part}"] = np.concatenate(both)
        for theirs, ours in HEAD.items():
            own = theirs.replace("out_proj", "proj")
            shape = 1 if part == "bias" or theirs == "norm" else 2
            found[f"head.{ours}.{part}"] = read.tensor(f"attn_pool.{own}.{part}", shape)
    return found
