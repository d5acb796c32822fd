"""BLIP-2's text tower (arXiv:2301.12597): the Q-Former reads a text as BERT does, with feed-forwards of its own, and
the first token goes through a layer. The other half of the same layers looks at pictures (see poolers.py)."""

from dataclasses import replace
from typing import Any

from edge_embed_export.families.bert import LAYER
from edge_embed_export.families.reader import Reader, with_usual
from edge_embed_export.modules.listed import linear
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.spec import Spec, Weights
from edge_embed_runtime.errors import UnsupportedModelError

USUAL: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}
WORDS, POSITIONS = "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"
PARTS = {ours: theirs.replace("attention.self.", "attention.attention.") for ours, theirs in LAYER.items()}


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    config, tensors = checkpoint.config.get("qformer_config"), checkpoint.tensors
    config = config if isinstance(config, dict) else {}
    if WORDS not in tensors or not config.get("use_qformer_text_input"):
        raise UnsupportedModelError(
            f"{checkpoint.folder}: this BLIP-2 writes captions: its Q-Former reads no texts, so that nothing compares "
            "a text with a picture. blip2-itm-vit-g and its like (Blip2ForImageTextRetrieval) do",
            architecture="blip-2",
        )
    projection = Reader(checkpoint, "text_projection.weight")
    weight, bias = (projection.tensor(f"text_projection.{part}", n) for part, n in (("weight", 2), ("bias", 1)))
    said = checkpoint.config.get("image_text_hidden_size", 256)
    if len(weight) != said:
        raise projection.error(f"text_projection gives {len(weight)} numbers, image_text_hidden_size is {said!r:.40}")
    read = Reader(
        replace(checkpoint, after=(linear(weight, bias), *checkpoint.after)),
        WORDS,
        with_usual(config, USUAL),
    )
    table = read.tensor(POSITIONS, 2)
    read.weights["embedding.word"] = read.words(WORDS)
    read.weights["embedding.position"] = table
    read.norm("embedding.norm", "qformer.layernorm")
    return read.finish(
        layers=read.layers(PARTS, "qformer.encoder.layer.{}"),
        max_tokens=min(checkpoint.max_tokens or len(table), len(table)),
        norm_eps=read.epsilon("layer_norm_eps", 1e-12),
        activation=read.activation("hidden_act", "gelu"),
        pooling="cls",
    )
