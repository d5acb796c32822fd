"""The texts in a picture's XMP, an XML packet: title, description, keywords, times."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

MAX_PACKET = 2**20  # bytes; programs that edit pictures write a hundredth of it
MAX_TEXTS = 200  # of each kind
PURL, ADOBE = "http://purl.org/dc/elements/1.1/", "http://ns.adobe.com/"
IPTC_CORE = "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"
# The properties that are read, and the list each goes to.
PROPERTIES = {
    f"{PURL} title": "titles",
    f"{ADOBE}photoshop/1.0/ Headline": "titles",
    f"{PURL} description": "descriptions",
    f"{IPTC_CORE} AltTextAccessibility": "descriptions",
    f"{ADOBE}exif/1.0/ UserComment": "descriptions",
    f"{PURL} subject": "keywords",
    f"{ADOBE}exif/1.0/ DateTimeOriginal": "times",
    f"{ADOBE}photoshop/1.0/ DateCreated": "times",
    f"{ADOBE}xap/1.0/ CreateDate": "times",
}


@dataclass
class Texts:
    """Texts as they stand in the file, in its order; times in ISO 8601 where the file keeps to the rules."""

    titles: list[str] = field(default_factory=list)
    descriptions: list[str] = field(default_factory=list)
    keywords: list[str] = field(default_factory=list)
    times: list[str] = field(default_factory=list)

    def add(self, kind: str, text: str) -> None:
        """One text more, unless there are too many."""
        texts: list[str] = getattr(self, kind)
        if text.strip() and len(texts) < MAX_TEXTS:
            texts.append(text.strip())


def read(info: Mapping[Any, Any]) -> Texts:
    """The texts of the packet in Pillow's `info`; none where there is no packet or it is broken."""
    packet = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    content = packet.encode("utf-8", "replace") if isinstance(packet, str) else packet
    if not isinstance(content, bytes) or len(content) > MAX_PACKET:
        return Texts()
    reader = _Reader()
    with suppress(expat.ExpatError, ValueError, LookupError):  # what was read before the fault counts
        reader.read(content.strip(b"\0 \r\n"))
    return reader.texts


class _Reader:
    """Follows one packet. A document type is refused: entities, which expand, stand only there."""

    def __init__(self) -> None:
        self.texts = Texts()
        self._inside: list[str] = []  # the property that each open element belongs to, "" for none
        self._text: list[str] = []

    def read(self, content: bytes) -> None:
        """Raises ExpatError and ValueError where the packet is broken."""
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        parser.StartDoctypeDeclHandler = self._refuse
        parser.Parse(content, True)

    def _refuse(self, *_: object) -> None:
        raise ValueError("a document type")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        for attribute, value in attributes.items():  # a short form of properties
            if attribute in PROPERTIES:
                self.texts.add(PROPERTIES[attribute], value)
        outer = self._inside[-1] if self._inside else ""
        self._inside.append(PROPERTIES.get(name, outer))
        self._text.clear()

    def _end(self, _: str) -> None:
        if kind := self._inside.pop():
            self.texts.add(kind, "".join(self._text))
        self._text.clear()
