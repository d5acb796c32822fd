"""Options and output that several commands share."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import click

from edge_embed.cli.terminal import json_text, printable, say, say_json
from edge_embed_runtime.errors import StorageError

BUNDLE_VARIABLE = "EDGE_EMBED_BUNDLE"

# In the `meta` of click's contexts: whether JSON is asked for, and whether the object was printed.
JSON, PRINTED = "edge_embed.json", "edge_embed.printed"

json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object instead of text. Of a command that fails it is "
    '{"error": {"code": ..., "message": ..., ...}}, with what else is known, such as path and keys.',
)
threads_option = click.option("--threads", type=click.IntRange(1), help="CPU cores to use.  [default: all allowed]")
bundle_option = click.option(
    "--bundle",
    metavar="FOLDER|minilm|static",
    envvar=BUNDLE_VARIABLE,
    help=f"Bundle to embed with: a folder, or the name of an embedded one; or {BUNDLE_VARIABLE} in the environment.  "
    "[default: minilm]",
)
engine_option = click.option(
    "--engine",
    type=click.Choice(["native", "onnxruntime"]),
    help="What runs the model. native gives the same vectors on every CPU, for bundles that were exported for it.  "
    "[default: what the bundle was made for]",
)
truncate_option = click.option(
    "--truncate-dim",
    type=click.IntRange(1),
    help="Keep only this many numbers of each vector, the first ones; `edge-embed info BUNDLE` shows what that costs.",
)
adapter_option = click.option(
    "--adapter",
    metavar="NAME",
    help="Embed with this adapter of the bundle; `base` uses none.  [default: the adapter of the role, if it has one]",
)
max_rss_option = click.option(
    "--max-rss",
    "max_rss_mb",
    metavar="MB",
    type=click.FloatRange(1),
    help="Memory limit of this process, in megabytes. If it is too low, the error names the lowest that works.",
)
secure_option = click.option(
    "--secure-delete",
    is_flag=True,
    help="Overwrite deleted and replaced content in INDEX at once; slower, the more words INDEX has.",
)
background_option = click.option(
    "--background", is_flag=True, help="Use one thread, which lets every other program have the CPU first."
)
words_option = click.option(
    "--words",
    type=click.Choice(["english", "plain", "trigram"]),
    help="How a new INDEX splits texts into words: english (stems), plain (whole words), or trigram (three characters "
    "in a row, for languages without spaces).  [default: english]",
)
fields_option = click.option(
    "--field",
    "fields",
    metavar="NAME",
    multiple=True,
    help="A metadata field of a new INDEX that --where should find fast; may be given several times.",
)
timeout_option = click.option(
    "--timeout", type=click.FloatRange(0), default=0.0, help="Seconds to wait for another process that writes to INDEX."
)
# What the embedders of --sparse and --multi share with that of --bundle.
SHARED = ("threads", "max_rss_mb", "background")


def all_options(*options: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Several options as one decorator, in the order of the help."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


# Which vectors of a bundle: `truncate_dim`, `adapter` and `engine`, as `Embedder` takes them.
space_options = all_options(truncate_option, adapter_option, engine_option)
# What else `Embedder` takes besides --bundle.
run_options = all_options(space_options, threads_option, max_rss_option, background_option)
# Bundles whose vectors are stored together with those of --bundle: see `more_embedders`.
kind_options = all_options(
    click.option("--sparse", metavar="FOLDER", help="A bundle of kind sparse (SPLADE) to use together with --bundle."),
    click.option("--multi", metavar="FOLDER", help="A bundle of kind multi (ColBERT) to use together with --bundle."),
)


def more_embedders(sparse: str | None, multi: str | None, model: dict[str, Any]) -> dict[str, Any]:
    """What `Index.open` takes for --sparse and --multi. model: the options of --bundle's embedder."""
    from edge_embed.embedder import Embedder

    shared = {name: model[name] for name in SHARED if name in model}
    given = {"sparse": sparse, "multi": multi}
    return {name: Embedder(bundle, **shared) for name, bundle in given.items() if bundle is not None}


def show(result: dict[str, Any], as_json: bool, text: Callable[[], Iterable[str]]) -> None:
    """Print a result for a machine or for a person."""
    if as_json:
        click.get_current_context().meta[PRINTED] = True
        say_json(result)
    else:
        for line in text():
            say(line)


def show_each(name: str, entries: Iterable[Any], **more: Any) -> None:
    """Print one JSON object that has a list, an entry at a time, since all of them together may be large.

    name: of the list; more: what else the object has
    """
    click.get_current_context().meta[PRINTED] = True
    say(f'{{"{name}": [', end="")
    for number, entry in enumerate(entries):
        say((", " if number else "") + json_text(entry), end="")
    say("".join(["]", *(f', "{key}": {json_text(value)}' for key, value in more.items()), "}"]))


def show_error(context: click.Context | None, error: dict[str, Any]) -> None:
    """Print an error as the one JSON object, where that is asked for and was not printed. stderr has it in words."""
    if context is not None and context.meta.get(JSON) and not context.meta.get(PRINTED):
        with suppress(StorageError):  # stdout may be what failed
            say_json({"error": error})


def counted(number: int, what: str) -> str:
    """1, "file" -> "1 file"; 2, "file" -> "2 files"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def shorten(text: str, width: int) -> str:
    """One line of at most `width` characters."""
    line = printable(" ".join(text[: 2 * width].split()))
    return line if len(line) <= width else line[: width - 1] + "…"
