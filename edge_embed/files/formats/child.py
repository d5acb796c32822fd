"""The process that reads files for processes.py, `python -m edge_embed.files.formats.child`.

It gets a job a line on stdin, and answers with lines on stdout: {"begun": 1}, then any of {"text": ...} (see Content),
{"cells": ...} (see Cells), {"problem": why}, {"note": ...}, {"at": place}, and at last {"end": 1}.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from edge_embed.files.formats.content import Content, Request, UnreadableError
from edge_embed.files.formats.filetypes import FILE_TYPES
from edge_embed_runtime.errors import EdgeEmbedError
from edge_embed_runtime.system.files import open_regular

# Seconds without a job after which the process ends.
IDLE_SECONDS = 30.0
# Seconds between two signs of life.
BEAT = 1.0
# Bytes of memory after which it ends, with the file that took them.
WORN = 2**28
MB = 2**20
# Columns of /proc/self/statm.
MAPPED, RESIDENT = 0, 1

Say = Callable[[dict[str, Any]], None]


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the process that started this one, and then this
    with (
        os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace") as output,
        Path(os.devnull).open("wb") as nothing,
    ):
        os.dup2(nothing.fileno(), 1)  # what libraries print

        def say(message: dict[str, Any]) -> None:
            output.write(json.dumps(message, ensure_ascii=False) + "\n")
            output.flush()

        while line := _next_line():
            say({"begun": 1})
            job = json.loads(line)
            with limits(job["memory"], job["seconds"]):
                read(job, say)
            worn = _memory(RESIDENT) > WORN
            say({"end": 1})
            if worn:
                return


def _next_line() -> bytes:
    """The next job; the process ends where none comes."""
    timer = threading.Timer(IDLE_SECONDS, os._exit, [0])
    timer.daemon = True
    timer.start()
    line = sys.stdin.buffer.readline()
    timer.cancel()
    return line


def read(job: dict[str, Any], say: Say) -> None:
    """Read a file, and say what it holds. Nothing is raised."""
    beat = 0.0

    def at(place: str) -> None:
        nonlocal beat
        if time.monotonic() - beat > BEAT:
            beat = time.monotonic()
            say({"at": place})

    request = Request(
        job["suffix"],
        job["limit"],
        job["encoding"],
        tuple(job["columns"]),
        job["path"],
        problem=lambda reason: say({"problem": reason}),
        note=lambda note: say({"note": note}),
        at=at,
    )
    try:
        with open_regular(job["path"]) as file:
            status = os.fstat(file.fileno())
            if [status.st_dev, status.st_ino] != job["file"]:
                raise UnreadableError("changed while it was read; run again")
            _read(file, request, say)
    except UnreadableError as error:
        say({"problem": str(error), "line": error.line})
    except MemoryError:
        say({"problem": f"cannot be read: it needs more than {job['memory'] // MB} MB of memory"})
    except EdgeEmbedError as error:
        say({"problem": f"cannot be read: {error}"})
    except OSError as error:
        say({"problem": f"cannot be read: {error.strerror or error}"})
    except RecursionError:
        say({"problem": "cannot be read: it is nested too deep"})
    except Exception as error:  # noqa: BLE001 - any, for parsers of foreign formats raise all kinds on damaged files
        say({"problem": f"cannot be read: it is damaged ({type(error).__name__}: {str(error)[:200]})"})


def _read(file: BinaryIO, request: Request, say: Say) -> None:
    for found in FILE_TYPES[request.suffix].load()(file, request):
        say({"text" if isinstance(found, Content) else "cells": asdict(found)})


@contextmanager
def limits(memory: int, seconds: float) -> Iterator[None]:
    """Beside what it has, the process gets no more memory than that, and no more seconds of CPU (twice, in case the
    one that started it is gone). Where the system has such limits."""
    try:
        import resource
    except ImportError:  # Windows
        yield
        return
    kinds = (
        (resource.RLIMIT_AS, (_memory(MAPPED) or 2**32) + memory),
        (resource.RLIMIT_CPU, int(time.process_time() + 2 * seconds)),
    )
    before = [resource.getrlimit(kind) for kind, _ in kinds]
    for (kind, most), (soft, hard) in zip(kinds, before, strict=True):
        allowed = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
        resource.setrlimit(kind, (min([most, *allowed]), hard))
    try:
        yield
    finally:
        for (kind, _), limit in zip(kinds, before, strict=True):
            resource.setrlimit(kind, limit)


def _memory(column: int) -> int:
    """Bytes of memory of this process: MAPPED, its address space, or RESIDENT; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[column]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


if __name__ == "__main__":
    main()
