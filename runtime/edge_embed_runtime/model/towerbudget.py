"""A memory budget for a tower: what it takes at most, reading inputs included (see budget.py for models of texts)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from edge_embed_runtime.bundle.towers import Tower
from edge_embed_runtime.model.budget import (
    ARENA_BYTES,
    ARENA_SLACK,
    CODE_BYTES,
    GRAPH_BYTES,
    INTERMEDIATE_RATIO,
    SHARED_ARENA_SLACK,
    SMALLER,
    Prediction,
    Profile,
    not_kept,
)
from edge_embed_runtime.system.memory import rss_bytes

if TYPE_CHECKING:
    from edge_embed_runtime.inputs.base import FrontEnd
    from edge_embed_runtime.onnxfile.mapped import Weight

# Numbers that a picture's tower reads and writes at the least, in bytes: where a manifest says nothing of its shape.
LEAST_ACTIVATIONS = 16_000_000


class Asked(NamedTuple):
    """What is asked of a tower.

    limit:   bytes of the process
    name:    the bundle's
    peak:    bytes that the process is predicted to take with the models that it has already
    threads: cores to use at most
    exact:   see `session.make_session`
    """

    limit: int
    name: str
    peak: int
    threads: int
    exact: bool


@dataclass(frozen=True)
class Share:
    """How a tower runs under a limit.

    threads:   inputs side by side
    reading:   bytes that reading one input may take
    prepacked: see `budget.Profile`
    total:     bytes of the process at its peak
    """

    threads: int
    reading: int
    prepacked: bool
    total: int


def activation_bytes(shape: Mapping[str, Any]) -> int:
    """Of one input: what the exporter measured, else what a transformer of this shape takes."""
    measured = int(shape.get("activation_bytes") or 0)
    tokens, hidden = int(shape.get("tokens") or 0), int(shape.get("hidden") or 0)
    intermediate = int(shape.get("intermediate") or INTERMEDIATE_RATIO * hidden)
    heads = int(shape.get("heads") or 1)
    attention = 4 * tokens * (4 * hidden + 2 * heads * tokens)
    feed_forward = tokens * (4 * (hidden + 3 * intermediate) + intermediate)
    return max(measured, attention, feed_forward, 0 if measured or tokens else LEAST_ACTIVATIONS)


def _growth(tower: Tower) -> int:
    """How many times their size in the file weights have in memory: int8 ones that are computed with in float32."""
    said = tower.quantization
    return 4 if said.get("activations") == "float32" and str(said.get("weights")).startswith("int8") else 1


def predict(asked: Asked, tower: Tower, weights: "list[Weight]", profile: Profile, reading: int) -> Prediction:
    """The peak of a process that loads a tower now, and reads inputs of so many bytes with each thread."""
    matrices = sum(weight.bytes for weight in weights if len(weight.dims) > 1) * _growth(tower)
    rest = sum(weight.bytes for weight in weights if len(weight.dims) < 2)
    slack = ARENA_SLACK if profile.threads == 1 else SHARED_ARENA_SLACK
    start = {"process": max(rss_bytes() or 0, asked.peak), "onnxruntime": CODE_BYTES + GRAPH_BYTES}
    loading = start | {"weights": matrices * (1 + profile.prepacked + asked.exact) + rest}
    running = start | {
        "weights": matrices + rest,
        "activations": int(slack * profile.threads * activation_bytes(tower.architecture)) + ARENA_BYTES,
        "reading inputs": profile.threads * reading,
    }
    return max(Prediction(profile, loading), Prediction(profile, running), key=lambda found: found.total)


def profiles(threads: int, *, exact: bool) -> Iterator[Profile]:
    """The fastest first."""
    for count in range(threads, 0, -1):
        yield Profile(count, 1)
    if not exact:
        yield Profile(1, 1, prepacked=False)


def choose_share(asked: Asked, tower: Tower, weights: "list[Weight]", front: "FrontEnd") -> Share:
    """As many threads as keep a limit of bytes while each reads a usual input; half of what is left is for reading
    larger ones, the other half for indexes.

    Raises MemoryBudgetError, with the least that is enough.
    """
    for profile in profiles(asked.threads, exact=asked.exact):
        found = predict(asked, tower, weights, profile, front.usual_bytes)
        if found.total <= asked.limit:
            more = (asked.limit - found.total) // 2
            reading = front.usual_bytes + more // profile.threads
            return Share(profile.threads, reading, profile.prepacked, found.total + more)
    raise not_kept(asked.limit, asked.name, found, SMALLER)
