"""Spearman correlation on STS-Benchmark: python -m bench.stsb STSB_TSV [--bundle FOLDER]

STSB_TSV has lines of score, sentence, sentence by tabs. Published for all-MiniLM-L6-v2: 0.8203 on the test part.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_embed import Embedder


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average ranks: [10, 20, 20] -> [0, 1.5, 1.5]."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: NDArray[np.float64] = (ends - (counts + 1) / 2)[inverse]
    return means


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description="Spearman correlation on STS-Benchmark")
    parser.add_argument("file", type=Path)
    parser.add_argument("--bundle")
    options = parser.parse_args()
    rows = [line.split("\t") for line in options.file.read_text("utf-8").splitlines()]
    embedder = Embedder(options.bundle)
    left, right = (embedder.encode([row[i] for row in rows]) for i in (1, 2))
    gold = np.array([float(row[0]) for row in rows])
    similarity = (left * right).sum(axis=1).astype(np.float64)
    print(f"{len(rows)} pairs, {embedder.manifest.name}: Spearman {spearman(gold, similarity):.4f}")


if __name__ == "__main__":
    main()
