"""Answers in JSON with many vectors: written row by row, so that other requests go on meanwhile.

One call of `json.dumps` for 1,000 vectors holds Python's lock for a third of a second.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from starlette.responses import Response

# Numbers in an answer from which on it is written in another thread: about 5 ms.
MANY = 16_384


async def vectors_response(value: Any) -> Response:
    """An answer that holds arrays, each as a list of its numbers: a float32 as the double that equals it."""
    if _numbers(value) < MANY:
        text = _dumps(value)
    else:
        text = await asyncio.to_thread(lambda: "".join(_pieces(value)))
    return Response(text.encode("ascii"), media_type="application/json")


def _dumps(value: Any) -> str:
    return json.dumps(value, default=np.ndarray.tolist, allow_nan=False, separators=(",", ":"))


def _pieces(value: Any) -> Iterator[str]:
    """{"a": [1.5], "b": array([[1]])} -> '{', '"a":', '[', '1.5', ...: an array of one dimension is one piece."""
    if isinstance(value, dict):
        yield from _enclosed("{", ((f"{json.dumps(name)}:", entry) for name, entry in value.items()), "}")
    elif isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 1):
        yield from _enclosed("[", (("", entry) for entry in value), "]")
    else:
        yield _dumps(value)


def _enclosed(begin: str, entries: Iterator[tuple[str, Any]], end: str) -> Iterator[str]:
    yield begin
    for i, (label, entry) in enumerate(entries):
        yield f",{label}" if i else label
        yield from _pieces(entry)
    yield end


def _numbers(value: Any) -> int:
    """Numbers in the arrays of an answer."""
    if isinstance(value, np.ndarray):
        return value.size
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(_numbers(entry) for entry in inside)
