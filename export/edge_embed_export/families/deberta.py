"""DeBERTa v1, v2 and v3 (arXiv:2006.03654, 2111.09543): scores of contents and of relative positions are added up."""

from collections.abc import Mapping

import numpy as np

from edge_embed_export.families import bert
from edge_embed_export.families.reader import WORDS, Reader
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.spec import WHOLE, Spec, Weights

SELF = "attention.self"
LAYER = bert.LAYER | {part: f"{SELF}.{part}_proj" for part in ("query", "key", "value")}


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    """v2 and v3."""
    read = Reader(checkpoint, WORDS)
    read.refuse(conv_kernel_size=0, relative_attention=True)
    _embeddings(read)
    kinds, layers = _kinds(read), read.layers(LAYER, "encoder.layer.{}")
    own = {"key": "key_proj", "query": "query_proj"} if read.config.get("share_att_key") else {}
    names = {part: own.get(part, f"pos_{part}_proj") for part in ("key", "query")}
    furthest = read.config.get("max_relative_positions", -1)
    furthest = furthest if isinstance(furthest, int) and furthest > 0 else read.count("max_position_embeddings")
    buckets = read.config.get("position_buckets", -1)
    logarithmic = isinstance(buckets, int) and buckets > 0
    span = buckets if logarithmic else furthest
    _positions(read, kinds, names, span)
    return _finish(read, layers, kinds, (span, furthest if logarithmic else 0))


def read_v1(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    """v1: a row of the table for every offset, queries, keys and values of a head in one layer, keys without bias."""
    read = Reader(checkpoint, WORDS)
    read.refuse(relative_attention=True, talking_head=False)
    _embeddings(read)
    heads, kinds = read.count("num_attention_heads"), _kinds(read)
    names = {ours: name for ours, name in LAYER.items() if ours not in ("query", "key", "value")}
    layers = read.layers(names, "encoder.layer.{}")
    for i in range(layers):
        theirs = f"encoder.layer.{i}.{SELF}"
        whole = read.tensor(f"{theirs}.in_proj.weight", 2)
        parts = np.split(whole.reshape(heads, -1, whole.shape[1]), 3, axis=1)
        for part, rows in zip(("query", "key", "value"), parts, strict=True):
            read.weights[f"layers.{i}.{part}.weight"] = np.ascontiguousarray(rows.reshape(-1, whole.shape[1]).T)
        read.weights[f"layers.{i}.query.bias"] = read.tensor(f"{theirs}.q_bias", 1)
        read.weights[f"layers.{i}.value.bias"] = read.tensor(f"{theirs}.v_bias", 1)
    furthest = read.config.get("max_relative_positions", -1)
    span = furthest if isinstance(furthest, int) and furthest > 0 else read.count("max_position_embeddings")
    _positions(read, kinds, {"key": "pos_proj", "query": "pos_q_proj"}, span)
    return _finish(read, layers, kinds, (span, 0))


def _kinds(read: Reader) -> list[str]:
    """What scores have besides contents: c2p, queries by positions of keys, p2c, keys by positions of queries."""
    kinds = read.config.get("pos_att_type") or []
    kinds = [kind.strip() for kind in kinds.lower().split("|")] if isinstance(kinds, str) else kinds
    hidden, heads = read.count("hidden_size"), read.count("num_attention_heads")
    if hidden % heads or not set(kinds) <= {"c2p", "p2c"}:
        raise read.error(f"hidden size {hidden} over {heads} heads with positions {kinds} is not supported")
    return list(kinds)


def _scale(read: Reader, kinds: list[str]) -> float:
    return float((read.count("hidden_size") // read.count("num_attention_heads") * (1 + len(kinds))) ** -0.5)


def _finish(read: Reader, layers: int, kinds: list[str], buckets: tuple[int, int]) -> tuple[Spec, Weights]:
    return read.finish(
        layers=layers,
        # texts beyond what it was trained on share the last bucket; its scores are computed all at a time
        max_tokens=min(read.limit(read.count("max_position_embeddings")), WHOLE),
        norm_eps=read.epsilon("layer_norm_eps", 1e-7),
        activation=read.activation("hidden_act", "gelu"),
        scale=_scale(read, kinds),
        buckets=buckets,
    )


def _embeddings(read: Reader) -> None:
    """Tables in the width of the model, and the norm of their sum."""
    tables = {"embedding.word": read.words(WORDS)}
    types = "embeddings.token_type_embeddings.weight"
    if read.config.get("type_vocab_size"):
        tables["embedding.word"] = read.words(WORDS, types)
    if read.config.get("position_biased_input", True):
        tables["embedding.position"] = read.tensor("embeddings.position_embeddings.weight", 2)
    if read.has("embeddings.embed_proj.weight"):  # before the norm, so it can be part of the tables
        project = read.tensor("embeddings.embed_proj.weight", 2).T
        tables = {name: table @ project for name, table in (read.weights | tables).items()}
    read.weights |= tables
    read.norm("embedding.norm", "embeddings.LayerNorm")


def _positions(read: Reader, kinds: list[str], names: Mapping[str, str], span: int) -> None:
    """Keys and queries of relative positions, [heads, 2 * span, size]: what each layer makes of the one table.

    names: what the layers of "key" and "query" are called
    """
    heads, scale = read.count("num_attention_heads"), _scale(read, kinds)
    table = read.tensor("encoder.rel_embeddings.weight", 2)
    if len(table) < 2 * span:
        raise read.error(f"encoder.rel_embeddings.weight has {len(table)} rows, the config says {2 * span}")
    table = table[: 2 * span]
    if "layer_norm" in str(read.config.get("norm_rel_ebd", "none")):
        centred = table - table.mean(axis=1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + np.float32(read.epsilon("layer_norm_eps", 1e-7)))
        table = centred / spread * read.tensor("encoder.LayerNorm.weight", 1) + read.tensor("encoder.LayerNorm.bias", 1)
    for i in range(read.count("num_hidden_layers")):
        for kind, part in (("c2p", "key"), ("p2c", "query")):
            if kind not in kinds:
                continue
            name = f"encoder.layer.{i}.{SELF}.{names[part]}"
            rows = table @ read.tensor(f"{name}.weight", 2).T
            if names[part] != "pos_proj":  # v1 has no bias there
                rows = rows + read.tensor(f"{name}.bias", 1)
            if part == "query":  # queries of contents have the scale in their weights
                rows = rows * np.float32(scale)
            split = rows.reshape(2 * span, heads, -1).swapaxes(0, 1)
            read.weights[f"layers.{i}.position_{part}"] = np.ascontiguousarray(split)
