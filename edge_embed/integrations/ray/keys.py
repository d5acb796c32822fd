"""Keys that come more than once over all shards, found by hashes of 8 bytes a row."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed.files.arrow import EXTRA
from edge_embed.files.shards import KEY
from edge_embed.integrations.ray.outcome import KEPT
from edge_embed.integrations.ray.worker import hash_of
from edge_embed_runtime.extras import require


class Keys:
    """Hashes of all keys of a run, which has so many rows at most."""

    def __init__(self, rows: int) -> None:
        self._hashes: NDArray[np.uint64] = np.empty(rows, np.uint64)
        self._count = 0

    def add(self, hashes: bytes) -> None:
        more = np.frombuffer(hashes, np.uint64)
        self._hashes[self._count : self._count + len(more)] = more
        self._count += len(more)

    def add_shard(self, path: Path) -> None:
        """Of a shard that an earlier run finished."""
        self.add(b"".join(map(hash_of, _keys(path))))

    def twice(self, shards: list[Path]) -> tuple[int, list[dict[str, Any]]]:
        """How many keys come more than once, and the first of them with the names of their shards."""
        hashes = self._hashes[: self._count]
        hashes.sort()
        same = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
        if not len(same):
            return 0, []
        wanted = {int(one) for one in same[:KEPT]}
        found = dict[str, list[str]]()
        for path in shards:
            for key in _keys(path):
                if int.from_bytes(hash_of(key), sys.byteorder) in wanted:
                    found.setdefault(key, []).append(path.name)
        listed = [{"key": key, "shards": names} for key, names in found.items() if len(names) > 1]
        return max(len(same) - len(wanted), 0) + len(listed), listed


def _keys(path: Path) -> Iterator[str]:
    with require("pyarrow.parquet", EXTRA).ParquetFile(path) as file:
        for batch in file.iter_batches(8192, columns=[KEY]):
            yield from batch.column(0).to_pylist()
