"""Pictures and sounds: what they say of themselves. Their content is read by the tower that embeds them."""

from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

# The field that says when a picture or a sound was made.
TAKEN = "taken"


class MediaFacts(NamedTuple):
    """text: what is said in words; time: when it was made, in ISO 8601, None where that is not known; metadata: the
    rest."""

    text: str
    time: str | None
    metadata: dict[str, Any]


def describe_picture(path: Path) -> MediaFacts:
    """EXIF, XMP and IPTC. Raises MediaError for what is no picture."""
    from edge_embed_runtime.inputs.imagefacts import describe_image

    found = describe_image(path)
    return MediaFacts(found.text, iso_time(found.time), dict(found.metadata))


def describe_sound(path: Path) -> MediaFacts:
    """ID3 and its like. Raises MediaError for what is no sound."""
    from edge_embed_runtime.inputs import soundfacts

    found = soundfacts.describe_sound(path)
    return MediaFacts(found.text, iso_time(found.time), dict(found.metadata))


def iso_time(time: object) -> str | None:
    """A time that is whole; a year alone is metadata."""
    try:
        return time if isinstance(time, str) and datetime.fromisoformat(time) else None
    except ValueError:
        return None
