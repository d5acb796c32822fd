"""What could come next in a command line, for the scripts of `edge-embed completion`.

A script calls the program with _EDGE_EMBED_COMPLETE set, and the words up to the cursor as arguments, the last one
unfinished. Each line of the answer is a kind, a value and a help text with tabs between: "plain" is a word; "index",
"dir" and "file" stand for the index files, folders or files that begin with the last word: the shell looks for them.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress

import click
from click.shell_completion import CompletionItem, ShellComplete

INDEX, FOLDER, FILE = "index", "dir", "file"
BUNDLES = ("minilm", "static")
# What a value is by its metavar, without brackets and dots: words, and the kind of paths.
VALUES: dict[str, tuple[tuple[str, ...], str]] = {
    "INDEX": ((), INDEX),
    "BUNDLE|INDEX": (BUNDLES, FILE),
    **dict.fromkeys(
        ["FOLDER|minilm|static", "BUNDLE", "NAME=]BUNDLE", "TEXT_BUNDLE", "TOWER_BUNDLE"], (BUNDLES, FOLDER)
    ),
    "FOLDER|minilm": (BUNDLES[:1], FOLDER),
    **dict.fromkeys(["FOLDER", "DIR"], ((), FOLDER)),
    **dict.fromkeys(["FILE", "FILE|-", "INPUT", "OUT", "OUTPUT", "PAIRS", "PATH", "SHARD", "VECTORS"], ((), FILE)),
}
# Arguments without a metavar: their names.
ARGUMENTS = {"data_dir": ((), FOLDER), "source": ((), FILE), "bundle": ((), FOLDER), "path": (BUNDLES, FILE)}


class Place(click.types.StringParamType):
    """A text that is a path, or one of a few words."""

    def __init__(self, words: Sequence[str], kind: str) -> None:
        self._words, self._kind = words, kind

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        words = [CompletionItem(word) for word in self._words if word.startswith(incomplete)]
        return [*words, CompletionItem(incomplete, type=self._kind)]


def place_of(parameter: click.Parameter) -> Place | None:
    """What completes the values of a parameter; None where click knows, or nobody does."""
    if type(parameter.type) is not click.types.StringParamType:
        return None
    if parameter.metavar is None and isinstance(parameter, click.Argument):
        found = ARGUMENTS.get(parameter.name or "")
    else:
        found = VALUES.get((parameter.metavar or "").strip("[]."))
    return None if found is None else Place(*found)


def with_places(command: click.Command) -> click.Command:
    """The command, whose parameters know what completes their values."""
    for parameter in command.params:
        parameter.type = place_of(parameter) or parameter.type
    return command


def answer(program: click.Command, words: Sequence[str]) -> None:
    """Print what could come next. words: those after the program's name, the last one unfinished"""
    given = [word for word in words[:-1] if word != "="]  # bash has --bundle=minilm as three words
    last = "" if words[-1:] == ["="] else "".join(words[-1:])
    shell = ShellComplete(program, {}, "edge-embed", "")
    with suppress(BrokenPipeError):  # the shell no longer wants to know
        for line in _lines(shell.get_completions(given, last)):
            click.echo(line)


def _lines(items: Sequence[CompletionItem]) -> Iterator[str]:
    for item in items:
        yield "\t".join([item.type, item.value, " ".join((item.help or "").split())])
