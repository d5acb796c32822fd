"""Decoders as embedding models: Llama, Mistral, Qwen2, Qwen3 and Gemma 3, causal or seeing both sides."""

import math
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edge_embed_export.checkpoint import Checkpoint
from edge_embed_export.families.reading import Reader
from edge_embed_export.positions import frequencies, rotary, visible
from edge_embed_export.purpose import check_own_code
from edge_embed_export.spec import LATENT, Layer, Spec, Weights

NORMS = {"attention_norm": "input_layernorm", "output_norm": "post_attention_layernorm"}
GEMMA_NORMS = {
    "attention_norm": "input_layernorm",
    "attention_post_norm": "post_attention_layernorm",
    "output_norm": "pre_feedforward_layernorm",
    "output_post_norm": "post_feedforward_layernorm",
}
ATTENTION = {"query": "self_attn.q_proj", "key": "self_attn.k_proj", "value": "self_attn.v_proj"}
FEED_FORWARD = {"up": "mlp.up_proj", "gate": "mlp.gate_proj", "down": "mlp.down_proj"}


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    """Llama, Mistral, Qwen2 and Qwen3."""
    read = Reader(checkpoint, "embed_tokens.weight")
    kind = str(read.config.get("model_type"))
    spec, weights = _read(read, windows=_windows(read, kind), normed=kind == "qwen3", biased=kind == "qwen2")
    return spec, weights


