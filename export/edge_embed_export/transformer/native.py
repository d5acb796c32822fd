"""Which models the native engine can run: encoders in the shape of BERT, all of whose linear layers are in int8."""

from collections.abc import Mapping

from edge_embed_export.transformer.spec import WHOLE, Spec, Weights
from edge_embed_quantize.linear import Int8Linear, StaticActivation
from edge_embed_quantize.panels import why_no_panels
from edge_embed_quantize.table import CompactTable
from edge_embed_runtime.vectors.kinds import DENSE

# Parts of a layer, and of what is around the layers.
LAYER = {"query", "key", "value", "out", "up", "down", "attention_norm", "output_norm"}
AROUND = {"embedding.word", "embedding.position", "embedding.norm", "embedding.project"}


def why_not(
    spec: Spec, weights: Weights, int8: Mapping[str, Int8Linear], table: CompactTable | None = None
) -> str | None:
    """Why the native engine cannot run a model, in a few words; None where it can. Options are those of `build`."""
    return _shape(spec) or _parts(spec, weights, int8) or _numbers(int8, table)


def _shape(spec: Spec) -> str | None:
    """What is not BERT's about a model as a whole."""
    plain = {
        "kind": (spec.kind, DENSE),
        "norm": (spec.norm, "post"),
        "activation": (spec.activation, "gelu"),
        "left_out": (spec.left_out, ""),
        "softcap": (spec.softcap, 0.0),
        "rms": (spec.rms, False),
        "causal": (spec.causal, False),
        "buckets": (spec.buckets, None),
        "unattended": (spec.unattended, None),
        "projections": (spec.projections, ()),
        "mix": (spec.mix, ()),
        "types": (spec.types, False),
        "sharing": (spec.sharing, 1),
    }
    for name, (found, expected) in plain.items():
        if found != expected:
            return f"its {name} is {getattr(found, 'name', found)!r:.60}"
    if spec.pooling not in ("mean", "cls"):
        return f"its pooling is {spec.pooling!r}"
    if spec.max_tokens > WHOLE:
        return f"it takes {spec.max_tokens} tokens, more than {WHOLE}"
    if any(block.rotary for block in spec.blocks):
        return "it turns queries and keys by their positions"
    if len({block.bias for block in spec.blocks}) > 1:
        return "its layers add different tables to their scores"
    return "its layers share weights" if len({block.weights for block in spec.blocks}) < len(spec.blocks) else None


def _parts(spec: Spec, weights: Weights, int8: Mapping[str, Int8Linear]) -> str | None:
    """A part that BERT does not have, or that is in float."""
    tables = {f"positions.{block.bias}" for block in spec.blocks if block.bias}
    for name in weights:
        layer = name.removesuffix(".weight").removesuffix(".bias")
        known = layer.split(".", 2)[-1] in LAYER if layer.startswith("layers.") else layer in AROUND | tables
        if not known:
            return f"it has {name}"
        if known and weights[name].ndim == 2 and name.endswith(".weight") and layer not in int8:
            return f"{name} is in float"
    return None


def _numbers(int8: Mapping[str, Int8Linear], table: CompactTable | None) -> str | None:
    """Numbers that are stored or rounded in a way of their own."""
    if table is not None:
        return f"its table has {table.bits} bits"
    for name, layer in int8.items():
        if layer.stored is not None:
            return f"{name}.weight is stored in four bits"
        if not isinstance(layer.activation, StaticActivation):
            return f"what {name} reads has one scale for each row"
        if reason := why_no_panels(layer.weight.shape):
            return f"{name}.weight {reason}"
    return None
