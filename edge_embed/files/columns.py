"""Columns of files of vectors: which of them are keys, texts and vectors. All others become metadata."""

import base64
import datetime
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from edge_embed.files.rows import KEY_FIELDS, listed
from edge_embed_runtime.errors import SourceError
from edge_embed_runtime.storage.documents import Place

# The most rows, numbers and characters of vector files that are read or written at a time.
BATCH_ROWS = 8192
BATCH_NUMBERS = 2**22
BATCH_CHARACTERS = 4_000_000


@dataclass(frozen=True)
class Names:
    """What a user calls the columns of keys, texts and vectors; None for the usual names."""

    key: str | None = None
    text: str | None = None
    vector: str | None = None


@dataclass(frozen=True)
class Columns:
    """Names of columns in the file; None for a column that it does not have. key None: the keys are row numbers."""

    key: str | None
    text: str | None
    metadata: str | None
    others: tuple[str, ...]


@dataclass(frozen=True)
class Form:
    """What a dump holds: vectors of `dim` numbers, or their codes and scales; places; pictures and sounds; which rows
    have no vector, where there are such gaps; and facts about all of it."""

    dim: int
    codes: bool
    places: bool
    gaps: bool
    facts: Mapping[str, str]
    media: bool = False


def placed(label: object) -> tuple[Place, ...]:
    """The places of a document that a row of a dump becomes: "page 1" -> ((0, "page 1"),); nothing -> none."""
    return ((0, label),) if label and isinstance(label, str) else ()


def shown(media: object, path: Path, row: int) -> dict[str, Any]:
    """The picture or sound of a row of a dump, as Document takes it; {} for none. Raises SourceError."""
    if not media:
        return {}
    from edge_embed_runtime.storage.media import Media  # few dumps have any

    try:
        found = json.loads(str(media))
        small = found.pop("thumbnail", None)
        known = Media(**found, thumbnail=None if small is None else base64.b64decode(small, validate=True))
        return {known.kind: known, "time": known.time} if known.kind in ("image", "audio") else {"image": known}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise SourceError(f"{path}: row {row}: media is not what a dump says of a picture or sound", row=row) from error


def rows_per_batch(dim: int) -> int:
    """The most vectors of this dimension that are read or written at a time."""
    return max(1, min(BATCH_ROWS, BATCH_NUMBERS // dim))


def choose(path: Path, names: Iterable[str], own: Iterable[str], asked: Names, usual: Mapping[str, str]) -> Columns:
    """Which column is what.

    own:   columns of vectors, which are none of these
    usual: the usual names of "key", "text" and "metadata" in this kind of file

    Raises SourceError for a name that is missing, and where it is not clear which column has the keys.
    """
    own = set(own)
    rest = [name for name in names if name not in own]
    metadata = usual["metadata"] if usual["metadata"] in rest else None
    text = _asked(path, rest, asked.text, "--text") or (usual["text"] if usual["text"] in rest else None)
    key = _asked(path, rest, asked.key, "--key")
    others = tuple(name for name in rest if name not in (key, text, metadata))
    if key is None:
        found = [name for name in dict.fromkeys((usual["key"], *KEY_FIELDS)) if name in others]
        if len(found) > 1 or (others and not found):
            what = f"{listed(found)} may each be" if found else "no column key, _id or id is"
            raise SourceError(f"{path}: {what} the keys; columns: {listed(rest)}; --key says which (key= in Python)")
        key = found[0] if found else None
    return Columns(key, text, metadata, tuple(name for name in others if name != key))


def _asked(path: Path, names: list[str], wanted: str | None, option: str) -> str | None:
    if wanted is not None and wanted not in names:
        raise SourceError(f"{path} has no column {wanted!r}, which {option} names; columns: {listed(names)}")
    return wanted


def merged(metadata: Mapping[str, Any], others: Mapping[str, Any], path: Path, row: int) -> dict[str, Any]:
    """The metadata of a row and the values of its other columns, where None means an empty cell."""
    found = {name: value for name, value in others.items() if value is not None}
    if twice := metadata.keys() & found.keys():
        raise SourceError(f"{path}: row {row} has {listed(sorted(twice))} in its metadata and as a column", row=row)
    return {**metadata, **found}


def to_json(value: Any, place: str) -> Any:
    """A value of a column as a JSON value; times become ISO texts. Raises SourceError, which begins with `place`."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Decimal) and value.is_finite():
        number = int(value) if value == value.to_integral_value() else float(value)
        if Decimal(repr(number)) == value:
            return number
    if isinstance(value, list | tuple):
        return [to_json(inner, place) for inner in value]
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {name: to_json(inner, place) for name, inner in value.items()}
    raise SourceError(f"{place} holds {_shown(value)}, which JSON cannot hold: leave the column out, or change it")


def _shown(value: object) -> str:
    return json.dumps(repr(value)[:40])[1:-1] + f" ({type(value).__name__})"
