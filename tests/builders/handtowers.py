"""Text towers of picture models and stored queries, computed by hand in float64: a second way to the same numbers,
which shares nothing with the exporter's graph."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from builders.reference import attend, gelu, split

Array = np.ndarray[Any, Any]
Tensors = Mapping[str, Array]


def quick_gelu(x: Array) -> Array:
    return np.asarray(x / (1 + np.exp(-1.702 * x)))


def tanh_gelu(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def linear(t: Tensors, name: str, x: Array) -> Array:
    bias = t.get(f"{name}.bias")
    return np.asarray(x @ t[f"{name}.weight"].astype(float).T + (0.0 if bias is None else bias))


def norm(t: Tensors, name: str, x: Array, eps: float) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return np.asarray(
        centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * t[f"{name}.weight"] + t[f"{name}.bias"]
    )


def unit(x: Array) -> Array:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def causal(n: int) -> Array:
    return np.triu(np.full((n, n), -np.inf), 1)


def pre_norm(t: Tensors, prefix: str, x: Array, layers: int, heads: int, bias: Any, gelu_: Any, eps: float) -> Array:
    """Layers under CLIP's names."""
    for i in range(layers):
        layer = f"{prefix}encoder.layers.{i}"
        inner = norm(t, f"{layer}.layer_norm1", x, eps)
        q, k, v = (split(linear(t, f"{layer}.self_attn.{part}_proj", inner), heads) for part in "qkv")
        x = x + linear(t, f"{layer}.self_attn.out_proj", attend(q, k, v, bias))
        inner = norm(t, f"{layer}.layer_norm2", x, eps)
        x = x + linear(t, f"{layer}.mlp.fc2", gelu_(linear(t, f"{layer}.mlp.fc1", inner)))
    return x


def clip_text(t: Tensors, ids: Array, *, layers: int, heads: int) -> Array:
    """CLIP's vector of a text, made at the first token with the largest id."""
    x = t["text_model.embeddings.token_embedding.weight"][ids].astype(float)
    x = x + t["text_model.embeddings.position_embedding.weight"][: len(ids)]
    x = pre_norm(t, "text_model.", x, layers, heads, causal(len(ids)), quick_gelu, 1e-5)
    pooled = norm(t, "text_model.final_layer_norm", x, 1e-5)[int(np.argmax(ids))]
    return unit(pooled @ t["text_projection.weight"].astype(float).T)


def siglip_text(t: Tensors, ids: Array, *, layers: int, heads: int, filler: int) -> Array:
    """SigLIP's, of a text that is filled up to all positions."""
    positions = t["text_model.embeddings.position_embedding.weight"]
    full = np.concatenate([ids, np.full(len(positions) - len(ids), filler)])
    x = t["text_model.embeddings.token_embedding.weight"][full].astype(float) + positions
    x = pre_norm(t, "text_model.", x, layers, heads, 0.0, tanh_gelu, 1e-6)
    return unit(linear(t, "text_model.head", norm(t, "text_model.final_layer_norm", x, 1e-6)[-1]))


def coca_text(t: Tensors, ids: Array, *, layers: int, heads: int) -> Array:
    """OpenCLIP's CoCa: a class token behind a text filled up with 0; of keys 1, 2, ... those behind a 0 are hidden."""
    positions = t["text.positional_embedding"]
    full = np.concatenate([ids, np.zeros(len(positions) - 1 - len(ids), int)])
    x = np.concatenate([t["text.token_embedding.weight"][full], t["text.cls_emb"][None]]).astype(float) + positions
    bias = causal(len(x))
    bias[:, 1:][:, full == 0] = -np.inf
    for i in range(layers):
        block = f"text.transformer.resblocks.{i}"
        inner = norm(t, f"{block}.ln_1", x, 1e-5)
        rows = inner @ t[f"{block}.attn.in_proj_weight"].astype(float).T + t[f"{block}.attn.in_proj_bias"]
        q, k, v = (split(part, heads) for part in np.split(rows, 3, axis=1))
        x = x + linear(t, f"{block}.attn.out_proj", attend(q, k, v, bias))
        inner = norm(t, f"{block}.ln_2", x, 1e-5)
        x = x + linear(t, f"{block}.mlp.c_proj", gelu(linear(t, f"{block}.mlp.c_fc", inner)))
    return unit(norm(t, "text.ln_final", x[-1:], 1e-5)[0] @ t["text.text_projection"].astype(float))


