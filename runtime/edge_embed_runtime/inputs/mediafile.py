"""The file of a picture or a sound, read once: who hashes it and who decodes it see the same bytes."""

import hashlib
import os
from dataclasses import dataclass, field
from functools import cached_property

from edge_embed_runtime.errors import MediaError
from edge_embed_runtime.system.files import read_regular

MAX_BYTES = 2**28


@dataclass(frozen=True)
class MediaFile:
    """The bytes of a file, and its path for messages. It stands wherever a path or bytes can be given."""

    path: str
    content: bytes = field(repr=False)

    @cached_property
    def sha256(self) -> str:
        """Of the content, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


def read_media(path: str | os.PathLike[str], code: str, limit: int = MAX_BYTES) -> MediaFile:
    """A regular file of at most `limit` bytes; links to one are followed.

    code: of the error, "bad_image" or "bad_audio"; of a missing file it is "source_missing"

    Raises MediaError.
    """
    try:
        return MediaFile(os.fspath(path), read_regular(path, limit, error=MediaError))
    except MediaError as error:
        if error.code == MediaError.code and code in ("bad_image", "bad_audio"):
            error.code = "bad_image" if code == "bad_image" else "bad_audio"
        raise
