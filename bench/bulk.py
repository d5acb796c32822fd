"""Bulk runs on Ray with one worker and with two, against an embedder alone: python -m bench.bulk [--bundle static]

By turns, round by round: a process with an Embedder of one thread, `embed_files` with one worker, and with two, all on
the same rows, which are passages of the demo's corpus (or lines of --texts). The clock of a run starts when each of its
workers has finished its first shard, and stops with the last but one wave, so Ray's start and the end, where workers
have nothing to do, do not count; what they cost is printed beside.

Prints rows and tokens a second, medians of the rounds, and their ratios; CPU milliseconds a row of the workers and of
everything else (driver, raylet, store); memory of the workers, and how much of it they share.

It does not measure several machines, nor a network file system.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_embed import Embedder
from edge_embed.corpus import demo_documents
from edge_embed.integrations.ray import embed_files

ACTOR = b"ray::MapWorker(MapBatches(EmbedShards))"
TICKS = os.sysconf("SC_CLK_TCK")
MB = 1e6


def texts(path: str | None, words: int) -> Iterator[str]:
    """Passages of so many words, without end; each has a number of its own."""
    if path is None:
        source = " ".join(document.text for document in demo_documents()).split()
        parts = [" ".join(source[i : i + words]) for i in range(0, len(source) - words, words)]
    else:
        parts = [line for line in Path(path).read_text("utf-8").splitlines() if line.strip()]
    number = 0
    while True:
        yield f"{number} {parts[number % len(parts)]}"
        number += 1


ALONE = """
import json, sys, time
from edge_embed import Embedder
embedder = Embedder(sys.argv[2], threads=1)
rows = [json.loads(line)["text"] for line in open(sys.argv[1])][: int(sys.argv[3])]
embedder.encode_document(rows[:64])
begun, cpu = time.monotonic(), time.process_time()
for start in range(0, len(rows), 1024):
    embedder.encode_document(rows[start : start + 1024])
print(json.dumps([len(rows) / (time.monotonic() - begun), 1000 * (time.process_time() - cpu) / len(rows)]))
"""


def alone(path: Path, bundle: str, rows: int) -> tuple[float, float]:
    """Rows a second and CPU milliseconds a row of an embedder in a process of its own."""
    command = [sys.executable, "-c", ALONE, str(path), bundle, str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    speed, cpu = json.loads(done.stdout)
    return speed, cpu


@dataclass
class Watch:
    """Notes when shards are finished, and what Ray's processes have used by then."""

    workers: int
    at: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    cpu: list[dict[int, tuple[bool, float]]] = field(default_factory=list)
    memory: list[dict[str, float]] = field(default_factory=list)

    def __call__(self, now: Any) -> None:
        self.at.append(time.monotonic())
        self.rows.append(now.rows)
        self.cpu.append(cpu_seconds())
        if len(self.at) == self.workers + 1:
            self.memory = [memory(pid) for pid, line in processes() if line.startswith(ACTOR)]

    def result(self, seconds: float) -> dict[str, float]:
        first, last = self.workers - 1, len(self.at) - self.workers
        rows = self.rows[last] - self.rows[first]
        used = {True: 0.0, False: 0.0}
        for pid, (worker, seconds_now) in self.cpu[last].items():
            used[worker] += seconds_now - self.cpu[first].get(pid, (worker, 0.0))[1]
        taken = self.at[last] - self.at[first]
        return {
            "rows_s": rows / taken,
            "worker_ms": 1000 * used[True] / rows,
            "other_ms": 1000 * used[False] / rows,
            "rest_s": seconds - taken,
        }


def processes() -> Iterator[tuple[int, bytes]]:
    """This process and all below it, with their command lines."""
    parents, lines = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                lines[int(entry.name)] = (entry / "cmdline").read_bytes()
    for pid, line in lines.items():
        above = pid
        while above not in (0, os.getpid()):
            above = parents.get(above, 0)
        if above:
            yield pid, line


