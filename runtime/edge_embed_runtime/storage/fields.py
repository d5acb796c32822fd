"""Fields of the metadata: whether any document has one, which values it has, and from which to which they go."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from edge_embed_runtime.checks import SHOWN_CHARACTERS, listed, shown
from edge_embed_runtime.errors import FilterError
from edge_embed_runtime.storage.filters import (
    EVERY,
    METADATA,
    Condition,
    field_value,
    has_field,
    named_fields,
)
from edge_embed_runtime.storage.store import Store

Value: TypeAlias = str | float | bool | None

# What SQLite calls these values of JSON.
LITERALS: Mapping[str, Value] = {"true": True, "false": False, "null": None}


class ValueCount(NamedTuple):
    """A value of a field, and how many documents have it."""

    value: Value
    documents: int


def check_fields(store: Store, where: Mapping[str, Any] | None, condition: Condition | None) -> None:
    """A field that no document has is a typing error more often than a question; so it is one here."""
    if where is None or condition is None or store.any_document(condition) or not store.any_document():
        return
    for field in named_fields(where):
        check_known(store, field, "where: ")


def check_known(store: Store, field: str, place: str = "") -> None:
    """Raise FilterError for a field that no document has."""
    if not store.any_document(has_field(field)):
        near = sorted(store.fields(), key=lambda name: -_alike(field, name))
        raise FilterError(f"{place}no document has the field {shown(field)}; fields: {listed(near)}", field=field)


def _alike(one: str, other: str) -> float:
    """How near two names of fields are to each other, from 0 to 1."""
    from difflib import SequenceMatcher  # for a message

    first, second = (name[:SHOWN_CHARACTERS].casefold() for name in (one, other))
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


def values(store: Store, field: str, where: Condition, limit: int) -> Iterator[ValueCount]:
    """The values that most documents have first. Those in a list count like others, each once a document."""
    if where == EVERY and field in store.facts.fields:
        column = field_value(field)
        kind, unclear = f"iif(typeof({column}) = 'text', 'text', 'number')", _unclear(column)
        clear = f"SELECT {kind} AS kind, {column} AS value, count(*) AS n FROM doc WHERE NOT {unclear} GROUP BY value"
        query = f"SELECT kind, value, sum(n) FROM ({clear} UNION ALL {_counted(unclear)}) GROUP BY kind, value"
    else:
        query = _counted(where[0])
    rows = store.connection.execute(f"{query} ORDER BY 3 DESC, 1, 2 LIMIT ?", (field, *where[1], limit))
    for kind, value, count in rows:
        yield ValueCount(LITERALS.get(kind, value), count)


def _counted(where: str) -> str:
    values = f"SELECT kind, value, count(DISTINCT id) AS n FROM ({_each(where)}) WHERE kind <> ''"
    return f"{values} GROUP BY kind, value"


def _each(where: str) -> str:
    """SQL for the values of a field, and those in its lists: (id, kind, value) with kind '' for what no condition can
    compare, which is lists in lists and objects."""
    one, listed = (
        f"CASE WHEN {name}.type IN ('integer', 'real') THEN 'number' WHEN {name}.type IN ('array', 'object') THEN ''"
        f" ELSE {name}.type END"
        for name in ("field", "item")
    )
    return f"""
        SELECT doc.id AS id, CASE field.type WHEN 'array' THEN {listed} ELSE {one} END AS kind,
        CASE field.type WHEN 'array' THEN item.value ELSE field.value END AS value
        FROM doc, json_each({METADATA}) AS field,
        json_each(CASE field.type WHEN 'array' THEN field.value ELSE '[0]' END) AS item
        WHERE field.key = ? AND {where}
    """


def value_range(store: Store, field: str, where: Condition) -> tuple[Value, Value] | None:
    """The least and the greatest number of a field, or where it has none, text; None where it has neither."""
    if where == EVERY and field in store.facts.fields and not _has_lists(store, field):
        return _indexed_range(store, field)
    of = "{}(CASE kind WHEN '{}' THEN value END)".format
    columns = ", ".join(of(what, kind) for kind in ("number", "text") for what in ("min", "max"))
    query = f"SELECT {columns} FROM ({_each(where[0])})"
    found = store.connection.execute(query, (field, *where[1])).fetchone()
    low, high = found[:2] if found[0] is not None else found[2:]
    return None if low is None else (low, high)


def _unclear(column: str) -> str:
    """SQL for a value in the index on a declared field that may stand for several: absent or null, false or 0, true or
    1, a list or object or a text that looks like one."""
    texts = " OR ".join(f"{column} >= '{first}' AND {column} < '{chr(ord(first) + 1)}'" for first in "[{")
    return f"({column} IS NULL OR {column} IN (0, 1) OR {texts})"


def _has_lists(store: Store, field: str) -> bool:
    column = field_value(field)
    test, parameters = has_field(field, "field.type = 'array'")
    return store.any_document((f"{column} >= '[' AND {column} < '\\' AND {test}", parameters))


def _indexed_range(store: Store, field: str) -> tuple[Value, Value] | None:
    """By the index on a declared field without lists: in it come null, numbers, true and false among them, texts."""
    column = field_value(field)
    for part, types in ((f"{column} < ''", "('integer', 'real')"), (f"{column} >= ''", "('text')")):
        test, parameters = has_field(field, f"field.type IN {types}")
        query = f"SELECT {column} FROM doc WHERE {part} AND {test} ORDER BY {column}"
        ends = [store.connection.execute(f"{query} {way} LIMIT 1", parameters).fetchone() for way in ("ASC", "DESC")]
        if ends[0] is not None:
            return ends[0][0], ends[1][0]
    return None
