"""Candidates that keep the texts too: ours, sqlite-vec, LanceDB. Their own defaults unless said here."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.search.collection import EXTRA, Found, Opened, Writer
from bench.search.libraries import bits
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.extras import require
from edge_embed_runtime.vectors.int8 import quantize_int8

if TYPE_CHECKING:
    Vectors = NDArray[np.float32]
    Ids = NDArray[np.int64]

FILE = "index.db"
# LanceDB: float vectors score what the graph over int8 proposes, this many for each hit.
REFINE = 2


@dataclass(frozen=True)
class Ours:
    """The setting is `recall` in thousandths; 0: as it comes."""

    def writer(self, folder: Path, dim: int, _: int) -> Writer:
        from edge_embed_runtime.index.index import Index
        from edge_embed_runtime.storage.documents import Document

        index = Index.create(folder / FILE, space="benchmark", dim=dim)

        def add(ids: "Ids", vectors: "Vectors", texts: Sequence[str]) -> None:
            documents = [Document(str(i), text) for i, text in zip(ids.tolist(), texts, strict=True)]
            index.add_vectors(documents, vectors)

        return Writer(add, close=index.close)

    def open(self, folder: Path, _: int) -> Opened:
        from edge_embed_runtime.index.index import Index
        from edge_embed_runtime.search.query import RECALL

        index = Index.open(folder / FILE)

        def search(query: NDArray[np.float32], k: int, setting: int) -> Found:
            hits = index.search(vector=query, k=k, recall=setting / 1000 if setting else RECALL)
            return [int(hit.key) for hit in hits], [hit.text for hit in hits]

        return Opened(search, lambda: len(index))


# kind -> columns of the vec0 table
SQLITE_VEC = {
    "f32": "vector float[{dim}]",
    "i8": "vector int8[{dim}] distance_metric=cosine",
    "b1": "vector float[{dim}], bits bit[{dim}]",
}
_NEAREST = {
    "f32": "SELECT rowid AS id, distance FROM vectors WHERE vector MATCH :vector AND k = :k",
    "i8": "SELECT rowid AS id, distance FROM vectors WHERE vector MATCH vec_int8(:codes) AND k = :k",
    # as its guide to binary quantization has it
    "b1": """
        SELECT id, vec_distance_L2(vector, :vector) AS distance
        FROM (SELECT rowid AS id, vector FROM vectors WHERE bits MATCH vec_bit(:bits) AND k = :candidates)
        ORDER BY distance LIMIT :k""",
}


@dataclass(frozen=True)
class SqliteVec:
    """kind: "f32", "i8", or "b1": bits propose `setting` candidates, float vectors score them."""

    kind: str

    def _connect(self, folder: Path) -> sqlite3.Connection:
        extension = require("sqlite_vec", EXTRA)
        connection = sqlite3.connect(folder / FILE)
        if not hasattr(connection, "enable_load_extension"):
            raise InputError("the sqlite3 of this Python cannot load extensions")
        connection.enable_load_extension(True)
        extension.load(connection)
        return connection

    def writer(self, folder: Path, dim: int, _: int) -> Writer:
        connection = self._connect(folder)
        with connection:
            connection.execute("CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT)")
            connection.execute(f"CREATE VIRTUAL TABLE vectors USING vec0({SQLITE_VEC[self.kind].format(dim=dim)})")
        places = {"f32": "(rowid, vector) VALUES (?, ?)", "i8": "(rowid, vector) VALUES (?, vec_int8(?))"}
        insert = "INSERT INTO vectors " + places.get(self.kind, "(rowid, vector, bits) VALUES (?, ?, vec_bit(?))")

        def add(ids: "Ids", vectors: "Vectors", texts: Sequence[str]) -> None:
            columns: list[NDArray[Any]] = [quantize_int8(vectors)[0] if self.kind == "i8" else vectors]
            columns += [bits(vectors)] if self.kind == "b1" else []
            with connection:
                connection.executemany("INSERT INTO texts VALUES (?, ?)", zip(ids.tolist(), texts, strict=True))
                connection.executemany(insert, zip(ids.tolist(), *(map(bytes, c) for c in columns), strict=True))

        return Writer(add, close=connection.close)

    def open(self, folder: Path, _: int) -> Opened:
        connection = self._connect(folder)
        statement = f"SELECT id, text FROM ({_NEAREST[self.kind]}) JOIN texts USING (id) ORDER BY distance"

        def search(query: NDArray[np.float32], k: int, setting: int) -> Found:
            values: dict[str, Any] = {"k": k, "candidates": setting, "vector": query.tobytes()}
            if self.kind == "i8":
                values["codes"] = quantize_int8(query[None])[0].tobytes()
            if self.kind == "b1":
                values["bits"] = bits(query[None]).tobytes()
            rows = connection.execute(statement, values).fetchall()
            return [row[0] for row in rows], [row[1] for row in rows]

        return Opened(search, lambda: int(connection.execute("SELECT count(*) FROM texts").fetchone()[0]))


@dataclass(frozen=True)
class LanceDb:
    """graph: an index IVF_HNSW_SQ (the setting is ef), else every vector is compared."""

    graph: bool = False

    def writer(self, folder: Path, dim: int, _: int) -> Writer:
        lancedb, arrow = require("lancedb", EXTRA), require("pyarrow", EXTRA)
        kinds = [("id", arrow.int64()), ("vector", arrow.list_(arrow.float32(), dim)), ("text", arrow.string())]
        table = lancedb.connect(folder / "lance").create_table("vectors", schema=arrow.schema(kinds))

        def add(ids: "Ids", vectors: "Vectors", texts: Sequence[str]) -> None:
            values = arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.ravel()), dim)
            columns = [arrow.array(ids), values, arrow.array(texts, arrow.string())]
            table.add(arrow.table(columns, schema=table.schema))

        def save() -> None:
            if self.graph:
                table.create_index("vector", config=require("lancedb.index", EXTRA).HnswSq(distance_type="dot"))

        return Writer(add, save)

    def open(self, folder: Path, _: int) -> Opened:
        table = require("lancedb", EXTRA).connect(folder / "lance").open_table("vectors")

        def search(query: NDArray[np.float32], k: int, setting: int) -> Found:
            asked = table.search(query, "vector").distance_type("dot").select(["id", "text", "_distance"]).limit(k)
            if self.graph:
                asked = asked.ef(max(k * REFINE, setting)).refine_factor(REFINE)
            found = asked.to_arrow()
            return found["id"].to_pylist(), found["text"].to_pylist()

        return Opened(search, table.count_rows)
