"""GTE's own encoder (arXiv:2407.19669; model type "new", "gte" at Snowflake): rotary positions, gated, post-norm."""

from edge_embed_export.checkpoint import Checkpoint
from edge_embed_export.families.reading import Reader
from edge_embed_export.spec import Layer, Spec, Weights

LAYER = {
    "out": "attention.o_proj",
    "attention_norm": "attn_ln",
    "down": "mlp.down_proj",
    "output_norm": "mlp_ln",
}


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    read = Reader(checkpoint, "embeddings.word_embeddings.weight")
    read.refuse(layer_norm_type="layer_norm", position_embedding_type="rope", pack_qkv=True, logn_attention_scale=False)
    hidden, heads = read.count("hidden_size"), read.count("num_attention_heads")
    max_tokens = read.limit(read.count("max_position_embeddings"))
    types = "embeddings.token_type_embeddings.weight" if read.config.get("type_vocab_size") else None
    read.weights["embedding.word"] = read.words("embeddings.word_embeddings.weight", types)
    read.norm("embedding.norm", "embeddings.LayerNorm")
    layers = read.layers(LAYER, "encoder.layer.{}")
    for i in range(layers):
        theirs = f"encoder.layer.{i}"
        read.split([f"layers.{i}.{part}" for part in ("query", "key", "value")], f"{theirs}.attention.qkv_proj")
        read.split([f"layers.{i}.up", f"layers.{i}.gate"], f"{theirs}.mlp.up_gate_proj", bias=False)
    _rotary(read, hidden // heads, max_tokens)
    return read.finish(
        layers=layers,
        hidden=hidden,
        heads=heads,
        max_tokens=max_tokens,
        intermediate=read.count("intermediate_size"),
        norm_eps=read.epsilon("layer_norm_eps", 1e-12),
        activation=read.activation("hidden_act", "gelu"),
        pooling="cls",
        plan=tuple(Layer(i, rotary="all") for i in range(layers)),
    )


def _rotary(read: Reader, size: int, max_tokens: int) -> None:
    """NTK scaling: the base times the factor, and all angles divided by the factor's power 2 / size."""
    theta, divide = read.real("rope_theta", 10000.0), 1.0
    scaling = read.config.get("rope_scaling")
    if scaling is not None:
        factor = scaling.get("factor") if isinstance(scaling, dict) else None
        if (
            not isinstance(factor, int | float)
            or not factor > 0
            or scaling.get("type") != "ntk"
            or "mixed_b" in scaling
        ):
            raise read.error(f"rope_scaling {scaling!r:.80} is not supported (type ntk with a factor is)")
        theta, divide = theta * factor, factor ** (2 / size)
    read.rotary("all", theta, size, max_tokens, divide=divide)
