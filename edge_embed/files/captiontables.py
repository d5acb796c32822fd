"""Tables of captions: what their rows say of the files that they name."""

import os
from pathlib import Path

from edge_embed.files.captions import Beside, Caption, table_columns
from edge_embed.files.documents import read_rows
from edge_embed.files.finding import FoundFile
from edge_embed.files.problems import Report
from edge_embed.files.rows import SOURCE, SOURCE_FILE, Reading

# Tables that are kept in memory: those of the folders above the one that is read.
KEPT = 8
# Bytes of a table, which is held in memory.
MAX_BYTES = 2**27


class CaptionTables:
    """The tables of a run, each read once. report: called with what cannot be read of them"""

    def __init__(self, encoding: str | None, report: Report) -> None:
        self._encoding, self._report = encoding, report
        self._read: dict[str, dict[str, Caption]] = {}

    def beside(self, file: FoundFile) -> Beside:
        """Where the captions of a file stand."""
        sidecars = tuple(Path(file.folder.path, name) for name in file.sidecars)
        rows = Caption()
        for table in file.folder.tables:
            name = os.path.relpath(file.real, os.path.dirname(table)).replace(os.sep, "/")  # noqa: PTH120
            rows = rows.joined(self._rows(table).get(name, Caption()))
        return Beside(sidecars, rows)

    def _rows(self, table: str) -> dict[str, Caption]:
        found = self._read.get(table)
        if found is None:
            for old in list(self._read)[: max(0, len(self._read) - KEPT + 1)]:
                del self._read[old]
            found = self._read[table] = read_captions(Path(table), self._encoding, self._report)
        return found


def read_captions(table: Path, encoding: str | None, report: Report) -> dict[str, Caption]:
    """What the rows of a table say, by the names of files as they stand there; several rows of a file are joined."""
    columns = table_columns(table)
    if columns is None:
        return {}
    reading = Reading(
        columns.texts, key=columns.file, encoding=encoding, delimiter=columns.delimiter, max_bytes=MAX_BYTES
    )
    found: dict[str, Caption] = {}
    for row in read_rows(table, SOURCE, reading, report, blank=True):
        document = row.document
        own = SOURCE_FILE if document.metadata.get(SOURCE_FILE) == SOURCE else SOURCE
        metadata = {name: value for name, value in document.metadata.items() if name != own}
        name = _plain(document.key)
        found[name] = found.get(name, Caption()).joined(Caption(document.text, metadata))
    return found


def _plain(name: str) -> str:
    """ "./a\\b.png" -> "a/b.png"."""
    return os.path.normpath(name.replace("\\", "/")).replace(os.sep, "/")
