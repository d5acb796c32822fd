"""The command line: `edge-embed COMMAND --help` explains each command."""

import io
import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NoReturn

import click

from edge_embed.cli.options import JSON, show_error
from edge_embed.cli.terminal import discard, prepare, say
from edge_embed_runtime.errors import EdgeEmbedError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# Each command with the first sentence of its help, so that `edge-embed --help` imports none of them.
COMMANDS = {
    "add": "Add files and folders of files to INDEX.",
    "align": "Train a tower of pictures or sounds to be searched by texts.",
    "backup": "Copy INDEX to the file OUT.",
    "bench": "Measure this device: start, latency, texts/s, memory, search.",
    "bulk": "Embed files of many rows on a Ray cluster, into shards.",
    "compact": "Shrink INDEX by the space of deleted documents.",
    "completion": "Print a script with which your shell completes commands.",
    "delete": "Delete documents of INDEX by their keys, or by --where.",
    "demo": "Index and search a small real corpus; show times and memory.",
    "distill": "Make a small and very fast static bundle from another bundle.",
    "doctor": "Check this machine: CPU, memory, packages, speed of bundles.",
    "dump": "Write keys, vectors, texts and metadata of INDEX to a file.",
    "encode": "Embed every line of FILE and write the vectors to a .npy file.",
    "eval": "Measure retrieval quality on a judged set in BEIR's layout.",
    "export": "Convert a model to a bundle.",
    "find": "List the documents of INDEX, in the order of their keys.",
    "info": "Show what a bundle or an index holds.",
    "join": "Join bundles for texts, pictures and sounds to one bundle.",
    "load": "Store vectors of a file in INDEX, which is created if missing.",
    "mcp": "Give INDEX to programs with a language model, by MCP.",
    "merge": "Build the index OUT from shards of vectors, or from other indexes.",
    "prune": "Make a bundle smaller by removing tokens of its vocabulary.",
    "rebuild": "Build binary codes, word table and graph of INDEX again.",
    "reembed": "Embed every document of INDEX again, with another bundle.",
    "repair": "Restore damaged parts of INDEX from the texts it holds.",
    "report": "Write an HTML page about a bundle or an index.",
    "search": "Find the documents of INDEX that fit QUERY best.",
    "serve": "Answer requests over HTTP on this machine.",
    "tokens": "Show the tokens of each TEXT and their positions.",
    "update": "Change metadata of documents of INDEX, by keys or by --where.",
    "values": "Show which values a metadata field has in INDEX, and how often.",
    "verify": "Read every row of INDEX and report damage.",
    "wheelhouse": "Download all wheels for a device without a network.",
}
# How the help of the whole program orders them.
GROUPS = {
    "Documents of an index": ["add", "load", "search", "find", "values", "update", "delete", "dump", "serve", "mcp"],
    "Care of an index": ["info", "report", "backup", "merge", "verify", "repair", "compact", "rebuild", "reembed"],
    "Bundles": ["export", "distill", "prune", "align", "join", "encode", "bulk", "tokens", "eval"],
    "This machine": ["demo", "doctor", "bench", "wheelhouse", "completion"],
}
# Commands that are not in the module edge_embed.cli.NAME under their own name.
ELSEWHERE = {"eval": ("edge_embed.cli.evaluate", "evaluate")}
# Set by the scripts of `edge-embed completion`.
COMPLETING = "_EDGE_EMBED_COMPLETE"
INTERRUPTED = "interrupted; what was committed is stored"


class Commands(click.Group):
    """Errors end in one line on stderr and exit status 1; with --json stdout has them too, see `show_error`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[JSON] = "--json" in takewhile("--".__ne__, args)  # before anything can be wrong
        return super().parse_args(ctx, args)

    def main(self, *arguments: Any, **options: Any) -> Any:
        """An interruption at any moment ends with 130, where click has "Aborted!" and 1."""
        prepare()
        try:
            status = super().main(*arguments, **{**options, "standalone_mode": False})
        except click.ClickException as error:
            written = io.StringIO()
            error.show(written)
            for line in written.getvalue().splitlines():
                say(line, err=True)
            show_error(getattr(error, "ctx", None), {"code": "usage", "message": error.format_message()})
            status = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            say(f"edge-embed: {INTERRUPTED}", err=True)
            status = 130
        except SystemExit:  # click's way out where nobody reads what it prints
            discard(sys.stdout)
            status = 0
        except OSError as error:  # of what click prints itself: --help to a full disk
            discard(sys.stdout)
            say(f"edge-embed: {error}", err=True)
            status = 1
        sys.exit(status if isinstance(status, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EdgeEmbedError as error:
            return _fail(ctx, str(error), error.as_dict())
        except OSError as error:
            path = {} if error.filename is None else {"path": str(error.filename)}
            return _fail(ctx, str(error), {"code": "os_error", "message": str(error), **path})
        except MemoryError:
            return _fail(ctx, "there is not enough memory", {"code": "out_of_memory"})
        except KeyboardInterrupt:
            return _fail(ctx, INTERRUPTED, {"code": "interrupted"}, 130)


def _fail(ctx: click.Context, message: str, error: dict[str, Any], status: int = 1) -> NoReturn:
    """Say what went wrong, in one line, and end."""
    line = " ".join(message.split())
    say(f"edge-embed: {line}", err=True)
    show_error(ctx, {**error, "message": line})
    ctx.exit(status)


class LazyCommands(Mapping[str, click.Command]):
    """The commands of COMMANDS; each is imported when it is asked for."""

    def __getitem__(self, name: str) -> click.Command:
        if name not in COMMANDS:
            raise KeyError(name)
        module, attribute = ELSEWHERE.get(name, (f"edge_embed.cli.{name}", name))
        found: click.Command = getattr(import_module(module), attribute)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class Program(Commands):
    """The whole program, whose help is written, and whose commands are completed, without importing any command."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        if COMPLETING not in os.environ:
            return super().main(*arguments, **options)
        from edge_embed.cli.completing import answer

        return answer(self, sys.argv[1:])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if found is None or not ctx.resilient_parsing:
            return found
        from edge_embed.cli.completing import with_places

        return with_places(found)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        from click.shell_completion import CompletionItem

        names = [CompletionItem(name, help=what) for name, what in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        grouped = {name for names in GROUPS.values() for name in names}
        others = [name for name in COMMANDS if name not in grouped]
        for title, names in {**GROUPS, "Other commands": others}.items():
            if names:
                with formatter.section(title):
                    formatter.write_dl([(name, COMMANDS[name]) for name in names])


@click.group(cls=Program, commands=LazyCommands(), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="edge-embed", prog_name="edge-embed")
def main() -> None:
    """Embed and search texts, pictures and sounds on this machine: no network."""
