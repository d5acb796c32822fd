"""Memory of a whole process that embeds one query and searches 100,000 documents:

    python -m bench.memory SCIFACT [--bundle BUNDLE]

SCIFACT is a judged set in BEIR's layout. Documents are forty words in a row of its texts, and such put together of two;
their vectors are those of 400 texts, with noise.
Prints medians of five processes in MB (1,000,000 bytes): the peak, what is resident at the end, its share of pages that
others have too (PSS), pages of its own (private), and those of them that are not parts of files (dirty); then the same
for each of two processes at a time, which share the bundle's weights, and the least that `max_rss_mb` accepts.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge_embed import Document, Embedder, Index
from edge_embed.measuring.judged import read_judged_set

ROUNDS = 5
PART = 10_000
QUERY = "how do vaccines change the immune response of the lung"
WORDS = 40
NOISE = 0.03
PROGRAM = """
import json, sys
from edge_embed import Embedder, Index
from edge_embed_runtime.system.memory import peak_rss_bytes
from edge_embed_runtime.system.memory import read_memory
embedder = Embedder(sys.argv[4])
with Index.open(sys.argv[1], read_only=True) as index:
    if len(index.search(sys.argv[2], mode="hybrid", vector=embedder.encode_query([sys.argv[2]])[0])) < 10:
        raise SystemExit(1)
    sys.stdin.read(int(sys.argv[3]))
    facts = {"exact": embedder.exact, "engine": embedder.engine}
    print(json.dumps({"peak": peak_rss_bytes(), **read_memory()._asdict(), **facts}), flush=True)
    sys.stdin.read(int(sys.argv[3]))
"""


def fill(path: Path, judged: str, documents: int) -> None:
    random = np.random.default_rng(0)
    texts = []
    for text in read_judged_set(judged).documents.values():
        words = text.split()
        texts += [words[i : i + WORDS] for i in range(0, len(words), WORDS)]
    embedder = Embedder()
    some = embedder.encode([" ".join(texts[i]) for i in random.integers(0, len(texts), 400)])
    with Index.create(path, space="bench", dim=embedder.dim) as index:
        for start in range(0, documents, PART):
            size = min(PART, documents - start)
            vectors = some[random.integers(0, 400, size)] + NOISE * random.standard_normal((size, embedder.dim))
            pairs = random.integers(0, len(texts), (size, 2))
            joined = [" ".join(texts[a][: WORDS // 2] + texts[b][WORDS // 2 :]) or "none" for a, b in pairs]
            index.add_vectors([Document(str(start + i), text) for i, text in enumerate(joined)], vectors)


def run(path: Path, bundle: str, at_a_time: int) -> Iterator[dict[str, float]]:
    """What each of several processes has, all alive when they look."""
    hold = str(int(at_a_time > 1))
    command = [sys.executable, "-c", PROGRAM, str(path), QUERY, hold, bundle]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(at_a_time)]
    for process in processes:
        if process.stdin:
            process.stdin.write("." * (at_a_time > 1))
            process.stdin.flush()
    for process in processes:
        if process.stdout:
            yield json.loads(process.stdout.readline())
    for process in processes:
        process.communicate("." if at_a_time > 1 else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("judged", metavar="SCIFACT")
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--bundle", default="minilm", help="a bundle of 384 dimensions; its engine runs it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.db"
        fill(path, options.judged, options.documents)
        names = ("peak", "rss", "pss", "private", "dirty")
        print(f"{'MB':<28}" + "".join(f"{name:>9}" for name in names))
        for label, at_a_time in (("one process", 1), ("each of two processes", 2)):
            found = [one for _ in range(ROUNDS) for one in run(path, options.bundle, at_a_time)]
            medians = [statistics.median(one[name] for one in found) / 1e6 for name in names]
            print(f"{label:<28}" + "".join(f"{value:9.1f}" for value in medians))
        least = subprocess.run(
            [sys.executable, "-c", f"from edge_embed import Embedder; Embedder({options.bundle!r}, max_rss_mb=20)"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        print("Embedder(max_rss_mb=...): the least is" + least.stderr.rpartition("the least is")[2].rstrip())
        engine, exact = (found[0][name] for name in ("engine", "exact"))
        print(f"Python {sys.version.split()[0]}, {engine}, exact form: {exact}, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
