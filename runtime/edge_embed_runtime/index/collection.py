"""An index as a collection: documents by condition and by key, values of their fields, and changes of metadata."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from sys import getsizeof
from typing import Any, get_args

import numpy as np

from edge_embed_runtime.checks import check_count, check_text, listed, unusable
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.index.connections import Connections
from edge_embed_runtime.search.query import MAX_HITS
from edge_embed_runtime.storage.documents import Document, check_key, metadata_json
from edge_embed_runtime.storage.fields import Value, ValueCount, check_fields, check_known, value_range, values
from edge_embed_runtime.storage.filters import EVERY, Condition, check_field, compile_where
from edge_embed_runtime.storage.pages import Order, Pages, by_value
from edge_embed_runtime.storage.rows import StoredDocument
from edge_embed_runtime.storage.store import Store, damaged_document
from edge_embed_runtime.system.headroom import Credit
from edge_embed_runtime.vectors.int8 import dequantize
from edge_embed_runtime.vectors.normalize import normalize
from edge_embed_runtime.vectors.types import Ids, Vectors

# For a memory budget: bytes that a call takes in any case; of each number of a vector; of a value besides its text.
READ_BYTES = 4 << 20
NUMBER_BYTES, VALUE_BYTES = 16, 256

Where = Mapping[str, Any]
# Keys, or a condition.
Chosen = str | Iterable[str] | Where


class Collection:
    """What `Index.find` and the like do."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def find(self, where: Where | None, limit: int | None, offset: int, order: Order) -> Iterator[Document]:
        if order not in get_args(Order):
            raise unusable("order", order, f"one of {', '.join(get_args(Order))}")
        limit = None if limit is None else check_count(limit, "limit", 0)
        offset = min(check_count(offset, "offset", 0), MAX_HITS)
        with self._connections.reading() as store:
            pages = Pages(where, store, limit, offset, order)
            first = self._page(store, pages)
            if not first:
                with store.snapshot():
                    check_fields(store, where, pages.condition)
        return self._pages(first, pages)

    def _pages(self, page: list[Document], pages: Pages) -> Iterator[Document]:
        while page:
            yield from page
            with self._connections.reading() as store:  # other threads may read and write in between
                page = self._page(store, pages)

    def _page(self, store: Store, pages: Pages) -> list[Document]:
        with store.snapshot(), self._credit() as credit:
            page: list[Document] = []
            while not page and (found := pages.read(store, credit)):
                _use_places(store, credit, found)
                documents = list(store.complete(found))
                pages.damaged += [one.id for one, whole in zip(found, documents, strict=True) if whole is None]
                page = [document for document in documents if document is not None]
            if pages.damaged:
                self._connections.search.damaged.update(store.passage_ids(pages.damaged))
                pages.damaged.clear()
            return page

    def count(self, where: Where | None) -> int:
        with self._connections.reading() as store, store.snapshot():
            if where is None:
                return store.counts()[0]
            condition = _condition(store, where)
            count = store.count_documents(condition)
            if not count:
                check_fields(store, where, condition)
            return count

    def get_many(self, keys: str | Iterable[str]) -> list[Document | None]:
        wanted = check_keys(keys, "get_many")
        asked = dict.fromkeys(wanted)
        with self._connections.reading() as store, store.snapshot(), self._credit() as credit:
            found: dict[str, StoredDocument] = {}
            for _, key, document in by_value(store, credit, "key", asked):
                if document is None or key not in asked:
                    raise damaged_document(store.path, key)
                found[key] = document
            _use_places(store, credit, list(found.values()))
            documents = {document.key: document for document in store.with_places(list(found.values()))}
        return [documents.get(key) for key in wanted]

    def vectors(self, keys: str | Iterable[str]) -> dict[str, Vectors]:
        wanted = dict.fromkeys(check_keys(keys, "vectors"))
        with self._connections.reading() as store, store.snapshot(), self._credit() as credit:
            store.counters()  # the facts of what is committed now
            if not store.dim:
                kinds = " and ".join(store.facts.attached)
                raise InputError(f"{store.path} holds no dense vectors, only {kinds} ones", path=store.path)
            found: dict[str, Vectors] = {}
            for key, doc in store.ids_of(wanted).items():
                passages = store.passages_of([doc])
                if passages.damaged:
                    raise damaged_document(store.path, key)
                if credit is not None:
                    credit.use(NUMBER_BYTES * passages.codes.size + VALUE_BYTES, f"{len(wanted)} keys were given")
                found[key] = normalize(dequantize(passages.codes, passages.scales))
        return found

    def field_values(self, field: str, where: Where | None, limit: int) -> list[ValueCount]:
        field, limit = check_field(field), min(check_count(limit, "limit", 1), MAX_HITS)
        with self._connections.reading() as store, store.snapshot(), self._credit() as credit:
            condition = _condition(store, where)
            found = []
            for value in values(store, field, condition, limit):
                if credit is not None:
                    credit.use(VALUE_BYTES + getsizeof(value.value), f"{field!r:.80} has values of such a size")
                found.append(value)
            if not found:
                _check_asked(store, field, where, condition)
        return found

    def field_range(self, field: str, where: Where | None) -> tuple[Value, Value] | None:
        field = check_field(field)
        with self._connections.reading() as store, store.snapshot(), self._credit():
            condition = _condition(store, where)
            found = value_range(store, field, condition)
            if found is None:
                _check_asked(store, field, where, condition)
        return found

    def delete(self, keys: str | Iterable[str] | None, where: Where | None) -> int:
        if (keys is None) == (where is None):
            raise InputError(
                'delete takes either keys or where=...; where={"$key": {"$prefix": ""}} fits every document'
            )
        wanted = None if keys is None else check_keys(keys, "delete")
        with self._connections.writing() as store:
            if where is None:
                return self._connections.delete(store.existing(wanted or []))
            with store.snapshot():
                ids = self._fitting(store, where)
            return self._connections.delete(ids)

    def update_metadata(self, chosen: Chosen, changes: Mapping[str, Any], remove: Iterable[str]) -> int:
        from edge_embed_runtime.storage.writing import update

        removed = _check_changes(changes, remove)
        keys = None if isinstance(chosen, Mapping) else check_keys(chosen, "update_metadata")
        with self._connections.writing() as store:
            with store.snapshot():
                ids = self._fitting(store, chosen) if isinstance(chosen, Mapping) else _known(store, keys or [])
            with self._connections.storing([], 0):
                return update(store, ids, changes, removed, pass_damaged=keys is None)

    def _fitting(self, store: Store, where: Where) -> Ids:
        """Ids of the documents that fit."""
        condition = compile_where(where, store.facts.fields)
        ids = store.document_ids(condition)
        if not len(ids):
            check_fields(store, where, condition)
        return ids

    @contextmanager
    def _credit(self) -> Iterator[Credit | None]:
        """Memory for reading, where there is a budget."""
        room = self._connections.room
        if room is None:
            yield None
            return
        with room.take(READ_BYTES, lambda left: f"reading documents takes 4 MB; {room.least(READ_BYTES, left)}"):
            yield Credit(room, READ_BYTES)


