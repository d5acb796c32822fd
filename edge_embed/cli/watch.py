"""`edge-embed add --watch`: what it prints."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from edge_embed.cli.options import counted, shorten
from edge_embed.cli.terminal import say, say_json

if TYPE_CHECKING:
    from edge_embed.files.opening import Opening
    from edge_embed.files.task import AddTask
    from edge_embed.files.watching import Event


def watch(index: str, task: "AddTask", opening: "Callable[[], Opening]", *, as_json: bool) -> None:
    """Follow files until Ctrl-C, which is the way to end it."""
    from edge_embed.files.watching import watch_files

    def tell(event: "Event") -> None:
        if as_json:
            say_json({"time": datetime.now().astimezone().isoformat(timespec="milliseconds"), **_fields(event)})
        else:
            _print(index, event)

    try:
        watch_files(task, opening, tell)
    except KeyboardInterrupt:
        if not as_json:
            say(f"{_now()} stopped")


def _fields(event: "Event") -> dict[str, Any]:
    from edge_embed.files.problems import Problem
    from edge_embed.files.task import Change
    from edge_embed.files.watching import Watching

    if isinstance(event, Change):
        return {"change": event.kind, "path": event.path, "stored": event.stored, "deleted": event.deleted}
    if isinstance(event, Problem):
        return {"problem": vars(event)}
    if isinstance(event, Watching):
        return {"watching": list(event.paths), "documents": event.documents}
    return {"waiting": event.reason}


def _print(index: str, event: "Event") -> None:
    """A line: a change to stdout, what is wrong to stderr."""
    from edge_embed.files.problems import Problem
    from edge_embed.files.task import Change
    from edge_embed.files.watching import Watching

    if isinstance(event, Change):
        numbers = {"stored": event.stored, "deleted": event.deleted}
        said = ", ".join(f"{number} {what}" for what, number in numbers.items() if number)
        say(f"{_now()} {event.kind} {event.path}: {said}")
    elif isinstance(event, Watching):
        say(f"{_now()} watching {', '.join(event.paths)}: {counted(event.documents, 'document')} in {index}")
    elif isinstance(event, Problem):
        say(f"edge-embed: {shorten(str(event), 500)}", err=True)
    else:
        say(f"edge-embed: {shorten(event.reason, 500)}", err=True)


def _now() -> str:
    return datetime.now().strftime("%H:%M:%S")
