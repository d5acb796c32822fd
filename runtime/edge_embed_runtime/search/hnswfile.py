"""The file of a graph, INDEX.graph, and the verdict on it in the index: a cache that may be deleted at any time.

The file is read once, and usearch sees no byte of it before its hash is that of the verdict: a damaged one can crash a
process.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

from edge_embed_runtime.errors import StorageError
from edge_embed_runtime.storage.notes import CRC_FIRST
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.cpu import cpu_model
from edge_embed_runtime.system.writing import sync_folder

MAGIC = b"edge_embed graph 1\n"
HASH_BYTES = 32
# The facts of a graph in JSON, after four bytes with their length.
LENGTH_BYTES = 4
MAX_FACTS_BYTES = 4096
# Passages that were added or deleted since, as a part of those in the graph, that make it too old.
STALE = 0.1


@dataclass(frozen=True)
class Origin:
    """What a graph was made of.

    fingerprint: of the vectors, see Facts
    facts:       checksum of the facts, which changes with the rotation of the binary codes
    generation:  commits of the index, and of these deletions
    codes:       number of codes, each of `bits` bits, the last of them of the passage `last`
    usearch:     its version, connectivity and expansion, which is how well the graph was made
    size:        bytes of the graph
    """

    fingerprint: str
    facts: str
    generation: int
    deletions: int
    codes: int
    bits: int
    last: int
    usearch: str
    connectivity: int
    expansion: int
    size: int

    @staticmethod
    def from_json(text: bytes) -> "Origin":
        """Raises ValueError where this is none."""
        content = json.loads(text)
        if not isinstance(content, dict) or set(content) != {field.name for field in fields(Origin)}:
            raise ValueError("other names")
        origin = Origin(**content)
        types = [field.type for field in fields(Origin)]
        if any(type(value) is not kind for value, kind in zip(astuple(origin), types, strict=True)):
            raise ValueError("other types")
        return origin


@dataclass(frozen=True)
class Verdict:
    """What `rebuild` measured of the scan and of the graph on this device, with the codes that were there.

    ms:     a search for 10 hits by vector, median
    recall: part of the 10 nearest by all int8 codes that it finds
    sha256: of the file that was kept; "" where none was, because the scan is as good
    """

    codes: int
    cpu: str
    exact_ms: float
    graph_ms: float
    exact_recall: float
    graph_recall: float
    build_seconds: float
    bytes: int
    sha256: str

    def to_text(self) -> str:
        """As it is stored, with a checksum of its own."""
        return CRC_FIRST.write(json.dumps(asdict(self)))

    @staticmethod
    def from_text(text: str | None) -> "Verdict | None":
        """None where there is none, or a damaged one."""
        try:
            return Verdict(**json.loads(CRC_FIRST.read(text) or ""))
        except (ValueError, TypeError):  # of a later release
            return None


class UnusableError(Exception):
    """Why a graph cannot be used: not raised to users, who get the exact scan and read why in `Index.stats`."""


def graph_path(index: Path) -> Path:
    return index.with_name(index.name + ".graph")


def _temporary(index: Path) -> Path:
    return index.with_name(f".{index.name}.graph.tmp")


def write(index: Path, origin: Origin, content: bytes) -> str:
    """Put a graph next to its index, whole or not at all, in place of an old one. Gives its hash.

    Raises StorageError when the disk fails. The caller holds the writer's lock.
    """
    facts = json.dumps(asdict(origin)).encode()
    head = len(facts).to_bytes(LENGTH_BYTES, "little") + facts
    sha256 = hashlib.sha256(head)
    sha256.update(content)
    temporary = _temporary(index)
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for part in (MAGIC, sha256.digest(), head, content):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(graph_path(index))
        sync_folder(index.parent)
    except OSError as error:
        raise StorageError(
            f"{graph_path(index)} could not be written: {error.strerror}; the index is whole, searches do without",
            path=graph_path(index),
            cause=error,
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return sha256.hexdigest()


def remove(index: Path) -> None:
    """Delete the graph of an index, and what an interruption left of one. Raises StorageError."""
    try:
        for path in (graph_path(index), _temporary(index)):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"{graph_path(index)} could not be deleted: {error.strerror}", path=graph_path(index)
        ) from error


@contextmanager
def open_graph(store: Store, verdict: Verdict) -> Iterator[tuple[Any, Origin, bytes]]:
    """The file of a graph after its facts, these, and their bytes. Raises UnusableError."""
    path = graph_path(store.path)
    if not verdict.sha256:
        raise UnusableError("not kept: the scan is as good")
    if verdict.cpu != cpu_model():
        raise UnusableError(f"measured on another device ({verdict.cpu})")
    try:
        if not path.is_file():
            raise UnusableError("damaged: not a file" if path.exists() else "missing")
        with path.open("rb") as file:
            magic, sha256, length = (file.read(size) for size in (len(MAGIC), HASH_BYTES, LENGTH_BYTES))
            if magic != MAGIC or sha256.hex() != verdict.sha256:
                raise UnusableError("damaged, or of another index")
            facts = file.read(min(int.from_bytes(length, "little"), MAX_FACTS_BYTES))
            try:
                origin = Origin.from_json(facts)
            except (ValueError, TypeError, RecursionError) as error:
                raise UnusableError(f"damaged: {error}") from error
            size, expected = os.fstat(file.fileno()).st_size, file.tell() + origin.size
            if size != expected:
                raise UnusableError(f"damaged: {size} bytes, expected {expected}")
            yield file, origin, length + facts
    except OSError as error:
        raise UnusableError(f"cannot be read: {error.strerror}") from error


def check_age(origin: Origin, store: Store, still: int, total: int) -> None:
    """Raise UnusableError for a graph of other codes, or where many were added or deleted since.

    still, total: codes that are there now, up to the graph's last and all of them
    """
    generation, deletions = store.counters()
    known = (origin.fingerprint, origin.facts) == (store.facts.fingerprint, store.facts.crc)
    if not known or origin.generation > generation or origin.deletions > deletions:
        raise UnusableError("stale: the codes were made again since")
    changed = (origin.codes - still) + (total - still)
    if changed > STALE * origin.codes:
        raise UnusableError(f"stale: {changed} passages were added or deleted since")
