"""`edge-embed verify`."""

from collections.abc import Iterator

import click

from edge_embed.cli.options import json_option, shorten, show


@click.command()
@click.argument("index", metavar="INDEX")
@json_option
def verify(index: str, as_json: bool) -> None:
    """Read every row of INDEX and report damage.

    The exit status is 1 if anything is damaged. Needs no bundle, changes nothing, and works while another process
    writes.
    """
    from edge_embed_runtime.maintenance.verify import verify_index

    report = verify_index(index, show_progress=True)

    def text() -> Iterator[str]:
        counts = f"{report.documents} documents, {report.passages} passages"
        yield f"{index}: {counts}, {'whole' if report.whole else 'not whole'}"
        yield from (f"  damaged  {shorten(key, 200)}: {what}" for key, what in report.damaged)
        yield from (f"  {problem}" for problem in report.problems)

    damaged = [damage._asdict() for damage in report.damaged]
    show({**vars(report), "damaged": damaged, "whole": report.whole}, as_json, text)
    if not report.whole:
        click.get_current_context().exit(1)
