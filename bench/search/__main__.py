"""`python -m bench.search`: the command line."""

from typing import Any

import click

from bench.command import Command, check_outputs, chosen, numbers, plot_option, work_option, write_plot
from bench.search import plot, table
from bench.search.candidates import PEERS
from bench.search.run import Settings, run_search_benchmark
from edge_embed.cli.options import bundle_option, json_option, show
from edge_embed.cli.terminal import say

# What a disk holds.
MOST_VECTORS = 100_000_000


def _peers(_: click.Context, parameter: click.Parameter, given: str | None) -> tuple[str, ...]:
    return chosen(given, parameter, {name: peer.family for name, peer in PEERS.items()})


@click.command(cls=Command)
@bundle_option
@click.option(
    "--data",
    metavar="FOLDER",
    multiple=True,
    type=click.Path(exists=True, file_okay=False),
    help="Texts in BEIR's or Banking77's layout; may be given again.  [default: a few of the package]",
)
@click.option(
    "--sizes",
    metavar="LIST",
    default="10000,100000",
    show_default=True,
    callback=numbers(MOST_VECTORS, "10000,100000"),
    help="Vectors in an index.",
)
@click.option("--peers", metavar="LIST", callback=_peers, help="Peers or families of them, or none.  [default: all]")
@click.option("--recall", type=click.FloatRange(0.5, 1), help="Ask our index for it.  [default: its own]")
@click.option("-k", "--k", type=click.IntRange(1, 100), default=10, show_default=True, help="Hits of a search.")
@click.option("--queries", type=click.IntRange(1), default=1000, show_default=True, help="Most queries.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Parts of the queries.")
@click.option("--kills", type=click.IntRange(0), default=10, show_default=True, help="Writers to kill in each family.")
@click.option(
    "--build-limit",
    metavar="SECONDS",
    type=click.FloatRange(1),
    default=600,
    show_default=True,
    help="Leave out what takes longer to build.",
)
@work_option
@plot_option
@json_option
def main(plot_file: str | None, as_json: bool, **options: Any) -> None:
    """Our index against other vector indexes: same vectors and texts, one thread, interleaved, at equal recall.

    Vectors are those of real texts, and more of them by perturbation up to each size; queries are held out. Peers are
    tuned until they find as much as our index. Needs 30 bytes of disk for each byte of vectors while it runs.

    Peers need the extra `bench-search`: pip install 'edge-embed[bench-search]'
    """
    check_outputs(plot_file, as_json)
    result = run_search_benchmark(Settings(**options), lambda line: say(line, err=True))
    write_plot(plot_file, lambda: plot.svg(result))
    show(result, as_json, lambda: table.lines(result))


if __name__ == "__main__":
    main(prog_name="python -m bench.search")
