"""What an index file is made of: its tables and the facts that never change.

meta  facts about the index (`Facts`), and counters: generation (commits), deletions (commits that took rows away)
doc   documents: key, text, metadata as JSON, crc32 over all of them; an index on each declared field of the metadata
vec   passages: where they lie in their document, float32 scale + int8 code, crc32 over all of them
bits  binary codes, made of the int8 codes, in blocks of 256 passages, crc32 over each: read whole when searching begins
fts   FTS5 over the passages' texts, without a copy of them (contentless)

place where pages, chapters and headings begin in documents, crc32 over each row (places.py); comes with the first
      document that has places
media what is known of documents' pictures and sounds, and thumbnails, crc32 over each (mediatable.py); comes with the
      first document that has one
file  what is known of the files that documents come from (filerecords.py); comes with the first `add` of a folder

vec_sparse, vec_multi  where another model makes sparse vectors or vectors of tokens of the passages: a row for each of
                       them, crc32 over all of it (sidetables.py)
"""

import json
import re
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from edge_embed_runtime.errors import IndexDamagedError, IndexFormatError, InputError
from edge_embed_runtime.inputs.words import FORMS
from edge_embed_runtime.storage.database import RESTORE, wal_bytes
from edge_embed_runtime.storage.filters import field_value
from edge_embed_runtime.vectors.kinds import KINDS
from edge_embed_runtime.vectors.rotation import NONE, Frame

SCHEMA = 2
COUNTERS = ("generation", "deletions")
# Rows of `meta` with checksums of their own: what `rebuild` measured of a graph over the binary codes; and how many
# passages there were when the rotation of these was learned last.
GRAPH, LEARNED = "graph", "learned"
# How a text is split into words: stems of English words; words as they are; any three characters in a row, for
# languages without spaces.
WORDS = {
    "english": "porter unicode61 remove_diacritics 2",
    "plain": "unicode61 remove_diacritics 2",
    "trigram": "trigram",
}
MAX_FIELDS = 32
TABLES = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"
# Tables next to `vec`, by the facts that name their models. Facts of later releases are stored only where they say
# something, so that older files are still whole.
ATTACHED = tuple(kind.name for kind in KINDS.values() if kind.apart)
LATER = (*ATTACHED, "late", "normal")
# The file that a row of `doc` comes from, before and after a change of the row: as `ORIGIN` in storage/root.py.
_BEFORE, _AFTER = (
    f"coalesce(json_extract({row}.metadata, '$.source_file'), json_extract({row}.metadata, '$.source'))"
    for row in ("old", "new")
)
# Tables that an index may have on top of those of `ddl`, by name: made when they are first written (`make_optional`).
# A document that is deleted, replaced or moved takes away what is known of its file, whoever does it.
OPTIONAL = {
    "file": (
        "CREATE TABLE file (key TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime INTEGER NOT NULL,"
        " ctime INTEGER NOT NULL, hash BLOB NOT NULL, reading BLOB NOT NULL, documents INTEGER NOT NULL,"
        " mount TEXT NOT NULL) STRICT, WITHOUT ROWID",
        "CREATE INDEX file_hash ON file (hash)",
        "CREATE TRIGGER file_deleted AFTER DELETE ON doc"
        f" BEGIN DELETE FROM file WHERE NOT json_valid(old.metadata) OR key = {_BEFORE}; END",
        "CREATE TRIGGER file_moved AFTER UPDATE OF key, metadata ON doc WHEN NOT json_valid(old.metadata)"
        f" OR old.key <> new.key OR {_BEFORE} IS NOT {_AFTER}"
        f" BEGIN DELETE FROM file WHERE NOT json_valid(old.metadata) OR key = {_BEFORE}; END",
    ),
    "media": (
        "CREATE TABLE media (doc INTEGER PRIMARY KEY REFERENCES doc (id) ON DELETE CASCADE, kind TEXT NOT NULL,"
        " source TEXT NOT NULL, sha256 BLOB NOT NULL, time TEXT, vectors INTEGER NOT NULL, thumbcrc INTEGER NOT NULL,"
        " crc INTEGER NOT NULL,"
        " thumbnail BLOB) STRICT",
        "CREATE INDEX media_sha256 ON media (sha256)",
        # rows of pictures and sounds, see rows.MEDIA_STARTS
        "CREATE INDEX media_rows ON vec (start) WHERE start < 0",
    ),
    "place": (
        "CREATE TABLE place (doc INTEGER NOT NULL REFERENCES doc (id) ON DELETE CASCADE, start INTEGER NOT NULL,"
        " number INTEGER NOT NULL, label TEXT NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (doc, start, number))"
        " STRICT, WITHOUT ROWID",
    ),
}
FIELD_NAME = re.compile(r"[^\x00-\x1f\"\\\ud800-\udfff]{1,256}")


