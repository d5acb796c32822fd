"""Adapters of linear layers that are quantized: W x + B (A x), A and B in float.

`NAME.lora_a` and `NAME.lora_b` are linear layers themselves, with weights [n, r] and [r, m]. They read and change what
the layer NAME does, so what calibration does to a value reaches them as well. Names of weights are those of
calibrate.py; weights are float64 there.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np


def follow_input(weights: dict[str, Any], readers: Sequence[str], offset: Any, factor: Any | None) -> None:
    """The value that `readers` read was moved by an offset [n] and divided by a factor [n], or None where it was not:
    the adapters' first products take both back."""
    for reader in readers:
        if f"{reader}.lora_a.weight" in weights:
            weights[f"{reader}.lora_a.bias"] += offset @ weights[f"{reader}.lora_a.weight"]
            if factor is not None:
                weights[f"{reader}.lora_a.weight"] *= factor[:, None]


def follow_output(weights: dict[str, Any], producer: str, factor: Any) -> None:
    """What the layer gives was divided by a factor [m]."""
    if f"{producer}.lora_b.weight" in weights:
        weights[f"{producer}.lora_b.weight"] /= factor


def follow_split(weights: dict[str, Any], before: str, reader: str, channels: Any) -> None:
    """Channels were added before an activation function: to them the adapter of the layer before adds what it adds to
    those they continue. The adapter behind sees, in float, values that were not cut: it needs none of them."""
    if f"{before}.lora_b.weight" in weights:
        second = weights[f"{before}.lora_b.weight"]
        weights[f"{before}.lora_b.weight"] = np.hstack([second, second[:, channels]])
    if f"{reader}.lora_a.weight" in weights:
        first = weights[f"{reader}.lora_a.weight"]
        weights[f"{reader}.lora_a.weight"] = np.vstack([first, np.zeros((len(channels), first.shape[1]))])


def follow_order(weights: dict[str, Any], makers: Sequence[str], reader: str, order: Any) -> None:
    """Channels between layers were put in another order."""
    for maker in makers:
        if f"{maker}.lora_b.weight" in weights:
            weights[f"{maker}.lora_b.weight"] = weights[f"{maker}.lora_b.weight"][:, order]
    if f"{reader}.lora_a.weight" in weights:
        weights[f"{reader}.lora_a.weight"] = weights[f"{reader}.lora_a.weight"][order]
