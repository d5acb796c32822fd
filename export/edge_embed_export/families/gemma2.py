"""Gemma 2 (arXiv:2408.00118): Gemma 3's norms, capped scores, windows in every other layer, one rotary base."""

import math

import numpy as np

from edge_embed_export.checkpoint import Checkpoint
from edge_embed_export.families import decoder
from edge_embed_export.families.reading import Reader
from edge_embed_export.spec import Spec, Weights

LINEARS = {**decoder.ATTENTION, "out": "self_attn.o_proj"}


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    """Norms are stored less 1. Only scores of a language model's tokens have the other cap, final_logit_softcapping."""
    read = Reader(checkpoint, "embed_tokens.weight")
    read.refuse(use_bidirectional_attention=False)  # the library does not read it for this family
    hidden, heads, layers = read.count("hidden_size"), read.count("num_attention_heads"), read.depth()
    size = read.count("head_dim", 256)
    max_tokens, causal = read.limit(read.count("max_position_embeddings", 8192)), decoder._causal(read)
    read.weights["embedding.word"] = read.words("embed_tokens.weight") * np.float32(math.sqrt(hidden))
    bias = bool(read.config.get("attention_bias"))
    for i in range(layers):
        for ours, theirs in LINEARS.items():
            read.linear(f"layers.{i}.{ours}", f"layers.{i}.{theirs}", bias=bias)
        for ours, theirs in decoder.FEED_FORWARD.items():
            read.linear(f"layers.{i}.{ours}", f"layers.{i}.{theirs}", bias=False)
        for ours, theirs in decoder.GEMMA_NORMS.items():
            read.norm(f"layers.{i}.{ours}", f"layers.{i}.{theirs}", bias=False, offset=1.0)
    read.norm("final_norm", "norm", bias=False, offset=1.0)
    windows = enumerate(_windows(read, layers, causal=causal))
    plan = tuple(decoder._layer(read, i, window, causal, False, size, max_tokens) for i, window in windows)
    capped = read.config.get("attn_logit_softcapping", 50.0) is not None
    return read.finish(
        layers=layers,
        hidden=hidden,
        heads=heads,
        head_size=size,
        kv_heads=read.count("num_key_value_heads", 4),
        max_tokens=max_tokens,
        intermediate=read.count("intermediate_size"),
        norm="pre",
        norm_eps=read.epsilon("rms_norm_eps", 1e-6),
        rms=True,
        activation=read.activation("hidden_activation", "gelu_pytorch_tanh"),
        pooling="last" if causal else "mean",
        causal=causal,
        plan=plan,
        scale=read.real("query_pre_attn_scalar", 256) ** -0.5,
        softcap=read.real("attn_logit_softcapping", 50.0) if capped else 0.0,
    )


def _windows(read: Reader, layers: int, *, causal: bool) -> list[int | None]:
    """How many tokens each layer sees, itself included; None for all."""
    kinds = read.config.get("layer_types") or (["sliding_attention", "full_attention"] * layers)[:layers]
    if len(kinds) != layers or not set(kinds) <= {"sliding_attention", "full_attention"}:
        raise read.error(f"layer_types is {kinds!r:.80}, expected sliding_attention or full_attention for {layers}")
    # to both sides the library counts the token itself besides
    window = read.count("sliding_window", 4096) + (not causal)
    return [window if kind == "sliding_attention" else None for kind in kinds]
