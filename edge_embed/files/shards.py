"""Shards: the Parquet files of keys, texts and vectors of a bulk run, and the two files that say what they are."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO

from edge_embed.files.arrow import EXTRA
from edge_embed_runtime.errors import SourceError
from edge_embed_runtime.extras import require
from edge_embed_runtime.system.files import check_regular, open_regular, read_regular

# Of a run: its plan, and a line for each finished shard. Readers of folders of Parquet files skip such names.
PLAN, DONE = "_edge_embed.json", "_edge_embed.done.jsonl"
PATTERN = "part-*.parquet"
# The folder in that of a run where its workers write: a shard gets its name when it is whole and on disk.
TEMPORARY = ".edge_embed.tmp"
KEY, TEXT, METADATA, VECTOR = "key", "text", "metadata", "vector"
DTYPES = ("float32", "float16")
# In the metadata of a shard's schema: ShardFacts as JSON, and the name of the bundle alone, as dumps have it.
FACTS, BUNDLE = b"edge_embed", b"bundle"
MAX_PLAN = 2**30


@dataclass(frozen=True)
class ShardFacts:
    """What all vectors of a run have in common.

    fingerprint, space, engine, dim, adapter: see Embedder; role, prompt: see `Embedder.encode`
    dtype:   of the stored vectors, a name of DTYPES
    version: of edge_embed that wrote them; does not count where facts are compared
    shard:   the version of this layout
    """

    bundle: str
    fingerprint: str
    space: str
    engine: str
    dim: int
    dtype: str
    role: str | None = None
    prompt: str | None = None
    adapter: str | None = None
    version: str = field(default="", compare=False)
    shard: int = 1

    @classmethod
    def of(cls, found: object) -> "ShardFacts":
        """From JSON. Raises ValueError."""
        if not isinstance(found, dict) or found.get("shard") != 1:
            raise ValueError("not the facts of a shard of a layout that this release reads")
        known = {one.name for one in fields(cls)}
        facts = cls(**{name: value for name, value in found.items() if name in known})
        if not isinstance(facts.dim, int) or facts.dim < 1 or facts.dtype not in DTYPES:
            raise ValueError("the facts of a shard name no vectors")
        return facts


@dataclass(frozen=True)
class Finished:
    """A finished shard: its number and name, rows, bytes, sha256, and the rows of its input that have no vector, each
    with `file`, `row` (from 0) or `line` (from 1), and `reason`."""

    shard: int
    name: str
    rows: int
    bytes: int
    sha256: str
    problems: list[dict[str, Any]]

    def is_whole(self, folder: Path) -> bool:
        """Whether the file is there as it was written: its size first, then its content."""
        try:
            if check_regular(folder / self.name).st_size != self.bytes:
                return False
            with (folder / self.name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except (OSError, SourceError):
            return False


def read_facts(path: Path) -> ShardFacts:
    """What a shard says of its vectors. Raises SourceError for a file that is cut off, or is no shard."""
    arrow, parquet = require("pyarrow", EXTRA), require("pyarrow.parquet", EXTRA)
    check_regular(path)
    try:
        schema = parquet.read_schema(path)
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read: {' '.join(str(error).split())[:300]}", path=path) from error
    try:
        return ShardFacts.of(json.loads((schema.metadata or {})[FACTS]))
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{path} is not a shard that `edge-embed bulk` wrote", path=path) from error


def read_plan(folder: Path) -> dict[str, Any] | None:
    """The plan of the run that writes or wrote this folder; None where there is none. Raises SourceError."""
    path = folder / PLAN
    if not path.exists():
        return None
    try:
        plan = json.loads(read_regular(path, MAX_PLAN))
        if not isinstance(plan, dict) or not isinstance(plan.get("shards"), list):
            raise ValueError("no list of shards")
    except ValueError as error:
        raise SourceError(f"{path} is not the plan of a run: {error}", path=path) from error
    return plan


def finished(folder: Path) -> list[Finished]:
    """The finished shards, in their order; of one that was written twice the last. A line cut off at the end does not
    count. Raises SourceError."""
    path = folder / DONE
    if not path.exists():
        return []
    found = dict[int, Finished]()
    with open_regular(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                one = Finished(**json.loads(line))
            except (ValueError, TypeError) as error:
                hint = "remove the line, and the shard is made again"
                raise SourceError(
                    f"{path}, line {number}: not a finished shard; {hint}", path=path, line=number
                ) from error
            found[one.shard] = one
    return [found[number] for number in sorted(found)]


def unfinished(folder: Path) -> int:
    """How many shards of the run that writes this folder are not finished; 0 where it is no such folder."""
    plan = read_plan(folder)
    return 0 if plan is None else len(plan["shards"]) - len(finished(folder))


def schema_of(facts: ShardFacts, others: Any = ()) -> Any:
    """The schema of a shard. others: fields of columns of the input that stand between text and vector"""
    arrow = require("pyarrow", EXTRA)
    numbers = arrow.float16() if facts.dtype == "float16" else arrow.float32()
    vector = arrow.field(VECTOR, arrow.list_(arrow.field("item", numbers, nullable=False), facts.dim), nullable=False)
    first = [arrow.field(KEY, arrow.string(), nullable=False), arrow.field(TEXT, arrow.string(), nullable=False)]
    said = {FACTS: json.dumps(asdict(facts)), BUNDLE: facts.bundle}
    return arrow.schema([*first, *others, vector], metadata=said)


class _Hashed:
    """A file that is written from the beginning to the end, and its hash."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.hash, self.bytes, self.closed = file, hashlib.sha256(), 0, False

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        self.bytes += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self.closed = True


class ShardWriter:
    """Writes tables of one schema to a shard. Pages have checksums; hash and size are known once it is closed."""

    def __init__(self, file: BinaryIO, schema: Any) -> None:
        self._to = _Hashed(file)
        self.schema, self.rows = schema, 0
        self._writer = require("pyarrow.parquet", EXTRA).ParquetWriter(
            require("pyarrow", EXTRA).PythonFile(self._to, mode="w"),
            schema,
            use_dictionary=False,  # keys, texts and vectors differ from row to row
            write_page_checksum=True,
            write_statistics=False,
            store_schema=True,
        )

    def write(self, table: Any) -> None:
        """One row group."""
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self.rows += table.num_rows

    def close(self) -> tuple[int, str]:
        """Bytes and sha256 of the file."""
        self._writer.close()
        return self._to.bytes, self._to.hash.hexdigest()


@contextmanager
def writing(file: BinaryIO, schema: Any) -> Iterator[ShardWriter]:
    """A ShardWriter that is closed also where writing fails."""
    writer = ShardWriter(file, schema)
    try:
        yield writer
    except BaseException:
        with suppress(OSError, ValueError):
            writer.close()
        raise
