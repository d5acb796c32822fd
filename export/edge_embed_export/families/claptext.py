"""CLAP's texts (arXiv:2211.06687): RoBERTa, its first token through the pooler, then two layers into the space of the
sounds."""

from dataclasses import replace
from typing import Any, cast

from edge_embed_export.families.bert import read_roberta
from edge_embed_export.families.reader import Reader
from edge_embed_export.modules.listed import Module
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.activations import Activation
from edge_embed_export.transformer.spec import Spec, Step, Weights

# `model_type` of a folder with both encoders.
BOTH = "clap"


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    config: Any = checkpoint.config
    if checkpoint.architecture == BOTH and isinstance(config.get("text_config"), dict):
        config = config["text_config"]
    outer = Reader(checkpoint, "", config)
    after = (
        _layer(outer, "text_model.pooler.dense", "tanh"),
        _layer(outer, "text_projection.linear1", outer.activation("projection_hidden_act", "relu")),
        _layer(outer, "text_projection.linear2", "identity"),
    )
    texts = replace(checkpoint, config=cast("dict[str, Any]", config), after=(*after, *checkpoint.after))
    return read_roberta(replace(texts, pooling="cls"))


def _layer(read: Reader, name: str, activation: Activation) -> Module:
    weight, bias = read.tensor(f"{name}.weight", 2).T, read.tensor(f"{name}.bias", 1)
    return Module(Step("linear", activation), {"weight": weight, "bias": bias})
