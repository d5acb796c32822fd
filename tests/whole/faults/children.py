"""Child processes that may die or hang, and the shim that makes their files fail (see shim.c)."""

import contextlib
import ctypes
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SHIM = Path(__file__).with_name("shim.c")
READ, WRITE, SYNC, TRUNCATE, OPEN, NAME = (1 << i for i in range(6))
CHANGES = WRITE | SYNC | TRUNCATE | OPEN | NAME
LIMIT = 60.0  # seconds without a message after which a child counts as hanging

Send = Callable[[Any], None]


class HangError(Exception):
    """A child did not say anything for LIMIT seconds. It has been killed."""


class Child:
    """A fork that runs `work(send)`. What it sends arrives through `messages`, also after its death."""

    def __init__(self, work: Callable[[Send], None]) -> None:
        self._reader, writer = os.pipe()
        self.pid = os.fork()
        self.status: int | None = None
        self.error: str | None = None
        if self.pid == 0:
            code = 1
            with contextlib.suppress(BaseException):
                os.close(self._reader)
                try:
                    work(lambda message: _write(writer, ("message", message)))
                    code = 0
                except BaseException:  # noqa: BLE001 - whatever it is, the parent has to hear of it
                    _write(writer, ("error", traceback.format_exc()))
            os._exit(code)
        os.close(writer)

    def messages(self, limit: float = LIMIT) -> Iterator[Any]:
        """Until the child ends; `status` and `error` are set then. Raises HangError."""
        pending = b""
        while True:
            if not select.select([self._reader], [], [], limit)[0]:
                self.kill()
                self._ended()
                raise HangError
            read = os.read(self._reader, 1 << 20)
            if not read:
                break
            pending += read
            while len(pending) >= 8 and len(pending) >= (size := 8 + int.from_bytes(pending[:8])):
                kind, message = pickle.loads(pending[8:size])  # noqa: S301 - our own child's
                pending = pending[size:]
                if kind == "error":
                    self.error = message
                else:
                    yield message
        self._ended()

    def _ended(self) -> None:
        os.close(self._reader)
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    @property
    def crashed(self) -> str | None:
        """What ended it, where that was a signal or an exception that nobody expected."""
        if self.status is not None and self.status < 0:
            return f"died of {signal.Signals(-self.status).name}"
        return self.error


def _write(descriptor: int, message: Any) -> None:
    data = pickle.dumps(message)
    data = len(data).to_bytes(8) + data
    while data:
        data = data[os.write(descriptor, data) :]


def in_child(work: Callable[[], Any], limit: float = LIMIT) -> Any:
    """The result of `work()` in a child process. Raises HangError, or RuntimeError where the child failed."""
    child = Child(lambda send: send(work()))
    results = list(child.messages(limit))
    if not results:
        raise RuntimeError(child.crashed or "the child said nothing")
    return results[0]


def compile_shim(folder: Path) -> Path | None:
    """The shim as a library, or None where there is no Linux or no compiler."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if sys.platform != "linux" or not compiler:
        return None
    library = folder / "shim.so"
    command = [compiler, "-O1", "-shared", "-fPIC", str(SHIM), "-o", str(library), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"no shim: {done.stderr}", file=sys.stderr)  # noqa: T201
        return None
    return library


class Shim:
    """The shim that this process was started with. `loaded` says whether it was."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self.loaded = hasattr(self._library, "faults_watch")

    def watch(self, folder: Path, trace: int = -1) -> None:
        """Look at what is done to the files of a folder; write it to the file `trace`."""
        self._library.faults_watch(os.fsencode(folder), trace)

    def mark(self, number: int) -> None:
        self._library.faults_mark(ctypes.c_long(number))

    def arm(self, kinds: int, n: int, error: int = 0, *, keep_on: bool = False) -> None:
        """Let the n-th call of some kinds fail with an error number, once or from then on. 0: die in it instead."""
        self._library.faults_arm(kinds, ctypes.c_long(n), error, int(keep_on))

    def disarm(self) -> int:
        """Calls of these kinds since `arm`."""
        return int(self._library.faults_disarm())


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def __call__(self) -> float:
        return time.perf_counter() - self._start
