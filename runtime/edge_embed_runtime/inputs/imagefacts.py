"""What a picture's file says about it: title, description and keywords, when it was taken, its size and camera.

Read from EXIF, XMP, IPTC and the texts of a PNG, without decoding a pixel. Where the picture was taken is left out.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from edge_embed_runtime.inputs import iptc, xmp
from edge_embed_runtime.inputs.picturelimits import LIMITS, Limits
from edge_embed_runtime.inputs.pictures import UPRIGHT, open_header, quiet, read_content

if TYPE_CHECKING:
    from PIL.Image import Image

EXIF_PART = 0x8769  # the tag that leads to the part of EXIF with times and comments
ORIENTATION, MAKE, MODEL = 0x0112, 0x010F, 0x0110
DESCRIPTION, XP_TITLE, XP_COMMENT, XP_KEYWORDS, XP_SUBJECT = 0x010E, 0x9C9B, 0x9C9C, 0x9C9E, 0x9C9F
USER_COMMENT, TAKEN, TAKEN_OFFSET, CHANGED = 0x9286, 0x9003, 0x9011, 0x0132
# What a comment of a user starts with, and how its bytes are read then; all zero is "not said".
CHARSETS = {b"ASCII\0\0\0": "utf-8", b"UNICODE\0": "utf-16", b"JIS\0\0\0\0\0": "iso2022_jp", bytes(8): "utf-8"}
# Descriptions that cameras and programs write themselves.
SAYS_NOTHING = re.compile(
    r"(olympus|minolta|konica minolta|samsung|sony|kodak|nikon|canon|pentax|casio)?\s*"
    r"(digital camera|dsc|dcim\S*|camera|image|picture|untitled|default|created with .*|\*+|-+)",
    re.IGNORECASE,
)
MAX_TEXT, MAX_KEYWORDS = 4000, 100  # characters of one text, keywords of one picture


@dataclass(frozen=True)
class ImageFacts:
    """What a picture's file says about it.

    text:     title, description and keywords, a line each and none twice; "" where the file has none
    time:     when it was taken, ISO 8601, with its offset where that is known: "2024-05-31T12:30:00+02:00"; or None
    metadata: width and height in pixels as it is seen, format, and camera, title and keywords where they are known
    """

    text: str
    time: str | None
    metadata: dict[str, str | int]


def describe_image(given: object, limits: Limits = LIMITS) -> ImageFacts:
    """What a picture's file says about it. given: a path, bytes, or a MediaFile.

    What is broken or hostile in its metadata is left out. Raises MediaError for what is no picture.
    """
    content, source = read_content(given, limits)
    image = open_header(content, source, limits)
    exif, part = _exif(image)
    found = _Found(image, exif, part)
    lines = _unlike([*found.titles, *found.descriptions, ", ".join(found.keywords)])
    turned = UPRIGHT.get(exif.get(ORIENTATION, 1), 0) in (2, 4, 5, 6)
    width, height = image.size[::-1] if turned else image.size
    metadata: dict[str, str | int] = {"width": width, "height": height, "format": image.format or ""}
    for name, value in (
        ("camera", _camera(exif)),
        ("title", next(iter(found.titles), "")),
        ("keywords", ", ".join(found.keywords)),
    ):
        if value:
            metadata[name] = value
    return ImageFacts("\n".join(lines), found.time, metadata)


class _Found:
    """The texts of all the places where a file may have them, the best first."""

    def __init__(self, image: "Image", exif: Mapping[int, Any], part: Mapping[int, Any]) -> None:
        wide = {tag: _wide(exif.get(tag)) for tag in (XP_TITLE, XP_COMMENT, XP_KEYWORDS, XP_SUBJECT)}
        packet, records = xmp.read(image.info), iptc.read(image.info)
        plain = {name: value for name, value in image.info.items() if isinstance(name, str) and isinstance(value, str)}
        self.titles = _texts([*packet.titles, *records.titles, wide[XP_TITLE], plain.get("Title")])
        self.descriptions = _texts(
            [
                *packet.descriptions,
                *records.descriptions,
                _narrow(exif.get(DESCRIPTION)),
                _comment(part.get(USER_COMMENT)),
                wide[XP_SUBJECT],
                wide[XP_COMMENT],
                plain.get("Description"),
                plain.get("Comment"),
            ]
        )
        keywords = [*packet.keywords, *records.keywords, *re.split("[;,]", wide[XP_KEYWORDS] or "")]
        self.keywords = _texts(keywords)[:MAX_KEYWORDS]
        times = (
            _exif_time(part.get(TAKEN), part.get(TAKEN_OFFSET)),
            *map(_time, (*packet.times, *records.times)),
            _exif_time(exif.get(CHANGED), None),
        )
        self.time = next((time for time in times if time), None)


def _exif(image: "Image") -> tuple[Mapping[int, Any], Mapping[int, Any]]:
    """The tags of EXIF's first part and of its second; without those that are broken."""
    if "exif" not in image.info:  # a PNG would be decoded to look for it behind the pixels
        return {}, {}
    with quiet():
        try:
            exif = image.getexif()
            first = dict(exif)
            return first, dict(exif.get_ifd(EXIF_PART))
        except Exception:  # noqa: BLE001 - a hostile EXIF raises all kinds
            return {}, {}


