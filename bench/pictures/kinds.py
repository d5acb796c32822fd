"""What a search by vector takes over texts, over as many pictures, over both, and over one kind of a mixed index.

    python -m bench.pictures.kinds [--size N] [--work FOLDER]

Made vectors in clusters of twenty, given to the index: no model runs, so only the search itself is measured. CPU time
of one thread, the ways in turns; ratios to the texts alone.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_embed import Document, Index

DIM, CLUSTER, NOISE = 384, 20, 0.8
QUERIES, ROUNDS, PART = 200, 3, 2000

Vectors = NDArray[np.float32]


def made(rng: np.random.Generator, centres: NDArray[np.float64], count: int) -> Vectors:
    found = centres[rng.integers(0, len(centres), count)] + NOISE * rng.normal(size=(count, DIM))
    vectors: Vectors = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return vectors


def document(i: int, *, picture: bool) -> Document:
    return Document(f"d{i}", image=b"%d" % i) if picture else Document(f"d{i}", f"text number {i}")


def build(path: Path, documents: list[Document], vectors: Vectors) -> Index:
    if not path.exists():
        with Index.create(path, space="made", dim=DIM) as index:
            for start in range(0, len(documents), PART):
                index.add_vectors(documents[start : start + PART], vectors[start : start + PART])
    return Index.open(path, read_only=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--work", type=Path, default=Path("bench-pictures"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    size, rng = options.size, np.random.default_rng(0)
    centres = rng.normal(size=(size // CLUSTER + 1, DIM))
    vectors, queries = made(rng, centres, size), made(rng, centres, QUERIES)

    def index(name: str, documents: list[Document], some: Vectors) -> Index:
        return build(options.work / f"{name}-{size}.db", documents, some)

    texts = index("texts", [document(i, picture=False) for i in range(size)], vectors)
    pictures = index("pictures", [document(i, picture=True) for i in range(size)], vectors)
    half = index("half", [document(i, picture=True) for i in range(0, size, 2)], vectors[::2])
    mixed = index("mixed", [document(i, picture=i % 2 == 0) for i in range(size)], vectors)
    ways: dict[str, Callable[..., object]] = {
        f"{size:,} texts": texts.search,
        f"{size:,} pictures": pictures.search,
        f"{size // 2:,} pictures": half.search,
        f"the same pictures, beside {size // 2:,} texts": partial(mixed.search, kind="image"),
        "these pictures and texts": mixed.search,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for search in ways.values():
        search(vector=queries[0])
    for _ in range(ROUNDS):
        for query in queries:
            for name, search in ways.items():
                began = time.thread_time()
                search(vector=query)
                times[name].append(time.thread_time() - began)
    first = float(np.median(next(iter(times.values()))))
    for name, found in times.items():
        print(f"{name:45} p50 {1000 * np.median(found):6.2f} ms CPU   {np.median(found) / first:5.2f} x")


if __name__ == "__main__":
    main()
