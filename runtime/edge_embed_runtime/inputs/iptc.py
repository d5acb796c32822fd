"""The texts in a picture's IPTC records, which press photographers and older programs write."""

from collections.abc import Iterator, Mapping
from typing import Any

from edge_embed_runtime.inputs.xmp import Texts

RESOURCE = 0x0404  # of Photoshop's block in a JPEG
MARK = 0x1C  # before each record
CHARSET, UTF_8 = (1, 90), b"\x1b%G"
DATE, CLOCK = (2, 55), (2, 60)
KINDS = {(2, 5): "titles", (2, 105): "titles", (2, 120): "descriptions", (2, 25): "keywords"}


def read(info: Mapping[Any, Any]) -> Texts:
    """The texts of the records in Pillow's `info`; none where there are none or they are broken."""
    texts = Texts()
    blocks = info.get("photoshop")
    content = blocks.get(RESOURCE) if isinstance(blocks, dict) else None
    if not isinstance(content, bytes):
        return texts
    records = list(_records(content))
    said = dict(records)
    encodings = ("utf-8",) if said.get(CHARSET) == UTF_8 else ("utf-8", "latin-1")
    for number, value in records:
        if number in KINDS:
            texts.add(KINDS[number], _text(value, encodings))
    if DATE in said:
        texts.add("times", _time(_text(said[DATE], encodings), _text(said.get(CLOCK, b""), encodings)))
    return texts


def _records(content: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Record and number of each entry, and its bytes: b"\\x1c\\x02\\x05\\x00\\x03Dog" -> (2, 5), b"Dog"."""
    at = 0
    while at + 5 <= len(content) and content[at] == MARK:
        length = int.from_bytes(content[at + 3 : at + 5])
        if length >= 0x8000:  # an extended length, for pictures inside, which are not texts
            return
        yield (content[at + 1], content[at + 2]), content[at + 5 : at + 5 + length]
        at += 5 + length


def _text(value: bytes, encodings: tuple[str, ...]) -> str:
    for encoding in encodings:
        try:
            return value.decode(encoding)
        except UnicodeDecodeError:
            continue
    return value.decode("utf-8", "ignore")


def _time(day: str, clock: str) -> str:
    """ "20240531" and "123000+0200" -> "20240531T123000+0200", which is ISO 8601 too."""
    return f"{day}T{clock}" if clock else day
