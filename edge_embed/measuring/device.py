"""`edge-embed bench` as one dict: how fast one bundle is on this device, and what it takes.

Every process measures one thing and ends; the processes take turns, `repeat` times, so that what else the device does
touches all figures alike. Not measured: quality (`edge-embed eval`), the time to read files that are in no cache,
storage after a power cut, other runtimes (`python -m bench.encode` of the source tree).
"""

import statistics
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edge_embed.embedder import bundle_path
from edge_embed.measuring.children import ask
from edge_embed.measuring.speed import PASSAGE_TOKENS, QUERY_TOKENS, fitting
from edge_embed.measuring.versions import when_and_where
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.errors import EdgeEmbedError
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.vectors.kinds import DENSE

# Goes up when a name below goes or changes its meaning; a new name leaves it as it is.
SCHEMA = 1
# The figures by name: the end of each is its unit (_mb: 1,000,000 bytes). A figure that was not measured is null.
FIGURES = {
    "start_s": "process start to first vector",
    "start_cpu_s": "the same, CPU seconds of all threads",
    "start_peak_rss_mb": "peak memory of a process that has embedded one text",
    "query_p50_ms": "one short text embedded, median",
    "query_p99_ms": "99 of 100 take less",
    "query_cpu_ms": "the same, CPU time, mean",
    "query_peak_rss_mb": "peak memory of a process that embeds short texts one by one",
    "texts_per_s": "short texts, many in a call",
    "texts_per_cpu_s": "the same by CPU second",
    "passages_per_s": "passages, many in a call",
    "passages_per_cpu_s": "the same by CPU second",
    "batch_peak_rss_mb": "peak memory of a process that embeds many in a call",
    "build_s": "storing the documents with vectors that are there",
    "index_mb": "the index on disk",
    "search_p50_ms": "a question embedded and searched by meaning and words, median",
    "search_p99_ms": "99 of 100 take less",
    "search_cpu_ms": "the same, CPU time, mean",
    "search_peak_rss_mb": "peak memory of a process that searches so",
    "vector_search_p50_ms": "the index alone: a search by a vector, median",
    "vector_search_p99_ms": "99 of 100 take less",
}
MODULE = "edge_embed.measuring.jobs"
# A process that takes longer hangs.
LIMIT_SECONDS = 3600.0


@dataclass(frozen=True)
class Settings:
    """threads, max_rss_mb, engine: as Embedder takes them; repeat: processes for each figure; seconds: of each
    measurement; documents: in the index that is searched, 0 for no search."""

    threads: int | None = None
    max_rss_mb: float | None = None
    repeat: int = 3
    seconds: float = 1.0
    documents: int = 10_000
    engine: str | None = None


def measure_device(bundle: str | None, settings: Settings, *, show_progress: bool = False) -> dict[str, Any]:
    """Measure a bundle, a folder or an embedded one, on this device.

    Raises BundleError for a bundle that cannot be used, and EdgeEmbedError for what a process could not measure.
    """
    loaded = read_bundle(bundle_path(bundle))
    manifest = loaded.manifest
    jobs = ["start", "query", "batch"]
    jobs += ["search"] if settings.documents and manifest.output is DENSE else []
    answers: dict[str, list[dict[str, Any]]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        progress_bar(settings.repeat * len(jobs) + ("search" in jobs), show_progress, "measuring") as advance,
    ):
        job = {**asdict(settings), "bundle": str(loaded.path), "folder": folder}
        for name in [*["build"] * ("search" in jobs), *jobs * settings.repeat]:
            answers.setdefault(name, []).append(_run({**job, "do": name}))
            advance(1)
    first = answers["start"][0]
    return {
        "schema": SCHEMA,
        **when_and_where("device", ["usearch"]),
        "model": {
            "bundle": manifest.name,
            "fingerprint": manifest.fingerprint,
            "kind": manifest.kind,
            "dim": manifest.dim,
            "size_mb": sum(record.size for record in manifest.files.values()) / 1e6,
            "exact": first["exact"],
            "engine": first["engine"],
        },
        "settings": {
            **asdict(settings),
            "threads": first["threads"],
            "query_tokens": fitting(QUERY_TOKENS, manifest.max_tokens),
            "passage_tokens": fitting(PASSAGE_TOKENS, manifest.max_tokens),
        },
        "figures": {**dict.fromkeys(FIGURES), **figures(answers)},
    }


def _run(job: dict[str, Any]) -> dict[str, Any]:
    """The answer of one process, and seconds from its start to its first vector where it tells of one."""
    ready: list[float] = []

    def hear(message: dict[str, Any]) -> None:
        if "ready" in message:
            ready.append(time.perf_counter() - began)

    began = time.perf_counter()
    found, problem = ask(MODULE, job, LIMIT_SECONDS, hear)
    if found is None:
        raise EdgeEmbedError(f"{job['do']}: {problem or 'its process said nothing'}")
    return {**found, "ready": ready[0] if ready else None}


def figures(answers: dict[str, list[dict[str, Any]]]) -> dict[str, float | None]:
    """FIGURES of the answers of each job; times of all processes of a job count as one list."""
    starts, batches = answers["start"], answers["batch"]
    found = {
        "start_s": statistics.median(each["ready"] for each in starts),
        "start_cpu_s": statistics.median(each["cpu"] for each in starts),
        "start_peak_rss_mb": _peak(starts),
        **_latency("query", [each["query"] for each in answers["query"]], cpu=True),
        "query_peak_rss_mb": _peak(answers["query"]),
        **_rates("texts", [each["texts"] for each in batches]),
        **_rates("passages", [each["passages"] for each in batches]),
        "batch_peak_rss_mb": _peak(batches),
    }
    if "search" in answers:
        searches, (built,) = answers["search"], answers["build"]
        found |= {
            "build_s": built["seconds"],
            "index_mb": built["bytes"] / 1e6,
            **_latency("search", [each["search"] for each in searches], cpu=True),
            "search_peak_rss_mb": _peak(searches),
            **_latency("vector_search", [each["index"] for each in searches]),
        }
    return found


def _latency(name: str, measured: list[dict[str, Any]], *, cpu: bool = False) -> dict[str, float]:
    times = [seconds for each in measured for seconds in each["seconds"]]
    p50, p99 = np.percentile(times, [50, 99]) * 1e3
    found = {f"{name}_p50_ms": float(p50), f"{name}_p99_ms": float(p99)}
    if cpu:
        found[f"{name}_cpu_ms"] = 1e3 * sum(each["cpu"] for each in measured) / len(times)
    return found


def _rates(name: str, measured: list[dict[str, Any]]) -> dict[str, float]:
    wall = [each["texts"] / sum(each["seconds"]) for each in measured]
    cpu = [each["texts"] / each["cpu"] for each in measured]
    return {f"{name}_per_s": statistics.median(wall), f"{name}_per_cpu_s": statistics.median(cpu)}


def _peak(measured: Iterable[dict[str, Any]]) -> float | None:
    """MB, or None where the system does not tell."""
    peaks = [each["peak"] for each in measured]
    return None if None in peaks else statistics.median(peaks) / 1e6
