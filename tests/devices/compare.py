"""Compare the vectors that devices got for the same texts: exit status 1 where one differs too much.

python tests/devices/compare.py REF.npy OUT.npy ...

The files come from vectors.py. A text's vectors on two supported CPUs have a cosine of at least 0.999.
"""

# ruff: noqa: T201 - a script prints
import argparse
import sys
from pathlib import Path

import numpy as np

FLOOR = 0.999


def cosines(reference: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Cosine of each row with that of the reference, both [n, d] with rows of length 1; nothing where shapes differ."""
    return (reference * vectors).sum(axis=1) if reference.shape == vectors.shape else np.zeros(1)


def main() -> int:
    parser = argparse.ArgumentParser(description="compare vectors of devices")
    parser.add_argument("reference", type=Path)
    parser.add_argument("others", type=Path, nargs="+")
    options = parser.parse_args()
    reference, failed = np.load(options.reference), False
    for path in options.others:
        found = cosines(reference, np.load(path))
        failed |= not found.min() >= FLOOR
        print(f"{'ok ' if found.min() >= FLOOR else 'FAR'} mean {found.mean():.5f}  min {found.min():.5f}  {path}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
