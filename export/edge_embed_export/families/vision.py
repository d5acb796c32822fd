"""Vision transformers: a picture is cut into patches, which are tokens of an encoder (see transformer/vision.py).

What a picture is before, which size and which mean of its colours, is the front end's matter: it comes with the folder,
and the model has to fit it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge_embed_export.families import clipvision, dino, openclip
from edge_embed_export.families.pictures import ImageTower
from edge_embed_export.files.accounting import Keys
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.spec import Array
from edge_embed_runtime.errors import UnsupportedModelError

# By `model_type`.
READERS: dict[str, Callable[[Checkpoint, dict[str, Any]], ImageTower]] = {
    **dict.fromkeys(("clip", "clip_vision_model", "metaclip_2", "metaclip_2_vision_model"), clipvision.read_clip),
    **dict.fromkeys(("siglip", "siglip_vision_model"), clipvision.read_siglip),
    "blip-2": clipvision.read_blip2,
    **dict.fromkeys(("dinov2", "dinov2_with_registers"), dino.read),
    openclip.OPEN_CLIP: openclip.read,
}


def read_image_tower(config: Keys, tensors: Mapping[str, Array], folder: Path, front: dict[str, Any]) -> ImageTower:
    """The image model of a folder.

    config:  the folder's config.json, or of OpenCLIP open_clip_config.json with model_type OPEN_CLIP
    tensors: all of the folder; those of the image model are read
    front:   the front end of the folder; front["size"] is the height and width of what it gives

    Raises UnsupportedModelError for a model that is not known, ExportError for one that is not complete or has settings
    that are not supported.
    """
    kind = str(config.get("model_type"))
    if kind not in READERS:
        raise UnsupportedModelError(
            f"{folder}: the image model {kind!r} is not supported ({', '.join(sorted(READERS))} are)"
        )
    return READERS[kind](Checkpoint(folder, config, tensors, {}, None, None, (), {}, "", None), front)


def is_image_model(config: Mapping[str, Any]) -> bool:
    """Whether the folder of this config.json has an image model that is known."""
    return str(config.get("model_type")) in READERS
