"""Which columns or fields of an input hold keys and texts."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_embed.files.arrow import EXTRA
from edge_embed.files.rows import KEY_FIELDS, listed
from edge_embed.files.shards import KEY, TEXT, VECTOR
from edge_embed_runtime.errors import SourceError
from edge_embed_runtime.extras import require


@dataclass(frozen=True)
class Asked:
    """What the caller calls the columns. key None: `key`, `_id` or `id`, the first that is there."""

    text: str = TEXT
    key: str | None = None

    def key_of(self, names: Iterable[str]) -> str | None:
        """The column of keys among these; None where there is none, and the place of a row is its key."""
        there = set(names)
        return next((name for name in ((self.key,) if self.key else KEY_FIELDS) if name in there), None)


def check_parquet(path: Path, schema: Any, asked: Asked) -> None:
    """Raise SourceError where a column is missing, has another type, or the name of a column of shards."""
    names = list(schema.names)
    types = require("pyarrow", EXTRA).types
    if len(set(names)) < len(names):
        raise SourceError(f"{path}: a column has the name of another: {listed(names)}", path=path)
    for option, name in (("--text-column", asked.text), ("--key-column", asked.key)):
        if name is not None and name not in names:
            raise SourceError(
                f"{path} has no column {name!r}; columns: {listed(names)}; {option} says which", path=path
            )
    key = asked.key_of(names)
    kind = schema.field(asked.text).type
    if not is_string(types, kind):
        raise SourceError(f"{path}: the column {asked.text!r} is {kind}, expected strings", path=path)
    if key is not None and not (is_string(types, kind := schema.field(key).type) or types.is_integer(kind)):
        raise SourceError(f"{path}: the column of keys {key!r} is {kind}, expected strings or whole numbers", path=path)
    for name in names:
        if name not in (asked.text, key) and name in (KEY, TEXT, VECTOR):
            raise SourceError(
                f"{path} has a column {name!r}, which in the output is another one: rename or drop it", path=path
            )
    if key == asked.text:
        raise SourceError(f"{path}: the column {key!r} cannot be the key and the text", path=path)


def is_string(types: Any, kind: Any) -> bool:
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def others_of(names: Iterable[str], asked: Asked) -> list[str]:
    """The other columns of a Parquet file, in their order."""
    names = list(names)
    return [name for name in names if name not in (asked.text, asked.key_of(names))]


def check_fields(row: dict[str, Any], asked: Asked, place: str) -> None:
    """The same for the first row of a file of lines."""
    if asked.text not in row:
        raise SourceError(f"{place}: no field {asked.text!r}; fields: {listed(row)}; --text-column says which")
    if asked.key is not None and asked.key not in row:
        raise SourceError(f"{place}: no field {asked.key!r}; fields: {listed(row)}; --key-column says which")
