"""From the start of a process to its first vector: CPU and wall milliseconds, and the peak of its memory.

    python -m bench.start [--bundle NAME] [--rounds 21] [--peer PYTHON FOLDER] [--cold]

Whole processes in turn, the lower half of the rounds counts (medians of it), so that what else runs counts little:
bare Python, `import numpy`, the bundle in each engine that can run it, and fastembed, where --peer gives a Python that
has it and a folder with model.onnx in float32 and its tokenizer (`bench.encode` writes one). --cold: without what an
earlier start left in the cache folder.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bench.common import child_variables
from edge_embed.embedder import bundle_path
from edge_embed_runtime.bundle.bundle import open_bundle
from edge_embed_runtime.bundle.manifest import NATIVE, ONNXRUNTIME

TEXT = "how do I renew my passport before travelling to another country"
OURS = f"import sys; from edge_embed import Embedder; Embedder(sys.argv[1], engine=sys.argv[2]).encode([{TEXT!r}])"
PEER = f"""
import sys
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType
TextEmbedding.add_custom_model(model="edge-embed/bench", pooling=PoolingType.MEAN, normalization=True,
    sources=ModelSource(hf="edge-embed/bench"), dim=384, model_file="model.onnx")
model = TextEmbedding("edge-embed/bench", threads=1, specific_model_path=sys.argv[1], local_files_only=True,
    providers=["CPUExecutionProvider"])
list(model.embed([{TEXT!r}]))
"""


class Run(NamedTuple):
    """One process: milliseconds, and MB of 1,000,000 bytes."""

    cpu: float
    wall: float
    peak: float


def run(arguments: list[str], variables: dict[str, str]) -> Run:
    start = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=variables)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    error = process.stderr.read().decode(errors="replace") if process.stderr else ""
    if process.returncode:
        raise SystemExit(f"{arguments[:2]} failed: {error[-500:]}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    return Run((usage.ru_utime + usage.ru_stime) * 1000, wall * 1000, peak)


def programs(bundle: str, peer: list[str] | None) -> dict[str, list[str]]:
    found = {"python": [sys.executable, "-c", "pass"], "import numpy": [sys.executable, "-c", "import numpy"]}
    native = open_bundle(bundle_path(bundle)).manifest.native is not None
    for engine in (ONNXRUNTIME, NATIVE) if native else (ONNXRUNTIME,):
        found[f"edge_embed, {engine}"] = [sys.executable, "-c", OURS, str(bundle_path(bundle)), engine]
    if peer is not None:
        found["fastembed"] = [peer[0], "-c", PEER, peer[1]]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="minilm")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--peer", nargs=2, metavar=("PYTHON", "FOLDER"))
    parser.add_argument("--cold", action="store_true")
    options = parser.parse_args()
    found = programs(options.bundle, options.peer)
    runs: dict[str, list[Run]] = {name: [] for name in found}
    with tempfile.TemporaryDirectory() as cache:
        variables = {**os.environ, **child_variables(1), "XDG_CACHE_HOME": cache}
        variables.pop("PYTHONDONTWRITEBYTECODE", None)
        for program in found.values():
            run(program, variables)  # compiles, fills the page cache, and leaves a stamp
        for _ in range(options.rounds):
            for name, program in found.items():
                if options.cold:
                    for path in Path(cache).rglob("*.json"):
                        path.unlink()
                runs[name].append(run(program, variables))
    peer = _lower(runs["fastembed"]) if options.peer else None
    for name, each in runs.items():
        of = _lower(each)
        part = f"  {of.cpu / peer.cpu:5.2f} of fastembed's CPU, {of.wall / peer.wall:5.2f} of its wall" if peer else ""
        print(f"{name:24}{of.cpu:7.0f} ms CPU {of.wall:7.0f} ms wall {of.peak:7.1f} MB peak{part}")


def _lower(runs: list[Run]) -> Run:
    """Medians of the lower half of each figure."""
    return Run(*(statistics.median(sorted(values)[: len(runs) // 2 + 1]) for values in zip(*runs, strict=True)))


if __name__ == "__main__":
    main()
