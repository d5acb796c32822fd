"""Bundles of one model in different forms beside each other: CPU time of a query, tokens a CPU second, peak memory.

    edge-embed export MODEL default --engine onnxruntime
    edge-embed export MODEL portable --portable
    python -m bench.portable default portable minilm

One thread, in turns in one process, the median; memory of a process of its own. Ratios to the first bundle. It does not
measure other engines: see tests/examples/test_web.py for a browser.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from edge_embed import Embedder
from edge_embed_runtime.system.memory import peak_rss_bytes

QUERY = ["when do I catch the train?"]
TEXTS = ["the quick brown fox jumps over the lazy dog and runs " * 5] * 16
ROUNDS, QUERIES = 15, 20
MEGABYTE = 2**20


def cpu_seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def measure(bundles: list[str], rounds: int = ROUNDS) -> dict[str, tuple[float, float]]:
    """Milliseconds of a query, and tokens a second, of each."""
    embedders = {name: Embedder(name, threads=1) for name in bundles}
    queries: dict[str, list[float]] = {name: [] for name in bundles}
    rates: dict[str, list[float]] = {name: [] for name in bundles}
    for _ in range(rounds):
        for name, embedder in embedders.items():
            spent = cpu_seconds(lambda each=embedder: [each.encode_query(QUERY) for _ in range(QUERIES)])  # type: ignore[misc]
            queries[name].append(1000 * spent / QUERIES)
            tokens = sum(embedder.count_tokens(TEXTS))
            rates[name].append(tokens / cpu_seconds(lambda each=embedder: each.encode(TEXTS)))  # type: ignore[misc]
    return {name: (statistics.median(queries[name]), statistics.median(rates[name])) for name in bundles}


def peak_mb(bundle: str) -> int:
    """Of a process that embeds a query and the texts; 0 where the system does not say."""
    done = subprocess.run([sys.executable, __file__, "--peak", bundle], capture_output=True, text=True, check=True)
    return int(done.stdout)


def main(arguments: list[str]) -> None:
    if not arguments:
        sys.exit(__doc__)
    if arguments[0] == "--peak":
        embedder = Embedder(arguments[1], threads=1)
        embedder.encode_query(QUERY)
        embedder.encode(TEXTS)
        print((peak_rss_bytes() or 0) // MEGABYTE)
        return
    found = measure(arguments)
    first = found[arguments[0]]
    for name, (query, rate) in found.items():
        print(
            f"{name}: {query:.2f} ms a query ({query / first[0]:.2f}), {rate:,.0f} tokens a CPU second "
            f"({rate / first[1]:.2f}), peak {peak_mb(name)} MB"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
