"""What programs of others send, described as JSON Schema and checked by the same description.

The service's /openapi.json and the tools of the MCP server show these schemas as they are, so that what they say is
what is checked. Of JSON Schema (2020-12) there are `type`, `enum`, `anyOf`, `properties`, `required`,
`additionalProperties`, `items`, `minItems`, `maxItems`, `minLength`, `maxLength`, `minimum` and `maximum`; `default` is
filled in.
"""

from collections.abc import Callable, Mapping
from typing import Any

from edge_embed_runtime.checks import listed, shown, unusable
from edge_embed_runtime.errors import InputError

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
TEXTS: Schema = {"type": "array", "items": TEXT}
COUNT: Schema = {"type": "integer", "minimum": 0}
VECTOR: Schema = {"type": "array", "items": {"type": "number"}}
VECTORS: Schema = {"type": "array", "items": VECTOR}
ANYTHING: Schema = {"type": "object"}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# What `type` can be: in words, and what json.loads makes of it. True and False are numbers to Python alone.
TYPES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "string": ("a string", lambda value: isinstance(value, str)),
    "boolean": ("true or false", lambda value: isinstance(value, bool)),
    "integer": ("a whole number", lambda value: _is_number(value) and value == value // 1),
    "number": ("a number", _is_number),
    "array": ("a list", lambda value: isinstance(value, list)),
    "object": ("an object", lambda value: isinstance(value, dict)),
    "null": ("null", lambda value: value is None),
}


def _kinds(schema: Schema) -> list[str]:
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else list(kinds)


def fields(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, **more: Any) -> Schema:
    """The schema of an object with these fields and no others."""
    every = {**required, **(optional or {})}
    about = {"required": list(required)} if required else {}
    return {"type": "object", "properties": every, **about, "additionalProperties": False, **more}


def or_null(schema: Schema, **more: Any) -> Schema:
    """The same, or null, which means the same as leaving it out: {"type": "string"} -> {"type": ["string", "null"]}."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}], **more}
    choices = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": list(dict.fromkeys([*_kinds(schema), "null"])), **choices, **more}


def check(value: Any, schema: Schema, name: str = "") -> Any:
    """The value with defaults filled in; raises InputError that names the part of it which does not fit.

    name: where the value stands, as in `input[3]`; "" for the whole body
    """
    if "anyOf" in schema:
        return check(value, _fitting(value, schema["anyOf"], name), name)
    kinds = _kinds(schema)
    kind = next((kind for kind in kinds if TYPES[kind][1](value)), None)
    if kinds and kind is None:
        raise unusable(name or "the body", value, _expected([schema]))
    if "enum" in schema and not any(value == choice and type(value) is type(choice) for choice in schema["enum"]):
        raise unusable(
            name, value, f"one of {listed([str(choice) for choice in schema['enum'] if choice is not None])}"
        )
    if kind == "object":
        return _check_object(value, schema, name)
    if kind == "array":
        _check_range(len(value), schema, ("minItems", "maxItems"), name, "entries")
        return _check_entries(value, schema.get("items", {}), name)
    if kind == "string":
        _check_range(len(value), schema, ("minLength", "maxLength"), name, "characters")
    if kind in ("integer", "number"):
        _check_range(value, schema, ("minimum", "maximum"), name, "")
    return int(value) if kind == "integer" else value


def _check_object(value: dict[str, Any], schema: Schema, name: str) -> dict[str, Any]:
    known: Mapping[str, Schema] = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    for key in value:
        if key not in known and others is False:
            where = f"{name}.{key}" if name else key
            raise InputError(f"{shown(where)} is unknown: known are {listed(list(known))}", option=shown(where)[1:-1])
    for key in schema.get("required", ()):
        if key not in value:
            missing = f"{name}.{key}" if name else key
            raise InputError(f"{missing} is missing", option=missing)
    filled = {key: entry["default"] for key, entry in known.items() if "default" in entry and key not in value}
    rest = others if isinstance(others, Mapping) else {}
    checked = {
        key: check(entry, known.get(key, rest), f"{name}.{key}" if name else key) for key, entry in value.items()
    }
    return {**filled, **checked}


def _check_entries(value: list[Any], items: Schema, name: str) -> list[Any]:
    if items in (TEXT, {}) and all(type(entry) is str for entry in value):  # there may be a million
        return value
    return [check(entry, items, f"{name}[{i}]") for i, entry in enumerate(value)]


def _check_range(number: float, schema: Schema, bounds: tuple[str, str], name: str, unit: str) -> None:
    """bounds: the names under which the schema has the least and the most"""
    least, most = (schema.get(bound) for bound in bounds)
    limit = f"at least {least}" if least is not None and number < least else ""
    limit = limit or (f"at most {most}" if most is not None and number > most else "")
    if limit:
        got = f"has {number} {unit}" if unit else f"is {shown(number)}"
        raise InputError(f"{name} {got}, expected {limit}", option=name)


def _fitting(value: Any, schemas: list[Schema], name: str) -> Schema:
    """The first of these schemas that is for values of this type, for objects one whose fields are there."""
    fitting = [schema for schema in schemas if any(TYPES[kind][1](value) for kind in _kinds(schema))]
    if not fitting:
        raise unusable(name or "the body", value, _expected(schemas))
    whole = (schema for schema in fitting if all(key in value for key in schema.get("required", ())))
    return next(whole, fitting[0])


def _expected(schemas: list[Schema]) -> str:
    """What values can be, in words: "a string or a list"."""
    return " or ".join(dict.fromkeys(TYPES[kind][0] for schema in schemas for kind in _kinds(schema)))
