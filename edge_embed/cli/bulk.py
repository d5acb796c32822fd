"""`edge-embed bulk`."""

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from edge_embed.cli.options import bundle_option, counted, json_option, max_rss_option, show, space_options
from edge_embed.cli.terminal import say

if TYPE_CHECKING:
    from edge_embed.integrations.ray.outcome import Bulked, Progress

# Problems and keys that are listed; --json has the first thousand, the journal of the run all.
SHOWN = 20
# Seconds between two lines of progress where stderr is no terminal.
EVERY = 30.0


@click.command()
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.argument("output", metavar="OUTPUT")
@click.option("--text-column", metavar="NAME", default="text", help="The column of texts.  [default: text]")
@click.option("--key-column", metavar="NAME", help="The column of keys.  [default: key, _id or id, else FILE:ROW]")
@click.option("--role", default="document", help="Put the prompt of this role before each text.  [default: document]")
@click.option("--prompt", help="Put this text before each text, instead of a role's prompt.")
@click.option("--dtype", type=click.Choice(["float32", "float16"]), default="float32", help="Of stored numbers.")
@click.option("--workers", type=click.IntRange(1), help="Processes that embed.  [default: one a core]")
@click.option("--threads", type=click.IntRange(1), default=1, help="CPU cores of each worker.  [default: 1]")
@click.option("--address", help="A Ray cluster that runs already.  [default: one on this machine, for this run]")
@click.option(
    "--rows-per-shard", type=click.IntRange(1), help="Rows of a shard.  [default: 20,000, fewer of small inputs]"
)
@click.option("--strict", is_flag=True, help="Stop at the first row that cannot be embedded.")
@bundle_option
@space_options
@max_rss_option
@json_option
def bulk(inputs: tuple[str, ...], output: str, as_json: bool, **options: Any) -> None:
    """Embed files of many rows on a Ray cluster, into shards.

    INPUT is a .parquet, .jsonl or .ndjson file (the last two also .gz), a folder of such files, or a pattern in quotes.
    Each row becomes one vector; the folder OUTPUT gets Parquet files of keys, texts, the other columns and vectors,
    for `edge-embed merge` or any store. --max-rss is for each worker.

    Finished shards are durable: run a killed command again, and it goes on. Rows that cannot be embedded, and keys that
    come twice, are listed at the end, and the exit status is then 1; all others have their vectors. Needs the extra
    `ray`.
    """
    from edge_embed.integrations.ray.bulk import embed_files

    done = embed_files(inputs, output, **options, progress=_Said())
    show(done.as_json(), as_json, lambda: [_line(done)])
    for problem in done.problems[:SHOWN]:
        place = f"row {problem['row']}" if "row" in problem else f"line {problem['line']}"
        say(f"edge-embed: {problem['file']}, {place}: {problem['reason']}", err=True)
    _rest(done.problem_count, "rows without a vector")
    for twice in done.duplicates[:SHOWN]:
        places = _names(twice["shards"])
        say(f"edge-embed: the key {twice['key']!r} comes {len(twice['shards'])} times: {places}", err=True)
    _rest(done.duplicate_count, "keys that come more than once")
    if done.problem_count or done.duplicate_count:
        click.get_current_context().exit(1)


def _rest(number: int, what: str) -> None:
    if number > SHOWN:
        say(f"edge-embed: and {number - SHOWN:,} more ({what})", err=True)


def _names(shards: list[str]) -> str:
    return ", ".join(dict.fromkeys(shards[:3])) + (" ..." if len(shards) > 3 else "")


def _line(done: "Bulked") -> str:
    before = f", {done.shards - done.made} of them earlier" if done.shards > done.made else ""
    again = f", {counted(done.repaired, 'damaged shard')} made again" if done.repaired else ""
    speed = f"; {done.rows_per_second:,.0f} rows a second with {counted(done.workers, 'worker')}" if done.made else ""
    return (
        f"{done.output}: {done.rows:,} vectors of {done.dim} dimensions in {counted(done.shards, 'shard')}{before}"
        f"{again}{speed}"
    )


class _Said:
    """Progress on stderr: one line that is written over on a terminal, else a line from time to time."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._over = sys.stderr is not None and sys.stderr.isatty()

    def __call__(self, now: "Progress") -> None:
        ended = now.shards == now.of_shards
        if not self._over and (ended or time.monotonic() - self._last < EVERY):
            return
        self._last = time.monotonic()
        left = now.seconds_left
        time_left = "" if left is None else f", {_time(left)} left"
        part = now.rows / max(now.total, 1)
        line = f"{now.rows:,} of {now.total:,} rows ({part:.0%}), {now.speed:,.0f} a second{time_left}"
        if self._over:
            sys.stderr.write(f"\r\x1b[K{line}" + ("\r\x1b[K" if ended else ""))
            sys.stderr.flush()
        else:
            say(f"edge-embed: {line}", err=True)


def _time(seconds: float) -> str:
    """59 -> "59 s", 3600 -> "60 min", 90000 -> "25.0 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
