"""Documents that fit a condition, in the order of their keys or as they were stored: a page at a time, so that memory
stays bounded."""

import json
import sqlite3
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from typing import Any, Literal

from edge_embed_runtime.checks import shown
from edge_embed_runtime.errors import IndexDamagedError
from edge_embed_runtime.storage.filters import EVERY, compile_where
from edge_embed_runtime.storage.pieces import parsed_bytes
from edge_embed_runtime.storage.rows import DOCUMENTS, StoredDocument, checked
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.headroom import Credit

# Documents of a page, and characters of their texts and metadata, after which it ends.
PAGE, PAGE_CHARACTERS = 256, 2**18
# For a memory budget, copies of a text from the file to the caller.
COPIES = 4
# Where the index on a declared field leads to so few documents, they are sorted; else all are read in order of keys.
FEW = 2048
# A row of `doc` to read: id, key and crc.
HEADS = "SELECT id, key, crc FROM doc"
BY_KEY = "INDEXED BY sqlite_autoindex_doc_1"

# By key, by code point; or as they were stored, what is replaced as if it came new.
Order = Literal["key", "stored"]
# The id and key of a row, and what it holds; None where it is damaged.
Found = tuple[int, str, StoredDocument | None]


class Pages:
    """The documents that fit a `where`, None for all; what was read is not read again, whatever is written meanwhile.

    limit:   the number of documents that are still wanted, None for all
    offset:  how many are passed over first
    damaged: ids of documents that fit and are damaged
    """

    def __init__(
        self, where: Mapping[str, Any] | None, store: Store, limit: int | None, offset: int, order: Order = "key"
    ) -> None:
        declared = store.facts.fields
        self.where, self.condition = where, EVERY if where is None else compile_where(where, declared)
        self.damaged: list[int] = []
        self._limit, self._offset, self._order = limit, offset, order
        self._after = b""  # the last key that was read
        self._after_id = 0  # the last id, which is what counts where they come as they were stored
        self._sorted = where is not None and _asks_one_of(declared, where)

    def read(self, store: Store, credit: Credit | None) -> list[StoredDocument]:
        """The next documents; none at the end. Runs inside a snapshot."""
        page: list[StoredDocument] = []
        size = 0
        if self._limit == 0:
            return page
        with closing(self._rows(store, credit)) as rows:
            for id_, key, document in rows:
                self._pass(store, id_, key)
                if document is None:
                    self.damaged.append(id_)
                    continue
                page.append(document)
                size += len(document.text)
                if self._limit is not None:
                    self._limit -= 1
                if len(page) == PAGE or size >= PAGE_CHARACTERS or self._limit == 0:
                    break
            else:
                self._limit = 0
        return page

    def _pass(self, store: Store, id_: int, key: str) -> None:
        self._after_id, self._offset = id_, 0
        if self._order == "stored":
            return
        raw = key.encode("utf-8", "surrogateescape")
        if raw <= self._after:
            raise IndexDamagedError(
                f"{store.path} is damaged (its keys are not in order, at {shown(key)}); `repair` makes them again",
                path=store.path,
            )
        self._after = raw

    def _rows(self, store: Store, credit: Credit | None) -> Generator[Found]:
        condition, parameters = self.condition
        stored = self._order == "stored"
        after = self._after_id if stored else self._after
        if self._sorted:
            behind, column = ("+id > ?", "id") if stored else ("+key > CAST(? AS TEXT)", "key")
            query = f"SELECT id, key FROM doc WHERE {behind} AND {condition} LIMIT {FEW + 1}"
            found = store.connection.execute(f"SELECT id FROM ({query}) ORDER BY {column}", (after, *parameters))
            ids = [id_ for (id_,) in found.fetchall()]
            self._sorted = len(ids) <= FEW
            if self._sorted:
                return by_value(store, credit, "id", ids[self._offset :])
        behind, column = (
            ("NOT INDEXED WHERE id > ?", "id") if stored else (f"{BY_KEY} WHERE key > CAST(? AS TEXT)", "key")
        )
        tail = f"{behind} AND {condition} ORDER BY {column} LIMIT -1 OFFSET ?"
        return _documents(store, credit, tail, (after, *parameters, self._offset))


def _asks_one_of(declared: Iterable[str], where: Mapping[str, Any]) -> bool:
    """Whether every document that fits must fit a condition on a declared field."""
    parts = where.get("$and", ())
    return any(field in where for field in declared) or any(_asks_one_of(declared, part) for part in parts)


def by_value(store: Store, credit: Credit | None, column: str, values: Iterable[int | str]) -> Generator[Found]:
    """Documents by their ids or keys, in that order, as far as they are there. Runs inside a snapshot."""
    for value in values:
        yield from _documents(store, credit, f"WHERE {column} = ?", (value,))


def _documents(store: Store, credit: Credit | None, tail: str, parameters: tuple[Any, ...]) -> Generator[Found]:
    query = f"{DOCUMENTS if credit is None else HEADS} {tail}"
    with closing(store.connection.execute(query, parameters)) as rows:
        for row in rows:
            yield row[0], str(row[1]), checked(row) if credit is None else _in_pieces(store, credit, row)


def _in_pieces(store: Store, credit: Credit, head: tuple[int, str, int]) -> StoredDocument | None:
    """A document, None where it is damaged. Raises MemoryBudgetError before there is too much of it."""
    try:
        with closing(store.row(head)) as row:
            text, metadata = row.text_bytes, row.metadata_bytes
            said = f"the document {shown(head[1])} has {text:,} bytes of text and {metadata:,} of metadata"
            credit.use(COPIES * (text + metadata), said)
            found = row.read((0, text))
            if found is None:
                return None
            credit.use(parsed_bytes(found[1]), said)
            return StoredDocument(head[0], head[1], found[0], json.loads(found[1]))
    except sqlite3.OperationalError:  # no text
        return None