def read_gemma(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    """Gemma 3: norms around both parts of a layer, their weights stored less 1, windows in most layers."""
    read = Reader(checkpoint, "embed_tokens.weight")
    read.refuse(attn_logit_softcapping=None)
    every = read.count("_sliding_window_pattern", read.count("sliding_window_pattern", 6))
    kinds = read.config.get("layer_types") or [
        "full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(read.depth())
    ]
    window = read.count("sliding_window", 4096)
    if not _causal(read):  # half of it to each side
        window = window // 2 + 1
    windows = [window if kind == "sliding_attention" else None for kind in kinds]
    spec, weights = _read(read, windows=windows, normed=True, biased=False, gemma=True)
    factor = np.float32(math.sqrt(spec.hidden))
    return spec, {**weights, "embedding.word": weights["embedding.word"] * factor}


def read_nvembed(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    """NV-Embed (arXiv:2405.17428): Mistral seeing both sides; its tokens attend to latents before they are pooled."""
    text = checkpoint.config.get("text_config")
    config = text if isinstance(text, dict) else checkpoint.config
    read = Reader(checkpoint, "embed_tokens.weight", ChainMap({"is_causal": False}, config))
    latent = checkpoint.config.get("latent_attention_config")
    numbers = Reader(checkpoint, "latents", latent if isinstance(latent, dict) else {})
    heads, size = numbers.count("num_cross_heads", 8), numbers.count("cross_dim_head", 4096)
    spec, weights = _read(read, windows=[None] * read.depth(), normed=False, biased=False)
    _latent(numbers, heads, size)
    spec = replace(spec, latent_heads=heads, latent_size=size, pooling=checkpoint.pooling or "mean")
    return spec, {**weights, **numbers.weights}


def _latent(read: Reader, heads: int, size: int) -> None:
    """Keys and values are what the latents give, the same for every text."""
    attend, forward = "cross_attend_blocks.0", "cross_attend_blocks.1"
    latents = read.tensor("latents", 2)
    read.norm("context", f"{attend}.norm_context")
    centred = latents - latents.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + np.float32(1e-5))
    context = centred / spread * read.weights.pop("context.weight") + read.weights.pop("context.bias")
    both = context @ read.tensor(f"{attend}.fn.to_kv.weight", 2).T
    if both.shape[1] != 2 * heads * size:
        raise read.error(f"{attend}.fn.to_kv.weight gives {both.shape[1]} numbers, the config says {2 * heads * size}")
    for part, rows in zip(("keys", "values"), np.split(both, 2, axis=1), strict=True):
        read.weights[f"{LATENT}.{part}"] = np.ascontiguousarray(rows.reshape(-1, heads, size).swapaxes(0, 1))
    read.linear(f"{LATENT}.query", f"{attend}.fn.to_q", bias=False)
    read.linear(f"{LATENT}.out", f"{attend}.fn.to_out", bias=False)
    read.norm(f"{LATENT}.attention_norm", f"{attend}.norm")
    read.norm(f"{LATENT}.output_norm", f"{forward}.norm")
    read.split([f"{LATENT}.up", f"{LATENT}.gate"], f"{forward}.fn.net.0")
    read.linear(f"{LATENT}.down", f"{forward}.fn.net.2")


def _causal(read: Reader) -> bool:
    """Whether tokens see those before them alone: models made for embedding say in several ways that they do not."""
    config = read.config
    both = config.get("use_bidirectional_attention") or config.get("is_causal") is False
    remote = config.get("auto_map")
    if both or "gritlm" in str(remote).lower() or "bidirec" in str(config.get("model_type")):
        return False
    check_own_code(read.checkpoint.folder, config)
    return True


def _windows(read: Reader, kind: str) -> list[int | None]:
    """How many tokens each layer sees, itself included; None for all."""
    layers = read.depth()
    window = read.count("sliding_window", 4096) if read.config.get("sliding_window") else None
    if kind == "mistral":
        return [window] * layers
    if not read.config.get("use_sliding_window"):  # without it none has a window, whatever layer_types says
        window = None
    kinds = read.config.get("layer_types")
    if isinstance(kinds, list) and len(kinds) == layers:
        return [window if name == "sliding_attention" else None for name in kinds]
    first = read.count("max_window_layers", 28) if read.config.get("use_sliding_window") else layers
    return [window if i >= first else None for i in range(layers)]


def _read(
    read: Reader, *, windows: list[int | None], normed: bool, biased: bool, gemma: bool = False
) -> tuple[Spec, Weights]:
    hidden, heads, layers = read.count("hidden_size"), read.count("num_attention_heads"), read.depth()
    size = read.count("head_dim", hidden // heads)
    max_tokens, causal = read.limit(read.count("max_position_embeddings")), _causal(read)
    if len(windows) != layers:
        raise read.error(f"layer_types has {len(windows)} entries for {layers} layers")
    read.weights["embedding.word"] = read.words("embed_tokens.weight")
    offset = 1.0 if gemma else 0.0
    for i in range(layers):
        for ours, theirs in {**ATTENTION, "out": "self_attn.o_proj", **FEED_FORWARD}.items():
            bias = ours in ATTENTION and (biased or bool(read.config.get("attention_bias")))
            bias = bias or (ours == "out" and bool(read.config.get("attention_bias")))
            bias = bias or (ours in FEED_FORWARD and bool(read.config.get("mlp_bias")))
            read.linear(f"layers.{i}.{ours}", f"layers.{i}.{theirs}", bias=bias)
        norms: Mapping[str, str] = GEMMA_NORMS if gemma else NORMS
        if normed:
            norms = {**norms, "query_norm": "self_attn.q_norm", "key_norm": "self_attn.k_norm"}
        for ours, theirs in norms.items():
            read.norm(f"layers.{i}.{ours}", f"layers.{i}.{theirs}", bias=False, offset=offset)
    read.norm("final_norm", "norm", bias=False, offset=offset)
    plan = tuple(_layer(read, i, window, causal, gemma, size, max_tokens) for i, window in enumerate(windows))
    fields: dict[str, Any] = {"scale": read.real("query_pre_attn_scalar", 256) ** -0.5} if gemma else {}
    return read.finish(
        layers=layers,
        hidden=hidden,
        heads=heads,
        head_size=size,
        kv_heads=read.count("num_key_value_heads", heads),
        max_tokens=max_tokens,
        intermediate=read.count("intermediate_size"),
        norm="pre",
        norm_eps=read.epsilon("rms_norm_eps", 1e-6),
        rms=True,
        activation=read.activation("hidden_activation" if gemma else "hidden_act", "silu"),
        pooling="last" if causal else "mean",
        causal=causal,
        plan=plan,
        **fields,
    )


def _layer(read: Reader, i: int, window: int | None, causal: bool, gemma: bool, size: int, max_tokens: int) -> Layer:
    """The layer's tables, made for the first layer that needs them."""
    local = window is not None and window <= max_tokens
    bias = None
    if causal or local:
        bias = "local" if local else "causal"
        before = window - 1 if local and window is not None else None
        read.weights.setdefault(f"positions.{bias}", visible(max_tokens, before, 0 if causal else before))
    name = "local" if gemma and window is not None else "global"
    if f"rotary.{name}.cos" not in read.weights:
        if name == "local":  # local layers have a base of their own, without scaling
            read.rotary(name, read.real("rope_local_base_freq", 10000.0), size, max_tokens)
        else:
            cos, sin = rotary(_angles(read, size), max_tokens)
            read.weights |= {f"rotary.{name}.cos": cos, f"rotary.{name}.sin": sin}
    return Layer(i, bias=bias, rotary=name)


def _angles(read: Reader, size: int) -> Any:
    """Angles per token, with the scaling of longer contexts where the config asks for it."""
    angles = frequencies(size, read.real("rope_theta", 10000.0))
    scaling = read.config.get("rope_scaling") or {}
    if not isinstance(scaling, Mapping):
        raise read.error(f"rope_scaling {scaling!r:.80} is not supported")
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return angles
    numbers = Reader(read.checkpoint, "", scaling)
    factor = numbers.real("factor")
    if kind == "linear":
        return angles / factor
    if kind != "llama3":
        raise read.error(f"rope_scaling of type {kind!r} is not supported (linear and llama3 are)")
    # Llama 3: long waves are divided by the factor, short ones are kept, those between are mixed
    turns = numbers.real("original_max_position_embeddings") * angles / (2 * math.pi)
    low, high = numbers.real("low_freq_factor"), numbers.real("high_freq_factor")
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return kept * angles + (1 - kept) * angles / factor
