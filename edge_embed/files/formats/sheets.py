"""Spreadsheets, .xlsx, .xls and .ods, by python-calamine.

A sheet whose first row names a column of text is read as a .csv file is: each row a document. The others of a workbook
are one document, with a line for each row and the sheets as places.
"""

import datetime
from collections.abc import Iterator
from itertools import dropwhile
from typing import Any, BinaryIO

from edge_embed.files.formats.archive import Archive
from edge_embed.files.formats.content import Cells, Content, Request, UnreadableError, Writer, clean, table_row
from edge_embed_runtime.extras import require

WHAT = "spreadsheet"
ZIPPED = (".xlsx", ".xlsm", ".xlsb", ".ods")
EXACT = 2**53


def read_sheets(file: BinaryIO, request: Request) -> Iterator[Content | Cells]:
    calamine = require("python_calamine", "files")
    if request.suffix in ZIPPED:
        Archive(file, WHAT).check()
        file.seek(0)
    try:
        book = calamine.load_workbook(request.path or file)
    except calamine.PasswordError:
        raise UnreadableError("is encrypted: it needs a password") from None
    except calamine.CalamineError as error:
        raise UnreadableError(f"is no {WHAT}, or damaged ({error})") from None
    writer = Writer(request.limit)
    several = len(book.sheet_names) > 1
    for name in book.sheet_names:
        request.at(f"sheet {name}")
        try:
            rows = _rows(book.get_sheet_by_name(name))
        except calamine.CalamineError as error:
            request.problem(f"has a sheet {name[:60]!r} that cannot be read ({error})")
            continue
        yield from _sheet(name, rows, writer, request, several=several)
    if writer.length:
        yield writer.content()


def _sheet(
    name: str, rows: Iterator[tuple[int, list[Any]]], writer: Writer, request: Request, *, several: bool
) -> Iterator[Cells]:
    rows = dropwhile(lambda row: not any(str(cell).strip() for cell in row[1]), rows)
    line, first = next(rows, (1, []))
    names = [str(cell).strip() for cell in first]
    plain = {cell.casefold() for cell in names}
    sheet = clean(name) if several else None
    if all(column.strip().casefold() in plain for column in request.columns):
        used = [cell or f"column {i}" for i, cell in enumerate(names, start=1)]
        yield Cells(line, used, sheet, names=True)
        for number, cells in rows:
            if any(str(cell).strip() for cell in cells):
                yield Cells(number, cells, sheet)
        return
    if first:
        writer.place(f"sheet {name}")
        writer.block(table_row(first))
    for _, cells in rows:
        writer.block(table_row(cells), tight=True)


def _rows(sheet: Any) -> Iterator[tuple[int, list[Any]]]:
    """Rows with their numbers, from 1."""
    for number, row in enumerate(sheet.iter_rows(), start=1):
        yield number, [_value(cell) for cell in row]


def _value(cell: Any) -> Any:
    """A cell as JSON has it: 3.0 -> 3, dates as 2026-11-30."""
    if isinstance(cell, float):
        return int(cell) if cell.is_integer() and abs(cell) < EXACT else cell
    if isinstance(cell, datetime.datetime | datetime.date | datetime.time):
        return cell.isoformat()
    if isinstance(cell, datetime.timedelta):
        return str(cell)
    return clean(cell) if isinstance(cell, str) else cell
