"""Int8 layers of an image model, by pictures."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.calibration.material import Pictures
from edge_embed_export.calibration.quantizer import Quantizer
from edge_embed_export.calibration.recipes import Quantized
from edge_embed_export.options import ExportOptions
from edge_embed_export.transformer.spec import Weights
from edge_embed_export.transformer.vision import VisionSpec
from edge_embed_export.transformer.workshop import Workshop
from edge_embed_quantize.calibrate import Recipe


def quantize_image(
    spec: VisionSpec,
    weights: Weights,
    pixels: Sequence[NDArray[np.float32]],
    options: ExportOptions,
    shop: Workshop,
    recipes: Mapping[str, Recipe] | None = None,
) -> Quantized:
    """The int8 form of an image model: `build_image` takes its weights and layers.

    weights: as `prepare` returns them
    pixels:  what the front end makes of pictures, float32 [1, 3, height, width] each
    recipes: those that were given; None means those of the options
    """
    return Quantizer(Pictures(spec, weights, pixels), weights, shop).run(recipes, options)
