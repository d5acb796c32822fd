"""EPUB: the pages of a book in their order. The places are its chapters, and the headings inside them."""

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO
from urllib.parse import unquote

from edge_embed.files.formats.archive import Archive
from edge_embed.files.formats.content import BETWEEN, Content, Request, UnreadableError, Writer, clean, one_line
from edge_embed.files.formats.encodings import text_of
from edge_embed.files.formats.html import declared, tree_of, write
from edge_embed.files.formats.xml import Elements, attributes_of, parse

WHAT = "EPUB"
CONTAINER, ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")
# How fonts are obfuscated; what is encrypted otherwise are the pages.
FONTS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
FIELDS = {"title": "title", "creator": "author", "language": "language"}


def read_epub(file: BinaryIO, request: Request) -> Iterator[Content]:
    archive = Archive(file, WHAT)
    if CONTAINER not in archive:
        raise UnreadableError(f"is no {WHAT}: it holds no {CONTAINER}")
    if ENCRYPTION in archive:
        methods = attributes_of(archive.open(ENCRYPTION), ENCRYPTION, "EncryptionMethod")
        if any(method.get("Algorithm") not in FONTS for _, method in methods):
            raise UnreadableError("is encrypted (DRM)")
    roots = attributes_of(archive.open(CONTAINER), CONTAINER, "rootfile")
    package = next((root.get("full-path", "") for _, root in roots), "")
    if package not in archive:
        raise UnreadableError(f"is a damaged {WHAT}: it holds no list of its pages")
    book = _Book(posixpath.dirname(package))
    parse(archive.open(package), book, package)
    chapters = book.chapters(archive)
    writer, missing = Writer(request.limit), 0
    for name in book.pages():
        request.at(name)
        if name not in archive:
            missing += 1
            continue
        writer_of_page = Writer(request.limit)
        raw = archive.read(name)
        html = text_of(raw, request, declared(raw))
        write(tree_of(html), writer_of_page)
        page = writer_of_page.content()
        if page.text.strip():
            label = chapters.get(name, "")
            named = label and not any(place.split(BETWEEN)[0] == label for _, place in page.places)
            writer.take(page, label if named else "")
    if missing:
        request.problem(f"lists {missing} pages that it does not hold; they are left out")
    yield writer.content(book.metadata)


class _Book(Elements):
    """The package document: what the book is called, its files, and the order of its pages."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = folder
        self.metadata: dict[str, Any] = {}
        self._files: dict[str, Mapping[str, str]] = {}
        self._order: list[str] = []

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "item":
            self._files[attributes.get("id", "")] = attributes
        elif name == "itemref":
            self._order.append(attributes.get("idref", ""))

    def text(self, text: str) -> None:
        field = FIELDS.get(self.path[-1])
        if field is not None and "metadata" in self.path:
            self.metadata[field] = self.metadata.get(field, "") + text

    def end(self, name: str) -> None:
        if name == "metadata":
            cleaned = {field: one_line(clean(text)).rstrip(",") for field, text in self.metadata.items()}
            self.metadata = {field: text for field, text in cleaned.items() if text}
        elif FIELDS.get(name) in self.metadata:
            self.metadata[FIELDS[name]] = f"{self.metadata[FIELDS[name]].strip()}, "  # of several authors

    def pages(self) -> Iterator[str]:
        for reference in dict.fromkeys(self._order):
            entry = self._files.get(reference, {})
            if entry.get("media-type") in PAGES and "nav" not in entry.get("properties", "").split():
                yield self._name(entry)

    def chapters(self, archive: Archive) -> dict[str, str]:
        """What the table of contents calls the pages."""
        for entry in self._files.values():
            name, titles = self._name(entry), _Titles()
            ncx = entry.get("media-type") == "application/x-dtbncx+xml"
            if name in archive and (ncx or "nav" in entry.get("properties", "").split()):
                try:
                    parse(archive.open(name), titles, name)
                except UnreadableError:  # headings serve as well
                    continue
                folder = posixpath.dirname(name)
                found: dict[str, str] = {}
                for link, title in titles.found:
                    target = posixpath.normpath(posixpath.join(folder, unquote(link.partition("#")[0])))
                    found.setdefault(target, one_line(clean(title)))
                if found:
                    return found
        return {}

    def _name(self, entry: Mapping[str, str]) -> str:
        return posixpath.normpath(posixpath.join(self._folder, unquote(entry.get("href", ""))))


class _Titles(Elements):
    """(link, title) of a table of contents: <a href> of a nav, or <navLabel> and <content src> of an ncx."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self._link, self._title = "", ""

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "a":
            self._link, self._title = attributes.get("href", ""), ""
        elif name == "navLabel":
            self._title = ""
        elif name == "content":
            self.found.append((attributes.get("src", ""), self._title))

    def text(self, text: str) -> None:
        if "a" in self.path or "navLabel" in self.path:
            self._title += text

    def end(self, name: str) -> None:
        if name == "a" and self._link:
            self.found.append((self._link, self._title))
            self._link = ""
