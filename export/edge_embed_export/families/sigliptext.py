"""Text towers of SigLIP (arXiv:2303.15343) and SigLIP 2 of fixed size (arXiv:2502.14786).

Tokens see all others, and texts were always filled up to the model's length without a mask: what fills counts. The
vector is made at the last place, which is a filling token in nearly every text.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edge_embed_export.families.cliptext import LAYER, tower_config
from edge_embed_export.families.reader import Reader, with_usual
from edge_embed_export.files.reading import optional_json
from edge_embed_export.modules.listed import linear
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.tokenizer.parts import vocabulary
from edge_embed_export.tokenizer.settings import TOKENIZER_CONFIG
from edge_embed_export.transformer.spec import Filled, Spec, Weights
from edge_embed_runtime.errors import ExportError

USUAL: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 64,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
# The token that a tokenizer fills with, and on which side, where the folder does not say it, by its class.
FILLS = {
    "SiglipTokenizer": ("</s>", "right"),
    "GemmaTokenizer": ("<pad>", "left"),
    "Siglip2Tokenizer": ("<pad>", "left"),
}
# A limit that is none: what transformers writes for a tokenizer that has none.
NO_LIMIT = 10**6


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    config: Mapping[str, Any] = checkpoint.config
    if checkpoint.architecture == "siglip":
        config = tower_config(config, "text_config", USUAL)
    head = Reader(checkpoint, "embeddings.token_embedding.weight")
    weight, bias = head.tensor("head.weight", 2), head.tensor("head.bias", 1)
    if config.get("projection_size") not in (None, len(weight)):
        raise head.error(
            f"head.weight gives {len(weight)} numbers, projection_size is {config['projection_size']!r:.40}"
        )
    read = Reader(
        replace(checkpoint, after=(linear(weight, bias), *checkpoint.after)),
        "embeddings.token_embedding.weight",
        with_usual(config, USUAL),
    )
    positions = read.tensor("embeddings.position_embedding.weight", 2)
    tokens, filler = filled(checkpoint, len(positions))
    read.weights["embedding.word"] = read.words("embeddings.token_embedding.weight")
    read.weights["embedding.position"] = positions[:tokens]
    read.norm("final_norm", "final_layer_norm")
    return read.finish(
        layers=read.layers(LAYER, "encoder.layers.{}"),
        norm="pre",
        max_tokens=min(checkpoint.max_tokens or tokens, tokens),
        norm_eps=read.epsilon("layer_norm_eps", 1e-6),
        activation=read.activation("hidden_act", "gelu_pytorch_tanh"),
        pooling="last",
        filled=Filled(tokens, filler),
    )


def filled(checkpoint: Checkpoint, positions: int) -> tuple[int, int]:
    """How many tokens every text gets, and the id that it is filled up with. Raises ExportError for another side."""
    number = padding_token(checkpoint)
    path = checkpoint.folder / TOKENIZER_CONFIG
    limit = optional_json(path).get("model_max_length")
    if not isinstance(limit, int | float) or limit >= NO_LIMIT:
        return positions, number
    if not 2 < limit <= positions:
        raise ExportError(f"{path}: model_max_length is {limit}, the model has {positions} positions")
    return int(limit), number


def padding_token(checkpoint: Checkpoint) -> int:
    """The id that a tokenizer fills texts up with. Raises ExportError for one that fills up in front."""
    path = checkpoint.folder / TOKENIZER_CONFIG
    said = {**optional_json(checkpoint.folder / "special_tokens_map.json"), **optional_json(path)}
    named = str(said.get("tokenizer_class") or checkpoint.config.get("tokenizer_class") or "SiglipTokenizer")
    usual, side = FILLS.get(named.removesuffix("Fast"), (None, "right"))
    side = said.get("padding_side") or side
    if side != "right":
        raise ExportError(
            f"{path}: padding_side is {side!r:.20}, so that texts would be filled up in front; the model was trained "
            'with texts that are filled up behind: write "padding_side": "right" there'
        )
    token = said.get("pad_token") or usual
    token = token.get("content") if isinstance(token, dict) else token
    number = vocabulary(checkpoint.tokenizer).get(str(token))
    if number is None:
        raise ExportError(f"{path}: pad_token is {token!r:.40}, which is no token of the tokenizer")
    return number
