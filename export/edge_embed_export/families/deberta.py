"""DeBERTa v2 and v3 (arXiv:2006.03654, 2111.09543): scores of contents and of relative positions are added up."""

import numpy as np

from edge_embed_export.checkpoint import Checkpoint
from edge_embed_export.families import bert
from edge_embed_export.families.reading import Reader
from edge_embed_export.spec import WHOLE, Spec, Weights

SELF = "attention.self"
LAYER = bert.LAYER | {part: f"{SELF}.{part}_proj" for part in ("query", "key", "value")}


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    read = Reader(checkpoint, "embeddings.word_embeddings.weight")
    read.refuse(conv_kernel_size=0, relative_attention=True)
    _embeddings(read)
    hidden, heads = read.count("hidden_size"), read.count("num_attention_heads")
    layers = read.layers(LAYER, "encoder.layer.{}")
    kinds = read.config.get("pos_att_type") or []
    kinds = kinds.split("|") if isinstance(kinds, str) else kinds
    if hidden % heads or not set(kinds) <= {"c2p", "p2c"}:
        raise read.error(f"hidden size {hidden} over {heads} heads with positions {kinds} is not supported")
    furthest = read.config.get("max_relative_positions", -1)
    furthest = furthest if isinstance(furthest, int) and furthest > 0 else read.count("max_position_embeddings")
    buckets = read.config.get("position_buckets", -1)
    logarithmic = isinstance(buckets, int) and buckets > 0
    span = buckets if logarithmic else furthest
    scale = (hidden // heads * (1 + len(kinds))) ** -0.5
    _positions(read, kinds, span, heads, scale)
    return read.finish(
        layers=layers,
        hidden=hidden,
        heads=heads,
        # texts beyond what it was trained on share the last bucket; its scores are computed all at a time
        max_tokens=min(read.limit(read.count("max_position_embeddings")), WHOLE),
        intermediate=read.count("intermediate_size"),
        norm_eps=read.epsilon("layer_norm_eps", 1e-7),
        activation=read.activation("hidden_act", "gelu"),
        scale=scale,
        buckets=(span, furthest if logarithmic else 0),
    )


def _embeddings(read: Reader) -> None:
    """Tables in the width of the model, and the norm of their sum."""
    tables = {"embedding.word": read.words("embeddings.word_embeddings.weight")}
    types = "embeddings.token_type_embeddings.weight"
    if read.config.get("type_vocab_size"):
        tables["embedding.word"] = read.words("embeddings.word_embeddings.weight", types)
    if read.config.get("position_biased_input", True):
        tables["embedding.position"] = read.tensor("embeddings.position_embeddings.weight", 2)
    if read.has("embeddings.embed_proj.weight"):  # before the norm, so it can be part of the tables
        project = read.tensor("embeddings.embed_proj.weight", 2).T
        tables = {name: table @ project for name, table in tables.items()}
    read.weights |= tables
    read.norm("embedding.norm", "embeddings.LayerNorm")


def _positions(read: Reader, kinds: list[str], span: int, heads: int, scale: float) -> None:
    """Keys and queries of relative positions, [heads, 2 * span, size]: what each layer makes of the one table."""
    table = read.tensor("encoder.rel_embeddings.weight", 2)
    if len(table) < 2 * span:
        raise read.error(f"encoder.rel_embeddings.weight has {len(table)} rows, the config says {2 * span}")
    table = table[: 2 * span]
    if "layer_norm" in str(read.config.get("norm_rel_ebd", "none")):
        centred = table - table.mean(axis=1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + np.float32(read.epsilon("layer_norm_eps", 1e-7)))
        table = centred / spread * read.tensor("encoder.LayerNorm.weight", 1) + read.tensor("encoder.LayerNorm.bias", 1)
    own = {"key": "key_proj", "query": "query_proj"} if read.config.get("share_att_key") else {}
    for i in range(read.count("num_hidden_layers")):
        for kind, part in (("c2p", "key"), ("p2c", "query")):
            if kind not in kinds:
                continue
            name = f"encoder.layer.{i}.{SELF}.{own.get(part, f'pos_{part}_proj')}"
            rows = table @ read.tensor(f"{name}.weight", 2).T + read.tensor(f"{name}.bias", 1)
            if part == "query":  # queries of contents have the scale in their weights
                rows = rows * np.float32(scale)
            split = rows.reshape(2 * span, heads, -1).swapaxes(0, 1)
            read.weights[f"layers.{i}.position_{part}"] = np.ascontiguousarray(split)
