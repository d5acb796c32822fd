"""DINOv2 (arXiv:2304.07193), also with registers (arXiv:2309.16588): the class token of pictures, without any text."""

from typing import Any

import numpy as np

from edge_embed_export.families.pictures import ImageTower, PictureReader
from edge_embed_export.sources.checkpoint import Checkpoint

LAYER = {
    "query": "attention.attention.query",
    "key": "attention.attention.key",
    "value": "attention.attention.value",
    "out": "attention.output.dense",
    "attention_norm": "norm1",
    "output_norm": "norm2",
}
# Where config.json does not say it, as the library has it.
USUAL: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "patch_size": 14,
    "num_channels": 3,
    "qkv_bias": True,
    "use_swiglu_ffn": False,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
}


def read(checkpoint: Checkpoint, front: dict[str, Any]) -> ImageTower:
    registers = checkpoint.architecture == "dinov2_with_registers"
    usual = {**USUAL, "patch_size": 16} if registers else USUAL
    read = PictureReader(checkpoint, "embeddings.cls_token", checkpoint.config, front, usual)
    read.refuse(qkv_bias=True)
    read.patches("embeddings.patch_embeddings.projection", bias=True)
    table = read.tensor("embeddings.position_embeddings", 3)[0]
    prefix = np.asarray(read.tensor("embeddings.cls_token", 3)[0]) + np.asarray(table[:1])
    if registers:
        prefix = np.concatenate([prefix, read.tensor("embeddings.register_tokens", 3)[0]])
    # the two classes of the library differ in this
    read.weights |= {"positions": read.interpolated(table[1:], antialias=registers), "prefix": prefix}
    gated = read.config.get("use_swiglu_ffn") is True
    layers = read.layers(LAYER, "encoder.layer.{}")
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
        checkpoint.architecture,
        layers=layers,
        hidden=read.count("hidden_size"),
        heads=read.count("num_attention_heads"),
        intermediate=read.weights["layers.0.up.weight"].shape[1],
        activation="silu" if gated else read.activation("hidden_act", "gelu"),  # what SwiGLU has is not asked
        norm_eps=read.epsilon("layer_norm_eps", 1e-6),
    )
