"""OpenDocument, .odt and .odp: paragraphs, tables a line for each row, notes where they are called. Headings are the
places, in presentations the slides."""

from collections.abc import Iterator, Mapping
from typing import BinaryIO

from edge_embed.files.formats.archive import Archive
from edge_embed.files.formats.content import Content, Request, UnreadableError, Writer, clean, one_line, table_row
from edge_embed.files.formats.xml import Elements, attributes_of, parse, texts_of

WHAT = "OpenDocument file"
CONTENT, META, MANIFEST = "content.xml", "meta.xml", "META-INF/manifest.xml"
LEFT_OUT = frozenset(
    ("tracked-changes", "annotation", "automatic-styles", "font-face-decls", "scripts", "note-citation", "forms")
)
MAX_SPACES = 1000


def read_opendocument(file: BinaryIO, request: Request) -> Iterator[Content]:
    archive = Archive(file, WHAT)
    if CONTENT not in archive:
        raise UnreadableError(f"is no {WHAT}: it holds no {CONTENT}")
    if MANIFEST in archive and any(attributes_of(archive.open(MANIFEST), MANIFEST, "encryption-data")):
        raise UnreadableError("is encrypted: it needs a password")
    writer = Writer(request.limit)
    parse(archive.open(CONTENT), _Body(writer), CONTENT)
    metadata = {}
    if META in archive:
        found = texts_of(archive.open(META), META, "title", "initial-creator", "creator")
        author = found.get("initial-creator") or found.get("creator")
        metadata = {name: clean(text) for name, text in (("title", found.get("title")), ("author", author)) if text}
    yield writer.content(metadata)


class _Body(Elements):
    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self._writer = writer
        self._skipped = 0
        self._texts: list[list[str]] = []  # of the paragraphs that are open: a note is one inside another
        self._cells: list[list[str]] = []
        self._levels: list[int] = []
        self._slide = 0
        self._first = True  # row of a table

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        if self._skipped or name in LEFT_OUT:
            self._skipped += 1
        elif name in ("p", "h"):
            self._texts.append([])
            level = attributes.get("outline-level", "1")
            self._levels.append(int(level) if level.isdigit() and len(level) < 3 else 1)
        elif name == "table":
            self._first = True
        elif name == "table-row":
            self._cells.append([])
        elif name in ("table-cell", "covered-table-cell") and self._cells:
            self._cells[-1].append("")
        elif name == "page":
            self._slide += 1
            self._writer.place(f"slide {self._slide}")
        elif self._texts and name in ("tab", "line-break"):
            self._texts[-1].append("\t" if name == "tab" else "\n")
        elif self._texts and name == "s":
            count = attributes.get("c", "1")
            self._texts[-1].append(" " * min(MAX_SPACES, int(count) if count.isdigit() and len(count) < 6 else 1))

    def text(self, text: str) -> None:
        if self._texts and not self._skipped:
            self._texts[-1].append(text)

    def end(self, name: str) -> None:
        if self._skipped:
            self._skipped -= 1
        elif name in ("p", "h") and self._texts:
            text = clean("".join(self._texts.pop()))
            level = self._levels.pop()
            if self._texts:  # a note, in the middle of a sentence
                self._texts[-1].append(f" ({one_line(text)})" if "note" in self.path else f" {text}")
            elif self._cells and self._cells[-1]:
                self._cells[-1][-1] += f" {text}"
            elif name == "h":
                self._writer.heading(level, text)
            else:
                self._writer.block(text)
        elif name == "table-row" and self._cells:
            row = table_row(self._cells.pop())
            if self._cells and self._cells[-1]:
                self._cells[-1][-1] += f" {row}"
            else:
                self._writer.block(row, tight=not self._first)
                self._first = False
