"""Decoders as embedding models, causal or seeing both sides, and encoders that are built like them.

Llama, Mistral, Ministral, Qwen2, Qwen3, Gemma 3; EuroBERT (arXiv:2503.05500) and UltraBERT; NV-Embed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edge_embed_export.families.directions import check_windows, is_causal
from edge_embed_export.families.reader import Reader
from edge_embed_export.families.rope import FULL, SLIDING, add_tables, read_rope
from edge_embed_export.options import Pooling
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.positions import visible
from edge_embed_export.transformer.spec import LATENT, Layer, Spec, Weights

NORMS = {"attention_norm": "input_layernorm", "output_norm": "post_attention_layernorm"}
GEMMA_NORMS = {
    "attention_norm": "input_layernorm",
    "attention_post_norm": "post_attention_layernorm",
    "output_norm": "pre_feedforward_layernorm",
    "output_post_norm": "post_feedforward_layernorm",
}
ATTENTION = {"query": "self_attn.q_proj", "key": "self_attn.k_proj", "value": "self_attn.v_proj"}
FEED_FORWARD = {"up": "mlp.up_proj", "gate": "mlp.gate_proj", "down": "mlp.down_proj"}
# Heads of keys and values where config.json does not say it, as the library has it; else as many as of queries.
KEY_HEADS = {"mistral": 8, "ministral": 8, "qwen2": 32, "qwen3": 32}
# Names of poolings in the config of NVIDIA's models.
POOLINGS: dict[str, Pooling] = {"avg": "mean", "cls": "cls", "last": "last"}
ROTARY = {FULL: "global", SLIDING: "local"}


@dataclass(frozen=True)
class Window:
    """How many tokens a layer sees before and behind each; None means any number."""

    before: int | None = None
    after: int | None = None

    def within(self, tokens: int) -> "Window":
        """None where no text is so long."""
        return Window(*(None if side is None or side >= tokens - 1 else side for side in (self.before, self.after)))


@dataclass(frozen=True)
class Style:
    """What tells one family of decoders from another.

    normed: queries and keys have norms
    biased: queries, keys and values have biases whatever config.json says
    gemma:  norms around both parts of a layer, their weights stored less 1, and a larger embedding table
    kinds:  of layers, where each kind has a rotary embedding of its own; bases: by kind (see `read_rope`)
    size, key_heads, eps: where config.json does not say it
    """

    normed: bool = False
    biased: bool = False
    gemma: bool = False
    kinds: Sequence[str] = ()
    bases: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    size: int | None = None
    key_heads: int | None = None
    eps: float = 1e-6
    softcap: float = 0.0


PLAIN = Style()


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    """Llama, Mistral, Ministral, Qwen2 and Qwen3."""
    read = Reader(checkpoint, "embed_tokens.weight")
    kind = str(read.config.get("model_type"))
    causal, widths = is_causal(read), _widths(read, kind)
    if not causal:
        widths = check_windows(read, widths, read.reach(read.count("max_position_embeddings")))
    normed = kind == "qwen3"
    style = Style(normed, biased=kind == "qwen2", size=128 if normed else None, key_heads=KEY_HEADS.get(kind))
    return read_layers(read, [sides(width, causal) for width in widths], style, causal=causal)


def read_encoder(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    """EuroBERT: like Llama, but every token sees all others. The code in its folder is what the library has."""
    read = Reader(checkpoint, "embed_tokens.weight")
    return read_layers(read, [Window()] * read.depth(), Style(eps=1e-5), causal=False)


def read_ultrabert(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    """UltraBERT: EuroBERT with windows in two of three layers, which have a base of their own."""
    read = Reader(checkpoint, "embed_tokens.weight")
    read.refuse(attention_windows=None)  # of its first releases
    layers, width = read.depth(), read.count("sliding_window", 128)
    kinds = read.kinds(layers, [FULL if (i + 1) % 3 == 0 else SLIDING for i in range(layers)])
    windows = [Window(width, width) if kind == SLIDING else Window() for kind in kinds]
    bases = {FULL: (2_560_000.0, "rope_theta"), SLIDING: (10_000.0, "rope_theta")}
    return read_layers(read, windows, Style(kinds=kinds, bases=bases), causal=False)


def read_gemma(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    """Gemma 3: norms around both parts of a layer, their weights stored less 1, windows in most layers."""
    read = Reader(checkpoint, "embed_tokens.weight")
    read.refuse(attn_logit_softcapping=None)
    layers, causal = read.depth(), is_causal(read, obeyed=True)
    every = read.count("_sliding_window_pattern", read.count("sliding_window_pattern", 6))
    kinds = read.kinds(layers, [FULL if (i + 1) % every == 0 else SLIDING for i in range(layers)])
    width = read.count("sliding_window", 4096)
    # the window of models that see both sides is given as a whole, half of it to each side
    local = Window(width - 1, 0) if causal else Window(width // 2, width // 2)
    windows = [local if kind == SLIDING else Window(None, 0 if causal else None) for kind in kinds]
    bases = {FULL: (1_000_000.0, "rope_theta"), SLIDING: (10_000.0, "rope_local_base_freq")}
    return read_layers(read, windows, Style(normed=True, gemma=True, kinds=kinds, bases=bases, size=256), causal=causal)


def read_nvembed(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    """NV-Embed (arXiv:2405.17428): Mistral seeing both sides; its tokens attend to latents before they are pooled."""
    text = checkpoint.config.get("text_config")
    read = Reader(checkpoint, "embed_tokens.weight", text if isinstance(text, dict) else checkpoint.config)
    latent = checkpoint.config.get("latent_attention_config")
    numbers = Reader(checkpoint, "latents", latent if isinstance(latent, dict) else {})
    heads, size = numbers.count("num_cross_heads", 8), numbers.count("cross_dim_head", 4096)
    spec, weights = read_layers(read, [Window()] * read.depth(), causal=False)
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


def sides(width: int | None, causal: bool) -> Window:
    """A window of the library's decoders: of so many tokens, or so many to each side of a token."""
    if causal:
        return Window(None if width is None else width - 1, 0)
    return Window(width, width)


