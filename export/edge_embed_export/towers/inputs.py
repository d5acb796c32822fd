"""Pictures or sounds that a tower is quantized by, and others that it is measured by."""

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.calibration.pictures import Part, calibration_pictures, ends
from edge_embed_export.calibration.sounds import calibration_sounds
from edge_embed_export.towers.made import Sample
from edge_embed_runtime.errors import InputError, MediaError, SourceError
from edge_embed_runtime.inputs.base import FrontEnd, read_front

# Of a folder, in the order of names: every third file is for measuring.
MOST, LEAST, EACH = 192, 12, 3
# Of one sound so many are read at most.
WINDOWS = 3
PLURAL = {"image": "pictures", "audio": "sounds"}
MADE: dict[str, Callable[[Part], Sequence[object]]] = {"image": calibration_pictures, "audio": calibration_sounds}


def calibration_feeds(front: FrontEnd, folder: Path | None) -> tuple[list[NDArray[np.float32]], Sample]:
    """What the tower reads of the inputs that it is calibrated on, and those that it is measured by.

    folder: of the user's pictures or sounds; other files are passed over. None means those made by code

    Raises SourceError for a folder that cannot be read, InputError for one with fewer than LEAST of them.
    """
    if folder is None:
        made = MADE[front.modality]
        feeds = [feed for given in made("calibration") for feed in islice(front.feeds(given), WINDOWS)]
        return feeds, _made_by_code(front.modality)
    what = PLURAL[front.modality]
    found: list[tuple[Path, NDArray[np.float32]]] = []
    for path in _files(folder):
        try:
            found.append((path, next(front.feeds(path))))
        except MediaError:
            continue
        if len(found) == MOST:
            break
    if len(found) < LEAST:
        raise InputError(
            f"{folder} holds {len(found)} {what} that can be read; {LEAST} at least are needed to quantize by",
            path=folder,
            option="calibration",
        )
    kept = [feed for i, (_, feed) in enumerate(found) if i % EACH]
    kept += [next(front.feeds(given)) for given in (ends() if front.modality == "image" else ())]
    return kept, Sample(f"{what} of the caller's", [path for path, _ in found[::EACH]])


def measured_by(modality: str, front: dict[str, Any], folder: Path | None) -> Sample:
    """What a tower that needs no calibration is measured by."""
    return _made_by_code(modality) if folder is None else calibration_feeds(read_front(modality, front), folder)[1]


def _made_by_code(modality: str) -> Sample:
    return Sample(f"{PLURAL[modality]} made by code", MADE[modality]("receipt"))


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise SourceError(f"{folder} cannot be read: {error.strerror}", path=folder) from error
