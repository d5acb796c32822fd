"""What part of the nearest searches find, over vectors of many kinds: python -m bench.recall [--quick] [--data FOLDER]

For each set an index is made with `Index.create` and filled with `add_vectors` in four parts, as a program does that
knows nothing of its vectors. Searches with recall=0.99 and with recall=1 are compared with the order of all int8 codes,
and with that of the float vectors. A hit counts if its score is that of the k-th nearest or more, so that equal vectors
stand for each other; with recall=1 the keys must be those of the exact order, equal scores by id.

Real vectors are made of the texts of FOLDER/*/corpus.jsonl.gz by the default bundle; without --data these sets are left
out. What it does not measure: time under load, or on a phone; p50 is that of one process, and of --queries searches.
"""

import argparse
import gzip
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_embed import Document, Embedder, Index
from edge_embed_runtime.vectors.int8 import quantize_int8
from edge_embed_runtime.vectors.scores import score_int8

Vectors = NDArray[np.float32]
Draw = Callable[[int], Vectors]
RANDOM = np.random.default_rng(7)
# Vectors whose parts of the whole are added one after the other.
PARTS = (0.01, 0.1, 0.4, 1.0)
SELECTIVITIES: dict[str | None, int] = {"1/2": 2, "1/20": 20, "1/200": 200}
# As E5's, ada-002's and others: a part that all vectors share.
SHIFTS = (1, 1.5, 2, 3, 5)


def unit(rows: NDArray[np.float64] | Vectors) -> Vectors:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def normal(*shape: int) -> Vectors:
    return RANDOM.standard_normal(shape).astype(np.float32)


def cone(cosine: float, dim: int) -> Draw:
    """Vectors around one direction, whose cosines are `cosine` on average, with a falling spectrum around it."""
    base = normal(1, dim)
    spectrum = (1 + np.arange(dim)) ** -0.5
    turn, _ = np.linalg.qr(normal(dim, dim))
    around = (spectrum / np.linalg.norm(spectrum))[:, None].astype(np.float32) * turn
    base *= np.float32(1 / (np.linalg.norm(base) * np.sqrt(1 / cosine - 1)))
    return lambda count: unit(base + normal(count, dim) @ around)


def clusters(number: int, dim: int, width: float) -> Draw:
    centres = normal(number, dim)
    return lambda count: unit(centres[RANDOM.integers(0, number, count)] + width * normal(count, dim))


def duplicates(number: int, dim: int) -> Draw:
    """Few different vectors, many times."""
    drawn = unit(normal(number, dim))
    return lambda count: drawn[RANDOM.integers(0, number, count)]


def low_rank(rank: int, dim: int) -> Draw:
    basis = normal(rank, dim)
    return lambda count: unit(normal(count, rank) @ basis)


def heavy(dim: int) -> Draw:
    """Few coordinates much larger than the others."""
    sizes = np.exp(1.5 * normal(dim))
    return lambda count: unit(normal(count, dim) * sizes)


def long_tails(dim: int) -> Draw:
    """Coordinates of a few vectors much larger than those of the others."""
    return lambda count: unit(RANDOM.standard_t(2, (count, dim)))


def signs(dim: int) -> Draw:
    return lambda count: unit(RANDOM.choice([-1.0, 1.0], (count, dim)))


