"""Indexes of vectors alone: usearch, faiss, hnswlib. One core, their own defaults unless said here.

Libraries get int8 vectors as codes without the scales of their rows (cosine does not see them): their own casts leave
25 of the 127 steps to a component of 0.2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.search.collection import EXTRA, Found, Opened, Writer
from edge_embed_runtime.extras import require
from edge_embed_runtime.vectors.int8 import quantize_int8

if TYPE_CHECKING:
    Vectors = NDArray[np.float32]
    Ids = NDArray[np.int64]

INDEX = "index"
# hnswlib's README: M = 16, ef_construction = 200. faiss has no default for M; its wiki's examples use 32.
HNSWLIB_LINKS, HNSWLIB_CONSTRUCTION = 16, 200
FAISS_LINKS = 32


def bits(vectors: "Vectors") -> NDArray[np.uint8]:
    """[n, dim] -> one bit per dimension [n, dim / 8]."""
    return np.packbits(vectors > 0, axis=1)


def _codes(vectors: "Vectors") -> NDArray[Any]:
    return quantize_int8(vectors)[0]


# dtype -> name of the metric, and in which form it takes vectors
USEARCH: dict[str, tuple[str, Callable[["Vectors"], NDArray[Any]]]] = {
    "f32": ("IP", lambda vectors: vectors),
    "i8": ("Cos", _codes),
    "b1": ("Hamming", bits),
}


def _usearch(dtype: str) -> tuple[Any, Any, Callable[["Vectors"], NDArray[Any]]]:
    """The module, the metric, and in which form it takes vectors."""
    module = require("usearch.index", EXTRA)
    name, given = USEARCH[dtype]
    return module, getattr(module.MetricKind, name), given


@dataclass(frozen=True)
class UsearchGraph:
    """HNSW; the setting is expansion_search."""

    dtype: str

    def writer(self, folder: Path, dim: int, _: int) -> Writer:
        module, metric, given = _usearch(self.dtype)
        index = module.Index(ndim=dim, metric=metric, dtype=self.dtype)

        def add(ids: "Ids", vectors: "Vectors", _: Sequence[str]) -> None:
            index.add(ids.astype(np.uint64), given(vectors), threads=1)

        return Writer(add, lambda: index.save(str(folder / INDEX)))

    def open(self, folder: Path, dim: int) -> Opened:
        module, metric, given = _usearch(self.dtype)
        index = module.Index(ndim=dim, metric=metric, dtype=self.dtype)
        index.load(str(folder / INDEX))

        def search(query: NDArray[np.float32], k: int, setting: int) -> Found:
            index.expansion_search = max(k, setting)
            return index.search(given(query[None])[0], k, threads=1).keys.tolist(), None

        return Opened(search, lambda: len(index))


@dataclass(frozen=True)
class UsearchExact:
    """usearch.index.search over a plain array, kept as .npy."""

    dtype: str

    def writer(self, folder: Path, dim: int, capacity: int) -> Writer:
        _, _, given = _usearch(self.dtype)
        example = given(np.zeros((1, dim), np.float32))
        shape = (capacity, example.shape[1])
        array = np.lib.format.open_memmap(folder / f"{INDEX}.npy", "w+", example.dtype, shape)

        def add(ids: "Ids", vectors: "Vectors", _: Sequence[str]) -> None:
            array[ids] = given(vectors)

        return Writer(add, array.flush)

    def open(self, folder: Path, _: int) -> Opened:
        module, metric, given = _usearch(self.dtype)
        array = np.load(folder / f"{INDEX}.npy")

        def search(query: NDArray[np.float32], k: int, _: int) -> Found:
            asked = given(query[None])[0]
            found = module.search(array, asked, k, metric, exact=True, threads=1, dtype=self.dtype)
            return found.keys.tolist(), None

        return Opened(search, lambda: len(array))


@dataclass(frozen=True)
class Faiss:
    """kind: "flat", "binary" (flat, over bits) or "hnsw" (the setting is efSearch)."""

    kind: str

    def writer(self, folder: Path, dim: int, _: int) -> Writer:
        faiss = _faiss()
        if self.kind == "binary":
            index = faiss.IndexBinaryFlat(dim)
            return Writer(
                lambda _, vectors, __: index.add(bits(vectors)),
                lambda: faiss.write_index_binary(index, str(folder / INDEX)),
            )
        if self.kind == "hnsw":
            index = faiss.IndexHNSWFlat(dim, FAISS_LINKS, faiss.METRIC_INNER_PRODUCT)
        else:
            index = faiss.IndexFlatIP(dim)
        return Writer(lambda _, vectors, __: index.add(vectors), lambda: faiss.write_index(index, str(folder / INDEX)))

    def open(self, folder: Path, _: int) -> Opened:
        faiss = _faiss()
        binary = self.kind == "binary"
        index = (faiss.read_index_binary if binary else faiss.read_index)(str(folder / INDEX))

        def search(query: NDArray[np.float32], k: int, setting: int) -> Found:
            if self.kind == "hnsw":
                index.hnsw.efSearch = max(k, setting)
            ids = index.search(bits(query[None]) if binary else query[None], k)[1][0]
            return ids[ids >= 0].tolist(), None

        return Opened(search, lambda: int(index.ntotal))


def _faiss() -> Any:
    faiss = require("faiss", EXTRA)
    faiss.omp_set_num_threads(1)
    return faiss


@dataclass(frozen=True)
class Hnswlib:
    """HNSW over float32; the setting is ef."""

    def writer(self, folder: Path, dim: int, capacity: int) -> Writer:
        index = require("hnswlib", EXTRA).Index(space="ip", dim=dim)
        index.init_index(capacity, M=HNSWLIB_LINKS, ef_construction=HNSWLIB_CONSTRUCTION)

        def add(ids: "Ids", vectors: "Vectors", _: Sequence[str]) -> None:
            index.add_items(vectors, ids, num_threads=1)

        return Writer(add, lambda: index.save_index(str(folder / INDEX)))

    def open(self, folder: Path, dim: int) -> Opened:
        index = require("hnswlib", EXTRA).Index(space="ip", dim=dim)
        index.load_index(str(folder / INDEX))

        def search(query: NDArray[np.float32], k: int, setting: int) -> Found:
            index.set_ef(max(k, setting))
            return index.knn_query(query, k, num_threads=1)[0][0].tolist(), None

        return Opened(search, lambda: int(index.get_current_count()))
