"""`edge-embed update`."""

import re
from typing import Any

import click

from edge_embed.cli.options import json_option, secure_option, show
from edge_embed.cli.where import given_where, json_or_text, parsed, where_options


@click.command()
@click.argument("index", metavar="INDEX")
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@where_options
@click.option(
    "--set",
    "changes",
    metavar="FIELD=VALUE",
    multiple=True,
    help="Give a field of the metadata this value, which is read as JSON if it is JSON, otherwise as text.",
)
@click.option("--set-json", metavar="JSON", help="""Fields with their values: '{"tags": ["sea", "ship"]}'.""")
@click.option("--remove", metavar="FIELD", multiple=True, help="Take a field out of the metadata.")
@secure_option
@json_option
def update(
    index: str,
    keys: tuple[str, ...],
    conditions: tuple[str, ...],
    where_json: tuple[str, ...],
    changes: tuple[str, ...],
    set_json: str | None,
    remove: tuple[str, ...],
    secure_delete: bool,
    as_json: bool,
) -> None:
    """Change metadata of documents of INDEX, by keys or by --where.

    Other fields, texts and vectors stay as they are: nothing is embedded, and no bundle is needed. All documents are
    changed, or none: also where a KEY is not in INDEX. --where and --where-json mean the same as for search.
    """
    from edge_embed_runtime.index.index import Index

    where = given_where(conditions, where_json, keys)
    fields = _changes(changes, set_json)
    if not fields and not remove:
        raise click.UsageError("Nothing to change: give --set, --set-json or --remove.")
    with Index.open(index, secure_delete=secure_delete) as target:
        changed = target.update_metadata(keys if where is None else where, fields, remove=remove)
    show({"changed": changed}, as_json, lambda: [f"{index}: {changed} changed"])


def _changes(given: tuple[str, ...], set_json: str | None) -> dict[str, Any]:
    """("lang=en", "year=2020"), None -> {"lang": "en", "year": 2020}."""
    fields = {} if set_json is None else parsed(set_json, "--set-json")
    if not isinstance(fields, dict):
        raise click.BadParameter("expected a JSON object", param_hint="--set-json")
    for text in given:
        found = re.fullmatch("([^=]+)=(.*)", text, re.DOTALL)
        if found is None:
            raise click.BadParameter(f"{text!r} is not FIELD=VALUE", param_hint="--set")
        if found[1] in fields:
            raise click.BadParameter(f"the field {found[1]!r} is named twice", param_hint="--set")
        fields[found[1]] = json_or_text(found[2])
    return fields
