"""Image models of CLIP's shape (arXiv:2103.00020): CLIP, MetaCLIP 2, SigLIP, and the body of BLIP-2's."""

from typing import Any

import numpy as np

from edge_embed_export.families import qformertext
from edge_embed_export.families.cliptext import tower_config
from edge_embed_export.families.pictures import ImageTower, PictureReader, check_dim
from edge_embed_export.families.poolers import read_qformer, read_siglip_head
from edge_embed_export.families.reader import Reader, with_usual
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.spec import Array, Step
from edge_embed_runtime.vectors.kinds import MULTI

LAYER = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "out": "self_attn.out_proj",
    "attention_norm": "layer_norm1",
    "output_norm": "layer_norm2",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
}
# BLIP-2's, which has queries, keys and values in one.
BLIP_LAYER = {ours: theirs for ours, theirs in LAYER.items() if ours not in ("query", "key", "value")} | {
    "out": "self_attn.projection"
}
# Where config.json does not say it, as the library has it.
CLIP: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
SIGLIP = CLIP | {
    "patch_size": 16,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
    "vision_use_head": True,
}
BLIP2 = CLIP | {
    "hidden_size": 1408,
    "intermediate_size": 6144,
    "num_hidden_layers": 39,
    "num_attention_heads": 16,
    "patch_size": 14,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
}
QFORMER: dict[str, Any] = {**qformertext.USUAL, "cross_attention_frequency": 2}


def _reader(checkpoint: Checkpoint, front: dict[str, Any], anchor: str, usual: dict[str, Any]) -> PictureReader:
    """Of a folder with both models, or with the image model alone."""
    alone = checkpoint.architecture.endswith("_vision_model")
    config = checkpoint.config if alone else tower_config(checkpoint.config, "vision_config", usual)
    read = PictureReader(checkpoint, anchor, config, front, usual)
    read.fixed()
    return read


def _with_class(read: PictureReader, table: Array, first: Array) -> None:
    """Positions of patches, and the class token with its own: the first of the table [1 + patches, h]."""
    read.weights |= {"positions": table[1:], "prefix": np.asarray(first)[None] + np.asarray(table[:1])}


def _body(read: PictureReader, layers: int) -> dict[str, Any]:
    """Fields of `Spec`, of a model whose layers are read."""
    read.norm("final_norm", "post_layernorm")
    return {
        "layers": layers,
        "hidden": read.count("hidden_size"),
        "heads": read.count("num_attention_heads"),
        "intermediate": read.count("intermediate_size"),
        "activation": read.activation("hidden_act", "gelu"),
        "norm_eps": read.epsilon("layer_norm_eps", 1e-5),
    }


def _family(checkpoint: Checkpoint) -> str:
    return checkpoint.architecture.removesuffix("_vision_model")


def read_clip(checkpoint: Checkpoint, front: dict[str, Any]) -> ImageTower:
    read = _reader(checkpoint, front, "embeddings.class_embedding", CLIP)
    read.patches("embeddings.patch_embedding")
    table = read.tensor("embeddings.position_embedding.weight", 2)
    _with_class(read, table, read.tensor("embeddings.class_embedding", 1))
    read.norm("embedding.norm", "pre_layrnorm")
    steps, layers = read.projected(), read.either("encoder.layers", "encoder.layer")  # AltCLIP's in transformers 5
    body = _body(read, read.layers(LAYER, f"{layers}.{{}}"))
    tower = read.tower(_family(checkpoint), steps=steps, **body)
    check_dim(checkpoint, tower, checkpoint.config.get("projection_dim") if steps else None)
    return tower


def read_siglip(checkpoint: Checkpoint, front: dict[str, Any]) -> ImageTower:
    read = _reader(checkpoint, front, "embeddings.patch_embedding.weight", SIGLIP)
    read.refuse(vision_use_head=True)
    read.patches("embeddings.patch_embedding", bias=True)
    read.weights["positions"] = read.tensor("embeddings.position_embedding.weight", 2)
    fields = _body(read, read.layers(LAYER, "encoder.layers.{}"))
    pooler = read_siglip_head(read, fields["heads"], fields["norm_eps"], fields["activation"])
    return read.tower(_family(checkpoint), pooler=pooler, **fields)


def read_blip2(checkpoint: Checkpoint, front: dict[str, Any]) -> ImageTower:
    """The model that compares pictures with texts (image-text contrastive): a vector for each of its queries."""
    read = _reader(checkpoint, front, "embeddings.class_embedding", BLIP2)
    read.patches("embeddings.patch_embedding", bias=True)
    table = read.tensor("embeddings.position_embedding", 3)[0]
    _with_class(read, table, read.tensor("embeddings.class_embedding", 3)[0, 0])
    layers = read.layers(BLIP_LAYER, "encoder.layers.{}")
    for i in range(layers):
        ours = [f"layers.{i}.{part}" for part in ("query", "key", "value")]
        read.split(ours, f"encoder.layers.{i}.self_attn.qkv", bias=read.config.get("qkv_bias") is not False)
    config = checkpoint.config.get("qformer_config")
    given = config if isinstance(config, dict) else {}
    queries = Reader(checkpoint, "layernorm.weight", with_usual(given, QFORMER))
    outer = Reader(checkpoint, "vision_projection.weight")
    outer.linear("projection.0", "vision_projection")
    eps, activation = queries.epsilon("layer_norm_eps", 1e-12), queries.activation("hidden_act", "gelu")
    pooler = read_qformer(queries, outer.tensor("query_tokens", 3), eps, activation)
    read.weights |= queries.weights | outer.weights
    return read.tower(_family(checkpoint), pooler=pooler, steps=(Step("linear"),), kind=MULTI, **_body(read, layers))
