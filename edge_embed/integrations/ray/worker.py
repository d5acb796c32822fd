"""What an actor of a bulk run does: one shard after the other, read, embedded and written under a temporary name."""

import hashlib
import json
import os
import pickle
import platform
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed.embedder import Embedder
from edge_embed.files.arrow import EXTRA
from edge_embed.files.shards import TEMPORARY, ShardFacts, ShardWriter, schema_of, writing
from edge_embed.integrations.ray.bundles import has_bundle, unpack
from edge_embed.integrations.ray.columns import Asked
from edge_embed.integrations.ray.reading import Batch, Piece, Rows
from edge_embed_runtime.errors import BundleError, EdgeEmbedError, MemoryBudgetError, StorageError
from edge_embed_runtime.extras import require
from edge_embed_runtime.system.writing import FLAGS

# Rows and bytes of a row group: what a worker holds of its output.
GROUP_ROWS, GROUP_BYTES = 8192, 2**25
# How often a shard is tried that ends its worker, which may have run out of memory.
TRIES = 3


@dataclass(frozen=True)
class Job:
    """What all workers of a run are given.

    run:         names it, and its temporary files
    fingerprint: of the bundle without an adapter; that in `facts` counts the adapter
    files:       reference to the bundle's files in the object store; None where every node has it
    options:     of Embedder
    """

    output: str
    run: str
    asked: Asked
    facts: ShardFacts
    bundle: str | None
    fingerprint: str
    options: dict[str, Any]
    files: Any = None
    hashes: bool = True

    def temporary(self, shard: int) -> Path:
        return Path(self.output, TEMPORARY, f"{self.run}.{shard}.{os.urandom(4).hex()}")

    def begun(self, shard: int) -> int:
        """How many workers began with this shard and did not end it: they were killed."""
        return sum(1 for _ in Path(self.output, TEMPORARY).glob(f"{self.run}.{shard}.*"))


@dataclass
class Written:
    """A shard under its temporary name; or why there is none."""

    shard: int
    temporary: str = ""
    rows: int = 0
    blank: int = 0
    size: int = 0
    sha256: str = ""
    problems: list[dict[str, Any]] = field(default_factory=list)
    hashes: bytes = b""
    error: BaseException | None = None
    lost: int = 0  # workers that ended in the middle of it, where it was given up


class EmbedShards:
    """For `map_batches`: {"piece": JSON of Piece} -> {"written": pickled Written}, one row at a time."""

    def __init__(self, job: Job) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the process is ours, and has the cores that it was given
        self._job = job

    @cached_property
    def _embedder(self) -> Embedder:
        return load(self._job)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        done = [pickle.dumps(self._shard(Piece(**json.loads(piece)))) for piece in batch["piece"].tolist()]
        return {"written": np.array(done, object)}

    def _shard(self, piece: Piece) -> Written:
        """Errors of ours travel to the driver in the result: Ray would wrap them, and try again."""
        lost = self._job.begun(piece.number)
        if lost >= TRIES:
            return Written(piece.number, lost=lost)
        temporary = self._job.temporary(piece.number)
        try:
            # the name is taken before the model is loaded, so that who dies of that is counted, too
            with os.fdopen(os.open(temporary, FLAGS, 0o666), "w+b") as file:
                written = self._write(piece, file)
                file.flush()
                os.fsync(file.fileno())
            written.temporary = temporary.name
            return written
        except EdgeEmbedError as error:
            found: EdgeEmbedError = error
        except OSError as error:
            found = StorageError(f"{temporary} could not be written: {error.strerror}", path=temporary, cause=error)
        except MemoryError:
            found = MemoryBudgetError("there is not enough memory")
        with suppress(OSError):
            temporary.unlink()
        return Written(piece.number, error=found)

    def _write(self, piece: Piece, file: Any) -> Written:
        _ = self._embedder  # errors of the bundle come before those of the input
        piece.check_unchanged()
        rows = Rows(piece, self._job.asked)
        hashes = bytearray()
        with writing(file, schema_of(self._job.facts, rows.fields())) as writer:
            groups = _Groups(writer, self._job.facts)
            for batch in rows.batches():
                if batch.keys:
                    groups.add(batch, self._encode(batch.texts))
                if self._job.hashes:
                    hashes += b"".join(hash_of(key) for key in batch.keys)
            groups.flush()
            size, sha256 = writer.close()
        piece.check_unchanged()
        return Written(piece.number, "", writer.rows, rows.blank, size, sha256, rows.problems, bytes(hashes))

    def _encode(self, texts: list[str]) -> Any:
        facts = self._job.facts
        vectors = self._embedder.encode(texts, role=facts.role, prompt=facts.prompt)
        return vectors.astype(facts.dtype, copy=False)


def load(job: Job) -> Embedder:
    """The embedder of a run. Raises BundleError where this node makes other vectors than were asked for."""
    bundle = job.bundle
    if not has_bundle(bundle, job.fingerprint):
        if job.files is None:
            raise BundleError(f"bundle {bundle or 'minilm'} is another on {platform.node()}, or is not there")
        bundle = str(unpack(require("ray", "ray").get(job.files), job.fingerprint))
    embedder = Embedder(bundle, **job.options, engine=job.facts.engine or None)
    if embedder.fingerprint != job.facts.fingerprint:
        raise BundleError(f"bundle {embedder.path} is not the one that the run began with", path=embedder.path)
    return embedder


def hash_of(key: str) -> bytes:
    """8 bytes, the same on every machine."""
    return hashlib.blake2b(key.encode(), digest_size=8).digest()


class _Groups:
    """Collects rows to row groups of bounded size."""

    def __init__(self, writer: ShardWriter, facts: ShardFacts) -> None:
        self._writer, self._facts = writer, facts
        self._tables: list[Any] = []
        self._rows = self._bytes = 0

    def add(self, batch: Batch, vectors: Any) -> None:
        self._tables.append(self._table(batch, vectors))
        self._rows += len(batch.keys)
        self._bytes += self._tables[-1].nbytes
        if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._tables:
            self._writer.write(require("pyarrow", EXTRA).concat_tables(self._tables).combine_chunks())
        self._tables, self._rows, self._bytes = [], 0, 0

    def _table(self, batch: Batch, vectors: Any) -> Any:
        arrow = require("pyarrow", EXTRA)
        schema = self._writer.schema
        columns = [arrow.array(batch.keys, arrow.string()), arrow.array(batch.texts, arrow.string())]
        if isinstance(batch.others, list):
            columns.append(arrow.array(batch.others, arrow.string()))
        elif batch.others is not None:
            columns += [one.combine_chunks() for one in batch.others.columns]
        kind = schema.field(len(schema) - 1).type
        numbers = arrow.array(np.ascontiguousarray(vectors).reshape(-1), kind.value_type)
        columns.append(arrow.FixedSizeListArray.from_arrays(numbers, type=kind))
        return arrow.Table.from_arrays(columns, schema=schema)