def _texts(given: Iterable[str | None]) -> list[str]:
    """Texts that say something, on one line each, cut, none twice."""
    cleaned = (" ".join("".join(c if c.isprintable() else " " for c in one or "").split()) for one in given)
    return _unlike(one[:MAX_TEXT] for one in cleaned if one and not SAYS_NOTHING.fullmatch(one))


def _unlike(lines: Iterable[str]) -> list[str]:
    """Lines without the empty ones and the repeated ones."""
    kept: dict[str, str] = {}
    for line in filter(None, lines):
        kept.setdefault(line.casefold(), line)
    return list(kept.values())


def _narrow(value: object) -> str | None:
    """A text of EXIF, which Pillow reads as Latin-1 and programs write as UTF-8."""
    content = value.encode("latin-1", "replace") if isinstance(value, str) else value
    if not isinstance(content, bytes):
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _wide(value: object) -> str | None:
    """A text of Windows: UTF-16 as bytes."""
    if isinstance(value, tuple) and all(isinstance(one, int) and 0 <= one < 256 for one in value):
        value = bytes(value)
    return value.decode("utf-16-le", "ignore").rstrip("\0") if isinstance(value, bytes) else None


def _comment(value: object) -> str | None:
    """A user's comment: eight bytes that name its charset, then the text."""
    if not isinstance(value, bytes) or value[:8] not in CHARSETS:
        return None
    return value[8:].decode(CHARSETS[value[:8]], "ignore").strip("\0 ")


def _camera(exif: Mapping[int, Any]) -> str:
    """ "Canon" and "Canon EOS 5D" -> "Canon EOS 5D"."""
    names = _texts([_narrow(exif.get(MAKE)), _narrow(exif.get(MODEL))])
    repeated = len(names) > 1 and names[1].casefold().startswith(names[0].casefold())
    return " ".join(names[1:] if repeated else names)[:200]


def _exif_time(value: object, offset: object) -> str | None:
    """ "2024:05:31 12:30:00" and "+02:00" -> "2024-05-31T12:30:00+02:00"."""
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}:\d\d:\d\d \d\d:\d\d:\d\d", value.strip("\0 ")):
        return None
    day, _, clock = value.strip("\0 ").partition(" ")
    zone = offset.strip("\0 ") if isinstance(offset, str) else ""
    return _time(f"{day.replace(':', '-')}T{clock}{zone}") or _time(f"{day.replace(':', '-')}T{clock}")


def _time(value: str) -> str | None:
    """ISO 8601, checked and in one form; None for what is no time, as for the year 0 of cameras without a clock."""
    try:
        return datetime.fromisoformat(value.strip()).isoformat(timespec="seconds")
    except ValueError:
        return None
