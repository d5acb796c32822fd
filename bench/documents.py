"""An index as a collection: what find, count, the values of a field, changes and deletions take, and how much memory.

`python -m bench.documents --count 100000`

Each row is measured in a process of its own, on a copy of one index (documents of about 150 characters, vectors of 384
numbers, five fields, of which `lang` and `year` are declared). Memory is what the peak is above
what the process had with the index open. Not measured: the time of a disk that is slower than this machine's.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed import Document, Index
from edge_embed_runtime.system.cpu import cpu_model

DIM = 384
LANGUAGES = ("en", "de", "fr", "it", "es")
BATCH = 5000


def documents(start: int, stop: int) -> Iterator[Document]:
    for i in range(start, stop):
        fields = {"lang": LANGUAGES[i % 5], "kind": LANGUAGES[i % 5], "year": 1900 + i % 120, "n": i}
        yield Document(f"doc/{i:07}", f"Document number {i} " + "about harbours and trains " * 5,
                       {**fields, "tags": [f"t{i % 7}", f"t{i % 11}"]})  # fmt: skip


def make(path: Path, count: int) -> None:
    random = np.random.default_rng(0)
    with Index.create(path, space="random", dim=DIM, fields=["lang", "year"]) as index:
        for start in range(0, count, BATCH):
            batch = list(documents(start, min(count, start + BATCH)))
            index.add_vectors(batch, random.standard_normal((len(batch), DIM), np.float32))


def drain(found: Iterator[Document]) -> int:
    return sum(1 for _ in found)


JOBS: dict[str, Callable[[Index], Any]] = {
    "iterate over all": lambda i: drain(i.find()),
    "find(lang), declared, a fifth": lambda i: drain(i.find({"lang": "en"})),
    "find(kind), not declared, a fifth": lambda i: drain(i.find({"kind": "en"})),
    "find(year), declared, 1 of 120": lambda i: drain(i.find({"year": 1950})),
    "find(n), not declared, one": lambda i: drain(i.find({"n": 77})),
    "find(limit=100, offset=half)": lambda i: drain(i.find(limit=100, offset=len(i) // 2)),
    "count()": lambda i: i.count(),
    "count(lang), declared": lambda i: i.count({"lang": "en"}),
    "count(kind), not declared": lambda i: i.count({"kind": "en"}),
    "count(tags $contains)": lambda i: i.count({"tags": {"$contains": "t5"}}),
    "get_many of 1,000 keys": lambda i: len(i.get_many([f"doc/{n:07}" for n in range(0, len(i), len(i) // 1000)])),
    "vectors of 1,000 keys": lambda i: len(i.vectors([f"doc/{n:07}" for n in range(0, len(i), len(i) // 1000)])),
    "field_values(lang), declared": lambda i: len(i.field_values("lang")),
    "field_values(kind), not declared": lambda i: len(i.field_values("kind")),
    "field_values(tags), lists": lambda i: len(i.field_values("tags")),
    "field_values(n), all different": lambda i: len(i.field_values("n")),
    "field_range(year), declared": lambda i: i.field_range("year"),
    "field_range(n), not declared": lambda i: i.field_range("n"),
    "update_metadata(kind), a fifth": lambda i: i.update_metadata({"kind": "en"}, {"kind": "xx"}),
    "delete(where kind), a fifth": lambda i: i.delete(where={"kind": "en"}),
}


def peak_bytes() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


def measure(path: Path, name: str) -> dict[str, Any]:
    with Index.open(path) as index:
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from now on
        before, wall, cpu = peak_bytes(), time.perf_counter(), time.process_time()
        result = JOBS[name](index)
        return {
            "job": name,
            "wall_s": round(time.perf_counter() - wall, 4),
            "cpu_s": round(time.process_time() - cpu, 4),
            "peak_growth_mb": round((peak_bytes() - before) / 1e6, 1),
            "result": result,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--index", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.index is not None:
        print(json.dumps(measure(given.index, given.job)))
        return
    with tempfile.TemporaryDirectory() as folder:
        made, copy = Path(folder, "made.db"), Path(folder, "copy.db")
        make(made, given.count)
        print(f"{given.count:,} documents, {cpu_model()}\n")
        print("| | wall s | CPU s | memory MB | result |\n|---|---|---|---|---|")
        for name in JOBS:
            shutil.copyfile(made, copy)
            command = [sys.executable, "-m", "bench.documents", "--index", str(copy), "--job", name]
            said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            row = (said["wall_s"], said["cpu_s"], said["peak_growth_mb"], said["result"])
            print(f"| {name} | {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
