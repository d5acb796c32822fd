"""Text towers of CLIP's shape (arXiv:2103.00020): CLIP, MetaCLIP, MetaCLIP 2 and what has their layout.

Tokens see those before them alone, so what stands behind a text changes nothing. The last token of every text is the
end-of-text token, whose state is what is projected into the space of the pictures.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel

from edge_embed_export.families.reader import Reader, with_usual
from edge_embed_export.modules.listed import linear
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.tokenizer.parts import around, vocabulary
from edge_embed_export.transformer.positions import visible
from edge_embed_export.transformer.spec import Layer, Spec, Weights
from edge_embed_runtime.errors import ExportError

# `model_type` of a folder with both towers, and of one with the text tower alone.
BOTH = ("clip", "metaclip_2")
ALONE = ("clip_text_model", "metaclip_2_text_model")
LAYER = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "out": "self_attn.out_proj",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
    "attention_norm": "layer_norm1",
    "output_norm": "layer_norm2",
}
# Where config.json does not say it, as the library has it.
USUAL: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "projection_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
}
# The end of texts in configs that were written before the library knew it: the largest id of a text is it.
UNKNOWN_END = 2
# The table that hides what stands behind a token.
CAUSAL = "causal"


def tower_config(config: Mapping[str, Any], name: str, usual: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config of one tower: `text_config`, or where there is `text_config_dict`, that and the library's own values.

    usual: the library's values by key, of all keys that change what the tower computes
    """
    given, older = config.get(name), config.get(f"{name}_dict")
    if older is None:
        return given if isinstance(given, dict) else {}
    said = {key: older.get(key, value) for key, value in usual.items()}
    for key in usual:  # what counts for nothing is asked for too, so that nobody takes it for unknown
        _ = given.get(key) if isinstance(given, dict) else None
    return said


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    kind = checkpoint.architecture
    config = tower_config(checkpoint.config, "text_config", USUAL) if kind in BOTH else checkpoint.config
    projection = Reader(checkpoint, "text_projection.weight").tensor("text_projection.weight", 2)
    for said in (checkpoint.config, config):
        if said.get("projection_dim") not in (None, len(projection)) and (said is checkpoint.config or kind in ALONE):
            raise ExportError(
                f"{checkpoint.folder}: text_projection.weight gives {len(projection)} numbers, projection_dim is "
                f"{said.get('projection_dim')!r:.40}; the weights and config.json do not belong together"
            )
    read = Reader(
        replace(checkpoint, after=(linear(projection), *checkpoint.after)),
        "embeddings.token_embedding.weight",
        with_usual(config, USUAL),
    )
    positions = read.tensor("embeddings.position_embedding.weight", 2)
    max_tokens = min(checkpoint.max_tokens or len(positions), len(positions))
    check_end(checkpoint, read.config["eos_token_id"], oldest=kind in ("clip", "clip_text_model"))
    read.weights["embedding.word"] = read.words("embeddings.token_embedding.weight")
    read.weights["embedding.position"] = positions
    read.weights[f"positions.{CAUSAL}"] = visible(max_tokens, after=0)
    read.norm("final_norm", "final_layer_norm")
    layers = read.layers(LAYER, "encoder.layers.{}")
    return read.finish(
        layers=layers,
        norm="pre",
        max_tokens=max_tokens,
        norm_eps=read.epsilon("layer_norm_eps", 1e-5),
        activation=read.activation("hidden_act", "quick_gelu"),
        causal=True,
        plan=tuple(Layer(i, bias=CAUSAL) for i in range(layers)),
        pooling="last",
    )


def check_end(checkpoint: Checkpoint, end: object, *, oldest: bool) -> None:
    """Raise ExportError where the reference could pool another token than the last one of a text.

    It takes the first of a text that is the end token, or, where `oldest` and the config names token 2, the first that
    has the largest id.
    """
    folder, tokenizer = checkpoint.folder, checkpoint.tokenizer
    ids, sides = vocabulary(tokenizer), around(tokenizer.get("post_processor"))
    if sides is None or len(sides[1]) != 1:
        raise ExportError(
            f"{folder}: the tokenizer puts no single token behind a text; CLIP's vector of a text is made at that token"
        )
    last = sides[1][0]
    if oldest and end == UNKNOWN_END:
        above = next((token for token, number in ids.items() if number > last), None)
        if above is not None:
            raise ExportError(
                f"{folder}: eos_token_id is 2, which means that a text's vector is made at its token with the largest "
                f"id; that is {above!r:.40} and not the end token in some texts. Set eos_token_id to {last} to have "
                "the end token"
            )
    elif end != last or last in sides[0]:
        raise ExportError(
            f"{folder}: a text's vector is made at the first token {end!r:.40} (eos_token_id), and the tokenizer puts "
            f"token {last} behind a text"
        )
    unknown = tokenizer["model"].get("unk_token")
    if unknown is not None and ids.get(unknown) == last and not _knows_all(ids):
        raise ExportError(
            f"{folder}: the tokenizer writes the end token for what it does not know, and does not know every byte: "
            "the vector of such a text is made in its middle"
        )


def _knows_all(ids: Mapping[str, int]) -> bool:
    """Whether a tokenizer of bytes has a token for each, also at the end of a word."""
    return all(sign in ids and f"{sign}</w>" in ids for sign in ByteLevel.alphabet())
