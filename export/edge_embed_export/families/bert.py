"""BERT (arXiv:1810.04805): absolute positions, post-norm, GELU."""

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.checkpoint import Checkpoint
from edge_embed_export.transformer import Activation, Spec, Weights
from edge_embed_runtime.errors import ExportError

# names of activations in transformers' configs -> ours
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
# torch classes of a Dense module's activation -> ours
DENSE_ACTIVATIONS: dict[str, Activation] = {
    "Tanh": "tanh",
    "Identity": "identity",
    "ReLU": "relu",
    "GELU": "gelu",
    "SiLU": "silu",
}
LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "out": "attention.output.dense",
    "up": "intermediate.dense",
    "down": "output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "output_norm": "output.LayerNorm",
}


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    config, tensor = checkpoint.config, checkpoint.tensor
    positions = config.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise ExportError(f"{checkpoint.folder}: BERT with {positions!r} positions is not supported (absolute is)")
    if config.get("is_decoder"):
        raise ExportError(f"{checkpoint.folder}: this BERT is a decoder; an encoder is expected")
    # every token of a text has type 0, so its vector is part of the position's
    token_type = tensor("embeddings.token_type_embeddings.weight")[:1]
    if len(token_type) != 1:
        raise ExportError(f"{checkpoint.folder}: the table of token types is empty")
    weights: dict[str, NDArray[np.float32]] = {
        "embedding.word": tensor("embeddings.word_embeddings.weight"),
        "embedding.position": tensor("embeddings.position_embeddings.weight") + token_type,
        "embedding.norm.weight": tensor("embeddings.LayerNorm.weight"),
        "embedding.norm.bias": tensor("embeddings.LayerNorm.bias"),
    }
    layers = checkpoint.count("num_hidden_layers")
    for i in range(layers):
        for ours, theirs in LAYER.items():
            weight = tensor(f"encoder.layer.{i}.{theirs}.weight")
            weights[f"layers.{i}.{ours}.weight"] = np.ascontiguousarray(weight.T)
            weights[f"layers.{i}.{ours}.bias"] = tensor(f"encoder.layer.{i}.{theirs}.bias")
    projections = []
    for i, dense in enumerate(checkpoint.dense):
        weights[f"projection.{i}.weight"] = dense.weight
        if dense.bias is not None:
            weights[f"projection.{i}.bias"] = dense.bias
        projections.append(_known(DENSE_ACTIVATIONS, dense.activation.rsplit(".", 1)[-1], checkpoint))
    hidden = checkpoint.count("hidden_size")
    table = len(weights["embedding.position"])
    spec = Spec(
        layers=layers,
        hidden=hidden,
        heads=checkpoint.count("num_attention_heads"),
        vocab=len(weights["embedding.word"]),
        max_tokens=min(checkpoint.max_tokens or table, table),
        intermediate=checkpoint.count("intermediate_size"),
        dim=checkpoint.dense[-1].weight.shape[1] if checkpoint.dense else hidden,
        norm_eps=_epsilon(config.get("layer_norm_eps", 1e-12), checkpoint),
        activation=_known(ACTIVATIONS, str(config.get("hidden_act", "gelu")), checkpoint),
        pooling=checkpoint.pooling,
        projections=tuple(projections),
    )
    return spec, weights


def _known(table: dict[str, Activation], name: str, checkpoint: Checkpoint) -> Activation:
    if name not in table:
        raise ExportError(
            f"{checkpoint.folder}: the activation {name!r} is not supported ({', '.join(sorted(table))} are)"
        )
    return table[name]


def _epsilon(value: object, checkpoint: Checkpoint) -> float:
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise ExportError(f"{checkpoint.folder}: layer_norm_eps is {value!r:.40}, expected a small positive number")
    return float(value)
