"""XML as a stream of events, by defusedxml: no tree is built, and entities are refused."""

from collections.abc import Iterator, Mapping
from typing import BinaryIO
from xml.sax import SAXException, handler
from xml.sax.xmlreader import AttributesNSImpl

from edge_embed.files.formats.content import UnreadableError
from edge_embed_runtime.extras import require

CHUNK = 2**16
MAX_DEPTH = 1000


class Elements(handler.ContentHandler):
    """What is done with the elements of a file. Names are local: "p" for w:p. `path` holds those that are open."""

    def __init__(self) -> None:
        super().__init__()
        self.path: list[str] = []

    def begin(self, name: str, attributes: Mapping[str, str]) -> None: ...

    def end(self, name: str) -> None: ...

    def text(self, text: str) -> None: ...

    def startElementNS(self, name: tuple[str | None, str], _: str | None, attrs: AttributesNSImpl) -> None:
        self.path.append(name[1])
        if len(self.path) > MAX_DEPTH:
            raise UnreadableError(f"has elements nested more than {MAX_DEPTH:,} deep")
        self.begin(name[1], {key[1]: value for key, value in attrs.items()})

    def endElementNS(self, name: tuple[str | None, str], _: str | None) -> None:
        self.end(name[1])
        self.path.pop()

    def characters(self, content: str) -> None:
        self.text(content)


def parse(file: BinaryIO, elements: Elements, what: str) -> None:
    """Raises UnreadableError."""
    defused = require("defusedxml.expatreader", "files")
    common = require("defusedxml.common", "files")
    reader = defused.create_parser()
    reader.setFeature(handler.feature_namespaces, True)
    reader.setContentHandler(elements)
    try:
        while chunk := file.read(CHUNK):
            reader.feed(chunk)
        reader.close()
    except common.DefusedXmlException as error:
        raise UnreadableError(f"has XML entities in {what}, which are refused ({type(error).__name__})") from None
    except (SAXException, ValueError, LookupError) as error:
        raise UnreadableError(f"has broken XML in {what}: {error}") from None


class _Table(Elements):
    """The attributes of all elements of some names."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self._names = names
        self.found: list[tuple[str, Mapping[str, str]]] = []

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        if name in self._names:
            self.found.append((name, attributes))


def attributes_of(file: BinaryIO, what: str, *names: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """(name, attributes) of the elements of these names, in order."""
    table = _Table(names)
    parse(file, table, what)
    return iter(table.found)


class _Texts(Elements):
    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self._names = names
        self.found: dict[str, str] = {}

    def text(self, text: str) -> None:
        name = self.path[-1]
        if name in self._names:
            self.found[name] = self.found.get(name, "") + text


def texts_of(file: BinaryIO, what: str, *names: str) -> dict[str, str]:
    """The text of the elements of these names."""
    texts = _Texts(names)
    parse(file, texts, what)
    return {name: " ".join(text.split()) for name, text in texts.found.items() if text.strip()}
