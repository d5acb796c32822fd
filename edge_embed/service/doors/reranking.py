"""What the doors have in common: texts scored against a query."""

import asyncio
from collections.abc import Sequence

from edge_embed.service.doors.embedding import Cut
from edge_embed.service.service import Service
from edge_embed_runtime.embed.reranker import Reranker, sigmoid
from edge_embed_runtime.errors import InputError


async def rerank(
    service: Service, query: str, texts: Sequence[str], *, model: str | None = None, raw: bool = False, cut: Cut = "end"
) -> list[float]:
    """A score for each text, from 0 to 1: the sigmoid of the model's number, whatever the bundle makes of it.

    raw: the model's own number

    Raises InputError for a pair that is longer than the model reads where it may not be cut, and for a model that gives
    several numbers for a pair; Refusal for an unknown model.
    """
    reranker = service.reranker(model)
    if reranker.manifest.dim != 1:
        raise InputError(f"the model gives {reranker.manifest.dim} numbers for a pair, not one")
    if cut != "end":
        _check_lengths(await asyncio.to_thread(_count, reranker, query, texts), reranker.max_tokens)
    scores = await service.rerank(query, texts, model, raw=True)
    found: list[float] = (scores if raw else sigmoid(scores)).tolist()
    return found


async def first_tokens(service: Service, texts: list[str], most: int, model: str | None) -> list[str]:
    """Each text up to the end of so many of its tokens."""
    reranker = service.reranker(model)
    if most >= reranker.max_tokens:  # the model reads no more in any case
        return texts
    return await asyncio.to_thread(lambda: [_first_tokens(reranker, text, most) for text in texts])


def _first_tokens(reranker: Reranker, text: str, most: int) -> str:
    found = reranker.tokenizer.offsets(text)
    return text[: found[most - 1][1]] if len(found) > most else text


def _count(reranker: Reranker, query: str, texts: Sequence[str]) -> list[int]:
    """Tokens of each pair as the model would read it whole."""
    named = reranker.manifest.default_role
    before = reranker.prompts[named] if named else ""
    around = len(reranker.row("", "")) + _tokens(reranker, before + query)
    return [around + _tokens(reranker, text) for text in texts]


def _tokens(reranker: Reranker, text: str) -> int:
    return len(reranker.tokenizer.plain(text, len(text)))


def _check_lengths(counts: Sequence[int], most: int) -> None:
    for i, count in enumerate(counts):
        if count > most:
            raise InputError(
                f"texts[{i}] has {count:,} tokens together with the query; the model reads {most:,}: send shorter "
                'texts, or {"truncate": true} to leave out the end',
                option="texts",
            )
