"""What the page of `edge-embed serve` costs the service: marks in passages, the fields of all documents.

    python -m bench.page --size 100000

An index of random texts of 60 words and random vectors, made in a temporary folder. CPU time, medians of five. Does not
measure what a browser does, nor the search for vectors.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed import Document, Index

AT_ONCE, DIM, ROUNDS = 5000, 64, 5
QUERY = "w1 w2 w3"


def documents(first: int, random: np.random.Generator) -> Iterator[Document]:
    for number in range(first, first + AT_ONCE):
        words = random.integers(0, 5000, 60)
        metadata = {
            "lang": ("en", "de", "fr")[number % 3],
            "year": int(random.integers(1900, 2021)),
            "title": f"Title {number}",
            "tags": ["abcd"[number % 4], "efgh"[number % 5 % 4]],
            "draft": number % 7 == 0,
        }
        yield Document(str(number), " ".join(f"w{word}" for word in words), metadata)


def timed(call: Callable[[], Any]) -> float:
    """CPU milliseconds, the median of ROUNDS."""
    found = []
    for _ in range(ROUNDS):
        started = time.process_time()
        call()
        found.append(1e3 * (time.process_time() - started))
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=100_000, help="documents")
    size = parser.parse_args().size
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        with Index.create(Path(folder, "a.db"), space="random", dim=DIM) as index:
            for first in range(0, size, AT_ONCE):
                index.add_vectors(documents(first, random), random.normal(size=(AT_ONCE, DIM)))
        with Index.open(Path(folder, "a.db"), read_only=True) as index:
            texts = [hit.text for hit in index.search(QUERY, 10, mode="text")]
            print(f"{len(index):,} documents, ms of CPU")
            print(f"search by words    {timed(lambda: index.search(QUERY, 10, mode='text')):8.1f}")
            print(f"marks of 10 hits   {timed(lambda: index.marks(QUERY, texts)):8.1f}")
            print(f"fields             {timed(index.fields):8.1f}")


if __name__ == "__main__":
    main()
