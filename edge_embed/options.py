"""Options and output that several commands share."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import click

BUNDLE_VARIABLE = "EDGE_EMBED_BUNDLE"

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
threads_option = click.option("--threads", type=click.IntRange(1), help="Cores to use.  [default: all allowed]")
bundle_option = click.option(
    "--bundle",
    metavar="FOLDER",
    envvar=BUNDLE_VARIABLE,
    help=f"Bundle to embed with, or {BUNDLE_VARIABLE} in the environment.  [default: the embedded one]",
)


def show(result: dict[str, Any], as_json: bool, text: Callable[[], Iterable[str]]) -> None:
    """Print a result for a machine or for a person."""
    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False))
    else:
        for line in text():
            click.echo(line)


def shorten(text: str, width: int) -> str:
    """One line of at most `width` characters."""
    line = " ".join(text[: 2 * width].split())
    line = "".join(character if character.isprintable() else "?" for character in line)  # no escape sequences
    return line if len(line) <= width else line[: width - 1] + "…"
