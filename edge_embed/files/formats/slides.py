"""PowerPoint, .pptx: the slides in their order, with notes. The places are "slide 3: Title"."""

from collections.abc import Iterator, Mapping
from typing import BinaryIO

from edge_embed.files.formats.archive import Archive
from edge_embed.files.formats.content import Content, Request, UnreadableError, Writer, clean, one_line, table_row
from edge_embed.files.formats.office import properties, related_parts
from edge_embed.files.formats.xml import Elements, attributes_of, parse

WHAT = "PowerPoint presentation"
PRESENTATION = "ppt/presentation.xml"
# Placeholders whose text is that of the layout: number, date, foot and head of a slide.
LAYOUT = ("sldNum", "dt", "ftr", "hdr", "sldImg")
TITLES = ("title", "ctrTitle")


def read_slides(file: BinaryIO, request: Request) -> Iterator[Content]:
    archive = Archive(file, WHAT)
    if PRESENTATION not in archive:
        raise UnreadableError(f"is no {WHAT}: it holds no {PRESENTATION}")
    writer = Writer(request.limit)
    related = related_parts(archive, PRESENTATION)
    listed = attributes_of(archive.open(PRESENTATION), PRESENTATION, "sldId")
    for number, (_, attributes) in enumerate(listed, start=1):
        name = next((related[value][1] for value in attributes.values() if value in related), "")
        if name in archive:
            request.at(f"slide {number}")
            _slide(archive, name, number, writer)
    yield writer.content(properties(archive))


def _slide(archive: Archive, name: str, number: int, writer: Writer) -> None:
    shapes = _Shapes()
    parse(archive.open(name), shapes, name)
    title = next((one_line(text) for text in shapes.titles if text.strip()), "")
    writer.place(f"slide {number}: {title}" if title else f"slide {number}")
    for text in shapes.blocks:
        writer.block(text)
    for kind, notes in related_parts(archive, name).values():
        if kind.endswith("/notesSlide") and notes in archive:
            shapes = _Shapes()
            parse(archive.open(notes), shapes, notes)
            for text in shapes.blocks:
                writer.block(text)


class _Shapes(Elements):
    """The texts of the shapes of a slide; those of titles also apart."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[str] = []
        self.titles: list[str] = []
        self._kind = ""
        self._lines: list[str] = []
        self._paragraph: list[str] = []
        self._cells: list[list[str]] = []
        self._skipped = 0

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        if self._skipped or name == "Fallback":
            self._skipped += 1
        elif name == "sp":
            self._kind, self._lines = "", []
        elif name == "ph":
            self._kind = attributes.get("type", "body")
        elif name == "p":
            self._paragraph = []
        elif name == "br":
            self._paragraph.append("\n")
        elif name == "tr":
            self._cells.append([])
        elif name == "tc" and self._cells:
            self._cells[-1].append("")

    def text(self, text: str) -> None:
        if self.path[-1] == "t" and not self._skipped:
            self._paragraph.append(text)

    def end(self, name: str) -> None:
        if self._skipped:
            self._skipped -= 1
        elif name == "p":
            text = clean("".join(self._paragraph))
            if self._cells and self._cells[-1]:
                self._cells[-1][-1] += f" {text}"
            elif text.strip():
                self._lines.append(text)
        elif name == "tr" and self._cells:
            row = table_row(self._cells.pop())
            if row:
                self.blocks.append(row)
        elif name == "sp" and self._kind not in LAYOUT and self._lines:
            text = "\n".join(self._lines)
            self.blocks.append(text)
            if self._kind in TITLES:
                self.titles.append(text)
            self._lines = []
