"""What is measured, in the order in which it is shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.common import OURS, not_installed
from bench.search.collection import EXTRA, Opened, Writer
from bench.search.databases import LanceDb, Ours, SqliteVec
from bench.search.libraries import Faiss, Hnswlib, UsearchExact, UsearchGraph

# What is tried, in ascending order, until recall is as good as ours.
GRAPH_DEPTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536)
CANDIDATES = (20, 30, 50, 75, 100, 150, 200, 300, 400, 600, 800, 1200, 1600, 2400, 4000)


class Adapter(Protocol):
    """writer(empty folder, dim, most vectors); open(folder, dim)."""

    def writer(self, folder: Path, dim: int, capacity: int, /) -> Writer: ...

    def open(self, folder: Path, dim: int, /) -> Opened: ...


@dataclass(frozen=True)
class Candidate:
    """family:  there is one ratio to the fastest of each
    modules:   imported before memory is measured; packages are their distributions
    settings:  what `knob` is set to; exact search has none
    keeps_texts: else hits' texts are read from a SQLite table next to it
    rescored:  its answers are candidates that int8 vectors next to it score; the setting is their number
    """

    title: str
    family: str
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    adapter: Adapter
    knob: str | None = None
    settings: Sequence[int] = (0,)
    keeps_texts: bool = False
    rescored: bool = False


def _usearch(title: str, adapter: Adapter, *, graph: bool = False, rescored: bool = False) -> Candidate:
    knob, settings = ("candidates", CANDIDATES) if rescored else ("ef", GRAPH_DEPTHS) if graph else (None, (0,))
    return Candidate(
        f"usearch {title}", "usearch", ("usearch",), ("usearch.index",), adapter, knob, settings, rescored=rescored
    )


def _faiss(kind: str, title: str, knob: str | None = None, settings: Sequence[int] = (0,)) -> Candidate:
    rescored = kind == "binary"
    packages, modules = ("faiss-cpu",), ("faiss",)
    return Candidate(f"faiss {title}", "faiss", packages, modules, Faiss(kind), knob, settings, rescored=rescored)


def _sqlite_vec(kind: str, title: str, knob: str | None = None, settings: Sequence[int] = (0,)) -> Candidate:
    return Candidate(
        f"sqlite-vec {title}",
        "sqlite-vec",
        ("sqlite-vec",),
        ("sqlite3", "sqlite_vec"),
        SqliteVec(kind),
        knob,
        settings,
        keeps_texts=True,
    )


def _lancedb(title: str, adapter: Adapter, knob: str | None = None, settings: Sequence[int] = (0,)) -> Candidate:
    modules = ("lancedb", "pyarrow")
    return Candidate(f"LanceDB {title}", "LanceDB", ("lancedb",), modules, adapter, knob, settings, keeps_texts=True)


OWN = Candidate(OURS, OURS, (), ("edge_embed_runtime.index.index",), Ours(), "recall", keeps_texts=True)
PEERS: dict[str, Candidate] = {
    "usearch-f32": _usearch("f32 HNSW", UsearchGraph("f32"), graph=True),
    "usearch-i8": _usearch("i8 HNSW", UsearchGraph("i8"), graph=True),
    "usearch-b1": _usearch("b1 HNSW, rescored", UsearchGraph("b1"), rescored=True),
    "usearch-f32-exact": _usearch("f32 exact", UsearchExact("f32")),
    "usearch-i8-exact": _usearch("i8 exact", UsearchExact("i8")),
    "usearch-b1-exact": _usearch("b1 exact, rescored", UsearchExact("b1"), rescored=True),
    "faiss-flat": _faiss("flat", "flat"),
    "faiss-binary": _faiss("binary", "binary flat, rescored", "candidates", CANDIDATES),
    "faiss-hnsw": _faiss("hnsw", "HNSW", "ef", GRAPH_DEPTHS),
    "hnswlib": Candidate("hnswlib f32 HNSW", "hnswlib", ("hnswlib",), ("hnswlib",), Hnswlib(), "ef", GRAPH_DEPTHS),
    "sqlite-vec-f32": _sqlite_vec("f32", "float"),
    "sqlite-vec-i8": _sqlite_vec("i8", "int8"),
    "sqlite-vec-b1": _sqlite_vec("b1", "bit, rescored", "candidates", CANDIDATES),
    "lancedb": _lancedb("flat", LanceDb()),
    "lancedb-hnsw": _lancedb("IVF_HNSW_SQ", LanceDb(graph=True), "ef", GRAPH_DEPTHS),
}
# Whose writes are killed: one of each family stands for it.
WRITERS = (OURS, "usearch-f32", "faiss-flat", "hnswlib", "sqlite-vec-f32", "lancedb")


def candidate(name: str) -> Candidate:
    """Ours or a peer by name."""
    return OWN if name == OURS else PEERS[name]


def why_not(chosen: Candidate) -> str | None:
    """Why a candidate cannot be measured, in one line, or None."""
    return not_installed(chosen.packages, EXTRA)
