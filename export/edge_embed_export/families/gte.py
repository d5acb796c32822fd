"""GTE's own encoder (arXiv:2407.19669; model type "new", "gte" at Snowflake): rotary positions, gated, post-norm.

The library has it under the type "gte", without its NTK scaling. Files have the names of its own code or the library's.
"""

from collections.abc import Mapping

import numpy as np

from edge_embed_export.families.reader import WORDS, Reader
from edge_embed_export.families.rope import Asked, Rope, add_tables, read_rope
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.positions import frequencies
from edge_embed_export.transformer.spec import Layer, Spec, Weights

LAYER = {
    "out": "attention.o_proj",
    "attention_norm": "attn_ln",
    "down": "mlp.down_proj",
    "output_norm": "mlp_ln",
}
LIBRARY_LAYER = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "out": "self_attn.o_proj",
    "attention_norm": "post_attention_layernorm",
    "down": "mlp.down_proj",
    "output_norm": "post_mlp_layernorm",
}


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    read = Reader(checkpoint, WORDS)
    read.refuse(layer_norm_type="layer_norm", position_embedding_type="rope", pack_qkv=True, logn_attention_scale=False)
    hidden, heads = read.count("hidden_size"), read.count("num_attention_heads")
    max_tokens = read.reach(read.count("max_position_embeddings"))
    read.embed(types=bool(read.config.get("type_vocab_size")))
    layers = _layers(read)
    add_tables(read, "all", _rope(read, hidden // heads), max_tokens)
    return read.finish(
        layers=layers,
        max_tokens=max_tokens,
        norm_eps=read.epsilon("layer_norm_eps", 1e-12),
        activation=read.activation("hidden_act", "gelu"),
        pooling="cls",
        plan=tuple(Layer(i, rotary="all") for i in range(layers)),
    )


def _layers(read: Reader) -> int:
    if read.of_library:
        layers = read.layers(LIBRARY_LAYER, "layers.{}")
        for i in range(layers):
            for part in ("up", "gate"):
                read.linear(f"layers.{i}.{part}", f"layers.{i}.mlp.{part}_proj", bias=False)
        return layers
    layers = read.layers(LAYER, "encoder.layer.{}")
    for i in range(layers):
        theirs = f"encoder.layer.{i}"
        read.split([f"layers.{i}.{part}" for part in ("query", "key", "value")], f"{theirs}.attention.qkv_proj")
        read.split([f"layers.{i}.up", f"layers.{i}.gate"], f"{theirs}.mlp.up_gate_proj", bias=False)
    return layers


def _rope(read: Reader, size: int) -> Rope:
    """NTK scaling of its own code: the base times the factor, and all angles divided by the factor's power 2 / size;
    with `mixed_b` the base as it is, and a divisor for each pair."""
    theta = 160000.0 if read.config.get("rope_parameters") else 10000.0
    scaling = read.config.get("rope_scaling")
    if not isinstance(scaling, Mapping) or scaling.get("type") != "ntk":
        return read_rope(read, size, theta=theta)
    read.refuse(rope_parameters=None)
    asked = Asked(read, "rope_scaling.", scaling)
    asked.held.get("type")
    factor, base = asked.number("factor"), read.real("rope_theta", theta)
    if asked.held.get("mixed_b") is None:
        angles = frequencies(size, base * factor) / factor ** (2 / size)
    else:
        mixed, pairs = asked.number("mixed_b"), size // 2
        angles = frequencies(size, base) / np.exp(np.log(factor) / pairs**mixed * np.arange(1, pairs + 1) ** mixed)
    asked.refuse_unread("ntk")
    return Rope(angles)
