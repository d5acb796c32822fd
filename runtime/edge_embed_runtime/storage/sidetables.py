"""Tables next to `vec`: what a sparse model, or one with a vector for each token, makes of the passages.

vec_sparse  a sparse vector, as vectors/sparse.py packs it
vec_multi   int8 [tokens, dim]: a vector of length 1 for each token, times a scale that its numbers tell

Each row has the id of its passage and a crc32 over both; it goes when the passage goes.
"""

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator

from edge_embed_runtime.vectors.kinds import KINDS

# Rows that are read at once.
READ = 1024


class Attached:
    """One of the tables. The caller holds the transaction."""

    def __init__(self, db: sqlite3.Connection, name: str, dim: int) -> None:
        self._db, self.name, self.dim = db, name, dim
        self.kind = KINDS[name]
        self.title = self.kind.rows

    def insert(self, codes: Iterable[tuple[int, bytes]]) -> None:
        """Rows of passages, by their ids."""
        rows = ((id_, code, _crc(id_, code)) for id_, code in codes)
        self._db.executemany(f"INSERT INTO vec_{self.name} VALUES (?, ?, ?)", rows)

    def rows(self, ids: Iterable[int]) -> dict[int, bytes]:
        """Rows by id; those that are not there or not whole are left out."""
        query = f"SELECT id, code, crc FROM vec_{self.name} WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
        found = self._db.execute(query, (json.dumps(list(ids)),))
        return {id_: code for id_, code, crc in found if self.is_whole(id_, code, crc)}

    def load(self, after: int) -> Iterator[tuple[list[int], list[bytes], list[int]]]:
        """Rows with an id over `after`, many at a time: ids and codes, and the ids of those that are not whole."""
        query = f"SELECT id, code, crc FROM vec_{self.name} NOT INDEXED WHERE id > ? ORDER BY id"
        cursor = self._db.execute(query, (after,))
        while part := cursor.fetchmany(READ):
            whole = [(id_, code) for id_, code, crc in part if self.is_whole(id_, code, crc)]
            known = {id_ for id_, _ in whole}
            bad = [row[0] for row in part if row[0] not in known]
            yield [id_ for id_, _ in whole], [code for _, code in whole], bad

    def size(self) -> int:
        """Bytes of all rows."""
        (size,) = self._db.execute(f"SELECT ifnull(sum(length(code)), 0) FROM vec_{self.name}").fetchone()
        return int(size)

    def is_whole(self, id_: int, code: object, crc: int) -> bool:
        """Whether a row is what was stored, and has a length that it can have."""
        if not isinstance(code, bytes) or _crc(id_, code) != crc:
            return False
        return self.kind.is_packed(code, self.dim)


def _crc(id_: int, code: bytes) -> int:
    return zlib.crc32(code, zlib.crc32(b"%d" % id_))
