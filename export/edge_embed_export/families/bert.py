"""BERT (arXiv:1810.04805) and what differs from it in names and numbers alone: RoBERTa, XLM-R, ELECTRA."""

from edge_embed_export.checkpoint import Checkpoint
from edge_embed_export.families.reading import Reader
from edge_embed_export.spec import Spec, Weights

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
    return read_encoder(checkpoint)


def read_roberta(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    """Its positions are counted from behind the index of the padding token."""
    padding = checkpoint.config.get("pad_token_id", 1)
    if not isinstance(padding, int) or not 0 <= padding < 2**31:
        raise Reader(checkpoint, "").error(f"pad_token_id is {padding!r:.40}, expected a token")
    return read_encoder(checkpoint, first_position=padding + 1)


def read_encoder(checkpoint: Checkpoint, first_position: int = 0) -> tuple[Spec, Weights]:
    read = Reader(checkpoint, "embeddings.word_embeddings.weight")
    positions = read.config.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise read.error(f"{checkpoint.architecture} with {positions!r} positions is not supported (absolute is)")
    if read.config.get("is_decoder"):
        raise read.error(f"this {checkpoint.architecture} is a decoder; an encoder is expected")
    table = read.tensor("embeddings.position_embeddings.weight", 2)[first_position:]
    if not len(table):
        raise read.error(f"the table of positions has no row {first_position}")
    # every token of a text has type 0, so its vector is part of the position's
    read.weights["embedding.word"] = read.words("embeddings.word_embeddings.weight")
    read.weights["embedding.position"] = read.with_type(table, "embeddings.token_type_embeddings.weight")
    read.norm("embedding.norm", "embeddings.LayerNorm")
    hidden = read.count("hidden_size")
    if read.count("embedding_size", hidden) != hidden:  # ELECTRA
        read.linear("embedding.project", "embeddings_project")
    return read.finish(
        layers=read.layers(LAYER, "encoder.layer.{}"),
        hidden=hidden,
        heads=read.count("num_attention_heads"),
        max_tokens=min(checkpoint.max_tokens or len(table), len(table)),
        intermediate=read.count("intermediate_size"),
        norm_eps=read.epsilon("layer_norm_eps", 1e-12),
        activation=read.activation("hidden_act", "gelu"),
    )
