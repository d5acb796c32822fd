"""BERT (arXiv:1810.04805) and what differs from it in names, numbers and the places of norms alone: RoBERTa, XLM-R,
ELECTRA, ERNIE, data2vec, and pre-norm forms of BERT and RoBERTa."""

from dataclasses import dataclass, field
from typing import Literal

from edge_embed_export.families.reader import TYPES, WORDS, Reader
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.spec import Spec, Weights

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


@dataclass(frozen=True)
class Form:
    """Where a model's layers have their norms.

    layer:    names of the parts of a layer, ours -> theirs
    final:    the norm behind the last layer of a pre-norm model
    embedded: whether the sum of the embeddings has a norm
    """

    layer: dict[str, str] = field(default_factory=lambda: LAYER)
    norm: Literal["post", "pre"] = "post"
    final: str = ""
    embedded: bool = True


def _pre_norm(attention: str, output: str, final: str, *, embedded: bool = False) -> Form:
    return Form(LAYER | {"attention_norm": attention, "output_norm": output}, "pre", final, embedded)


# by model_type; all others have LAYER
FORMS = {
    "roberta-prelayernorm": _pre_norm("attention.LayerNorm", "intermediate.LayerNorm", "LayerNorm", embedded=True),
    "xlm-roberta-xl": _pre_norm("attention.self_attn_layer_norm", "LayerNorm", "encoder.LayerNorm"),
    "megatron-bert": _pre_norm("attention.ln", "ln", "encoder.ln"),
}


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    return read_encoder(checkpoint)


def read_roberta(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    """Its positions are counted from behind the index of the padding token."""
    padding = checkpoint.config.get("pad_token_id", 1)
    if not isinstance(padding, int) or not 0 <= padding < 2**31:
        raise Reader(checkpoint, "").error(f"pad_token_id is {padding!r:.40}, expected a token")
    return read_encoder(checkpoint, first_position=padding + 1)


def read_encoder(checkpoint: Checkpoint, first_position: int = 0) -> tuple[Spec, Weights]:
    read = Reader(checkpoint, WORDS)
    positions = read.config.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise read.error(f"{checkpoint.architecture} with {positions!r} positions is not supported (absolute is)")
    if read.config.get("is_decoder"):
        raise read.error(f"this {checkpoint.architecture} is a decoder; an encoder is expected")
    table = read.tensor("embeddings.position_embeddings.weight", 2)[first_position:]
    if not len(table):
        raise read.error(f"the table of positions has no row {first_position}")
    # every token of a text has type 0, so its vector is part of the position's
    table = read.with_type(table, TYPES)
    if read.config.get("use_task_id"):  # ERNIE's tasks; a text is of task 0
        table = read.with_type(table, "embeddings.task_type_embeddings.weight")
    form = FORMS.get(checkpoint.architecture, Form())
    read.embed("embeddings.LayerNorm" if form.embedded else "", positions=table)
    if form.final:
        read.norm("final_norm", form.final)
    hidden = read.count("hidden_size")
    if read.count("embedding_size", hidden) != hidden:  # ELECTRA
        read.linear("embedding.project", "embeddings_project")
    return read.finish(
        layers=read.layers(form.layer, "encoder.layer.{}"),
        norm=form.norm,
        max_tokens=min(checkpoint.max_tokens or len(table), len(table)),
        norm_eps=read.epsilon("layer_norm_eps", 1e-12),
        activation=read.activation("hidden_act", "gelu"),
    )
