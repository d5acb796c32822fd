"""CSV files, and those with semicolons, tabs or bars: a header, then a row for each document.

Cells that are numbers as JSON writes them, and true and false, become numbers and booleans, so that conditions such as
year >= 2000 find them. A column in which any cell is made of digits and yet is no number (007, +49 30, more than 15 of
them) holds names, such as postal codes or ISBNs: all of its cells stay texts. The file is read once before for that.
"""

import csv
import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import BinaryIO

from edge_embed.files.lines import Line, lines
from edge_embed.files.problems import about
from edge_embed.files.rows import TEXT, Columns, Row, Source, find_columns, header_columns, to_document
from edge_embed.files.values import is_name, value
from edge_embed_runtime.errors import InputError, SourceError

DELIMITERS = (",", ";", "\t", "|")
SEP = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)
# Rows that are read to find the delimiter, and characters of each of their lines.
SAMPLE_ROWS = 20
SAMPLE_CHARACTERS = 100_000


class _Lines:
    """The lines of a table for csv.reader, which takes as many as a row has. After `again` it gets the last row's lines
    once more, except the first: a row with an unclosed quote also took the good rows after it."""

    def __init__(self, found: Iterator[Line], limit: int) -> None:
        self._found, self._limit = found, limit
        self._waiting: list[Line] = []
        self.begin()

    def begin(self) -> None:
        self.taken: list[Line] = []
        self._size = 0

    def again(self) -> None:
        self._waiting[:0] = self.taken[1:]

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._waiting.pop(0) if self._waiting else next(self._found)
        self.taken.append(line)
        self._size += len(line.text)
        if self._size > self._limit:
            raise csv.Error(f"the row is longer than {self._limit:,} characters")
        return line.text

    @property
    def first(self) -> int:
        return self.taken[0].number if self.taken else 1


class _Table:
    """The rows of one file, which may be read several times."""

    def __init__(self, file: BinaryIO, source: Source, limit: int) -> None:
        csv.field_size_limit(limit)
        self._file, self._source, self._limit = file, source, limit
        self._returns = False  # whether lines end with carriage returns alone, as on the first Macintosh
        first = next(self._lines(), Line(1, "\n")).text
        self._returns = "\n" not in first and "\r" in first.strip()
        sample = [line.text[:SAMPLE_CHARACTERS] for line in islice(self._lines(), SAMPLE_ROWS) if line.text.strip()]
        said = SEP.fullmatch(sample[0]) if sample else None
        self._separated = said is not None  # whether the first line names the delimiter, as Excel writes it
        self._delimiter = source.reading.delimiter or (said[1] if said else self._find_delimiter(sample))

    def _find_delimiter(self, sample: list[str]) -> str:
        if self._source.path.suffix.lower() == ".tsv":
            return "\t"
        return max(DELIMITERS, key=lambda delimiter: self._fitness(sample, delimiter))  # of equal ones the first

    def _fitness(self, sample: list[str], delimiter: str) -> tuple[bool, bool, int]:
        """Whether one of the names is that of the text; whether rows have as many cells as names; how many names."""
        rows = csv.reader(sample, delimiter=delimiter)
        try:
            names = next((row for row in rows if row), [])
            find_columns([name.strip() for name in names], self._source.reading)
        except (InputError, csv.Error):
            return False, False, sample[0].count(delimiter) if sample else 0
        try:
            counts = [len(row) for row in rows if row]
        except csv.Error:  # in one row; the others are read later
            counts = []
        return True, all(count == len(names) for count in counts[:-1]), len(names)

    def _lines(self) -> Iterator[Line]:
        found = lines(self._file, self._source.reading.encoding, self._limit)
        return self._split(found) if self._returns else found

    def _split(self, found: Iterator[Line]) -> Iterator[Line]:
        for line in found:
            for number, part in enumerate(line.text.split("\r"), start=1):
                yield Line(number, f"{part}\n", line.error)

    def rows(self, problem: Callable[[int, str], None]) -> Iterator[tuple[int, list[str]]]:
        """The line on which a row begins, and its cells; `problem` is called for lines that are not a row."""
        source = _Lines(self._lines(), self._limit)
        reader = csv.reader(source, delimiter=self._delimiter, strict=True)
        while True:
            source.begin()
            wrong, cells = None, []
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                returned = "new-line character" in str(error)  # csv's own message is hard to understand
                wrong = f"not valid CSV: {'a carriage return in a cell without quotes' if returned else error}"
                source.again()
            wrong = next((line.error for line in source.taken if line.error), wrong)
            if wrong is not None:
                problem(source.first, wrong)
            elif (len(cells) > 1 or "".join(cells).strip()) and not (self._separated and source.first == 1):
                yield source.first, cells


def read_table(file: BinaryIO, source: Source, limit: int) -> Iterator[Row]:
    table = _Table(file, source, limit)
    found = _header(table, source)
    if found is None:
        return
    names, columns, texts = found
    rows = table.rows(source.problem)
    next(rows, None)
    for number, cells in rows:
        if len(cells) != len(names):
            source.problem(number, f"expected {len(names)} fields, as in the first line, got {len(cells)}")
            continue
        row = {name: cell if name in texts else value(cell) for name, cell in zip(names, cells, strict=True)}
        try:
            document = to_document(source, number, row, columns)
        except (InputError, SourceError) as error:
            source.report(about(source.path, number, error))
        else:
            if document is not None:
                yield Row(document, number)


def _header(table: _Table, source: Source) -> tuple[list[str], Columns, set[str]] | None:
    """Names of all columns, those of text, title and key, and those whose cells stay texts; None without a header."""
    problems: list[tuple[int, str]] = []
    rows = table.rows(lambda line, reason: None if problems else problems.append((line, reason)))
    line, names = next(rows, (0, []))
    if problems:  # the row after a problem is not the header
        source.problem(*problems[0])
        return None
    if not names:
        return None
    names = [name.strip() or f"column {i}" for i, name in enumerate(names, start=1)]
    try:
        columns = _check_names(names, source)
    except InputError as error:
        source.report(about(source.path, line, error))
        return None
    return names, columns, _texts(rows, names, columns)


def _check_names(names: list[str], source: Source) -> Columns:
    if any("\x00" in name for name in names):
        raise InputError("holds NUL, as UTF-16 does; --encoding utf-16-le (or -be) reads that")
    reading = source.reading
    blank = source.blank and not reading.text and not any(name.casefold() == TEXT for name in names)
    return header_columns(names, reading, [TEXT] if blank else [])


def _texts(rows: Iterator[tuple[int, list[str]]], names: list[str], columns: Columns) -> set[str]:
    """The columns whose cells stay texts: the text, the title, keys, and those that hold names made of digits."""
    texts = {*columns.text, *columns.keys, *([columns.title] if columns.title else [])}
    others = [i for i, name in enumerate(names) if name not in texts]
    found: set[int] = set()
    for _, cells in rows if others else ():
        if len(cells) == len(names):
            found.update(i for i in others if i not in found and is_name(cells[i]))
    return texts | {names[i] for i in found}
