"""Many threads and processes on one index, and one process over a long life, every answer compared with the truth.

    python tests/soak.py --minutes 10 --requests 10000
    python tests/soak.py --million            a million requests to one process, for an hour or more
    python tests/soak.py --life 20000         so many of them

Every document says its key and version in its text and metadata, and its vector is made of both, so that an answer
proves which committed state it came from. In a process or thread that owns a key, the answer must be the version it
wrote last; elsewhere one between the version that was acknowledged before the request and the one begun after it.
"""

import argparse
import json
import multiprocessing
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.sharedctypes import SynchronizedArray
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed import Document, Embedder, Index
from edge_embed.errors import InputError

DIM = 64
KEYS = 400
THREADS = 8
READERS = 2
# Part of a run after which memory is compared: codes, caches and the allocator have reached their size by then.
WARM = 0.3
# Requests of a long life, and how often each comes.
LIFE = ("encode", "again", "upsert", "delete", "get", "search", "bad", "compact", "verify", "reopen")
LIFE_SHARES = (0.10, 0.15, 0.10, 0.04, 0.20, 0.38, 0.02, 0.002, 0.001, 0.007)
LIFE_KEYS = 300
LIFE_WORDS = ["the", "a", "bank", "of", "river", "money", "at", "is", "cat", "dog", "Straße", "水", "\U0001f600"]
MAX_DRIFT_MB = 2.0


def vector(key: int, version: int) -> Any:
    return np.random.default_rng([key, version]).standard_normal(DIM).astype(np.float32)


def document(key: int, version: int) -> Document:
    return Document(f"k{key}", f"word{key} of version{version}", {"key": key, "version": version, "odd": bool(key % 2)})


def rss_mb() -> float:
    """Memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def handles() -> int:
    """Files, sockets and pipes that this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a folder that changes while it is read


def native_threads() -> int:
    """Threads of this process, onnxruntime's and usearch's too."""
    return int(re.findall(r"Threads:\s+(\d+)", Path("/proc/self/status").read_text())[0])


class Watch:
    """Counts requests and what was wrong, and how memory, threads and open files grew after the warm-up."""

    def __init__(self, warm: Callable[[int], bool]) -> None:
        self.requests = 0
        self.wrong: list[str] = []
        self._warm = warm
        self._first: tuple[float, int, int] | None = None

    def check(self, fits: bool, what: str) -> None:
        self.requests += 1
        if not fits and len(self.wrong) < 20:
            self.wrong.append(what)
        if self._first is None and self._warm(self.requests):
            self._first = rss_mb(), native_threads(), handles()

    def result(self) -> dict[str, Any]:
        """Growth is None where the warm-up did not end."""
        first, now = self._first, (rss_mb(), native_threads(), handles())
        drift, threads, files = (
            (None, None, None) if first is None else (b - a for a, b in zip(first, now, strict=True))
        )
        return {
            "requests": self.requests,
            "wrong": self.wrong,
            "rss_drift_mb": None if drift is None else round(drift, 2),
            "more_threads": threads,
            "more_handles": files,
        }


def fits(document: Document | Any, key: int, least: int, most: int) -> bool:
    """Whether a document or hit is a version of a key between two, none of its parts of another."""
    version = document.metadata["version"]
    whole = document.key == f"k{key}" and document.text == f"word{key} of version{version}"
    return whole and document.metadata["key"] == key and least <= version <= most


# --- threads on one object


