"""Gemma 2 (arXiv:2408.00118): Gemma 3's norms, capped scores, windows in every other layer, one rotary base."""

from edge_embed_export.families import decoder
from edge_embed_export.families.directions import is_causal
from edge_embed_export.families.reader import Reader
from edge_embed_export.families.rope import FULL, SLIDING
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.spec import Spec, Weights


def read(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    """Norms are stored less 1. Only scores of a language model's tokens have the other cap, final_logit_softcapping."""
    read = Reader(checkpoint, "embed_tokens.weight")
    layers, causal = read.depth(), is_causal(read)
    kinds = read.kinds(layers, [SLIDING if i % 2 == 0 else FULL for i in range(layers)])
    width = read.count("sliding_window", 4096)
    windows = [decoder.sides(width if kind == SLIDING else None, causal) for kind in kinds]
    capped = read.config.get("attn_logit_softcapping", 50.0) is not None
    softcap = read.real("attn_logit_softcapping", 50.0) if capped else 0.0
    style = decoder.Style(gemma=True, size=256, key_heads=4, softcap=softcap)
    return decoder.read_layers(read, windows, style, causal=causal)
