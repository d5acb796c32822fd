"""Vectors in .npy and .npz files, read from front to back in bounded memory; npzwriter.py writes them.

Texts are two arrays: `NAME`, uint8 [bytes], all texts in UTF-8 one after the other, and `NAME_offsets`, int64 [n + 1]:
text i is NAME[NAME_offsets[i]:NAME_offsets[i + 1]]. In numpy's own array of strings each takes the room of the longest.
"""

import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from edge_embed.files.columns import Names, choose, merged, placed, shown, to_json
from edge_embed.files.rows import listed
from edge_embed_runtime.errors import InputError, SourceError, about
from edge_embed_runtime.index.opening import MAX_DIM
from edge_embed_runtime.storage.documents import Document
from edge_embed_runtime.system.files import open_regular

OFFSETS = "_offsets"
# The array of each column.
NAMES = {
    "key": "keys", "start": "starts", "stop": "stops", "vector": "vectors", "code": "codes", "scale": "scales",
    "text": "texts", "metadata": "metadata", "missing": "missing", "place": "places", "media": "media",
}  # fmt: skip
USUAL = {"key": "keys", "text": "texts", "metadata": "metadata"}
# Whether a row of a dump has no vector, where some have none: zeros stand for it then.
MISSING = "missing"
# Arrays of a dump that say so, and where a passage lies in its document.
DUMPED, PLACES, MEDIA = ("starts", "stops", MISSING), "places", "media"
# Rows, and bytes of strings, that are read at a time.
CHUNK = 8192
CHUNK_BYTES = 2**24
COPY_BYTES = 2**20
MAGIC = b"\x93NUMPY"
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# What numpy raises for bytes that are not a header, and zipfile for files that are cut off, changed, encrypted, or
# compressed in a way that this Python does not know.
UNREADABLE = (ValueError, TypeError, SyntaxError, MemoryError, RuntimeError, TokenError, OSError, EOFError, zlib.error,
              zipfile.BadZipFile)  # fmt: skip


@contextmanager
def readable(what: object) -> Iterator[None]:
    """Turns every error of reading a file into a SourceError that names the file."""
    try:
        yield
    except (SourceError, InputError):
        raise
    except UNREADABLE as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise SourceError(f"{what} cannot be read: {reason}") from error


class ArrayReader:
    """An array in numpy's .npy form (numpy.lib.format), rows from front to back.

    stream, size: its bytes from their start, and their number, header included
    name:         for messages

    Raises SourceError where it is cut off or no plain array: one of Python objects is a pickle, which may run code.
    """

    def __init__(self, stream: BinaryIO, size: int, name: str) -> None:
        self._stream, self._name = stream, name
        with readable(name):
            head = stream.read(len(MAGIC) + 2)
            if head[:-2] != MAGIC:
                raise SourceError(f"{name} cannot be read: it is not a .npy file")
            version = tuple(head[-2:])
            if version not in HEADERS:
                raise SourceError(f"{name} is in version {version} of numpy's format; save plain numbers or strings")
            try:
                shape, by_columns, dtype = HEADERS[version](stream)
            except ValueError as error:  # numpy's message tells how to read it without checks
                raise SourceError(f"{name} cannot be read: its header is damaged") from error
            header = stream.tell()
        if dtype.hasobject:
            raise SourceError(f"{name} holds Python objects (a pickle), which are not read: save plain numbers")
        if by_columns:
            raise SourceError(f"{name} is in Fortran order: save numpy.ascontiguousarray(array)")
        if any(length < 0 for length in shape):
            raise SourceError(f"{name} has the shape {shape}")
        expected = header + dtype.itemsize * int(np.prod(shape, dtype=object))
        if size != expected:
            raise SourceError(f"{name} has {size:,} bytes, its header says {expected:,}: it is cut off or overwritten")
        self.shape, self.dtype = shape, dtype

    def take(self, rows: int) -> NDArray[Any]:
        """The next rows [rows, ...]; fewer at the end."""
        tail = self.shape[1:]
        row_bytes = self.dtype.itemsize * int(np.prod(tail))
        with readable(self._name):
            raw = self._stream.read(rows * row_bytes)
        whole = len(raw) // row_bytes if row_bytes else 0
        return np.frombuffer(raw, self.dtype, whole * int(np.prod(tail))).reshape(whole, *tail)

    def value(self) -> Any:
        """The one value of an array without dimensions, a short string."""
        if self.shape or self.dtype.itemsize > COPY_BYTES:
            raise SourceError(f"{self._name} is {self.dtype} {self.shape}, expected one short string")
        with readable(self._name):
            return np.frombuffer(self._stream.read(), self.dtype).reshape(self.shape)[()]


