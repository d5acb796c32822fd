"""Pictures and sounds: what they say of themselves. Their content is read by the tower that embeds them."""

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from edge_embed_runtime.system.files import open_regular

# The field that says when a picture or a sound was made.
TAKEN = "taken"


class MediaFacts(NamedTuple):
    """text: what is said in words; time: when it was made, in ISO 8601, None where that is not known; metadata: the
    rest; sha256: of the file, in hexadecimal."""

    text: str
    time: str | None
    metadata: dict[str, Any]
    sha256: str


def describe_picture(path: Path) -> MediaFacts:
    """EXIF, XMP and IPTC. Raises MediaError for what is no picture."""
    from edge_embed_runtime.inputs.imagefacts import describe_image
    from edge_embed_runtime.inputs.mediafile import read_media

    file = read_media(path, "bad_image")  # once: what is described is what is hashed
    found = describe_image(file)
    return MediaFacts(found.text, iso_time(found.time), dict(found.metadata), file.sha256)


def describe_sound(path: Path) -> MediaFacts:
    """ID3 and its like. Raises MediaError for what is no sound."""
    from edge_embed_runtime.inputs import soundfacts

    found = soundfacts.describe_sound(path)
    with open_regular(path) as file:  # which may be hours long
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return MediaFacts(found.text, iso_time(found.time), dict(found.metadata), sha256)


def iso_time(time: object) -> str | None:
    """A time that is whole; a year alone is metadata."""
    try:
        return time if isinstance(time, str) and datetime.fromisoformat(time) else None
    except ValueError:
        return None
