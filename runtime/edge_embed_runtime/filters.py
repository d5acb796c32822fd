"""`where`: conditions on metadata as SQL."""

import json
import math
from collections.abc import Mapping
from typing import Any

from edge_embed_runtime.checks import check_text
from edge_embed_runtime.errors import FilterError, InputError

Condition = tuple[str, list[Any]]
EVERY: Condition = ("1", [])
# A damaged row has no fields.
METADATA = "CASE WHEN json_valid(doc.metadata) THEN doc.metadata ELSE '{}' END"

MAX_FIELDS = 64
# SQLite's integers end here; larger ones are stored as floating point
MAX_INTEGER = 2**63


def compile_where(where: Mapping[str, Any]) -> Condition:
    """An SQL condition over the table `doc` and its parameters; several fields must all fit.

    {"lang": "en", "year": 2020} -> documents whose metadata has lang "en" and year 2020
    Values are str, int, float, bool or None; a bool fits only a bool, a number any equal number.
    """
    if not isinstance(where, Mapping) or not 0 < len(where) <= MAX_FIELDS:
        raise FilterError(f'where is {where!r:.80}, expected a dict of 1 to {MAX_FIELDS} fields: {{"lang": "en"}}')
    conditions: list[str] = []
    parameters: list[Any] = []
    for field, value in where.items():
        condition, given = _compile(_text(field, "field name"), value)
        conditions.append(condition)
        parameters += given
    return " AND ".join(conditions), parameters


def has_field(field: str) -> Condition:
    """The condition that a document has a field, whatever its value."""
    return _field("1"), [field]


def _field(test: str) -> str:
    # not json_extract: its path syntax cannot name every field
    return f"EXISTS (SELECT 1 FROM json_each({METADATA}) AS field WHERE field.key = ? AND {test})"


def _compile(field: str, value: object) -> Condition:
    if value is None or isinstance(value, bool):
        return _field("field.type = ?"), [field, json.dumps(value)]  # null, true and false are types of their own
    if isinstance(value, str):
        return _field("field.type = 'text' AND field.value = ?"), [field, _text(value, f"value of {field!r}")]
    if isinstance(value, int | float) and abs(value) < 1e308 and math.isfinite(value):
        number = float(value) if abs(value) >= MAX_INTEGER else value
        return _field("field.type IN ('integer', 'real') AND field.value = ?"), [field, number]
    raise FilterError(f"where: the value of {field!r} is {value!r:.80}, expected str, finite number, bool or None")


def _text(value: object, what: str) -> str:
    try:
        text = check_text(value, f"where: the {what}")
    except InputError as error:
        raise FilterError(str(error)) from None
    if "\x00" in text:
        raise FilterError(f"where: the {what} holds NUL")
    return text
