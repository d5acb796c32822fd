"""Answers with vectors are JSON of the same value, written piece by piece."""

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from edge_embed.service.answers import MANY, vectors_response
from edge_embed.service.endpoints import Call
from edge_embed.service.memory import Memory, Share

RANDOM = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)


async def answered(value: Any, numbers: int = 2 * MANY) -> Any:
    call = Call(None, None, b"", Share(Memory(0)))  # type: ignore[arg-type]
    return await vectors_response(call, value, numbers)


def plain(value: Any) -> Any:
    """The value with lists in place of arrays."""
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize(
    "value",
    [
        RANDOM,
        RANDOM[:0],
        {"a": [{"row": row, "i": i} for i, row in enumerate(RANDOM)], "b": [], "c": {}, "d": None, "e": True, "f": 1.5},
        {'"quoted"': "ä\ud800\n", "one": RANDOM[0]},
        {"rows": [RANDOM[0], {"a": RANDOM}], "none": [], "text": "ä\ud800"},
    ],
)
def test_the_same_as_all_at_once(value: Any) -> None:
    """A float32 is the double that equals it; what cannot be UTF-8 is escaped."""
    for numbers in (1, MANY):
        response = asyncio.run(answered(value, numbers))
        assert response.media_type == "application/json"
        assert bytes(response.body).decode("ascii") == json.dumps(plain(value), separators=(",", ":"))


def test_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN, which JSON does not have, is written by no answer."""
    with pytest.raises(ValueError, match="Out of range float values"):
        asyncio.run(answered(np.array([[np.nan]], np.float32)))


def test_others_run_meanwhile() -> None:
    """While a large answer is written, other tasks of the event loop have their turns."""

    async def count() -> int:
        turns = 0
        task = asyncio.ensure_future(answered(np.ones((1500, 384), np.float32)))
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(count()) > 100
