"""Near-duplicates in a folder or a JSONL file: python duplicates.py PATH [--threshold 0.95]

1. `edge-embed add` reads PATH into an index, which is kept, so that a second run embeds only what has changed.
2. Texts that differ in nothing but case and blanks are exact duplicates.
3. Of the others every pair is compared: a group is a document and all later ones whose cosine to it is high enough.
"""

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_embed import EdgeEmbedError, Embedder, Index

ROWS = 256  # compared at a time with all others: 100 MB of cosines for 100,000 documents


def digest(text: str) -> bytes:
    """The same for "A  text" and "a text"."""
    return sha256(" ".join(text.split()).casefold().encode()).digest()


def read(index: Index) -> tuple[list[list[str]], NDArray[np.float32]]:
    """Keys of the documents with the same text, and the vector of each such text [n, dim], of length 1.

    The vector of a long document is the mean of its passages' vectors.
    """
    groups: dict[bytes, list[str]] = defaultdict(list)
    for document in index:
        groups[digest(document.text) if document.text.strip() else document.key.encode()].append(document.key)
    rows = np.empty((len(groups), index.stats()["dim"]), np.float32)
    same = list(groups.values())
    for start in range(0, len(same), ROWS):
        vectors = index.vectors(keys[0] for keys in same[start : start + ROWS])
        for i, keys in enumerate(same[start : start + ROWS], start):
            mean = vectors[keys[0]].mean(axis=0)
            rows[i] = mean / np.linalg.norm(mean)
    return same, rows


def near(vectors: NDArray[np.float32], threshold: float) -> Iterator[NDArray[np.intp]]:
    """Groups of rows: the first that is in no group yet, with all later ones whose cosine to it is high enough.

    All are near to the first, so that no chain of small steps leads to something else.
    """
    free = np.ones(len(vectors), np.bool_)
    for top in range(0, len(vectors), ROWS):
        cosines = vectors[top : top + ROWS] @ vectors[top:].T
        for i, row in enumerate(cosines >= threshold):
            if free[top + i]:
                row[i] = True  # rounding could deny it at a threshold of 1
                members = np.flatnonzero(row & free[top:]) + top
                free[members] = False
                yield members


def find_groups(index: Index, threshold: float) -> list[list[tuple[str, float]]]:
    """Groups of two documents or more as (key, cosine to the first of the group), the largest first."""
    same, vectors = read(index)
    found = []
    for members in near(vectors, threshold):
        cosines = (vectors[members] @ vectors[members[0]]).tolist()
        found.append([(key, cosine) for i, cosine in zip(members, cosines, strict=True) for key in same[i]])
    return sorted((group for group in found if len(group) > 1), key=len, reverse=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", help="a folder, or a file of rows such as lines.jsonl")
    parser.add_argument("--index", help="index of this PATH; made if missing, and kept [PATH.duplicates.db]")
    parser.add_argument("--threshold", type=float, default=0.95, help="lowest cosine within a group [%(default)s]")
    parser.add_argument("--bundle", default="minilm", help="static is about twenty times as fast [%(default)s]")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if not 0 < options.threshold <= 1:
        parser.error("--threshold: expected a number above 0, at most 1")
    where = options.index or f"{Path(options.path).resolve()}.duplicates.db"
    add = [sys.executable, "-m", "edge_embed", "add", where, options.path, "--sync", "--bundle", options.bundle]
    try:
        status = subprocess.run(add, stdout=sys.stderr, check=False).returncode
        if not Path(where).exists():
            print(f"duplicates: {options.path} has nothing that can be read", file=sys.stderr)
            return 2
        with Index.open(where, Embedder(options.bundle), read_only=True) as index:
            groups = find_groups(index, options.threshold)
            print(f"{len(groups)} groups", file=sys.stderr)
            if options.json:
                print(json.dumps([[{"key": key, "cosine": cosine} for key, cosine in group] for group in groups]))
            for group in () if options.json else groups:
                print(f"{len(group)} documents")
                for (key, cosine), document in zip(group, index.get_many(key for key, _ in group), strict=True):
                    print(f"  {cosine:.3f}  {key}  {' '.join(document.text.split())[:70] if document else ''}")
    except EdgeEmbedError as error:
        print(f"duplicates: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
