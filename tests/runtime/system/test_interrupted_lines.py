"""Ctrl-C at a line of any call: the object goes on or says that it is closed, and nothing acknowledged is lost.

Every line is a row of tests/whole/faults ("interrupts"); here is a sample of them.
"""

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from builders.interrupting import NAMES, QUERY, Interrupts

from edge_embed import Document, Embedder, Index
from edge_embed.errors import IndexClosedError
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system import turns
from edge_embed_runtime.system.turns import Turns

SAMPLE = 12  # lines of each call, at even distances
PATIENCE = 30.0


@pytest.fixture(scope="module")
def static() -> Embedder:
    return Embedder("static", threads=1)


@pytest.fixture(scope="module")
def interrupts(static: Embedder, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Interrupts:
    folder = tmp_path_factory.mktemp("interrupts")
    return Interrupts(folder, static, Embedder("static", truncate_dim=64), Embedder(bundle, threads=2))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_an_interrupt_at_any_line_leaves_everything_usable(name: str, interrupts: Interrupts) -> None:
    """The same object in another thread, the same file opened again."""
    lines = interrupts.lines(name)
    assert lines > SAMPLE
    found = [interrupts.interrupt(name, at) for at in range(0, lines, max(1, lines // SAMPLE))]
    assert [problem for problem in found if problem] == []


def interrupted(call: Callable[[], object], method: str, after: str) -> KeyboardInterrupt:
    """The KeyboardInterrupt that a call ends with, raised when a method of Store first comes to a line."""
    code = getattr(Store, method).__wrapped__.__code__

    def trace(frame: object, event: str, _: object) -> object:
        if frame.f_code is not code:  # type: ignore[attr-defined]
            return None

        def line(frame: object, event: str, _: object) -> object:
            if event == "line" and lines[frame.f_lineno - code.co_firstlineno].strip() == after:  # type: ignore[attr-defined]
                raise KeyboardInterrupt
            return line

        return line

    import inspect

    lines = inspect.getsource(code).splitlines()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt as error:
        return error
    finally:
        sys.settrace(None)
    raise AssertionError("was not interrupted")


@pytest.mark.parametrize("line", ["try:", "yield", 'db.execute("COMMIT")', "self._end(db)"])
def test_an_error_that_is_kept_keeps_nothing(line: str, static: Embedder, tmp_path: Path) -> None:
    """Its traceback holds frames, and these a transaction and a lock; other threads get on all the same."""
    with Index.open(tmp_path / "x.db", static) as index:
        index.add([Document("a", "the ferry")])
        kept = interrupted(lambda: index.add([Document("b", "the bank")]), "transaction", line)
        done: list[int] = []
        thread = threading.Thread(target=lambda: done.append(index.upsert([Document("c", "a river")])), daemon=True)
        thread.start()
        thread.join(PATIENCE)
        assert done == [1]
        del kept  # ends the generators that it held, which must not take back what others do
        assert {hit.key for hit in index.search("ferry", mode="vector")} in ({"a", "c"}, {"a", "b", "c"})
        assert index.verify().whole


def test_a_search_that_was_interrupted_does_not_show_old_documents(static: Embedder, tmp_path: Path) -> None:
    """A snapshot that stayed open would."""
    with Index.open(tmp_path / "x.db", static) as index:
        index.add([Document("a", "the ferry")])
        kept = interrupted(lambda: index.search("ferry"), "snapshot", "yield")
        index.add([Document("b", "another ferry")])
        assert len(index) == 2
        assert index.get("b") is not None
        assert {hit.key for hit in index.search("ferry")} == {"a", "b"}
        assert isinstance(kept, KeyboardInterrupt)


def test_close_can_be_called_again_after_an_interrupt(
    static: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And lets the next writer in."""
    index = Index.open(tmp_path / "x.db", static)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "close", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with suppress(KeyboardInterrupt):
            index.close()
    with pytest.raises(IndexClosedError):
        index.search(QUERY)
    index.close()
    Index.open(tmp_path / "x.db", static).close()


def test_a_turn_of_a_call_that_ended_is_given_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the thread that took it waits for it again; one that runs is waited for."""
    monkeypatch.setattr(turns, "PATIENCE", 0.01)
    turn, order = Turns(), list[str]()

    def leave() -> None:
        turn.take(sys._getframe())

    leave()
    with turn:  # the same thread
        order.append("first")
    leave()
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with turn:  # another thread
            begun.set()
            go_on.wait(PATIENCE)
            order.append("second")

    def next_one() -> None:
        with turn:
            order.append("third")

    threads = [threading.Thread(target=call) for call in (hold, next_one)]
    threads[0].start()
    assert begun.wait(PATIENCE)
    threads[1].start()
    threads[1].join(0.1)  # ten times its patience
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert order == ["first", "second", "third"]


def test_a_turn_inside_a_turn_ends_with_the_outer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call of an object may begin another."""
    monkeypatch.setattr(turns, "PATIENCE", 0.01)
    turn = Turns()

    def inner() -> None:
        with turn:
            pass

    with turn:
        inner()
        assert turn._lock.locked()
    assert not turn._lock.locked()
