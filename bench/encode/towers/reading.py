"""What it costs to read a picture (decode, resize, arithmetic), beside what the model costs."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bench.encode.measure import cosines
from bench.encode.towers import inputs
from bench.encode.towers.candidates import Job, Ours, front_of


def read_costs(job: Job, rounds: int) -> dict[str, Any]:
    """CPU milliseconds for a JPEG of 640 x 480 and one of 4000 x 3000: read in full, read scaled, the model alone.

    cosine_scaled: of the vectors of pictures read scaled to those of the same pictures read in full
    """
    from edge_embed_runtime.inputs.image import ImageFront

    full: ImageFront = front_of(job)
    scaled = replace(full, decode="scaled")
    small, large = (inputs.jpeg(inputs.picture(*size, seed=1)) for size in ((480, 640), inputs.LARGE))
    ours = Ours(job)
    ready = full.pixels(small)
    actions: dict[str, Callable[[], Any]] = {
        "small_full": lambda: next(full.feeds(small)),
        "large_full": lambda: next(full.feeds(large)),
        "large_scaled": lambda: next(scaled.feeds(large)),
        "model": lambda: ours.encode([ready]),
    }
    for action in actions.values():
        action()
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            before = time.process_time()
            action()
            seconds[name].append(time.process_time() - before)
    found = {f"{name}_ms": 1e3 * statistics.median(values) for name, values in seconds.items()}
    files = [large, *(inputs.jpeg(inputs.picture(1500, 2000, seed)) for seed in range(2, 6))]
    vectors = [ours.encode([front.pixels(file) for file in files]) for front in (full, scaled)]
    each = cosines(*vectors)
    return {
        **found,
        "large_bytes": len(large),
        "cosine_scaled_mean": float(each.mean()),
        "cosine_scaled_min": float(each.min()),
    }