def work(index: Index, mine: list[int], requests: int, seed: int, watch: Watch) -> None:
    """Requests of one thread; it alone writes its keys, so it knows what each answer must be."""
    random = np.random.default_rng(seed)
    versions: dict[int, int] = {}
    begun = dict.fromkeys(mine, 0)
    for number in range(requests):
        key = int(random.choice(mine))
        now = versions.get(key)
        kind = random.random()
        if kind < 0.06:
            begun[key] += 1
            index.upsert_vectors([document(key, begun[key])], vector(key, begun[key])[None])
            versions[key] = begun[key]
            watch.requests += 1
        elif kind < 0.09:
            watch.check(index.delete(f"k{key}") == (now is not None), f"{number}: delete {key}")
            versions.pop(key, None)
        elif kind < 0.3:
            found = index.get(f"k{key}")
            right = found is None if now is None else found is not None and fits(found, key, now, now)
            watch.check(right, f"{number}: get {key} at {now}: {found}")
        elif kind < 0.35:
            watch.check((f"k{key}" in index) == (now is not None), f"{number}: {key} in index at {now}")
        elif kind < 0.45:
            hits = index.search(f"word{key}", k=3, mode="text")
            right = not hits if now is None else len(hits) == 1 and fits(hits[0], key, now, now)
            watch.check(right, f"{number}: words of {key} at {now}: {hits}")
        else:
            where = {"key": key} if kind > 0.9 else {"odd": bool(key % 2)} if kind > 0.8 else None
            hits = index.search(vector=vector(key, now or 1), k=5, where=where) if now or where is None else []
            first = next((hit for hit in hits if hit.key == f"k{key}"), None)
            right = first is None if now is None else first is hits[0] and fits(first, key, now, now)
            watch.check(right, f"{number}: vector of {key} at {now}: {hits[:2]}")