def read_vector(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """The numbers [dim] of a .npy file that holds one vector, [dim] or [1, dim]. Raises SourceError for any other."""
    with open_regular(path) as file, about(path, SourceError):
        found = ArrayReader(file, os.fstat(file.fileno()).st_size, str(path))
        count = int(np.prod(found.shape, dtype=object))
        if found.dtype.kind not in "fiu" or max(found.shape, default=0) != count or not 0 < count <= MAX_DIM:
            raise SourceError(f"{path} is {found.dtype} {found.shape}, expected the real numbers of one vector")
        with readable(path):
            numbers = np.frombuffer(file.read(), found.dtype)
    with np.errstate(over="ignore"):
        vector = numbers.astype(np.float32)
    if not np.isfinite(vector).all():
        raise SourceError(f"{path}: the vector holds NaN or infinity, or a number too large for float32")
    return vector


class NpyFile:
    """Vectors of a .npy file; keys are the numbers of their rows."""

    bundle: str | None = None
    keyed = False

    def __init__(self, path: Path, asked: Names) -> None:  # noqa: ARG002 - it has no columns
        self._file = open_regular(path)
        try:
            self._array = _matrix(ArrayReader(self._file, os.fstat(self._file.fileno()).st_size, str(path)), str(path))
        except BaseException:
            self._file.close()
            raise
        self.count, self.dim = self._array.shape
        self.take = self._array.take

    def gaps(self, rows: int) -> None:
        """None: all have a vector."""

    def keys(self) -> Iterator[str]:
        return map(str, range(self.count))

    def documents(self) -> Iterator[Document]:
        return (Document(key, "") for key in self.keys())

    def close(self) -> None:
        self._file.close()


class NpzFile:
    """Rows of an .npz file: `vectors`, or `codes` and `scales`; and `keys`, `texts` and `metadata` if it has them.

    These are as described above, or arrays of numpy's strings; keys may be whole numbers. Other arrays of as many rows
    become metadata; see columns.py.
    """

    def __init__(self, path: Path, asked: Names) -> None:
        self._path, self._asked = path, asked
        self._file = open_regular(path)
        try:
            with readable(path):
                self._zip = zipfile.ZipFile(self._file)
            self._names = list(dict.fromkeys(name.removesuffix(".npy") for name in self._zip.namelist()))
            self._read_headers()
        except BaseException:
            self._file.close()
            raise

    def _read_headers(self) -> None:
        name = self._asked.vector or "vectors"
        coded = name not in self._names and self._asked.vector is None and {"codes", "scales"} <= set(self._names)
        if name not in self._names and not coded:
            hint = "; --vector says which it is (vector= in Python)" if self._names else ""
            raise SourceError(f"{self._path} has no array {name!r}; arrays: {listed(sorted(self._names))}{hint}")
        name = "codes" if coded else name
        self._array = _matrix(self._reader(name), f"{self._path}: {name}")
        self._scales = self._reader("scales") if coded else None
        self._gaps = self._reader(MISSING) if {MISSING, "fingerprint"} <= set(self._names) else None
        self.count, self.dim = self._array.shape
        self._chosen = choose(self._path, self._columns(), {name, "scales"} if coded else {name}, self._asked, USUAL)
        self.keyed = self._chosen.key is not None
        self.bundle = str(self._reader("bundle").value()) if "bundle" in self._names else None
        chosen = (self._chosen.key, self._chosen.text, self._chosen.metadata, *self._chosen.others)
        counts = {other: self._count(other) for other in chosen if other is not None}
        if self._scales is not None:
            if self._scales.dtype.kind != "f" or len(self._scales.shape) != 1:
                raise SourceError(f"{self._path}: scales are not real numbers [n]")
            counts["scales"] = self._scales.shape[0]
        if self._gaps is not None:
            if self._gaps.dtype.kind != "b" or len(self._gaps.shape) != 1:
                raise SourceError(f"{self._path}: {MISSING} is not true or false [n]")
            counts[MISSING] = self._gaps.shape[0]
        for other, count in counts.items():
            if count != self.count:
                raise SourceError(f"{self._path} has {self.count} {name} and {count} {other}: expected as many")

    def _columns(self) -> list[str]:
        """Arrays with a value per row: without facts and places of passages of a dump, and without offsets of texts."""
        texts_of_dumps = (name + end for name in (PLACES, MEDIA) for end in ("", OFFSETS))
        dumped = (*DUMPED, *texts_of_dumps) if "fingerprint" in self._names else ()
        names = [name for name in self._names if name not in dumped]
        texts = [name for name in names if name + OFFSETS in names]
        return [
            name for name in names if name.removesuffix(OFFSETS) not in texts or name in texts if self._has_rows(name)
        ]

    def _has_rows(self, name: str) -> bool:
        return len(self._reader(name).shape) > 0

    def take(self, rows: int) -> NDArray[Any]:
        """The next vectors [rows, dim]; fewer at the end."""
        numbers = self._array.take(rows)
        return numbers if self._scales is None else numbers * self._scales.take(rows)[:, None]

    def gaps(self, rows: int) -> NDArray[np.bool_] | None:
        """Whether the next rows [rows] have no vector; None where all have one."""
        return None if self._gaps is None else self._gaps.take(rows)

    def keys(self) -> Iterator[str]:
        return map(str, range(self.count)) if self._chosen.key is None else self._strings(self._chosen.key)

    def documents(self) -> Iterator[Document]:
        chosen, nothing = self._chosen, iter(())
        texts = nothing if chosen.text is None else self._strings(chosen.text)
        metadata = nothing if chosen.metadata is None else self._strings(chosen.metadata)
        places, media = (
            self._strings(name) if {name, "fingerprint"} <= set(self._names) else nothing for name in (PLACES, MEDIA)
        )
        others = {name: self._values(name) for name in chosen.others}
        for row, key in enumerate(self.keys()):
            held = {name: next(values, None) for name, values in others.items()}
            found = parse_metadata(next(metadata, None), self._path, row)
            more = shown(next(media, None), self._path, row)
            yield Document(
                key, next(texts, ""), merged(found, held, self._path, row), placed(next(places, None)), **more
            )

    def _values(self, name: str) -> Iterator[Any]:
        """Rows of an array that becomes metadata: texts, numbers, booleans, times as ISO texts, lists of them."""
        if name + OFFSETS in self._names:
            yield from self._texts(name)
            return
        array, row = self._reader(name), 0
        if array.dtype.kind not in "USiufbM":
            raise SourceError(f"{self._path}: {name} is {array.dtype}, which JSON cannot hold: leave it out")
        while len(part := array.take(CHUNK)):
            times = part.dtype.kind == "M"
            for value in (np.datetime_as_string(part) if times else part).tolist():
                text = self._decoded(value, name) if isinstance(value, bytes) else value
                yield None if times and text == "NaT" else to_json(text, f"{self._path}: row {row}: {name}")
                row += 1

    def close(self) -> None:
        self._zip.close()
        self._file.close()

    def _reader(self, name: str) -> ArrayReader:
        """The array `name`, from its start; several can be read at the same time."""
        with readable(self._path):
            info = self._zip.getinfo(f"{name}.npy")
            return ArrayReader(cast(BinaryIO, self._zip.open(info)), info.file_size, f"{self._path}: {name}")

    def _count(self, name: str) -> int:
        """The number of texts in the array `name`."""
        offsets = name + OFFSETS in self._names
        shape = self._reader(name + OFFSETS if offsets else name).shape
        rows = len(shape) == 1 or (len(shape) > 1 and name in self._chosen.others)
        return max(0, shape[0] - offsets) if rows else 0

    def _strings(self, name: str) -> Iterator[str]:
        if name + OFFSETS in self._names:
            yield from self._texts(name)
            return
        array = self._reader(name)
        if len(array.shape) != 1 or array.dtype.kind not in "USiu":
            raise SourceError(f"{self._path}: {name} is {array.dtype} {array.shape}, expected strings [n]")
        while len(part := array.take(max(1, min(CHUNK, CHUNK_BYTES // max(1, array.dtype.itemsize))))):
            for value in part.tolist():
                yield self._decoded(value, name) if isinstance(value, bytes) else str(value)

    def _texts(self, name: str) -> Iterator[str]:
        blob, offsets = self._reader(name), self._reader(name + OFFSETS)
        if blob.dtype != np.uint8 or len(blob.shape) != 1 or offsets.dtype.kind != "i":
            raise SourceError(f"{self._path}: {name} is not uint8 [bytes] with int64 offsets")
        (end,) = offsets.take(1).tolist()
        if end != 0:
            raise SourceError(f"{self._path}: {name + OFFSETS} begins with {end}, expected 0")
        while len(part := offsets.take(CHUNK)):
            for stop in part.tolist():
                if not end <= stop <= blob.shape[0]:
                    raise SourceError(f"{self._path}: {name + OFFSETS} has {stop} after {end}, {name} has {blob.shape}")
                yield self._decoded(blob.take(stop - end).tobytes(), name)
                end = stop

    def _decoded(self, raw: bytes, name: str) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise SourceError(f"{self._path}: {name} has what is not UTF-8 text ({error.reason})") from error


def _matrix(found: ArrayReader, name: str) -> ArrayReader:
    """An array of real numbers with two dimensions, or a SourceError."""
    if len(found.shape) != 2:
        raise SourceError(f"{name} has the shape {found.shape}, expected (rows, numbers in a vector)")
    if found.dtype.kind not in "fiu":
        raise SourceError(f"{name} is of {found.dtype}, expected real numbers")
    return found


def parse_metadata(value: object, path: Path, row: int) -> Mapping[str, Any]:
    """'{"a": 1}', or a mapping -> a mapping; nothing -> an empty one."""
    try:
        parsed = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: row {row}: the metadata is not valid JSON: {error}", row=row) from error
    if not isinstance(parsed, Mapping | None):
        raise SourceError(
            f"{path}: row {row}: the metadata is {type(parsed).__name__}, expected a JSON object", row=row
        )
    return parsed or {}


def check_rows(vectors: NDArray[Any], path: Path, first: int) -> None:
    """Raise SourceError for a vector that cannot be stored, with its row in the file rather than in the batch."""
    largest = np.maximum(vectors.max(axis=1), -vectors.min(axis=1).astype(np.float64))
    bad = np.flatnonzero(~np.isfinite(largest) | (largest == 0))
    if len(bad):
        raise SourceError(
            f"{path}: row {first + int(bad[0])} holds NaN, infinity, or nothing but zeros",
            row=first + int(bad[0]),
        )
