"""`edge-embed report`."""

from pathlib import Path

import click

from edge_embed.cli.options import bundle_option, json_option, show, threads_option


@click.command()
@click.argument("target", metavar="BUNDLE|INDEX")
@click.argument("output", metavar="[OUT]", required=False)
@click.option("--color-by", metavar="FIELD", help="Colour the map by this metadata field.  [default: one that suits]")
@click.option(
    "--points",
    type=click.IntRange(50, 50_000),
    default=2000,
    show_default=True,
    help="Show no more documents than this in the map.",
)
@click.option("--no-timing", is_flag=True, help="Load no bundle: leave out how long documents take to embed.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@bundle_option
@threads_option
@json_option
def report(
    target: str,
    output: str | None,
    color_by: str | None,
    points: int,
    no_timing: bool,
    force: bool,
    as_json: bool,
    bundle: str | None,
    threads: int | None,
) -> None:
    """Write an HTML page about a bundle or an index.

    OUT is NAME-report.html in this folder unless it is given. Of a bundle the page has the receipt and plots of quality
    against bytes and speed; of an index what it holds, the same plots measured on it, its largest and slowest
    documents, and a map of its vectors. It loads nothing from elsewhere, and has keys, beginnings and metadata of
    documents: send it only to those who may read these.
    """
    from edge_embed.embedder import bundle_path, own_embedder
    from edge_embed.report.mapping import MapOptions
    from edge_embed.report.write import write_report

    place = bundle_path(target)
    embedder = None if no_timing or not place.is_file() else own_embedder(place, bundle, threads=threads)
    options = MapOptions(points=points, colour=color_by)
    done = write_report(target, output or f"{place.stem}-report.html", embedder=embedder, options=options, force=force)
    show(
        {"path": str(done.path), "of": done.of, "bytes": done.bytes},
        as_json,
        lambda: [f"{done.path}: a report of the {done.of} {Path(target).name}, {done.bytes:,} bytes"],
    )
