"""Requests of concurrent clients that wait for one model, embedded together.

One thread runs the model. It takes what waits, up to COST, in turns: from each request a part, so that a large request
does not hold up the small ones behind it. While it runs, the next requests gather; nothing ever waits on purpose.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

import numpy as np

from edge_embed.service.refusals import Refusal
from edge_embed_runtime.vectors.types import Vectors

Item = TypeVar("Item")
# What items must have in common to be in one batch.
Kind = TypeVar("Kind", bound=Hashable)
# What one batch may cost, in characters: for MiniLM some 50 ms of one core.
COST = 8192
# What an item costs besides its characters, and at most: models leave out the rest of a long text.
ITEM_COST, MOST_COST = 16, 2048
# Characters that may wait for a model, which bounds the memory of what waits.
CHARACTERS = 16_000_000
# Seconds after which it is worth asking again when the queue is full.
RETRY = 1


class _Job(Generic[Item, Kind]):
    """One request: its items, and what was made of the first of them."""

    def __init__(self, items: Sequence[Item], kind: Kind, future: "asyncio.Future[None]") -> None:
        self.items, self.kind, self.future = items, kind, future
        self.taken = self.made = 0
        self.failed = False
        self.results: list[Vectors] = []


class Batcher(Generic[Item, Kind]):
    """One model behind a bounded queue.

    run:     what the model makes of items of one kind, in their order; called in the batcher's thread
    size:    characters of an item
    waiting: how many items may wait, besides CHARACTERS
    watch:   called with the number of items of each batch
    """

    def __init__(
        self,
        run: Callable[[list[Item], Kind], Vectors],
        size: Callable[[Item], int],
        waiting: int,
        watch: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._run, self._size, self._most, self._watch = run, size, waiting, watch
        self._jobs: deque[_Job[Item, Kind]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self.waiting = self._size_waiting = 0

    async def submit(self, items: Sequence[Item], kind: Kind) -> Vectors:
        """What the model makes of the items, float32 [n, ...]. Cancelled, those that still wait are dropped.

        Raises Refusal (429) where too many wait already, and what `run` raises.
        """
        loop = asyncio.get_running_loop()
        job = _Job[Item, Kind](items, kind, loop.create_future())
        with self._changed:
            self.check_room(items)
            self._start()
            self.waiting += len(items)
            self._size_waiting += sum(map(self._size, items))
            self._jobs.append(job)
            self._changed.notify()
        await job.future
        return job.results[0] if len(job.results) == 1 else np.concatenate(job.results)

    def check_room(self, items: Sequence[Item]) -> None:
        """Raises Refusal where these may not wait; a request that is larger than the queue may, alone."""
        if self._closed:
            raise Refusal(503, "stopping", "the service is being stopped")
        size = sum(map(self._size, items))
        full = self.waiting + len(items) > self._most or self._size_waiting + size > CHARACTERS
        if full and self.waiting:
            raise Refusal(429, "queue_full", "too many texts wait for this model: try again later", retry_after=RETRY)

    def close(self) -> None:
        """End the thread after the batch that it runs; what waits is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="edge_embed batcher", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closed and not self._jobs:
                    self._changed.wait()
                if self._closed:
                    return
                parts = self._take()
            if parts:
                self._serve(parts)

    def _take(self) -> list[tuple[_Job[Item, Kind], list[Item]]]:
        """The next batch: parts of the requests of one kind, in turns; a request that is not done goes to the end."""
        parts: list[tuple[_Job[Item, Kind], list[Item]]] = []
        kind, cost = self._jobs[0].kind, 0
        passed: deque[_Job[Item, Kind]] = deque()
        unfinished: deque[_Job[Item, Kind]] = deque()
        share = COST // 4 if len(self._jobs) > 1 else COST
        while self._jobs and cost < COST:
            job = self._jobs.popleft()
            if job.failed or job.future.done():  # its client went away, or a part of it failed
                self._taken(job.items[job.taken :])
            elif job.kind != kind:
                passed.append(job)
            else:
                items, spent = self._part(job, min(share, COST - cost))
                cost += spent
                parts.append((job, items))
                if job.taken < len(job.items):
                    unfinished.append(job)
        self._jobs = passed + self._jobs + unfinished
        return parts

    def _part(self, job: _Job[Item, Kind], most: int) -> tuple[list[Item], int]:
        """The next items of a request, at least one, and what they cost."""
        items: list[Item] = []
        spent = 0
        while job.taken < len(job.items) and (not items or spent < most):
            item = job.items[job.taken]
            spent += min(self._size(item) + ITEM_COST, MOST_COST)
            items.append(item)
            job.taken += 1
        self._taken(items)
        return items, spent

    def _taken(self, items: Sequence[Item]) -> None:
        """These do not wait any more."""
        self.waiting -= len(items)
        self._size_waiting -= sum(map(self._size, items))

    def _serve(self, parts: list[tuple[_Job[Item, Kind], list[Item]]]) -> None:
        """Run the model on a batch, and hand each request its part."""
        items = [item for _, part in parts for item in part]
        done: list[tuple[_Job[Any, Any], Exception | None]] = []
        try:
            self._watch(len(items))
            results, start = self._run(items, parts[0][0].kind), 0
        except Exception as error:  # noqa: BLE001 - raised by `submit`
            if len(parts) > 1:  # the fault of one request is not that of the others
                for one in parts:
                    self._serve([one])
                return
            parts[0][0].failed = True
            done.append((parts[0][0], error))
        else:
            for job, part in parts:
                job.results.append(results[start : start + len(part)])
                start += len(part)
                job.made += len(part)
                if job.made == len(job.items):
                    done.append((job, None))
        if done:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                done[0][0].future.get_loop().call_soon_threadsafe(_deliver, done)


def _deliver(done: list[tuple[_Job[Any, Any], Exception | None]]) -> None:
    for job, failure in done:
        if job.future.done():
            continue
        if failure is not None:
            job.future.set_exception(failure)
        else:
            job.future.set_result(None)
