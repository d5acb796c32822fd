"""What an index file is made of: its tables and the facts that never change.

meta  facts about the index (`Facts`), and counters: generation (commits), deletions (commits that took rows away)
doc   documents: key, text, metadata as JSON, crc32 over all of them; an index on each declared field of the metadata
vec   passages: where they lie in their document, float32 scale + int8 code, crc32 over all of them
bits  binary codes, made of the int8 codes, in blocks of 256 passages, crc32 over each: read whole when searching begins
fts   FTS5 over the passages' texts, without a copy of them (contentless)

vec_sparse, vec_multi  where another model makes sparse vectors or vectors of tokens of the passages: a row for each of
                       them, crc32 over all of it (sidetables.py)
"""

import json
import re
import sqlite3
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from edge_embed_runtime.errors import IndexDamagedError, IndexFormatError, InputError
from edge_embed_runtime.inputs.words import FORMS
from edge_embed_runtime.storage.database import RESTORE, wal_bytes
from edge_embed_runtime.storage.filters import field_value
from edge_embed_runtime.vectors.rotation import NONE, Frame

SCHEMA = 2
COUNTERS = ("generation", "deletions")
# How the words of a text are told apart: stems of English words; words as they are; any three characters in a row, for
# languages without spaces.
WORDS = {
    "english": "porter unicode61 remove_diacritics 2",
    "plain": "unicode61 remove_diacritics 2",
    "trigram": "trigram",
}
MAX_FIELDS = 32
TABLES = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"
# Tables beside `vec`, by the facts that name their models. Facts that came later than others are stored only where they
# say something, so that older files are still whole.
ATTACHED = ("sparse", "multi")
LATER = (*ATTACHED, "late", "normal")
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
        """The models of the tables beside `vec`, by the names of these."""
        return {name: model for name in ATTACHED if (model := getattr(self, name)) is not None}

    @property
    def crc(self) -> str:
        return _crc(self._texts())

    def rows(self) -> dict[str, str]:
        """As rows of `meta`, with their checksum."""
        return {**self._texts(), "crc": self.crc}

    def _texts(self) -> dict[str, str]:
        texts = {f.name: _text(getattr(self, f.name)) for f in fields(self)}
        return {name: text for name, text in texts.items() if text or name not in LATER}

    @staticmethod
    def from_rows(rows: Mapping[str, Any]) -> "Facts | None":
        """None where they are not whole, or say what this release does not know. Raises ValueError for no frame.

        SQLite enforces types when it writes, not when it reads.
        """
        texts = {f.name: rows.get(f.name, "" if f.name in LATER else None) for f in fields(Facts)}
        if not all(isinstance(text, str) for text in texts.values()):
            return None
        known = texts["words"] in WORDS and texts["normal"] in FORMS and re.fullmatch("[0-9]{1,9}", texts["dim"])
        if not known or rows.get("crc") != _crc({name: t for name, t in texts.items() if t or name not in LATER}):
            return None
        try:
            typed: dict[str, Any] = {
                "dim": int(texts["dim"]),
                "fields": tuple(json.loads(texts["fields"])),
                **{name: bool(texts[name]) for name in ("space", "late")},
                **{name: SideModel(*json.loads(texts[name])) for name in ATTACHED if texts[name]},
                **{name: None for name in ATTACHED if not texts[name]},
            }
        except (ValueError, TypeError, RecursionError):
            return None
        facts = Facts(**{**texts, **typed, "frame": Frame.from_json(texts["frame"], typed["dim"])})
        return facts if facts.crc == rows["crc"] else None  # what was understood is all that is said


# Of an index whose facts are damaged: what of its tables does not depend on them is known.
UNKNOWN = Facts("", "", 0)


def _text(fact: object) -> str:
    """A fact as it is stored: 384 -> "384", True -> "yes", ("lang",) -> '["lang"]', None -> ""."""
    if isinstance(fact, Frame):
        return fact.to_json()
    if isinstance(fact, tuple):
        return json.dumps(fact)
    return ("yes" if fact is True else "") if fact is None or isinstance(fact, bool) else str(fact)


def _crc(texts: Mapping[str, str]) -> str:
    said = [text for name, text in texts.items() if name not in LATER]
    said += [f"{name} {text}" for name, text in texts.items() if name in LATER]
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
    """Refuse tables that are not ours before anything is read from them. Gives the facts, None where damaged."""
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


def _is_ours(found: list[tuple[Any, ...]], facts: Facts | None) -> bool:
    """Whether tables are what the facts say; where these are damaged, what they decide is not looked at."""
    db = sqlite3.connect(":memory:")
    try:
        for statement in ddl(facts or UNKNOWN):
            db.execute(statement)
        expected = db.execute(TABLES).fetchall()
    finally:
        db.close()

    def fixed(tables: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return [row for row in tables if facts is not None or not str(row[1]).startswith(("fts", "doc_field_", "vec_"))]

    return fixed(found) == fixed(expected)
