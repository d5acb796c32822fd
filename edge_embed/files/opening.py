"""The index while files are added: opened for reading first, for writing only when something has to be stored."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from edge_embed.files.formats.filetypes import TEXT
from edge_embed.files.naming import Naming
from edge_embed.files.rows import Reading
from edge_embed_runtime.errors import MissingExtraError
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.storage.database import locate
from edge_embed_runtime.system.headroom import Bounds

# How far an index is open.
CLOSED, READING, WRITING, EMBEDDING = range(4)


class Opening:
    """The index: opened for reading, without an embedder, until something has to be stored.

    models:  makes the embedders, as arguments of `Index.open`
    options: the other arguments of `Index.open`
    """

    def __init__(self, path: str, models: Callable[[], dict[str, Any]], options: dict[str, Any]) -> None:
        self.path = locate(path, must_exist=False)
        self._models, self._options = models, options
        self._open = CLOSED
        self._loaded: set[str] = set()
        self.index: Index | None = None

    @property
    def bounds(self) -> Bounds | None:
        """How much of files can be read and stored under a memory budget; None without one."""
        return None if self.index is None else self.index.bounds

    def bounded(self, reading: Reading) -> Reading:
        """A `Reading` that reads no more than the memory budget allows."""
        bounds = self.bounds
        return reading if bounds is None else replace(reading, max_bytes=bounds.row)

    def look(self) -> None:
        """Open it for reading, where it exists."""
        if self.path.exists():
            asked: dict[str, Any] = {name: self._options.get(name) for name in ("words", "fields", "late_chunking")}
            self.index = Index.open(self.path, read_only=True, **asked)
            self._open = READING

    def prepare(self, naming: Naming, modality: str) -> None:
        """Before a file is read: under a memory budget, what is left for it is known once the models are loaded, that
        of its modality, too."""
        if self._options.get("max_rss_mb") is None:
            return
        self.write(naming)
        if modality != TEXT and modality not in self._loaded:
            self._loaded.add(modality)
            with suppress(MissingExtraError):  # which each of such files says
                for _ in self._models()["embedder"].each_input(modality, []):
                    pass

    def write(self, naming: Naming, *, embed: bool = True) -> Index:
        """The index opened for writing, and created if missing; embed: with the embedders."""
        if self.index is None or self._open < (EMBEDDING if embed else WRITING):
            self.close()
            asked: dict[str, Any] = {"timeout": self._options.get("timeout", 0.0)}
            self.index = Index.open(self.path, **({**self._models(), **self._options} if embed else asked))
            self._open = EMBEDDING if embed else WRITING
            if naming.new and naming.root is not None:
                self.index.root = naming.root
        return self.index

    def close(self) -> None:
        if self.index is not None:
            self.index.close()
        self.index, self._open = None, CLOSED
