"""Int8 layers of an encoder of sounds, by sounds."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.calibration.quantizer import Quantizer
from edge_embed_export.calibration.recipes import Quantized
from edge_embed_export.options import ExportOptions
from edge_embed_export.transformer.builder import Apart
from edge_embed_export.transformer.sound import LEVELS, SoundSpec
from edge_embed_export.transformer.spec import Weights
from edge_embed_export.transformer.workshop import Workshop
from edge_embed_quantize.calibrate import Feed, Recipe
from edge_embed_quantize.linear import Int8Linear
from edge_embed_quantize.table import CompactTable

if TYPE_CHECKING:
    import onnx


class Sounds:
    """An encoder of sounds, and windows of sounds as its front end gives them.

    levels: what it reads, float [1, ...] each
    """

    def __init__(self, sound: SoundSpec, weights: Weights, levels: Sequence[NDArray[np.float32]]) -> None:
        self.spec = sound.body
        self.sites = sound.sites(weights)
        self._sound, self._levels = sound, levels

    def feeds(self) -> Iterable[Feed]:
        return ({LEVELS: levels} for levels in self._levels)

    def build(
        self,
        weights: Weights,
        layers: Mapping[str, Int8Linear] | None = None,
        *,
        observe: bool = False,
        apart: Apart | None = None,
    ) -> "onnx.ModelProto":
        return self._sound.build(weights, layers, observe=observe, apart=apart)

    def table(self, bits: int) -> CompactTable | None:  # noqa: ARG002 - as of texts
        return None


def quantize_sound(
    spec: SoundSpec,
    weights: Weights,
    levels: Sequence[NDArray[np.float32]],
    options: ExportOptions,
    shop: Workshop,
    recipes: Mapping[str, Recipe] | None = None,
) -> Quantized:
    """The int8 form of an encoder of sounds: `spec.build` takes its weights and layers.

    weights: as `prepare` returns them
    levels:  what the front end makes of windows of sounds, float32 [1, ...] each
    recipes: those that were given; None means those of the options
    """
    return Quantizer(Sounds(spec, weights, levels), weights, shop).run(recipes, options)
