"""DistilBERT (arXiv:1910.01108): BERT without token types, under other names."""

from collections import ChainMap
from typing import Any

from edge_embed_export.families.reader import WORDS, Reader
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.spec import Spec, Weights

LAYER = {
    "query": "attention.q_lin",
    "key": "attention.k_lin",
    "value": "attention.v_lin",
    "out": "attention.out_lin",
    "up": "ffn.lin1",
    "down": "ffn.lin2",
    "attention_norm": "sa_layer_norm",
    "output_norm": "output_layer_norm",
}


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    renamed = {"num_hidden_layers": checkpoint.config.get("n_layers")}
    config: ChainMap[str, Any] = ChainMap(renamed, checkpoint.config)
    read = Reader(checkpoint, WORDS, config)
    table = read.tensor("embeddings.position_embeddings.weight", 2)
    read.embed(positions=table)
    return read.finish(
        layers=read.layers(LAYER, "transformer.layer.{}"),
        hidden=read.count("dim"),
        heads=read.count("n_heads"),
        max_tokens=min(checkpoint.max_tokens or len(table), len(table)),
        intermediate=read.count("hidden_dim"),
        activation=read.activation("activation", "gelu"),
    )