def torch_attention(t: Tensors, name: str, queries: Array, x: Array, heads: int) -> Array:
    """torch's MultiheadAttention of queries [n, d] to tokens [s, w]."""
    if f"{name}.in_proj_weight" in t:
        weights = np.split(t[f"{name}.in_proj_weight"].astype(float), 3)
    else:
        weights = [t[f"{name}.{part}_proj_weight"].astype(float) for part in "qkv"]
    biases = np.split(t[f"{name}.in_proj_bias"], 3)
    read = (queries, x, x)
    q, k, v = (split(r @ w.T + b, heads) for r, w, b in zip(read, weights, biases, strict=True))
    return linear(t, f"{name}.out_proj", attend(q, k, v))


def siglip_head(t: Tensors, x: Array, heads: int, eps: float) -> Array:
    """Tokens [s, w] -> [w]."""
    seen = torch_attention(t, "head.attention", t["head.probe"][0].astype(float), x, heads)
    inner = norm(t, "head.layernorm", seen, eps)
    return (seen + linear(t, "head.mlp.fc2", tanh_gelu(linear(t, "head.mlp.fc1", inner))))[0]


def coca_pooler(t: Tensors, x: Array, heads: int) -> Array:
    """Tokens [s, w] -> [queries, d]."""
    queries = norm(t, "attn_pool.ln_q", t["attn_pool.query"].astype(float), 1e-5)
    return torch_attention(t, "attn_pool.attn", queries, norm(t, "attn_pool.ln_k", x, 1e-5), heads)


def qformer(t: Tensors, x: Array, *, layers: int, heads: int) -> Array:
    """Tokens [s, w] -> what BLIP-2's queries have seen [queries, d]."""
    states = norm(t, "qformer.layernorm", t["query_tokens"][0].astype(float), 1e-12)
    for i in range(layers):
        layer = f"qformer.encoder.layer.{i}"
        for kind, seen in (("attention", None), ("crossattention", x)):
            if f"{layer}.{kind}.output.dense.weight" in t:
                read = (states, states, states) if seen is None else (states, seen, seen)
                parts = zip(("query", "key", "value"), read, strict=True)
                q, k, v = (split(linear(t, f"{layer}.{kind}.attention.{part}", r), heads) for part, r in parts)
                found = linear(t, f"{layer}.{kind}.output.dense", attend(q, k, v))
                states = norm(t, f"{layer}.{kind}.output.LayerNorm", states + found, 1e-12)
        inner = gelu(linear(t, f"{layer}.intermediate_query.dense", states))
        found = linear(t, f"{layer}.output_query.dense", inner)
        states = norm(t, f"{layer}.output_query.LayerNorm", states + found, 1e-12)
    return states


def qformer_text(t: Tensors, ids: Array, *, layers: int, heads: int) -> Array:
    """BLIP-2's vector of a text: the half of the Q-Former that reads texts, and the first token."""
    x = (
        t["embeddings.word_embeddings.weight"][ids].astype(float)
        + t["embeddings.position_embeddings.weight"][: len(ids)]
    )
    x = norm(t, "qformer.layernorm", x, 1e-12)
    for i in range(layers):
        layer = f"qformer.encoder.layer.{i}"
        q, k, v = (
            split(linear(t, f"{layer}.attention.attention.{part}", x), heads) for part in ("query", "key", "value")
        )
        found = linear(t, f"{layer}.attention.output.dense", attend(q, k, v))
        x = norm(t, f"{layer}.attention.output.LayerNorm", x + found, 1e-12)
        found = linear(t, f"{layer}.output.dense", gelu(linear(t, f"{layer}.intermediate.dense", x)))
        x = norm(t, f"{layer}.output.LayerNorm", x + found, 1e-12)
    return unit(linear(t, "text_projection", x[0]))
