"""Front ends that were read from a folder's files, of pictures and of sounds."""

from pathlib import Path
from typing import Any

from edge_embed_runtime.errors import BundleFormatError, ExportError
from edge_embed_runtime.inputs.base import read_front


def checked_front(modality: str, front: dict[str, Any], path: Path) -> dict[str, Any]:
    """The front end, which a device can read. Raises ExportError, which names the file, for one that it cannot."""
    try:
        read_front(modality, front)
    except BundleFormatError as error:
        raise ExportError(f"{path}: {error}", path=path) from error
    return front
