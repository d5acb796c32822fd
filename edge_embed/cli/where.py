"""`--where` and `--where-json`: conditions on metadata, as several commands take them."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import click

from edge_embed.cli.options import all_options, shorten
from edge_embed_runtime.checks import unique_names

# What --where calls the operators of `where`.
SIGNS = {"!=": "$ne", "~=": "$contains", ">=": "$gte", "<=": "$lte", ">": "$gt", "<": "$lt"}

where_options = all_options(
    click.option(
        "--where",
        "conditions",
        metavar="KEY=VALUE",
        multiple=True,
        help="Metadata that a document must have; also with !=, ~= (contains), >=, <=, > and <. Of several conditions, "
        "all must be true.",
    ),
    click.option(
        "--where-json",
        metavar="JSON",
        multiple=True,
        help="""A condition as `where` in Python: '{"$or": [{"lang": "en"}, {"year": {"$gte": 2020}}]}'.""",
    ),
)


def given_where(
    conditions: tuple[str, ...], where_json: tuple[str, ...], keys: tuple[str, ...] | None = None
) -> dict[str, Any] | None:
    """What all of the options say together, as `where` in Python; None without any.

    keys: of a command that takes either keys or conditions. Raises UsageError where it got both, or neither
    """
    if keys is not None and bool(keys) == bool(conditions or where_json):
        raise click.UsageError("Give either KEY or --where." if keys else "Missing argument 'KEY' or option '--where'.")
    given = [*_conditions(conditions), *(parsed(text, "--where-json") for text in where_json)]
    return {"$and": given} if len(given) > 1 else given[0] if given else None


def _conditions(given: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """("lang=en", "year>=2020") -> {"lang": "en"}, {"year": {"$gte": 2020}}."""
    seen = set()
    for text in given:
        found = re.fullmatch("([^=<>]+?)(!=|~=|>=|<=|=|>|<)(.*)", text, re.DOTALL)
        if found is None:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--where")
        field, sign, value = found.groups()
        if (field, sign) in seen and sign not in ("!=", "~="):
            raise click.BadParameter(f"the field {field!r} is named twice with {sign}", param_hint="--where")
        seen.add((field, sign))
        yield _condition(field, sign, value)


def _condition(field: str, sign: str, value: str) -> dict[str, Any]:
    """With =, != and ~= a number, true, false and null also match their text: isbn=9780306406157 finds both."""
    read = value if field == "$key" and not value.startswith('"') else json_or_text(value)
    if sign in ("=", "!=") and not isinstance(read, str | list | dict):
        return {field: {"$in" if sign == "=" else "$nin": [read, value]}}
    if sign == "~=" and not isinstance(read, str | list | dict):
        return {"$or": [{field: {"$contains": one}} for one in (read, value)]}
    return {field: read if sign == "=" else {SIGNS[sign]: read}}


def number_hint(given: tuple[str, ...]) -> str:
    """A reason why conditions may have found nothing: "year>=2000" where the years are texts."""
    for condition in _conditions(given):
        for field, test in condition.items():
            for sign, value in test.items() if isinstance(test, dict) else ():
                if sign in ("$gt", "$gte", "$lt", "$lte") and isinstance(value, int | float):
                    written = next(shown for shown, name in SIGNS.items() if name == sign)
                    return f'; {field}{written}{value} matches numbers only, {field}{written}"{value}" matches texts'
    return ""


def json_or_text(value: str) -> Any:
    """2020 -> 2020, en -> "en"; NaN and 1e999, which are not JSON, stay texts."""
    try:
        read = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return value if isinstance(read, float) and not math.isfinite(read) else read


def parsed(given: str, option: str) -> Any:
    """The value of an option that takes JSON, which is not null."""
    try:
        read = json.loads(given, object_pairs_hook=unique_names)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"{shorten(given, 60)!r} is not JSON: {error}", param_hint=option) from None
    if read is None:
        raise click.BadParameter("null is no object", param_hint=option)
    return read
