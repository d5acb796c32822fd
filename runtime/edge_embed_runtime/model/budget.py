"""A memory budget for the whole process: what a model will take at most, predicted before it is loaded.

The resident set of a process that embeds is what it was before, and

- code of onnxruntime that runs first then,
- weights: tables of the model's file, which is mapped, so that each page is there once it was touched; and matrices,
  which kernels keep in an order of their own (prepacked). While loading, matrices are there two or three times,
- activations of the largest batch on each thread,
- what Python needs to cut texts into tokens.

What a limit leaves besides that is for indexes: see system/headroom.py. Texts that a program holds, and the vectors
it gets, are its own.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_embed_runtime.errors import MemoryBudgetError
from edge_embed_runtime.system.memory import MB, rss_bytes

if TYPE_CHECKING:  # a table has none, and is smaller without what reads them
    from edge_embed_runtime.onnxfile.mapped import Weight

# Measured on x86-64 and AArch64 under emulation, and rounded up.
CODE_BYTES = 14 * MB
GRAPH_BYTES = 4 * MB  # nodes and kernels of a model of a few hundred nodes
WINDOW_BYTES = 3 * MB
STATIC_BYTES = 34 * MB  # of a window of the longest texts, and words whose tokens are remembered
# onnxruntime's arena grows in powers of two, and its chunks do not fit each other exactly; less so where several
# threads take from it at a time.
ARENA_SLACK, SHARED_ARENA_SLACK = 1.4, 2.1
ARENA_BYTES = 1 * MB
# Columns of a sparse model's vocabulary that are there for all tokens of a batch at a time; and numbers [texts,
# vocabulary] of a batch: 68 texts of BERT's vocabulary, 8 of a multilingual one.
DECODED_COLUMNS = 4096
DECODED_NUMBERS = 2**21
# Of attention in blocks: tokens of a text up to which its heads are computed together (the exporter's blockwise.APART).
APART_TOKENS = 1024
# Parts of a model that says nothing of its shape: as MiniLM's, in ratio to the numbers of a vector.
INTERMEDIATE_RATIO, HEAD_SIZE = 4, 32


@dataclass(frozen=True)
class Profile:
    """How a model runs: the first that keeps a budget is taken.

    prepacked: matrices are kept in the order that kernels like, besides in the file that processes share: a third
               faster
    """

    threads: int
    batch_tokens: int
    prepacked: bool = True


# Where a smaller bundle would help.
SMALLER = ". Give that much, or a smaller bundle"


@dataclass(frozen=True)
class Prediction:
    """Bytes that a process has at its peak, by what they are for, under a profile."""

    profile: Profile
    parts: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / MB:.0f}" for name, size in self.parts.items())
        return f"{math.ceil(self.total / MB)} MB ({parts})"


def predict(
    weights: "list[Weight]", shape: Mapping[str, Any], max_tokens: int, exact: bool, profile: Profile
) -> Prediction:
    """The peak of a process that loads a model now and embeds anything with it.

    weights: of the model's file
    shape:   the manifest's `architecture`
    exact:   see `session.make_session`: the weights are then copied twice, and one copy stays
    """
    table = int(shape.get("vocab") or 0)
    # tables are looked up in; what is multiplied by is prepacked, and its part of the file is freed
    matrices = sum(weight.bytes for weight in weights if len(weight.dims) > 1 and weight.dims[0] != table)
    tables = sum(weight.bytes for weight in weights) - matrices
    if shape.get("decoded"):  # what words are looked up in is also multiplied by, in an order of its own
        matrices += max((w.bytes for w in weights if len(w.dims) > 1 and w.dims[0] == table), default=0)
    tokens = max(profile.batch_tokens // profile.threads, max_tokens)
    start = {"process": rss_bytes() or 0, "onnxruntime": CODE_BYTES + GRAPH_BYTES}
    loading = start | {"weights": matrices * (1 + profile.prepacked + exact)}
    running = start | {
        "weights": matrices + tables,
        "activations": activation_bytes(tokens, max_tokens, profile.threads, shape),
        "texts and tokens": WINDOW_BYTES,
    }
    if shape.get("decoded"):
        running["vocabulary"] = 4 * profile.threads * (2 * tokens * DECODED_COLUMNS + 3 * DECODED_NUMBERS)
    return max(Prediction(profile, loading), Prediction(profile, running), key=lambda found: found.total)


def activation_bytes(tokens: int, longest: int, threads: int, shape: Mapping[str, Any]) -> int:
    """Of a batch of so many padded tokens on each thread, the longest text having `longest`."""
    hidden = int(shape.get("hidden") or shape.get("dim") or 0)
    intermediate = int(shape.get("intermediate") or INTERMEDIATE_RATIO * hidden)
    heads = int(shape.get("heads") or max(1, hidden // HEAD_SIZE))
    block, width = int(shape.get("block") or 0), int(shape.get("width") or hidden)
    attention = 4 * (4 * hidden + 2 * heads * longest)  # input, queries, keys and values; scores before and after
    shared = 0
    if block:  # of texts of many tokens, scores of a block of queries, and of longer ones those of one head
        attention = 4 * (2 * hidden + 6 * width)
        scores = max(heads * (APART_TOKENS + block), longest)
        shared = 4 * block * (3 * scores + 2 * int(shape.get("block_tables") or 0) * longest)
    feed_forward = 4 * (hidden + 3 * intermediate) + intermediate  # gate, before and after activation, and as uint8
    slack = ARENA_SLACK if threads == 1 else SHARED_ARENA_SLACK
    return int(slack * threads * (tokens * max(attention, feed_forward) + shared)) + ARENA_BYTES


def profiles(threads: int, batch_tokens: int, max_tokens: int, exact: bool) -> Iterator[Profile]:
    """The fastest first."""
    for count in range(threads, 0, -1):
        yield Profile(count, batch_tokens)
        if batch_tokens // count > max_tokens:
            yield Profile(count, max_tokens * count)
    if not exact:  # the other form of the weights is a copy in any case
        yield Profile(1, min(max_tokens, batch_tokens), prepacked=False)


def choose_profile(
    limit: int, weights: "list[Weight]", manifest: Any, exact: bool, threads: int, batch_tokens: int
) -> Prediction:
    """The fastest profile that keeps a limit of bytes. Raises MemoryBudgetError, with the least that is enough."""
    shape, longest = manifest.architecture, manifest.max_tokens
    for profile in profiles(threads, batch_tokens, longest, exact):
        prediction = predict(weights, shape, longest, exact, profile)
        if prediction.total <= limit:
            return prediction
    raise not_kept(limit, manifest.name, prediction, SMALLER)


def check_static(limit: int | None, name: str, table_bytes: int) -> int:
    """The peak of a process that loads a static bundle now, or 0 without a limit. Raises MemoryBudgetError."""
    if limit is None:
        return 0
    parts = {"process": rss_bytes() or 0, "table": table_bytes, "words, texts and sums": STATIC_BYTES}
    prediction = Prediction(Profile(1, 0), parts)
    if prediction.total > limit:
        raise not_kept(limit, name, prediction)
    return prediction.total


def not_kept(limit: int, name: str, least: Prediction, advice: str = "") -> MemoryBudgetError:
    """What to say of a limit of bytes that a bundle cannot keep. least: the prediction that takes least"""
    return MemoryBudgetError(
        f"max_rss_mb={limit / MB:g} cannot be kept with the bundle {name!r}: the least is {least}{advice}",
        needed_mb=math.ceil(least.total / MB),
        limit_mb=limit / MB,
    )
