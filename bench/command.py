"""The command lines of both comparisons: errors, options, and what comes out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edge_embed_runtime.errors import EdgeEmbedError, SourceError
from edge_embed_runtime.extras import require


class Command(click.Command):
    """Errors end in one line on stderr and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (EdgeEmbedError, OSError) as error:
            raise click.ClickException(" ".join(str(error).split())) from error


def numbers(most: int, example: str) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """A list of numbers from 1 to `most`: "1,16,64" -> (1, 16, 64)."""

    def read(_: click.Context, parameter: click.Parameter, given: str | None) -> tuple[int, ...] | None:
        if given is None:
            return None
        parts = given.replace("_", "").split(",")
        if not all(part.strip().isdecimal() and 1 <= int(part) <= most for part in parts):
            raise click.BadParameter(
                f"{given!r} is not a list of numbers from 1 to {most:,} such as {example}", param=parameter
            )
        return tuple(dict.fromkeys(map(int, parts)))

    return read


def chosen(given: str | None, parameter: click.Parameter, names: dict[str, str]) -> tuple[str, ...]:
    """Peers by name or family, of {name: family}: "faiss-flat,usearch" -> those and every other of usearch."""
    if given is None or given == "all":
        return tuple(names)
    found: dict[str, None] = {}
    for asked in () if given == "none" else [part.strip() for part in given.split(",")]:
        fitting = [name for name, family in names.items() if asked in {name, family.lower()}]
        if not fitting:
            raise click.BadParameter(f"{asked!r} is none of all, none, {', '.join(names)}", param=parameter)
        found.update(dict.fromkeys(fitting))
    return tuple(found)


work_option = click.option(
    "--work",
    metavar="FOLDER",
    type=click.Path(file_okay=False),
    help="Keeps what was made for the next run.  [default: a temporary folder]",
)
plot_option = click.option(
    "--plot", "plot_file", metavar="FILE.svg", type=click.Path(dir_okay=False), help="Write a chart."
)


def check_outputs(plot: str | None, as_json: bool) -> None:
    """Whether there will be a place for the plot and a package for the tables, before anything is measured."""
    from edge_embed_runtime.system.writing import check_output

    if plot and not Path(plot).absolute().parent.is_dir():
        raise SourceError(f"{plot}: the folder {Path(plot).absolute().parent} does not exist")
    if plot:
        check_output(Path(plot))
    if not as_json:
        require("rich.table", "bench")


def write_plot(plot: str | None, drawing: Callable[[], str]) -> None:
    from edge_embed_runtime.system.writing import replacing

    if plot:
        with replacing(Path(plot), 0o666) as file:
            file.write(drawing().encode())
