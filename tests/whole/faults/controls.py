"""Stores that save everything in one file, well and badly: the harness has to see which of them lose documents."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workload import Operation, State, Store, Verdict, after, judge

from edge_embed import Document, Embedder

NAME = "notes.json"


class Whole(Store):
    """Everything in a temporary file, synced, renamed, and the folder synced: a save that loses nothing."""

    sync = True
    padding = 0  # bytes written beside the documents, as vectors would be

    def __init__(self, folder: Path, embedder: Embedder) -> None:  # noqa: ARG002 - Store's
        self._file = folder / NAME
        self._state = load(self._file)

    def apply(self, operation: Operation) -> None:
        self._state = after(self._state, operation)
        save = {"documents": [[d.key, d.text, d.metadata] for d in self._state.values()], "padding": "." * self.padding}
        self.save(json.dumps(save).encode())

    def save(self, data: bytes) -> None:
        temporary = self._file.with_name("temporary")
        with temporary.open("wb") as file:
            file.write(data)
            if self.sync:
                file.flush()
                os.fsync(file.fileno())
        temporary.rename(self._file)
        if self.sync:
            folder = os.open(self._file.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)

    def close(self) -> None:
        """Nothing is open."""

    @staticmethod
    def check(
        folder: Path,
        allowed: Sequence[State],
        embedder: Any,  # noqa: ARG004 - Store's
        *,
        deep: bool = True,  # noqa: ARG004 - Store's
    ) -> Verdict:
        try:
            return judge(load(folder / NAME), allowed)
        except (ValueError, UnicodeDecodeError) as error:
            return Verdict(None, "lost", f"the file cannot be read: {error}")


class Renamed(Whole):
    """Without fsync, a rename may be on the disk before the data: an empty file, or the old one."""

    sync = False


class InPlace(Whole):
    """The file is overwritten where it is: who dies meanwhile leaves half of it."""

    def save(self, data: bytes) -> None:
        with self._file.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


class LargeInPlace(InPlace):
    padding = 1_000_000


class LargeWhole(Whole):
    padding = 1_000_000


def load(path: Path) -> State:
    if not path.exists():
        return {}
    return {key: Document(key, text, metadata) for key, text, metadata in json.loads(path.read_bytes())["documents"]}
