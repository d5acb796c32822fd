"""Requests of concurrent clients in one batch: fair, bounded, and with the bits of `encode`."""

import asyncio
import threading
from collections.abc import Hashable

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_embed import Embedder
from edge_embed.service import batching
from edge_embed.service.batching import COST, Batcher
from edge_embed.service.limits import Limits
from edge_embed.service.refusals import Refusal
from edge_embed.service.service import Service

Numbers = NDArray[np.float32]


class Model:
    """Gives each text's length, batch by batch, while the gate is open."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.begun = threading.Event()

    def run(self, texts: list[str], kind: Hashable) -> Numbers:
        self.begun.set()
        assert self.gate.wait(30)
        self.batches.append(texts)
        if kind == "bad" or "bad" in texts:
            raise ValueError("bad")
        return np.array([[len(text)] for text in texts], np.float32)

    async def until_begun(self) -> None:
        await asyncio.to_thread(self.begun.wait, 30)


def batcher(model: Model, waiting: int = 1000) -> Batcher[str, Hashable]:
    return Batcher[str, Hashable](model.run, len, waiting)


async def gathered(tasks: list["asyncio.Task[Numbers]"]) -> list[list[float]]:
    return [found[:, 0].tolist() for found in await asyncio.gather(*tasks)]


def test_what_gathers_during_a_batch_is_the_next_one() -> None:
    """The first request runs alone; the three that come meanwhile run together, each with its own result."""

    async def main() -> None:
        model = Model()
        queue = batcher(model)
        first = asyncio.create_task(queue.submit(["a"], None))
        await model.until_begun()
        others = [asyncio.create_task(queue.submit(texts, None)) for texts in (["bb"], ["ccc", "dddd"], ["e"])]
        await asyncio.sleep(0)
        assert queue.waiting == 4
        model.gate.set()
        assert await gathered([first, *others]) == [[1], [2], [3, 4], [1]]
        assert model.batches == [["a"], ["bb", "ccc", "dddd", "e"]]
        assert queue.waiting == 0
        queue.close()

    asyncio.run(main())


def test_large_requests_take_turns_with_small_ones() -> None:
    """A small request behind a large one is in the next batch, not behind all of it; the large one keeps its order."""

    async def main() -> None:
        model = Model()
        queue = batcher(model)
        texts = [f"{i:0500}" for i in range(64)]
        first = asyncio.create_task(queue.submit(["a"], None))
        await model.until_begun()
        large = asyncio.create_task(queue.submit(texts, None))
        small = asyncio.create_task(queue.submit(["small"], None))
        await asyncio.sleep(0)
        model.gate.set()
        assert await gathered([first, small, large]) == [[1], [5], [500] * 64]
        assert "small" in model.batches[1]
        assert max(sum(map(len, batch)) for batch in model.batches) <= COST
        assert [text for batch in model.batches for text in batch if len(text) == 500] == texts
        queue.close()

    asyncio.run(main())


def test_kinds_are_not_mixed() -> None:
    """Requests of another kind (role, dimension) wait for a batch of their own."""

    async def main() -> None:
        model = Model()
        queue = batcher(model)
        first = asyncio.create_task(queue.submit(["a"], None))
        await model.until_begun()
        tasks = [asyncio.create_task(queue.submit([text], text[0])) for text in ("q1", "d1", "q2", "d2")]
        await asyncio.sleep(0)
        model.gate.set()
        await asyncio.gather(first, *tasks)
        assert model.batches == [["a"], ["q1", "q2"], ["d1", "d2"]]
        queue.close()

    asyncio.run(main())


def test_cancelled_requests_are_dropped() -> None:
    """What waits for a client that went away never reaches the model, and makes room in the queue."""

    async def main() -> None:
        model = Model()
        queue = batcher(model)
        first = asyncio.create_task(queue.submit(["a"], None))
        await model.until_begun()
        gone, stays = (
            asyncio.create_task(queue.submit(["gone"], None)),
            asyncio.create_task(queue.submit(["stays"], None)),
        )
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        model.gate.set()
        assert await gathered([first, stays]) == [[1], [5]]
        assert model.batches == [["a"], ["stays"]]
        assert (queue.waiting, gone.cancelled()) == (0, True)
        queue.close()

    asyncio.run(main())


def test_a_full_queue_refuses() -> None:
    """More than may wait is refused with 429; a request that is larger than the queue is taken by an empty one."""

    async def main() -> None:
        model = Model()
        queue = batcher(model, waiting=3)
        first = asyncio.create_task(queue.submit(["a"], None))
        await model.until_begun()
        waits = asyncio.create_task(queue.submit(["b", "c"], None))
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            await queue.submit(["d", "e"], None)
        assert (refused.value.status, refused.value.code, refused.value.retry_after) == (429, "queue_full", 1)
        model.gate.set()
        assert await gathered([first, waits]) == [[1], [1, 1]]
        assert len(await queue.submit(["x"] * 5, None)) == 5
        queue.close()

    asyncio.run(main())


def test_many_characters_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is bounded in characters, too, and what was taken or dropped counts no more."""
    monkeypatch.setattr(batching, "CHARACTERS", 100)

    async def main() -> None:
        model = Model()
        queue = batcher(model)
        first = asyncio.create_task(queue.submit(["a" * 1000], None))
        await model.until_begun()
        waits, gone = (asyncio.create_task(queue.submit([text * 40], None)) for text in "bc")
        await asyncio.sleep(0)
        with pytest.raises(Refusal, match="too many texts"):
            queue.check_room(["d" * 21])
        queue.check_room(["d" * 20])
        gone.cancel()
        model.gate.set()
        assert await gathered([first, waits]) == [[1000], [40]]
        assert (await queue.submit(["e" * 99, "f"], None))[:, 0].tolist() == [99, 1]
        queue.close()

    asyncio.run(main())


def test_one_bad_request_does_not_fail_the_others() -> None:
    """Where a batch fails, its requests run one by one; the thread goes on."""

    async def main() -> None:
        model = Model()
        queue = batcher(model)
        first = asyncio.create_task(queue.submit(["a"], None))
        await model.until_begun()
        bad, good = asyncio.create_task(queue.submit(["bad"], None)), asyncio.create_task(queue.submit(["good"], None))
        await asyncio.sleep(0)
        model.gate.set()
        with pytest.raises(ValueError, match="bad"):
            await bad
        assert await gathered([first, good]) == [[1], [4]]
        queue.close()
        with pytest.raises(Refusal, match="stopped"):
            await queue.submit(["late"], None)

    asyncio.run(main())


def test_vectors_have_the_bits_of_encode(embedder: Embedder) -> None:
    """Texts of many requests, roles and dimensions at a time: each vector is that of `encode`, bit by bit."""
    texts = [f"{'long ' * (i % 40)}text {i}" for i in range(60)]
    expected = {dim: embedder.encode(texts, truncate_dim=dim) for dim in (None, 128)}

    async def main() -> None:
        service = Service({"m": embedder}, limits=Limits())
        places = [(dim, slice(i, i + 1 + i % 7)) for dim in (None, 128) for i in range(0, 56, 4)]
        found = await asyncio.gather(*(service.embed(texts[place], dim=dim) for dim, place in places))
        for (dim, place), vectors in zip(places, found, strict=True):
            np.testing.assert_array_equal(vectors, expected[dim][place])
        service.close()

    asyncio.run(main())