def _use_places(store: Store, credit: Credit | None, found: list[StoredDocument]) -> None:
    """Reserve memory for the places of documents. Raises MemoryBudgetError."""
    if credit is not None and store.places is not None:
        size = store.places.bytes_of(document.id for document in found)
        credit.use(size, f"{len(found)} documents have places that take {size:,} bytes")


def _known(store: Store, keys: list[str]) -> Ids:
    return np.fromiter(store.known_ids(keys, "keys", "; nothing was changed").values(), np.int64)


def check_keys(keys: object, what: str) -> list[str]:
    """A key or several, as a list. Raises InputError."""
    if isinstance(keys, Mapping | Document | bytes) or not isinstance(keys, Iterable):
        raise InputError(f"{what} takes a key or a list of keys, got {type(keys).__name__}", option="keys")
    return [check_key(key) for key in ([keys] if isinstance(keys, str) else keys)]


def _condition(store: Store, where: Where | None) -> Condition:
    return EVERY if where is None else compile_where(where, store.facts.fields)


def _check_asked(store: Store, field: str, where: Where | None, condition: Condition) -> None:
    """Raise FilterError where a field of which nothing was found, or one of the condition, is in no document."""
    if store.any_document():
        check_fields(store, where, condition)
        check_known(store, field)


def _check_changes(changes: object, remove: object) -> frozenset[str]:
    """Raise InputError for what cannot be changed in metadata; gives the fields to remove."""
    if not isinstance(changes, Mapping):
        raise InputError(f"changes is {type(changes).__name__}, expected a dict of fields", option="changes")
    if isinstance(remove, str | Mapping) or not isinstance(remove, Iterable):
        raise InputError(f"remove is {type(remove).__name__}, expected a list of fields", option="remove")
    metadata_json(changes, "changes")
    fields = frozenset(check_text(field, "remove: a field") for field in remove)
    if both := sorted(fields & changes.keys()):
        raise InputError(f"set and removed at once: {listed(both)}", option="remove")
    if not changes and not fields:
        raise InputError("nothing is to be changed: give changes, or fields to remove", option="changes")
    return fields
