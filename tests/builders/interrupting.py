"""KeyboardInterrupt at a chosen line of our packages, and what an index has to be good for afterwards."""

import shutil
import sys
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

from edge_embed import Document, Embedder, Index
from edge_embed.errors import IndexClosedError
from edge_embed_runtime.maintenance.reembed import reembed_index
from edge_embed_runtime.maintenance.verify import verify_index

OURS = ("edge_embed_runtime", "edge_embed")
PATIENCE = 30.0  # seconds for a call in another thread
DOCUMENTS = [Document(f"d{i}", f"the ferry number {i} crosses the river", {"n": i}) for i in range(4)]
NEW = [Document("n1", "a bank by the river", {"n": 10}), Document("n2", "money in the bank", {"n": 11})]
CHANGED = [Document("d1", "a quiet garden at night", {"n": 1}), Document("n3", "red and blue", {"n": 12})]

UPDATED = [Document(d.key, d.text, {**d.metadata, "x": 1}) for d in DOCUMENTS[2:]]


class Lines:
    """Counts the lines of our packages that a call runs in this thread, and interrupts it at one of them.

    at: the number of that line, from 0; None interrupts nothing
    """

    def __init__(self, at: int | None = None) -> None:
        self.at, self.count, self.place = at, 0, ""

    def run(self, call: Callable[[], object]) -> bool:
        """Whether the call was interrupted."""
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            call()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    def _trace(self, frame: FrameType, *_: object) -> Any:
        # Python itself passes over what `__del__` raises
        ours = frame.f_globals.get("__name__", "").split(".")[0] in OURS and frame.f_code.co_name != "__del__"
        return self._line if ours else None

    def _line(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            self.count += 1
            if self.count - 1 == self.at:
                self.place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name}"
                raise KeyboardInterrupt
        return self._line


class Operation(NamedTuple):
    """call: what is interrupted; after: the documents that may be there afterwards, besides those of before."""

    call: Callable[[Index], object]
    after: dict[str, Document]


def _state(*more: Document, without: Collection[str] = ()) -> dict[str, Document]:
    return {document.key: document for document in (*DOCUMENTS, *more) if document.key not in without}


QUERY = "ferry on the river"
OPERATIONS = {
    "add": Operation(lambda index: index.add(NEW), _state(*NEW)),
    "upsert": Operation(lambda index: index.upsert(CHANGED), _state(*CHANGED)),
    "delete": Operation(lambda index: index.delete("d2"), _state(without=["d2"])),
    "delete where": Operation(lambda index: index.delete(where={"n": {"$gt": 1}}), _state(without=["d2", "d3"])),
    "update": Operation(lambda index: index.update_metadata({"n": {"$gt": 1}}, {"x": 1}), _state(*UPDATED)),
    "find": Operation(lambda index: list(index.find({"n": {"$gte": 0}})), _state()),
    "values": Operation(lambda index: (index.field_values("n"), index.vectors(["d1"])), _state()),
    "vector": Operation(lambda index: index.search(QUERY, mode="vector"), _state()),
    "text": Operation(lambda index: index.search(QUERY, mode="text"), _state()),
    "hybrid": Operation(lambda index: index.search(QUERY, where={"n": {"$gte": 0}}), _state()),
    "get": Operation(lambda index: index.get("d3"), _state()),
    "stats": Operation(lambda index: index.stats(), _state()),
    "compact": Operation(lambda index: index.compact(), _state()),
    "repair": Operation(lambda index: index.repair(), _state()),
    "rebuild": Operation(lambda index: index.rebuild(), _state()),
    "close": Operation(lambda index: index.close(), _state()),
}


# All that `Interrupts` can interrupt.
NAMES = (*OPERATIONS, "open", "reembed", "encode")


