"""Options and output that several commands share."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import click

from edge_embed.cli.terminal import printable, say, say_json
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
threads_option = click.option("--threads", type=click.IntRange(1), help="Cores to use.  [default: all allowed]")
bundle_option = click.option(
    "--bundle",
    metavar="FOLDER|minilm|static",
    envvar=BUNDLE_VARIABLE,
    help=f"Bundle to embed with: a folder or an embedded one; or {BUNDLE_VARIABLE} in the environment.  "
    "[default: minilm]",
)
truncate_option = click.option(
    "--truncate-dim",
    type=click.IntRange(1),
    help="Keep only so many numbers of each vector, the first; `edge-embed info BUNDLE` shows what that costs.",
)
adapter_option = click.option(
    "--adapter",
    metavar="NAME",
    help="Embed with this adapter of the bundle, or with `base` alone.  [default: that of the role, if it has one]",
)
max_rss_option = click.option(
    "--max-rss",
    "max_rss_mb",
    metavar="MB",
    type=click.FloatRange(1),
    help="Megabytes that the process is to stay under; refused with the least that works where it cannot.",
)
secure_option = click.option(
    "--secure-delete",
    is_flag=True,
    help="Overwrite in INDEX what is deleted or replaced, at once; takes longer the more words there are.",
)
background_option = click.option(
    "--background", is_flag=True, help="One thread that gives way to everything else that wants the CPU."
)
words_option = click.option(
    "--words",
    type=click.Choice(["english", "plain", "trigram"]),
    help="How a new INDEX tells words apart: stems, whole words, or three characters in a row, for languages without "
    "spaces.  [default: english]",
)
fields_option = click.option(
    "--field",
    "fields",
    metavar="NAME",
    multiple=True,
    help="A metadata field of a new INDEX that --where is to find fast; may be given several times.",
)
timeout_option = click.option(
    "--timeout", type=click.FloatRange(0), default=0.0, help="Seconds to wait for another process that writes to INDEX."
)


def kind_options(command: Callable[..., None]) -> Callable[..., None]:
    """Bundles whose vectors are stored beside those of --bundle: see `beside`."""
    sparse = click.option("--sparse", metavar="FOLDER", help="A bundle of kind sparse (SPLADE) to use beside --bundle.")
    multi = click.option("--multi", metavar="FOLDER", help="A bundle of kind multi (ColBERT) to use beside --bundle.")
    return sparse(multi(command))


def beside(sparse: str | None, multi: str | None, **options: Any) -> dict[str, Any]:
    """What `Index.open` takes for --sparse and --multi."""
    from edge_embed.embedder import Embedder

    given = {"sparse": sparse, "multi": multi}
    return {name: Embedder(bundle, **options) for name, bundle in given.items() if bundle is not None}


def space_options(command: Callable[..., None]) -> Callable[..., None]:
    """Which of the vectors that a bundle can make: `truncate_dim` and `adapter`, as `Embedder` takes them."""
    return truncate_option(adapter_option(command))


def graph_options(command: Callable[..., None]) -> Callable[..., None]:
    """What `export` is told of a model that comes as a graph: see edge_embed_export.options.GraphOptions."""
    options = (
        click.option("--general", is_flag=True, help="Convert SOURCE, of any architecture, through torch."),
        click.option("--onnx", "onnx_file", metavar="FILE", help="Which ONNX file of the folder SOURCE to take."),
        click.option("--tokenizer", metavar="FILE", help="A tokenizer.json that is not beside an ONNX model."),
        click.option(
            "--pooling",
            type=click.Choice(["mean", "cls", "last", "max", "mean_sqrt_len", "weighted_mean"]),
            help="How an ONNX model's vectors of tokens become one.  [default: what its folder says]",
        ),
        click.option("--output", metavar="NAME", help="Which output of an ONNX model to take."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def show(result: dict[str, Any], as_json: bool, text: Callable[[], Iterable[str]]) -> None:
    """Print a result for a machine or for a person."""
    if as_json:
        click.get_current_context().meta[PRINTED] = True
        say_json(result)
    else:
        for line in text():
            say(line)


def show_error(context: click.Context | None, error: dict[str, Any]) -> None:
    """Print an error as the one JSON object, where that is asked for and was not printed. stderr has it in words."""
    if context is not None and context.meta.get(JSON) and not context.meta.get(PRINTED):
        with suppress(StorageError):  # stdout may be what failed
            say_json({"error": error})


def shorten(text: str, width: int) -> str:
    """One line of at most `width` characters."""
    line = printable(" ".join(text[: 2 * width].split()))
    return line if len(line) <= width else line[: width - 1] + "…"
