"""Text towers that are a BERT or XLM-R beside CLIP's image tower: Chinese-CLIP (arXiv:2211.01335) and AltCLIP
(arXiv:2211.06679). The first token goes through one layer, or a norm and two layers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edge_embed_export.families.bert import read_encoder, read_roberta
from edge_embed_export.families.cliptext import tower_config
from edge_embed_export.families.reader import Reader, with_usual
from edge_embed_export.files.accounting import Keys
from edge_embed_export.modules.listed import Module, linear
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.spec import NORM_EPS, Spec, Step, Weights

# Where config.json does not say it, as the library has it.
BERT: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}
XLMR: dict[str, Any] = {
    **BERT,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
}


def read_chinese_clip(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    projection = _projection(checkpoint)
    return read_encoder(_inner(checkpoint, BERT, "bert", (projection,)))


def read_altclip(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    read = Reader(checkpoint, "pre_LN.weight")
    norm = {part: read.tensor(f"pre_LN.{part}", 1) for part in ("weight", "bias")}
    inner = linear(read.tensor("transformation.weight", 2), read.tensor("transformation.bias", 1))
    steps = (Module(Step("norm"), norm), inner, _projection(checkpoint))
    given = _inner(checkpoint, XLMR, "xlm-roberta", steps)
    if given.config["layer_norm_eps"] != NORM_EPS:
        raise read.error(f"layer_norm_eps {given.config['layer_norm_eps']!r:.40} is not supported ({NORM_EPS} is)")
    return read_roberta(given)


def _projection(checkpoint: Checkpoint) -> Module:
    weight = Reader(checkpoint, "text_projection.weight").tensor("text_projection.weight", 2)
    said = checkpoint.config.get("projection_dim")
    if said not in (None, len(weight)):
        raise Reader(checkpoint, "").error(
            f"text_projection gives {len(weight)} numbers, projection_dim is {said!r:.40}"
        )
    return linear(weight)


def _inner(checkpoint: Checkpoint, usual: Mapping[str, Any], kind: str, steps: tuple[Module, ...]) -> Checkpoint:
    """The checkpoint of the text tower alone; what it asks for counts for the whole."""
    config = tower_config(checkpoint.config, "text_config", usual)
    held = Keys({**with_usual(config, usual), "model_type": kind})
    return replace(checkpoint, config=held, after=(*steps, *checkpoint.after), pooling=checkpoint.pooling or "cls")