def _widths(read: Reader, kind: str) -> list[int | None]:
    """The window of each layer in tokens; None for none."""
    layers = read.depth()
    if kind not in ("mistral", "ministral", "qwen2", "qwen3"):
        return [None] * layers  # the library's Llama has no windows, whatever its config says
    asked = not kind.startswith("qwen") or bool(read.config.get("use_sliding_window"))
    # where the key is missing the library takes 4096, where it is null there are no windows
    said = read.config.get("sliding_window", 4096)
    width = read.count("sliding_window", 4096) if asked and said else None
    if kind == "mistral":
        return [width] * layers
    first = (0 if kind == "ministral" else read.count("max_window_layers", 28)) if width else layers
    kinds = read.kinds(layers, [SLIDING if i >= first else FULL for i in range(layers)])
    if width is None and SLIDING in kinds:
        raise read.error(
            f"layer_types has {SLIDING!r}, and sliding_window or use_sliding_window says that there is none"
        )
    return [width if kind == SLIDING else None for kind in kinds]


def read_layers(read: Reader, windows: list[Window], style: Style = PLAIN, *, causal: bool) -> tuple[Spec, Weights]:
    """The weights, and the spec. windows: what each layer sees"""
    hidden, heads, layers = read.count("hidden_size"), read.count("num_attention_heads"), read.depth()
    size = read.count("head_dim", style.size or hidden // heads)
    max_tokens = read.reach(read.count("max_position_embeddings"))
    _layers(read, layers, style)
    _rotary(read, size, max_tokens, style)
    tables = [table(read, window.within(max_tokens), max_tokens) for window in windows]
    kinds = style.kinds or [FULL] * layers
    name, usual = ("hidden_activation", "gelu_pytorch_tanh") if style.gemma else ("hidden_act", "silu")
    return read.finish(
        layers=layers,
        head_size=size,
        kv_heads=read.count("num_key_value_heads", style.key_heads or heads),
        max_tokens=max_tokens,
        norm="pre",
        norm_eps=read.epsilon("rms_norm_eps", style.eps),
        rms=True,
        activation=read.activation(name, usual),
        pooling=_pooling(read, causal),
        causal=causal,
        plan=tuple(Layer(i, bias=tables[i], rotary=ROTARY[kinds[i]]) for i in range(layers)),
        softcap=style.softcap,
        **({"scale": read.real("query_pre_attn_scalar", 256) ** -0.5} if style.gemma else {}),
    )


def _rotary(read: Reader, size: int, max_tokens: int, style: Style) -> None:
    """The tables of the rotary embedding: one for all layers, or one for each kind of them."""
    if not style.bases:
        add_tables(read, "global", read_rope(read, size), max_tokens)
    for kind, (theta, key) in style.bases.items():
        rope = read_rope(read, size, theta=theta, key=key, kind=kind, scaled=kind == FULL)
        if kind in style.kinds:
            add_tables(read, ROTARY[kind], rope, max_tokens)


def _pooling(read: Reader, causal: bool) -> Pooling:
    """What is usual, where sentence-transformers' files do not say it; NVIDIA's config.json does."""
    said = read.config.get("pooling") if read.config.get("model_type") == "llama_bidirec" else None
    if said is not None and said not in POOLINGS:
        raise read.error(f"config.json: pooling is {said!r:.40}, expected one of {tuple(POOLINGS)}")
    return POOLINGS[said] if said is not None else "last" if causal else "mean"


def _layers(read: Reader, layers: int, style: Style) -> None:
    words, offset = read.words("embed_tokens.weight"), 1.0 if style.gemma else 0.0
    root = np.float32(math.sqrt(read.count("hidden_size")))
    read.weights["embedding.word"] = words * root if style.gemma else words
    everywhere, forward = bool(read.config.get("attention_bias")), bool(read.config.get("mlp_bias"))
    biases = {
        **dict.fromkeys(ATTENTION, style.biased or everywhere),
        "out": everywhere,
        **dict.fromkeys(FEED_FORWARD, forward),
    }
    norms: Mapping[str, str] = GEMMA_NORMS if style.gemma else NORMS
    if style.normed:
        norms = {**norms, "query_norm": "self_attn.q_norm", "key_norm": "self_attn.k_norm"}
    for i in range(layers):
        for ours, theirs in {**ATTENTION, "out": "self_attn.o_proj", **FEED_FORWARD}.items():
            read.linear(f"layers.{i}.{ours}", f"layers.{i}.{theirs}", bias=biases[ours])
        for ours, theirs in norms.items():
            read.norm(f"layers.{i}.{ours}", f"layers.{i}.{theirs}", bias=False, offset=offset)
    read.norm("final_norm", "norm", bias=False, offset=offset)


def table(read: Reader, window: Window, max_tokens: int) -> str | None:
    """The name of the table that hides what a layer does not see, made for the first layer that needs it."""
    if window == Window():
        return None
    name = "causal" if window == Window(None, 0) else "local"
    read.weights.setdefault(f"positions.{name}", visible(max_tokens, window.before, window.after))
    return name
