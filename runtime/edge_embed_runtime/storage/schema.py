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
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from edge_embed_runtime.errors import InputError
from edge_embed_runtime.storage.filters import field_value
from edge_embed_runtime.storage.textquery import FORMS
from edge_embed_runtime.vectors.rotation import Frame

SCHEMA = 2
COUNTERS = ("generation", "deletions")
# Rows of `meta` with checksums of their own: what `rebuild` measured of a graph over the binary codes; and how many
# passages there were when the rotation of these was learned last.
GRAPH, LEARNED = "graph", "learned"
# How the words of a text are told apart: stems of English words; words as they are; any three characters in a row, for
# languages without spaces.
WORDS = {
    "english": "porter unicode61 remove_diacritics 2",
    "plain": "unicode61 remove_diacritics 2",
    "trigram": "trigram",
}
MAX_FIELDS = 32
# Tables beside `vec`, by the facts that name their models. Facts that came later than others are stored only where they
# say something, so that older files are still whole.
ATTACHED = ("sparse", "multi")
LATER = (*ATTACHED, "late", "normal")
FIELD_NAME = re.compile(r"[^\x00-\x1f\"\\\ud800-\udfff]{1,256}")


@dataclass(frozen=True)
class Facts:
    """What never changes in an index, but by `rebuild` (frame, normal) and `reembed`; all of it text, as it is stored.

    fingerprint: of the bundle that the vectors come from, or of the space where they were given
    bundle:      the name of that bundle or space
    dim:         numbers in a vector
    space:       "yes" where vectors are given, "" where a bundle makes them
    words:       a key of WORDS
    fields:      declared fields of the metadata, as a JSON list
    frame:       how binary codes are made, see Frame
    sparse:      what makes sparse vectors beside the others: JSON [fingerprint, name, numbers]; "" for none
    multi:       what makes vectors of tokens, likewise
    late:        "yes" where passages are cut out of their document's pass through the model (passages/late.py)
    normal:      the Unicode form of the words in `fts` (textquery.py); "" where an earlier release made it: as they are
    """

    fingerprint: str
    bundle: str
    dim: str
    space: str = ""
    words: str = "english"
    fields: str = "[]"
    frame: str = Frame().to_json()
    sparse: str = ""
    multi: str = ""
    late: str = ""
    normal: str = ""

    @property
    def crc(self) -> str:
        said = [value for name, value in self._said().items() if name not in LATER]
        said += [f"{name} {value}" for name, value in self._said().items() if name in LATER]
        return str(zlib.crc32("\x00".join(said).encode("utf-8", "surrogateescape")))

    @property
    def attached(self) -> dict[str, tuple[str, str, int]]:
        """What tables there are beside `vec`: (fingerprint, name, numbers) of the model of each."""
        found = {name: json.loads(getattr(self, name)) for name in ATTACHED if getattr(self, name)}
        return {name: (str(model[0]), str(model[1]), int(model[2])) for name, model in found.items()}

    def _said(self) -> dict[str, str]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in LATER or getattr(self, f.name)}

    def rows(self) -> dict[str, str]:
        """As rows of `meta`, with their checksum."""
        return {**self._said(), "crc": self.crc}

    @staticmethod
    def from_rows(rows: Mapping[str, Any]) -> "Facts | None":
        """None where they are not whole; SQLite enforces types when it writes, not when it reads."""
        values = [rows.get(field.name, "" if field.name in LATER else None) for field in fields(Facts)]
        if not all(isinstance(value, str) for value in values):
            return None
        facts = Facts(*map(str, values))
        known = facts.words in WORDS and facts.normal in FORMS and re.fullmatch("[0-9]{1,9}", facts.dim)
        return facts if known and rows.get("crc") == facts.crc else None


def check_fields(names: Sequence[str]) -> list[str]:
    """Names of metadata fields to declare. Raises InputError."""
    listed = list(names) if isinstance(names, list | tuple) else []
    good = all(isinstance(name, str) and FIELD_NAME.fullmatch(name) for name in listed)
    if not isinstance(names, list | tuple) or not good or len(set(listed)) < len(listed) or len(listed) > MAX_FIELDS:
        raise InputError(
            f"fields is {str(names)[:80]!r}, expected a list of at most {MAX_FIELDS} names of metadata fields, all "
            'different, without ", \\ and control characters'
        )
    return listed


def ddl(facts: Facts) -> list[str]:
    """The statements that make the tables. The table of words is last."""
    declared = [field_value(name) for name in json.loads(facts.fields)]
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
