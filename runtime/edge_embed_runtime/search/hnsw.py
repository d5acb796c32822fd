"""A usearch graph over the binary codes, in a file beside the index: a cache that may be deleted at any time.

Few devices have indexes so large that walking a graph beats comparing with every code; `rebuild` measures which is
faster, and leaves its verdict in the index. The file is read once, and usearch sees no byte of it before its hash is
that of the verdict: a damaged one can crash a process. Whatever does not fit costs time, never hits: all codes are
compared then.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed_runtime.errors import IndexFileError, MissingExtraError, StorageError
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.storage.notes import CRC_FIRST
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.cpu import cpu_model
from edge_embed_runtime.system.writing import sync_folder
from edge_embed_runtime.vectors.int8 import BinaryCodes, Places, Pool, Words

MAGIC = b"edge_embed graph 1\n"
HASH_BYTES = 32
# The facts of a graph in JSON, after four bytes with their length.
LENGTH_BYTES = 4
MAX_FACTS_BYTES = 4096
# Neighbours of a code, and how many are looked at to find them. Of 100,000 vectors, recall@10 of a whole search is
# 0.991 by the scan; with these 0.989, with (16, 64) 0.950, (24, 64) 0.965, (32, 128) 0.987 (600 proposed of 1,000).
CONNECTIVITY = 16
EXPANSION = 256
# Codes that are added before an interruption is noticed.
BATCH = 2048
# Bytes a code that building takes, at its end: the graph as it grew and as bytes.
MEMORY = 600
# Passages that were added or deleted since, as a part of those in the graph, that make it too old.
STALE = 0.1
# Of the candidates that the scan would propose, the part that a graph is asked for, which its time grows with. Recall
# at a million: scan 0.989, graph 0.983, 0.986 and 0.987 with a half, three quarters and all of them.
PART = 0.75
# The part of them that are nearest, up to where a graph is taken to have found nearly all.
REACH = 0.9
# More candidates than this, as many hits or words and meanings together take, the scan finds faster.
MOST = 4096
# The row of `meta` that holds the verdict.
VERDICT = "graph"


@dataclass(frozen=True)
class Origin:
    """What a graph was made of.

    fingerprint: of the vectors, see Facts
    facts:       checksum of the facts, which changes with the frame of the binary codes
    generation:  commits of the index, and of these deletions
    codes:       number of codes of so many bits, the last of them of the passage `last`
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


class Graph:
    """A graph in memory."""

    def __init__(self, origin: Origin, content: bytes | memoryview) -> None:
        """content: as `build` gives it; usearch trusts it. Raises MemoryError, or RuntimeError as usearch does."""
        _check_memory(2 * origin.size)
        self.origin = origin
        self._index = _usearch(origin.bits)
        self._index.load(content)

    def nearest(self, codes: BinaryCodes, query: Words, count: int) -> Places:
        """Places in codes of a PART of the `count` that are nearest to the query [words], in no order.

        What was added since the graph was made is compared one by one and comes on top.
        """
        asked = max(1, int(PART * count))
        self._index.expansion_search = asked
        places = codes.places(self._index.search(query.view(np.uint8), asked, threads=1).keys.astype(np.int64))
        new = np.arange(_until(codes, self.origin.last), len(codes))
        if len(new):
            places = np.concatenate([places, codes.nearest(query, count, new)])
        return places


def require_usearch() -> Any:
    """The package usearch. Importing it takes 15 MB and 0.05 s, which most searches do without.

    Raises MissingExtraError where it is not there: a lean install leaves it out.
    """
    try:
        import usearch.index
    except ImportError as error:
        raise MissingExtraError(
            f"a graph needs the package usearch, which is not installed ({error}): pip install usearch",
            package="usearch",
        ) from error
    return usearch


def _usearch(bits: int) -> Any:
    """An empty usearch index."""
    module = require_usearch().index
    return module.Index(
        ndim=bits,
        metric=module.MetricKind.Hamming,
        dtype=module.ScalarKind.B1,
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION,
        enable_key_lookups=False,
    )


def _usearch_version() -> str:
    return str(require_usearch().__version__)


def _check_memory(size: int) -> None:
    """Raise MemoryError where a limit of this process leaves less: usearch would crash."""
    try:
        np.empty(size, np.uint8)
    except MemoryError:
        raise MemoryError(f"it takes {size / 1e6:,.0f} MB of memory, which this process may not have") from None


def _until(codes: BinaryCodes, last: int) -> int:
    """How many codes have an id up to `last`."""
    return int(np.searchsorted(codes.ids, last, side="right"))


def graph_path(index: Path) -> Path:
    return index.with_name(index.name + ".graph")


def _temporary(index: Path) -> Path:
    return index.with_name(f".{index.name}.graph.tmp")