class SideModel(NamedTuple):
    """The model that makes the rows of a side table. dim: numbers in a vector, or words in the vocabulary."""

    fingerprint: str
    name: str
    dim: int


@dataclass(frozen=True)
class Facts:
    """What never changes in an index, except by `rebuild` (frame, normal) and `reembed`.

    fingerprint: of the bundle that the vectors come from, or of the space where they were given
    bundle:      the name of that bundle or space
    dim:         numbers in a vector; 0 where there are no dense vectors
    space:       whether vectors are given; otherwise a bundle makes them
    words:       a key of WORDS
    fields:      declared fields of the metadata
    frame:       how binary codes are made
    sparse:      what makes sparse vectors, None where nothing does
    multi:       what makes vectors of tokens, likewise
    late:        whether passages are cut out of their document's pass through the model (passages/late.py)
    normal:      the Unicode form of the words in `fts` (inputs/words.py); "", as they are, in indexes of older releases
    """

    fingerprint: str
    bundle: str
    dim: int
    space: bool = False
    words: str = "english"
    fields: tuple[str, ...] = ()
    frame: Frame = NONE
    sparse: SideModel | None = None
    multi: SideModel | None = None
    late: bool = False
    normal: str = ""

    @property
    def attached(self) -> dict[str, SideModel]:
        """The models of the tables next to `vec`, by their names."""
        return {name: model for name in ATTACHED if (model := getattr(self, name)) is not None}

    @property
    def crc(self) -> str:
        return _crc(self._texts())

    def rows(self) -> dict[str, str]:
        """As rows of `meta`, with their checksum."""
        return {name: text for name, text in self._texts().items() if text or name not in LATER} | {"crc": self.crc}

    def _texts(self) -> dict[str, str]:
        return {f.name: _text(getattr(self, f.name)) for f in fields(self)}

    @staticmethod
    def from_rows(rows: Mapping[str, Any]) -> "Facts | None":
        """None where they are not whole, or say what this release does not know. Raises ValueError for no frame.

        SQLite enforces types when it writes, not when it reads.
        """
        texts = {f.name: rows.get(f.name, "" if f.name in LATER else None) for f in fields(Facts)}
        if not all(isinstance(text, str) for text in texts.values()) or rows.get("crc") != _crc(texts):
            return None
        if texts["words"] not in WORDS or texts["normal"] not in FORMS or not re.fullmatch("[0-9]{1,9}", texts["dim"]):
            return None
        try:
            typed = {name: FROM_TEXT.get(name, str)(text) for name, text in texts.items()}
        except (ValueError, TypeError, RecursionError):
            return None
        facts = Facts(**{**typed, "frame": Frame.from_json(texts["frame"], typed["dim"])})
        return facts if facts.crc == rows["crc"] else None  # what was understood is all that is said


# Of an index whose facts are damaged: what of its tables does not depend on them is known.
UNKNOWN = Facts("", "", 0)
FROM_TEXT: dict[str, Callable[[str], Any]] = {
    "dim": int,
    "space": bool,
    "late": bool,
    "fields": lambda text: tuple(json.loads(text)),
    **dict.fromkeys(ATTACHED, lambda text: SideModel(*json.loads(text)) if text else None),
}


def _text(fact: object) -> str:
    """A fact as it is stored: 384 -> "384", True -> "yes", ("lang",) -> '["lang"]', None -> ""."""
    if isinstance(fact, Frame):
        return fact.to_json()
    if isinstance(fact, tuple):
        return json.dumps(fact)
    return ("yes" if fact else "") if fact is None or isinstance(fact, bool) else str(fact)


def _crc(texts: Mapping[str, str]) -> str:
    said = [text for name, text in texts.items() if name not in LATER]
    said += [f"{name} {text}" for name, text in texts.items() if name in LATER and text]
    return str(zlib.crc32("\x00".join(said).encode("utf-8", "surrogateescape")))


