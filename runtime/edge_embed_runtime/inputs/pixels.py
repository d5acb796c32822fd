"""Pictures of all modes (palettes, transparency, 16 bits, CMYK) as the plain colours that models were trained on."""

from typing import TYPE_CHECKING

import numpy as np

from edge_embed_runtime.extras import require

if TYPE_CHECKING:
    from PIL.Image import Image

BACKGROUNDS = {"white": 255, "black": 0}
DEEP = ("I;16", "I;16L", "I;16B", "I;16N")


def flatten(image: "Image", alpha: str) -> "Image":
    """A picture of any mode -> RGB.

    alpha: what lies behind transparent pixels, "white" or "black"; "drop" takes the colour that the file has there,
           which nobody saw before

    16-bit grey is scaled, 65,535 is white; Pillow's `convert`, and so transformers, cuts all above 255 to white. A
    profile of colours (ICC) is not applied, as in the libraries that models were trained with.
    """
    if image.mode in DEEP:
        return _from_deep(image, alpha)
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are of Pillow's mode {image.mode}, whose white can be any number: make it RGB")
    if alpha == "drop" or not image.has_transparency_data:
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        return image if image.mode == "RGB" else image.convert("RGB")
    pillow = require("PIL.Image", "image")
    layer = image if image.mode == "RGBA" else image.convert("RGBA")
    behind = pillow.new("RGBA", layer.size, (BACKGROUNDS[alpha],) * 3 + (255,))
    flat: Image = pillow.alpha_composite(behind, layer).convert("RGB")
    return flat


def _from_deep(image: "Image", alpha: str) -> "Image":
    """16-bit grey -> RGB; one grey value may stand for transparent."""
    pillow = require("PIL.Image", "image")
    grey = np.asarray(image)
    flat = (grey >> 8).astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int) and alpha in BACKGROUNDS:
        flat[grey == clear] = BACKGROUNDS[alpha]
    plain: Image = pillow.fromarray(flat).convert("RGB")
    return plain
