"""Which models the native engine runs, and what a manifest says of them for it.

The engine knows one shape: BERT's, with a norm behind each half of a layer. It is a list of what there is, not of what
there is not: a model with any other weight is refused by the name of that weight.
"""

import re
from collections.abc import Mapping

from edge_embed_export.transformer.spec import WHOLE, Spec, Weights
from edge_embed_quantize.linear import Int8Linear, StaticActivation
from edge_embed_quantize.panels import CHANNELS, why_no_panels
from edge_embed_quantize.table import CompactTable
from edge_embed_runtime.bundle.native import ACTIVATION, LAYOUT, POOLINGS, InputCodes, Native
from edge_embed_runtime.vectors.kinds import DENSE

LINEAR, NORM = "query|key|value|out|up|down", "attention_norm|output_norm"
KNOWN = re.compile(
    r"embedding\.(word|position)|positions\.\w+"
    rf"|(embedding\.(norm|project)|layers\.\d+\.({LINEAR}|{NORM}))\.(weight|bias)"
)


def refusal(
    spec: Spec, weights: Weights, layers: Mapping[str, Int8Linear] | None, table: CompactTable | None = None
) -> str:
    """Why the native engine cannot run a model, as the end of a sentence; "" where it can.

    layers: its int8 layers, None of a float model
    """
    if layers is None:
        return "it runs int8 models only"
    return shape_refusal(spec, weights) or _layer_refusal(spec, layers, table)


def shape_refusal(spec: Spec, weights: Weights) -> str:
    """`refusal`, as far as it is known before a model is quantized."""
    biases = {block.bias for block in spec.blocks}
    refused = {
        f"it gives one vector for a text, this model is of kind {spec.kind.name!r}": spec.kind is not DENSE,
        "it has no norms before a layer's halves": spec.norm != "post",
        f"it has the activation {ACTIVATION!r}, this model {spec.activation!r}": spec.activation != ACTIVATION,
        f"it pools by {' or '.join(POOLINGS)}, this model by {spec.pooling!r}": spec.pooling not in POOLINGS,
        "it has no layers behind pooling": bool(spec.projections),
        "it pools the last layer alone": bool(spec.mix),
        "it has no rotary positions": any(block.rotary for block in spec.blocks),
        "it has one table of relative positions for all layers": len(biases) > 1,
        "its tokens see all others": spec.causal or spec.unattended is not None,
        "it has no disentangled attention": spec.buckets is not None,
        "its heads share no keys": spec.sharing > 1 or spec.softcap > 0,
        "no layer is used twice": len(spec.stored) != len(spec.blocks),
        "it leaves no prompt out of pooling": bool(spec.left_out),
        "its texts keep their length": spec.filled is not None,
        "its norms are layer norms": spec.rms,
        "its tokens are all of one type": spec.types,
        f"its heads have a multiple of {CHANNELS} numbers, this model's {spec.size}": spec.size % CHANNELS > 0,
        f"it takes texts of up to {WHOLE} tokens, this model {spec.max_tokens}": spec.max_tokens > WHOLE,
    }
    found = [why for why, is_so in refused.items() if is_so]
    found += [f"it has no {name!r}" for name in sorted(weights) if not KNOWN.fullmatch(name)]
    found += [f"it needs {name!r}" for name in _needed(spec) if name not in weights]
    return found[0] if found else ""


def _needed(spec: Spec) -> list[str]:
    parts = [f"layers.{i}.{part}" for i in spec.stored for part in f"{LINEAR}|{NORM}".split("|")]
    both = [f"{name}.{kind}" for name in ("embedding.norm", *parts) for kind in ("weight", "bias")]
    return ["embedding.word", "embedding.position", *both]


def _layer_refusal(spec: Spec, layers: Mapping[str, Int8Linear], table: CompactTable | None) -> str:
    if table is not None:
        return f"its embedding table has 8 bits, this model's {table.bits}"
    for name in (f"layers.{i}.{part}" for i in spec.stored for part in LINEAR.split("|")):
        if name not in layers:
            return f"it runs int8 layers, {name} is in float"
    for name, layer in layers.items():
        if not isinstance(layer.activation, StaticActivation):
            return f"it has one scale for all rows of an input, {name} has one for each"
        if layer.stored is not None:
            return f"it stores weights in eight bits, {name} is in four"
        if reason := why_no_panels(layer.weight.shape):
            return f"{name} {reason}"
    return ""


def describe(spec: Spec, layers: Mapping[str, Int8Linear]) -> Native:
    """What the manifest says for the engine, of a model that it can run: what the graph holds in constants."""
    inputs = {}
    for name, layer in layers.items():
        if re.search(r"(query|out|up|down|project)$", name) and isinstance(layer.activation, StaticActivation):
            inputs[f"{name}.input"] = InputCodes(layer.activation.scale, layer.activation.zero_point)
    return Native(LAYOUT, spec.layers, spec.heads, ACTIVATION, spec.pooling, spec.norm_eps, inputs)
