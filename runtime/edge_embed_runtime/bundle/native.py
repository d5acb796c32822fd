"""What a manifest says of a model for the native engine: what the graph holds in constants, besides weights."""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

# In which order the weights lie; another number is a later release's.
LAYOUT = 1
ACTIVATION = "gelu"
POOLINGS = ("mean", "cls")
MOST_LAYERS, MOST_HEADS = 1000, 1024
OF_LAYER = ("query", "out", "up", "down")
# What the linear layer between the embeddings and the first layer reads, where there is one.
PROJECTED = "embedding.project.input"


@dataclass(frozen=True)
class InputCodes:
    """How a value becomes uint8 codes: round(x / scale) + zero_point."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Native:
    """A model for the native engine.

    eps:    what norms add to a variance
    inputs: by the name of the value that linear layers read, "layers.0.query.input"
    """

    layout: int
    layers: int
    heads: int
    activation: str
    pooling: str
    eps: float
    inputs: dict[str, InputCodes] = field(default_factory=dict)


def parse_native(content: object) -> Native:
    """Raises ValueError or TypeError for what this release does not understand."""
    if not isinstance(content, Mapping):
        raise TypeError(f"native is {type(content).__name__}, expected an object")
    layout = content.get("layout")
    if layout != LAYOUT or isinstance(layout, bool):
        raise ValueError(f"native says layout {layout!r:.40}; this release knows {LAYOUT}")
    _check_names(content, {one.name for one in fields(Native)}, "native")
    layers = _count(content["layers"], "native: layers", 1, MOST_LAYERS)
    heads = _count(content["heads"], "native: heads", 1, MOST_HEADS)
    for name, known in (("activation", (ACTIVATION,)), ("pooling", POOLINGS)):
        if content[name] not in known:
            raise ValueError(f"native: {name} is {content[name]!r:.40}, expected one of {known}")
    eps = _number(content["eps"], "native: eps")
    inputs = content["inputs"]
    if not isinstance(inputs, Mapping):
        raise TypeError(f"native: inputs is {type(inputs).__name__}, expected an object")
    expected = {f"layers.{i}.{part}.input" for i in range(layers) for part in OF_LAYER}
    _check_names(inputs, expected | (inputs.keys() & {PROJECTED}), "native: inputs")
    found = {name: _codes(entry, f"native: {name}") for name, entry in inputs.items()}
    return Native(LAYOUT, layers, heads, ACTIVATION, str(content["pooling"]), eps, found)


def _check_names(content: Mapping[str, Any], expected: set[str], what: str) -> None:
    if odd := content.keys() - expected:
        raise ValueError(f"{what} says {min(odd)!r:.60}, which this release does not know")
    if missing := expected - content.keys():
        raise ValueError(f"{what} does not say {min(missing)!r}")


def _codes(entry: object, what: str) -> InputCodes:
    if not isinstance(entry, Mapping):
        raise TypeError(f"{what} is {type(entry).__name__}, expected an object")
    _check_names(entry, {"scale", "zero_point"}, what)
    scale = _number(entry["scale"], f"{what}: scale")
    if struct.unpack("<f", struct.pack("<f", scale))[0] != scale:
        raise ValueError(f"{what}: scale is {scale!r}, which is no float32 number")
    return InputCodes(scale, _count(entry["zero_point"], f"{what}: zero_point", 0, 255))


def _count(value: object, what: str, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{what} is {value!r:.40}, expected {least} to {most}")
    return value


# A float32 number that has all its bits, and whose inverse has them too.
LEAST, MOST = 2.0**-126, 2.0**126


def _number(value: object, what: str) -> float:
    if type(value) is not float or not math.isfinite(value) or not LEAST <= value <= MOST:
        raise ValueError(f"{what} is {value!r:.40}, expected a positive number")
    return value
