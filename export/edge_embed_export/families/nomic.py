"""NomicBERT (arXiv:2402.01613; v2 with a mixture of experts: 2502.07972): rotary positions, gated or experts."""

from collections import ChainMap
from typing import Any

import numpy as np

from edge_embed_export.checkpoint import Checkpoint
from edge_embed_export.families.reading import Reader
from edge_embed_export.spec import Activation, Layer, Spec, Weights

# Those that end in "glu" are gated.
ACTIVATIONS: dict[str, Activation] = {"swiglu": "silu", "geglu": "gelu", "gelu": "gelu", "gelu_new": "gelu_tanh"}


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    names = {"num_hidden_layers": "n_layer", "hidden_size": "n_embd", "num_attention_heads": "n_head"}
    renamed = {ours: checkpoint.config.get(theirs) for ours, theirs in names.items()}
    config: ChainMap[str, Any] = ChainMap(renamed, checkpoint.config)
    read = Reader(checkpoint, "embeddings.word_embeddings.weight", config)
    read.refuse(prenorm=False, use_rms_norm=False, parallel_block=False, rotary_emb_interleaved=False)
    read.refuse(rotary_emb_fraction=1.0, rotary_emb_scale_base=None, expert_choice_router=False, num_shared_experts=0)
    read.refuse(moe_normalize_expert_weights=False)
    kind = read.known(ACTIVATIONS, str(read.config.get("activation_function", "swiglu")))
    hidden, heads, layers = read.count("hidden_size"), read.count("num_attention_heads"), read.depth()
    max_tokens = read.limit(read.count("n_positions", 8192))
    types = "embeddings.token_type_embeddings.weight"
    read.weights["embedding.word"] = read.words(
        "embeddings.word_embeddings.weight", types if read.config.get("type_vocab_size") else None
    )
    read.norm("embedding.norm", "emb_ln")
    every = read.config.get("moe_every_n_layers") or 0
    for i in range(layers):
        _layer(read, i, experts=bool(every) and i % every == 1)
    read.rotary("all", read.real("rotary_emb_base", 10000.0), hidden // heads, max_tokens)
    return read.finish(
        layers=layers,
        hidden=hidden,
        heads=heads,
        max_tokens=max_tokens,
        intermediate=read.count("n_inner", 4 * hidden),
        norm_eps=read.epsilon("layer_norm_epsilon", 1e-12),
        activation=kind,
        plan=tuple(Layer(i, rotary="all") for i in range(layers)),
        active=read.count("moe_top_k", 1),
    )


def _layer(read: Reader, i: int, experts: bool) -> None:
    ours, theirs = f"layers.{i}", f"encoder.layers.{i}"
    bias = bool(read.config.get("qkv_proj_bias", True))
    read.split([f"{ours}.{part}" for part in ("query", "key", "value")], f"{theirs}.attn.Wqkv", bias=bias)
    read.linear(f"{ours}.out", f"{theirs}.attn.out_proj", bias=bias)
    read.norm(f"{ours}.attention_norm", f"{theirs}.norm1")
    read.norm(f"{ours}.output_norm", f"{theirs}.norm2")
    first, second = (bool(read.config.get(f"mlp_fc{number}_bias", True)) for number in (1, 2))
    if experts:
        _experts(read, ours, f"{theirs}.mlp")
        return
    if str(read.config.get("activation_function", "swiglu")).endswith("glu"):
        read.linear(f"{ours}.up", f"{theirs}.mlp.fc11", bias=first)
        read.linear(f"{ours}.gate", f"{theirs}.mlp.fc12", bias=first)
    else:
        read.linear(f"{ours}.up", f"{theirs}.mlp.fc1", bias=first)
    read.linear(f"{ours}.down", f"{theirs}.mlp.fc2", bias=second)


def _experts(read: Reader, ours: str, theirs: str) -> None:
    """The experts are stored one below the other, both layers of each with the inner numbers first."""
    count = read.count("num_experts")
    read.linear(f"{ours}.router", f"{theirs}.router.layer", bias=False)
    read.weights[f"{ours}.experts.bias"] = read.tensor(f"{theirs}.experts.bias", 1)
    for part, name in (("up", "w1"), ("down", "w2")):
        whole = read.tensor(f"{theirs}.experts.mlp.{name}", 2)
        if len(whole) % count or read.weights[f"{ours}.router.weight"].shape[1] != count:
            raise read.error(f"{theirs} has experts of shape {whole.shape}, which are not {count} of one size")
        for e, weight in enumerate(np.split(whole, count)):
            stored = weight.T if part == "up" else weight
            read.weights[f"{ours}.experts.{e}.{part}.weight"] = np.ascontiguousarray(stored)
