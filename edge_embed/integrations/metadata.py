"""Metadata as frameworks give it, in the types of JSON, which an index holds.

None, texts, numbers and booleans stay; numpy's scalars become Python's, its arrays and tuples lists; dates and times
become ISO 8601, UUIDs and paths their text. Reading gives these back: equal values, as far as JSON has them.
"""

import math
from collections.abc import Mapping
from datetime import date, datetime, time
from pathlib import PurePath
from typing import Any
from uuid import UUID

import numpy as np

from edge_embed_runtime.checks import shown
from edge_embed_runtime.errors import DocumentError
from edge_embed_runtime.storage.documents import MAX_NESTING


def stored_metadata(metadata: object, key: str) -> dict[str, Any]:
    """The metadata of a document as an index holds them; what is given stays as it is.

    {"when": date(2024, 5, 1), "size": np.float32(0.5), "at": (1, None)} ->
    {"when": "2024-05-01", "size": 0.5, "at": [1, None]}

    key: of the document, for errors

    Raises DocumentError, which names document, field and type, for what JSON cannot hold: sets, bytes, NaN, names of
    fields that are no texts, objects of other classes.
    """
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise _refused(key, "metadata", f"{type(metadata).__name__}, expected a dict")
    converted = _converted(metadata, key, "", MAX_NESTING)
    assert isinstance(converted, dict)  # noqa: S101 - as what was given
    return converted


def as_stored(condition: Any, depth: int = MAX_NESTING) -> Any:
    """A condition on metadata with its values as metadata hold them; what they cannot hold stays as it is, and what is
    nested deeper than `depth`: an index refuses both.

    {"day": {"$gte": date(2024, 5, 1)}, "n": np.int64(3)} -> {"day": {"$gte": "2024-05-01"}, "n": 3}
    """
    if isinstance(condition, Mapping):
        return {name: as_stored(inner, depth - 1) for name, inner in condition.items()} if depth else condition
    if isinstance(condition, list | tuple):
        return [as_stored(inner, depth - 1) for inner in condition] if depth else condition
    try:
        return _converted(condition, "", "", MAX_NESTING)
    except DocumentError:
        return condition


def _converted(value: Any, key: str, place: str, depth: int) -> Any:
    """place: of the value in the metadata, as "tags[2].name"; depth: how much deeper it may be nested"""
    if isinstance(value, np.generic | np.ndarray):
        value = _from_numpy(value, key, place)
    if not isinstance(value, Mapping | list | tuple):
        return _scalar(value, key, place)
    if depth == 0:
        raise _refused(key, place, f"nested more than {MAX_NESTING} deep")
    if isinstance(value, Mapping):
        return {
            _name(name, key, place): _converted(inner, key, f"{place}.{name}" if place else str(name), depth - 1)
            for name, inner in value.items()
        }
    return [_converted(inner, key, f"{place}[{i}]", depth - 1) for i, inner in enumerate(value)]


def _scalar(value: Any, key: str, place: str) -> Any:
    if isinstance(value, datetime | date | time):
        return _date(value, key, place)
    if isinstance(value, UUID | PurePath):
        return str(value)
    if value is not None and not isinstance(value, str | int | float):
        hint = ": give a list" if isinstance(value, set | frozenset) else ""
        raise _refused(key, place, f"{type(value).__name__}, which JSON cannot hold{hint}")
    if isinstance(value, float) and not math.isfinite(value):
        raise _refused(key, place, f"{float(value)}, which JSON cannot hold: leave it out, or give None")
    if value is None or isinstance(value, bool):
        return value
    # of enums the value, of other subclasses what they are made of
    return str.__str__(value) if isinstance(value, str) else int(value) if isinstance(value, int) else float(value)


def _from_numpy(value: Any, key: str, place: str) -> Any:
    """A scalar of Python, or nested lists of such."""
    if value.dtype.kind == "M":  # as nanoseconds these would become whole numbers
        if np.isnat(value).any():
            raise _refused(key, place, "NaT, which is no time: leave it out, or give None")
        return np.datetime_as_string(value).tolist()
    if value.dtype.kind not in "biufUO":
        raise _refused(key, place, f"of numpy's type {value.dtype}, which JSON cannot hold")
    return value.tolist()


def _date(value: datetime | date | time, key: str, place: str) -> str:
    text = value.isoformat()
    if text == "NaT":  # of pandas, which says that it is a datetime
        raise _refused(key, place, "NaT, which is no time: leave it out, or give None")
    return text


def _name(name: object, key: str, place: str) -> str:
    if not isinstance(name, str):
        where = f"{shown(name)} in {place}" if place else shown(name)
        raise _refused(key, where, f"named by {type(name).__name__}: names of fields are texts")
    return str.__str__(name)


def _refused(key: str, place: str, what: str) -> DocumentError:
    named = place if place == "metadata" else f"metadata field {place[:100]}"
    return DocumentError(f"document {shown(key)}: {named} is {what}; nothing was stored", keys=[key])
