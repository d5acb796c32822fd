"""Methods to be awaited: `aencode`, `asearch` and others."""

import asyncio
import contextvars
import inspect
import os
import pickle
import signal
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_embed import ComposedEmbedder, Document, Embedder, Index
from edge_embed.errors import InputError
from edge_embed_runtime.system.waiting import CALLS, awaitable

TEXTS = ["the river bank", "money in the bank", ""]


def run(waiting: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(waiting)


class Waiter:
    """`wait` ends when the event is set, which only the event loop does."""

    def __init__(self) -> None:
        self.event, self.begun = threading.Event(), threading.Semaphore(0)

    def wait(self, number: int, *, more: int = 0) -> int:
        self.begun.release()
        assert self.event.wait(10)
        return number + more

    await_it = awaitable(wait)


def test_the_event_loop_goes_on_meanwhile() -> None:
    async def main() -> list[int]:
        waiter = Waiter()
        calls = [asyncio.ensure_future(waiter.await_it(i, more=1)) for i in range(2 * CALLS)]
        for _ in range(CALLS):
            assert await asyncio.to_thread(waiter.begun.acquire, timeout=10)
        assert not waiter.begun.acquire(blocking=False), "more calls run than may"
        calls.pop().cancel()
        waiter.event.set()
        return await asyncio.gather(*calls)

    assert run(main()) == list(range(1, 2 * CALLS))


def test_it_looks_like_the_method_it_stands_for() -> None:
    assert inspect.iscoroutinefunction(Embedder.aencode)
    assert (Embedder.aencode.__name__, Embedder.aencode.__qualname__) == ("aencode", "Embedder.aencode")
    assert list(inspect.signature(Embedder.aencode).parameters) == list(inspect.signature(Embedder.encode).parameters)


def test_embedders_give_the_same_vectors_and_errors(embedder: Embedder) -> None:
    async def main() -> None:
        assert (await embedder.aencode(TEXTS) == embedder.encode(TEXTS)).all()
        found = await asyncio.gather(*(embedder.aencode_query([text]) for text in TEXTS))
        assert (np.vstack(found) == embedder.encode_query(TEXTS)).all()
        with pytest.raises(InputError, match="a list of texts"):
            await embedder.aencode("text")
        both = ComposedEmbedder([(embedder, 1.0), (embedder, 1.0)])
        assert (await both.aencode_document(TEXTS) == both.encode_document(TEXTS)).all()

    run(main())


def test_an_index_is_written_and_searched(tmp_path: Path, embedder: Embedder) -> None:
    async def main() -> None:
        with Index.open(tmp_path / "notes.db", embedder) as index:
            assert await index.aadd([Document("a", TEXTS[0]), Document("b", TEXTS[1])]) == 2
            first, second = await asyncio.gather(index.asearch("river", k=1), index.asearch("money", k=1))
            assert (first[0].key, second[0].key) == ("a", "b")
            assert await index.aupsert([Document("a", "a forest")]) == 1
            document = await index.aget("a")
            assert document is not None
            assert document.text == "a forest"
            assert await index.adelete("a") == 1

    run(main())


def test_context_variables_are_those_of_the_caller() -> None:
    name = contextvars.ContextVar("name", default="nobody")

    class Teller:
        def tell(self) -> str:
            return name.get()

        atell = awaitable(tell)

    async def main() -> str:
        name.set("caller")
        return await Teller().atell()

    assert run(main()) == "caller"


def test_what_was_awaited_can_still_be_pickled(embedder: Embedder) -> None:
    both = ComposedEmbedder([(embedder, 1), (embedder, 2)])
    found = run(both.aencode(TEXTS))
    assert np.array_equal(pickle.loads(pickle.dumps(both)).encode(TEXTS), found)  # noqa: S301 - our own


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_refused_rather_than_kept_waiting(embedder: Embedder) -> None:
    """Its threads are those of the parent, which are not there."""
    run(embedder.aencode(TEXTS))
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            run(embedder.aencode(TEXTS))
        except InputError as error:
            os._exit(7 if error.code == "forked" else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
