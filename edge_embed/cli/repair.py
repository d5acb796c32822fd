"""`edge-embed repair`."""

from collections.abc import Iterator
from typing import Any

import click

from edge_embed.cli.options import bundle_option, json_option, shorten, show, space_options, threads_option


@click.command()
@click.argument("index", metavar="INDEX")
@click.option("--drop", is_flag=True, help="Delete the documents that cannot be restored.")
@click.option("--backup", metavar="FILE", help="First copy INDEX as it is to FILE.")
@bundle_option
@space_options
@threads_option
@json_option
def repair(index: str, drop: bool, backup: str | None, as_json: bool, **model: Any) -> None:
    """Restore damaged parts of INDEX from the texts it holds.

    Damaged passages are embedded again and look-up tables are built again. Documents whose text, key or metadata is
    damaged cannot be restored, nor can those whose vectors were loaded (`edge-embed load`); they are listed, and
    deleted with --drop. The exit status is 1 if damage remains. If the log of INDEX is missing, as it is after a copy
    was made during a write, INDEX is used without it.
    """
    from edge_embed.embedder import Embedder
    from edge_embed_runtime.index.index import Index
    from edge_embed_runtime.index.stats import read_stats
    from edge_embed_runtime.maintenance.repair import accept_lost_log
    from edge_embed_runtime.storage.database import locate

    path = locate(index, must_exist=True)
    lost = accept_lost_log(path)
    given = read_stats(path)["space"]
    with Index.open(path, None if given else Embedder(**model)) as target:
        done = target.repair(drop=drop, backup=backup, show_progress=True)

    def text() -> Iterator[str]:
        yield f"{index}: {len(done.restored)} restored, {len(done.dropped)} dropped, {len(done.lost)} left damaged"
        if lost:
            yield "  the log was missing: the last commits, which were in it, are lost"
        if done.rebuilt:
            yield f"  built again: {', '.join(done.rebuilt)}"
        yield from (f"  places deleted, which were damaged  {shorten(key, 200)}" for key in done.unplaced)
        for word, found in (("dropped", done.dropped), ("damaged", done.lost)):
            yield from (f"  {word}  {shorten(key, 200)}: {what}" for key, what in found)
        yield from (f"  {problem}" for problem in done.problems)

    lists = {name: [damage._asdict() for damage in getattr(done, name)] for name in ("lost", "dropped")}
    show({**vars(done), **lists, "log_lost": lost, "whole": done.whole}, as_json, text)
    if not done.whole:
        click.get_current_context().exit(1)
