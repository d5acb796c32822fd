"""Folders of OpenCLIP, which have other names for their config and weights than those of transformers."""

from pathlib import Path
from typing import Any

from edge_embed_export.files.formats import missing_weights
from edge_embed_export.files.reading import is_there, optional_json, read_json

CONFIG, OPEN_CLIP_CONFIG = "config.json", "open_clip_config.json"
OPEN_CLIP_WEIGHTS = "open_clip_model.safetensors"
# The `model_type` that such a folder has here.
OPEN_CLIP = "open_clip"


def optional_config(folder: Path) -> dict[str, Any]:
    """config.json of a folder; where there is none open_clip_config.json with its own `model_type`; else nothing."""
    if not is_there(folder / CONFIG) and is_there(folder / OPEN_CLIP_CONFIG):
        return {"model_type": OPEN_CLIP, **read_json(folder / OPEN_CLIP_CONFIG)}
    return optional_json(folder / CONFIG)


def read_config(folder: Path) -> dict[str, Any]:
    """`optional_config`, where one has to be there. Raises what `missing_weights` gives."""
    if not is_there(folder / CONFIG) and not is_there(folder / OPEN_CLIP_CONFIG):
        raise missing_weights(folder / CONFIG)
    return optional_config(folder)
