"""Commands that look after an index: delete, verify, repair, compact, backup."""

from collections.abc import Iterator
from typing import Any

import click

from edge_embed.cli.options import (
    bundle_option,
    json_option,
    secure_option,
    shorten,
    show,
    space_options,
    threads_option,
)


@click.command()
@click.argument("index", metavar="INDEX")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@secure_option
@json_option
def delete(index: str, keys: tuple[str, ...], secure_delete: bool, as_json: bool) -> None:
    """Delete documents of INDEX by key. Needs no bundle."""
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


@click.command()
@click.argument("index", metavar="INDEX")
@json_option
def verify(index: str, as_json: bool) -> None:
    """Read every row of INDEX and say what is wrong; exit status 1 when anything is.

    Needs no bundle, changes nothing, and works while another process writes.
    """
    from edge_embed_runtime.maintenance.verify import verify_index

    report = verify_index(index, show_progress=True)

    def text() -> Iterator[str]:
        counts = f"{report.documents} documents, {report.passages} passages"
        yield f"{index}: {counts}, {'whole' if report.whole else 'not whole'}"
        yield from _damage_lines("damaged", report.damaged)
        yield from (f"  {problem}" for problem in report.problems)

    damaged = [damage._asdict() for damage in report.damaged]
    show({**vars(report), "damaged": damaged, "whole": report.whole}, as_json, text)
    if not report.whole:
        click.get_current_context().exit(1)


@click.command()
@click.argument("index", metavar="INDEX")
@click.option("--drop", is_flag=True, help="Delete the documents that cannot be restored.")
@click.option("--backup", metavar="FILE", help="Copy INDEX as it is to FILE first.")
@bundle_option
@space_options
@threads_option
@json_option
def repair(
    index: str,
    drop: bool,
    backup: str | None,
    bundle: str | None,
    threads: int | None,
    as_json: bool,
    **space: Any,
) -> None:
    """Restore what is damaged in INDEX from the texts it holds; exit status 1 when something is left damaged.

    Damaged passages are embedded again and look-up tables are made anew. Documents whose text, key or metadata is
    damaged are listed, and deleted with --drop; so are those whose damaged vectors were given and not embedded. An
    INDEX whose log is missing, such as a copy that was made in the middle of a write, is taken as it is.
    """
    from edge_embed.embedder import Embedder
    from edge_embed_runtime.index.index import Index
    from edge_embed_runtime.index.stats import read_stats
    from edge_embed_runtime.maintenance.repair import accept_lost_log
    from edge_embed_runtime.storage.database import locate

    path = locate(index, must_exist=True)
    lost = accept_lost_log(path)
    given = read_stats(path)["space"]
    with Index.open(path, None if given else Embedder(bundle, threads=threads, **space)) as target:
        done = target.repair(drop=drop, backup=backup, show_progress=True)

    def text() -> Iterator[str]:
        yield f"{index}: {len(done.restored)} restored, {len(done.dropped)} dropped, {len(done.lost)} left damaged"
        if lost:
            yield "  the log was missing: the last commits, which were in it, are given up"
        if done.rebuilt:
            yield f"  made anew: {', '.join(done.rebuilt)}"
        yield from _damage_lines("dropped", done.dropped)
        yield from _damage_lines("damaged", done.lost)
        yield from (f"  {problem}" for problem in done.problems)

    lists = {name: [damage._asdict() for damage in getattr(done, name)] for name in ("lost", "dropped")}
    show({**vars(done), **lists, "log_lost": lost, "whole": done.whole}, as_json, text)
    if not done.whole:
        click.get_current_context().exit(1)


def _damage_lines(word: str, damaged: list[Any]) -> Iterator[str]:
    yield from (f"  {word}  {shorten(key, 200)}: {what}" for key, what in damaged)


@click.command()
@click.argument("index", metavar="INDEX")
@json_option
def compact(index: str, as_json: bool) -> None:
    """Give the space of deleted documents of INDEX back; needs free space for a copy while it runs."""
    from edge_embed_runtime.maintenance.compact import compact_index

    done = compact_index(index)

    def text() -> Iterator[str]:
        yield f"{index}: {done.before:,} bytes before, {done.after:,} after"
        if done.pending:
            yield "  a reader still uses the old state; the file shrinks once it has ended and INDEX is written again"

    show(vars(done), as_json, text)


@click.command()
@click.argument("index", metavar="INDEX")
@click.argument("out", metavar="OUT")
@click.option("--compact", is_flag=True, help="Leave out the space of deleted documents.")
@click.option("--force", is_flag=True, help="Replace OUT where it is there.")
@json_option
def backup(index: str, out: str, compact: bool, force: bool, as_json: bool) -> None:
    """Copy INDEX as it is now to the file OUT, also while another process writes to it. Needs no bundle."""
    from edge_embed_runtime.maintenance.backup import backup_index

    made = backup_index(index, out, compact=compact, overwrite=force, show_progress=True)
    result = {"path": str(made.path), "bytes": made.bytes, "generation": made.generation}
    show(result, as_json, lambda: [f"{out}: {made.bytes:,} bytes"])
