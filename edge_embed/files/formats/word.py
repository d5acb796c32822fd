"""Word, .docx: paragraphs, tables a line for each row, notes at the end. Headings are the places."""

import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from edge_embed.files.formats.archive import Archive
from edge_embed.files.formats.content import Content, Request, UnreadableError, Writer, clean, table_row
from edge_embed.files.formats.office import properties
from edge_embed.files.formats.xml import Elements, parse

WHAT = "Word document"
DOCUMENT, STYLES = "word/document.xml", "word/styles.xml"
NOTES = ("word/footnotes.xml", "word/endnotes.xml")
HEADING = re.compile(r"heading\s*([1-9])", re.IGNORECASE)
# What a reader does not see: deleted text, instructions of fields, and the second form of a drawing.
LEFT_OUT = frozenset(("del", "moveFrom", "instrText", "delText", "Fallback", "sectPr"))
SIGNS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "softHyphen": ""}


def read_word(file: BinaryIO, request: Request) -> Iterator[Content]:
    archive = Archive(file, WHAT)
    if DOCUMENT not in archive:
        raise UnreadableError(f"is no {WHAT}: it holds no {DOCUMENT}")
    styles = _Styles()
    if STYLES in archive:
        parse(archive.open(STYLES), styles, STYLES)
    writer = Writer(request.limit)
    parse(archive.open(DOCUMENT), _Body(writer, styles.levels), DOCUMENT)
    for notes in NOTES:
        if notes in archive:
            parse(archive.open(notes), _Body(writer, {}), notes)
    yield writer.content(properties(archive))


class _Styles(Elements):
    """The levels of headings by the id of their style: "berschrift1" is called "heading 1"."""

    def __init__(self) -> None:
        super().__init__()
        self._id = ""
        self._based: dict[str, str] = {}
        self.levels: dict[str, int] = {}

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        value = attributes.get("val", "")
        if name == "style":
            self._id = attributes.get("styleId", "") if attributes.get("type") == "paragraph" else ""
        elif name == "name" and self._id and (found := HEADING.fullmatch(value)):
            self.levels[self._id] = int(found[1])
        elif name == "name" and self._id and value.lower() == "title":
            self.levels[self._id] = 0
        elif name == "basedOn" and self._id:
            self._based[self._id] = value
        elif name == "outlineLvl" and self._id and value.isdigit() and int(value) < 9:
            self.levels.setdefault(self._id, int(value) + 1)

    def endDocument(self) -> None:
        """A style that says no level has that of the style it is based on."""
        for style in self._based:
            seen, base = {style}, style
            while base not in self.levels and base in self._based and self._based[base] not in seen:
                base = self._based[base]
                seen.add(base)
            if base in self.levels:
                self.levels[style] = self.levels[base]


class _Body(Elements):
    def __init__(self, writer: Writer, levels: Mapping[str, int]) -> None:
        super().__init__()
        self._writer, self._levels = writer, levels
        self._skipped = 0  # elements that are open inside one that is left out
        self._texts: list[list[str]] = []  # of the paragraphs that are open: a text box is one inside another
        self._level: list[int | None] = []
        self._cells: list[list[str]] = []  # of the rows that are open
        self._first = True  # row of a table
        self._listed = [False, False]  # whether the paragraph before, and this one, are items of a list

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        if self._skipped or name in LEFT_OUT:
            self._skipped += 1
        elif name == "p":
            self._texts.append([])
            self._level.append(None)
            self._listed = [self._listed[1], False]
        elif name == "tr":
            self._cells.append([])
        elif name == "tc" and self._cells:
            self._cells[-1].append("")
        elif name == "tbl":
            self._first = True
        elif name == "numPr":
            self._listed[1] = True
        elif name == "pStyle" and self._level:
            self._listed[1] = attributes.get("val", "").startswith("List")
            self._level[-1] = self._levels.get(attributes.get("val", ""))
        elif name == "outlineLvl" and self._level and attributes.get("val", "").isdigit():
            level = int(attributes["val"])
            self._level[-1] = level + 1 if level < 9 else self._level[-1]
        elif name in SIGNS and self._texts and "rPr" not in self.path and "pPr" not in self.path:
            self._texts[-1].append(SIGNS[name])

    def text(self, text: str) -> None:
        if not self._skipped and self.path[-1] == "t" and self._texts:
            self._texts[-1].append(text)

    def end(self, name: str) -> None:
        if self._skipped:
            self._skipped -= 1
        elif name == "p" and self._texts:
            self._paragraph(clean("".join(self._texts.pop())), self._level.pop())
        elif name == "tr" and self._cells:
            row = table_row(self._cells.pop())
            if self._cells and self._cells[-1]:  # a table inside a cell
                self._cells[-1][-1] += f" {row}"
            else:
                self._writer.block(row, tight=not self._first)
                self._first = False

    def _paragraph(self, text: str, level: int | None) -> None:
        if self._cells and self._cells[-1]:
            self._cells[-1][-1] += f" {text}"
        elif level is not None and text.strip():
            self._writer.heading(level, text)
        else:
            self._writer.block(text, tight=all(self._listed))
