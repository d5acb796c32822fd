"""What a child process does: python -m bench.search.worker

It reads an order per line and writes an answer per line, both JSON.
"""

import gc
import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.common import describe, private_bytes
from bench.search import collection as collected
from bench.search.candidates import Candidate, candidate
from bench.search.collection import TEXTS, Collection, Opened
from bench.search.vectors import recall
from edge_embed.measuring.children import Say, answering
from edge_embed_runtime.system.cpu import peak_rss_bytes
from edge_embed_runtime.system.memory import rss_bytes

if TYPE_CHECKING:
    Vectors = NDArray[np.float32]

# Rows of a batch that a killed process writes, and how many are there before the first.
BATCH, FIRST = 32, 2048


class Session:
    """Answers one process's orders. `open` before `recall` and `time`."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._opened: Opened | None = None
        self._queries: Vectors = np.empty((0, 0), np.float32)

    def build(self, order: dict[str, Any]) -> dict[str, Any]:
        """Write an index of a collection; gives seconds on one core and peak memory."""
        chosen, folder = candidate(order["candidate"]), Path(order["folder"])
        collection = Collection(order["vectors"], order["texts"], order["count"])
        _import(chosen)
        began, cpu = time.perf_counter(), time.process_time()
        write(chosen, collection, folder)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        return {"build_seconds": seconds, "build_cpu_seconds": cpu, "build_peak_rss_bytes": peak_rss_bytes()}

    def sizes(self, order: dict[str, Any]) -> dict[str, Any]:
        """Bytes on disk of what `build` wrote, and per vector: without the texts, and with them.

        Of a candidate that keeps the texts itself a second index with empty ones is written, of `most` vectors.
        """
        chosen, folder = candidate(order["candidate"]), Path(order["folder"])
        total, count = bytes_on_disk(folder), order["count"]
        if chosen.keeps_texts:
            few = min(count, order["most"])
            without = folder.with_name(f"{folder.name}-without-texts")
            write(chosen, Collection(order["vectors"], order["texts"], few), without, texts=False)
            vectors = bytes_on_disk(without) / few
        else:
            vectors = (total - (folder / TEXTS).stat().st_size) / count
        return {"bytes_per_vector": vectors, "bytes_per_vector_with_text": total / count, "bytes": total}

    def open(self, order: dict[str, Any]) -> dict[str, Any]:
        """Open an index and search it once; gives the memory that this added to the libraries', and seconds."""
        chosen, folder = candidate(order["candidate"]), Path(order["folder"])
        self._queries = np.load(order["queries"])
        _import(chosen)
        gc.collect()
        rss, private = rss_bytes(), private_bytes()
        began = time.perf_counter()
        self._opened = open_index(chosen, folder, self._queries.shape[1])
        self._opened.search(self._queries[0], order["k"], order["setting"])
        seconds = time.perf_counter() - began
        return {
            "open_seconds": seconds,
            "open_rss_bytes": _added(rss, rss_bytes()),
            "open_private_bytes": _added(private, private_bytes()),
        }

    def recall(self, order: dict[str, Any]) -> dict[str, Any]:
        """Recall of the first `most` queries, or of as many as the time allows."""
        truth = np.load(order["truth"])[: order["most"]]
        found, _ = self._ask(range(len(truth)), order)
        return {"recall": recall(found, truth[: len(found)]), "queries": len(found)}

    def time(self, order: dict[str, Any]) -> dict[str, Any]:
        """Nanoseconds of each query at `positions`, as far as the time allows, and CPU seconds of all of them."""
        gc.collect()
        cpu = time.process_time()
        _, nanoseconds = self._ask(order["positions"], order)
        return {"nanoseconds": nanoseconds, "cpu_seconds": time.process_time() - cpu}

    def _ask(self, positions: Any, order: dict[str, Any]) -> tuple[list[list[int]], list[int]]:
        """Search query after query; the first is always answered."""
        if self._opened is None:
            raise RuntimeError("no index is open")
        search, k, setting = self._opened.search, order["k"], order["setting"]
        found, nanoseconds = [], []
        end = time.perf_counter() + order["limit_seconds"]
        for position in positions:
            query = self._queries[position]
            began = time.perf_counter_ns()
            ids, _ = search(query, k, setting)
            nanoseconds.append(time.perf_counter_ns() - began)
            found.append([int(i) for i in ids])
            if time.perf_counter() > end:
                break
        return found, nanoseconds

    def endure(self, order: dict[str, Any]) -> dict[str, Any]:
        """Add batch after batch and say after each how many vectors are promised to be on disk, until killed."""
        chosen = candidate(order["candidate"])
        vectors = np.load(order["vectors"], mmap_mode="r")
        writer = chosen.adapter.writer(Path(order["folder"]), vectors.shape[1], len(vectors))
        start = 0
        while start < len(vectors):
            stop = min(start + (BATCH if start else FIRST), len(vectors))
            writer.add(np.arange(start, stop), np.array(vectors[start:stop]), ["text"] * (stop - start))
            writer.save()
            self._say({"acknowledged": stop})
            start = stop
        return {"complete": True}

    def examine(self, order: dict[str, Any]) -> dict[str, Any]:
        """Open what a killed process left; gives how many vectors there are, and how many of `ids` find themselves."""
        chosen = candidate(order["candidate"])
        vectors = np.load(order["vectors"], mmap_mode="r")
        opened = chosen.adapter.open(Path(order["folder"]), vectors.shape[1])
        count = opened.count()
        depth = max(chosen.settings)
        nearest = {i: opened.search(np.array(vectors[i]), 1, depth)[0] for i in order["ids"] if i < count}
        return {"count": count, "found": sum(list(ids) == [i] for i, ids in nearest.items())}


def write(chosen: Candidate, collection: Collection, folder: Path, *, texts: bool = True) -> None:
    """Everything that a search needs on disk. texts: False stores empty ones."""
    folder.mkdir(parents=True)
    writer = chosen.adapter.writer(folder, collection.dim, collection.count)
    for ids, vectors in collection.chunks():
        kept = chosen.keeps_texts and texts
        writer.add(ids, vectors, collection.texts(ids) if kept else [""] * len(ids))
    writer.save()
    writer.close()
    if not chosen.keeps_texts:
        collected.write_texts(collection, folder)
    if chosen.rescored:
        collected.write_codes(collection, folder)


def open_index(chosen: Candidate, folder: Path, dim: int) -> Opened:
    """An index whose hits come with their texts."""
    opened = chosen.adapter.open(folder, dim)
    search = collected.rescored(opened.search, folder) if chosen.rescored else opened.search
    return Opened(search if chosen.keeps_texts else collected.with_texts(search, folder), opened.count)


def bytes_on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _added(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _import(chosen: Candidate) -> None:
    for module in chosen.modules:
        import_module(module)


def pin_to_one_core() -> None:
    """Libraries with thread pools of their own get one core too (Linux)."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def main() -> None:
    """Answer orders until there are no more."""
    with answering() as say:
        pin_to_one_core()
        session = Session(say)
        for line in sys.stdin:
            order = json.loads(line)
            try:
                say(getattr(session, order["do"])(order))
            except Exception as error:  # noqa: BLE001 - the parent reports it
                say({"failed": describe(error)})


if __name__ == "__main__":
    main()
