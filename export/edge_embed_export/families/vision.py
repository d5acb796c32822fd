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
from edge_embed_export.files.openclip import OPEN_CLIP
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.spec import Array
from edge_embed_runtime.errors import ExportError, UnsupportedModelError

# By `model_type`.
READERS: dict[str, Callable[[Checkpoint, dict[str, Any]], ImageTower]] = {
    **dict.fromkeys(("clip", "clip_vision_model", "metaclip_2", "metaclip_2_vision_model"), clipvision.read_clip),
    **dict.fromkeys(("chinese_clip", "altclip"), clipvision.read_clip),
    **dict.fromkeys(("siglip", "siglip_vision_model"), clipvision.read_siglip),
    "blip-2": clipvision.read_blip2,
    **dict.fromkeys(("dinov2", "dinov2_with_registers"), dino.read),
    OPEN_CLIP: openclip.read,
}

# For `export --list`, in the form of `known.describe`.
ROWS: tuple[dict[str, Any], ...] = (
    {
        "family": "CLIP, MetaCLIP 1 and 2: pictures",
        "model_types": [
            *("clip", "clip_vision_model", "metaclip_2", "metaclip_2_vision_model", "chinese_clip", "altclip"),
        ],
        "parts": "patches, pre-norm, absolute positions, class token through a layer",
        "checkpoints": ["clip-vit-base-patch32, -large-patch14", "metaclip-b32-400m", "metaclip-2-worldwide-*"],
    },
    {
        "family": "SigLIP, SigLIP 2 of fixed size: pictures",
        "model_types": ["siglip", "siglip_vision_model"],
        "parts": "patches, pre-norm, absolute positions, a query that looks at all patches",
        "checkpoints": ["siglip-base-patch16-224, siglip-so400m-patch14-384", "siglip2-base-patch16-224"],
    },
    {
        "family": "BLIP-2: pictures",
        "model_types": ["blip-2"],
        "parts": "patches, pre-norm, 32 queries through a Q-Former: a vector for each",
        "checkpoints": ["blip2-itm-vit-g"],
    },
    {
        "family": "DINOv2: pictures alone",
        "model_types": ["dinov2", "dinov2_with_registers"],
        "parts": "patches, pre-norm, layer scale, positions of any size, registers, gated in the largest; class token",
        "checkpoints": ["dinov2-small, -base, -large, -giant", "dinov2-with-registers-base"],
    },
    {
        "family": "OpenCLIP: pictures (also FLIP's and CLIPA's kind, CoCa, EVA-CLIP, SigLIP)",
        "model_types": [OPEN_CLIP],
        "parts": "CLIP's; CoCa's query; EVA-02: rotary by row and column, gated with a norm inside; SigLIP's",
        "checkpoints": ["CLIP-ViT-B-32-laion2B-s34B-b79K", "CoCa-ViT-B-32-laion2B-s13B-b90k", "EVA02-B-16, -L-14"],
    },
)


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
    checkpoint = Checkpoint(folder, config, tensors, {}, None, None, (), {}, "", None)
    try:
        return READERS[kind](checkpoint, front)
    except (ValueError, IndexError) as error:  # numpy's, where tensors are put together
        raise ExportError(f"{folder}: the weights do not fit each other, or the config: {error}") from error


def is_image_model(config: Mapping[str, Any]) -> bool:
    """Whether the folder of this config.json has an image model that is known."""
    return str(config.get("model_type")) in READERS
