"""`python -m edge_embed.doctor.measure JOB`: measures, in a process of its own that native code may crash.

JOB is JSON, {"bundle": folder, "threads": [1, 2]} or {"scan": dim}. Every line written is JSON: {"stage": what
begins}, {"done": part of the job}, {"failed": why}, or {"result": ...} at the end.
"""

import gc
import json
import platform
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from edge_embed_runtime.errors import EdgeEmbedError, GoldenError, InputError
from edge_embed_runtime.extras import is_installed, require_onnxruntime
from edge_embed_runtime.system.memory import peak_rss_bytes

if TYPE_CHECKING:
    from edge_embed_runtime.bundle.bundle import Bundle
    from edge_embed_runtime.bundle.manifest import Manifest

QUERIES = 50
QUERY_SECONDS = 1.0
# Texts a thread gets in a pass, fewer where a pass would take longer; passes that the median is of.
PASS_TEXTS = 32
PASS_SECONDS = 0.5
PASSES = 3
# More threads than the best number are only worth it when they give so much more: they cost power.
WORTH = 1.05
# Enough codes that the scan leaves half of their bits unread, as it does at a million.
SCAN_CODES = 200_000
SCAN_POOL = 1000
SCANS = 15
X86 = ("x86_64", "amd64", "i386", "i686", "x86")


def say(**message: Any) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def measure_bundle(path: str | None, threads: list[int]) -> dict[str, Any]:
    """Golden check, milliseconds per query and texts per second of each form of a bundle that may run here.

    path: a folder or the name of an embedded bundle; None means the default, or where that cannot run "static"

    The first form is the one that an Embedder takes unless it is wrong; `choice`: which one, on how many threads.
    """
    say(stage="reading the bundle")
    from edge_embed.embedder import bundle_path
    from edge_embed_runtime.bundle.bundle import read_bundle
    from edge_embed_runtime.bundle.manifest import NATIVE
    from edge_embed_runtime.native.library import native as library
    from edge_embed_runtime.native.library import reason

    loaded = read_bundle(bundle_path(path))
    if path is None and not is_installed("onnxruntime") and (loaded.manifest.engine != NATIVE or library() is None):
        loaded = read_bundle(bundle_path("static"))
    manifest = loaded.manifest
    if not manifest.has_text:
        raise InputError(
            f"bundle {loaded.path} has no model for texts, which are measured here; edge-embed info checks its others",
            path=loaded.path,
        )
    native = manifest.engine == NATIVE and library() is not None
    if not (manifest.is_static or native):
        say(stage="importing onnxruntime")
        require_onnxruntime(f"bundle {loaded.path}")
    saturate = not (manifest.is_static or native or manifest.never_saturates) and _saturates()
    chosen = [("native", False)] if native else _forms(manifest, saturate)
    forms, peak = [], None
    for name, exact in chosen:
        say(stage=f"running the {name} form")
        options = {} if native or manifest.is_static else {"exact": exact}
        forms.append({"form": name, "exact": exact, **_measure_form(loaded, options, threads, len(chosen))})
        gc.collect()
        memory = forms[-1].pop("peak_rss", None)
        peak = peak or memory  # a second form comes on top of the first
    right = [form for form in forms if form["problem"] is None]
    best = right[0] if right else None
    return {
        "path": str(loaded.path),
        "name": manifest.name,
        "fingerprint": manifest.fingerprint,
        "bytes": sum(record.size for record in manifest.files.values()),
        "golden_texts": len(manifest.golden),
        "saturates": saturate,
        "engine_reason": "" if native or manifest.engine != NATIVE else reason(),
        "peak_rss": peak,
        "dim": manifest.dim,
        "kind": manifest.kind,
        "forms": forms,
        "choice": best and {"form": best["form"], "exact": best["exact"], "threads": fewest(best["texts_per_second"])},
    }


def _forms(manifest: "Manifest", saturate: bool) -> list[tuple[str, bool]]:
    """Names of the forms that onnxruntime may run, or of the only one, and whether each is the exact one."""
    if manifest.is_static or str(manifest.quantization.get("weights", "")).startswith("float"):
        return [("static" if manifest.is_static else "float", saturate)]
    if manifest.never_saturates:
        return [("int8", False)]
    names = {False: "fast", True: "exact"}
    both = saturate or platform.machine().lower() in X86
    return [(names[exact], exact) for exact in ((saturate, not saturate) if both else (saturate,))]


