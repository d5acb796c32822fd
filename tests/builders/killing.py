"""A command of edge-embed in a process that is killed at a line of ours."""

import os
import signal
import sys
from types import FrameType
from typing import Any

from builders.commands import run

# Where something is read or written; between, it is embedded.
OURS = (
    "edge_embed.files.",
    "edge_embed_runtime.storage.",
    "edge_embed_runtime.index.",
    "edge_embed_runtime.maintenance.",
)


def killed_at(line: int | None, *command: str) -> int:
    """Run it in a child that is killed at a line of ours. Returns the number of lines it ran, where it was not."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal count
            if not frame.f_globals.get("__name__", "").startswith(OURS):
                return None
            if event == "line":
                count += 1
                if count == line:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        status = run(*command).exit_code
        sys.settrace(None)
        os.write(writing, str(count).encode())
        os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended == (0 if said else -signal.SIGKILL)
    return int(said or 0)