def cpu_seconds() -> dict[int, tuple[bool, float]]:
    """Of each process of Ray, this one too: whether it is a worker of the run, and its CPU seconds so far."""
    found = {}
    for pid, line in processes():
        with contextlib.suppress(OSError):
            said = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            found[pid] = line.startswith(ACTOR), (int(said[11]) + int(said[12])) / TICKS
    return found


def memory(pid: int) -> dict[str, float]:
    """Megabytes: all, what this process alone has, and its mapped files of the bundle."""
    kilobytes = {"Rss": 0.0, "Private_Clean": 0.0, "Private_Dirty": 0.0, "Bundle": 0.0, "Pss": 0.0}
    bundle = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, _, value = line.partition(":")
        if "-" in line.split(" ", 1)[0]:
            bundle = line.endswith((".onnx", ".safetensors", ".bin"))
        elif name in kilobytes:
            number = float(value.split()[0])
            kilobytes[name] += number
            if bundle and name == "Rss":
                kilobytes["Bundle"] += number
    private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    found = {"rss": kilobytes["Rss"], "private": private, "pss": kilobytes["Pss"], "bundle": kilobytes["Bundle"]}
    return {name: 1024 * value / MB for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="minilm")
    parser.add_argument("--texts", help="a file with a passage in each line")
    parser.add_argument("--words", type=int, default=40, help="of a passage of the demo's corpus")
    parser.add_argument("--rows", type=int, default=12_000)
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    import ray

    results: dict[str, list[dict[str, float]]] = {"alone": [], "1": [], "2": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        source = texts(given.texts, given.words)
        rows = [next(source) for _ in range(given.rows)]
        path.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(rows)))
        embedder = Embedder(given.bundle)
        tokens = statistics.mean(embedder.count_tokens(rows[:1000], role="document"))
        kept: list[dict[str, float]] = []
        ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False, address="local", _node_ip_address="127.0.0.1"
        )
        for number in range(given.rounds):
            speed, cpu = alone(path, given.bundle, given.rows // 3)
            results["alone"].append({"rows_s": speed, "worker_ms": cpu})
            for workers in (1, 2):
                watch = Watch(workers)
                begun = time.monotonic()
                embed_files(
                    path,
                    Path(folder, f"out-{number}-{workers}"),
                    bundle=given.bundle,
                    workers=workers,
                    rows_per_shard=given.rows // given.shards,
                    progress=watch,
                )
                results[str(workers)].append(watch.result(time.monotonic() - begun))
                if workers == 2:
                    kept = watch.memory
        ray.shutdown()
    report(results, tokens, kept)


def report(results: dict[str, list[dict[str, float]]], tokens: float, kept: list[dict[str, float]]) -> None:
    def middle(name: str, what: str) -> float:
        return statistics.median(one[what] for one in results[name])

    print(f"{tokens:.0f} tokens a row; medians of {len(results['alone'])} rounds")
    for name, label in (("alone", "embedder alone, 1 thread"), ("1", "bulk, 1 worker"), ("2", "bulk, 2 workers")):
        speed = middle(name, "rows_s")
        line = f"{label:26} {speed:8,.0f} rows/s {speed * tokens:9,.0f} tokens/s "
        line += f"{middle(name, 'worker_ms'):7.3f} CPU ms/row"
        if name != "alone":
            line += f" + {middle(name, 'other_ms'):.3f} of Ray; start and end {middle(name, 'rest_s'):.1f} s"
        print(line)
    pairs = list(zip(results["alone"], results["1"], results["2"], strict=True))
    print(f"2 workers / 1 worker: {statistics.median(two['rows_s'] / one['rows_s'] for _, one, two in pairs):.2f}")
    print(f"1 worker / embedder alone: {statistics.median(one['rows_s'] / own['rows_s'] for own, one, _ in pairs):.2f}")
    for one in kept:
        print("worker, MB: " + ", ".join(f"{name} {value:.0f}" for name, value in one.items()))
    cost = middle("2", "worker_ms") + middle("2", "other_ms")
    print(f"10^9 such rows: {1e9 * cost / 1000 / 3600:,.0f} core hours")


if __name__ == "__main__":
    main()
