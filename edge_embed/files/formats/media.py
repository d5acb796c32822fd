"""Pictures and sounds: what their headers say. Their content is read by the tower that embeds them."""

from pathlib import Path
from typing import Any

# What is said in words, the time when it was made, and other facts.
Described = tuple[str, str | None, dict[str, Any]]


def describe_picture(path: Path) -> Described:
    """EXIF, XMP and IPTC. Raises MediaError for what is no picture."""
    from edge_embed_runtime.inputs.imagefacts import describe_image

    return describe_image(path)


def describe_sound(path: Path) -> Described:
    """ID3 and its like. Raises MediaError for what is no sound."""
    from edge_embed_runtime.inputs.soundfacts import describe_sound as describe

    return describe(path)
