"""What an index file holds: documents and passages by id, key and condition. Its tables: schema.py."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_embed_runtime.checks import SHOWN_CHARACTERS, listed, shown
from edge_embed_runtime.errors import IndexDamagedError, InputError
from edge_embed_runtime.inputs.words import Span
from edge_embed_runtime.storage.bitblocks import BLOCK, Blocks
from edge_embed_runtime.storage.database import translated
from edge_embed_runtime.storage.documents import Document, Place, Record
from edge_embed_runtime.storage.filters import EVERY, METADATA, Condition
from edge_embed_runtime.storage.indexfile import IndexFile
from edge_embed_runtime.storage.pieces import Row
from edge_embed_runtime.storage.rows import (
    BOTH,
    DOCUMENTS,
    LONG,
    PASSAGES,
    PassageRow,
    StoredDocument,
    StoredPassages,
    checked,
    checked_passages,
    is_text,
    is_whole,
    whole_document,
)
from edge_embed_runtime.storage.schema import Facts
from edge_embed_runtime.storage.words import WordTable
from edge_embed_runtime.vectors.bits import binarize
from edge_embed_runtime.vectors.int8 import dequantize
from edge_embed_runtime.vectors.types import Ids, Int8Codes, Vectors, Words

if TYPE_CHECKING:
    from edge_embed_runtime.storage.media import Media
    from edge_embed_runtime.storage.mediatable import MediaTable
    from edge_embed_runtime.storage.places import Places
    from edge_embed_runtime.storage.sidetables import Attached

# Passages that are read at once when all are: 3 MB at 384 dimensions.
LOAD_BLOCK = 8192
# Ids that a query is asked for at a time.
ASKED = 2048
# What SQLite takes at most where nothing else is said.
MAX_VALUE = 10**9
# Ids beyond this are damage, not growth.
MAX_ID = 2**62


class Store(IndexFile):
    """An open index file with its tables. Not safe for use by two threads at once: Index holds the lock."""

    def _use(self, facts: Facts | None) -> None:
        super()._use(facts)
        if facts is None:
            return
        self.blocks = Blocks(self._db, facts.dim, self.derive_block)
        self.words = WordTable(self._db, self.path, facts.normal)
        self.attached: dict[str, Attached] = {}
        if facts.attached:
            from edge_embed_runtime.storage import sidetables  # most indexes have none

            for name, model in facts.attached.items():
                self.attached[name] = sidetables.Attached(self._db, name, model.dim)

    def last_ids(self) -> tuple[int, int]:
        """The largest ids so far: of a document, and of a passage, those that are deleted included."""
        (doc,) = self._db.execute("SELECT ifnull(max(id), 0) FROM doc").fetchone()
        sequence = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'vec'"
        (last,) = self._db.execute(f"SELECT max(({sequence}), (SELECT ifnull(max(id), 0) FROM vec))").fetchone()
        if not (isinstance(last, int) and isinstance(doc, int) and max(last, doc) < MAX_ID):
            raise IndexDamagedError(f"{self.path} is damaged (its row ids have no successor)", path=self.path)
        return doc, last

    def binary(self, codes: Int8Codes, scales: Vectors) -> Words:
        """Binary codes [n, words] of int8 codes [n, dim]: the only way in which they are made."""
        return binarize(self.frame.place(dequantize(codes, scales)))

    def derive_block(self, block: int) -> tuple[Ids, Words]:
        """What belongs in a block of binary codes: ids and words of its passages that are whole."""
        query = f"{PASSAGES} WHERE id >= ? AND id < ? ORDER BY id"
        rows = self._db.execute(query, (block * BLOCK, (block + 1) * BLOCK)).fetchall()
        found = checked_passages(rows, self.dim)
        return found.ids, self.binary(found.codes, found.scales)

    def counts(self) -> tuple[int, int]:
        """(documents, passages)."""
        with translated(self.path):
            (counts,) = self._db.execute("SELECT (SELECT count(*) FROM doc), (SELECT count(*) FROM vec)")
            return counts[0], counts[1]

    def document(self, key: str) -> StoredDocument | None:
        """One document by key. Raises IndexDamagedError when its checksum does not fit."""
        with translated(self.path):
            row = self._db.execute(f"{DOCUMENTS} WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        document = checked(row)
        if document is None or document.key != key:
            raise damaged_document(self.path, key)
        return document

    @property
    def gaps(self) -> bool:
        """Whether rows of `vec` may have no vector: those of given vectors, and captions that no model reads."""
        return self.facts.space or self.has_optional("media")

    @property
    def places(self) -> "Places | None":
        """The table of places; None where no document ever had any."""
        if not self.has_optional("place"):
            return None
        from edge_embed_runtime.storage.places import Places

        return Places(self._db)

    def places_of(self, ids: Iterable[int]) -> dict[int, tuple[Place, ...] | None]:
        """The places of documents by id, those without any left out; None where they are damaged."""
        table = self.places
        return {} if table is None else table.of(ids)

    @property
    def media(self) -> "MediaTable | None":
        """The table of pictures and sounds; None where no document ever had any."""
        if not self.has_optional("media"):
            return None
        from edge_embed_runtime.storage.mediatable import MediaTable

        return MediaTable(self._db)

    def media_of(self, ids: Iterable[int]) -> "dict[int, Media | None]":
        """What is known of the pictures and sounds of documents, those without any left out; None where damaged."""
        table = self.media
        return {} if table is None else table.of(ids)

    def complete(self, found: Sequence[StoredDocument]) -> Iterator[Document | None]:
        """Documents with their places, pictures and sounds, read in the caller's snapshot; None where any of these is
        damaged."""
        ids = [document.id for document in found]
        places, media = self.places_of(ids), self.media_of(ids)
        for one in found:
            own, known = places.get(one.id, ()), media.get(one.id, ())
            if own is None or known is None:
                yield None
            elif not known:
                yield Document(one.key, one.text, one.metadata, own)
            else:
                more: dict[str, Any] = {known.kind: known, "time": known.time}
                yield Document(one.key, one.text, one.metadata, own, **more)

    def with_places(self, found: Sequence[StoredDocument]) -> list[Document]:
        """`complete`. Raises IndexDamagedError where a part of one is damaged."""
        documents = list(self.complete(found))
        damaged = [one for one, document in zip(found, documents, strict=True) if document is None]
        if damaged:
            one = damaged[0]
            places = self.places_of([one.id]).get(one.id, ()) is None
            what = "the places of" if places else "the facts on the picture or sound of"
            raise IndexDamagedError(
                f"{self.path}: {what} the document {shown(one.key)} are damaged (a checksum does not fit)",
                path=self.path,
                keys=[one.key for one in damaged],
            )
        return [document for document in documents if document is not None]

    def holds(self, record: Record, code: bytes | None = None) -> bool:
        """Whether a document is stored with this text, metadata, places, and picture or sound, every row of it whole;
        where one is given, with this code, see `rows.packed`."""
        with translated(self.path):
            row = self._find(record)
            if row is None or self.places_of(row).get(row[0], ()) != record.places:
                return False
            if self.media_of(row).get(row[0], ()) != _media(record):
                return False
            query = f"{PASSAGES} WHERE doc = ?"
            passages = self._db.execute(query, row[:1]).fetchall()
            without = record.media is None  # else the vector is that of a picture or sound
            same = code is None or all(row[4] == code for row in passages if is_text(row) == without)
            return bool(passages) and same and self._are_whole(passages)

    def unchanged(self, records: Sequence[Record]) -> set[str]:
        """Keys of the records that are stored as they are, see `holds`: a few queries for all of them, where `holds`
        asks some for each."""
        by_key = {record.key: record for record in records}
        found: dict[int, str] = {}
        with translated(self.path):
            query = f"{DOCUMENTS} WHERE key IN (SELECT value FROM json_each(?))"
            for row in self._db.execute(query, (json.dumps(list(by_key)),)):
                record = by_key.get(row[1])
                same = record is not None and row[2] == record.text and row[3] == record.metadata
                if same and whole_document(row):
                    found[row[0]] = row[1]
            places, media = self.places_of(found), self.media_of(found)
            found = {doc: key for doc, key in found.items() if places.get(doc, ()) == by_key[key].places}
            found = {doc: key for doc, key in found.items() if media.get(doc, ()) == _media(by_key[key])}
            query = f"{PASSAGES} WHERE doc IN (SELECT value FROM json_each(?)) ORDER BY doc"
            rows = self._db.execute(query, (json.dumps(list(found)),))
            return {found[doc] for doc, passages in groupby(rows, itemgetter(1)) if self._are_whole(list(passages))}

    def _are_whole(self, passages: list[PassageRow]) -> bool:
        """Whether rows of `vec`, and what is attached to each, are whole."""
        ids = [row[0] for row in passages if is_text(row)]
        return all(map(is_whole, passages)) and all(len(t.rows(ids)) == len(ids) for t in self.attached.values())

    def _find(self, record: Record) -> tuple[int] | None:
        """The id of a whole document with this key, text and metadata."""
        if len(record.text) + len(record.metadata) < LONG:
            query = f"{DOCUMENTS} WHERE key = ? AND text = ? AND metadata = ?"
            found = self._db.execute(query, (record.key, record.text, record.metadata)).fetchone()
            return None if found is None or checked(found) is None else found[:1]
        found = self._db.execute("SELECT id, key, crc FROM doc WHERE key = ?", (record.key,)).fetchone()
        if found is None or found[1] != record.key:
            return None
        try:
            with closing(Row(self._db, *found)) as row:
                return found[:1] if row.holds(record.text, record.metadata) else None
        except sqlite3.OperationalError:  # no text
            return None

    def heads(self, ids: Iterable[int], where: Condition = EVERY) -> dict[int, tuple[int, str, int]]:
        """(id, key, crc) of documents by id that fit a condition, to read in pieces."""
        query = f"SELECT id, key, crc FROM doc WHERE id IN (SELECT value FROM json_each(?)) AND {where[0]}"
        rows = self._db.execute(query, (json.dumps(list(ids)), *where[1])).fetchall()
        return {id_: (id_, key, crc) for id_, key, crc in rows if isinstance(key, str)}

    def row(self, head: tuple[int, str, int]) -> Row:
        """A document to read in pieces. Raises sqlite3.OperationalError where it holds no text."""
        return Row(self._db, *head)

    def limit_values(self, size: int) -> None:
        """Let SQLite read and write no text longer than so many bytes: MemoryBudgetError is raised for one that is."""
        block = 2 * BLOCK * self.dim // 8  # of binary codes, which have to be read
        self._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, min(max(size, block), MAX_VALUE))

    def with_documents(
        self, passages: Iterable[int], where: Condition = EVERY
    ) -> dict[tuple[int, int], tuple[StoredDocument, Span]]:
        """Passages by id whose documents fit a condition, by (document id, passage id): the document, and where in it
        the passage lies. Where either is damaged, both are left out."""
        query = f"{BOTH} WHERE vec.id IN (SELECT value FROM json_each(?)) AND {where[0]}"
        rows = self._db.execute(query, (json.dumps(list(passages)), *where[1])).fetchall()
        return {
            (row[0], row[5]): (document, row[7:9])
            for row in rows
            if is_whole(row[5:]) and (document := checked(row[:5])) is not None
        }

    def existing(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that are in the index."""
        query = "SELECT key FROM doc WHERE key IN (SELECT value FROM json_each(?))"
        with translated(self.path):
            found = self._db.execute(query, (json.dumps(list(keys)),)).fetchall()
        return {key for (key,) in found}

    def keys(self, prefix: str, after: str, count: int) -> list[str]:
        """The first keys that begin so and come behind another one, in order of their code points."""
        query = "SELECT key FROM doc WHERE key >= ? AND key > ? ORDER BY key LIMIT ?"
        with translated(self.path):
            rows = self._db.execute(query, (prefix, after, count)).fetchall()
        return [key for (key,) in rows if key.startswith(prefix)]

    def all_passages(self) -> Iterator[StoredPassages]:
        """Every passage, many at a time, in ascending order of ids, so that memory stays bounded."""
        rows = self._db.execute(f"{PASSAGES} ORDER BY id")
        while block := rows.fetchmany(LOAD_BLOCK):
            yield checked_passages(block, self.dim)

    def passages(self, ids: Ids) -> StoredPassages:
        """Passages by id; ascending ids."""
        query = f"{PASSAGES} WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
        if len(ids) <= ASKED:
            return checked_passages(self._db.execute(query, (json.dumps(ids.tolist()),)).fetchall(), self.dim)
        found = StoredPassages(
            np.empty(len(ids), np.int64),
            np.empty(len(ids), np.int64),
            np.empty((len(ids), self.dim), np.int8),
            np.empty(len(ids), np.float32),
            [],
            [],
        )
        stop = 0
        for i in range(0, len(ids), ASKED):
            rows = self._db.execute(query, (json.dumps(ids[i : i + ASKED].tolist()),)).fetchall()
            part = checked_passages(rows, self.dim)
            start, stop = stop, stop + len(part.ids)
            for name in ("ids", "docs", "codes", "scales"):
                getattr(found, name)[start:stop] = getattr(part, name)
            found.damaged.extend(part.damaged)
            found.bare.extend(part.bare)
        ids, docs, codes, scales = found.ids[:stop], found.docs[:stop], found.codes[:stop], found.scales[:stop]
        return StoredPassages(ids, docs, codes, scales, found.damaged, found.bare)

    def allowed(self, where: Condition) -> Ids:
        """Ids of the passages whose documents fit a condition."""
        query = f"SELECT vec.id FROM doc JOIN vec ON vec.doc = doc.id WHERE {where[0]}"
        rows = self._db.execute(query, where[1])
        parts = [np.empty(0, np.int64)]
        while part := rows.fetchmany(LOAD_BLOCK):
            parts.append(np.fromiter(chain.from_iterable(part), np.int64, len(part)))
        return np.concatenate(parts)

    def count_allowed(self, where: Condition) -> int:
        """Passages whose documents fit a condition."""
        query = f"SELECT count(*) FROM doc JOIN vec ON vec.doc = doc.id WHERE {where[0]}"
        return int(self._db.execute(query, where[1]).fetchone()[0])

    def spans(self, ids: Iterable[int]) -> dict[int, Span]:
        """Where passages lie in their documents; damaged ones are left out."""
        query = f"{PASSAGES} WHERE id IN (SELECT value FROM json_each(?))"
        rows = self._db.execute(query, (json.dumps(list(ids)),)).fetchall()
        return {row[0]: (row[2], row[3]) for row in rows if is_whole(row)}

    def count_documents(self, where: Condition) -> int:
        """Documents that fit a condition."""
        query = f"SELECT count(*) FROM doc WHERE {where[0]}"
        return int(self._db.execute(query, where[1]).fetchone()[0])

    def document_ids(self, where: Condition) -> Ids:
        """Ids of the documents that fit a condition."""
        rows = self._db.execute(f"SELECT id FROM doc WHERE {where[0]}", where[1])
        return np.fromiter(chain.from_iterable(rows), np.int64)

    def ids_of(self, keys: Iterable[str]) -> dict[str, int]:
        """Ids of documents by key, in the order of the keys; unknown ones are left out."""
        wanted = list(keys)
        if not wanted:
            return {}
        query = "SELECT key, id FROM doc WHERE key IN (SELECT value FROM json_each(?))"
        found = dict(self._db.execute(query, (json.dumps(wanted),)).fetchall())
        return {key: found[key] for key in wanted if key in found}

    def known_ids(self, keys: Sequence[str], option: str, end: str = "") -> dict[str, int]:
        """As `ids_of`. Raises InputError where one is not there. option: what the keys were given for"""
        found = self.ids_of(keys)
        if missing := [key for key in dict.fromkeys(keys) if key not in found]:
            said = f"{option}: not in the index: {listed(missing, 5, quoted=True)}{end}"
            raise InputError(said, code="key_not_found", option=option, path=self.path, keys=missing)
        return found

    def passage_ids(self, docs: Iterable[int]) -> list[int]:
        """Ids of the passages of documents, whole or not."""
        query = "SELECT id FROM vec WHERE doc IN (SELECT value FROM json_each(?))"
        return [id_ for (id_,) in self._db.execute(query, (json.dumps(list(docs)),))]

    def passages_of(self, docs: Iterable[int]) -> StoredPassages:
        """Passages of documents, those of each in their order."""
        query = f"{PASSAGES} WHERE doc IN (SELECT value FROM json_each(?)) ORDER BY doc, id"
        return checked_passages(self._db.execute(query, (json.dumps(list(docs)),)).fetchall(), self.dim)

    def any_document(self, where: Condition = EVERY) -> bool:
        """Whether any document fits a condition."""
        query = f"SELECT 1 FROM doc WHERE {where[0]} LIMIT 1"
        return self._db.execute(query, where[1]).fetchone() is not None

    def fields(self, limit: int = 1000) -> list[str]:
        """Names of metadata fields, the first that are met, and of each what a message shows."""
        name = f"substr(field.key, 1, {SHOWN_CHARACTERS + 1})"
        query = f"SELECT DISTINCT {name} FROM doc, json_each({METADATA}) AS field LIMIT ?"
        return [str(name) for (name,) in self._db.execute(query, (limit,))]


def _media(record: Record) -> "Media | tuple[()]":
    """What is to be known of a record's picture or sound; () without one."""
    return () if record.media is None else record.media.media


def damaged_document(path: Path, key: str) -> IndexDamagedError:
    """What to raise where a document was asked for by key and is not whole."""
    return IndexDamagedError(
        f"{path}: the document {shown(key)} is damaged (its checksum does not fit)", path=path, keys=[key]
    )