def run_threads(folder: Path, requests: int) -> dict[str, Any]:
    """THREADS threads with as many requests each."""
    watch = Watch(lambda done: done > WARM * THREADS * requests)
    with Index.create(folder / "threads.db", space="soak", dim=DIM) as index:
        index.add_vectors([document(KEYS, 1)], vector(KEYS, 1)[None])  # so that no field is unknown
        failed: list[BaseException] = []

        def guarded(number: int) -> None:
            try:
                work(index, list(range(number, KEYS, THREADS)), requests, number, watch)
            except BaseException as error:  # noqa: BLE001 - told by the main thread
                failed.append(error)

        threads = [threading.Thread(target=guarded, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        watch.wrong += [repr(error) for error in failed]
        report = index.verify()
        if not report.whole:
            watch.wrong.append(str(report))
    return watch.result()


# --- the long life of one process


class Life:
    """Mixed requests to one index and one embedder, by one thread; `stored` is what must be there."""

    def __init__(self, folder: Path, embedder: Embedder, watch: Watch, seed: int = 0) -> None:
        self._path, self._embedder, self._watch = folder / "life.db", embedder, watch
        self._random = np.random.default_rng(seed)
        self._stored: dict[str, Document] = {}
        self._known: dict[str, bytes] = {}  # vectors of some texts: the same bits whenever they are asked for
        self._index = self._open()

    def _open(self) -> Index:
        return Index.open(self._path, self._embedder)

    def _text(self, most: int) -> str:
        words = self._random.integers(len(LIFE_WORDS), size=int(self._random.integers(0, most)))
        return " ".join(LIFE_WORDS[i] for i in words)

    def _document(self, key: str) -> Document:
        number = int(self._random.integers(10**6))
        return Document(key, f"{self._text(60)} {key} number{number}", {"n": number, "odd": bool(number % 2)})

    def request(self) -> None:
        """One request, chosen at random."""
        kind = int(self._random.choice(len(LIFE), p=LIFE_SHARES))
        getattr(self, f"_{LIFE[kind]}")()

    def close(self) -> None:
        self._index.close()

    def _check(self, fits: bool, what: str) -> None:
        self._watch.check(fits, f"{self._watch.requests}: {what}")

    def _encode(self) -> None:
        texts = [self._text(100) for _ in range(int(self._random.integers(1, 4)))]
        vectors = self._embedder.encode(texts)
        norms = np.linalg.norm(vectors, axis=1)
        self._check(vectors.shape == (len(texts), self._embedder.dim) and bool(np.all(abs(norms - 1) < 1e-4)), "norms")

    def _again(self) -> None:
        text = LIFE_WORDS[int(self._random.integers(len(LIFE_WORDS)))]
        bits = self._embedder.encode_query([text]).tobytes()
        self._check(self._known.setdefault(text, bits) == bits, f"another vector of {text!r}")

    def _upsert(self) -> None:
        numbers = self._random.choice(LIFE_KEYS, int(self._random.integers(1, 4)), replace=False)
        documents = [self._document(f"d{number}") for number in numbers]
        changed = self._index.upsert(documents)
        self._stored.update({document.key: document for document in documents})
        self._check(changed == len(documents), "upsert")

    def _delete(self) -> None:
        key = f"d{self._random.integers(LIFE_KEYS)}"
        self._check(self._index.delete(key) == (self._stored.pop(key, None) is not None), f"delete {key}")

    def _get(self) -> None:
        key = f"d{self._random.integers(LIFE_KEYS)}"
        self._check(self._index.get(key) == self._stored.get(key), f"get {key}")

    def _search(self) -> None:
        """A stored text finds its own document first, in any mode; with `where`, only what fits."""
        if not self._stored:
            return
        document = list(self._stored.values())[int(self._random.integers(len(self._stored)))]
        mode: Any = ("vector", "text", "hybrid")[int(self._random.integers(3))]
        where = {"odd": document.metadata["odd"]} if self._random.random() < 0.5 else None
        query = f"number{document.metadata['n']}" if mode == "text" else document.text
        hits = self._index.search(query, k=5, mode=mode, where=where)
        right = all(
            self._stored.get(hit.key) is not None and hit.metadata == self._stored[hit.key].metadata for hit in hits
        )
        right = right and all(hit.metadata["odd"] == document.metadata["odd"] for hit in hits if where)
        self._check(
            right and any(hit.key == document.key for hit in hits), f"{mode} {where} {document.key}: {hits[:2]}"
        )

    def _bad(self) -> None:
        """What cannot be done is refused, and leaves nothing behind."""
        try:
            self._index.search("a", k=3, where={"no such field": 1})
        except InputError as error:
            self._check("no such field" in str(error), str(error))
        else:
            self._check(not self._stored, "an unknown field")

    def _compact(self) -> None:
        self._index.compact()
        self._check(len(self._index) == len(self._stored), "count after compact")

    def _verify(self) -> None:
        report = self._index.verify()
        self._check(report.whole and report.documents == len(self._stored), str(report))

    def _reopen(self) -> None:
        self._index.close()
        self._index = self._open()
        self._check(len(self._index) == len(self._stored), "count after reopening")


def run_life(folder: Path, requests: int, bundle: str | None = None) -> dict[str, Any]:
    """So many mixed requests to one process with one embedder."""
    watch = Watch(lambda done: done > WARM * requests)
    life = Life(folder, Embedder(bundle, threads=2), watch)
    while watch.requests < requests:
        life.request()
    life.close()
    life = Life(folder, life._embedder, watch)  # opened as at the first measurement
    result = watch.result()
    life.close()
    return result


# --- a writer and readers in processes


def write(path: Path, until: float, begun: "SynchronizedArray[int]", acked: "SynchronizedArray[int]") -> dict[str, Any]:
    """Upserts and, now and then, deletes, a compaction, a repair; says before and after what it writes."""
    random, start = np.random.default_rng(0), time.monotonic()
    watch = Watch(lambda _: time.monotonic() > start + WARM * (until - start))
    with Index.open(path, timeout=10) as index:
        while time.monotonic() < until:
            keys = random.choice(KEYS, int(random.integers(1, 20)), replace=False).tolist()
            for key in keys:
                begun[key] += 1
            documents = [document(key, begun[key]) for key in keys]
            vectors = np.stack([vector(key, begun[key]) for key in keys])
            watch.check(index.upsert_vectors(documents, vectors) == len(keys), "upsert")
            for key in keys:
                acked[key] = begun[key]
            if random.random() < 0.01:
                index.compact()
            if random.random() < 0.002:
                watch.check(index.repair().whole, "repair")
            time.sleep(0.002)
    return watch.result()


def read(
    path: Path, until: float, begun: "SynchronizedArray[int]", acked: "SynchronizedArray[int]", seed: int
) -> dict[str, Any]:
    """Searches whose answers lie between what was acknowledged before and what was begun after."""
    random, start = np.random.default_rng(seed), time.monotonic()
    watch = Watch(lambda _: time.monotonic() > start + WARM * (until - start))
    with Index.open(path, read_only=True) as index:
        while time.monotonic() < until:
            key, kind = int(random.integers(KEYS)), random.random()
            least = acked[key]
            if kind < 0.6:
                hits = index.search(vector=vector(key, least), k=3, where={"key": key} if kind < 0.1 else None)
                most = begun[key]
                found = [hit for hit in hits if hit.key == f"k{key}"]
                # one that was replaced meanwhile may be far from the vector of the version before
                right = all(fits(hit, key, least, most) for hit in found) and (bool(found) or most > least)
                if most == least:
                    right = right and hits[0].key == f"k{key}"
                right = right and all(fits(hit, hit.metadata["key"], 1, begun[hit.metadata["key"]]) for hit in hits)
                watch.check(right, f"vector of {key}, {least} to {most}: {hits}")
            elif kind < 0.8:
                hits = index.search(f"word{key}", mode="text")
                watch.check(
                    len(hits) == 1 and fits(hits[0], key, least, begun[key]), f"words of {key} from {least}: {hits}"
                )
            else:
                document = index.get(f"k{key}")
                right = document is not None and fits(document, key, least, begun[key])
                watch.check(right, f"get {key} from {least}: {document}")
    return watch.result()


def run_processes(folder: Path, seconds: float) -> dict[str, Any]:
    """One writer and READERS readers, for some seconds."""
    path = folder / "processes.db"
    with Index.create(path, space="soak", dim=DIM) as index:
        index.add_vectors([document(key, 1) for key in range(KEYS)], np.stack([vector(k, 1) for k in range(KEYS)]))
    context = multiprocessing.get_context("spawn")
    begun, acked = context.Array("l", [1] * KEYS), context.Array("l", [1] * KEYS)
    results: Any = context.Queue()
    until = time.monotonic() + seconds
    jobs: list[tuple[str, Callable[..., dict[str, Any]], tuple[Any, ...]]] = [
        ("writer", write, (path, until, begun, acked)),
        *((f"reader {i}", read, (path, until, begun, acked, i)) for i in range(READERS)),
    ]
    processes = [context.Process(target=_report, args=(results, *job)) for job in jobs]
    for process in processes:
        process.start()
    found = dict(results.get(timeout=seconds + 120) for _ in processes)
    for process in processes:
        process.join()
    report = Index.open(path).verify()
    return {**{name: found[name] for name, _, _ in jobs}, "whole": report.whole}


def _report(results: Any, name: str, job: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]) -> None:
    try:
        results.put((name, job(*arguments)))
    except BaseException as error:  # noqa: BLE001 - told by the parent process
        results.put((name, {"requests": 0, "wrong": [repr(error)], "rss_drift_mb": None}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="of the writer and the readers")
    parser.add_argument("--requests", type=int, default=10_000, help="of each thread")
    parser.add_argument("--life", type=int, help="only the long life of one process, of so many requests")
    parser.add_argument("--million", dest="life", action="store_const", const=1_000_000, help="--life 1000000")
    parser.add_argument("--bundle", help="of the long life; the default bundle where not said")
    options = parser.parse_args()
    if options.life:
        with tempfile.TemporaryDirectory() as folder:
            life = run_life(Path(folder), options.life, options.bundle)
        sys.stdout.write(f"life: {json.dumps(life)}\n")
        grown = life["rss_drift_mb"] > MAX_DRIFT_MB or life["more_threads"] > 0 or life["more_handles"] > 0
        return int(bool(life["wrong"]) or grown)
    with tempfile.TemporaryDirectory() as folder:
        threads = run_threads(Path(folder), options.requests)
        sys.stdout.write(f"{THREADS} threads: {json.dumps(threads)}\n")
        sys.stdout.flush()
        processes = run_processes(Path(folder), 60 * options.minutes)
        sys.stdout.write("".join(f"{name}: {json.dumps(result)}\n" for name, result in processes.items()))
    parts = [threads, *(part for part in processes.values() if isinstance(part, dict))]
    return int(any(part["wrong"] for part in parts) or not processes["whole"])


if __name__ == "__main__":
    sys.exit(main())
