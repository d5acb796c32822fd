"""Binary codes compared and the nearest chosen, by each instruction set of the native library, by numpy and by faiss:
python -m bench.scan [--sizes 100000,1000000] [--dim 384]

Each way runs in a process of its own, in turn, a few rounds of the same queries over the same random codes; one thread.
What it does not measure: everything else of a search (`python -m bench.search` does), and codes as real texts have
them: time does not depend on them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.common import child_variables
from edge_embed.measuring import children
from edge_embed_runtime.native.library import native
from edge_embed_runtime.search.nearest import first_sizes
from edge_embed_runtime.vectors.bits import BinaryCodes
from edge_embed_runtime.vectors.whole import for_signs

HITS, QUERIES, ROUNDS = 10, 20, 5
# Environment variables of each way; names are those of instruction sets.
NUMPY, FAISS = {"EDGE_EMBED_NATIVE": "0"}, "faiss binary flat"


def ways() -> dict[str, dict[str, str]]:
    """Those that can be measured here, the slowest first."""
    found = {"numpy": NUMPY}
    library = native()
    if library is not None:
        known = ("baseline", *library.facts["instruction_sets"])
        numbers: dict[int, str] = {}
        for name in known:  # others than vpopcnt, which is part of a number, are names of limits
            number = library.functions.edge_isa(name.encode())
            if 0 <= number <= library.isa:
                numbers.setdefault(number, name)
        found |= {f"C, {name}": {"EDGE_EMBED_ISA": name} for name in numbers.values()}
    return {**found, FAISS: {}}


def timed(search: Callable[[int], Any]) -> list[float]:
    """Milliseconds of CPU for each query."""
    search(0)
    taken = []
    for i in range(QUERIES):
        start = time.process_time_ns()
        search(i)
        taken.append((time.process_time_ns() - start) / 1e6)
    return taken


def measure(way: str, size: int, dim: int) -> list[float]:
    random = np.random.default_rng(0)
    words = random.integers(0, 2**64, (size, -(-dim // 64)), np.uint64)
    queries = random.integers(0, 2**64, (QUERIES, words.shape[1]), np.uint64)
    vector = for_signs(random.standard_normal(64 * words.shape[1]).astype(np.float32))
    _, count = first_sizes(HITS, size)
    if way == FAISS:
        import faiss  # type: ignore[import-not-found, import-untyped, unused-ignore]

        faiss.omp_set_num_threads(1)
        index = faiss.IndexBinaryFlat(64 * words.shape[1])
        index.add(words.view(np.uint8))
        return timed(lambda i: index.search(queries[i : i + 1].view(np.uint8), count))
    codes = BinaryCodes(dim, capacity=size)
    codes.append(np.arange(size), words)
    return timed(lambda i: codes.estimate(codes.nearest(queries[i], count), vector))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="100000,1000000")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--way", help="measure this one, in this process")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    if options.way:
        print(json.dumps(measure(options.way, sizes[0], options.dim)))
        return
    for size in sizes:
        found: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for way, variables in ways().items():
                command = [sys.executable, "-m", "bench.scan", "--way", way, "--sizes", str(size)]
                env = children.environment({**child_variables(1), **variables})
                done = subprocess.run(
                    [*command, "--dim", str(options.dim)], env=env, capture_output=True, text=True, check=False
                )
                if done.returncode == 0:
                    found.setdefault(way, []).extend(json.loads(done.stdout))
        slowest = statistics.median(found["numpy"])
        print(f"{size:,} codes of {options.dim} bits: CPU ms (median of {ROUNDS * QUERIES}), times as fast as numpy")
        for way, taken in found.items():
            middle = statistics.median(taken)
            print(f"{way:20s} {middle:8.3f} {slowest / middle:6.2f}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
