"""Whether a large JPEG is decoded whole or at a fraction of its size, and what the fraction changes."""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.calibration.pictures import large_pictures
from edge_embed_quantize.receipt import cosine_receipt
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.extras import require
from edge_embed_runtime.inputs.pictures import open_picture
from edge_embed_runtime.model.tower import TowerModel

QUALITY = 90  # of the JPEGs that are measured


def decoded(front: dict[str, Any], modality: str, asked: str | None) -> dict[str, Any]:
    """The front end with what was asked for. Raises InputError for one that reads no pictures."""
    if asked is None:
        return front
    if modality != "image":
        raise InputError("decode says how pictures are read, and this model reads none", option="decode")
    return {**front, "decode": asked}


def decode_receipt(model: TowerModel) -> dict[str, Any]:
    """Cosines of the vectors of large JPEGs, read as the model's front end reads them, to those of the same pictures
    decoded whole."""
    files = [_jpeg(picture) for picture in large_pictures()]
    scaled = np.concatenate([model.one(file).reshape(1, -1) for file in files])
    # an image that is handed over decoded is taken as it is
    whole = np.concatenate([model.one(open_picture(file)[0]).reshape(1, -1) for file in files])
    found = cosine_receipt(whole, scaled)["cosine_to_fp32"]
    return {"inputs": f"{len(files)} JPEGs drawn by code, 2400 x 1800 pixels", "cosine_to_full": found}


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    file = BytesIO()
    require("PIL.Image", "image").fromarray(picture).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
