"""MPNet (arXiv:2004.09297): absolute positions, and T5's relative ones, one table for all layers."""

from edge_embed_export.families.reader import WORDS, Reader
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.positions import relative
from edge_embed_export.transformer.spec import Layer, Spec, Weights

LAYER = {
    "query": "attention.attn.q",
    "key": "attention.attn.k",
    "value": "attention.attn.v",
    "out": "attention.attn.o",
    "up": "intermediate.dense",
    "down": "output.dense",
    "attention_norm": "attention.LayerNorm",
    "output_norm": "output.LayerNorm",
}
# Positions are counted from behind the index of the padding token, which is 1 in all models.
FIRST_POSITION = 2
FURTHEST = 128


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    read = Reader(checkpoint, WORDS)
    table = read.tensor("embeddings.position_embeddings.weight", 2)[FIRST_POSITION:]
    max_tokens = min(checkpoint.max_tokens or len(table), len(table))
    read.embed(positions=table)
    bias = read.tensor("encoder.relative_attention_bias.weight", 2)
    if len(bias) != read.count("relative_attention_num_buckets", 32):
        raise read.error(f"encoder.relative_attention_bias.weight has {len(bias)} buckets, the config says otherwise")
    read.weights["positions.all"] = relative(bias, max_tokens, FURTHEST)
    layers = read.layers(LAYER, "encoder.layer.{}")
    return read.finish(
        layers=layers,
        max_tokens=max_tokens,
        norm_eps=read.epsilon("layer_norm_eps", 1e-12),
        activation=read.activation("hidden_act", "gelu"),
        plan=tuple(Layer(i, bias="all") for i in range(layers)),
    )
