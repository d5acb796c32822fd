"""`where`: conditions on metadata as SQL."""

import json
from collections.abc import Mapping
from typing import Any

from edge_embed_runtime.errors import FilterError

Condition = tuple[str, list[Any]]


def compile_where(where: Mapping[str, Any]) -> Condition:
    """An SQL condition over the table `doc` and its parameters; several fields must all fit.

    {"lang": "en", "year": 2020} -> documents whose metadata has lang "en" and year 2020
    Values are str, int, float, bool or None; a bool fits only a bool, a number any equal number.
    """
    if not isinstance(where, Mapping) or not where:
        raise FilterError(f'where is {where!r}, expected a dict such as {{"lang": "en"}}')
    conditions: list[str] = []
    parameters: list[Any] = []
    for field, value in where.items():
        path = field_path(field)
        if value is None or isinstance(value, bool):
            conditions.append("json_type(doc.metadata, ?) = ?")
            parameters += [path, json.dumps(value)]  # "null", "true", "false": the names of the types
        elif isinstance(value, str):
            conditions.append("(json_type(doc.metadata, ?) = 'text' AND json_extract(doc.metadata, ?) = ?)")
            parameters += [path, path, value]
        elif isinstance(value, int | float):
            conditions.append(
                "(json_type(doc.metadata, ?) IN ('integer', 'real') AND json_extract(doc.metadata, ?) = ?)"
            )
            parameters += [path, path, float(value) if abs(value) >= 2**63 else value]
        else:
            raise FilterError(
                f"where: the value of {field!r} is {type(value).__name__}, expected str, int, float, bool or None"
            )
    return " AND ".join(conditions), parameters


def field_path(field: object) -> str:
    """The JSON path of a top-level field: lang -> $."lang"."""
    if not isinstance(field, str) or '"' in field or "\x00" in field:
        raise FilterError(f"where: {field!r} is not a field name")
    return f'$."{field}"'
