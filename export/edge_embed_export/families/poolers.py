"""Stored queries that look at pictures, read from checkpoints: SigLIP's head (arXiv:2303.15343), CoCa's pooler
(arXiv:2205.01917), BLIP-2's Q-Former (arXiv:2301.12597). What is done to the queries before they meet a picture is done
here."""

import numpy as np

from edge_embed_export.families.reader import Reader
from edge_embed_export.transformer.activations import Activation
from edge_embed_export.transformer.pooler import POOLER, StoredQueries
from edge_embed_export.transformer.spec import Array

# What torch's LayerNorm adds to a variance.
NORM_EPS = 1e-5


def _normed(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    """A layer norm of stored rows."""
    rows = np.asarray(x, np.float64)
    centred = rows - rows.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + epsilon)
    return np.asarray(scaled * weight + bias, np.float32)


def _attention(read: Reader, theirs: str, queries: Array, heads: int) -> None:
    """torch's MultiheadAttention, whose queries are stored."""
    name, width = f"{theirs}.in_proj_weight", queries.shape[1]
    if read.has(name):
        whole = read.tensor(name, 2)
        weights = [np.asarray(whole)[i * width : (i + 1) * width] for i in range(3)]
    else:  # of tokens of another width than the queries
        weights = [np.asarray(read.tensor(f"{theirs}.{part}_proj_weight", 2)) for part in "qkv"]
    bias = np.asarray(read.tensor(f"{theirs}.in_proj_bias", 1)).reshape(3, -1)
    if width % heads or bias.shape[1] != width or any(len(weight) != width for weight in weights):
        raise read.error(f"{theirs} is no attention of {heads} heads for queries of {width} numbers")
    asked = (queries.astype(np.float64) @ weights[0].T + bias[0]) * (width // heads) ** -0.5
    read.weights[f"{POOLER}.queries"] = asked.astype(np.float32)
    for i, part in enumerate(("key", "value"), start=1):
        read.weights[f"{POOLER}.{part}.weight"] = weights[i].T
        read.weights[f"{POOLER}.{part}.bias"] = bias[i]
    read.linear(f"{POOLER}.out", f"{theirs}.out_proj")


def read_siglip_head(read: Reader, heads: int, norm_eps: float, activation: Activation) -> StoredQueries:
    """SigLIP's head: one query that looks at all patches, then a feed-forward; its weights go to `read.weights`."""
    probe = np.asarray(read.tensor("head.probe", 3))[0]
    if len(probe) != 1:
        raise read.error(f"head.probe has {len(probe)} queries, SigLIP's head has one")
    _attention(read, "head.attention", probe, heads)
    read.norm(f"{POOLER}.output_norm", "head.layernorm")
    read.linear(f"{POOLER}.up", "head.mlp.fc1")
    read.linear(f"{POOLER}.down", "head.mlp.fc2")
    return _checked(read, StoredQueries(heads, 1, probe.shape[1], norm_eps, activation))


def read_coca_pooler(read: Reader, heads: int, theirs: str = "attn_pool") -> StoredQueries:
    """CoCa's pooler. The first of its queries gives the picture's vector; the others are read by what writes captions,
    and no query sees another."""
    stored = np.asarray(read.tensor(f"{theirs}.query", 2))[:1]
    norm = [read.tensor(f"{theirs}.ln_q.{part}", 1) for part in ("weight", "bias")]
    _attention(read, f"{theirs}.attn", _normed(stored, norm[0], norm[1], NORM_EPS), heads)
    read.norm(f"{POOLER}.input_norm", f"{theirs}.ln_k")
    return _checked(read, StoredQueries(heads, 1, stored.shape[1], NORM_EPS))


# Names of a layer's parts in BLIP-2's Q-Former, ours -> theirs: among the queries, and what they do to what they see.
QFORMER = {
    "query": "attention.attention.query",
    "key": "attention.attention.key",
    "value": "attention.attention.value",
    "out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate_query.dense",
    "down": "output_query.dense",
    "output_norm": "output_query.LayerNorm",
}
LOOK = {
    "ask": "crossattention.attention.query",
    "look.key": "crossattention.attention.key",
    "look.value": "crossattention.attention.value",
    "look.out": "crossattention.output.dense",
    "look_norm": "crossattention.output.LayerNorm",
}


def read_qformer(read: Reader, tokens: Array, norm_eps: float, activation: Activation) -> StoredQueries:
    """BLIP-2's Q-Former as it looks at a picture.

    read:   of its config; names begin in `encoder.layer`
    tokens: the stored queries [1, n, d]
    """
    heads, layers = read.count("num_attention_heads"), read.depth()
    every = read.count("cross_attention_frequency", 2)
    norm = [read.tensor(f"layernorm.{part}", 1) for part in ("weight", "bias")]
    states = np.asarray(tokens)[0]
    read.weights[f"{POOLER}.states"] = _normed(states, norm[0], norm[1], norm_eps)
    factor = np.float32((states.shape[1] // heads) ** -0.5)
    for i in range(layers):
        names = QFORMER | (LOOK if i % every == 0 else {})
        for ours, theirs in names.items():
            take = read.norm if ours.endswith("norm") else read.linear
            take(f"{POOLER}.{i}.{ours}", f"encoder.layer.{i}.{theirs}")
        for name in ("query", "ask"):  # what scores are multiplied by
            for part in ("weight", "bias"):
                if (key := f"{POOLER}.{i}.{name}.{part}") in read.weights:
                    read.weights[key] = np.asarray(read.weights[key]) * factor
    return _checked(read, StoredQueries(heads, len(states), states.shape[1], norm_eps, activation, layers))


def _checked(read: Reader, pooler: StoredQueries) -> StoredQueries:
    pooler.check(read.weights)
    return pooler
