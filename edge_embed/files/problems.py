"""What could not be read: raised at once as an error, or collected and shown at the end."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_embed_runtime.errors import SourceError

# The reason where a file changes while it is read: what was read may be of two states.
CHANGED = "changed while it was read; run again"


@dataclass(frozen=True)
class Problem:
    """A file, or a row of one, that cannot be read or stored.

    reason: without a line, the rest of a sentence that begins with the path: "cannot be read: Permission denied"
    """

    path: str
    line: int | None
    reason: str

    def __str__(self) -> str:
        return f"{self.path} {self.reason}" if self.line is None else f"{self.path}, line {self.line}: {self.reason}"


Report = Callable[[Problem], None]


def ignore(_: str) -> None:
    """What to call with notes that nobody wants."""


def refuse(problem: Problem) -> None:
    """The report that stops at the first problem."""
    raise SourceError(str(problem), path=problem.path, line=problem.line)


def shown(path: str | os.PathLike[str]) -> str:
    """A path that can be printed and stored as JSON: bytes of its name that are not UTF-8 become \\udcXX."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def about(path: Path, line: int | None, error: Exception) -> Problem:
    """An error of a reader as a problem of this file; its message without the file's name."""
    reason = " ".join(str(error).split())
    return Problem(shown(path), line, reason.removeprefix(str(path)).lstrip(" ,:"))


def unreadable(path: Path, error: Exception) -> str:
    """Why a picture or sound cannot be read, as the rest of a sentence: "is cut off", "cannot be read: it is empty"."""
    reason = about(path, None, error).reason
    return reason if str(error).startswith(f"{path} ") else f"cannot be read: {reason}"
