"""Texts of about one length in one run of a model."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.bundle.manifest import TYPES_INPUT
from edge_embed_runtime.inputs.tokenizer import TokenIds

# Padded tokens in one run of the model. More is slower, because activations then leave the L2 cache: for MiniLM-L6
# 2,048 tokens halve the speed of 256, and take 60 MB more.
BATCH_TOKENS = 512
# What one run of the model costs besides its tokens, in tokens (0.16 ms of 0.04 ms a token on x86, and some slack).
RUN_TOKENS = 8
# Threads share the budget of a batch, down to so many tokens each: fewer are slower.
LEAST_RUN_TOKENS = 128


def batches(lengths: Sequence[int], batch_tokens: int, *, padded: bool = True) -> Iterator[list[int]]:
    """Positions grouped by length so that texts x longest text <= batch_tokens (a batch has at least one text).

    The groups are those with the least work, counting padded tokens and RUN_TOKENS for each run of the model; without
    `padded`, texts of one length each.

    lengths=[3, 9, 4], batch_tokens=12 -> [1], [2, 0]
    """
    by_length: dict[int, list[int]] = {}
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        by_length.setdefault(lengths[position], []).append(position)
    distinct = list(by_length)
    counts = [len(by_length[length]) for length in distinct]
    # least[i]: the work for the texts from the i-th distinct length on; ends[i]: where the first of their groups ends
    least, ends = [0] * (len(distinct) + 1), [0] * len(distinct)
    for i in reversed(range(len(distinct))):
        longest, texts, works = distinct[i], 0, []
        for j in range(i, len(distinct)):
            if counts[j] * (longest - distinct[j]) > (RUN_TOKENS if padded else 0):
                break  # a run of their own costs less than this padding
            texts += counts[j]
            runs = -(-texts // max(1, batch_tokens // longest))
            works.append((texts * longest + runs * RUN_TOKENS + least[j + 1], j + 1))
        least[i], ends[i] = min(works)
    start = 0
    while start < len(distinct):
        group = [position for length in distinct[start : ends[start]] for position in by_length[length]]
        size = max(1, batch_tokens // distinct[start])
        yield from (group[i : i + size] for i in range(0, len(group), size))
        start = ends[start]


def pad_pairs(rows: Sequence[TokenIds], *, types: bool) -> dict[str, NDArray[np.int64]]:
    """`pad` of pairs of texts, each [tokens, 2] (see inputs/pairs.py). types: whether the model reads those too"""
    if not types:
        return pad([row[:, 0] for row in rows])
    feed = pad(rows)
    both = feed.pop("input_ids")
    return {"input_ids": np.ascontiguousarray(both[..., 0]), **feed, TYPES_INPUT: np.ascontiguousarray(both[..., 1])}


def pad(rows: Sequence[TokenIds]) -> dict[str, NDArray[np.int64]]:
    """The model's inputs for a batch: `input_ids` and `attention_mask`, both [len(rows), longest row]; where a token is
    several numbers (see inputs/characters.py) ids have them behind."""
    longest = max(map(len, rows))
    ids = np.zeros((len(rows), longest, *np.shape(rows[0])[1:]), np.int64)
    mask = np.zeros((len(rows), longest), np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}