def _saturates() -> bool:
    say(stage="multiplying int8 matrices")
    from edge_embed_runtime.model.session import products_saturate

    return products_saturate()


def fewest(texts_per_second: dict[str, float]) -> int:
    """The fewest threads that are nearly as fast as the fastest number: {"1": 99, "2": 190, "4": 195} -> 2."""
    return min(int(count) for count, rate in texts_per_second.items() if rate * WORTH >= max(texts_per_second.values()))


def _measure_form(bundle: "Bundle", options: dict[str, bool], threads: list[int], forms: int) -> dict[str, Any]:
    from edge_embed.embedder import load_any
    from edge_embed.measuring.speed import encoder, texts_for, timed

    measured: dict[str, Any] = {"golden_cosine": None, "problem": None, "ms_per_query": None, "texts_per_second": {}}
    began = time.perf_counter()
    try:
        embedder = load_any(bundle, threads=1, **options)
    except GoldenError as error:
        say(done=1 / forms)
        return {**measured, "problem": str(error)}
    measured |= {"load_ms": 1000 * (time.perf_counter() - began), "golden_cosine": embedder.golden_cosine}
    texts, encode = texts_for(embedder), encoder(embedder)
    queries = timed(lambda i: encode([texts[i % len(texts)]]), QUERY_SECONDS, 3, QUERIES)
    per_query = statistics.median(queries.seconds)
    measured |= {"ms_per_query": 1000 * per_query, "peak_rss": peak_rss_bytes()}
    say(done=0.25 / forms)
    many = max(2, min(PASS_TEXTS, int(PASS_SECONDS / per_query / max(threads)))) * max(threads)
    rows = [texts[i % len(texts)] for i in range(many)]
    seconds: dict[int, list[float]] = {count: [] for count in threads}
    for _ in range(PASSES):
        for count in threads:
            embedder.threads = count
            seconds[count] += timed(lambda _: encode(rows), 0, 1).seconds
            say(done=0.75 / forms / PASSES / len(threads))
    rates = {str(count): many / statistics.median(taken) for count, taken in seconds.items()}
    return {**measured, "texts_per_second": rates}


def measure_scan(dim: int) -> dict[str, Any]:
    """Milliseconds of comparing a query with binary codes, and from what number on `rebuild` tries a graph."""
    say(stage="scanning binary codes")
    import numpy as np

    from edge_embed.measuring.speed import timed
    from edge_embed_runtime.maintenance.rebuild import GRAPH_CODES
    from edge_embed_runtime.vectors.bits import BinaryCodes
    from edge_embed_runtime.vectors.whole import for_signs

    random = np.random.default_rng(0)
    vector = random.standard_normal(dim).astype(np.float32)
    found = {}
    for size in (SCAN_CODES // 2, SCAN_CODES):
        codes = BinaryCodes(dim, capacity=size)
        words = random.integers(0, 2**64, (size, -(-dim // 64)), np.uint64)
        codes.append(np.arange(size), words)

        def scan(i: int, codes: BinaryCodes = codes, words: Any = words) -> None:
            codes.estimate(codes.nearest(words[i], SCAN_POOL), for_signs(vector))

        found[size] = 1000 * statistics.median(timed(scan, 0, SCANS).seconds)
        say(done=0.5)
    return {
        "dim": dim,
        "ms_per_100k": found[SCAN_CODES // 2],
        "ms_per_million": found[SCAN_CODES] * 1_000_000 / SCAN_CODES,
        "graph_from": GRAPH_CODES,
    }


def main() -> None:
    job = json.loads(sys.argv[1])
    try:
        if "scan" in job:
            say(result=measure_scan(job["scan"]))
        else:
            say(result=measure_bundle(job["bundle"], job["threads"]))
    except EdgeEmbedError as error:
        say(failed=str(error))


if __name__ == "__main__":
    main()
