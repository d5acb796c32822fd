"""What a format's reader gets, and what it gives back: texts with places."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from edge_embed.files.problems import ignore

MAX_LABEL = 200
# Characters that are no text: control characters except tab, newline and carriage return.
NO_TEXT = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 127])
BETWEEN = " > "
# Of a text: (first character, level, title).
Headings = Iterator[tuple[int, int, str]]


class UnreadableError(Exception):
    """Why a file cannot be read: the rest of a sentence that begins with its path, or with its path and `line`."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.line = line


@dataclass(frozen=True)
class Request:
    """A file that is to be read.

    suffix:   in lower case, with its point
    limit:    characters that a text may have, and bytes of a file that is read whole
    encoding: of text without a byte order mark; None: found out
    path:     of the file, if it is one on the disk
    columns:  the names that a spreadsheet has for texts, if its rows are documents
    problem:  called with the reason why a part of the file cannot be read; reading goes on
    note:     called with what is worth saying about a file that could be read: "read as windows-1252"
    at:       called with the place that is being read
    """

    suffix: str
    limit: int
    encoding: str | None = None
    columns: tuple[str, ...] = ("text",)
    path: str | None = None
    problem: Callable[[str], None] = ignore
    note: Callable[[str], None] = ignore
    at: Callable[[str], None] = ignore


@dataclass(frozen=True)
class Content:
    """A document that was read.

    places: (first character, label), in order
    part:   what to add to the file's key, for one of several documents of a file; None: it is the file
    """

    text: str
    places: tuple[tuple[int, str], ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    part: str | None = None


@dataclass(frozen=True)
class Cells:
    """A row of a spreadsheet, or with `names` its header, which comes before its rows.

    line: from 1; sheet: None where there is only one
    """

    line: int
    values: list[Any]
    sheet: str | None = None
    names: bool = False


class Writer:
    """Puts a text together, block by block, with the places in it. Raises UnreadableError beyond `limit` characters."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[str] = []
        self._places: list[tuple[int, str]] = []
        self._headings: list[tuple[int, str]] = []
        self._next = ""  # the place of what is added next
        self.length = 0

    def add(self, text: str) -> None:
        if text:
            self._mark()
            self._push(text)

    def block(self, text: str, *, tight: bool = False) -> None:
        """A paragraph: a blank line stands before it, or with `tight` a newline."""
        text = text.strip("\n")
        if text.strip():
            if self.length:
                self._push("\n" if tight else "\n\n")
            self.add(text)

    def place(self, label: str) -> None:
        """What is added next lies there."""
        self._next = one_line(label)

    def _mark(self) -> None:
        if self._next and (not self._places or self._places[-1][1] != self._next):
            self._places.append((self.length, self._next))
        self._next = ""

    def _push(self, text: str) -> None:
        self.length += len(text)
        if self.length > self._limit:
            raise UnreadableError(f"has more than {self._limit:,} characters of text")
        self._parts.append(text)

    def heading(self, level: int, title: str) -> None:
        """A block and a place: below "Chapter 1" of level 1, "Two" of level 2 is "Chapter 1 > Two"."""
        self.under(level, title)
        self.block(title)

    def under(self, level: int, title: str) -> None:
        """`heading`, without its text."""
        title = one_line(title)
        if title:
            self._headings = [(above, name) for above, name in self._headings if above < level]
            self._headings.append((level, title))
            self.place(BETWEEN.join(name for _, name in self._headings))

    def take(self, content: Content, before: str = "") -> None:
        """All of another text as a block, whose places come after `before`."""
        last = 0
        if self.length:
            self._push("\n\n")
        self.place(before)
        for first, label in content.places:
            self.add(content.text[last:first])
            self.place(BETWEEN.join(filter(None, (before, label))))
            last = first
        self.add(content.text[last:])

    def content(self, metadata: dict[str, Any] | None = None, part: str | None = None) -> Content:
        text = "".join(self._parts)
        return Content(text, tuple(self._places), metadata or {}, part)


def places(text: str, headings: Headings) -> tuple[tuple[int, str], ...]:
    """(0, 1, "Chapter 1"), (1200, 2, "Section") -> (0, "Chapter 1"), (1200, "Chapter 1 > Section")."""
    writer = Writer(len(text))
    last = 0
    for start, level, title in headings:
        writer.add(text[last:start])
        writer.under(level, title)
        last = start
    writer.add(text[last:])
    return writer.content().places


def clean(text: str) -> str:
    """Without characters that are no text: NUL and other control characters, and halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text if text.isprintable() else text.translate(NO_TEXT)


def one_line(text: str) -> str:
    """A label: white space becomes single spaces, and it ends after MAX_LABEL characters."""
    label = " ".join(text.split())
    return label if len(label) <= MAX_LABEL else f"{label[: MAX_LABEL - 1]}…"


def table_row(cells: Iterable[object]) -> str:
    """A line of text: ["Anna", 1908] -> "Anna | 1908"."""
    return " | ".join(" ".join(str(cell).split()) for cell in cells).strip(" |")
