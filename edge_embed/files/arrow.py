"""Parquet and Arrow files of keys, vectors, texts and metadata, read and written by record batches (extra `arrow`)."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge_embed.files.arrays import MISSING, parse_metadata
from edge_embed.files.columns import Form, Names, choose, merged, placed, shown, to_json
from edge_embed.files.rows import listed
from edge_embed_runtime.errors import EdgeEmbedError, SourceError
from edge_embed_runtime.extras import require
from edge_embed_runtime.storage.documents import Document
from edge_embed_runtime.system.files import check_regular

EXTRA = "arrow"
SUFFIXES = (".parquet", ".arrow")
READ_ROWS = 256
USUAL = {"key": "key", "text": "text", "metadata": "metadata"}
# Columns of a dump that say where a passage lies in its document, and whether it has no vector.
PLACE, MEDIA = "place", "media"
DUMPED = ("start", "stop", MISSING, PLACE, MEDIA)


def _arrow() -> Any:
    return require("pyarrow", EXTRA)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    arrow = _arrow()
    try:
        yield
    except EdgeEmbedError:
        raise
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read: {' '.join(str(error).split())[:300]}", path=path) from error


class ArrowFile:
    """Rows of a .parquet file, or of an .arrow file (the file format of Arrow IPC, also called Feather 2).

    Columns: `vector` (lists of numbers), or `code` (lists of int8) and `scale`; optional `key` (strings or whole
    numbers), `text`, and `metadata` (JSON objects as text, or structs). Others become metadata; see columns.py.
    """

    def __init__(self, path: Path, asked: Names) -> None:
        self.path = path
        check_regular(path)  # pyarrow opens the file by its name
        with _readable(path):
            if path.suffix.lower() == ".parquet":
                parquet = require("pyarrow.parquet", EXTRA)
                self._parquet = parquet.ParquetFile(path, pre_buffer=False, page_checksum_verification=True)
                self.count, schema = int(self._parquet.metadata.num_rows), self._parquet.schema_arrow
            else:
                self._parquet = None
                with self._ipc() as (reader, schema):
                    batches = (reader.get_batch(i).num_rows for i in range(reader.num_record_batches))
                    self.count = sum(batches)
        names = set(schema.names)
        if len(names) < len(schema.names):
            raise SourceError(f"{path}: a column has the name of another: {listed(schema.names)}")
        self._column, self.coded = asked.vector or "vector", False
        if self._column not in names and asked.vector is None and {"code", "scale"} <= names:
            self._column, self.coded = "code", True
        elif self._column not in names:
            hint = "; --vector says which it is (vector= in Python)" if schema.names else ""
            raise SourceError(f"{path} has no column {self._column!r}; columns: {listed(schema.names)}{hint}")
        facts = schema.metadata or {}
        self.facts = {name.decode("utf-8", "replace"): text.decode("utf-8", "replace") for name, text in facts.items()}
        self.dumped = b"fingerprint" in facts
        own = {self._column, *(["scale"] if self.coded else []), *(DUMPED if self.dumped else [])}
        self.more_columns = [name for name in (PLACE, MEDIA) if name in own & names]
        self._chosen = choose(path, schema.names, own, asked, USUAL)
        self._types = {name: schema.field(name).type for name in self._chosen.others}
        self.keyed = self._chosen.key is not None
        self.bundle = facts.get(b"bundle", b"").decode("utf-8", "replace") or None
        self.dim = self._dim(schema)
        self._vectors = self._vector_parts()
        self._rest: list[NDArray[Any]] = []
        gaps = MISSING in schema.names and self.dumped
        self._gaps = self._gap_rows() if gaps else None

    def close(self) -> None:
        self._vectors.close()
        if self._gaps is not None:
            self._gaps.close()
        if self._parquet is not None:
            self._parquet.close()

    @contextmanager
    def _ipc(self, columns: list[str] | None = None) -> Iterator[tuple[Any, Any]]:
        """A reader of these columns, and the schema of all; the file is read batch by batch, not mapped into memory."""
        arrow, ipc = _arrow(), require("pyarrow.ipc", EXTRA)
        with arrow.OSFile(str(self.path)) as file:
            schema = ipc.open_file(file).schema
            chosen = None if columns is None else [schema.names.index(name) for name in columns]
            yield ipc.open_file(file, options=ipc.IpcReadOptions(included_fields=chosen)), schema

    def _batches(self, columns: list[str]) -> Iterator[Any]:
        """Record batches of some columns, READ_ROWS at most."""
        with _readable(self.path):
            if self._parquet is not None:
                yield from self._parquet.iter_batches(READ_ROWS, columns=columns)
                return
            with self._ipc(columns) as (reader, _):
                for i in range(reader.num_record_batches):
                    batch = reader.get_batch(i)
                    for start in range(0, batch.num_rows, READ_ROWS):
                        yield batch.slice(start, READ_ROWS)

    def _dim(self, schema: Any) -> int:
        """Numbers in a vector, by the column's type, or where that does not tell by the first row; 0 without rows."""
        kind, types = schema.field(self._column).type, _arrow().types
        lists = types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind)
        if not lists or not (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)):
            raise SourceError(f"{self.path}: the column {self._column!r} is {kind}, expected lists of numbers")
        if types.is_fixed_size_list(kind):
            return int(kind.list_size)
        for batch in self._batches([self._column]):
            if batch.num_rows:
                return len(batch.column(self._column)[0].as_py() or ())
        return 0

    def _vector_parts(self) -> Generator[NDArray[Any], None, None]:
        """Vectors [n, dim], part after part."""
        first = 0
        for batch in self._batches([self._column, "scale"] if self.coded else [self._column]):
            column = batch.column(self._column)
            lengths = require("pyarrow.compute", EXTRA).list_value_length(column).to_numpy(zero_copy_only=False)
            other = np.flatnonzero((lengths != self.dim) | column.is_null().to_numpy(zero_copy_only=False))
            if len(other):
                vector = column[int(other[0])].as_py()
                what = "no vector" if vector is None else f"a vector of {len(vector)} numbers"
                raise SourceError(
                    f"{self.path}: row {first + int(other[0])} has {what}, expected {self.dim}",
                    row=first + int(other[0]),
                )
            rows = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, self.dim)
            yield rows * batch.column("scale").to_numpy(zero_copy_only=False)[:, None] if self.coded else rows
            first += batch.num_rows

    def take(self, rows: int) -> NDArray[Any]:
        """The next vectors [rows, dim]; fewer at the end."""
        parts, held = self._rest, sum(map(len, self._rest))
        while held < rows and (part := next(self._vectors, None)) is not None:
            parts.append(part)
            held += len(part)
        joined = np.concatenate(parts) if parts else np.empty((0, self.dim))
        self._rest = [joined[rows:]] if held > rows else []
        return joined[:rows]

    def _gap_rows(self) -> Generator[bool, None, None]:
        for batch in self._batches([MISSING]):
            for value in batch.column(MISSING).to_pylist():
                if not isinstance(value, bool):
                    raise SourceError(f"{self.path}: the column {MISSING!r} holds what is neither true nor false")
                yield value

    def gaps(self, rows: int) -> NDArray[np.bool_] | None:
        """Whether the next rows [rows] have no vector; None where all have one."""
        return None if self._gaps is None else np.fromiter(islice(self._gaps, rows), np.bool_)

    def keys(self) -> Iterator[str]:
        name = self._chosen.key
        if name is not None:
            for batch in self._batches([name]):
                yield from map(self._key, batch.column(name).to_pylist())

    def _key(self, key: object) -> str:
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise SourceError(f"{self.path}: a key is {key!r:.40}, expected a string")
        return str(key)

    def documents(self) -> Iterator[Document]:
        chosen = self._chosen
        names = [name for name in (chosen.key, chosen.text, chosen.metadata) if name is not None]
        row = 0
        names += self.more_columns
        for batch in self._batches([*names, *chosen.others] or [self._column]):
            columns: dict[str | None, list[Any]] = {name: batch.column(name).to_pylist() for name in names}
            others = {name: self._values(batch.column(name), name) for name in chosen.others}
            absent = [None] * batch.num_rows
            key, text, metadata = (columns.get(name, absent) for name in (chosen.key, chosen.text, chosen.metadata))
            place, media = (columns.get(name, absent) for name in (PLACE, MEDIA))
            for i in range(batch.num_rows):
                name = self._key(key[i]) if self.keyed else str(row)
                if not isinstance(text[i], str | None):
                    kind = type(text[i]).__name__
                    raise SourceError(f"{self.path}: row {row}: the text is {kind}, expected a string", row=row)
                held = {other: to_json(values[i], self._place(row, other)) for other, values in others.items()}
                found = parse_metadata(metadata[i], self.path, row)
                more = shown(media[i], self.path, row)
                yield Document(name, text[i] or "", merged(found, held, self.path, row), placed(place[i]), **more)
                row += 1

    def _place(self, row: int, column: str) -> str:
        return f"{self.path}: row {row}: the column {column!r}"

    def _values(self, column: Any, name: str) -> list[Any]:
        """A column of metadata as Python values. Times become microseconds: with nanoseconds pyarrow needs pandas."""
        arrow, kind = _arrow(), self._types[name]
        if arrow.types.is_timestamp(kind) and kind.unit == "ns":
            column = column.cast(arrow.timestamp("us", kind.tz), safe=False)
        elif arrow.types.is_time(kind) and kind == arrow.time64("ns"):
            column = column.cast(arrow.time64("us"), safe=False)
        return list(column.to_pylist())


