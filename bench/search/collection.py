"""What every candidate gets, and what an application keeps next to a library that stores vectors alone."""

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.vectors.int8 import quantize_int8
from edge_embed_runtime.vectors.scores import score_int8

if TYPE_CHECKING:
    Vectors = NDArray[np.float32]
    Ids = NDArray[np.int64]

EXTRA = "bench-search"
TEXTS = "texts.db"
CODES, SCALES = "codes.npy", "scales.npy"
# Vectors that are added at once.
CHUNK = 20_000

# ids best first, and their texts where the candidate keeps them itself
Found = tuple[Sequence[int], Sequence[str] | None]
# (query [dim], k, setting)
Search = Callable[[NDArray[np.float32], int, int], Found]


@dataclass(frozen=True)
class Opened:
    """An index that is open for searching."""

    search: Search
    count: Callable[[], int]


@dataclass(frozen=True)
class Writer:
    """add(ids [n], vectors [n, dim], texts), save() which promises that they are on disk, and at the end close()."""

    add: Callable[["Ids", "Vectors", Sequence[str]], Any]
    save: Callable[[], Any] = lambda: None
    close: Callable[[], Any] = lambda: None


class Collection:
    """Vectors 0 to count - 1 of a .npy, each with the text of the real vector that it was made from."""

    def __init__(self, vectors: str, texts: str, count: int) -> None:
        self.vectors: Vectors = np.load(vectors, mmap_mode="r")[:count]
        self.count, self.dim = self.vectors.shape
        self._texts: list[str] = json.loads(Path(texts).read_text("utf-8"))

    def texts(self, ids: "Ids") -> list[str]:
        return [self._texts[i % len(self._texts)] for i in ids.tolist()]

    def chunks(self, size: int = CHUNK) -> Iterator[tuple["Ids", "Vectors"]]:
        """Ids [n] and vectors [n, dim], copied into memory."""
        for start in range(0, self.count, size):
            stop = min(start + size, self.count)
            yield np.arange(start, stop), np.array(self.vectors[start:stop])


def write_texts(collection: Collection, folder: Path) -> None:
    with closing(sqlite3.connect(folder / TEXTS)) as connection, connection:
        connection.execute("CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT)")
        for ids, _ in collection.chunks():
            rows = zip(ids.tolist(), collection.texts(ids), strict=True)
            connection.executemany("INSERT INTO texts VALUES (?, ?)", rows)


def with_texts(search: Search, folder: Path) -> Search:
    """The same search, and then the hits' texts read from SQLite."""
    connection = sqlite3.connect(f"{(folder / TEXTS).absolute().as_uri()}?mode=ro", uri=True)

    def both(query: NDArray[np.float32], k: int, setting: int) -> Found:
        ids = [int(i) for i in search(query, k, setting)[0]]
        marks = ",".join("?" * len(ids))
        texts = dict(connection.execute(f"SELECT id, text FROM texts WHERE id IN ({marks})", ids))
        return ids, [texts[i] for i in ids]

    return both


def write_codes(collection: Collection, folder: Path) -> None:
    """Int8 vectors with a scale each: what candidates that compare bits score again from, as we do."""
    codes = np.lib.format.open_memmap(folder / CODES, "w+", np.int8, (collection.count, collection.dim))
    scales = np.empty(collection.count, np.float32)
    for ids, vectors in collection.chunks():
        codes[ids], scales[ids] = quantize_int8(vectors)
    codes.flush()
    np.save(folder / SCALES, scales)


def rescored(propose: Search, folder: Path) -> Search:
    """The k best by int8 vectors among `setting` candidates that bits propose."""
    codes, scales = np.load(folder / CODES, mmap_mode="r"), np.load(folder / SCALES)

    def search(query: NDArray[np.float32], k: int, setting: int) -> Found:
        ids = np.asarray(propose(query, setting, setting)[0], np.int64)
        scores = score_int8(codes[ids], scales[ids], query)
        return ids[np.argsort(-scores)[:k]].tolist(), None

    return search
