"""What a child process does: python -m bench.encode.towers.worker JOB.json; one JSON object per line on stdout."""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import describe, private_bytes
from bench.encode.measure import cosines
from bench.encode.towers import inputs, models
from bench.encode.towers.candidates import CANDIDATES, Job, Loaded
from bench.encode.towers.reading import read_costs
from edge_embed.measuring.children import Say, answering
from edge_embed_runtime.system.memory import peak_rss_bytes
from edge_embed_runtime.system.process import seconds_since_start

MEMORY_INPUTS = 8
SETTLE_SECONDS = 0.05


def checkpoint(job: Job, said: dict[str, Any], _: Say) -> None:
    """Random weights of the real layout."""
    folder = Path(said["folder"])
    partial = folder.with_name(f"{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    models.write_random(job.modality, partial)
    partial.rename(folder)


def bundle(job: Job, said: dict[str, Any], _: Say) -> None:
    """Our bundle of the checkpoint, in int8."""
    from edge_embed_export import export_model
    from edge_embed_export.options import TowerOptions

    export_model(Path(job.checkpoint), Path(said["folder"]), towers=TowerOptions(only=(job.modality,)))


def prepare(job: Job, said: dict[str, Any], _: Say) -> None:
    """A candidate's file."""
    target = Path(said["file"])
    partial = target.with_suffix(".partial.onnx")
    make = CANDIDATES[said["candidate"]].make
    if make is not None:
        make(job, partial)
        partial.rename(target)


def memory(job: Job, said: dict[str, Any], say: Say) -> None:
    """Memory of one candidate that has loaded and encoded a few files, with all that it imports."""
    given = said["files"] or inputs.inputs(job.modality, MEMORY_INPUTS)  # drawing pictures takes memory too
    loaded = CANDIDATES[said["candidate"]].load(job)
    for one in given:
        loaded.encode([one])
    found = {"peak_rss_bytes": peak_rss_bytes(), "private_bytes": private_bytes(), "seconds": seconds_since_start()}
    say(found)


def timing(job: Job, said: dict[str, Any], say: Say) -> None:
    """All candidates in this process, interleaved; CPU seconds of the process for the same inputs."""
    given = inputs.inputs(job.modality, said["count"])
    loaded: dict[str, Loaded] = {}
    vectors: dict[str, Any] = {}
    for name in said["candidates"]:
        say({"candidate": name})
        try:
            loaded[name] = CANDIDATES[name].load(job)
            vectors[name] = loaded[name].encode(given)
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is its result
            say({"lost": name, "reason": describe(error)})
            loaded.pop(name, None)
        say({"step": 1})
    reference = vectors.get(said["reference"])
    if reference is not None:
        for name, found in vectors.items():
            each = cosines(found, reference)
            say({"cosines": name, "mean": float(each.mean()), "min": float(each.min())})
    names = list(loaded)
    for batch in said["batches"]:
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        for turn in range(said["rounds"]):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                say({"candidate": name})
                seconds[name].append(_timed(loaded[name], given, batch))
                say({"step": 1})
        for name in names:
            cpu, wall = (statistics.median(values) for values in zip(*seconds[name], strict=True))
            rates = {"per_cpu_second": len(given) / cpu, "ms": 1e3 * wall / len(given), "cores": cpu / wall}
            say({"figures": name, "batch": batch, **rates})


def _timed(loaded: Loaded, given: list[Any], batch: int) -> tuple[float, float]:
    """CPU seconds of all threads, and wall seconds."""
    calls = [given[at : at + batch] for at in range(0, len(given), batch)]
    time.sleep(SETTLE_SECONDS)
    cpu, wall = time.process_time(), time.perf_counter()
    for call in calls:
        loaded.encode(call)
    return time.process_time() - cpu, time.perf_counter() - wall


def reading(job: Job, said: dict[str, Any], say: Say) -> None:
    """What reading a picture costs, beside the model."""
    say({"reading": read_costs(job, said["rounds"])})


def masked(_: Job, __: dict[str, Any], say: Say) -> None:
    """Whether onnxruntime's products saturate, which they do on AVX2 and not with VNNI."""
    from edge_embed_runtime.model.session import products_saturate

    say({"saturate": products_saturate()})


JOBS: dict[str, Callable[[Job, dict[str, Any], Say], None]] = {
    "checkpoint": checkpoint,
    "bundle": bundle,
    "prepare": prepare,
    "memory": memory,
    "timing": timing,
    "reading": reading,
    "masked": masked,
}


def main() -> None:
    with answering() as say:
        said = json.loads(Path(sys.argv[1]).read_text("utf-8"))
        try:
            JOBS[said["kind"]](Job(**said["job"]), said, say)
        except Exception as error:  # noqa: BLE001 - the parent reports it
            say({"failed": describe(error)})


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
