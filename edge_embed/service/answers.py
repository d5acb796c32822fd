"""Large answers: written row by row, so that other requests go on meanwhile, and sent as fast as their clients read.

One call of `json.dumps` for 1,000 vectors holds Python's lock for a third of a second.
"""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from starlette.responses import Response
from starlette.types import Send

from edge_embed.service.endpoints import Call

# Numbers in an answer from which on it is written in another thread: about 5 ms.
MANY = 16_384
# Bytes that are sent at a time; answers with no more are not counted in `Memory`.
PIECE = 65_536
# One answer is written at a time: more at once would take turns for Python's lock, and more memory.
_WRITER = ThreadPoolExecutor(1, thread_name_prefix="edge_embed answers")


async def vectors_response(call: Call, value: Any, numbers: int) -> Response:
    """An answer that holds arrays, each as a list of its numbers: a float32 as the double that equals it.

    numbers: of all vectors of the answer

    Raises Refusal (429) where other requests hold too much memory.
    """
    if numbers < MANY:
        text = _dumps(value)
    else:
        call.share.resize(numbers * np.dtype(np.float32).itemsize)
        text = await asyncio.get_running_loop().run_in_executor(_WRITER, lambda: b"".join(_pieces(value)))
    return Response(text, media_type="application/json")


async def send_in_pieces(response: Response, send: Send) -> None:
    """Send an answer; the server takes each piece when the client has read those before."""
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    body = response.body
    for start in range(0, len(body), PIECE):
        end = start + PIECE
        await send({"type": "http.response.body", "body": bytes(body[start:end]), "more_body": end < len(body)})


def _dumps(value: Any) -> bytes:
    return json.dumps(value, default=np.ndarray.tolist, allow_nan=False, separators=(",", ":")).encode("ascii")


def _pieces(value: Any) -> Iterator[bytes]:
    """{"a": [1.5], "b": array([[1]])} -> '{', '"a":', '[', '1.5', ...: an array of one dimension is one piece."""
    if isinstance(value, dict):
        yield from _enclosed(b"{", ((_dumps(name) + b":", entry) for name, entry in value.items()), b"}")
    elif isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 1):
        yield from _enclosed(b"[", ((b"", entry) for entry in value), b"]")
    else:
        yield _dumps(value)


def _enclosed(begin: bytes, entries: Iterator[tuple[bytes, Any]], end: bytes) -> Iterator[bytes]:
    yield begin
    for i, (label, entry) in enumerate(entries):
        yield b"," + label if i else label
        yield from _pieces(entry)
    yield end
