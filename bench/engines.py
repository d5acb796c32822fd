"""Both engines of one bundle in turns, tokenizing included: `python -m bench.engines [BUNDLE] [--rounds N]`.

What is measured is `Embedder.encode` as a program calls it, on one thread, by CPU time and by the clock. Figures are
ratios of medians, measured alternately in one run. Not measured: loading, several threads, quality.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

from edge_embed import Embedder
from edge_embed.embedder import bundle_path
from edge_embed_runtime.system.cpu import cpu_model

CELLS = ((1, 12), (16, 12), (1, 52), (16, 52), (1, 256), (16, 256))
LEAST_SECONDS = 0.02


def texts_of(embedder: Embedder, count: int, tokens: int) -> list[str]:
    """Different texts of exactly so many tokens, special ones included."""
    words = ("water", "house", "river", "night", "garden", "money", "city", "table", "music", "winter", "letter")
    found = []
    for i in range(count):
        chosen = [words[(i + j * (i + 1)) % len(words)] for j in range(tokens - 2)]
        (length,) = embedder.count_tokens([" ".join(chosen)])
        if length != tokens:
            raise SystemExit(f"bundle {embedder.name}: these words are no single tokens of it ({length} of {tokens})")
        found.append(" ".join(chosen))
    return found


def seconds(call: Callable[[], object], times: int) -> tuple[float, float]:
    """CPU and clock of one call, the mean of some."""
    cpu, clock = time.process_time(), time.perf_counter()
    for _ in range(times):
        call()
    return (time.process_time() - cpu) / times, (time.perf_counter() - clock) / times


def measure(embedders: Sequence[Embedder], texts: list[str], rounds: int) -> list[list[tuple[float, float]]]:
    """For each embedder the seconds of every round."""
    calls = [lambda e=embedder: e.encode(texts) for embedder in embedders]
    times = [max(1, round(LEAST_SECONDS / seconds(call, 3)[0])) for call in calls]
    found: list[list[tuple[float, float]]] = [[] for _ in calls]
    for _ in range(rounds):
        for i, call in enumerate(calls):
            found[i].append(seconds(call, times[i]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", default="minilm")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    path = bundle_path(given.bundle)
    embedders = [Embedder(path, threads=1, engine=engine) for engine in ("native", "onnxruntime")]
    print(f"{embedders[0].name} on {cpu_model()}, one thread; exact form of onnxruntime: {embedders[1].exact}")
    print(f"{'texts x tokens':<16}{'native ms':>10}{'onnxruntime':>13}{'ratio, CPU':>12}{'by the clock':>14}")
    for count, tokens in CELLS:
        if tokens > embedders[0].max_tokens:
            continue
        texts = texts_of(embedders[0], count, tokens)
        found = measure(embedders, texts, given.rounds)
        cpu, clock = ([statistics.median(one[which] for one in rounds) for rounds in found] for which in (0, 1))
        ratio, by_clock = cpu[1] / cpu[0], clock[1] / clock[0]
        print(f"{count:>4} x {tokens:<9}{1e3 * cpu[0]:>10.2f}{1e3 * cpu[1]:>13.2f}{ratio:>12.2f}{by_clock:>14.2f}")


if __name__ == "__main__":
    main()
