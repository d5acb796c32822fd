"""A usearch graph (HNSW) over the binary codes, in a file next to the index.

Few devices have indexes so large that walking a graph beats comparing with every code; `rebuild` measures which is
faster, and leaves its verdict in the index. A graph that cannot be used costs time, never hits: all codes are compared
then.
"""

import hashlib
from dataclasses import asdict
from typing import Any

import numpy as np

from edge_embed_runtime.errors import IndexFileError, MissingExtraError
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.search.hnswfile import Origin, UnusableError, Verdict, check_age, open_graph
from edge_embed_runtime.storage.schema import GRAPH
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.vectors.bits import BinaryCodes
from edge_embed_runtime.vectors.hamming import Pool
from edge_embed_runtime.vectors.types import Places, Words

# Neighbours of a code, and how many codes are compared to find them. Of 100,000 vectors, recall@10 of a whole search is
# 0.991 by the scan; with these 0.989, with (16, 64) 0.950, (24, 64) 0.965, (32, 128) 0.987 (600 proposed of 1,000).
CONNECTIVITY = 16
EXPANSION = 256
# Codes that are added before an interruption is noticed.
BATCH = 2048
# Bytes a code that building takes, at its end: the graph as it grew and as bytes.
MEMORY = 600
# Of the candidates that the scan would propose, the part that a graph is asked for, which its time grows with. Recall
# at a million: scan 0.989, graph 0.983, 0.986 and 0.987 with a half, three quarters and all of them.
PART = 0.75
# The part of them that are nearest, up to where a graph is taken to have found nearly all.
REACH = 0.9
# More candidates than this, which many hits or hybrid search take, the scan finds faster.
MOST = 4096


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


def _check_memory(size: int) -> None:
    """Raise MemoryError where a limit of this process leaves less: usearch would crash."""
    try:
        np.empty(size, np.uint8)
    except MemoryError:
        raise MemoryError(f"it takes {size / 1e6:,.0f} MB of memory, which this process may not have") from None


def _until(codes: BinaryCodes, last: int) -> int:
    """How many codes have an id up to `last`."""
    return int(np.searchsorted(codes.ids, last, side="right"))


def build(store: Store, threads: int, show_progress: bool) -> tuple[Graph, bytes]:
    """A graph of all binary codes of one committed state, and its bytes.

    Raises MissingExtraError without usearch, IndexFileError where it cannot, for one where memory is too small.
    """
    version = str(require_usearch().__version__)
    try:
        _check_memory(MEMORY * store.blocks.count())
        with store.snapshot():
            counters, facts, total, last = store.counters(), store.facts, 0, 0
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
        del index  # a graph that is loaded from the bytes is half as large, and it is the one that searches use
        origin = Origin(
            facts.fingerprint, facts.crc, *counters, total, bits, last, version, CONNECTIVITY, EXPANSION, len(content)
        )
        return Graph(origin, content), content
    except (RuntimeError, MemoryError) as error:
        raise IndexFileError(
            f"{store.path}: a graph could not be built ({error}); the index is whole, searches do without",
            path=store.path,
        ) from error


def load(store: Store, verdict: Verdict, codes: BinaryCodes) -> Graph:
    """Read a graph, once, and check it before usearch sees it. Raises UnusableError."""
    with open_graph(store, verdict) as (file, origin, facts):
        check_age(origin, store, _until(codes, origin.last), len(codes))
        try:
            installed = require_usearch().__version__
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
    """The graph of one Searcher: loaded where the verdict of the index says so, checked again after each commit."""

    def __init__(self, graph: Graph | None = None) -> None:
        self.graph = graph
        self._verdict: Verdict | None = None
        self._state: str | None = None

    def pool(self, codes: BinaryCodes, query: Words, count: int, allowed: Places | None) -> Pool:
        """`BinaryCodes.pool`, by the graph where that is of use."""
        if self.graph is None or allowed is not None or count > min(MOST, len(codes)):
            return codes.pool(query, count, allowed)
        places = self.graph.nearest(codes, query, count)
        distances = codes.distances(places, query)
        # what a graph overlooks is mostly far away: of the farthest it proposes it has not all
        limit = float(np.quantile(distances, REACH)) - 0.5 if len(distances) else 0.0
        return Pool(places, distances, limit)

    def follow(self, store: Store, codes: BinaryCodes) -> None:
        """Load or drop the graph by what is committed now. Runs inside a snapshot."""
        verdict = Verdict.from_text(store.note(GRAPH))
        if verdict is None:
            self.graph = self._verdict = self._state = None
            return
        try:
            if verdict != self._verdict:
                self.graph, self._verdict = None, verdict
                self.graph = load(store, verdict, codes)
                self._state = "used"
            elif self.graph is not None:  # one that was of no use before only gets older
                check_age(self.graph.origin, store, _until(codes, self.graph.origin.last), len(codes))
        except UnusableError as error:
            self.graph, self._state = None, str(error)

    def state(self, verdict: Verdict) -> str | None:
        """Whether the graph of this verdict is used, and why not; None where no search has tried."""
        return self._state if verdict == self._verdict else None


def describe(store: Store, cache: Cache | None) -> dict[str, Any] | None:
    """The verdict of an index and whether its graph is used, for `Index.stats`; None where none was measured."""
    verdict = Verdict.from_text(store.note(GRAPH))
    if verdict is None:
        return None
    state = None if cache is None else cache.state(verdict)
    if store.media is not None and store.media.counts():
        state = "not used: documents of several kinds are compared kind by kind"
    if state is None:
        try:
            with store.snapshot(), open_graph(store, verdict) as (_, origin, _):
                check_age(origin, store, store.blocks.count_until(origin.last), store.blocks.count())
        except UnusableError as error:
            state = str(error)
    return {"state": state or "used", **{name: value for name, value in asdict(verdict).items() if name != "sha256"}}
