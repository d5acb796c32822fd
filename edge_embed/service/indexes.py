"""The index that is served: opened again where another file took its place."""

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.errors import BundleMismatchError, IndexFileError, IndexReadOnlyError
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.index.stats import read_stats
from edge_embed_runtime.storage.mainfile import identity

# Seconds that a write waits for another process that writes.
WAIT = 10.0


@dataclass(frozen=True)
class IndexOptions:
    """How the index is opened: see `Index.open`."""

    sparse: Embedder | None = None
    multi: Embedder | None = None
    max_rss_mb: float | None = None
    read_only: bool = False


class ServedIndex:
    """One index file, for reading and, in turns with other processes, for writing.

    Its vectors come from one of the embedders, which is found by the fingerprint in the file.
    """

    def __init__(
        self, path: str | os.PathLike[str], embedders: Mapping[str, Embedder], options: IndexOptions = IndexOptions()
    ) -> None:
        self.path = Path(path).absolute()
        self._embedders, self._options = embedders, options
        self._turn = threading.Lock()
        self._index = self._open()
        self._file = identity(self.path)

    @property
    def read_only(self) -> bool:
        return self._options.read_only

    def current(self) -> Index:
        """The index at the path: another one than before where the file was replaced.

        Raises IndexFileError where it is gone, and what `Index.open` raises.
        """
        file = identity(self.path)
        with self._turn:
            if file != self._file:
                if file is None:
                    raise IndexFileError(
                        f"{self.path.name} was moved or deleted: put it back, or stop the service",
                        code="index_missing", path=self.path,
                    )  # fmt: skip
                self._index.close()  # takes its log away, which would be taken for that of the new file
                self._file = None  # should opening fail, the next call tries again
                self._index = self._open()
                self._file = file
            return self._index

    def check_writable(self) -> None:
        """Raises IndexReadOnlyError where the service only reads."""
        if self._options.read_only:
            raise IndexReadOnlyError(f"{self.path.name} is served with --read-only", path=self.path)

    def close(self) -> None:
        self._index.close()

    def _open(self) -> Index:
        options = self._options
        found = self._embedder() if self.path.exists() else next(iter(self._embedders.values()), None)
        return Index.open(
            self.path, found, sparse=options.sparse, multi=options.multi, max_rss_mb=options.max_rss_mb,
            read_only=options.read_only, shared=not options.read_only, timeout=0 if options.read_only else WAIT,
        )  # fmt: skip

    def _embedder(self) -> Embedder | None:
        """Which embedder the file's vectors come from; None for an index of given vectors, or without dense ones."""
        stats = read_stats(self.path)
        for embedder in self._embedders.values():
            if (embedder.fingerprint, embedder.dim) == (stats["fingerprint"], stats["dim"]):
                return embedder
        if stats["space"] or not stats["dim"]:
            return None
        raise BundleMismatchError(
            f"{self.path.name} holds vectors of the bundle {stats['bundle']!r} ({stats['fingerprint'][:8]}, dim "
            f"{stats['dim']}), which is not among those served: give it with --bundle",
            path=self.path,
            bundle=stats["bundle"],
        )
