"""Weights as ELMo was published with: an hdf5 file, read by h5py (extra `elmo`)."""

from pathlib import Path
from typing import Any

import numpy as np

from edge_embed_export.files.accounting import check_whole
from edge_embed_export.files.reading import sha256_of
from edge_embed_export.files.stored import Array
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.extras import require
from edge_embed_runtime.system.files import check_regular


def read_hdf5(path: Path) -> tuple[dict[str, Array], str]:
    """The float arrays by their names, as float32, and the sha256 of the file.

    Raises ExportError for a file that is none, that points to others, or has numbers that are not finite.
    """
    h5py: Any = require("h5py", "elmo")
    check_regular(path)
    found: dict[str, Array] = {}

    def take(name: str, held: Any) -> None:
        if not isinstance(held, h5py.Dataset):
            return
        if held.external or held.is_virtual:  # its numbers would be those of another file
            raise ExportError(f"{path}: {name!r:.80} lies in another file")
        if held.dtype.kind != "f":
            check_whole(path, name, str(held.dtype))
            return
        array = np.asarray(held[...], np.float32)
        if not np.isfinite(array).all():
            raise ExportError(f"{path}: tensor {name!r} holds NaN or infinity")
        found[name] = array

    try:
        with h5py.File(path, "r") as file:
            file.visititems(take)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{path} is not a whole hdf5 file: {error}") from error
    return found, sha256_of(path)
