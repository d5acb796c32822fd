"""Encoders of sounds as ONNX graphs: from the levels of a window's bands to one vector.

Whisper's encoder: two convolutions over time, each a linear layer of three frames side by side, then the layers that
texts have.

    conv.0 [3 * bands, h]  conv.1 [3 * h, h]  positions [frames / 2, h]  layers.I, final_norm: see spec.py

The last band of its input says which frames begin in the sound: the mean is of those, though attention sees the whole
window, as it does in training.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edge_embed_export.transformer.builder import Apart
from edge_embed_export.transformer.encoder import OUTPUT, Encoder, Outputs
from edge_embed_export.transformer.spec import Spec, Weights, check, check_shapes, input_name, sites
from edge_embed_quantize.calibrate import Site
from edge_embed_quantize.linear import Int8Linear

if TYPE_CHECKING:
    import onnx

LEVELS = "input_features"
# Frames that one step of a convolution reads, and how far it goes in the second.
REACH, STEP = 3, 2


class SoundSpec(Protocol):
    """What one encoder of sounds looks like: FramesSpec, or swin.SwinSpec."""

    @property
    def body(self) -> Spec: ...

    @property
    def shape(self) -> list[str | int]:
        """What the graph reads."""
        ...

    def check(self, weights: Weights) -> None:
        """Raise ExportError for a shape that does not fit."""
        ...

    def sites(self, weights: Weights) -> list[Site]:
        """The values that linear layers read."""
        ...

    def build(
        self,
        weights: Weights,
        int8: Mapping[str, Int8Linear] | None = None,
        *,
        observe: bool = False,
        apart: Apart | None = None,
    ) -> "onnx.ModelProto":
        """The graph, see `FramesSpec.build`."""
        ...


@dataclass(frozen=True)
class FramesSpec:
    """What an encoder like Whisper's looks like.

    body:  its layers; `vocab` is 0, `max_tokens` half of the frames
    bands: of the levels, without the one that marks the sound
    """

    body: Spec
    bands: int

    @property
    def frames(self) -> int:
        """Frames of a window."""
        return STEP * self.body.max_tokens

    @property
    def shape(self) -> list[str | int]:
        """What the graph reads."""
        return ["batch", self.bands + 1, self.frames]

    def check(self, weights: Weights) -> None:
        """Raise ExportError for a shape that does not fit."""
        h, tokens = self.body.hidden, self.body.max_tokens
        expected: dict[str, tuple[int, ...]] = {"conv.0.bias": (h,), "conv.1.bias": (h,), "positions": (tokens, h)}
        expected |= {"conv.0.weight": (REACH * self.bands, h), "conv.1.weight": (REACH * h, h)}
        check_shapes(weights, expected)
        check(self.body, weights)

    def sites(self, weights: Weights) -> list[Site]:
        """As `spec.sites`, with what the convolutions read."""
        return [Site(input_name(name), (name,)) for name in ("conv.0", "conv.1")] + sites(self.body, weights)

    def build(
        self,
        weights: Weights,
        int8: Mapping[str, Int8Linear] | None = None,
        *,
        observe: bool = False,
        apart: Apart | None = None,
    ) -> "onnx.ModelProto":
        """The graph: `input_features` float32 [batch, bands + 1, frames] -> `embedding` [batch, dim], of length 1.

        weights: as `spec.prepare` returns them
        int8:    the linear layers that run in int8; None gives the float32 graph
        observe: also output what linear layers read (see `spec.input_name`), for calibration
        apart:   takes the large weights (see large.py)
        """
        encoder = _Frames(self.body, weights, int8 or {}, None, observe)
        return sound_model(encoder, encoder.sound(self), apart)


def sound_model(encoder: Encoder, vector: str, apart: Apart | None) -> "onnx.ModelProto":
    """The finished model of an encoder whose vectors [batch, dim] are `vector`."""
    g = encoder.graph
    outputs: Outputs = {g.op("Identity", encoder.unit(vector), name=OUTPUT): ["batch", encoder.spec.dim]}
    return g.model(outputs | encoder.observations(), "edge_embed", apart)


class _Frames(Encoder):
    def sound(self, spec: FramesSpec) -> str:
        """The mean of the sound's frames [b, h]."""
        g, body, bands = self.graph, self.spec, spec.bands
        levels = g.feed(LEVELS, spec.shape)
        g.op("Shape", levels, name="batch", start=0, end=1)
        g.constant("length", np.array([body.max_tokens], np.int64))
        g.op("Mul", "batch", g.shape(body.heads), name="sequences")
        self.padded = g.op("Expand", g.scalar(0.0), self.joined("batch", body.max_tokens))
        self.lay_out()
        x = g.op("Transpose", g.op("Slice", levels, g.shape(0), g.shape(bands), g.shape(1)), perm=[2, 0, 1])
        x = self.convolved(x, "conv.0", spec.frames, 1)
        x = g.op("Reshape", x, self.joined(spec.frames, "batch", body.hidden))
        x = self.convolved(x, "conv.1", body.max_tokens, STEP)
        x = g.op("Reshape", x, self.joined("length", "batch", body.hidden))
        x = g.op("Add", x, g.constant("positions", np.asarray(self.weights["positions"])[:, None, :]))
        x = g.op("Reshape", x, g.shape(-1, body.hidden))
        for block in body.blocks:
            x = self.block(x, block)
        x = g.op("Reshape", self.norm(x, "final_norm"), self.joined("length", "batch", body.hidden))
        marks = g.op("Slice", levels, g.shape(bands, 0), g.shape(bands + 1, spec.frames), g.shape(1, 2), g.shape(1, 2))
        marks = g.op("Transpose", marks, perm=[2, 0, 1])
        total = g.op("ReduceSum", g.op("Mul", x, marks), g.shape(0), keepdims=0)
        return g.op("Div", total, g.op("ReduceSum", marks, g.shape(0), keepdims=0))

    def convolved(self, x: str, name: str, frames: int, step: int) -> str:
        """GELU of a convolution over frames [s, b, n]: [frames * b, h]."""
        g = self.graph
        x = g.op("Pad", x, g.shape(1, 0, 0, 1, 0, 0))
        ends = [
            g.op("Slice", x, g.shape(i), g.shape(i + step * (frames - 1) + 1), g.shape(0), g.shape(step))
            for i in range(REACH)
        ]
        side = g.op("Concat", *ends, axis=2)
        side = g.op("Reshape", side, g.shape(-1, self.weights[f"{name}.weight"].shape[0]))
        return self.activation(self.linear(side, name), "gelu")
