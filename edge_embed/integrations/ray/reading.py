"""The rows of one shard's input, a bounded batch after the other; what cannot be embedded becomes a problem."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_embed.files.arrow import EXTRA
from edge_embed.files.lines import MAX_ROW
from edge_embed.files.problems import CHANGED
from edge_embed.files.shards import METADATA
from edge_embed.integrations.ray.columns import Asked, check_fields, others_of
from edge_embed_runtime.checks import check_text
from edge_embed_runtime.errors import InputError, SourceError
from edge_embed_runtime.extras import require
from edge_embed_runtime.storage.documents import check_key
from edge_embed_runtime.system.files import open_unpacked

# Rows, characters and bytes that are read and embedded at a time: bounds what a worker holds besides its model.
BATCH_ROWS, BATCH_CHARACTERS = 1024, 2_000_000
READ_ROWS, READ_BYTES = 256, 2**23
# Of a column chunk of Parquet, which is otherwise read whole.
BUFFER_BYTES = 2**20


@dataclass(frozen=True)
class Piece:
    """The input of one shard. number: of the shard; name: of the file in keys and problems; at: where the first row
    begins, in bytes, of a file of lines; bytes, changed_ns: the state of the file when it was cut."""

    number: int
    path: str
    name: str
    first: int
    rows: int
    bytes: int
    changed_ns: int
    at: int | None = None

    @property
    def is_parquet(self) -> bool:
        return self.at is None

    def check_unchanged(self) -> None:
        """Raise SourceError where the file is not what it was when it was cut into shards."""
        try:
            status = Path(self.path).stat()
        except OSError as error:
            raise SourceError(f"{self.path} cannot be read: {error.strerror}", path=self.path) from error
        if (status.st_size, status.st_mtime_ns) != (self.bytes, self.changed_ns):
            raise SourceError(f"{self.path} {CHANGED.split(';')[0]}: start again, with another OUTPUT", path=self.path)


@dataclass
class Batch:
    """Rows that can be embedded. others: of a Parquet file the other columns, a table; of lines the metadata as JSON"""

    keys: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    others: Any = field(default_factory=list)


class Rows:
    """Reads a piece. problems: of the rows that were read so far, each with `file`, `row` or `line`, and `reason`"""

    def __init__(self, piece: Piece, asked: Asked) -> None:
        self._piece, self._asked = piece, asked
        self.problems: list[dict[str, Any]] = []
        self.blank = 0

    def fields(self) -> list[Any]:
        """Of the other columns in the output."""
        arrow = require("pyarrow", EXTRA)
        if not self._piece.is_parquet:
            return [arrow.field(METADATA, arrow.string(), nullable=False)]
        schema = require("pyarrow.parquet", EXTRA).read_schema(self._piece.path)
        return [schema.field(name).remove_metadata() for name in others_of(schema.names, self._asked)]

    def batches(self) -> Iterator[Batch]:
        return self._of_parquet() if self._piece.is_parquet else self._of_lines()

    def _problem(self, number: int, reason: str) -> None:
        place = {"row": number} if self._piece.is_parquet else {"line": number + 1}
        self.problems.append({"file": self._piece.name, **place, "reason": reason})

    def _usable(self, number: int, key: object, text: object) -> tuple[str, str] | None:
        """Key and text of a row; None for one that cannot be embedded, which becomes a problem."""
        piece = self._piece
        try:
            if key is None:
                key = f"{piece.name}:{number if piece.is_parquet else number + 1}"
            elif isinstance(key, bool) or not isinstance(key, str | int):
                raise InputError(f"the key is {type(key).__name__}, expected a string")
            if text is None:
                raise InputError("there is no text")
            if not isinstance(text, str):
                raise InputError(f"the text is {type(text).__name__}, expected a string")
            if not text.strip():
                raise InputError("the text is empty")
            return check_key(str(key), "the key"), check_text(text, "the text")
        except InputError as error:
            self._problem(number, str(error))
            return None

    # Parquet

    def _of_parquet(self) -> Iterator[Batch]:
        arrow, parquet = require("pyarrow", EXTRA), require("pyarrow.parquet", EXTRA)
        piece = self._piece
        number = piece.first
        try:
            with closing(parquet.ParquetFile(piece.path, pre_buffer=False, buffer_size=BUFFER_BYTES)) as file:
                names = file.schema_arrow.names
                key, others = self._asked.key_of(names), others_of(names, self._asked)
                for table in _slices(file, piece.first, piece.rows):
                    keys = [None] * table.num_rows if key is None else _values(table.column(key))
                    batch, kept = Batch(), list[int]()
                    for i, text in enumerate(_values(table.column(self._asked.text))):
                        # a file with a column of keys has one in each row
                        given = "" if key is not None and keys[i] is None else keys[i]
                        if (row := self._usable(number + i, given, text)) is not None:
                            batch.keys.append(row[0])
                            batch.texts.append(row[1])
                            kept.append(i)
                    batch.others = table.select(others).take(kept) if others else None
                    number += table.num_rows
                    yield batch
        except (arrow.ArrowException, OSError) as error:
            why = " ".join(str(error).split())[:300]
            raise SourceError(f"{piece.path} cannot be read: {why}", path=piece.path, row=number) from error

    # Files of lines

    def _of_lines(self) -> Iterator[Batch]:
        batch, characters = Batch(), 0
        for number, line in self._lines():
            found = self._parsed(number, line)
            if found is not None:
                key, text, metadata = found
                batch.keys.append(key)
                batch.texts.append(text)
                batch.others.append(metadata)
                characters += len(text) + len(metadata)
            if len(batch.keys) >= BATCH_ROWS or characters >= BATCH_CHARACTERS:
                yield batch
                batch, characters = Batch(), 0
        if batch.keys:
            yield batch

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Number and content of each line that is not blank; one that is too long is a problem."""
        piece = self._piece
        try:
            with open_unpacked(piece.path) as file:
                file.seek(piece.at or 0)
                for number in range(piece.first, piece.first + piece.rows):
                    line = file.readline(MAX_ROW + 1)
                    if not line:
                        raise SourceError(f"{piece.path} ends before line {number + 1}", path=piece.path)
                    if len(line) > MAX_ROW:
                        while line and not line.endswith(b"\n"):
                            line = file.readline(MAX_ROW)
                        self._problem(number, f"the line is longer than {MAX_ROW:,} bytes")
                    elif line.strip():
                        yield number, line
                    else:
                        self.blank += 1
        except (OSError, EOFError) as error:
            raise SourceError(f"{piece.path} cannot be read: {error}", path=piece.path) from error

    def _parsed(self, number: int, line: bytes) -> tuple[str, str, str] | None:
        """Key, text and metadata of a line; None for one that cannot be embedded."""
        try:
            row = _object(line, first=number == 0)
            name = self._asked.key_of(row)
            if name is None and self._asked.key is not None:
                raise InputError(f"no {self._asked.key!r}, which --key-column says is the key")
            if self._asked.text not in row:
                raise InputError(f"no field {self._asked.text!r}")
        except InputError as error:
            self._problem(number, str(error))
            return None
        key = None if name is None else row.pop(name)
        used = self._usable(number, "" if name is not None and key is None else key, row.pop(self._asked.text))
        if used is None:
            return None
        try:
            return *used, json.dumps(row, allow_nan=False)
        except ValueError:  # 1e999, which Python reads as infinity
            self._problem(number, "a number is too large")
            return None


