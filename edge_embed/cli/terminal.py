"""The one place that prints: in the encoding of stdout, and without characters that control a terminal."""

import contextlib
import io
import json
import os
import re
import sys
from typing import Any, TextIO

from edge_embed_runtime.errors import StorageError

# Control characters, which a terminal may take as commands; line and paragraph separators; characters that change the
# direction of writing, so that a text looks like another; and surrogates.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff]")


def printable(text: str) -> str:
    """One line: "a\\x1b[2J\\n" with the control characters -> the same as it stands here, with backslashes."""
    return CONTROL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    return {9: "\\t", 10: "\\n", 13: "\\r"}.get(number, f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")


def say(text: str, *, err: bool = False, end: str = "\n") -> None:
    """Print a line, or with another `end` a part of one. Characters that the stream's encoding lacks become "?".

    When the reader has closed the pipe, as `| head` does, nothing more is printed. Raises StorageError for any other
    failure of stdout, such as a full disk; a failure of stderr cannot be reported.
    """
    stream = sys.stderr if err else sys.stdout
    if stream is None:
        return
    try:
        stream.write(printable(text) + end)
        stream.flush()
    except BrokenPipeError:
        discard(stream)
    except (OSError, ValueError) as error:  # ValueError: the stream is closed
        discard(stream)
        if not err:
            cause = error if isinstance(error, OSError) else None
            raise StorageError(
                f"stdout cannot be written: {(cause and cause.strerror) or error}", cause=cause
            ) from error


def say_step(step: str) -> None:
    """Print what long work does next to stderr, where that is a terminal."""
    if sys.stderr is not None and sys.stderr.isatty():
        say(step, err=True)


def say_json(result: dict[str, Any]) -> None:
    """Print a result as one line of JSON."""
    say(json_text(result))


def json_text(value: Any) -> str:
    """JSON in one line that stdout's encoding can print; the content is the same in every encoding."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value)
    # these characters stand in strings only, and there the escape means the same
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def prepare() -> None:
    """Make the standard streams usable, also where they are closed or their encoding lacks most characters."""
    with contextlib.suppress(OSError):
        # no file that we open may get the number of a closed stream: libraries write their messages there
        while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
            os.set_inheritable(descriptor, True)
        os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - open until the process ends
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def discard(stream: TextIO) -> None:
    """Send what is still written to a broken stream to the null device, also when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
