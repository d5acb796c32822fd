"""Files that are read in a process of their own: native code that crashes there, or never ends, is one problem.

The process is started for the first such file, reads one after the other, and ends when it has had none for a while. It
has limits of time and memory.
"""

import atexit
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from edge_embed.files.formats.content import UnreadableError

CHILD = "edge_embed.files.formats.child"
# Seconds that a file may take, and those without a sign of life, such as the next page.
SECONDS, QUIET_SECONDS = 600.0, 60.0
# Of a message: a text of Writer's limit, each character as \uXXXX.
MAX_MESSAGE = 2**30
# Seconds that the process gets to end by itself.
PATIENCE = 5.0
MB = 2**20


class Reader:
    """The process, which one thread at a time may use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def read(self, path: Path, job: dict[str, Any], memory: int) -> Iterator[dict[str, Any]]:
        """What the process says of a file, see child.py. Raises UnreadableError.

        memory: bytes that reading may take beside what the process has anyway
        """
        with self._lock:
            found = self._ask({**job, "path": str(path.absolute()), "memory": memory, "seconds": SECONDS})
            with closing(found):
                yield from found

    def _ask(self, job: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        process = self._send(json.dumps(job).encode() + b"\n")
        watch = _Watch(process)
        ended = False
        try:
            while line := (process.stdout.readline(MAX_MESSAGE) if process.stdout else b""):
                watch.heard()
                message = _message(line)
                if "end" in message:
                    ended = True
                    return
                if "at" in message:
                    watch.at = message["at"]
                else:
                    yield message
            raise UnreadableError(watch.explain(job["memory"]))
        finally:
            watch.stop()
            if not ended:
                self._close()

    def _send(self, line: bytes) -> "subprocess.Popen[bytes]":
        """The running process that got a job; a new one where there is none, or where it ended while it waited."""
        if self._owner != os.getpid():  # after a fork the process is that of the parent
            self._process = None
        for fresh in (False, True):
            if self._process is None or self._process.poll() is not None or fresh:
                self._close()
                self._process, self._owner = _start(), os.getpid()
            try:
                if self._process.stdin is not None:
                    self._process.stdin.write(line)
                    self._process.stdin.flush()
                if self._process.stdout is not None and self._process.stdout.readline(MAX_MESSAGE):  # it has begun
                    return self._process
            except OSError:
                continue
        raise UnreadableError("cannot be read: the process that reads such files does not start")

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """End the process; the next file starts another."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait(PATIENCE)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    _close_pipe(pipe)


class _Watch:
    """Ends a process that takes too long."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._began = self._last = time.monotonic()
        self._done = threading.Event()
        self._late = ""
        self.at = ""
        self._thread = threading.Thread(target=self._look, name="edge-embed-reading", daemon=True)
        self._thread.start()

    def heard(self) -> None:
        self._last = time.monotonic()

    def _look(self) -> None:
        while not self._done.wait(min(1.0, QUIET_SECONDS / 4)):
            now = time.monotonic()
            if now - self._began > SECONDS or now - self._last > QUIET_SECONDS:
                seconds = SECONDS if now - self._began > SECONDS else QUIET_SECONDS
                self._late = f"cannot be read: it takes more than {seconds:.0f} seconds"
                self._process.kill()
                return

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def explain(self, memory: int) -> str:
        """Why the process ended."""
        place = f" at {self.at}" if self.at else ""
        if self._late:
            return f"{self._late}{place}"
        self._process.wait(PATIENCE)
        status = self._process.returncode
        return (
            f"cannot be read: the program that reads it stopped{place} (status {status}); it is damaged, or needs more "
            f"than {memory // MB} MB of memory"
        )


def _start() -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(  # noqa: S603 - a module of ours, by this interpreter
            [sys.executable, "-P", "-m", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
    except (OSError, ValueError) as error:
        raise UnreadableError(f"cannot be read: the process that reads such files does not start ({error})") from error


def _message(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}  # it died in the middle of a line
    return found if isinstance(found, dict) else {}


def _close_pipe(pipe: Any) -> None:
    with suppress(OSError):  # what was not written yet cannot be written any more
        pipe.close()


READER = Reader()
atexit.register(READER.close)
