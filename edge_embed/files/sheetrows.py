"""Rows of spreadsheets as documents, as those of .csv files are."""

from typing import Any

from edge_embed.files.formats.content import Cells
from edge_embed.files.problems import about
from edge_embed.files.rows import Columns, Row, Source, header_columns, to_document
from edge_embed_runtime.errors import InputError, SourceError


class Table:
    """The rows of one file, sheet after sheet."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._names: list[str] = []
        self._columns: Columns | None = None

    def row(self, cells: Cells) -> Row | None:
        """The document of a row; None for a header, a row without text, and one that cannot be read."""
        source = self._source._replace(sheet=cells.sheet)
        try:
            if cells.names:
                self._columns = None
                self._begin([str(name) for name in cells.values])
                return None
            if self._columns is None:
                return None  # its header was a problem
            document = to_document(source, cells.line, self._fields(cells.values), self._columns)
        except (InputError, SourceError) as error:
            source.report(about(source.path, cells.line, error))
            return None
        return None if document is None else Row(document, cells.line)

    def _begin(self, names: list[str]) -> None:
        self._names, self._columns = names, header_columns(names, self._source.reading)

    def _fields(self, values: list[Any]) -> dict[str, Any]:
        columns = self._columns
        texts = {*columns.text, columns.title} if columns else set()
        row = dict(zip(self._names, values, strict=False))
        return {name: str(value) if name in texts else value for name, value in row.items()}
