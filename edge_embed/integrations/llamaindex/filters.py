"""LlamaIndex's filters as a `where` of an index, which means what they mean in LlamaIndex's own SimpleVectorStore.

A null counts as a field that is not there: both fit `!=`, `nin` and `is_empty`, and nothing else. 1 and 0 are equal to
true and false, as in Python; other types are never equal, and a number is never larger than a text.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from edge_embed.integrations.stores import EVERY, Where
from edge_embed_runtime.errors import FilterError
from edge_embed_runtime.extras import require
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.storage.filters import check_field

require("llama_index.core", "llamaindex")
from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

# The most values of a field that a search for letters in either case looks at.
MOST_VALUES = 1_000_000

# Operators that take lists, and those that take texts; others take a text or a number, or an empty list.
LISTS = (FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL)
TEXTS = (FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE)
EQUAL = (FilterOperator.EQ, FilterOperator.NE)


def where_of(filters: MetadataFilters | None, index: Index) -> Where | None:
    """The same condition; None where there is none.

    MetadataFilters(filters=[MetadataFilter(key="year", value=2000, operator=">=")]) -> {"year": {"$gte": 2000}}, with
    what true and false fit

    Raises FilterError, which names operator and field, for a value that the operator cannot compare.
    """
    if filters is None or not filters.filters:
        return None
    return _combined(filters, index)


def all_of(conditions: Iterable[Where | None]) -> Where | None:
    """Several conditions as one that a document fits where it fits each of them; None where there is none."""
    found = [condition for condition in conditions if condition is not None]
    return _joined("$and", found) if found else None


def _combined(filters: MetadataFilters, index: Index) -> Where:
    parts = [
        _combined(inner, index) if isinstance(inner, MetadataFilters) else _one(inner, index)
        for inner in filters.filters
    ]
    if not parts:
        return EVERY
    if filters.condition in (None, FilterCondition.AND):
        return _joined("$and", parts)
    if filters.condition == FilterCondition.OR:
        return _joined("$or", parts)
    if filters.condition == FilterCondition.NOT:  # of several none fits
        return {"$not": _joined("$or", parts)}
    raise FilterError(f"filters: the condition {filters.condition!r:.60} is not known")


def _joined(how: str, parts: list[Where]) -> Where:
    return parts[0] if len(parts) == 1 else {how: parts}


def _one(given: MetadataFilter, index: Index) -> Where:
    field, value, asked = check_field(given.key), given.value, given.operator
    if asked == FilterOperator.IS_EMPTY:
        return {"$or": [{field: {"$exists": False}}, {field: {"$in": [None, "", []]}}]}
    if asked not in OPERATORS:
        raise FilterError(f"filters: the operator {asked!r:.60} on {field!r:.60} is not known", field=field)
    _check(field, value, asked)
    if asked == FilterOperator.TEXT_MATCH_INSENSITIVE:
        value = _texts_with(str(value), field, index)
    return OPERATORS[asked](field, value)


def _check(field: str, value: object, asked: FilterOperator) -> None:
    """Raise FilterError for an operator that cannot compare this value."""
    if value is None:
        expected = "a value: operator is_empty asks for fields that are null or absent"
    elif asked in LISTS:
        expected = "" if isinstance(value, list) else "a list"
    elif asked in TEXTS:
        expected = "" if isinstance(value, str) else "a text"
    else:
        fits = not isinstance(value, list) or (not value and asked in EQUAL)
        expected = "" if fits else "a text or a number: operators any and all take lists"
    if expected:
        raise FilterError(
            f"filters: operator {asked.value!r} on {field!r:.60} has {value!r:.60}, expected {expected}", field=field
        )


def _equal_to(values: list[Any]) -> list[Any]:
    """The values that are equal to one of some: [1, "a"] -> [1, "a", True]."""
    return [*values, *(flag for flag in (False, True) if flag in values)]


def _among(name: str, field: str, values: list[Any]) -> Where:
    return {field: {name: _equal_to(values)}}


def _range(name: str, fits: Callable[[Any, Any], bool], field: str, value: Any) -> Where:
    flags = [] if isinstance(value, str) else [flag for flag in (False, True) if fits(flag, value)]
    condition: Where = {field: {name: value}}
    return {"$or": [condition, {field: {"$in": flags}}]} if flags else condition


def _contains(field: str, value: Any) -> Where:
    """In a list as a value, in a text as letters."""
    return _joined("$or", [{field: {"$contains": one}} for one in _equal_to([value])])


def _any(field: str, values: list[Any]) -> Where:
    return _joined("$or", [_contains(field, one) for one in values]) if values else {field: {"$in": []}}


def _all(field: str, values: list[Any]) -> Where:
    parts = [_contains(field, one) for one in values]
    return _joined("$and", parts) if parts else {field: {"$exists": True, "$ne": None}}


OPERATORS: Mapping[FilterOperator, Callable[[str, Any], Where]] = {
    FilterOperator.EQ: lambda field, value: _among("$in", field, [value]),
    FilterOperator.NE: lambda field, value: _among("$nin", field, [value]),
    FilterOperator.IN: partial(_among, "$in"),
    FilterOperator.NIN: partial(_among, "$nin"),
    FilterOperator.GT: partial(_range, "$gt", operator.gt),
    FilterOperator.GTE: partial(_range, "$gte", operator.ge),
    FilterOperator.LT: partial(_range, "$lt", operator.lt),
    FilterOperator.LTE: partial(_range, "$lte", operator.le),
    FilterOperator.CONTAINS: _contains,
    FilterOperator.ANY: _any,
    FilterOperator.ALL: _all,
    FilterOperator.TEXT_MATCH: lambda field, value: {field: {"$contains": value, "$prefix": ""}},  # no list
    FilterOperator.TEXT_MATCH_INSENSITIVE: lambda field, values: {field: {"$in": values}},
}


def _texts_with(letters: str, field: str, index: Index) -> list[str]:
    """Texts that stand in a field and hold some letters, in either case. A field that no document has holds none."""
    try:
        found = index.field_values(field, limit=MOST_VALUES)
    except FilterError:
        return []
    wanted = letters.lower()
    return [entry.value for entry in found if isinstance(entry.value, str) and wanted in entry.value.lower()]
