"""Rows beside passages: what a sparse model or one with a vector for each token made of them.

vec_sparse  float32 scale; weights of tokens, uint8 [n], in steps of it; ids of the tokens [n], uint16 where the
            vocabulary has at most 65,536, else uint32
vec_multi   int8 [tokens, dim]: a vector of length 1 for each token, times a scale that its numbers tell

Each row has the id of its passage and a crc32 over both; it goes when the passage goes.
"""

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.vectors.int8 import Vectors, quantize_int8

if TYPE_CHECKING:
    from edge_embed_runtime.embed.sparse import SparseVector

# Rows that are read at once.
READ = 1024
STEPS = 255


class Attached:
    """One of the tables. The caller holds the transaction."""

    def __init__(self, db: sqlite3.Connection, name: str, dim: int) -> None:
        self._db, self.name, self.dim = db, name, dim
        self.title = {"sparse": "sparse vectors", "multi": "rows of vectors of tokens"}[name]

    def insert(self, first: int, codes: Sequence[bytes]) -> None:
        """Rows of passages whose ids follow each other."""
        rows = ((id_, code, _crc(id_, code)) for id_, code in enumerate(codes, start=first))
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
        if self.name == "multi":
            return len(code) > 0 and len(code) % self.dim == 0
        return len(code) >= 4 and (len(code) - 4) % (1 + token_type(self.dim).itemsize) == 0


def _crc(id_: int, code: bytes) -> int:
    return zlib.crc32(code, zlib.crc32(b"%d" % id_))


def token_type(dim: int) -> np.dtype[np.unsignedinteger]:
    """How ids of tokens of a vocabulary are stored."""
    return np.dtype("<u2" if dim <= 2**16 else "<u4")


def pack_sparse(vector: "SparseVector", dim: int) -> bytes:
    """Weights that are less than half a step, a 510th of the largest, are left out."""
    scale = np.array([vector.weights.max(initial=0) / STEPS], "<f4")
    codes = np.rint(vector.weights / np.maximum(scale, 1e-30)).astype(np.uint8)
    kept = codes > 0
    return bytes(scale.tobytes() + codes[kept].tobytes() + vector.ids[kept].astype(token_type(dim)).tobytes())


Unpacked = tuple[Vectors, NDArray[np.uint8], NDArray[np.unsignedinteger], NDArray[np.int64]]


def unpack_sparse(codes: Sequence[bytes], dim: int) -> Unpacked:
    """Scales [n], and of all rows one after the other weights in steps and tokens, with the number of them [n]."""
    each = 1 + token_type(dim).itemsize
    counts = np.array([(len(code) - 4) // each for code in codes], np.int64)
    scales = np.frombuffer(b"".join(code[:4] for code in codes), "<f4").astype(np.float32)
    steps = np.frombuffer(b"".join(code[4 : 4 + n] for code, n in zip(codes, counts, strict=True)), np.uint8)
    tokens = b"".join(code[4 + n :] for code, n in zip(codes, counts, strict=True))
    return scales, steps, np.frombuffer(tokens, token_type(dim)), counts


def pack_multi(vectors: Vectors) -> bytes:
    codes, _ = quantize_int8(vectors)
    return bytes(codes.tobytes())


def unpack_multi(codes: Sequence[bytes], dim: int) -> tuple[Vectors, NDArray[np.int64]]:
    """Vectors of all rows one after the other [m, dim], and where those of each row begin [n]."""
    numbers = np.frombuffer(b"".join(codes), np.int8).reshape(-1, dim).astype(np.float32)
    lengths = np.sqrt(np.einsum("nd,nd->n", numbers, numbers))
    starts = np.cumsum([0, *(len(code) // dim for code in codes[:-1])])
    return numbers / np.maximum(lengths, 1)[:, None], starts
