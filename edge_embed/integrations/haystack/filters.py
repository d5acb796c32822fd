"""Haystack's filters as conditions of an index.

What an index can ask becomes its `where`. Where that is only near the filter's meaning (dates, fractions), the `where`
takes in too many documents, and Haystack's own comparison decides about each of these.

{"field": "meta.year", "operator": ">=", "value": 2000} -> {"$or": [{"year": {"$gte": 2000}}]}
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, TypeGuard

import numpy as np
from haystack import Document
from haystack.errors import FilterError
from haystack.utils.filters import document_matches_filter

from edge_embed.integrations.haystack.documents import RESERVED
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.storage.filters import EXACT, OPERATOR, compile_where

Where = dict[str, Any]
# Of a field in the metadata, from outside in.
Path = tuple[str, ...]
KEY: Path = ("$key",)
NOTHING: Where = {"$key": {"$in": []}}
COMPARED = {">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}
COMPARISONS = (*COMPARED, "==", "!=", "in", "not in")
LOGIC = ("AND", "OR", "NOT")
MAX_DEPTH = 100
ATTRIBUTES = {field.name for field in fields(Document)}


@dataclass(frozen=True)
class Plan:
    """How to find the documents that fit a filter.

    where: what all of them fit; None where an index can ask nothing
    rest:  what decides about each that fits `where`; None where these are the documents
    embeddings: whether that asks for embeddings, such as which documents have none
    """

    where: Where | None
    rest: Callable[[Document], bool] | None
    embeddings: bool = False


@dataclass(frozen=True)
class _Part:
    """where: fits what the part of a filter fits, and unless it is exact may fit more; None fits all."""

    where: Where | None
    exact: bool = True


ANY = _Part(None, exact=False)


def planned(filters: Mapping[str, Any] | None) -> Plan:
    """Raises FilterError for what is no filter, whatever documents there are. None and {} fit every document."""
    if filters is None or filters == {}:
        return Plan(None, None)
    check_filters(filters)
    part = _translated(filters)
    try:
        if part.where is not None:
            compile_where(part.where)
    except InputError:  # more conditions, or deeper ones, than a `where` may have
        part = ANY
    rest = None if part.exact else partial(document_matches_filter, dict(filters))
    return Plan(part.where, rest, _asks_for_embeddings(filters))


def _asks_for_embeddings(filters: Mapping[str, Any]) -> bool:
    if "field" in filters:
        return str(filters["field"]) == "embedding"
    return any(_asks_for_embeddings(condition) for condition in filters["conditions"])


def check_filters(filters: object, depth: int = MAX_DEPTH) -> None:
    """Raise FilterError where keys are missing, or operators unknown, anywhere; depth: how deep it may be nested."""
    if not depth:
        raise FilterError(f"a filter is nested more than {MAX_DEPTH} deep")
    if not isinstance(filters, Mapping):
        raise FilterError(f"a filter is a dict, got {type(filters).__name__}")
    logic = "field" not in filters
    for key in ("operator", "conditions" if logic else "value"):
        if key not in filters:
            raise FilterError(f"'{key}' key missing in {filters}")
    operator = filters["operator"]
    if operator not in (LOGIC if logic else COMPARISONS):
        raise FilterError(f"Unknown operator {operator!r}. Valid ones are: {LOGIC if logic else COMPARISONS}")
    if logic:
        if not isinstance(filters["conditions"], list | tuple):
            raise FilterError(f"'conditions' is {type(filters['conditions']).__name__}, expected a list of filters")
        for condition in filters["conditions"]:
            check_filters(condition, depth - 1)
        return
    value = filters["value"]
    if not isinstance(filters["field"], str):
        raise FilterError(f"'field' is {type(filters['field']).__name__}, expected a name")
    if operator in ("in", "not in") and not isinstance(value, list):
        raise FilterError(f"Filter value must be a list for '{operator}', got {type(value).__name__}")
    if operator in COMPARED and isinstance(value, list | dict):
        raise FilterError(f"Filter value can't be a {type(value).__name__} for '{operator}'")


def _translated(filters: Mapping[str, Any]) -> _Part:
    operator = filters["operator"]
    if "field" not in filters:
        parts = [_translated(condition) for condition in filters["conditions"]]
        if operator == "OR":
            return _any_of(parts)
        both = _all_of(parts)
        return _not(both) if operator == "NOT" else both
    path = _path_of(filters["field"])
    if path is None:
        return ANY
    value = filters["value"]
    if operator in COMPARED:
        return _compared(path, COMPARED[operator], _plain(value))
    equal = _any_of([_equal(path, _plain(one)) for one in (value if operator in ("in", "not in") else [value])])
    return _not(equal) if operator in ("!=", "not in") else equal


def _all_of(parts: list[_Part]) -> _Part:
    wheres = [part.where for part in parts if part.where is not None]
    return _Part({"$and": wheres} if wheres else None, all(part.exact for part in parts))


def _any_of(parts: list[_Part]) -> _Part:
    """Of none of them: what no document fits."""
    wheres = [part.where for part in parts if part.where is not None]
    if not parts:
        return _Part(NOTHING)
    return _Part({"$or": wheres}, all(part.exact for part in parts)) if len(wheres) == len(parts) else ANY


def _not(part: _Part) -> _Part:
    if not part.exact:
        return ANY  # the documents that are too many would be left out
    return _Part(NOTHING) if part.where is None else _Part({"$not": part.where})


def _path_of(field: str) -> Path | None:
    """What an index calls a field: "meta.at.hour" -> ("at", "hour"), "year" -> ("year",), "id" -> ("$key",). None for
    what it cannot ask."""
    if field == "id":
        return KEY
    if field in ATTRIBUTES or ("." in field and not field.startswith("meta.")):
        return None
    path = tuple(field.removeprefix("meta.").split("."))
    return None if path[0] == RESERVED or any(OPERATOR.match(name) for name in path) else path


def _at(path: Path, test: Where) -> Where:
    """("at", "hour"), {"$gte": 9} -> {"at": {"$has": {"hour": {"$gte": 9}}}}."""
    name, *inner = path
    return {name: {"$has": _at(tuple(inner), test)} if inner else test}


def _equal(path: Path, value: object) -> _Part:
    """Python's ==, of which 1, 1.0 and True are equal; and dates are equal to each other however they are written."""
    if path == KEY:
        plain = isinstance(value, str) and not _like_date(value)
        return _Part(_at(path, {"$in": [value]})) if plain else ANY
    if value is None:
        return _Part({"$not": _at(path, {"$exists": True, "$ne": None})})
    if isinstance(value, str):
        return _equal_text(path, value)
    return _equal_number(path, value) if _is_number(value) else ANY