class Interrupts:
    """A small index that is copied for each try.

    embedder, shorter: static ones, whose vectors are not of one space
    network:           one of a bundle that runs a network, with two threads
    """

    def __init__(self, folder: Path, embedder: Embedder, shorter: Embedder, network: Embedder) -> None:
        self._folder, self._embedder, self._shorter, self._network = folder, embedder, shorter, network
        self._start, self._path = folder / "start.db", folder / "index.db"
        with Index.open(self._start, embedder) as index:
            index.add(DOCUMENTS)

    def lines(self, name: str) -> int:
        """How many lines an operation runs."""
        lines = Lines()
        self._try(name, lines)
        return lines.count

    def interrupt(self, name: str, at: int) -> str | None:
        """What is wrong after an interrupt at a line of an operation; None where nothing is."""
        lines = Lines(at)
        try:
            problem = self._try(name, lines)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is to be told with the place
            problem = f"{type(error).__name__}: {error}"
        return f"{lines.place}: {problem}" if problem else None

    def _try(self, name: str, lines: Lines) -> str | None:
        for file in self._folder.glob("index.db*"):
            file.unlink()
        shutil.copy(self._start, self._path)
        if name == "encode":
            return self._encode(lines)
        if name == "open":
            lines.run(lambda: Index.open(self._path, self._embedder).close())
            return self._reopened([_state()])
        if name == "reembed":
            lines.run(lambda: reembed_index(self._path, self._shorter))
            reembed_index(self._path, self._shorter)
            return self._reopened([_state()], self._shorter)
        operation = OPERATIONS[name]
        index = Index.open(self._path, self._embedder)
        index.search(QUERY)  # codes are in memory
        interrupted = lines.run(lambda: operation.call(index))
        allowed = [_state(), operation.after] if interrupted else [operation.after]
        problem = self._same_object(index, allowed)
        index.close()
        return problem or self._reopened(allowed)

    def _encode(self, lines: Lines) -> str | None:
        """Twenty texts with two threads."""
        texts = [f"{'river bank ' * (i % 5)}{i}" for i in range(20)]
        expected = self._network.encode(texts)
        lines.run(lambda: self._network.encode(texts))
        alive = [thread for thread in threading.enumerate() if thread.name.startswith("edge_embed worker")]
        for thread in alive:
            thread.join(PATIENCE)
        if any(thread.is_alive() for thread in alive):
            return "threads go on"
        return None if np.array_equal(self._network.encode(texts), expected) else "other vectors"

    def _same_object(self, index: Index, allowed: list[dict[str, Document]]) -> str | None:
        found: list[str | None] = []
        thread = threading.Thread(target=lambda: found.append(_usable(index, allowed)), daemon=True)
        thread.start()  # another thread, which a lock that was kept would stop
        thread.join(PATIENCE)
        return found[0] if found else "a lock is kept"

    def _reopened(self, allowed: list[dict[str, Document]], embedder: Embedder | None = None) -> str | None:
        with Index.open(self._path, embedder or self._embedder) as index:
            if problem := _usable(index, allowed):
                return f"opened again: {problem}"
        report = verify_index(self._path)
        return None if report.whole else f"verify: {report.damaged} {report.problems}"


def _usable(index: Index, allowed: list[dict[str, Document]]) -> str | None:
    """Whether an index holds one of the states, finds and takes documents; a closed one has to say that it is."""
    try:
        keys = {key for state in allowed for key in state}
        contents = {key: document for key in keys if (document := index.get(key)) is not None}
        if contents not in allowed or len(index) != len(contents):
            return f"holds {sorted(contents)}, {len(index)} in all"
        extra = Document("extra", "zinc", {})
        index.add([extra])
        finds = {"text": {"extra"}, "vector": {*contents, "extra"}, "hybrid": {*contents, "extra"}}
        for mode, expected in finds.items():
            query = "zinc" if mode == "text" else QUERY
            if {hit.key for hit in index.search(query, k=20, mode=mode)} != expected:
                return f"mode {mode!r} does not find what is there"
        if index.delete("extra") != 1 or {hit.key for hit in index.search(QUERY, k=20)} != set(contents):
            return "a document is not deleted"
    except IndexClosedError:
        return None
    except Exception as error:  # noqa: BLE001 - to be told with the place
        return f"{type(error).__name__}: {error}"
    return None if not index.damaged else f"{index.damaged} are damaged"
