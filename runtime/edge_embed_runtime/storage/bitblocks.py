"""Binary codes as the index file holds them: blocks of up to 256 passages, found by their ids.

A block is a row of `bits`: id // 256; id % 256 of each passage in one byte, ascending; its words; a crc32 over them. So
all codes are read in a moment, and a commit writes few kilobytes. What is in a block can be made of the rows of `vec`
again: a block that is damaged costs time, nothing else.
"""

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator

import numpy as np

from edge_embed_runtime.vectors.int8 import Ids, Words

BLOCK = 256
# Blocks that are read at once: 0.2 MB at 384 dimensions.
READ = 16

# The ids [n], ascending, and words [n, ceil(dim / 64)] of a block, made of rows of `vec` that are whole.
Derive = Callable[[int], tuple[Ids, Words]]


class Blocks:
    """The table `bits` of one connection. The caller holds the transaction, and writes to `vec` first."""

    def __init__(self, db: sqlite3.Connection, dim: int, derive: Derive) -> None:
        self._db = db
        self._width = -(-dim // 64)
        self._derive = derive

    def count(self) -> int:
        """Codes in all blocks, for reserving memory; at most 256 for each of them."""
        return self._count_before(2**62)

    def count_until(self, last: int) -> int:
        """Codes of the passages up to the id `last`."""
        ids, _ = self._stored(last // BLOCK) or self._derive(last // BLOCK)
        return self._count_before(last // BLOCK) + int((ids <= last).sum())

    def _count_before(self, block: int) -> int:
        query = "SELECT ifnull(sum(min(length(places), ?)), 0) FROM bits WHERE block < ?"
        (count,) = self._db.execute(query, (BLOCK, block)).fetchone()
        return int(count)

    def load(self, after: int) -> Iterator[tuple[Ids, Words]]:
        """Codes of the passages with an id larger than `after`, in ascending order, many blocks at a time."""
        query = "SELECT block, places, words, crc FROM bits WHERE block >= ? ORDER BY block"
        rows = self._db.execute(query, ((after + 1) // BLOCK,))
        while group := rows.fetchmany(READ):
            found = [self._parse(row) or self._derive(int(row[0])) for row in group]
            ids = np.concatenate([ids for ids, _ in found])
            words = np.concatenate([words for _, words in found])
            new = ids > after
            yield ids[new], words[new]

    def add(self, ids: Ids, words: Words) -> None:
        """Codes [n, words] of new passages with ids [n], ascending."""
        for block, (first, last) in _runs(ids).items():
            old = self._stored(block)
            if old is None:
                self.replace(block)
            else:
                new = (ids[first:last], words[first:last])
                self._write(block, *(np.concatenate(pair) for pair in zip(old, new, strict=True)))

    def remove(self, ids: Ids) -> None:
        """Forget passages that were deleted."""
        ids = np.sort(ids)
        for block, (first, last) in _runs(ids).items():
            old_ids, old_words = self._stored(block) or self._derive(block)
            keep = np.isin(old_ids, ids[first:last], invert=True)
            self._write(block, old_ids[keep], old_words[keep])

    def fits(self, block: int) -> bool:
        """Whether a block is whole and holds what it should; also where rows of `vec` themselves are damaged."""
        wanted_ids, wanted = self._derive(block)
        ids, words = self._stored(block) or (np.empty(0, np.int64), np.empty((0, self._width), np.uint64))
        known = np.isin(ids, wanted_ids)
        query = "SELECT count(*) FROM vec WHERE id IN (SELECT value FROM json_each(?))"
        (others,) = self._db.execute(query, (json.dumps(ids[~known].tolist()),)).fetchone()
        same = np.array_equal(ids[known], wanted_ids) and np.array_equal(words[known], wanted)
        return same and others == int((~known).sum())

    def numbers(self) -> list[int]:
        """Numbers of the blocks that are there or should be."""
        query = f"SELECT block FROM bits NOT INDEXED UNION SELECT id / {BLOCK} FROM vec NOT INDEXED"
        return [block for (block,) in self._db.execute(query)]

    def replace(self, block: int) -> None:
        """Make one block again from the rows of `vec`."""
        self._write(block, *self._derive(block))

    def _stored(self, block: int) -> tuple[Ids, Words] | None:
        """What is in a block: nothing where there is none, None where it is damaged."""
        query = "SELECT block, places, words, crc FROM bits WHERE block = ?"
        row = self._db.execute(query, (block,)).fetchone()
        return self._parse(row) if row is not None else (np.empty(0, np.int64), np.empty((0, self._width), np.uint64))

    def _write(self, block: int, ids: Ids, words: Words) -> None:
        if len(ids) == 0:
            self._db.execute("DELETE FROM bits WHERE block = ?", (block,))
            return
        places = (ids - block * BLOCK).astype(np.uint8).tobytes()
        row = (block, places, words.astype("<u8").tobytes())
        self._db.execute("INSERT OR REPLACE INTO bits VALUES (?, ?, ?, ?)", (*row, _crc(*row)))

    def _parse(self, row: tuple[int, bytes, bytes, int]) -> tuple[Ids, Words] | None:
        """ids [n] and words [n, width] of a row, or None where it is damaged."""
        block, places, words, crc = row
        if not (isinstance(places, bytes) and isinstance(words, bytes) and len(words) == 8 * self._width * len(places)):
            return None
        if _crc(block, places, words) != crc:
            return None
        ids = np.frombuffer(places, np.uint8).astype(np.int64) + block * BLOCK
        return ids, np.frombuffer(words, "<u8").astype(np.uint64, copy=False).reshape(len(ids), self._width)


def _runs(ids: Ids) -> dict[int, tuple[int, int]]:
    """Ids, ascending -> the slice of each block: [5, 255, 256] -> {0: (0, 2), 1: (2, 3)}."""
    blocks, starts, counts = np.unique(ids // BLOCK, return_index=True, return_counts=True)
    runs = zip(blocks.tolist(), starts.tolist(), (starts + counts).tolist(), strict=True)
    return {block: (start, stop) for block, start, stop in runs}


def _crc(block: int, places: bytes, words: bytes) -> int:
    return zlib.crc32(words, zlib.crc32(places, zlib.crc32(b"%d" % block)))
