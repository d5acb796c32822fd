"""What the file of a sound says about it: title, artist, lyrics ... as text to search in, and its length."""

import os
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from edge_embed_runtime.extras import require
from edge_embed_runtime.inputs.sounds import EXTRA, decode, open_file

# The fields of tags that say what a sound is, in the order in which `text` has them; each as text and as metadata.
FIELDS = ("title", "artist", "album", "albumartist", "composer", "genre", "comment", "lyrics")
LONGEST_FIELD = 4_000
LONGEST_TEXT = 8_000
# Bytes of one frame of a tag. Longer ones, as a film for a cover, would take memory for nothing.
LARGEST_READ = 2**24
MOST_READS = 100_000


@dataclass(frozen=True)
class SoundFacts:
    """What a file says about its sound.

    text:     the tags, each on a line; "" where there are none
    time:     the date of the recording as the tags have it, "2024" or "2024-05-31"; None where they have none
    metadata: what is known of: title, artist, album, albumartist, composer, genre, comment, date, and the numbers
              seconds (of the sound), rate (Hz) and channels
    """

    text: str = ""
    time: str | None = None
    metadata: dict[str, str | float] = field(default_factory=dict)


def describe_sound(given: "str | os.PathLike[str] | bytes") -> SoundFacts:
    """The facts of a sound file, given as path or bytes; its samples are not decoded.

    Tags that cannot be read are none: the sound may be whole all the same. Raises MediaError for what is no sound.
    """
    numbers: dict[str, str | float] = {}
    with open_file(given) as (file, source):
        with decode(file, source) as sound:
            if sound.declared is not None:
                numbers["seconds"] = round(sound.declared / sound.rate, 3)
            numbers |= {"rate": sound.rate, "channels": sound.channels}
        file.seek(0)
        tags = _tags(file)
    found = {name: value for name in FIELDS if (value := _field(tags, name))}
    text = "\n".join(dict.fromkeys(found.values()))[:LONGEST_TEXT].rstrip()
    metadata: dict[str, str | float] = {name: value for name, value in found.items() if name != "lyrics"}
    date = _field(tags, "year")[:40]
    if date:
        metadata["date"] = date
    return SoundFacts(text, date or None, metadata | numbers)


def _tags(file: BinaryIO) -> Any:
    tinytag = require("tinytag", EXTRA)
    try:
        return tinytag.TinyTag.get(file_obj=_Bounded(file), duration=False)
    except (tinytag.TinyTagException, OSError):  # the second of what is too large
        return None


def _field(tags: Any, name: str) -> str:
    """A field as one text, without characters that do not show."""
    values = [getattr(tags, name, None), *(getattr(tags, "other", None) or {}).get(name, ())]
    texts = [value for value in values if isinstance(value, str)]
    joined = "; ".join(dict.fromkeys(text[:LONGEST_FIELD] for text in texts))[:LONGEST_FIELD]
    lines = joined.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c if c.isprintable() or c == "\n" else " " for c in lines).strip()


class _Bounded:
    """A file that is not read in large pieces, nor for ever."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._reads = file, 0
        self.seek, self.tell = file.seek, file.tell

    def read(self, count: int = -1) -> bytes:
        self._reads += 1
        if self._reads > MOST_READS:
            raise OSError("too many reads")
        content = self._file.read(min(count, LARGEST_READ + 1) if count >= 0 else LARGEST_READ + 1)
        if len(content) > LARGEST_READ:
            raise OSError("too large")
        return content
