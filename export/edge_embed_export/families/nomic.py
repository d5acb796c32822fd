"""NomicBERT (arXiv:2402.01613; v2 with a mixture of experts: 2502.07972): rotary positions, gated or experts.

Its own code has config keys like GPT-2's and fused layers; the library, from transformers 5 on, BERT's keys and layers
apart. A folder may have either of both, in its config and in its tensors.
"""

from collections import ChainMap
from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_embed_export.families.reader import WORDS, Reader
from edge_embed_export.families.rope import Rope, add_tables, growing, read_rope
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.activations import Activation
from edge_embed_export.transformer.spec import Layer, Spec, Weights

# Those that end in "glu" are gated.
ACTIVATIONS: dict[str, Activation] = {"swiglu": "silu", "geglu": "gelu", "gelu": "gelu", "gelu_new": "gelu_tanh"}
# Keys of the library and of its own code for the same; where both are there they must agree.
KEYS = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "layer_norm_eps": "layer_norm_epsilon",
}
LIBRARY_LAYER = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "out": "self_attn.o_proj",
    "up": "mlp.up_proj",
    "gate": "mlp.gate_proj",
    "down": "mlp.down_proj",
}


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    read = Reader(checkpoint, WORDS)
    read.config = _one_spelling(read)
    own = is_own(checkpoint.config)
    read.refuse(prenorm=False, use_rms_norm=False, parallel_block=False, rotary_emb_interleaved=False)
    read.refuse(rotary_emb_fraction=1.0, rotary_emb_scale_base=None, expert_choice_router=False, num_shared_experts=0)
    read.refuse(moe_normalize_expert_weights=False, causal=False)
    activation = _activation(read, own=own)
    hidden, heads, layers = read.count("hidden_size"), read.count("num_attention_heads"), read.depth()
    size = hidden // heads
    if not own:
        size = read.count("head_dim", size)
    context = read.count("max_position_embeddings", read.count("n_positions", 8192 if own else 2048))
    max_tokens = read.reach(context)
    typed = bool(read.config.get("type_vocab_size", 2))
    read.embed("embeddings.LayerNorm" if read.of_library else "emb_ln", types=typed)
    every = read.config.get("moe_every_n_layers") or 0
    for i in range(layers):
        if read.of_library:
            _library_layer(read, i)
        else:
            _layer(read, i, own=own, experts=bool(every) and i % every == 1)
    add_tables(read, "all", _rope(read, size, own=own), max_tokens)
    return read.finish(
        layers=layers,
        hidden=hidden,
        heads=heads,
        head_size=size if size != hidden // heads else 0,
        max_tokens=max_tokens,
        intermediate=read.count("intermediate_size", 4 * hidden),
        norm_eps=read.epsilon("layer_norm_eps", 1e-12),
        activation=activation,
        plan=tuple(Layer(i, rotary="all") for i in range(layers)),
        active=read.count("moe_top_k", 1),
    )


def is_own(config: Mapping[str, Any]) -> bool:
    """Whether config.json is one of the model's own code."""
    return "n_embd" in config


def _one_spelling(read: Reader) -> ChainMap[str, Any]:
    """The config under the library's keys."""
    renamed = {}
    for ours, theirs in KEYS.items():
        new, old = read.config.get(ours), read.config.get(theirs)
        if new is not None and old is not None and new != old:
            raise read.error(f"config.json: {ours} is {new!r:.40} and {theirs} {old!r:.40}: expected the same")
        renamed[ours] = old if new is None else new
    return ChainMap({ours: value for ours, value in renamed.items() if value is not None}, read.checkpoint.config)


def _activation(read: Reader, *, own: bool) -> Activation:
    if own:
        return read.known(ACTIVATIONS, str(read.config.get("activation_function", "swiglu")))
    return read.activation("hidden_act", "silu")


def _rope(read: Reader, size: int, *, own: bool) -> Rope:
    """Its own code lets the base grow with a text that is longer than those it was trained with (dynamic NTK).

    That code keeps the angles of the longest text so far; here each text is as if it were the first.
    """
    rope = read_rope(read, size, theta=10000.0 if own else 1000.0, key="rotary_emb_base")
    if read.config.get("rotary_scaling_factor") is None:
        return rope
    if rope.stretch is not None or rope.factor != 1:
        raise read.error("config.json has rotary_scaling_factor and another scaling: expected one of both")
    trained = read.count("max_trained_positions", 2048)
    return Rope(rope.angles, stretch=growing(rope.angles, trained, read.real("rotary_scaling_factor")))


def _library_layer(read: Reader, i: int) -> None:
    for ours, theirs in LIBRARY_LAYER.items():
        read.linear(f"layers.{i}.{ours}", f"layers.{i}.{theirs}", bias=False)
    read.norm(f"layers.{i}.attention_norm", f"layers.{i}.post_attention_layernorm")
    read.norm(f"layers.{i}.output_norm", f"layers.{i}.post_mlp_layernorm")


def _layer(read: Reader, i: int, *, own: bool, experts: bool) -> None:
    ours, theirs = f"layers.{i}", f"encoder.layers.{i}"
    bias = bool(read.config.get("qkv_proj_bias", own))
    read.split([f"{ours}.{part}" for part in ("query", "key", "value")], f"{theirs}.attn.Wqkv", bias=bias)
    read.linear(f"{ours}.out", f"{theirs}.attn.out_proj", bias=bias)
    read.norm(f"{ours}.attention_norm", f"{theirs}.norm1")
    read.norm(f"{ours}.output_norm", f"{theirs}.norm2")
    first, second = (bool(read.config.get(f"mlp_fc{number}_bias", own)) for number in (1, 2))
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
