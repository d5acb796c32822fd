"""Merging two indexes, two files of vectors, and one index into the other, with half of the documents each: time, and
peak memory.

Run `python bench/merge.py [DOCUMENTS]`. Documents are 40 words with random vectors of 384 numbers. It does not measure
disks that are slower than the processor.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from edge_embed import Document, Index, dump_vectors, merge_indexes
from edge_embed_runtime.system.cpu import cpu_model

DIM, WORDS, BATCH = 384, 40, 5000


def build(path: Path, part: int, count: int) -> None:
    """An index of given vectors."""
    random = np.random.default_rng(part)
    with Index.create(path, space="bench", dim=DIM) as index:
        for start in range(0, count, BATCH):
            some = range(start, min(start + BATCH, count))
            texts = random.integers(0, 5000, (len(some), WORDS))
            documents = [
                Document(f"{part}-{n}", " ".join(f"word{word}" for word in row), {"n": n})
                for n, row in zip(some, texts, strict=True)
            ]
            index.add_vectors(documents, random.standard_normal((len(some), DIM)).astype(np.float32))


def measure(out: str, inputs: list[str]) -> None:
    """In a process of its own: peak memory is that of the merge."""
    started, before = time.perf_counter(), time.process_time()
    done = merge_indexes(out, inputs)
    seconds, cpu = time.perf_counter() - started, time.process_time() - before
    # not of getrusage, which begins with the peak of the process that started this one
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(f"{done.documents:,} documents: {seconds:.1f} s, {cpu:.1f} s of CPU, {int(peak) / 1024:.0f} MB at most")


def main() -> None:
    if len(sys.argv) > 2:
        measure(sys.argv[1], sys.argv[2:])
        return
    count = int(sys.argv[1]) if len(sys.argv) == 2 else 100_000
    print(cpu_model())
    with tempfile.TemporaryDirectory() as folder:
        indexes = [Path(folder, f"{part}.db") for part in (0, 1)]
        for part, path in enumerate(indexes):
            build(path, part, count // 2)
            dump_vectors(path, path.with_suffix(".parquet"))
        files = [path.with_suffix(".parquet") for path in indexes]
        for name, inputs in (("indexes", indexes), ("files", files), ("into an index", indexes[1:])):
            print(f"{name}: ", end="", flush=True)
            out = Path(folder, f"{name}.db")
            if len(inputs) == 1:
                shutil.copy(indexes[0], out)
            subprocess.run([sys.executable, __file__, str(out), *map(str, inputs)], check=True)


if __name__ == "__main__":
    main()
