"""A folder read as an export reads it."""

from pathlib import Path
from typing import Any

from edge_embed_export.modules.folder import Folder
from edge_embed_export.options import ExportOptions
from edge_embed_export.sources import checkpoint


def read_checkpoint(folder: Path, **options: Any) -> checkpoint.Checkpoint:
    """options: of `export_model`"""
    asked = ExportOptions(**options)
    return checkpoint.read_checkpoint(Folder(folder, asked.side), asked)
