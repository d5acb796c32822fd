"""What stands before a tower: from what a person gives to the arrays that the tower reads."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.errors import BundleFormatError


class FrontEnd(Protocol):
    """Turns one picture or one sound into what a tower reads. It holds no state: threads may share it."""

    @property
    def modality(self) -> str:
        """ "image" or "audio"."""

    @property
    def usual_bytes(self) -> int:
        """What reading ONE usual input takes at its peak beside what `feeds` gives: a 12-megapixel JPEG, an hour's
        sound."""

    @property
    def library(self) -> str:
        """What decodes and resamples, with versions, for messages: "Pillow 13.0.0, libjpeg-turbo 3.2.0"."""

    @property
    def modules(self) -> tuple[str, ...]:
        """The packages that are imported at the first input: another release of them may give other numbers."""

    def within(self, most: int) -> "FrontEnd":
        """The same front end, which refuses an input that takes more than so many bytes to read, before it does.

        It raises MediaError with the code "memory_budget".
        """

    def feeds(self, given: object) -> Iterator[NDArray[np.float32]]:
        """The arrays [1, ...] that the tower reads for ONE input, one after another.

        A picture has one, [1, 3, height, width]; a sound has one for each of its windows, made when it is asked for.
        Raises MediaError for a file that cannot be read, and InputError for what is none of the known kinds.
        """


def read_front(modality: str, front: Mapping[str, Any]) -> FrontEnd:
    """The front end that a manifest describes.

    Raises BundleFormatError for a key or a value that this release does not know: it would not do the same.
    """
    if modality == "image":
        from edge_embed_runtime.inputs.image import read_image_front

        return read_image_front(front)
    if modality == "audio":
        from edge_embed_runtime.inputs.audio import read_audio_front

        return read_audio_front(front)
    raise BundleFormatError(f"modality {modality!r}, expected image or audio")
