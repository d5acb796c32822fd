"""What the fields of all documents hold: kinds of values, the commonest of them, least and most."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from edge_embed_runtime.storage.database import translated
from edge_embed_runtime.storage.fields import ValueCount
from edge_embed_runtime.storage.store import Store

FieldKind = Literal["text", "number", "boolean", "list", "mixed", "other"]

# Bounds on what is held while all documents are read; further fields are left out.
MAX_FIELDS = 256
MAX_VALUES = 200
MAX_CHARACTERS = 200
# Documents that are read at a time.
AT_ONCE = 1000


@dataclass(frozen=True)
class FieldSummary:
    """One field of the metadata.

    kind:      of its values, null left out; "list": lists of texts, numbers and booleans, whose members are the values;
               "other": objects, or nothing but null
    documents: how many have it
    values:    with the number of documents that have each, the commonest first
    more:      whether there are values that `values` leaves out: more than MAX_VALUES, or very long ones
    least, most: of its numbers; None where it has none
    """

    name: str
    kind: FieldKind
    documents: int
    values: tuple[ValueCount, ...]
    more: bool
    least: float | None
    most: float | None


class Summing:
    """Sums up the metadata of all documents, some at a time, so that searches can run in between."""

    def __init__(self) -> None:
        self.ended = False
        self._last = 0  # id of the last document that was read
        self._fields: dict[str, _Field] = {}

    def read(self, store: Store) -> None:
        """The next documents. Damaged ones are left out."""
        query = "SELECT id, metadata FROM doc WHERE id > ? ORDER BY id LIMIT ?"
        with translated(store.path):
            rows = store.connection.execute(query, (self._last, AT_ONCE)).fetchall()
        for self._last, text in rows:
            for name, value in _metadata(text).items():
                if name in self._fields or len(self._fields) < MAX_FIELDS:
                    self._fields.setdefault(name, _Field(name)).add(value)
        self.ended = len(rows) < AT_ONCE

    def fields(self) -> list[FieldSummary]:
        """Those of most documents first."""
        found = (one.summary() for one in self._fields.values())
        return sorted(found, key=lambda one: (-one.documents, one.name))


def _metadata(text: Any) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


@dataclass
class _Field:
    name: str
    documents: int = 0
    more: bool = False
    least: float | None = None
    most: float | None = None
    kinds: set[str] = field(default_factory=set)
    # by (whether it is a boolean, value): True and 1 are two values, 1 and 1.0 are one
    values: Counter[tuple[bool, Any]] = field(default_factory=Counter)

    def add(self, value: Any) -> None:
        self.documents += 1
        if isinstance(value, list):
            self.kinds.add("list")
            for member in {(isinstance(inner, bool), inner) for inner in value if _is_scalar(inner)}:
                self._count(member[1])
        elif _is_scalar(value):
            self.kinds.add(_kind(value))
            self._count(value)
        elif value is not None:
            self.kinds.add("other")

    def _count(self, value: Any) -> None:
        if isinstance(value, int | float) and not isinstance(value, bool):
            self.least = value if self.least is None else min(self.least, value)
            self.most = value if self.most is None else max(self.most, value)
        known = (isinstance(value, bool), value)
        short = not isinstance(value, str) or len(value) <= MAX_CHARACTERS
        if known in self.values or (short and len(self.values) < MAX_VALUES):
            self.values[known] += 1
        else:
            self.more = True

    def summary(self) -> FieldSummary:
        kind: Any = next(iter(self.kinds)) if len(self.kinds) == 1 else "mixed" if self.kinds else "other"
        ordered = sorted(self.values.items(), key=lambda entry: (-entry[1], str(entry[0][1])))
        values = tuple(ValueCount(value, count) for (_, value), count in ordered)
        return FieldSummary(self.name, kind, self.documents, values, self.more, self.least, self.most)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _kind(value: str | float) -> str:
    return "boolean" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