class ArrowWriter:
    """Writes what ArrowFile reads: key, start, stop, text, metadata (JSON), and vector (a list of `dim` float32), or
    code (a list of `dim` int8) and scale; `missing` where some rows have no vector. Facts become metadata of the
    schema."""

    def __init__(self, file: BinaryIO, suffix: str, form: Form) -> None:
        self._arrow = arrow = _arrow()
        self._dim, codes = form.dim, form.codes
        numbers = arrow.int8() if codes else arrow.float32()
        fields = [("key", arrow.string()), ("start", arrow.int64()), ("stop", arrow.int64())]
        fields += [("code" if codes else "vector", arrow.list_(numbers, form.dim))]
        fields += [("scale", arrow.float32())] if codes else []
        fields += [("text", arrow.string()), ("metadata", arrow.string())]
        fields += [(PLACE, arrow.string())] if form.places else []
        fields += [(MEDIA, arrow.string())] if form.media else []
        fields += [(MISSING, arrow.bool_())] if form.gaps else []
        self._schema = arrow.schema(fields, metadata=dict(form.facts))
        if suffix == ".parquet":
            parquet = require("pyarrow.parquet", EXTRA)
            self._writer = parquet.ParquetWriter(file, self._schema, use_dictionary=["metadata"])
        else:
            self._writer = require("pyarrow.ipc", EXTRA).new_file(file, self._schema)

    def write(self, columns: Mapping[str, Any]) -> None:
        """One record batch: lists, and arrays [n] or [n, dim], by name."""
        arrow = self._arrow
        made = []
        for field in self._schema:
            values = columns[field.name]
            if field.name in ("vector", "code"):
                numbers = arrow.array(values.reshape(-1), field.type.value_type)
                made.append(arrow.FixedSizeListArray.from_arrays(numbers, self._dim))
            else:
                made.append(arrow.array(values, field.type))
        self._writer.write_batch(arrow.RecordBatch.from_arrays(made, schema=self._schema))

    def finish(self) -> None:
        self._writer.close()

    def close(self) -> None:
        """Close the file, whether all was written or not."""
        with suppress(OSError, ValueError):
            self._writer.close()
