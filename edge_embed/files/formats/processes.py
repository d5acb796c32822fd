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
    """The processes that read: one, or as many as threads read at the same time; one is kept for the next file."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Child] = []
        self._all: set[Child] = set()

    def read(self, path: Path, job: dict[str, Any], memory: int) -> Iterator[dict[str, Any]]:
        """What the process says of a file, see child.py. Raises UnreadableError.

        memory: bytes that reading may take beside what the process has anyway
        """
        line = {**job, "path": str(path.absolute()), "memory": memory, "seconds": SECONDS}
        child = self._take(json.dumps(line).encode() + b"\n")
        try:
            with closing(child.answers(memory)) as answers:
                yield from answers
        finally:
            self._give_back(child)

    def _take(self, line: bytes) -> "Child":
        """A process that got a job: an idle one, or a new one where there is none, or it ended while it waited."""
        with self._lock:
            idle, self._idle = self._idle, []
        for child in idle:
            if child.begins(line):
                return child
            self._end(child)
        child = Child()
        with self._lock:
            self._all.add(child)
        if not child.begins(line):
            self._end(child)
            raise UnreadableError("cannot be read: the process that reads such files does not start")
        return child

    def _give_back(self, child: "Child") -> None:
        with self._lock:
            keep = child.ended and not self._idle
            if keep:
                self._idle.append(child)
        if not keep:
            self._end(child)

    def _end(self, child: "Child") -> None:
        with self._lock:
            self._all.discard(child)
        child.close()

    def close(self) -> None:
        """End all processes; the next file starts another."""
        with self._lock:
            found, self._all, self._idle = self._all, set(), []
        for child in found:
            child.close()


class Child:
    """One process. ended: whether it has said all of its last file."""

    def __init__(self) -> None:
        self.process = _start()
        self.ended = True
        self._owner = os.getpid()

    def begins(self, line: bytes) -> bool:
        """Give it a job; whether it has begun."""
        process = self.process
        if self._owner != os.getpid() or process.poll() is not None:  # after a fork it is the parent's
            return False
        self.ended = False
        try:
            if process.stdin is not None:
                process.stdin.write(line)
                process.stdin.flush()
            return bool(process.stdout and process.stdout.readline(MAX_MESSAGE))
        except OSError:
            return False

    def answers(self, memory: int) -> Generator[dict[str, Any], None, None]:
        """What it says of its file."""
        watch = _Watch(self.process)
        try:
            while line := self._line(watch):
                message = _message(line)
                if "end" in message:
                    self.ended = True
                    return
                if "at" in message:
                    watch.at = message["at"]
                else:
                    yield message
            raise UnreadableError(watch.explain(memory))
        finally:
            watch.stop()

    def _line(self, watch: "_Watch") -> bytes:
        with watch:
            return self.process.stdout.readline(MAX_MESSAGE) if self.process.stdout else b""

    def close(self) -> None:
        if self._owner == os.getpid():
            self.process.kill()
            self.process.wait(PATIENCE)
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    _close_pipe(pipe)


class _Watch:
    """Ends a process that takes too long. Only the time counts in which it is waited for, not what storing takes."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._spent = 0.0
        self._since: float | None = None  # when waiting for it began
        self._done = threading.Event()
        self._late = ""
        self.at = ""
        self._thread = threading.Thread(target=self._look, name="edge-embed-reading", daemon=True)
        self._thread.start()

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._spent += time.monotonic() - (self._since or 0.0)
        self._since = None

    def _look(self) -> None:
        while not self._done.wait(min(1.0, QUIET_SECONDS / 4)):
            since = self._since
            waited = 0.0 if since is None else time.monotonic() - since
            if waited > QUIET_SECONDS or self._spent + waited > SECONDS:
                seconds = QUIET_SECONDS if waited > QUIET_SECONDS else SECONDS
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
