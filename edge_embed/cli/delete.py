"""`edge-embed delete`."""

from typing import Any

import click

from edge_embed.cli.options import json_option, secure_option, show
from edge_embed.cli.where import given_where, where_options


@click.command()
@click.argument("index", metavar="INDEX")
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@where_options
@click.option("--yes", is_flag=True, help="Delete what fits --where or --where-json; without it nothing is deleted.")
@click.option("--dry-run", is_flag=True, help="Show how many documents would be deleted.")
@secure_option
@json_option
def delete(
    index: str,
    keys: tuple[str, ...],
    conditions: tuple[str, ...],
    where_json: tuple[str, ...],
    yes: bool,
    dry_run: bool,
    secure_delete: bool,
    as_json: bool,
) -> None:
    """Delete documents of INDEX by their keys, or by --where.

    Needs no bundle. If a KEY is not in INDEX, the other documents are deleted all the same and the exit status is 1.
    With --where or --where-json, which mean the same as for search, --yes is needed: first look at what
    `find` shows for them, or at --dry-run. Every document: --where-json '{"$key": {"$prefix": ""}}'.
    """
    from edge_embed_runtime.errors import InputError
    from edge_embed_runtime.index.index import Index

    where = given_where(conditions, where_json, keys)
    missing: list[str] = []
    with Index.open(index, secure_delete=secure_delete, read_only=dry_run) as target:
        if where is not None:
            count = target.count(where) if dry_run or not yes else 0
            if not (dry_run or yes):
                raise click.UsageError(f"nothing was deleted: {count} fit --where; --yes deletes them")
            deleted = 0 if dry_run else target.delete(where=where)
        else:
            missing = [key for key in dict.fromkeys(keys) if key not in target]
            count = len(set(keys)) - len(missing)
            deleted = 0 if dry_run else target.delete(keys)
    result: dict[str, Any] = {"would_delete": count} if dry_run else {"deleted": deleted}
    result |= {} if where is not None else {"not_found": missing}
    error = InputError(f"not in the index: {', '.join(missing)}", code="key_not_found", path=index, keys=missing)
    said = f"{index}: {count} would be deleted" if dry_run else f"{index}: {deleted} deleted"
    show({**result, "error": error.as_dict()} if missing else result, as_json, lambda: [said])
    if missing:
        raise error
