"""T5's encoder (arXiv:1910.10683): relative positions alone, RMS norm, no biases. mT5, umT5, CodeT5+ embedding."""

from dataclasses import replace

from edge_embed_export.families.reader import Reader
from edge_embed_export.modules.listed import linear
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.positions import relative
from edge_embed_export.transformer.spec import Array, Layer, Spec, Weights

ATTENTION = {"query": "q", "key": "k", "value": "v", "out": "o"}


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    read = Reader(checkpoint, "encoder.block.0.layer.0.SelfAttention.q.weight")
    hidden, heads = read.count("d_model"), read.count("num_heads")
    layers = read.depth("num_layers")
    max_tokens = read.limit(read.count("n_positions", 512))
    # the table is the encoder's own or the one that it shares with a decoder
    table = next((name for name in ("shared", "encoder.embed_tokens") if read.has(f"{name}.weight")), "shared")
    read.weights["embedding.word"] = read.words(f"{table}.weight")
    kind = str(read.config.get("feed_forward_proj", "relu" if checkpoint.architecture == "t5" else "gated-gelu"))
    gated = kind.startswith("gated-")
    # the first gated models were trained with the approximation
    activation = "gelu_new" if kind == "gated-gelu" else kind.removeprefix("gated-")
    for i in range(layers):
        ours, theirs = f"layers.{i}", f"encoder.block.{i}.layer"
        for part, name in ATTENTION.items():
            read.linear(f"{ours}.{part}", f"{theirs}.0.SelfAttention.{name}", bias=False)
        read.norm(f"{ours}.attention_norm", f"{theirs}.0.layer_norm", bias=False)
        inner = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if gated else {"up": "wi", "down": "wo"}
        for part, name in inner.items():
            read.linear(f"{ours}.{part}", f"{theirs}.1.DenseReluDense.{name}", bias=False)
        read.norm(f"{ours}.output_norm", f"{theirs}.1.layer_norm", bias=False)
    read.norm("final_norm", "encoder.final_layer_norm", bias=False)
    # umT5's layers have a table each (arXiv:2304.09151)
    tables = [f"layer{i}" for i in range(layers)] if checkpoint.architecture == "umt5" else ["all"]
    for i, name in enumerate(tables):
        read.weights[f"positions.{name}"] = _relative(read, i, heads, max_tokens)
    return read.finish(
        layers=layers,
        hidden=hidden,
        heads=heads,
        head_size=read.count("d_kv"),
        max_tokens=max_tokens,
        intermediate=read.count("d_ff"),
        norm="pre",
        norm_eps=read.epsilon("layer_norm_epsilon", 1e-6),
        rms=True,
        activation=read.activation("", activation),
        scale=1.0,
        plan=tuple(Layer(i, bias=tables[i % len(tables)]) for i in range(layers)),
    )


def _relative(read: Reader, layer: int, heads: int, max_tokens: int) -> Array:
    bias = read.tensor(f"encoder.block.{layer}.layer.0.SelfAttention.relative_attention_bias.weight", 2)
    if bias.shape != (read.count("relative_attention_num_buckets", 32), heads):
        raise read.error(f"the relative attention bias has shape {bias.shape}, the config says otherwise")
    return relative(bias, max_tokens, read.count("relative_attention_max_distance", 128))


def read_codet5p(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    """CodeT5+ embedding: its first token goes through a layer of its own."""
    own = Reader(checkpoint, "proj.weight")
    own_layer = linear(own.tensor("proj.weight", 2), own.tensor("proj.bias", 1))
    return read(replace(checkpoint, after=(own_layer, *checkpoint.after), pooling=checkpoint.pooling or "cls"))
