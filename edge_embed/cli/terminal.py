"""The one place where anything is printed: in whatever encoding stdout has, without what a terminal would obey."""

import contextlib
import io
import json
import os
import re
import sys
from typing import Any, TextIO

from edge_embed_runtime.errors import StorageError

# Control characters, among them those that begin a terminal's commands; line and paragraph separators; what turns the
# direction of writing, so that text seems to be another; and halves of characters.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff]")


def printable(text: str) -> str:
    """One line: "a\\x1b[2J\\n" with the control characters -> the same as it stands here, with backslashes."""
    return CONTROL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    return {9: "\\t", 10: "\\n", 13: "\\r"}.get(number, f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")


def say(text: str, *, err: bool = False, end: str = "\n") -> None:
    """Print a line, or with another end a part of one, to stdout or stderr. What its encoding has not becomes "?".

    Where nobody reads any more, as behind `| head`, nothing is printed from then on. Raises StorageError for any other
    failure of stdout, such as a full disk; one of stderr can be told to nobody.
    """
    stream = sys.stderr if err else sys.stdout
    if stream is None:
        return
    try:
        stream.write(printable(text) + end)
        stream.flush()
    except BrokenPipeError:
        discard(stream)
    except (OSError, ValueError) as error:  # a ValueError: it was closed
        discard(stream)
        if not err:
            cause = error if isinstance(error, OSError) else None
            raise StorageError(
                f"stdout cannot be written: {(cause and cause.strerror) or error}", cause=cause
            ) from error


def say_json(result: dict[str, Any]) -> None:
    """Print a result as one line of JSON."""
    say(json_text(result))


def json_text(value: Any) -> str:
    """JSON for stdout, in one line: the same content in every encoding."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value)
    # only strings hold such characters, where these escapes mean the same
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def prepare() -> None:
    """Make the standard streams usable whatever they are: closed, or of an encoding without most characters."""
    with contextlib.suppress(OSError):
        # a file that we open must not get the number of a stream, which libraries write their messages to
        while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
            os.set_inheritable(descriptor, True)
        os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def discard(stream: TextIO) -> None:
    """Let what is still written to a broken stream go nowhere, also at the interpreter's end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
