"""`edge-embed delete`."""

from typing import Any

import click

from edge_embed.cli.options import json_option, secure_option, show


@click.command()
@click.argument("index", metavar="INDEX")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@secure_option
@json_option
def delete(index: str, keys: tuple[str, ...], secure_delete: bool, as_json: bool) -> None:
    """Delete documents of INDEX by their keys.

    Needs no bundle. If a KEY is not in INDEX, the other documents are deleted all the same and the exit status is 1.
    """
    from edge_embed_runtime.errors import InputError
    from edge_embed_runtime.index.index import Index

    with Index.open(index, secure_delete=secure_delete) as target:
        missing = [key for key in keys if key not in target]
        deleted = target.delete(keys)
    result: dict[str, Any] = {"deleted": deleted, "not_found": missing}
    error = InputError(f"not in the index: {', '.join(missing)}", code="key_not_found", path=index, keys=missing)
    show({**result, "error": error.as_dict()} if missing else result, as_json, lambda: [f"{index}: {deleted} deleted"])
    if missing:
        raise error