def _equal_text(path: Path, value: str) -> _Part:
    if _like_date(value):
        return _Part(_at(path, {"$gte": ""}), exact=False)
    if "\x00" in value:
        return ANY
    return _Part(_at(path, {"$eq": value}), exact="\ufffd" not in value)  # which stands for NUL in an index, too


def _equal_number(path: Path, value: float) -> _Part:
    if value in (0, 1):
        return _Part(_at(path, {"$in": [int(value), bool(value)]}))
    if value == int(value):
        return _Part(_at(path, {"$eq": value}))
    low, high = _around(value)
    return _Part(_at(path, {"$gte": low, "$lte": high}), exact=False)


def _plain(value: object) -> object:
    """numpy's numbers as Python's: np.int64(3) -> 3."""
    return value.item() if isinstance(value, np.generic) else value


def _is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number that an index compares as Python does: no NaN, and none so large that floating point
    has gaps there."""
    return isinstance(value, bool | int | float) and abs(value) < EXACT


def _compared(path: Path, operator: str, value: object) -> _Part:
    """Numbers with numbers, of which True is 1. Texts are dates, which an index cannot compare."""
    if value is None:
        return _Part(NOTHING)
    if path == KEY or not _is_number(value):
        return ANY
    exact = value == int(value)
    low, high = _around(value)
    bound = value if exact else low if operator in ("$gt", "$gte") else high
    flags = [flag for flag in (False, True) if COMPARE[operator](int(flag), value)]
    number = _at(path, {operator: float(bound)})
    return _Part({"$or": [number, _at(path, {"$in": flags})]} if flags else number, exact)


COMPARE: dict[str, Callable[[float, float], bool]] = {
    "$gt": lambda one, other: one > other,
    "$gte": lambda one, other: one >= other,
    "$lt": lambda one, other: one < other,
    "$lte": lambda one, other: one <= other,
}


def _around(value: float) -> tuple[float, float]:
    """Limits that a fraction lies between, however SQLite reads its digits."""
    slack = math.ulp(value) * 64
    return value - slack, value + slack


def _like_date(value: str) -> bool:
    """Whether Haystack may read a text as a date: "2025-02-03" and what begins so."""
    return len(value) >= 10 and value[4] == value[7] == "-" and value[:4].isdigit()