def drawn(count: int, queries: int) -> Iterator[tuple[str, Vectors, Vectors]]:
    """(name, stored, queries) of sets that need no model."""
    kinds = {f"cone, cosine {c}, {dim}": cone(c, dim) for c, dim in CONES}
    kinds |= {f"normal, {dim}": (lambda n, dim=dim: unit(normal(n, dim))) for dim in (32, 64, 384)}  # type: ignore[misc]
    kinds["300 clusters, 96"] = clusters(300, 96, 1.0)
    kinds["1000 tight clusters, 384"] = clusters(1000, 384, 0.5)
    kinds[f"{count // 50} vectors, each 50 times, 384"] = duplicates(max(1, count // 50), 384)
    kinds["1 or -1, 256"] = signs(256)
    kinds["1 or -1, 32"] = signs(32)
    kinds["rank 16, 384"] = low_rank(16, 384)
    kinds["few large coordinates, 384"] = heavy(384)
    kinds["long tails, 384"] = long_tails(384)
    for name, draw in kinds.items():
        yield name, draw(count), draw(queries)
    one, other = cone(0.9, 384), cone(0.9, 384)
    few, asked = count // 11, queries // 2
    both = [np.concatenate([one(few), other(count - few)]), np.concatenate([one(asked), other(queries - asked)])]
    yield "drift: 1/11 of one cone, then another", both[0], both[1]
    long = min(count, 20_000)
    draw = clusters(200, 3072, 1.0)
    yield "200 clusters, 3072", draw(long), draw(queries)
    draw = cone(0.85, 1536)
    yield "cone, cosine 0.85, 1536", draw(long), draw(queries)


CONES = ((0.02, 384), (0.5, 768), (0.75, 768), (0.9, 384), (0.95, 384), (0.98, 384))


def real(folder: Path, count: int, queries: int, cache: Path | None) -> Iterator[tuple[str, Vectors, Vectors]]:
    """Vectors of sentences by the default bundle, and with a part that all share."""
    if cache is not None and cache.exists():
        stored = np.load(cache)[:count]
    else:
        stored = Embedder().encode(sentences(folder, count))
        if cache is not None:
            np.save(cache, stored)
    asked = Embedder().encode_query(questions(folder, queries))
    yield "MiniLM", stored, asked
    shared = unit(normal(1, stored.shape[1]))
    for shift in SHIFTS:
        yield f"MiniLM + {shift} of a common part", unit(stored + shift * shared), unit(asked + shift * shared)


def sentences(folder: Path, count: int) -> list[str]:
    found: dict[str, None] = {}
    for path in sorted(folder.glob("*/corpus.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                text = f"{row.get('title', '')}. {row['text']}"
                found.update(dict.fromkeys(s[:300] for s in re.split(r"(?<=[.!?\n])\s+", text) if len(s) > 20))
    texts = list(found)
    return [texts[i] for i in RANDOM.permutation(len(texts))[:count]]


def questions(folder: Path, count: int) -> list[str]:
    texts = [
        json.loads(line)["text"]
        for path in sorted(folder.glob("*/queries.jsonl"))
        if (path.parent / "corpus.jsonl.gz").exists()
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return [texts[i] for i in np.linspace(0, len(texts) - 1, min(count, len(texts))).astype(int)]


def fill(path: Path, stored: Vectors) -> Index:
    index = Index.create(path, space="bench", dim=stored.shape[1])
    start = 0
    for part in PARTS:
        stop = int(part * len(stored))
        rows = [
            Document(str(i), "", {"i": i, **{f"m{n}": i % n for n in SELECTIVITIES.values()}})
            for i in range(start, stop)
        ]
        index.add_vectors(rows, stored[start:stop])
        start = stop
    return index


def exact_order(codes: tuple[NDArray[np.int8], Vectors], query: Vectors, allowed: NDArray[np.intp]) -> Vectors:
    """Scores [n] of all int8 codes, minus infinity where they are not allowed."""
    scores = np.full(len(codes[0]), -np.inf, np.float32)
    for start in range(0, len(allowed), 16_384):
        part = allowed[start : start + 16_384]
        scores[part] = score_int8(codes[0][part], codes[1][part], query)
    return scores


def measure(
    index: Index, stored: Vectors, queries: Vectors, k: int, modulus: int | None, exact: int
) -> dict[str, float]:
    """Recall against int8 and float, with recall=0.99 and 1, and median milliseconds."""
    codes = quantize_int8(stored)
    allowed = np.arange(0, len(stored), modulus or 1)
    where = None if modulus is None else {f"m{modulus}": 0}
    k = min(k, len(allowed))
    found, times = np.empty((len(queries), 3)), np.empty((len(queries), 2))
    index.search(vector=queries[0], k=k, where=where)
    for i, query in enumerate(queries):
        scores, cosines = exact_order(codes, query, allowed), np.full(len(stored), -np.inf, np.float32)
        cosines[allowed] = stored[allowed] @ query
        for j, recall in enumerate((0.99, 1.0)[: 1 + (i < exact)]):
            started = time.perf_counter()
            keys = [int(hit.key) for hit in index.search(vector=query, k=k, where=where, recall=recall)]
            times[i, j] = time.perf_counter() - started
            if j == 0:
                found[i, 0] = (scores[keys] >= np.partition(scores, -k)[-k]).sum() / k
                found[i, 1] = (cosines[keys] >= np.partition(cosines, -k)[-k] - 1e-6).sum() / k
            else:
                found[i, 2] = keys == np.lexsort((np.arange(len(scores)), -scores))[:k].tolist()
    return {
        "int8": found[:, 0].mean(),
        "float": found[:, 1].mean(),
        "exact": found[:exact, 2].mean(),
        "ms": 1000 * float(np.median(times[:, 0])),
        "exact_ms": 1000 * float(np.median(times[:exact, 1])),
    }


def cases(options: argparse.Namespace) -> Iterator[tuple[int, str | None]]:
    yield from ((k, None) for k in options.k)
    if options.filters and 10 in options.k:
        yield from ((10, part) for part in SELECTIVITIES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--k", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--exact", type=int, default=5, help="queries that are searched for with recall=1")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cache", type=Path, help="a .npy file for the vectors of --data")
    parser.add_argument("--only", default="", help="sets with this in their name")
    parser.add_argument("--no-filters", dest="filters", action="store_false")
    parser.add_argument("--quick", action="store_true", help="5,000 vectors, 20 queries, k = 10")
    options = parser.parse_args()
    if options.quick:
        options.size, options.queries, options.k = 5000, 20, [10]
    print("| vectors | n | k | where | recall | of float | recall=1 | p50 ms | recall=1, ms | frame |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    sets = [drawn(options.size, options.queries)]
    if options.data:
        sets.insert(0, real(options.data, options.size, options.queries, options.cache))
    for name, stored, queries in (found for kind in sets for found in kind):
        if options.only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder, fill(Path(folder) / "i.db", stored) as index:
            for k, part in cases(options):
                row = measure(index, stored, queries, k, SELECTIVITIES.get(part), options.exact)
                frame = index._store.frame
                used = [
                    n for n, is_used in (("centre", frame.centre is not None), ("rotation", frame.turned)) if is_used
                ]
                print(
                    f"| {name} | {len(stored)} | {k} | {part or ''} | {row['int8']:.4f} | {row['float']:.4f} | "
                    f"{row['exact']:g} | {row['ms']:.2f} | {row['exact_ms']:.0f} | {'+'.join(used)} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