def _object(line: bytes, *, first: bool) -> dict[str, Any]:
    """A line as a JSON object. first: of its file, where a mark may stand before it. Raises InputError."""
    try:
        row = json.loads(line.decode("utf-8-sig" if first else "utf-8"), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text ({error.reason})") from None
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON: {error}") from None
    if not isinstance(row, dict):
        raise InputError(f"expected an object, got {type(row).__name__}")
    return row


def check_first(path: Path, asked: Asked) -> None:
    """Raise SourceError where the first row of a file of lines, if it can be read, lacks a field that was asked for."""
    try:
        with open_unpacked(path) as file:
            line = file.readline(MAX_ROW)
            row = _object(line, first=True)
    except (InputError, OSError, EOFError):
        return  # a problem of that row, or of reading, which is said when it is read
    check_fields(row, asked, f"{path}, line 1")


def _refuse(constant: str) -> None:
    raise InputError(f"not valid JSON: {constant} is no number")


def _slices(file: Any, first: int, rows: int) -> Iterator[Any]:
    """Tables of these rows, of READ_ROWS at most, fewer where rows are large. Row groups that have none of them are
    not read."""
    groups, at, skip, at_once = list[int](), 0, None, READ_ROWS
    for group in range(file.num_row_groups):
        about = file.metadata.row_group(group)
        size = about.num_rows
        if at < first + rows and at + size > first:
            groups.append(group)
            skip = first - at if skip is None else skip
            at_once = max(1, min(at_once, READ_BYTES * size // max(about.total_byte_size, 1)))
        at += size
    left, skip = rows, skip or 0
    table = require("pyarrow", EXTRA).Table
    for batch in file.iter_batches(at_once, row_groups=groups) if groups else ():
        if skip >= batch.num_rows:
            skip -= batch.num_rows
            continue
        part = batch.slice(skip, left)
        skip, left = 0, left - part.num_rows
        yield table.from_batches([part])
        if not left:
            return
    if left:
        raise OSError(f"it ends {left} rows before row {first + rows}")


def _values(column: Any) -> list[Any]:
    """Values of a column; of strings, what is not UTF-8 becomes a text with a lone surrogate, which is then refused."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        raw = column.cast("large_string").cast("large_binary").to_pylist()
        return [None if one is None else one.decode("utf-8", "surrogateescape") for one in raw]
