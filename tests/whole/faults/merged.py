"""An index that gets all of its documents by merges: the first makes it, the others add to it."""

import os
import shutil
from pathlib import Path

from workload import DIM, NAME, Given, Operation, given

from edge_embed import Embedder, Index, merge_indexes


class Merged(Given):
    """Documents are stored in an index of their own, outside of the folder that is looked at, which is merged."""

    def __init__(self, folder: Path, embedder: Embedder) -> None:
        self._parts = folder.parent / f"parts.{os.getpid()}"
        self._path = folder / NAME
        if self._path.exists():
            super().__init__(folder, embedder)

    def apply(self, operation: Operation) -> None:
        """Before the first merge there is no index that could be changed in another way."""
        if operation.name in ("add", "upsert"):
            self._merge(operation)
        elif self._path.exists():
            super().apply(operation)

    def _merge(self, operation: Operation) -> None:
        self.close()
        shutil.rmtree(self._parts, ignore_errors=True)
        self._parts.mkdir()
        with Index.create(self._parts / "part.db", space="faults", dim=DIM) as part:
            part.add_vectors(operation.content, given(operation.content))
        choice = "error" if operation.name == "add" else "last"
        merge_indexes(self._path, [self._parts / "part.db"], on_duplicate=choice)
        self.index = self._open()

    def close(self) -> None:
        if self._path.exists():
            super().close()
