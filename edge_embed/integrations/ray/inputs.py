"""Which files a bulk run reads, how many rows they have, and where they are cut into shards."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_embed.files.arrow import EXTRA
from edge_embed.files.lines import BOMS
from edge_embed_runtime.checks import listed
from edge_embed_runtime.errors import SourceError
from edge_embed_runtime.extras import require
from edge_embed_runtime.system.files import check_regular, open_unpacked

PARQUET = (".parquet",)
LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
# How such files may be packed, too, but cannot be read: the rest of a folder is passed over, they are refused.
OTHERWISE_PACKED = tuple(kind + ending for kind in LINES[:2] for ending in (".zst", ".bz2", ".xz", ".lz4", ".zip"))
# Shards of files of lines begin at multiples of so many rows, whose places in the file are known.
GRAIN = 1000
# Rows of a shard at most, unless the caller says so: what a killed run does again, and about a minute of one core.
ROWS = 20_000
# Shards for each worker at least, so that none waits long for the last.
SHARDS_EACH = 4
CHUNK = 2**20


@dataclass(frozen=True)
class File:
    """An input. name: its path below the folder that was given, with slashes; it begins the keys of rows without one"""

    path: Path
    name: str

    @property
    def is_parquet(self) -> bool:
        return self.path.name.lower().endswith(PARQUET)

    @property
    def is_packed(self) -> bool:
        return self.path.name.lower().endswith(".gz")


@dataclass(frozen=True)
class Counted:
    """A file, its state when its rows were counted, and where each `grain`-th line begins (not in Parquet)."""

    file: File
    bytes: int
    changed_ns: int
    rows: int
    places: Sequence[int] = field(default=(), repr=False)

    def as_json(self) -> dict[str, Any]:
        """What a plan says of it."""
        file = self.file
        said = {"path": str(file.path), "name": file.name, "bytes": self.bytes}
        return {**said, "changed_ns": self.changed_ns, "rows": self.rows}


def find(given: Sequence[str | os.PathLike[str]], output: Path) -> list[File]:
    """The files of paths, folders (all below, without hidden ones and names that begin with "_") and patterns, in the
    order of their names. Raises SourceError."""
    found = dict[str, File]()
    for one in given:
        text = os.fspath(one)
        if "://" in text:
            raise SourceError(f"{text} is an address, expected a path: mount it, or copy it to a disk", path=text)
        path = Path(text)
        matches = [path] if path.exists() or not glob.has_magic(text) else _matching(text)
        if not matches:
            raise SourceError(f"no file fits {text}", path=text, code="source_missing")
        for match in sorted(matches):
            for file in _below(match) if match.is_dir() else [_named(match)]:
                found.setdefault(os.path.realpath(file.path), file)
    real = os.path.realpath(output)
    if inside := next((name for name in found if name.startswith(real + os.sep)), None):
        raise SourceError(f"{inside} lies in the output {output}: give another OUTPUT", path=inside)
    if not found:
        kinds = ", ".join((*PARQUET, *LINES))
        raise SourceError(f"{listed([os.fspath(one) for one in given])}: no files to read; expected {kinds}")
    names = [file.name for file in found.values()]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SourceError(f"two inputs are called {twice}: give the folder above both, so that keys tell them apart")
    return sorted(found.values(), key=lambda file: file.name)


def _matching(pattern: str) -> list[Path]:
    return [Path(name) for name in glob.glob(pattern, recursive=True)]  # noqa: PTH207 - Path.glob takes no absolute one


def _named(path: Path) -> File:
    check_regular(path)
    if not path.name.lower().endswith((*PARQUET, *LINES)):
        raise SourceError(f"{path} is not a file of a known type; expected {', '.join((*PARQUET, *LINES))}", path=path)
    return File(path, path.name)


def _below(folder: Path) -> Iterator[File]:
    for where, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        for name in names:
            path = Path(where, name)
            if name.startswith((".", "_")):
                continue
            if name.lower().endswith(OTHERWISE_PACKED):
                raise SourceError(f"{path} is packed with {path.suffix}, expected .gz: unpack it", path=path)
            if name.lower().endswith((*PARQUET, *LINES)):
                check_regular(path)
                yield File(path, path.relative_to(folder).as_posix())


def _refuse(error: OSError) -> None:
    raise SourceError(f"{error.filename} cannot be read: {error.strerror}", path=error.filename) from error


def count(file: File, grain: int) -> Counted:
    """Rows of a file; of a file of lines all lines, blank ones too. Raises SourceError."""
    status = file.path.stat()
    if file.is_parquet:
        arrow, parquet = require("pyarrow", EXTRA), require("pyarrow.parquet", EXTRA)
        try:
            rows, places = int(parquet.read_metadata(file.path).num_rows), list[int]()
        except (arrow.ArrowException, OSError, ValueError) as error:
            why = " ".join(str(error).split())[:300]
            raise SourceError(f"{file.path} cannot be read: {why}", path=file.path) from error
    else:
        rows, places = _count_lines(file, grain)
    return Counted(file, status.st_size, status.st_mtime_ns, rows, places)


def _count_lines(file: File, grain: int) -> tuple[int, list[int]]:
    rows, at, places, last = 0, 0, [0], b"\n"
    try:
        with open_unpacked(file.path) as content:
            while chunk := content.read(CHUNK):
                if not at and (name := next((name for mark, name in BOMS[1:] if chunk.startswith(mark)), None)):
                    raise SourceError(f"{file.path} is {name.upper()}, expected UTF-8: convert it", path=file.path)
                ends = chunk.count(b"\n")
                if (rows + ends) // grain > rows // grain:
                    places += _places(chunk, at, rows, grain)
                rows, at, last = rows + ends, at + len(chunk), chunk[-1:]
    except (OSError, EOFError) as error:  # gzip: not packed, or cut off
        raise SourceError(f"{file.path} cannot be read: {error}", path=file.path) from error
    return rows + (last != b"\n"), places


def _places(chunk: bytes, at: int, rows: int, grain: int) -> Iterator[int]:
    """Where lines begin that are multiples of `grain`, of those that begin behind a newline of this chunk."""
    position = -1
    for line in range(rows + 1, rows + chunk.count(b"\n") + 1):
        position = chunk.index(b"\n", position + 1)
        if line % grain == 0:
            yield at + position + 1


def cut(counted: Sequence[Counted], rows: int, grain: int) -> Iterator[dict[str, Any]]:
    """The shards of files: the number of the file, the first row, how many, and where it begins in a file of lines.

    rows: of a shard at most, a multiple of the `grain` that the files were counted with
    """
    for number, one in enumerate(counted):
        for first in range(0, one.rows, rows):
            place = {} if one.file.is_parquet else {"at": one.places[first // grain]}
            yield {"file": number, "first": first, "rows": min(rows, one.rows - first), **place}


def rows_for(total: int, workers: int) -> int:
    """Rows of a shard where the caller says nothing: ROWS, fewer where not each worker would get SHARDS_EACH."""
    return max(GRAIN, min(ROWS, -(-total // (SHARDS_EACH * workers * GRAIN)) * GRAIN))
