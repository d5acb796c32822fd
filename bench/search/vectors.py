"""Vectors of real texts, more of them, and exact neighbours to compare with."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_embed.measuring.vectors import grown

if TYPE_CHECKING:
    from bench.search.texts import Texts

    Vectors = NDArray[np.float32]
    Ids = NDArray[np.int64]

# Rows of the stored vectors that all queries are compared with at once.
BLOCK = 16_384


def embed(texts: "Texts", bundle: str | None, fingerprint: str, work: Path) -> tuple["Vectors", "Vectors"]:
    """Vectors of the stored texts and of the queries, kept in `work` for the next run."""
    stored = work / f"stored-{digest([fingerprint, *texts.stored])}.npy"
    queries = work / f"queries-{digest([fingerprint, *texts.queries])}.npy"
    if not (stored.is_file() and queries.is_file()):
        from edge_embed.embedder import Embedder  # children need none

        embedder = Embedder(bundle)
        if not stored.is_file():
            _save(stored, embedder.encode_document(texts.stored, show_progress=True))
        if not queries.is_file():
            _save(queries, embedder.encode_query(texts.queries))
    return np.load(stored), np.load(queries)


def _save(path: Path, vectors: "Vectors") -> None:
    """Under its name when it is complete."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, vectors)
    partial.replace(path)


def digest(parts: Sequence[str]) -> str:
    """A short name for a list of texts."""
    return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def grow(base: "Vectors", total: int, path: Path) -> "Vectors":
    """`total` vectors [total, dim] as a .npy on disk, see `grown`; memory does not depend on their number."""
    partial = path.with_suffix(".partial")
    target = np.lib.format.open_memmap(partial, "w+", np.float32, (total, base.shape[1]))
    start = 0
    for block in grown(base, total):
        target[start : start + len(block)] = block
        start += len(block)
    target.flush()
    del target
    partial.replace(path)
    found: Vectors = np.load(path, mmap_mode="r")
    return found


def neighbours(vectors: "Vectors", queries: "Vectors", k: int) -> tuple["Ids", "Vectors"]:
    """Ids [q, k] of the exact nearest by float32 dot product, best first, and their cosines [q, k]."""
    ids = np.empty((len(queries), 0), np.int64)
    scores = np.empty((len(queries), 0), np.float32)
    for start, block in _blocks(vectors):
        found = queries @ block.T
        best = np.argpartition(-found, min(k, len(block)) - 1, axis=1)[:, :k]
        ids = np.hstack([ids, best + start])
        scores = np.hstack([scores, np.take_along_axis(found, best, axis=1)])
        order = np.lexsort((ids, -scores), axis=1)[:, :k]
        ids, scores = np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)
    return ids, scores


def _blocks(vectors: "Vectors") -> Iterator[tuple[int, "Vectors"]]:
    for start in range(0, len(vectors), BLOCK):
        yield start, np.asarray(vectors[start : start + BLOCK])


def recall(found: Sequence[Sequence[int]], truth: "Ids") -> float:
    """Share of the true neighbours [q, k] that were found, mean over the queries: recall@k."""
    hits = [len(set(row) & set(true.tolist())) / len(true) for row, true in zip(found, truth, strict=True)]
    return float(np.mean(hits))