def build(store: Store, threads: int, show_progress: bool) -> tuple[Graph, bytes]:
    """A graph of all binary codes of one committed state, and its bytes.

    Raises MissingExtraError without usearch, IndexFileError where it cannot, for one where memory is too small.
    """
    require_usearch()
    try:
        _check_memory(MEMORY * store.blocks.count())
        with store.snapshot():
            generation, deletions = store.counters()
            facts, total, last = store.facts, 0, 0
            bits = 64 * -(-store.dim // 64)
            index = _usearch(bits)
            with progress_bar(store.blocks.count(), show_progress, "building the graph") as advance:
                for ids, words in store.blocks.load(after=0):
                    for start in range(0, len(ids), BATCH):
                        part = slice(start, start + BATCH)
                        index.add(ids[part].astype(np.uint64), words[part].view(np.uint8), threads=threads)
                        advance(len(ids[part]))
                    total, last = total + len(ids), int(ids[-1]) if len(ids) else last
        content = bytes(index.save())
        del index  # what is used, and measured, is what comes out of the bytes: it is half as large
        origin = Origin(
            facts.fingerprint,
            facts.crc,
            generation,
            deletions,
            total,
            bits,
            last,
            _usearch_version(),
            CONNECTIVITY,
            EXPANSION,
            len(content),
        )
        return Graph(origin, content), content
    except (RuntimeError, MemoryError) as error:
        raise IndexFileError(
            f"{store.path}: a graph could not be built ({error}); the index is whole, searches do without",
            path=store.path,
        ) from error


def write(index: Path, origin: Origin, content: bytes) -> str:
    """Put a graph beside its index, whole or not at all, in place of an old one. Gives its hash.

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
def _opened(store: Store, verdict: Verdict) -> Iterator[tuple[Any, Origin, bytes]]:
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


def _check_age(origin: Origin, store: Store, still: int, total: int) -> None:
    """Raise UnusableError for a graph of other codes, or one of whose codes, or beside which codes, many have changed.

    still, total: codes that are there now, up to the graph's last and all of them
    """
    generation, deletions = store.counters()
    known = (origin.fingerprint, origin.facts) == (store.facts.fingerprint, store.facts.crc)
    if not known or origin.generation > generation or origin.deletions > deletions:
        raise UnusableError("stale: the codes were made anew since")
    changed = (origin.codes - still) + (total - still)
    if changed > STALE * origin.codes:
        raise UnusableError(f"stale: {changed} passages were added or deleted since")


def load(store: Store, verdict: Verdict, codes: BinaryCodes) -> Graph:
    """Read a graph, once, and check it before usearch sees it. Raises UnusableError."""
    with _opened(store, verdict) as (file, origin, facts):
        _check_age(origin, store, _until(codes, origin.last), len(codes))
        try:
            installed = _usearch_version()
        except MissingExtraError as error:
            raise UnusableError(str(error)) from error
        if origin.usearch != installed:
            raise UnusableError(f"made by usearch {origin.usearch}, {installed} is installed")
        content = file.read(origin.size)
    sha256 = hashlib.sha256(facts)
    sha256.update(content)
    if sha256.hexdigest() != verdict.sha256:
        raise UnusableError("damaged: its hash does not fit")
    try:
        return Graph(origin, content)
    except (RuntimeError, MemoryError) as error:
        raise UnusableError(f"cannot be loaded: {error}") from error


class Cache:
    """The graph of one Searcher: loaded where the verdict of the index says so, looked at again after each commit."""

    def __init__(self) -> None:
        self.graph: Graph | None = None
        self._verdict: Verdict | None = None
        self._state: str | None = None

    def release(self) -> None:
        self.graph = self._verdict = self._state = None

    def pool(self, codes: BinaryCodes, query: Words, count: int, allowed: Places | None) -> Pool:
        """`BinaryCodes.pool`, by the graph where that is of use."""
        if self.graph is None or allowed is not None or count > min(MOST, len(codes)):
            return codes.pool(query, count, allowed)
        places = self.graph.nearest(codes, query, count)
        distances = codes.distances(places, query)
        # what a graph overlooks is mostly far away: of the farthest it proposes it has not all
        limit = float(np.quantile(distances, REACH)) - 0.5 if len(distances) else 0.0
        return Pool(places, distances, np.zeros_like(distances), limit)

    def follow(self, store: Store, codes: BinaryCodes) -> None:
        """Fit in with what is committed now. Runs inside a snapshot."""
        verdict = Verdict.from_text(store.note(VERDICT))
        if verdict is None:
            self.release()
            return
        try:
            if verdict != self._verdict:
                self.graph, self._verdict = None, verdict
                self.graph = load(store, verdict, codes)
                self._state = "used"
            elif self.graph is not None:  # one that was of no use before only gets older
                _check_age(self.graph.origin, store, _until(codes, self.graph.origin.last), len(codes))
        except UnusableError as error:
            self.graph, self._state = None, str(error)

    def state(self, verdict: Verdict) -> str | None:
        """Whether the graph of this verdict is used, and why not; None where no search has tried."""
        return self._state if verdict == self._verdict else None


def describe(store: Store, cache: Cache | None) -> dict[str, Any] | None:
    """The verdict of an index and whether its graph is used, for `Index.stats`; None where none was measured."""
    verdict = Verdict.from_text(store.note(VERDICT))
    if verdict is None:
        return None
    state = None if cache is None else cache.state(verdict)
    if state is None:
        try:
            with store.snapshot(), _opened(store, verdict) as (_, origin, _):
                _check_age(origin, store, store.blocks.count_until(origin.last), store.blocks.count())
        except UnusableError as error:
            state = str(error)
    return {"state": state or "used", **{name: value for name, value in asdict(verdict).items() if name != "sha256"}}