def check_fields(names: object) -> tuple[str, ...]:
    """Names of metadata fields to declare. Raises InputError."""
    listed = list(names) if isinstance(names, list | tuple) else []
    good = all(isinstance(name, str) and FIELD_NAME.fullmatch(name) for name in listed)
    if not isinstance(names, list | tuple) or not good or len(set(listed)) < len(listed) or len(listed) > MAX_FIELDS:
        raise InputError(
            f"fields is {str(names)[:80]!r}, expected a list of at most {MAX_FIELDS} names of metadata fields, all "
            'different, without ", \\ and control characters',
            option="fields",
        )
    return tuple(listed)


def ddl(facts: Facts) -> list[str]:
    """The statements that make the tables. The table of words is last."""
    declared = [field_value(name) for name in facts.fields]
    return [
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
        "CREATE TABLE doc (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, text TEXT NOT NULL,"
        " metadata TEXT NOT NULL, crc INTEGER NOT NULL) STRICT",
        # AUTOINCREMENT: a deleted passage's id is never used again, so readers recognise what is new by its id
        "CREATE TABLE vec (id INTEGER PRIMARY KEY AUTOINCREMENT, doc INTEGER NOT NULL REFERENCES doc (id),"
        " start INTEGER NOT NULL, stop INTEGER NOT NULL, code BLOB NOT NULL, crc INTEGER NOT NULL) STRICT",
        "CREATE INDEX vec_doc ON vec (doc)",
        "CREATE TABLE bits (block INTEGER PRIMARY KEY, places BLOB NOT NULL, words BLOB NOT NULL,"
        " crc INTEGER NOT NULL) STRICT",
        *(
            f"CREATE TABLE vec_{name} (id INTEGER PRIMARY KEY REFERENCES vec (id) ON DELETE CASCADE,"
            " code BLOB NOT NULL, crc INTEGER NOT NULL) STRICT"
            for name in facts.attached
        ),
        *(f"CREATE INDEX doc_field_{i} ON doc ({value})" for i, value in enumerate(declared)),
        f"CREATE VIRTUAL TABLE fts USING fts5(text, content='', tokenize='{WORDS[facts.words]}')",
    ]


def check_schema(db: sqlite3.Connection, path: Path) -> Facts | None:
    """Refuse tables that are not ours before anything is read from them. Returns the facts, None where damaged."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version != SCHEMA:
        raise IndexFormatError(f"{path} has schema version {version}; this release reads {SCHEMA}", path=path)
    found = db.execute(TABLES).fetchall()
    facts = None
    if ("table", "meta", "meta", ddl(UNKNOWN)[0]) in found:
        facts = read_facts(db, path)
    if not _is_ours(found, facts):
        raise IndexFormatError(f"{path} is not an edge_embed index: its tables are not ours", path=path)
    pages, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    if pages * size > path.stat().st_size + wal_bytes(path):
        raise IndexDamagedError(
            f"{path} is cut off: {path.stat().st_size} bytes, expected {pages * size}; {RESTORE}", path=path
        )
    return facts


def read_facts(db: sqlite3.Connection, path: Path) -> Facts | None:
    """None where they are damaged."""
    rows = dict(db.execute("SELECT key, value FROM meta").fetchall())
    try:
        return Facts.from_rows(rows)
    except ValueError as error:
        raise IndexDamagedError(f"{path} is damaged ({error}); {RESTORE}", path=path) from error


def tables_of(statements: Iterable[str]) -> list[tuple[Any, ...]]:
    """What TABLES gives for a database that these statements made."""
    with closing(sqlite3.connect(":memory:")) as db:
        for statement in statements:
            db.execute(statement)
        return db.execute(TABLES).fetchall()


def _is_ours(found: list[tuple[Any, ...]], facts: Facts | None) -> bool:
    """Whether tables are what the facts say; where these are damaged, what they decide is not looked at."""

    def fixed(tables: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return [row for row in tables if facts is not None or not str(row[1]).startswith(("fts", "doc_field_", "vec_"))]

    there = {name for _, name, _, _ in found}
    optional = [sql for name, statements in OPTIONAL.items() if name in there for sql in statements]
    return fixed(found) == fixed(tables_of([*ddl(facts or UNKNOWN), *optional]))
