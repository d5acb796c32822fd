"""What the documents' meta holds: its fields, and their values, in the types that Haystack's own store tells apart."""

from collections.abc import Iterable
from typing import Any

from haystack import Document

TYPES = {bool: "boolean", int: "int", float: "float"}


def field_of(name: str) -> str:
    """ "meta.year" and "year" -> "year"."""
    return name.removeprefix("meta.")


def fields_info(documents: Iterable[Document]) -> dict[str, dict[str, str]]:
    """{"year": {"type": "int"}}: int, float, boolean, or keyword for all others; of several types that met last."""
    types: dict[str, str] = {}
    for document in documents:
        for name, value in document.meta.items():
            if value is not None:
                types[name] = TYPES.get(type(value), "keyword")
    return {name: {"type": type_} for name, type_ in types.items()}


def unique(documents: Iterable[Document], names: Iterable[str]) -> dict[str, dict[Any, Any]]:
    """By field its different values, each under what tells it from others; 1, 1.0, "1" and True are four."""
    found: dict[str, dict[Any, Any]] = {field_of(name): {} for name in names}
    for document in documents:
        for name, values in found.items():
            value = document.meta.get(name)
            if value is not None:
                values.setdefault(_identity(value), value)
    return found


def count_unique(documents: Iterable[Document], names: Iterable[str]) -> dict[str, int]:
    """By field how many different values there are, where 1, 1.0 and True are one, as Python compares them."""
    return {
        name: len({_hashable(value) for value in values.values()}) for name, values in unique(documents, names).items()
    }


def least_and_greatest(documents: Iterable[Document], name: str) -> dict[str, Any]:
    """{"min": 1, "max": 10}; None where there are no numbers and no texts, or both, which cannot be compared."""
    values = list(unique(documents, [name])[field_of(name)].values())
    plain = [value for value in values if isinstance(value, int | float | str)]
    if not plain or len({isinstance(value, str) for value in plain}) > 1:
        return {"min": None, "max": None}
    return {"min": min(plain), "max": max(plain)}


def page_of_values(
    documents: Iterable[Document], name: str, search_term: str | None, start: int, size: int
) -> tuple[list[Any], int]:
    """Some of the different values of a field, by their text, and how many there are in all.

    search_term: letters that the text of a value holds, in either case
    """
    values = list(unique(documents, [name])[field_of(name)].values())
    if search_term:
        values = [value for value in values if search_term.lower() in str(value).lower()]
    ordered = sorted(values, key=lambda value: (str(value), type(value).__name__))
    return ordered[start : start + size], len(ordered)


def _identity(value: Any) -> Any:
    return type(value).__name__, _hashable(value)


def _hashable(value: Any) -> Any:
    if isinstance(value, list):
        return "list", tuple(map(_hashable, value))
    if isinstance(value, dict):
        return "dict", frozenset((name, _hashable(inner)) for name, inner in value.items())
    return value
