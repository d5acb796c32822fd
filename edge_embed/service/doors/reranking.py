"""What the doors have in common: texts scored against a query."""

from collections.abc import Sequence

import numpy as np

from edge_embed.service.doors.embedding import Cut
from edge_embed.service.service import Service
from edge_embed_runtime.errors import InputError


async def rerank(
    service: Service, query: str, texts: Sequence[str], *, model: str | None = None, raw: bool = False, cut: Cut = "end"
) -> list[float]:
    """A score for each text, from 0 to 1: the sigmoid of the model's number, whatever the bundle makes of it.

    raw: the model's own number

    Raises InputError for a pair that is longer than the model reads where it may not be cut, Refusal for an unknown
    model.
    """
    if cut != "end":
        _check_lengths(await service.count_pair_tokens(query, texts, model), service.reranker(model).max_tokens)
    scores = await service.rerank(query, texts, model, raw=True)
    if scores.ndim != 1:
        raise InputError(f"the model gives {scores.shape[1]} numbers for a pair, expected one: it is no reranker")
    # the sigmoid, written so that no number is too large for it
    found = scores if raw else (1 + np.tanh(scores.astype(np.float64) / 2)) / 2
    return [float(score) for score in found]


def _check_lengths(counts: Sequence[int], most: int) -> None:
    for i, count in enumerate(counts):
        if count > most:
            raise InputError(
                f"texts[{i}] has {count:,} tokens together with the query; the model reads {most:,}: send shorter "
                'texts, or {"truncate": true} to leave out the end',
                option="texts",
            )
