"""ALBERT (arXiv:1909.11942): narrow embeddings, and layers that share their weights."""

from edge_embed_export.families.reader import TYPES, WORDS, Reader
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.spec import Layer, Spec, Weights

LAYER = {
    "query": "attention.query",
    "key": "attention.key",
    "value": "attention.value",
    "out": "attention.dense",
    "up": "ffn",
    "down": "ffn_output",
    "attention_norm": "attention.LayerNorm",
    "output_norm": "full_layer_layer_norm",
}


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    read = Reader(checkpoint, WORDS)
    read.refuse(position_embedding_type="absolute")
    table = read.tensor("embeddings.position_embeddings.weight", 2)
    read.embed(positions=read.with_type(table, TYPES))
    read.linear("embedding.project", "encoder.embedding_hidden_mapping_in")
    layers, groups = read.depth(), read.count("num_hidden_groups", 1)
    inner = read.count("inner_group_num", 1)
    for group in range(groups):
        for i in range(inner):
            for ours, theirs in LAYER.items():
                name = f"encoder.albert_layer_groups.{group}.albert_layers.{i}.{theirs}"
                into = f"layers.{group * inner + i}.{ours}"
                (read.norm if ours.endswith("norm") else read.linear)(into, name)
    # layer by layer the group that its place in the whole falls into, and of that group every layer
    plan = tuple(Layer(n * groups // layers * inner + i) for n in range(layers) for i in range(inner))
    return read.finish(
        layers=layers,
        max_tokens=min(checkpoint.max_tokens or len(table), len(table)),
        norm_eps=read.epsilon("layer_norm_eps", 1e-12),
        activation=read.activation("hidden_act", "gelu_new"),
        plan=plan,
    )
